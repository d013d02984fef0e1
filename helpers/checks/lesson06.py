"""Checks of lesson 6, Recall@K."""

import numpy as np

from helpers.checks import exercise, number


@exercise(
    "MRR needs no K, but like R@1 it looks at one hit only: MAP@R remains the measure of the whole class",
    returns="one number between 0 and 1",
)
def exercise_1(mean_reciprocal_rank):
    def score(*rows):
        hits = np.array(rows, dtype=bool)
        value = number(mean_reciprocal_rank(hits))
        assert np.array_equal(hits, np.array(rows, dtype=bool)), (
            "your function changes the hits: work on a copy"
        )
        return value

    assert _near(score([1, 0, 0]), 1), "a hit at rank 1 scores 1"
    assert not _near(score([0, 1, 0]), 1), (
        "a first hit at rank 2 scores 1/2: ranks start at 1, array columns at 0"
    )
    assert not _near(score([0, 1, 0]), 2), "that is the rank: a query scores 1 / rank"
    assert _near(score([0, 1, 0]), 1 / 2), "a first hit at rank 2 scores 1/2"
    assert _near(score([0, 0, 1]), 1 / 3), "a first hit at rank 3 scores 1/3"
    assert _near(score([0, 0, 0]), 0), (
        "a query without any hit scores 0; argmax of a row without a hit is 0, too"
    )
    assert _near(score([1, 1, 1]), 1), "only the first hit counts: three hits score 1"
    mixed = score([0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 1])
    assert not any(_near(mixed, value) for value in (4 / (2 + 1 + 3), 3 / (2 + 1 + 3), 3 / 4 / 2)), (
        "average the reciprocals 1/rank, not the ranks"
    )
    assert not _near(mixed, 1 / 2 + 1 + 1 / 3), "that is the sum over the queries: take their mean"
    assert not _near(mixed, (1 / 2 + 1 + 1 / 3) / 3), "queries without a hit belong to the average, with 0"
    assert _near(mixed, (1 / 2 + 0 + 1 + 1 / 3) / 4), (
        f"the mean of 1/2, 0, 1 and 1/3 is {(1 / 2 + 1 + 1 / 3) / 4:.3f}, not {mixed:.3f}"
    )


@exercise(
    "an average over queries answers for the crowd, an average over classes for each: say which one you report",
    returns="one number between 0 and 1",
)
def exercise_2(class_averaged_recall):
    labels = np.array([7] * 9 + [6])
    first_hits = np.array([True] * 9 + [False])
    value = class_averaged_recall(first_hits, labels)
    assert np.shape(value) != (2,), "these are the classes' own R@1: take their mean"
    assert not np.isnan(value).any(), (
        "there is a nan: average over the classes that occur, here 6 and 7, not over 0 to 7"
    )
    value = number(value)
    assert not _near(value, 0.9), "0.9 is the mean over queries: sneakers 1.0 and shirts 0.0 average to 0.5"
    assert not _near(value, 1 / 8), "classes without a query must not count as 0: only 6 and 7 occur"
    assert not _near(value, 1 / 10), (
        "divide the sum of the classes' R@1 by the number of classes that occur, here 2"
    )
    assert not _near(value, 1), "the classes' R@1 are summed, or one of them is left out: take their mean"
    assert _near(value, 0.5), f"sneakers 1.0 and shirts 0.0 average to 0.5, not {value:.3f}"
    column = number(class_averaged_recall(first_hits, labels[:, None]))
    assert _near(column, 0.5), f"labels of shape (n, 1) should give the same, not {column:.3f}"
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 3, 4, 100], 500, p=[0.7, 0.2, 0.07, 0.03])
    first_hits = rng.random(500) < 0.4 + 0.5 * (labels == 0)
    expected = np.mean([first_hits[labels == c].mean() for c in np.unique(labels)])
    value = number(class_averaged_recall(first_hits, labels))
    shares = [(labels == c).mean() for c in np.unique(labels)]
    found = [first_hits[labels == c].mean() for c in np.unique(labels)]
    assert not _near(value, np.dot(shares, found)), (
        "weighted by the classes' sizes it is the mean over queries again"
    )
    assert not _near(value, np.median(found)), "that is the median of the classes: take their mean"
    assert _near(value, expected), (
        f"with classes 0, 3, 4 and 100 of unequal size, expected {expected:.4f}, got {value:.4f}"
    )


@exercise(
    "with fair ties a collapsed network scores what chance scores, whatever the order of its gallery",
    returns="one number between 0 and 1",
)
def exercise_3(fair_recall_at_1):
    def fair(distances, *labels):
        return number(fair_recall_at_1(distances, *labels))

    distances = np.array([[1.0, 2.0, 3.0], [2.0, 0.5, 0.5]])
    value = fair(distances, np.array([0, 1]), np.array([0, 1, 2]))
    assert not _near(value, 1), (
        "query 1 has two items at its smallest distance, one right, one wrong: it scores 1/2"
    )
    assert _near(value, 0.75), (
        f"query 0 scores 1 and query 1 scores 1/2, which averages to 0.75, not {value:.3f}"
    )
    value = fair(np.array([[1.0, 1.0 + 1e-9]]), np.array([0]), np.array([0, 1]))
    assert _near(value, 1), (
        f"tied means at *exactly* the smallest distance: 1 and 1 + 1e-9 are no tie, although np.isclose says so; "
        f"this query scores 1, not {value:.3f}"
    )
    larger = np.array([[0.1, 0.5, 0.5, 0.9], [0.5, 0.5, 0.7, 0.7]])
    value = fair(larger, np.array([0, 3]), np.array([0, 1, 2, 3]))
    assert _near(value, 1 / 2), (
        f"ties beyond the smallest distance do not count, and each query has a smallest one of its own: 1 and 0 "
        f"average to 0.5, not {value:.3f}"
    )
    labels = np.repeat(np.arange(10), 20)
    value = fair(np.zeros((10, 200)), np.arange(10), labels)
    assert _near(value, 0.1), f"a collapsed network with ten equal classes should score 0.1, not {value:.3f}"
    collapsed = np.zeros((200, 200))
    value = fair(collapsed, labels)
    assert not _near(value, 0.1), (
        "leave-one-out: a collapsed network should score 19/199, since item i is no answer to query i"
    )
    assert _near(value, 19 / 199), (
        f"leave-one-out, a collapsed network should score 19/199 = 0.0955, not {value:.4f}"
    )
    assert not collapsed.any(), "your function changed the distances that it was given: work on a copy"
    copies = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 5.0], [5.0, 5.0, 0.0]])
    value = fair(copies, np.array([0, 1, 1]))
    assert _near(value, (0 + 0 + 0.5) / 3), (
        f"leave-one-out with a duplicate: the queries score 0, 0 and 1/2, mean 0.167, not {value:.3f}"
    )
    rng = np.random.default_rng(1)
    whole = rng.integers(0, 4, (50, 80)).astype(float)
    query_labels, gallery_labels = rng.integers(0, 5, 50), rng.integers(0, 5, 80)
    order = rng.permutation(80)
    first = fair(whole, query_labels, gallery_labels)
    second = fair(whole[:, order], query_labels, gallery_labels[order])
    assert _near(first, second), (
        f"another order of the gallery gave another number: {first:.4f} and {second:.4f}"
    )
    tied = whole == whole.min(axis=1, keepdims=True)
    expected = np.mean([(gallery_labels[t] == q).mean() for t, q in zip(tied, query_labels, strict=True)])
    assert _near(first, expected), f"on 50 queries with many ties, expected {expected:.4f}, got {first:.4f}"


def _near(a, b):
    return abs(a - b) < 1e-6
