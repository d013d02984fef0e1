import math
import tracemalloc

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import retrieval
from helpers.retrieval import find_cos_distances, find_l2_distances, nearest

DISTS = ["l2", "cos", "l1", "max_l1"]
each_dist = pytest.mark.parametrize("dist", DISTS)
course_settings = settings(deadline=None, derandomize=True, max_examples=40, database=None)


def distance(q, g, dist):
    """The distance of two vectors, lists of floats."""
    differences = [abs(a - b) for a, b in zip(q, g, strict=True)]
    if dist == "l2":
        return math.sqrt(sum(x * x for x in differences))
    if dist == "l1":
        return sum(differences)
    if dist == "max_l1":
        return max(differences)
    return 1 - sum(a * b for a, b in zip(q, g, strict=True)) / (math.hypot(*q) * math.hypot(*g))


def naive_distances(query, gallery, dist="l2"):
    query, gallery = np.asarray(query, float).tolist(), np.asarray(gallery, float).tolist()
    return np.array([[distance(q, g, dist) for g in gallery] for q in query])


def naive_nearest(query, gallery, k, dist="l2"):
    """Sorting is stable: of equal distances the lower index comes first."""
    everything = np.round(naive_distances(query, gallery, dist), 9)
    indices = np.argsort(everything, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(everything, indices, axis=1), indices


def random_pair(n=20, m=50, dimensions=6, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dimensions)).astype(dtype), rng.normal(size=(m, dimensions)).astype(dtype)


# All distances


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_l2_and_cos_distances_equal_loops(dtype):
    query, gallery = random_pair(dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for function, dist in ((find_l2_distances, "l2"), (find_cos_distances, "cos")):
        result = function(query, gallery)
        assert result.dtype == dtype
        assert result.shape == (20, 50)
        np.testing.assert_allclose(result, naive_distances(query, gallery, dist), atol=tolerance)


def test_l2_distances_by_hand():
    query, gallery = [[0.0, 0.0], [3.0, 4.0]], [[3.0, 4.0], [0.0, 0.0], [3.0, 0.0]]
    assert find_l2_distances(query, gallery).tolist() == [[5, 0, 3], [0, 5, 4]]
    assert find_l2_distances(query, gallery, squared=True).tolist() == [[25, 0, 9], [0, 25, 16]]


def test_cos_distances_by_hand():
    query, gallery = [[2.0, 0.0]], [[5.0, 0.0], [0.0, 0.5], [-3.0, 0.0], [1.0, 1.0]]
    np.testing.assert_allclose(find_cos_distances(query, gallery), [[0, 1, 2, 1 - math.sqrt(0.5)]], atol=1e-7)


def test_l2_distances_are_never_negative_nor_nan():
    nearly_equal = (100 + 1e-4 * np.random.default_rng(0).normal(size=(80, 64))).astype("float32")
    assert find_l2_distances(nearly_equal, nearly_equal, squared=True).min() == 0
    assert np.isfinite(find_l2_distances(nearly_equal, nearly_equal)).all()


def test_cos_distances_stay_between_0_and_2():
    query, _ = random_pair(200)
    both = np.concatenate([query, -query, 3 * query])
    distances = find_cos_distances(both, both)
    assert distances.min() == 0
    assert distances.max() == 2


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "bool"])
def test_other_dtypes_are_taken_as_float32(dtype):
    query, gallery = np.array([[0, 200]]).astype(dtype), np.array([[100, 0], [0, 100]]).astype(dtype)
    expected = naive_distances(query, gallery)
    assert find_l2_distances(query, gallery).dtype == np.float32
    np.testing.assert_allclose(find_l2_distances(query, gallery), expected, rtol=1e-6)
    np.testing.assert_allclose(nearest(query, gallery, 2)[0], np.sort(expected), rtol=1e-6)


def test_one_float64_argument_is_enough_for_float64():
    query, gallery = random_pair()
    for pair in ((query.astype("float64"), gallery), (query, gallery.astype("float64"))):
        assert find_l2_distances(*pair).dtype == np.float64
        assert find_cos_distances(*pair).dtype == np.float64


def test_arguments_are_left_as_they_were():
    query, gallery = random_pair()
    before = query.copy(), gallery.copy()
    for dist in DISTS:
        nearest(query, gallery, 3, dist)
    find_l2_distances(query, gallery), find_cos_distances(query, gallery)
    assert (query == before[0]).all()
    assert (gallery == before[1]).all()


# nearest


@pytest.mark.parametrize("k", [1, 3, 49, 50])
@each_dist
def test_nearest_equals_the_naive_sort(dist, k):
    query, gallery = random_pair()
    distances, indices = nearest(query, gallery, k, dist)
    expected_distances, expected_indices = naive_nearest(query, gallery, k, dist)
    assert (indices == expected_indices).all()
    np.testing.assert_allclose(distances, expected_distances, atol=1e-5)
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
    assert distances.shape == indices.shape == (20, k)


def grids(low, high, dimensions):
    """Points with small whole coordinates: many duplicates, and many ties that no rounding can break."""
    return st.integers(1, 45).flatmap(
        lambda count: arrays(np.int8, (count, dimensions), elements=st.integers(low, high))
    )


@pytest.mark.parametrize("dist", ["l2", "l1", "max_l1"])
@course_settings
@given(data=st.data())
def test_nearest_equals_the_stable_sort_where_ties_abound(dist, data):
    dimensions = data.draw(st.integers(1, 3))
    query, gallery = data.draw(grids(-2, 2, dimensions)), data.draw(grids(-2, 2, dimensions))
    k = data.draw(st.integers(1, len(gallery)))
    distances, indices = nearest(query, gallery, k, dist)
    expected_distances, expected_indices = naive_nearest(query, gallery, k, dist)
    assert (indices == expected_indices).all()
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)


# Eight directions in the plane, each in three lengths that are powers of two: equal cosines stay equal in float32.
DIRECTIONS = [(x * s, y * s) for x in (-1, 0, 1) for y in (-1, 0, 1) for s in (1, 2, 4) if (x, y) != (0, 0)]
compasses = st.lists(st.sampled_from(DIRECTIONS), min_size=1, max_size=45).map(np.array)


@course_settings
@given(query=compasses, gallery=compasses, data=st.data())
def test_nearest_by_cosine_equals_the_stable_sort_where_ties_abound(query, gallery, data):
    k = data.draw(st.integers(1, len(gallery)))
    distances, indices = nearest(query, gallery, k, "cos")
    expected_distances, expected_indices = naive_nearest(query, gallery, k, "cos")
    assert (indices == expected_indices).all()
    np.testing.assert_allclose(distances, expected_distances, atol=1e-6)


@each_dist
def test_of_a_hundred_duplicates_the_first_come_first(dist):
    gallery = np.ones((100, 4), np.float32)
    distances, indices = nearest(gallery[:30], gallery, 3, dist)
    assert (indices == [0, 1, 2]).all()
    assert (distances == 0).all()


def test_ties_at_the_last_place_are_broken_by_index():
    gallery = np.array(
        [[5.0]] * 30 + [[1.0]] * 30
    )  # one at 1 is nearest, the other answers tie at distance 5
    gallery[45] = 0
    assert nearest([[0.0]], gallery[::-1], 3)[1].tolist() == [[14, 0, 1]]
    assert nearest([[0.0]], gallery, 3)[1].tolist() == [[45, 30, 31]]


@pytest.mark.parametrize("dimensions", [4, 64])
@each_dist
def test_far_from_the_origin_no_neighbour_is_lost_to_cancellation(dist, dimensions, monkeypatch):
    monkeypatch.setattr(
        faiss.cvar, "distance_compute_blas_threshold", 1
    )  # FAISS takes the matrix product at once
    rng = np.random.default_rng(0)
    points = (3000 + 0.02 * rng.integers(-50, 50, size=(400, dimensions))).astype("float32")
    if dist == "cos":
        points = points - 2990  # on the unit sphere, and all in one corner of it
    query, gallery = points[:40], points[100:]
    distances, _ = nearest(query, gallery, 5, dist)
    everything = np.sort(naive_distances(query, gallery, dist), axis=1)
    np.testing.assert_allclose(distances, everything[:, :5], rtol=1e-5, atol=1e-9)


def test_tolerance_is_in_proportion_to_the_longest_vector():
    query, gallery = np.array([[1.0, 1.0], [3.0, -4.0]]), np.array([[0.0, 2.0]])
    unit = 4 * 2.0**-23 * math.sqrt(2)
    for dist, longest in (("l2", 25), ("l1", 7), ("max_l1", 7)):
        assert retrieval._rounding_error(query, gallery, dist) == pytest.approx(longest * unit)
        assert retrieval._rounding_error(gallery, query, dist) == pytest.approx(longest * unit)


def test_what_float32_cannot_tell_apart_is_a_tie():
    assert nearest([[1.0]], [[1.0 + 1e-12], [1.0]], 2)[1].tolist() == [[0, 1]]


def test_cosine_of_nearly_parallel_vectors_is_resolved():
    angles = np.linspace(0, 0.01, 200)
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    distances, indices = nearest(gallery[:1], gallery, 200, "cos")
    assert indices[0].tolist() == list(range(200))
    np.testing.assert_allclose(distances[0], 1 - np.cos(angles), atol=1e-9)


@each_dist
def test_blocks_join_without_a_seam(dist, monkeypatch):
    query, gallery = random_pair(37, 60)
    expected = nearest(query, gallery, 4, dist)
    for block in (1, 100, 1000):
        monkeypatch.setattr(retrieval, "BLOCK", block)
        for part, whole in zip(nearest(query, gallery, 4, dist), expected, strict=True):
            np.testing.assert_array_equal(part, whole)


@each_dist
def test_matrix_of_all_distances_is_never_in_memory(dist, monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK", 50_000)
    query, gallery = random_pair(1_000, 3_000, 64)
    tracemalloc.start()
    nearest(query, gallery, 5, dist)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        peak < 4_000_000
    )  # bytes; the matrix would hold 12 million, all differences q − g of a block as many


@each_dist
def test_ordinary_data_are_sorted_once(dist, monkeypatch):
    calls = []
    sort_exactly = retrieval._sort_exactly
    monkeypatch.setattr(retrieval, "_sort_exactly", lambda *args: calls.append(args) or sort_exactly(*args))
    query, gallery = random_pair(100, 500)
    nearest(query, gallery, 5, dist)
    assert len(calls) == 1  # candidates decide; no query is compared with the whole gallery
    assert calls[0][2].shape == (100, 13)
    nearest(query, gallery, 500, dist)
    assert len(calls) == 2


def test_default_distance_is_l2():
    query, gallery = random_pair()
    for default, l2 in zip(nearest(query, gallery, 5), nearest(query, gallery, 5, "l2"), strict=True):
        assert (default == l2).all()


def test_lists_and_non_contiguous_arrays_are_welcome():
    query, gallery = random_pair()
    expected = nearest(query, gallery, 2)[1]
    assert (nearest(query.tolist(), gallery.tolist(), np.int64(2))[1] == expected).all()
    wide = np.repeat(gallery, 2, axis=1)
    assert (nearest(query, wide[:, ::2], 2)[1] == expected).all()


# What is refused


@pytest.mark.parametrize("k", [0, -1, 51, 2.0, None])
def test_k_outside_the_gallery_is_refused(k):
    query, gallery = random_pair()
    message = f"^k must be an integer from 1 to the gallery's size, 50; it is {k!r}.$"
    with pytest.raises(ValueError, match=message):
        nearest(query, gallery, k)


@pytest.mark.parametrize("dist", ["L2", "euclidean", None])
def test_unknown_distance_is_refused(dist):
    with pytest.raises(ValueError, match=f"^dist must be 'l2', 'cos', 'l1' or 'max_l1', not {dist!r}.$"):
        nearest([[1.0]], [[1.0]], 1, dist)


each_search = pytest.mark.parametrize(
    "search",
    [find_l2_distances, find_cos_distances, lambda q, g: nearest(q, g, 1)],
    ids=["l2", "cos", "nearest"],
)


@each_search
def test_images_must_be_flattened(search):
    images, flat = np.zeros((2, 28, 28, 1)), np.zeros((2, 784))
    cure = r"Flatten images with images.reshape\(len\(images\), -1\).$"
    with pytest.raises(
        ValueError, match=rf"^query must be an array \(items, dimensions\), not \(2, 28, 28, 1\). {cure}"
    ):
        search(images, flat)
    with pytest.raises(
        ValueError, match=rf"^gallery must be an array \(items, dimensions\), not \(784,\). {cure}"
    ):
        search(flat, flat[0])


@each_search
def test_empty_arrays_are_refused(search):
    full = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"^query is empty: its shape is \(0, 2\).$"):
        search(full[:0], full)
    with pytest.raises(ValueError, match=r"^gallery is empty: its shape is \(0, 2\).$"):
        search(full, full[:0])
    with pytest.raises(ValueError, match=r"^query is empty: its shape is \(3, 0\).$"):
        search(full[:, :0], full[:, :0])


@each_search
def test_different_dimensions_are_refused(search):
    with pytest.raises(ValueError, match=r"^query has 3 dimensions, but gallery has 2.$"):
        search(np.ones((4, 3)), np.ones((4, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@each_search
def test_nan_and_infinity_are_refused(search, bad):
    good, damaged = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    damaged[1, 1] = bad
    for name, pair in (("query", (damaged, good)), ("gallery", (good, damaged))):
        message = f"^{name} contains NaN or infinity: look at what produced it before you search.$"
        with pytest.raises(ValueError, match=message):
            search(*pair)


@pytest.mark.parametrize("search", [find_cos_distances, lambda q, g: nearest(q, g, 1, "cos")])
def test_vector_of_length_zero_has_no_cosine(search):
    good, damaged = np.ones((3, 2)), np.ones((3, 2))
    damaged[1] = 0
    for pair in ((damaged, good), (good, damaged)):
        message = "^A vector of length 0 has no direction: its cosine distance is not defined.$"
        with pytest.raises(ValueError, match=message):
            search(*pair)
