"""A battery for the checks of lesson 6: wrong answers with their mistakes, right ones in other styles."""

from fractions import Fraction

import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson06 as check


def ranks(hits, base=1):
    return hits.argmax(axis=1) + base


def reciprocal(hits):
    return np.where(hits.any(axis=1), 1 / ranks(hits), 0)


def all_hits(hits):
    return (hits / np.arange(1, hits.shape[1] + 1)).sum(axis=1).mean()


def mean_of_the_ranks(hits):
    found = hits.any(axis=1)
    return found.mean() / ranks(hits)[found].mean() if found.any() else 0


def found_queries_only(hits):
    found = hits.any(axis=1)
    return (1 / ranks(hits)[found]).mean() if found.any() else 0.0


def last_hit(hits):
    return np.where(hits.any(axis=1), 1 / (hits.shape[1] - hits[:, ::-1].argmax(axis=1)), 0).mean()


def changes_the_hits(hits):
    hits[:, 1:] &= ~hits[:, :1]
    return reciprocal(hits).mean()


def mrr_in_a_loop(hits):
    total = 0
    for row in hits.tolist():
        for rank, hit in enumerate(row, start=1):
            if hit:
                total += 1 / rank
                break
    return total / len(hits)


def mrr_by_the_best(hits):
    return np.float32((hits / np.arange(1, hits.shape[1] + 1)).max(axis=1).mean())


def mrr_by_cumsum(hits):
    first = hits & (hits.cumsum(axis=1) == 1)
    return np.array(sum(first[:, i].sum() / (i + 1) for i in range(hits.shape[1])) / len(hits))


def mrr_in_fractions(hits):
    scores = [Fraction(1, row.index(True) + 1) if True in row else Fraction(0) for row in hits.tolist()]
    return float(sum(scores) / len(scores))


def by_class(first_hits, labels):
    labels = np.asarray(labels).reshape(-1)
    return np.array([first_hits[labels == c].mean() for c in np.unique(labels)])


def all_numbers(first_hits, labels):
    labels = np.asarray(labels).reshape(-1)
    return np.mean([first_hits[labels == c].mean() for c in range(labels.max() + 1)])


def absent_as_zero(first_hits, labels):
    hits, size = (np.bincount(np.ravel(labels), w) for w in (first_hits, None))
    return (hits / np.maximum(size, 1)).mean()


def weighted(first_hits, labels):
    labels = np.ravel(labels)
    return sum(first_hits[labels == c].mean() * (labels == c).mean() for c in np.unique(labels))


def flat_only(first_hits, labels):
    return np.mean([first_hits[labels == c].mean() for c in np.unique(labels)])


def averaged_with_a_dictionary(first_hits, labels):
    groups = {}
    for hit, label in zip(first_hits.tolist(), np.ravel(labels).tolist(), strict=True):
        groups.setdefault(label, []).append(hit)
    return sum(sum(group) / len(group) for group in groups.values()) / len(groups)


def averaged_with_bincount(first_hits, labels):
    _, place = np.unique(np.ravel(labels), return_inverse=True)
    return (np.bincount(place, weights=first_hits) / np.bincount(place)).mean()


def averaged_with_weights(first_hits, labels):
    labels = np.ravel(labels)
    _, place, size = np.unique(labels, return_inverse=True, return_counts=True)
    return np.average(first_hits.astype(float), weights=1 / size[place])


def averaged_over_a_set(first_hits, labels):
    labels = labels.flatten()
    return np.float32(np.mean([first_hits[labels == c].mean() for c in set(labels.tolist())]))


def fair(d, q, g=None, tie=np.equal, score="share", exclude=True, copy=True):
    if g is None:
        g = q
        if exclude:
            d = d.astype(float) if copy else d
            np.fill_diagonal(d, np.inf)
    tied = tie(d, d.min(axis=1, keepdims=True))
    right = g[None, :] == q[:, None]
    hits = tied & right
    if score == "any":
        return hits.any(axis=1).mean()
    if score == "all":
        return (hits == tied).all(axis=1).mean()
    if score == "pooled":
        return hits.sum() / tied.sum()
    return (hits.sum(axis=1) / tied.sum(axis=1)).mean()


def first_by_index(d, q, g=None):
    if g is None:
        d, g = d + np.diag(np.full(len(d), np.inf)), q
    return (g[d.argmin(axis=1)] == q).mean()


def excluded_by_distance(d, q, g=None):
    if g is None:
        d, g = np.where(d == 0, np.inf, d), q
    return fair(d, q, g)


def global_minimum(d, q, g=None):
    if g is None:
        return fair(d, q)
    tied = d == d.min()
    right = g[None, :] == q[:, None]
    return ((tied & right).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)).mean()


def excluded_even_with_a_gallery(d, q, g=None):
    d = d.astype(float)
    np.fill_diagonal(d, np.inf)
    return fair(d, q, q if g is None else g)


def fair_in_a_loop(d, q, g=None):
    scores = []
    for i, row in enumerate(d.tolist()):
        pairs = [(x, (q if g is None else g)[j]) for j, x in enumerate(row) if g is not None or j != i]
        smallest = min(x for x, _ in pairs)
        labels = [label for x, label in pairs if x == smallest]
        scores.append(labels.count(q[i]) / len(labels))
    return sum(scores) / len(scores)


def fair_with_a_mask(d, q, g=None):
    allowed = np.ones(d.shape, bool) if g is not None else ~np.eye(len(d), dtype=bool)
    smallest = np.min(d, axis=1, where=allowed, initial=np.inf, keepdims=True)
    tied = allowed & (d == smallest)
    return np.average(
        [((q if g is None else g)[t] == label).mean() for t, label in zip(tied, q, strict=True)]
    )


def fair_by_sorting(d, q, g=None):
    labels = q if g is None else g
    total = 0.0
    for i in range(len(d)):
        keep = np.arange(d.shape[1]) != (i if g is None else -1)
        row, own = d[i][keep], labels[keep]
        order = np.argsort(row)
        end = np.searchsorted(row[order], row[order[0]], side="right")
        total += np.mean(own[order[:end]] == q[i])
    return np.float32(total / len(d))


WRONG = {
    check.exercise_1: [
        (
            lambda hits: np.where(hits.any(axis=1), 1 / np.maximum(ranks(hits, 0), 1), 0).mean(),
            "ranks start at 1",
        ),
        (lambda hits: (1 / ranks(hits)).mean(), "argmax of a row without a hit is 0, too"),
        (lambda hits: np.where(hits.any(axis=1), ranks(hits), 0).mean(), "that is the rank"),
        (all_hits, "only the first hit counts"),
        (mean_of_the_ranks, "average the reciprocals"),
        (found_queries_only, "queries without a hit belong to the average"),
        (lambda hits: reciprocal(hits).sum(), "take their mean"),
        (reciprocal, "return one number"),
        (lambda hits: hits[:, 0].mean(), "a first hit at rank 2 scores 1/2"),
        (lambda hits: hits.any(axis=1).mean(), "ranks start at 1"),
        (last_hit, "only the first hit counts"),
        (changes_the_hits, "your function changes the hits"),
    ],
    check.exercise_2: [
        (lambda first_hits, labels: first_hits.mean(), "0.9 is the mean over queries"),
        (all_numbers, "there is a nan"),
        (absent_as_zero, "classes without a query must not count as 0"),
        (weighted, "0.9 is the mean over queries"),
        (flat_only, "your code raised IndexError"),
        (lambda first_hits, labels: by_class(first_hits, labels).sum(), "summed"),
        (by_class, "these are the classes' own R@1"),
        (lambda first_hits, labels: np.median(by_class(first_hits, labels)), "that is the median"),
        (
            lambda first_hits, labels: by_class(first_hits, labels).sum() / 10,
            "by the number of classes that occur",
        ),
        (lambda first_hits, labels: by_class(first_hits, labels)[:2].mean(), "with classes 0, 3, 4 and 100"),
        (lambda first_hits, labels: by_class(first_hits, labels).min(), "average to 0.5"),
    ],
    check.exercise_3: [
        (first_by_index, "it scores 1/2"),
        (lambda d, q, g=None: fair(d, q, g, score="any"), "it scores 1/2"),
        (lambda d, q, g=None: fair(d, q, g, score="all"), "averages to 0.75, not 0.5"),
        (lambda d, q, g=None: fair(d, q, g, score="pooled"), "averages to 0.75, not 0.667"),
        (lambda d, q, g=None: fair(d, q, g, tie=np.isclose), "although np.isclose says so"),
        (lambda d, q, g=None: fair(d.astype(np.float32), q, g), "1 and 1 + 1e-9 are no tie"),
        (global_minimum, "averages to 0.75"),
        (lambda d, q, g=None: fair(d, q, g, exclude=False), "item i is no answer to query i"),
        (lambda d, q, g=None: fair(d, q, g, copy=False), "your function changed the distances"),
        (excluded_by_distance, "item i is no answer to query i"),
        (excluded_even_with_a_gallery, "averages to 0.75"),
    ],
}
RIGHT = {
    check.exercise_1: [
        lambda hits: reciprocal(hits).mean(),
        mrr_in_a_loop,
        mrr_by_the_best,
        mrr_by_cumsum,
        mrr_in_fractions,
    ],
    check.exercise_2: [
        lambda first_hits, labels: by_class(first_hits, labels).mean(),
        averaged_with_a_dictionary,
        averaged_with_bincount,
        averaged_with_weights,
        averaged_over_a_set,
    ],
    check.exercise_3: [fair, fair_in_a_loop, fair_with_a_mask, fair_by_sorting],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
