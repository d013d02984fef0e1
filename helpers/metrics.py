"""How good a retrieval is: Recall@K, R-precision, MAP@R.

All three share their first four arguments: query embeddings (n, d), their labels, and, if the gallery is another set,
gallery embeddings (m, d) and their labels. Without a gallery the queries search each other, *leave-one-out*: each query
is removed from its own answers by its index, never by its distance.

Labels are whole numbers (n,) or (n, 1): integers of any type; booleans count as 0 and 1, and so do floating-point
numbers, as long as they are whole and small enough to be told apart (up to 2^24 in float32, 2^53 in float64). Text and
all else is refused: query and gallery could not be compared reliably.

Importing this module starts no deep-learning framework.
"""

import numpy as np

from helpers.retrieval import nearest, whole_number


def recall_at_k(query, query_labels, gallery=None, gallery_labels=None, k=(1, 5, 10), dist="l2"):
    """Recall@K: the share of queries that have at least one item of their own class among the first K.

    Args:
        query, query_labels, gallery, gallery_labels: see the top of this module.
        k: one K, or several.
        dist: "l2", "cos", "l1" or "max_l1", see `helpers.retrieval.nearest`.

    Returns:
        A dictionary {K: recall}, recalls between 0 and 1.

    Raises:
        ValueError: K that is no whole number or larger than the gallery, labels that are no whole numbers, shapes that
            do not fit, no rows, NaN or infinity.

    Source: Jégou, Douze & Schmid, Product Quantization for Nearest Neighbor Search, 2011; in metric learning, Oh Song
    et al., 2016 (arXiv 1511.06452).
    """
    try:
        ks = [whole_number(each) for each in k]
    except TypeError:  # it is one number
        ks = [whole_number(k)]
    if None in ks:
        raise ValueError(f"K must be a whole number or several, not {k!r}.")
    if not ks or min(ks) < 1:
        raise ValueError(f"K must be 1 or more, not {k!r}.")
    labels, answers = neighbour_labels(query, query_labels, gallery, gallery_labels, max(ks), dist)
    hits = answers == labels[:, None]  # (n, max K)
    return {k: float(hits[:, :k].any(axis=1).mean()) for k in ks}


def r_precision(query, query_labels, gallery=None, gallery_labels=None):
    """R-precision: of the first R answers, the share of the query's class, where R is how many the gallery holds.

    A query whose class the gallery does not hold (R = 0) has no right answer: it is left out of the mean.

    Args, Raises: as `recall_at_k`; ValueError also if no query has a right answer.

    Returns:
        The mean over queries, between 0 and 1.

    Source: Musgrave, Belongie & Lim, A Metric Learning Reality Check, 2020 (arXiv 2003.08505).
    """
    hits, relevant = _hits_within_r(query, query_labels, gallery, gallery_labels)
    return float((hits.sum(axis=1) / relevant).mean())


def map_at_r(query, query_labels, gallery=None, gallery_labels=None):
    """MAP@R: R-precision that also rewards order, (1/R) Σ_{i ≤ R} precision(i) · [the i-th answer is right].

    Args, Returns, Raises, Source: as `r_precision`.
    """
    hits, relevant = _hits_within_r(query, query_labels, gallery, gallery_labels)
    precision = hits.cumsum(axis=1, dtype=np.float32) / np.arange(1, hits.shape[1] + 1, dtype=np.float32)
    return float(((precision * hits).sum(axis=1) / relevant).mean())


def _hits_within_r(query, query_labels, gallery, gallery_labels):
    """For queries with a right answer: which of the first R answers are right (n, largest R), and R itself (n,)."""
    labels = _check_labels("query", query, query_labels)
    pool = labels if gallery is None else _check_labels("gallery", gallery, gallery_labels)
    relevant = np.array([(pool == label).sum() for label in np.unique(labels)])  # per class
    relevant = relevant[np.searchsorted(np.unique(labels), labels)]  # (n,): R of each query,
    relevant -= gallery is None  # which does not count itself
    if relevant.max(initial=0) == 0:
        raise ValueError("No query has an item of its own class to find.")
    _, answers = neighbour_labels(query, query_labels, gallery, gallery_labels, int(relevant.max()))
    hits = (answers == labels[:, None]) & (np.arange(relevant.max()) < relevant[:, None])
    answerable = relevant > 0
    return hits[answerable], relevant[answerable]


def neighbour_labels(query, query_labels, gallery, gallery_labels, k, dist="l2"):
    """The labels of each query's k nearest gallery items; with `gallery=None`, leave-one-out.

    Returns:
        The queries' labels (n,), and the answers' labels (n, k), nearest first.
    """
    query_labels = _check_labels("query", query, query_labels)
    if gallery is None:
        if gallery_labels is not None:
            raise ValueError(
                "There are gallery_labels but no gallery: give both, or neither for leave-one-out."
            )
        return query_labels, query_labels[nearest_others(query, k, dist)[1]]
    gallery_labels = _check_labels("gallery", gallery, gallery_labels)
    return query_labels, gallery_labels[nearest(query, gallery, k, dist)[1]]


def nearest_others(embeddings, k, dist="l2"):
    """The k nearest neighbours of each item among all the others, itself excluded by index.

    Args:
        embeddings: array (n, d).
        k: 1 ≤ k ≤ n − 1.
        dist: see `helpers.retrieval.nearest`.

    Returns:
        Distances, float32 (n, k), and indices, int64 (n, k).

    Raises:
        ValueError: k too large, and all that `nearest` raises.
    """
    others = len(embeddings) - 1
    if others < 1:
        raise ValueError(f"Leave-one-out needs two embeddings or more, not {len(embeddings)}.")
    wanted, k = k, whole_number(k)
    if k is None or not 1 <= k <= others:
        raise ValueError(
            f"Leave-one-out, each item has {others:,} others to find, so k cannot be {wanted!r}."
        )
    distances, indices = nearest(embeddings, embeddings, k + 1, dist)
    # The item itself is mostly, not always, first.
    itself = indices == np.arange(len(embeddings))[:, None]
    # Where so many duplicates came first that it is not there, drop the last answer.
    itself[~itself.any(axis=1), -1] = True
    return distances[~itself].reshape(-1, k), indices[~itself].reshape(-1, k)


def recall_at_kappa_support_query(x_supp_emb, y_supp, x_valid_emb, y_valid, kappa=1, dist="l2"):
    """Recall@1 … Recall@kappa of queries (`valid`) against a gallery (`supp`), in the earlier repository's words.

    Args:
        x_supp_emb, y_supp: gallery embeddings (m, d) and labels.
        x_valid_emb, y_valid: query embeddings (n, d) and labels.
        kappa: the largest K.
        dist: as in `recall_at_k`.

    Returns:
        Array (kappa,).
    """
    recalls = recall_at_k(x_valid_emb, y_valid, x_supp_emb, y_supp, range(1, kappa + 1), dist)
    return np.array(list(recalls.values()))


def recall_at_kappa_leave_one_out(emb, labels, kappa=1, dist="l2"):
    """Recall@1 … Recall@kappa of a set that is searched by its own members, each without itself.

    Args:
        emb, labels: embeddings (n, d) and labels.
        kappa, dist: as in `recall_at_kappa_support_query`.

    Returns:
        Array (kappa,).
    """
    return np.array(list(recall_at_k(emb, labels, k=range(1, kappa + 1), dist=dist).values()))


def _check_labels(name, embeddings, labels):
    """The labels as integers (n,), or an error that says what is wrong."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(embeddings),):
        raise ValueError(
            f"{name} has {len(embeddings)} rows, so its labels must have shape ({len(embeddings)},), "
            f"not {labels.shape}."
        )
    cure = "number the classes of query and gallery together, with np.unique(labels, return_inverse=True)[1]."
    if labels.dtype.kind not in "iubf":
        raise ValueError(f"{name}'s labels must be whole numbers, not {labels.dtype}: {cure}")
    if labels.dtype.kind == "f":
        most = 2 ** (np.finfo(labels.dtype).nmant + 1)  # beyond it, neighbouring whole numbers merge
        odd = ~((labels == np.rint(labels)) & (np.abs(labels) <= most))  # NaN is odd, too
        if odd.any():
            raise ValueError(f"{name}'s labels must be whole numbers, not {labels[odd][0]}: {cure}")
    return labels if labels.dtype.kind in "iu" else labels.astype(np.int64)
