"""A battery for the checks of lesson 5: wrong answers with their mistakes, right ones in other styles."""

import heapq

import numpy as np
from battery import accepts, refuses
from scipy.spatial.distance import cdist

from helpers.checks import lesson05 as check
from helpers.retrieval import nearest


def squares(query, gallery):
    return (query**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1) - 2 * query @ gallery.T


def root(values):
    return np.sqrt(np.maximum(values, 0))


def centred(query, gallery):
    centre = gallery.mean(axis=0)
    return root(squares(query - centre, gallery - centre))


def in_place(query, gallery):
    centre = gallery.mean(axis=0)
    query -= centre
    gallery -= centre
    return root(squares(query, gallery))


def unclamped(query, gallery):
    centre = gallery.mean(axis=0)
    values = squares(query - centre, gallery - centre)
    return np.sqrt(
        values - np.float32(1e-4) * (values < 1e-3)
    )  # whether rounding goes below 0 is the processor's choice


def standardised(query, gallery):
    mean, std = gallery.mean(axis=0), 0.5 * gallery.std(axis=0)
    return root(squares((query - mean) / std, (gallery - mean) / std))


def cross_term_once(query, gallery):
    q, g = query - gallery.mean(axis=0), gallery - gallery.mean(axis=0)
    return root((q**2).sum(axis=1)[:, None] + (g**2).sum(axis=1) - q @ g.T)


def one_query_at_a_time(query, gallery):
    centre = gallery[0]
    return np.concatenate([root(squares(q[None] - centre, gallery - centre)) for q in query])


def centred_on_both(query, gallery):
    centre = np.concatenate([query, gallery]).mean(axis=0)
    q, g = query - centre, gallery - centre
    return np.clip(np.add.outer(np.einsum("ij,ij->i", q, q), (g * g).sum(1)) - 2 * q.dot(g.T), 0, None) ** 0.5


def within(query, gallery, radius, keep=np.less_equal, k=None):
    distances, indices = nearest(query, gallery, k or len(gallery))
    return [i[keep(d, radius)] for d, i in zip(distances, indices, strict=True)]


def unsorted(query, gallery, radius):
    return [np.flatnonzero(row <= radius) for row in cdist(query, gallery)]


def lower_index_last(query, gallery, radius):
    return [np.flatnonzero(row <= radius)[::-1][np.argsort(row[row <= radius][::-1], kind="stable")]
            for row in cdist(query, gallery)]  # fmt: skip


def one_answer_at_least(query, gallery, radius):
    distances, indices = nearest(query, gallery, len(gallery))
    return [i[: max(1, (d <= radius).sum())] for d, i in zip(distances, indices, strict=True)]


def their_distances(query, gallery, radius):
    return [np.sort(row[row <= radius]) for row in cdist(query, gallery)]


def masks(query, gallery, radius):
    return [row <= radius for row in cdist(query, gallery)]


def rows_and_columns(query, gallery, radius):
    return [np.argwhere(row[None] <= radius) for row in cdist(query, gallery)]


def squared_distance_only(query, gallery, radius):
    return [i[d**2 <= radius] for d, i in zip(*nearest(query, gallery, len(gallery)), strict=True)]


def plain_lists(query, gallery, radius):
    return [answer.tolist() for answer in within(query, gallery, radius)]


def within_by_sorting(query, gallery, radius):
    return [np.argsort(row, kind="stable")[: (row <= radius).sum()] for row in cdist(query, gallery)]


def within_in_loops(query, gallery, radius):
    answers = []
    for q in query:
        pairs = sorted((float(np.linalg.norm(q - g)), i) for i, g in enumerate(gallery))
        answers.append(np.array([i for d, i in pairs if d <= radius], dtype=np.int64))
    return answers


def within_unsigned(query, gallery, radius):
    return [answer.astype(np.uint32) for answer in within(query, gallery, radius)]


def merged(query, shards, k, count=len, cut=min, order=None, width=None):
    """Search piece by piece and keep the best; the other arguments are where this can go wrong."""
    distances, indices = np.empty((len(query), 0), np.float32), np.empty((len(query), 0), np.int64)
    offset = 0
    for shard in shards:
        d, i = nearest(query, shard, cut(width or k, len(shard)))
        distances, indices = np.hstack([distances, d]), np.hstack([indices, i + offset])
        by = np.lexsort((indices, distances)) if order is None else order(distances, indices)
        distances, indices = (np.take_along_axis(a, by[:, :k], axis=1) for a in (distances, indices))
        offset += count(shard)
    return distances, indices


def keeps_the_pieces(query, shards, k):
    return nearest(query, np.concatenate(list(shards)), k)


def last_piece(query, shards, k):
    *_, (d, i) = [nearest(query, np.vstack([shard] * 6), k) for shard in shards]
    return d, i


def squared(query, shards, k):
    d, i = merged(query, shards, k)
    return d**2, i


def unsorted_answers(query, shards, k):
    d, i = merged(query, shards, k)
    return d[:, ::-1], i[:, ::-1]


def higher_index_first(distances, indices):
    return np.lexsort((-indices, distances))


def one_of_each_piece(query, shards, k):
    d, i = merged(query, shards, k, width=1)
    return np.pad(d, ((0, 0), (0, k - d.shape[1])), "edge"), np.pad(i, ((0, 0), (0, k - i.shape[1])), "edge")


def one_query_after_the_other(query, shards, k):
    distances, indices, offset = [np.zeros(0)] * len(query), [np.zeros(0, int)] * len(query), 0
    for shard in shards:
        for row, q in enumerate(query):
            d = np.concatenate([distances[row], cdist(q[None], shard)[0].astype(np.float32)])
            order = np.argsort(d, kind="stable")[:k]  # the earlier pieces come first
            indices[row] = np.concatenate([indices[row], offset + np.arange(len(shard))])[order]
            distances[row] = d[order]
        offset += len(shard)
    return np.stack(distances), np.stack(indices)


def with_a_heap(query, shards, k):
    best, offset = [[] for _ in query], 0
    for shard in shards:
        for row, (d, i) in enumerate(zip(*nearest(query, shard, min(k, len(shard))), strict=True)):
            best[row] = heapq.nsmallest(k, [*best[row], *zip(d.tolist(), (i + offset).tolist(), strict=True)])
        offset += len(shard)
    answers = np.array(best)  # (n, k, 2)
    return answers[..., 0], answers[..., 1].astype(int)


def padded(query, shards, k):
    d, i, start = np.full((len(query), k), np.inf), np.zeros((len(query), k), int), 0
    for shard in shards:
        row = cdist(query, shard)
        both = np.hstack([d, row])
        numbers = np.hstack([i, np.tile(np.arange(start, start + len(shard)), (len(query), 1))])
        order = np.argsort(both.astype(np.float32), axis=1, kind="stable")[:, :k]
        d, i = np.take_along_axis(both, order, 1), np.take_along_axis(numbers, order, 1)
        start += len(shard)
    return d, i


WRONG = {
    check.exercise_1: [
        (lambda q, g: root(squares(q, g)), "wrong 1,000 away from the origin"),
        (unclamped, "where an item meets itself"),
        (lambda q, g: centred(q, g) ** 2, "take the root"),
        (lambda q, g: root(squares(q - q.mean(0), g - g.mean(0))), "each centred on their own mean"),
        (lambda q, g: root(squares(q - g.mean(0), g)), "only one side was moved"),
        (lambda q, g: root(squares(q, g - g.mean(0))), "only one side was moved"),
        (lambda q, g: centred(q.astype(np.float64), g.astype(np.float64)), "stay in float32"),
        (lambda q, g: centred(g, q), "expected shape (40, 50)"),
        (in_place, "changed the arrays"),
        (standardised, "wrong around the origin"),
        (cross_term_once, "wrong around the origin"),
        (lambda q, g: cdist(q, g, "cityblock").astype(np.float32), "wrong around the origin"),
    ],
    check.exercise_2: [
        (squared_distance_only, "both squared, or both not"),
        (lambda q, g, r: within(q, g, r, keep=np.less), "at most the radius"),
        (unsorted, "nearest first, ties by index"),
        (lower_index_last, "nearest first, ties by index"),
        (one_answer_at_least, "has nothing within 2"),
        (their_distances, "return indices"),
        (masks, "not a mask"),
        (rows_and_columns, "one axis"),
        (lambda q, g, r: within(q, g, r, k=3), "are the items 0, 2, 3 and 4"),
        (lambda q, g, r: within(q, g, 2 * r), "at distance 3 was returned"),
        (lambda q, g, r: np.array(within(q, g, r), dtype=object), "return a list"),
        (lambda q, g, r: within(q[:1], g, r), "return a list with one array for each of the 3"),
        (plain_lists, "in empty arrays too"),
    ],
    check.exercise_3: [
        (lambda q, s, k: merged(q, s, k, count=lambda shard: 0), "count on from piece to piece"),
        (lambda q, s, k: merged(q, s, k, count=lambda shard: k), "count on from piece to piece"),
        (keeps_the_pieces, "overwritten by the next one"),
        (last_piece, "not the k smallest"),
        (lambda q, s, k: merged(q, s, k, cut=lambda wanted, size: wanted), "your code raised ValueError"),
        (squared, "squared distances"),
        (unsorted_answers, "sorted, nearest first"),
        (lambda q, s, k: merged(q, s, k, order=higher_index_first), "3 comes first"),
        (one_of_each_piece, "not the k smallest"),
        (lambda q, s, k: merged(q, s, k)[1], "return two arrays"),
        (lambda q, s, k: merged(q, s, k)[::-1], "sorted, nearest first"),
    ],
}
RIGHT = {
    check.exercise_1: [
        centred,
        one_query_at_a_time,
        centred_on_both,
        lambda q, g: centred(q, g).tolist() and centred(q, g),
    ],
    check.exercise_2: [within, within_by_sorting, within_in_loops, within_unsigned],
    check.exercise_3: [merged, one_query_after_the_other, with_a_heap, padded],
}
test_wrong, test_right = refuses(WRONG), accepts(RIGHT)
