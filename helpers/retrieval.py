"""Distances between embeddings, and the exact k nearest neighbours.

Importing this module starts no deep-learning framework.
"""

import faiss
import numpy as np


def find_l2_distances(query, gallery, squared=False):
    """Euclidean distance of every query to every gallery item: ‖q − g‖² = ‖q‖² + ‖g‖² − 2 q·g, clamped at 0.

    Args:
        query: array (n, d).
        gallery: array (m, d).
        squared: leave out the square root.

    Returns:
        float64 array (n, m) if an argument is float64, else float32.

    Raises:
        ValueError: shapes that do not fit, no rows, NaN or infinity.
    """
    query, gallery = _check_pair(query, gallery)
    distances = (query**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1)[None, :] - 2 * query @ gallery.T
    distances = np.maximum(distances, 0)  # rounding can leave a tiny negative number, whose root is NaN
    return distances if squared else np.sqrt(distances)


def find_cos_distances(query, gallery):
    """Cosine distance 1 − cos(q, g) of every query to every gallery item; between 0 and 2.

    Arguments, result and errors are those of `find_l2_distances`; a vector of length 0 also raises ValueError, since
    it has no direction.
    """
    query, gallery = _check_pair(query, gallery)
    return np.clip(1 - _unit_rows(query) @ _unit_rows(gallery).T, 0, 2)


FAISS_METRICS = {"l2": faiss.METRIC_L2, "l1": faiss.METRIC_L1, "max_l1": faiss.METRIC_Linf}
CANDIDATES = 8  # how many more neighbours than asked for are fetched, to be compared without rounding error
BLOCK = 4_000_000  # numbers held at a time: 16 MB of float32


def nearest(query, gallery, k, dist="l2"):
    """The k nearest gallery items of each query: exact, nearest first, ties by index.

    FAISS finds candidates with one matrix product; their distances are then computed again from the differences
    q − g, which do not suffer from cancellation, and sorted. The (n, m) matrix of all distances is never in memory.

    Args:
        query: array (n, d), used in float32.
        gallery: array (m, d), used in float32.
        k: neighbours of each query, 1 ≤ k ≤ m.
        dist: "l2" (Euclidean), "cos" (1 − cosine), "l1" (city block, Σ|q − g|) or "max_l1" (max|q − g|).

    Returns:
        Distances, float32 (n, k), and the gallery items' indices, int64 (n, k).

    Raises:
        ValueError: k larger than the gallery, an unknown distance, shapes that do not fit, no rows, NaN or infinity.

    Source: Johnson, Douze & Jégou, Billion-scale similarity search with GPUs, 2017 (arXiv 1702.08734).
    """
    query, gallery = (np.ascontiguousarray(a, dtype=np.float32) for a in _check_pair(query, gallery))
    if not isinstance(k, (int, np.integer)) or not 1 <= k <= len(gallery):
        raise ValueError(f"k must be an integer from 1 to the gallery's size, {len(gallery):,}; it is {k!r}.")
    if dist == "cos":  # on the unit sphere ‖q − g‖² = 2 − 2 cos
        distances, indices = nearest(_unit_rows(query), _unit_rows(gallery), k)
        return distances**2 / 2, indices
    if dist not in FAISS_METRICS:
        raise ValueError(f"dist must be 'l2', 'cos', 'l1' or 'max_l1', not {dist!r}.")

    index = faiss.IndexFlat(gallery.shape[1], FAISS_METRICS[dist])
    index.add(gallery)
    fetched = min(int(k) + CANDIDATES, len(gallery))  # FAISS takes no NumPy integer
    tolerance = _rounding_error(query, gallery, dist)
    distances = np.empty((len(query), k), np.float32)
    indices = np.empty((len(query), k), np.int64)
    rows = max(1, BLOCK // fetched)
    for start in range(0, len(query), rows):
        block = query[start : start + rows]
        rough, candidates = index.search(block, fetched)  # (rows, fetched); FAISS's "l2" is squared
        exact, candidates = _sort_exactly(block, gallery, candidates, k, dist)
        if fetched < len(gallery):
            # Where an item that was not fetched might be among the first k, compare them all.
            for i in np.flatnonzero(rough[:, -1] <= exact[:, -1] + tolerance):
                everything = np.arange(len(gallery))[None]
                exact[i], candidates[i] = _sort_exactly(block[i : i + 1], gallery, everything, k, dist)
        distances[start : start + rows] = np.sqrt(exact) if dist == "l2" else exact
        indices[start : start + rows] = candidates
    return distances, indices


def _sort_exactly(query, gallery, candidates, k, dist):
    """Distances (squared for "l2") to each query's k best of its candidates (n, c), and these, both (n, k)."""
    exact = np.empty(candidates.shape, np.float32)
    rows = max(1, BLOCK // (candidates.shape[1] * query.shape[1]))
    for start in range(0, len(query), rows):
        block = slice(start, start + rows)
        differences = query[block, None, :] - gallery[candidates[block]]  # (rows, c, d)
        if dist == "l2":
            exact[block] = np.einsum("ncd,ncd->nc", differences, differences)
        elif dist == "l1":
            exact[block] = np.abs(differences).sum(axis=2)
        else:
            exact[block] = np.abs(differences).max(axis=2)
    order = np.lexsort((candidates, exact), axis=1)[:, :k]
    return np.take_along_axis(exact, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _rounding_error(query, gallery, dist):
    """By how much a distance from FAISS can be off: rounding, in proportion to the largest numbers that it adds."""
    size = {"l2": np.square, "l1": np.abs, "max_l1": np.abs}[dist]
    largest = max(size(a).sum(axis=1).max() for a in (query, gallery))
    return 4 * np.finfo(np.float32).eps * np.sqrt(gallery.shape[1]) * largest


def _check_pair(query, gallery):
    """Both as two-dimensional floating-point arrays, or an error that says what is wrong."""
    query, gallery = np.asarray(query), np.asarray(gallery)
    for name, array in (("query", query), ("gallery", gallery)):
        if array.ndim != 2:
            raise ValueError(
                f"{name} must be an array (items, dimensions), not {array.shape}. "
                "Flatten images with images.reshape(len(images), -1)."
            )
        if 0 in array.shape:
            raise ValueError(f"{name} is empty: its shape is {array.shape}.")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query has {query.shape[1]} dimensions, but gallery has {gallery.shape[1]}.")
    dtype = np.float64 if np.float64 in (query.dtype, gallery.dtype) else np.float32
    query, gallery = query.astype(dtype, copy=False), gallery.astype(dtype, copy=False)
    for name, array in (("query", query), ("gallery", gallery)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} contains NaN or infinity: look at what produced it before you search.")
    return query, gallery


def _unit_rows(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ValueError("A vector of length 0 has no direction: its cosine distance is not defined.")
    return vectors / lengths
