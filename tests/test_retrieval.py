import math
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import faiss
import ml_dtypes
import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import retrieval
from helpers.retrieval import find_cos_distances, find_l2_distances, nearest

DISTS = ["l2", "cos", "l1", "max_l1"]
each_dist = pytest.mark.parametrize("dist", DISTS)
# Candidates by columns or by FAISS, whatever the number of queries
WAYS = {"columns": 1, "FAISS": 10**9}
each_way = pytest.mark.parametrize("way", WAYS)
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
@each_way
def test_nearest_equals_the_naive_sort(way, dist, k, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
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


@pytest.mark.parametrize(
    ("way", "dist"), [("columns", "l2"), ("FAISS", "l2"), ("FAISS", "l1"), ("FAISS", "max_l1")]
)
@course_settings
@given(data=st.data())
def test_nearest_equals_the_stable_sort_where_ties_abound(way, dist, data):
    dimensions = data.draw(st.integers(1, 3))
    query, gallery = data.draw(grids(-2, 2, dimensions)), data.draw(grids(-2, 2, dimensions))
    k = data.draw(st.integers(1, len(gallery)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "FEW", WAYS[way])
        distances, indices = nearest(query, gallery, k, dist)
    expected_distances, expected_indices = naive_nearest(query, gallery, k, dist)
    assert (indices == expected_indices).all()
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)


# Eight directions in the plane, each in three lengths that are powers of two: equal cosines stay equal in float32.
DIRECTIONS = [(x * s, y * s) for x in (-1, 0, 1) for y in (-1, 0, 1) for s in (1, 2, 4) if (x, y) != (0, 0)]
compasses = st.lists(st.sampled_from(DIRECTIONS), min_size=1, max_size=45).map(np.array)


@each_way
@course_settings
@given(query=compasses, gallery=compasses, data=st.data())
def test_nearest_by_cosine_equals_the_stable_sort_where_ties_abound(way, query, gallery, data):
    k = data.draw(st.integers(1, len(gallery)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "FEW", WAYS[way])
        distances, indices = nearest(query, gallery, k, "cos")
    expected_distances, expected_indices = naive_nearest(query, gallery, k, "cos")
    assert (indices == expected_indices).all()
    np.testing.assert_allclose(distances, expected_distances, atol=1e-6)


@each_way
@each_dist
def test_of_a_hundred_duplicates_the_first_come_first(dist, way, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
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
@each_way
def test_far_from_the_origin_no_neighbour_is_lost_to_cancellation(way, dist, dimensions, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
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


def kinds_of_data():
    """Name, queries and gallery; sizes that no number of columns, rows or pieces divides."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(1_309, 24)).astype("float32")
    clusters = normal[rng.integers(0, 7, 1_309)] + 1e-3 * normal
    one_far = normal.copy()
    one_far[500] = 1e4
    return {
        "random": normal,
        "of length 1": normal / np.linalg.norm(normal, axis=1, keepdims=True),
        "in clusters": clusters,
        "every item eight times": np.repeat(normal, 8, axis=0)[:1_309],
        "on a small grid": rng.integers(-1, 2, (1_309, 3)).astype("float32"),
        "all equal": np.full((1_309, 24), 0.1, np.float32),
        "far from the origin": (1000 + 0.01 * normal),
        "with one item far away": one_far,
        "with all queries far away": np.concatenate([normal[:150] + 1000, normal[150:]]),
        "one dimension": normal[:, :1],
        "one item": normal[:151],
        "two items": normal[:152],
    }


def sort_in_float64(query, gallery, k, dist="l2"):
    """Distances in float64, rounded to float32 as they are returned; of equal ones the lower index first."""
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    distances = np.empty((len(query), len(gallery)), np.float32)
    for i, q in enumerate(query):
        differences = np.abs(q - gallery)
        if dist == "l2":
            distances[i] = np.sqrt((differences**2).sum(axis=1))
        else:
            distances[i] = differences.sum(axis=1) if dist == "l1" else differences.max(axis=1)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, axis=1), indices


@pytest.mark.parametrize("k", [1, 10, 300, "all"])
@pytest.mark.parametrize("kind", kinds_of_data())
@each_way
def test_nearest_equals_a_sort_in_float64(way, kind, k, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    points = kinds_of_data()[kind]
    query, gallery = points[:150], points[150:]
    k = len(gallery) if k == "all" else min(k, len(gallery))
    distances, indices = nearest(query, gallery, k)
    expected_distances, expected_indices = sort_in_float64(query, gallery, k)
    np.testing.assert_array_max_ulp(distances, expected_distances, 1)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("way", WAYS)
def test_what_rounding_may_have_moved_is_compared_again(way, monkeypatch):
    """300 items at nearly one distance, far closer to each other than the rough distances can tell."""
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    rng = np.random.default_rng(0)
    around = rng.normal(size=(300, 64))
    around *= (30 + 3e-5 * rng.random((300, 1))) / np.linalg.norm(around, axis=1, keepdims=True)
    gallery = np.concatenate([around, 40 + rng.normal(size=(900, 64))]).astype("float32")
    query = np.zeros((70, 64), np.float32)
    for k in (1, 40, 299):
        expected_distances, expected_indices = sort_in_float64(query, gallery, k)
        assert len(np.unique(expected_distances)) > 1 or k == 1
        distances, indices = nearest(query, gallery, k)
        np.testing.assert_array_equal(indices, expected_indices)
        np.testing.assert_array_equal(distances, expected_distances)


def test_rough_distances_are_as_near_as_the_bound_says(monkeypatch):
    """The items that a query is compared with again are at least those within the bound of the k-th."""
    query, gallery = random_pair(70, 3_000, 100)
    gallery *= np.linspace(1, 30, 3_000, dtype=np.float32)[:, None]
    truth = ((query[:, None].astype(float) - gallery[None]) ** 2).sum(axis=2)  # (70, 3000)
    for who, which, items in retrieval._columns(gallery, 5)(query):
        for i in range(len(who)):
            mine = items[which == i]
            assert len(mine) < 30
            assert set(truth[who[i]].argsort()[:5]) <= set(mine)


def test_what_float32_cannot_tell_apart_is_a_tie():
    assert nearest([[1.0]], [[1.0 + 1e-12], [1.0]], 2)[1].tolist() == [[0, 1]]


def test_cosine_of_nearly_parallel_vectors_is_resolved():
    angles = np.linspace(0, 0.01, 200)
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    distances, indices = nearest(gallery[:1], gallery, 200, "cos")
    assert indices[0].tolist() == list(range(200))
    np.testing.assert_allclose(distances[0], 1 - np.cos(angles), atol=1e-9)


@pytest.mark.parametrize("dist", ["l2", "l1", "max_l1"])
@pytest.mark.parametrize("piece", [25, 700, 3_000])
@each_way
def test_pieces_of_the_gallery_join_without_a_seam(way, piece, dist, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    monkeypatch.setattr(retrieval, "PIECE", piece)
    monkeypatch.setattr(retrieval, "PAIRS", 100)
    monkeypatch.setattr(retrieval, "BLOCK", 30_000)
    points = kinds_of_data()["every item eight times"]
    query, gallery = points[:37], points[:301]
    for k in (1, 40, 301):
        distances, indices = nearest(query, gallery, k, dist)
        expected_distances, expected_indices = sort_in_float64(query, gallery, k, dist)
        np.testing.assert_array_max_ulp(distances, expected_distances, 1)
        np.testing.assert_array_equal(indices, expected_indices)


LARGE = {  # (queries, dimensions) of the queries, of the gallery, k
    "a large gallery": ((100, 64), (250_000, 64), 10),
    "many wanted": ((40, 16), (30_000, 16), 15_000),
    "many dimensions": ((100, 200), (60_000, 200), 10),
}


@pytest.mark.parametrize("threads", [1, 16])
@pytest.mark.parametrize("case", LARGE)
def test_search_holds_less_than_100_mb(case, threads, monkeypatch):
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: threads)
    query_shape, gallery_shape, k = LARGE[case]
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=query_shape), rng.random(gallery_shape)  # float64
    tracemalloc.start()
    nearest(query, gallery, k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    peak -= len(query) * k * 12  # the result
    assert peak < 100e6, f"{peak / 1e6:.0f} MB"


def test_search_among_equals_holds_less_than_100_mb():
    tracemalloc.start()
    nearest(np.zeros((130, 3)), np.zeros((100_000, 3)), 10)  # 13 million ties
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("dist", ["cos", "l1"])
def test_the_other_distances_hold_less_than_100_mb_too(dist):
    gallery = np.random.default_rng(0).normal(size=(250_000, 64))
    tracemalloc.start()
    nearest(gallery[: 2 if dist == "l1" else 40], gallery, 10, dist)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 84e6  # and 16 MB for FAISS's copy


@each_dist
@each_way
def test_ordinary_data_are_compared_again_only_k_times(way, dist, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    compared = []
    distances = retrieval._distances
    monkeypatch.setattr(retrieval, "_distances", lambda *a: compared.append(len(a[2])) or distances(*a))
    query, gallery = random_pair(100, 5_000)
    nearest(query, gallery, 5, dist)
    assert 500 <= sum(compared) < 550


# From any thread, and without touching the settings of others


def test_searches_from_several_threads_do_not_disturb_each_other():
    pairs = [random_pair(200, 3_000, 16, seed) for seed in range(8)]
    expected = [nearest(*pair, 7) for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for found, wanted in zip(pool.map(lambda pair: nearest(*pair, 7), pairs), expected, strict=True):
                np.testing.assert_array_equal(found[0], wanted[0])
                np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize("threads", [1, 3, 64])
def test_result_does_not_depend_on_the_number_of_threads(threads, monkeypatch):
    query, gallery = random_pair(300, 2_000, 16)
    expected = nearest(query, gallery, 7)
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: threads)
    for found, wanted in zip(nearest(query, gallery, 7), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_no_library_is_told_to_use_other_threads_while_a_search_runs():
    def settings():
        return [(x["filepath"], x["num_threads"]) for x in threadpoolctl.threadpool_info()]

    before, seen, done = settings(), [], threading.Event()

    def watch():
        while not done.is_set():
            seen.append(settings())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        query, gallery = random_pair(2_000, 20_000, 32)
        nearest(query, gallery, 10)
    finally:
        done.set()
        watcher.join()
    assert len(seen) > 3
    assert all(found == before for found in seen)
    assert settings() == before


def test_an_error_in_a_thread_reaches_the_caller():
    query, gallery = random_pair(200, 300)
    query[150] = 0
    with pytest.raises(ValueError, match="length 0 has no direction"):
        nearest(query, gallery, 3, "cos")


# Numbers whose squares leave float32's range

each_scale = pytest.mark.parametrize("scale", [1e20, 1e37, 1e-15, 1e-25, 1e-37])


@each_scale
@each_dist
@each_way
def test_nearest_of_very_large_and_very_small_numbers(way, dist, scale, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    query, gallery = (a * np.float32(scale) for a in random_pair(20, 50, 4))
    distances, indices = nearest(query, gallery, 6, dist)
    expected_distances, expected_indices = naive_nearest(
        query.astype(float) / scale, gallery.astype(float) / scale, 6, dist
    )
    assert (indices == expected_indices).all()
    np.testing.assert_allclose(distances / (1 if dist == "cos" else scale), expected_distances, rtol=1e-4)


@each_scale
def test_all_distances_of_very_large_and_very_small_numbers(scale):
    query, gallery = (a * np.float32(scale) for a in random_pair(20, 50, 4))
    for function, dist in ((find_l2_distances, "l2"), (find_cos_distances, "cos")):
        expected = naive_distances(query.astype(float) / scale, gallery.astype(float) / scale, dist)
        result = function(query, gallery)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result / (1 if dist == "cos" else scale), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_float64_has_its_own_range(scale):
    query, gallery = random_pair(dtype="float64")
    np.testing.assert_allclose(
        find_l2_distances(query * scale, gallery * scale) / scale, naive_distances(query, gallery), rtol=1e-9
    )
    expected = naive_distances(query, gallery, "cos")
    np.testing.assert_allclose(find_cos_distances(query * scale, gallery * scale), expected, atol=1e-12)
    distances, _ = nearest(query * scale, gallery * scale, 5, "cos")
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :5], rtol=1e-4)


beyond = (
    "^Some of these distances are too large or too small for {}: divide query and gallery by the same number "
)
beyond += "first.$"


@pytest.mark.parametrize("scale", [1e39, 1e300, 1e-60, 1e-300])
@pytest.mark.parametrize("dist", ["l2", "l1", "max_l1"])
def test_distances_that_float32_cannot_hold_are_refused(dist, scale):
    query, gallery = random_pair(dtype="float64")
    with pytest.raises(ValueError, match=beyond.format("float32")):
        nearest(query * scale, gallery * scale, 3, dist)


def test_distances_that_overflow_although_the_numbers_do_not():
    query, gallery = np.full((1, 64), 3e38, np.float32), np.full((1, 64), -3e38, np.float32)
    for search in (find_l2_distances, lambda q, g: nearest(q, g, 1)):
        with pytest.raises(ValueError, match=beyond.format("float32")):
            search(query, gallery)


@pytest.mark.parametrize(("scale", "dtype"), [(1e20, "float32"), (1e-25, "float32"), (1e200, "float64")])
def test_squared_distances_that_the_type_cannot_hold_are_refused(scale, dtype):
    query, gallery = (a * np.array(scale, dtype) for a in random_pair(dtype=dtype))
    with pytest.raises(ValueError, match=beyond.format(dtype)):
        find_l2_distances(query, gallery, squared=True)


@each_way
def test_one_large_number_does_not_hide_the_small_ones(way, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    gallery = np.array([[1.0], [1e-25], [2e-25], [1e15]], np.float32)
    distances, indices = nearest(np.array([[1.7e-25]], np.float32), gallery, 4)
    assert indices.tolist() == [[2, 1, 0, 3]]
    np.testing.assert_allclose(distances, [[3e-26, 7e-26, 1, 1e15]], rtol=1e-4)


@each_dist
@each_way
def test_scaling_by_a_power_of_two_changes_no_bit(way, dist, monkeypatch):
    monkeypatch.setattr(retrieval, "FEW", WAYS[way])
    query, gallery = random_pair()
    distances, indices = nearest(query, gallery, 5, dist)
    for power in (30, 60, -60):  # within what needs no scaling, and beyond
        scale = np.float32(2.0**power)
        found = nearest(query * scale, gallery * scale, 5, dist)
        assert (found[1] == indices).all()
        assert (found[0] == (distances if dist == "cos" else distances * scale)).all()
        if dist == "l2":
            assert (
                find_l2_distances(query * scale, gallery * scale) == find_l2_distances(query, gallery) * scale
            ).all()


def test_zeros_are_ordinary():
    zeros = np.zeros((3, 2), np.float32)
    assert nearest(zeros, zeros, 2)[1].tolist() == [[0, 1]] * 3
    assert (find_l2_distances(zeros, zeros) == 0).all()


def test_bfloat16_is_taken_as_float32():
    query, gallery = (a.astype(ml_dtypes.bfloat16) for a in random_pair())
    as_float32 = query.astype("float32"), gallery.astype("float32")
    for dist in DISTS:
        for found, expected in zip(
            nearest(query, gallery, 4, dist), nearest(*as_float32, 4, dist), strict=True
        ):
            assert (found == expected).all()
    assert (find_l2_distances(query, gallery) == find_l2_distances(*as_float32)).all()


def test_default_distance_is_l2():
    query, gallery = random_pair()
    for default, l2 in zip(nearest(query, gallery, 5), nearest(query, gallery, 5, "l2"), strict=True):
        assert (default == l2).all()


def test_lists_and_non_contiguous_arrays_are_welcome():
    query, gallery = random_pair()
    expected = nearest(query, gallery, 2)[1]
    for two in (2, np.int64(2), np.uint8(2), np.array(2)):
        assert (nearest(query.tolist(), gallery.tolist(), two)[1] == expected).all()
    wide = np.repeat(gallery, 2, axis=1)
    assert (nearest(query, wide[:, ::2], 2)[1] == expected).all()


# What is refused


@pytest.mark.parametrize("k", [0, -1, 51, 2.0, None, "1", True, np.True_, np.array(2.0), [2], np.array([2])])
def test_k_outside_the_gallery_is_refused(k):
    query, gallery = random_pair()
    message = f"k must be an integer from 1 to the gallery's size, 50; it is {k!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
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


@pytest.mark.parametrize(
    "dtype", ["complex64", "<U3", "S3", "object", "datetime64[s]", "timedelta64[s]", "V4"]
)
@each_search
def test_what_is_no_real_number_is_refused(search, dtype):
    good, odd = np.ones((3, 2)), np.zeros((3, 2), dtype)
    for name, pair in (("query", (odd, good)), ("gallery", (good, odd))):
        message = (
            f"{name} must hold real numbers, not {odd.dtype}: convert it, for instance with "
            f"{name}.astype(np.float32)."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            search(*pair)


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
