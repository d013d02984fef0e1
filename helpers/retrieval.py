"""Distances between embeddings, and the exact k nearest neighbours.

Importing this module starts no deep-learning framework.
"""

import math
import operator
from concurrent.futures import ThreadPoolExecutor

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
        ValueError: shapes that do not fit, no rows, no real numbers, NaN or infinity, or distances that the result's
            type cannot hold.
    """
    query, gallery, exponent = _check_pair(query, gallery)
    query, gallery = (np.ldexp(a, -exponent) if exponent else a for a in _same_type(query, gallery))
    squares = (query**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1)[None, :] - 2 * query @ gallery.T
    squares = np.maximum(squares, 0)  # rounding can leave a tiny negative number, whose root is NaN
    return _scale_back(squares, 2 * exponent) if squared else _scale_back(np.sqrt(squares), exponent)


def find_cos_distances(query, gallery):
    """Cosine distance 1 − cos(q, g) of every query to every gallery item; between 0 and 2.

    Arguments, result and errors are those of `find_l2_distances`; a vector of length 0 also raises ValueError, since
    it has no direction.
    """
    query, gallery, _ = _check_pair(query, gallery)
    query, gallery = (_unit_rows(a) for a in _same_type(query, gallery))
    return np.clip(1 - query @ gallery.T, 0, 2)


FAISS_METRICS = {"l1": faiss.METRIC_L1, "max_l1": faiss.METRIC_Linf}
ROWS = 60  # queries of one product
LANES = 16  # numbers that a processor takes at once: products whose width is a multiple waste none
FEW = 20  # for fewer queries FAISS is faster
WIDE = 256  # and for vectors of more numbers
SPARE = 8  # candidates beyond k, so that rounding seldom makes a second look necessary
SMALL = 2**18  # multiplications of one product: OpenBLAS computes those up to here in the thread that asks
PIECE = 4_000_000  # numbers of the gallery at a time: 16 MB of float32
BLOCK = 10_000_000  # distances at a time, all threads together: 40 MB of float32
MOST_THREADS = 16  # with more, each would have too little of that
PAIRS = 250_000  # differences at a time, for each thread: 2 MB of float64
ORDINARY = 40  # powers of two, up or down, within which no square leaves float32's range
EPSILON = float(np.finfo(np.float32).eps)


def nearest(query, gallery, k, dist="l2"):
    """The k nearest gallery items of each query: exact, nearest first, ties by index.

    Candidates are found by their distances in float32, whose rounding error is bounded; all that may be among the first
    k are then compared again by the differences q − g, in float64, where nothing cancels. The gallery is searched in
    pieces, so that the search itself holds less than 100 MB. Threads share the queries, as many as
    `faiss.omp_get_max_threads()` says.

    Args:
        query: array (n, d), used in float32.
        gallery: array (m, d), used in float32.
        k: neighbours of each query, 1 ≤ k ≤ m.
        dist: "l2" (Euclidean), "cos" (1 − cosine), "l1" (city block, Σ|q − g|) or "max_l1" (max|q − g|).

    Returns:
        Distances, float32 (n, k), and the gallery items' indices, int64 (n, k).

    Raises:
        ValueError: k larger than the gallery, an unknown distance, shapes that do not fit, no rows, no real numbers,
            NaN or infinity, or distances that float32 cannot hold.

    Source: lesson 5; FAISS is Johnson, Douze & Jégou, Billion-scale similarity search with GPUs, 2017
    (arXiv 1702.08734).
    """
    query, gallery, exponent = _check_pair(query, gallery)
    wanted, k = k, whole_number(k)
    if k is None or not 1 <= k <= len(gallery):
        raise ValueError(
            f"k must be an integer from 1 to the gallery's size, {len(gallery):,}; it is {wanted!r}."
        )
    if dist not in ("l2", "cos", *FAISS_METRICS):
        raise ValueError(f"dist must be 'l2', 'cos', 'l1' or 'max_l1', not {dist!r}.")

    def ready(vectors):
        """A part of either array as it is compared: contiguous float32."""
        if dist == "cos":  # on the unit sphere ‖q − g‖² = 2 − 2 cos
            vectors = _unit_rows(vectors)
        elif exponent:
            vectors = np.ldexp(vectors, -exponent)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    threads = min(faiss.omp_get_max_threads(), MOST_THREADS)
    by_columns = dist not in FAISS_METRICS and len(query) >= FEW and query.shape[1] <= WIDE
    # How much at a time: `size` gallery items, and `rows` queries
    size = max(1, min(len(gallery), PIECE // (query.shape[1] + 1), BLOCK // threads // ROWS))
    fetched = min(k + SPARE, size)
    if by_columns:
        rows = min(ROWS, len(query) // threads, BLOCK // threads // (size + 12 * math.isqrt(size * fetched)))
    else:
        rows = BLOCK // 16 // fetched
    rows = max(1, rows)
    distances = np.empty((len(query), k), np.float32)
    indices = np.empty((len(query), k), np.int64)

    def search(start):
        """Let some queries meet a piece: their best so far and its candidates, sorted, are their new best."""
        mine = slice(start, start + rows)
        block = ready(query[mine])
        before, after = min(k, offset), min(k, offset + len(piece))
        # What is farther than k from earlier pieces is no candidate.
        farthest = np.inf if before < k else _as_compared(distances[mine, -1].astype(np.float64), dist)
        for who, which, items in find_candidates(block, farthest):
            found = _distances(block, piece, who[which], items, dist)
            best = start + who  # (w,), the queries that these candidates belong to
            which = np.concatenate([np.repeat(np.arange(len(who)), before), which])
            found = np.concatenate([distances[best, :before].ravel(), found])
            items = np.concatenate([indices[best, :before].ravel(), items + offset])
            order = _order(which, found, items)
            first = np.searchsorted(which[order], np.arange(len(who)))
            order = order[first[:, None] + np.arange(after)]  # (w, after)
            distances[best, :after], indices[best, :after] = found[order], items[order]

    with ThreadPoolExecutor(threads) as pool:
        for offset in range(0, len(gallery), size):
            piece = ready(gallery[offset : offset + size])
            fits = min(k, len(piece))
            find_candidates = _columns(piece, fits) if by_columns else _faiss(piece, fits, dist)
            list((pool.map if by_columns else map)(search, range(0, len(query), rows)))
    return (distances if dist == "cos" else _scale_back(distances, exponent)), indices


def _columns(gallery, k):
    """Prepare a gallery (m, d) for searches by squared distance; returns the function that finds candidates.

    ‖g‖² − 2 q·g is one matrix product, if ‖g‖² is one more dimension of g, which q meets with a 1. The products of a
    query stand in columns of `depth` numbers: the k smallest are in the k columns with the smallest minima, so that
    only these columns are looked at one by one.
    """
    m, d = gallery.shape
    width = max(LANES, SMALL // (ROWS * (d + 1)) // LANES * LANES)  # gallery items in one product
    groups = math.ceil(m / width / math.isqrt(max(1, m // (k + SPARE))))
    depth = math.ceil(m / width / groups)
    padded = np.zeros((groups * depth * width, d + 1), np.float32)
    # Taken from both sides, the mean changes no distance, and smaller numbers round less.
    centre = gallery.mean(axis=0)
    np.subtract(gallery, centre, out=padded[:m, :d])
    padded[:, d] = np.einsum("md,md->m", padded, padded)
    longest = math.sqrt(padded[:m, d].max())
    padded[m:, d] = 1e38  # places without an item: never among the nearest
    # (groups · depth, d + 1, width)
    slices = np.ascontiguousarray(padded.reshape(-1, width, d + 1).transpose(0, 2, 1))
    del padded

    def find_candidates(query, farthest=np.inf):
        centred = query - centre
        squares = np.einsum("nd,nd->n", centred, centred, dtype=np.float64)
        lengths = np.sqrt(squares)
        extended = np.hstack([-2 * centred, np.ones((len(query), 1), np.float32)])
        rough = extended @ slices  # (groups · depth, n, width)
        minima = rough.reshape(groups, depth, -1).min(axis=1)  # (groups, n · width)
        minima = minima.reshape(groups, -1, width).transpose(1, 0, 2).reshape(len(query), -1)  # (n, columns)
        chosen = min(k + SPARE, minima.shape[1])
        columns = np.argpartition(minima, chosen - 1, axis=1)[:, :chosen]
        lowest = np.sort(np.take_along_axis(minima, columns, axis=1), axis=1)  # (n, chosen)

        error = EPSILON * ((d + 16) * longest * (lengths + longest) + (lengths + longest) ** 2)
        # k columns hold an item each up to this one's minimum: beyond it is none of the first k.
        limit = np.minimum(lowest[:, k - 1], farthest - squares) + 2 * error
        sure = (lowest[:, -1] > limit) | (chosen == minima.shape[1])  # no other column holds a candidate
        group, place = np.divmod(columns, width)
        places = (group * depth * len(query) + np.arange(len(query))[:, None]) * width + place
        level = np.arange(depth)[:, None, None]
        values = rough.take(places + level * rough[0].size)  # (depth, n, chosen)
        near = np.flatnonzero((values <= limit[:, None]) & sure[:, None])  # nearly none
        level, who, which = np.unravel_index(near, values.shape)
        items = (group[who, which] * depth + level) * width + place[who, which]
        yield np.flatnonzero(sure), (sure.cumsum() - 1)[who], items
        for i in np.flatnonzero(~sure):
            everything = np.flatnonzero(rough[:, i].ravel() <= limit[i])
            yield np.array([i]), np.zeros(len(everything), int), everything

    return find_candidates


def _faiss(gallery, k, dist):
    """The same by FAISS, for all distances: it compares few queries one by one, and many by a matrix product."""
    m, d = gallery.shape
    if dist in FAISS_METRICS:
        index = faiss.IndexFlat(d, FAISS_METRICS[dist])
        index.add(gallery)
        look, power = index.search, 1
    else:
        look, power = lambda query, k: faiss.knn(query, gallery, k), 2  # its Euclidean distances are squared
    longest = _lengths(gallery, dist).max()

    def find_candidates(query, farthest=np.inf):
        error = EPSILON * (d + 16) * (_lengths(query, dist) + longest) ** power  # (n,)
        fetched = min(k + SPARE, m)
        values, items = look(query, fetched)  # (n, fetched), nearest first
        limit = np.minimum(values[:, k - 1], farthest) + 2 * error
        sure = (values[:, -1] > limit) | (fetched == m)
        who = np.flatnonzero(sure)
        which, where = np.nonzero(values[who] <= limit[who, None])
        yield who, which, items[who][which, where]
        for i in np.flatnonzero(~sure):
            more, reached = fetched, -np.inf
            while more < m and reached <= limit[i]:
                more = min(8 * more, m)
                values, items = look(query[i : i + 1], more)
                reached = values[0, -1]
            items = items[values <= limit[i]]
            yield np.array([i]), np.zeros(len(items), int), items

    return find_candidates


def _distances(query, gallery, rows, items, dist):
    """Distances of p pairs of a query, by its row, and an item: from the differences, in float64; float32 (p,)."""
    result = np.empty(len(rows), np.float32)
    step = max(1, PAIRS // query.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        differences = query.take(rows[part], axis=0).astype(np.float64)  # (p, d)
        differences -= gallery.take(items[part], axis=0)
        lengths = _lengths(differences, dist)
        result[part] = lengths**2 / 2 if dist == "cos" else lengths
    return result


def _order(which, found, items):
    """Sort by query, then by distance, then by index."""
    key = which.astype(np.uint64) << 32 | found.view(np.uint32)  # bits of floats ≥ 0 are in their order
    order = np.argsort(key)
    key = key[order]
    same_as_next = np.flatnonzero(key[1:] == key[:-1])
    tied = np.union1d(same_as_next, same_as_next + 1)
    order[tied] = order[tied][np.lexsort((items[order[tied]], key[tied]))]
    return order


def _as_compared(distances, dist):
    """Exact distances in the unit of the rough ones: squared, but for "l1" and "max_l1"."""
    return distances**2 if dist == "l2" else 2 * distances if dist == "cos" else distances


def _lengths(vectors, dist):
    if dist == "l1":
        return np.abs(vectors).sum(axis=1)
    if dist == "max_l1":
        return np.abs(vectors).max(axis=1)
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def _check_pair(query, gallery):
    """Both as arrays (items, dimensions) of finite real numbers, or an error that says what is wrong.

    The third result is 0, or for numbers so large or small that their squares leave float32's range, the power of two
    by which they have to be divided.
    """
    query, gallery = np.asarray(query), np.asarray(gallery)
    largest = 0.0
    for name, array in (("query", query), ("gallery", gallery)):
        if array.ndim != 2:
            raise ValueError(
                f"{name} must be an array (items, dimensions), not {array.shape}. "
                "Flatten images with images.reshape(len(images), -1)."
            )
        if 0 in array.shape:
            raise ValueError(f"{name} is empty: its shape is {array.shape}.")
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise ValueError(
                f"{name} must hold real numbers, not {array.dtype}: convert it, for instance with "
                f"{name}.astype(np.float32)."
            )
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query has {query.shape[1]} dimensions, but gallery has {gallery.shape[1]}.")
    for name, array in (("query", query), ("gallery", gallery)):
        ends = float(array.min()), float(array.max())  # NaN, if there is one
        if not np.isfinite(ends).all():
            raise ValueError(f"{name} contains NaN or infinity: look at what produced it before you search.")
        largest = max(largest, -ends[0], ends[1])
    exponent = math.frexp(largest)[1]
    return query, gallery, exponent if abs(exponent) > ORDINARY else 0


def _same_type(query, gallery):
    wide = any(a.dtype.kind == "f" and a.dtype.itemsize >= 8 for a in (query, gallery))
    return [a.astype(np.float64 if wide else np.float32, copy=False) for a in (query, gallery)]


def _scale_back(distances, exponent):
    """Multiply by two to this power, which rounds nothing, or refuse if the type cannot hold the result."""
    if not exponent:
        return distances
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(distances, exponent)
    if not np.isfinite(scaled).all() or ((scaled == 0) & (distances > 0)).any():
        raise ValueError(
            f"Some of these distances are too large or too small for {distances.dtype}: "
            "divide query and gallery by the same number first."
        )
    return scaled


def _unit_rows(vectors):
    vectors = vectors if vectors.dtype == np.float64 else vectors.astype(np.float32, copy=False)
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))[:, None]
    if (largest == 0).any():
        raise ValueError("A vector of length 0 has no direction: its cosine distance is not defined.")
    vectors = np.ldexp(vectors, -np.frexp(largest)[1])  # now no square is too large or too small
    vectors /= np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors


def whole_number(value):
    """The value as an int, or None where it is none: True, 2.0 and "2" are none."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
