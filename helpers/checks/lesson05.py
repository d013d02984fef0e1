"""Checks of lesson 5, L2 retrieval."""

import numpy as np

from helpers.checks import exercise
from helpers.retrieval import nearest


@exercise(
    "the trick is exact enough wherever the numbers that it subtracts are as small as their difference",
    returns="one float32 array of distances, a row for each query",
)
def exercise_1(centred_distances):
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(40, 16)), rng.normal(size=(50, 16)) + 0.5
    for shift, where in ((0, "around the origin"), (1000, "1,000 away from the origin")):
        q, g = (query + shift).astype(np.float32), (gallery + shift).astype(np.float32)
        expected = np.sqrt(_exact_squares(q, g))
        kept = q.copy(), g.copy()
        result = np.asarray(centred_distances(q, g))
        assert np.array_equal(q, kept[0]) and np.array_equal(g, kept[1]), (
            "your function changed the arrays that it was given: `-=` works in place, write `query = query - …`"
        )
        assert result.shape == (40, 50), (
            f"expected shape (40, 50), one row for each query, got {result.shape}"
        )
        assert result.dtype == np.float32, f"stay in float32: your distances are {result.dtype}"
        assert not np.isnan(result).any(), "there is a nan: clamp at 0 before you take the root"
        assert not np.allclose(result, expected**2, rtol=1e-3), "these are squared distances: take the root"
        one_side = [_exact_squares(q - g.mean(axis=0), g), _exact_squares(q, g - g.mean(axis=0))]
        assert not any(np.allclose(result**2, squares, rtol=1e-2) for squares in one_side), (
            "only one side was moved: subtract the same vector from queries *and* gallery"
        )
        own_means = _exact_squares(q - q.mean(axis=0), g - g.mean(axis=0))
        assert not np.allclose(result**2, own_means, rtol=1e-3), (
            "queries and gallery were each centred on their own mean, which moves them against each other: "
            "subtract the same vector from both"
        )
        assert np.allclose(result, expected, rtol=1e-3), (
            f"wrong {where}: the largest error is {_largest(result, expected)}"
        )
    twins = np.asarray(centred_distances(g, g))
    assert not np.isnan(twins).any(), (
        "there is a nan where an item meets itself: clamp at 0 before you take the root"
    )
    assert np.diag(twins).max() < 0.01, "an item should be at a distance of nearly 0 from itself"


@exercise(
    "a threshold turns a ranking into a decision; lesson 6's measures judge the ranking, not the threshold",
    returns="a list with an integer array for each query",
)
def exercise_2(answers_within):
    gallery = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.7, 0.0]], np.float32)
    query = np.array([[0.0, 0.0], [9.0, 9.0], [3.0, 0.5]], np.float32)
    result = answers_within(query, gallery, 2.0)
    assert isinstance(result, list) and len(result) == 3, (
        "return a list with one array for each of the 3 queries"
    )
    assert all(np.asarray(r).ndim == 1 for r in result), (
        "each query's answers should be an array with one axis"
    )
    found = [np.asarray(r).tolist() for r in result]
    assert np.asarray(result[0]).dtype.kind != "b", "return the items' indices, not a mask over the gallery"
    assert all(np.asarray(r).dtype.kind in "iu" for r in result if len(r)), (
        f"return indices, which are integers; the first query's answers are {found[0]}"
    )
    assert found[1] == [], f"the query at (9, 9) has nothing within 2, but got {found[1]}"
    assert 1 not in found[0], "an item at distance 3 was returned for a radius of 2"
    assert sorted(found[0]) == [0, 2, 3, 4], (
        f"within 2 of (0, 0) are the items 0, 2, 3 and 4, not {sorted(found[0])}"
    )
    assert found[0] == [0, 4, 2, 3], f"nearest first, ties by index, would be [0, 4, 2, 3], not {found[0]}"
    assert np.asarray(answers_within(query, gallery, 1.0)[0]).tolist() == [0, 4, 2, 3], (
        "at most the radius: the items at exactly 1.0 belong to the answers for a radius of 1.0"
    )
    for radius, expected in ((0.6, [0]), (0.8, [0, 4])):  # item 4 is at distance 0.7, whose square is 0.49
        assert np.asarray(answers_within(query, gallery, radius)[0]).tolist() == expected, (
            f"for a radius of {radius} the answers are {expected}: are distances and radius both squared, or both not?"
        )
    assert all(np.asarray(r).dtype.kind in "iu" for r in result), "indices are integers, in empty arrays too"
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(20, 4)).astype(np.float32), rng.normal(size=(300, 4)).astype(np.float32)
    distances, indices = nearest(query, gallery, 300)
    for i, answer in enumerate(answers_within(query, gallery, 1.5)):
        expected = indices[i][distances[i] <= 1.5]
        assert np.array_equal(answer, expected), (
            f"300 random items: query {i} should have {len(expected)} answers"
        )


@exercise(
    "the k best of all pieces are among the k best of each: that is how a search is spread over many machines",
    returns="two arrays: distances and indices",
)
def exercise_3(nearest_of_shards):
    rng = np.random.default_rng(2)
    query, gallery = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(60, 5)).astype(np.float32)
    gallery[41] = gallery[3]  # the same item in two pieces
    query[0] = gallery[3]
    expected_distances, expected = nearest(query, gallery, 6)
    for sizes, overwrite in (((60,), False), ((40, 20), False), ((20, 40), True), ((30, 2, 27, 1), True)):
        answer = nearest_of_shards(query, _pieces(gallery, sizes, overwrite), 6)
        assert isinstance(answer, tuple) and len(answer) == 2, "return two arrays: distances and indices"
        distances, indices = map(np.asarray, answer)
        what = f"pieces of {sizes} items"
        assert indices.shape == (7, 6), f"{what}: expected indices of shape (7, 6), got {indices.shape}"
        assert distances.shape == (7, 6), f"{what}: expected distances of shape (7, 6), got {distances.shape}"
        assert not np.allclose(distances, expected_distances**2, rtol=1e-3, atol=1e-5), (
            f"{what}: these are squared distances"
        )
        assert (np.diff(distances, axis=1) >= 0).all(), (
            f"{what}: a query's answers should be sorted, nearest first"
        )
        assert not (overwrite and not np.allclose(distances, expected_distances, atol=1e-4)), (
            f"{what}: wrong distances when each piece is overwritten by the next one: keep each query's k best so far, "
            "not the pieces"
        )
        assert len(sizes) == 1 or indices.max() >= sizes[0], (
            f"{what}: no index is larger than the first piece: count on from piece to piece"
        )
        assert np.allclose(distances, expected_distances, atol=1e-4), (
            f"{what}: the distances are not the k smallest"
        )
        assert indices[0].tolist() != [41, 3, *expected[0, 2:]], (
            f"{what}: items 3 and 41 are equal, and 3 comes first"
        )
        assert np.array_equal(indices, expected), f"{what}: right distances, but the wrong indices"


def _pieces(gallery, sizes, overwrite):
    """Yield the gallery in pieces; if wanted, each in the memory of the one before."""
    buffer = np.empty_like(gallery)
    start = 0
    for size in sizes:
        piece = buffer[:size] if overwrite else np.empty_like(gallery[:size])
        piece[:] = gallery[start : start + size]
        start += size
        yield piece
        if overwrite:
            buffer[:] = 1e6


def _exact_squares(query, gallery):
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    return ((query[:, None] - gallery[None]) ** 2).sum(axis=2)


def _largest(result, expected):
    return f"{np.abs(result - expected).max():.2g}"
