"""The checks of lesson 01's exercises."""

import numpy as np

from helpers.checks import exercise
from helpers.data import honest_split, load
from helpers.metrics import recall_at_k


@exercise(
    "each query's chance is its class's share of the gallery; only if all classes are equally frequent "
    "is it 1 / classes, and it is the floor on which every Recall@1 stands."
)
def exercise_1(chance_level):
    query_labels = np.array([0, 0, 0, 1])
    gallery_labels = np.array(
        [0, 1, 0, 0, 1, 0, 2, 0, 0, 1]
    )  # six of class 0, three of class 1, one of class 2
    result = chance_level(query_labels, gallery_labels)
    wrong = {
        1 / 3: "1 / classes is right only if the gallery holds all classes equally often",
        1 / 2: "1 / classes is right only if the gallery holds all classes equally often",
        0.6: "that is the share of the most frequent class: average the chances of all queries",
        0.45: "that is an average over the classes: average over the queries, three of which are of class 0",
        0.46: "that is the chance of a query drawn from the gallery: use the queries' own labels",
        0.625: "that is the chance among the queries themselves: count in the gallery",
    }
    assert np.ndim(result) == 0, f"return one number; yours has the shape {np.shape(result)}"
    for value, message in wrong.items():
        assert not np.isclose(result, value), message
    assert np.isclose(result, 0.525), f"for the labels of the check it should be 0.525; yours is {result:.3f}"
    absent = chance_level(np.array([0, 5]), np.array([0, 0, 1, 1]))
    assert np.isclose(absent, 0.25), (
        "a query whose class the gallery does not hold has no chance, but it counts; "
        f"it should be 0.25, not {absent:.3f}"
    )


@exercise(
    "a set of bytes finds each image at once, so 10,000 queries cost 20,000 look-ups instead of 600 million."
)
def exercise_2(find_leak):
    rng = np.random.default_rng(0)
    gallery = rng.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    query = rng.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
    query[1] = gallery[7]
    query[2] = gallery[30][:, ::-1]
    query[3] = gallery[11][::-1]  # upside down
    query[4] = rng.permutation(gallery[3].reshape(-1)).reshape(6, 5, 3)  # the same values in other places
    query[5] = gallery[8]
    query[5, 0, 0, 0] ^= 1  # almost a copy
    query[6] = gallery[7]  # the same leak again
    query[7] = gallery[9][:, :, ::-1]  # its colours reversed
    result = np.asarray(find_leak(query, gallery))
    found = set(result.reshape(-1).tolist())
    assert result.ndim == 1, f"return a one-dimensional array; yours has the shape {result.shape}"
    assert result.dtype != bool, (
        "return the indices, not True and False: np.flatnonzero turns one into the other"
    )
    assert 1 in found, "a query that is an exact copy was missed"
    assert 2 in found, "a query that is a mirrored copy was missed"
    assert 6 in found, "two queries may be copies of the same gallery image: report both"
    for i, what in {
        3: "stands upside down",
        4: "holds the same values in other places",
        5: "differs in one pixel",
    }.items():
        assert i not in found, f"a query that {what} is no copy, neither as it is nor mirrored left to right"
    assert len(result) == len(found), "a query is reported twice"
    assert result.tolist() == [1, 2, 6], f"the queries 1, 2 and 6 leak; you found {result.tolist()}"
    assert np.issubdtype(result.dtype, np.integer), f"indices are integers; yours are {result.dtype}"
    nothing = np.asarray(find_leak(query[:1], gallery))
    assert nothing.shape == (0,) and np.issubdtype(nothing.dtype, np.integer), (
        "without a leak, return an empty array of integers, so that it can be used as an index"
    )


@exercise(
    "by hand you decide what shall count as alike; metric learning lets examples decide, and goes further."
)
def exercise_3(features):
    split = honest_split(load("fashion_mnist"))
    query, gallery = split.x_valid[:2000], split.x_train[:10_000]
    few = np.asarray(features(query[:3].copy()))
    assert few.ndim == 2 and len(few) == 3, f"3 images should give an array (3, d); yours is {few.shape}"
    query_features, gallery_features = (
        np.asarray(features(query.copy())),
        np.asarray(features(gallery.copy())),
    )
    assert np.isfinite(query_features).all() and np.isfinite(gallery_features).all(), (
        "there are NaN or infinity among the features: is something divided by 0?"
    )
    assert np.allclose(query_features[:3], few, rtol=1e-3, atol=1e-5), (
        "an image gives other features among other images: each must be treated by itself"
    )
    recall = recall_at_k(query_features, split.y_valid[:2000], gallery_features, split.y_train[:10_000], k=1)[
        1
    ]
    assert recall >= 0.82, f"R@1 is {recall:.4f}; raw pixels have 0.8045, and 0.82 is asked for"
