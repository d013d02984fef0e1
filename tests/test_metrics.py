import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import REFERENCE

from helpers.metrics import (
    map_at_r,
    nearest_others,
    neighbour_labels,
    r_precision,
    recall_at_k,
    recall_at_kappa_leave_one_out,
    recall_at_kappa_support_query,
)

METRICS = [recall_at_k, r_precision, map_at_r]
each_metric = pytest.mark.parametrize("metric", METRICS)
course_settings = settings(deadline=None, derandomize=True, max_examples=30, database=None)


def random_sets(seed=0, n=25, m=40, classes=4, dimensions=3):
    rng = np.random.default_rng(seed)
    query_labels, gallery_labels = rng.integers(0, classes, n), rng.integers(0, classes, m)
    centres = rng.normal(size=(classes, dimensions))
    query = centres[query_labels] + rng.normal(size=(n, dimensions))
    gallery = centres[gallery_labels] + rng.normal(size=(m, dimensions))
    return query.astype("float32"), query_labels, gallery.astype("float32"), gallery_labels


# The same metrics as loops, in float64.


def rankings(query, query_labels, gallery=None, gallery_labels=None):
    """For each query: is the first answer of its class, the second, …; of equal distances the lower index first."""
    leave_one_out = gallery is None
    gallery, gallery_labels = (query, query_labels) if leave_one_out else (gallery, gallery_labels)
    query, gallery = np.asarray(query, float).tolist(), np.asarray(gallery, float).tolist()
    for i, (q, label) in enumerate(zip(query, query_labels, strict=True)):
        others = [j for j in range(len(gallery)) if not (leave_one_out and j == i)]
        others.sort(key=lambda j: (sum((a - b) ** 2 for a, b in zip(q, gallery[j], strict=True)), j))
        yield [bool(gallery_labels[j] == label) for j in others]


def naive_recall(k, *sets):
    return np.mean([any(hits[:k]) for hits in rankings(*sets)])


def naive_r_precision(*sets):
    return np.mean([sum(hits[: sum(hits)]) / sum(hits) for hits in rankings(*sets) if any(hits)])


def naive_map_at_r(*sets):
    values = []
    for hits in rankings(*sets):
        r = sum(hits)
        if r:
            values.append(sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r)
    return np.mean(values)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_metrics_equal_loops(leave_one_out, seed):
    sets = random_sets(seed)[: 2 if leave_one_out else 4]
    assert recall_at_k(*sets, k=(1, 3, 10)) == pytest.approx({k: naive_recall(k, *sets) for k in (1, 3, 10)})
    assert r_precision(*sets) == pytest.approx(naive_r_precision(*sets))
    assert map_at_r(*sets) == pytest.approx(naive_map_at_r(*sets))


@pytest.mark.parametrize("dist", ["l2", "cos", "l1", "max_l1"])
@pytest.mark.parametrize("mode", ["gallery", "leave-one-out"])
def test_metrics_equal_pytorch_metric_learning(mode, dist):
    reference = REFERENCE["metrics"]
    names = (
        ["query", "query_labels", "gallery", "gallery_labels"]
        if mode == "gallery"
        else ["gallery", "gallery_labels"]
    )
    sets = [np.array(reference[name]) for name in names]
    expected = reference["results"][dist][mode]
    recalls = recall_at_k(*sets, k=(1, 5), dist=dist)
    assert recalls == pytest.approx({1: expected["recall_at_1"], 5: expected["recall_at_5"]})
    if dist == "l2":
        assert r_precision(*sets) == pytest.approx(expected["r_precision"])
        assert map_at_r(*sets) == pytest.approx(expected["mean_average_precision_at_r"])


# Worked by hand, on a line


def test_metrics_against_a_gallery_by_hand():
    gallery, gallery_labels = np.array([[1.0], [2.0], [3.0], [4.0], [9.0]]), np.array([1, 0, 0, 1, 0])
    query, query_labels = np.array([[0.0], [10.0]]), np.array([0, 1])
    sets = (query, query_labels, gallery, gallery_labels)
    # Query 0 (class 0, R = 3) meets 1 0 0 1 0: hits at 2 and 3. Query 10 (class 1, R = 2) meets 0 1 0 0 1: a hit at 2.
    assert recall_at_k(*sets, k=(1, 2)) == {1: 0.0, 2: 1.0}
    assert r_precision(*sets) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert map_at_r(*sets) == pytest.approx(((1 / 2 + 2 / 3) / 3 + (1 / 2) / 2) / 2)


def test_metrics_leave_one_out_by_hand():
    points, labels = np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 1, 0, 1])
    # Without themselves: 0 meets 1 3 7 = miss hit miss; 1 meets 0 3 7 = miss miss hit; 3 meets 1 0 7 = miss hit miss;
    # 7 meets 3 1 0 = miss hit miss. R = 1 for each.
    assert recall_at_k(points, labels, k=(1, 2, 3)) == {1: 0.0, 2: 0.75, 3: 1.0}
    assert r_precision(points, labels) == 0
    assert map_at_r(points, labels) == 0
    points[1] = 20  # now 0 and 3 find each other and 20 finds 7, but 7 finds 3
    assert recall_at_k(points, labels, k=1) == {1: 0.75}
    assert r_precision(points, labels) == map_at_r(points, labels) == 0.75


def test_map_at_r_rewards_order_and_r_precision_does_not():
    gallery = np.array([[1.0], [2.0], [3.0], [90.0], [91.0]])
    query, query_labels = np.array([[0.0]]), np.array([7])
    early, late = np.array([7, 1, 1, 7, 7]), np.array([1, 1, 7, 7, 7])
    assert r_precision(query, query_labels, gallery, early) == r_precision(query, query_labels, gallery, late)
    assert map_at_r(query, query_labels, gallery, early) == pytest.approx(1 / 3)
    assert map_at_r(query, query_labels, gallery, late) == pytest.approx(1 / 9)


def test_perfect_retrieval_scores_1():
    labels = np.repeat([0, 1, 2], [2, 5, 9])
    points = 100.0 * labels[:, None]
    for sets in ((points, labels), (points, labels, points, labels)):
        assert recall_at_k(*sets) == {1: 1.0, 5: 1.0, 10: 1.0}
        assert r_precision(*sets) == map_at_r(*sets) == 1


def test_class_that_the_gallery_lacks_is_a_miss_for_recall_and_left_out_of_the_others():
    gallery, gallery_labels = np.array([[0.0], [1.0]]), np.array([0, 0])
    query, query_labels = np.array([[0.0], [0.5], [1.0], [2.0]]), np.array([0, 5, 0, 6])
    sets = (query, query_labels, gallery, gallery_labels)
    assert recall_at_k(*sets, k=2) == {2: 0.5}
    assert r_precision(*sets) == map_at_r(*sets) == 1


def test_singleton_class_leave_one_out():
    points, labels = np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1])
    assert recall_at_k(points, labels, k=1) == pytest.approx({1: 2 / 3})
    assert r_precision(points, labels) == map_at_r(points, labels) == 1


def test_gallery_with_the_queries_in_it_finds_them():
    points, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 2])
    assert recall_at_k(points, labels, points, labels, k=1) == {1: 1.0}
    assert recall_at_k(points, labels, k=1) == {1: 0.0}


# Leave-one-out removes the query by index, also where duplicates tie with it


def test_duplicate_of_another_class_is_not_taken_for_the_query():
    points, labels = np.array([[0.0], [0.0], [9.0], [9.5]]), np.array([0, 1, 0, 1])
    # Dropping the first answer as "self" would leave the second query with itself, a hit.
    assert recall_at_k(points, labels, k=1) == {1: 0.0}
    assert nearest_others(points, 1)[1].tolist() == [[1], [0], [3], [2]]


@course_settings
@given(coordinates=st.lists(st.integers(0, 4), min_size=2, max_size=40), data=st.data())
def test_nearest_others_equals_the_naive_sort_where_duplicates_abound(coordinates, data):
    points = np.array(coordinates, float)[:, None]
    k = data.draw(st.integers(1, len(points) - 1))
    distances, indices = nearest_others(points, k)
    for i in range(len(points)):
        others = sorted((abs(points[i, 0] - points[j, 0]), j) for j in range(len(points)) if j != i)
        assert indices[i].tolist() == [j for _, j in others[:k]]
        assert distances[i].tolist() == [d for d, _ in others[:k]]


def test_nearest_others_passes_the_distance_on():
    points = np.array([[3.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    assert nearest_others(points, 1, "l1")[1].tolist() == [[2], [2], [1]]
    assert nearest_others(points, 2, "max_l1")[0][0].tolist() == [2, 3]
    distances, indices = nearest_others(points, 2)
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)
    assert distances.shape == indices.shape == (3, 2)


# Properties


@course_settings
@given(seed=st.integers(0, 10_000), leave_one_out=st.booleans())
def test_recall_never_falls_as_k_grows(seed, leave_one_out):
    sets = random_sets(seed, n=12, m=11)[: 2 if leave_one_out else 4]
    recalls = recall_at_k(*sets, k=range(1, 12))
    assert list(recalls) == list(range(1, 12))
    values = list(recalls.values())
    assert values == sorted(values)
    assert 0 <= values[0] <= values[-1] <= 1


@course_settings
@given(places=st.sets(st.integers(-50, 50), min_size=10, max_size=30), seed=st.integers(0, 10_000))
def test_permutation_of_the_gallery_changes_no_metric(places, seed):
    """The gallery lies on different whole numbers and the queries a quarter beside one: no two distances tie.

    Where two did, the lower index would come first, and the order of the gallery would matter.
    """
    rng = np.random.default_rng(seed)
    gallery = np.array(sorted(places), float)[:, None]
    gallery_labels = rng.integers(0, 3, len(gallery))
    query, query_labels = rng.integers(-50, 50, (8, 1)) + 0.25, rng.choice(gallery_labels, 8)
    order = rng.permutation(len(gallery))
    for metric in METRICS:
        before = metric(query, query_labels, gallery, gallery_labels)
        after = metric(query, query_labels, gallery[order], gallery_labels[order])
        assert after == pytest.approx(before)


@each_metric
def test_permutation_of_the_items_changes_no_metric_leave_one_out(metric):
    points, labels, _, _ = random_sets(n=30)  # random real numbers, without ties
    order = np.random.default_rng(1).permutation(30)
    assert metric(points[order], labels[order]) == pytest.approx(metric(points, labels))


@each_metric
def test_new_names_for_the_classes_change_no_metric(metric):
    query, query_labels, gallery, gallery_labels = random_sets()
    names = np.array([70, -3, 12, 5])
    expected = metric(query, query_labels, gallery, gallery_labels)
    assert metric(query, names[query_labels], gallery, names[gallery_labels]) == expected


# Arguments


@each_metric
def test_labels_may_be_a_column(metric):
    query, query_labels, gallery, gallery_labels = random_sets()
    expected = metric(query, query_labels, gallery, gallery_labels)
    assert metric(query, query_labels[:, None], gallery, gallery_labels[:, None]) == expected
    assert metric(query, query_labels[:, None]) == metric(query, query_labels.tolist())


@each_metric
@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", "float16", "float32", "float64"])
def test_labels_may_be_whole_numbers_of_any_type(metric, dtype):
    query, query_labels, gallery, gallery_labels = random_sets()
    expected = metric(query, query_labels, gallery, gallery_labels)
    assert metric(query, query_labels.astype(dtype), gallery, gallery_labels) == expected
    assert metric(query, query_labels, gallery, gallery_labels.astype(dtype)) == expected


@each_metric
def test_booleans_are_0_and_1(metric):
    query, query_labels, gallery, gallery_labels = random_sets(classes=2)
    expected = metric(query, query_labels, gallery, gallery_labels)
    assert metric(query, query_labels.astype(bool), gallery, gallery_labels) == expected
    assert metric(query, query_labels == 1, gallery, gallery_labels == 1) == expected


@pytest.mark.parametrize(
    ("query_type", "gallery_type"), [("uint64", "int64"), ("int64", "uint64"), ("float64", "uint64")]
)
def test_large_labels_are_told_apart(query_type, gallery_type):
    base = 2**53 - 2 if "float" in query_type else 2**62
    numbers = [base, base + 1, base + 2]
    query, gallery = np.eye(3), np.eye(3)[[1, 0, 2]]
    query_labels, gallery_labels = np.array(numbers, query_type), np.array(numbers, gallery_type)
    assert recall_at_k(query, query_labels, gallery, gallery_labels, k=1)[1] == pytest.approx(1 / 3)
    assert map_at_r(query, query_labels, gallery, gallery_labels) == pytest.approx(1 / 3)


def test_k_may_be_one_number_or_several():
    sets = random_sets()
    assert list(recall_at_k(*sets, k=np.array(2))) == list(recall_at_k(*sets, k=iter([2]))) == [2]
    assert nearest_others(sets[0], np.array(2))[1].shape == (25, 2)
    assert list(recall_at_k(*sets)) == [1, 5, 10]
    assert list(recall_at_k(*sets, k=3)) == list(recall_at_k(*sets, k=np.int64(3))) == [3]
    assert list(recall_at_k(*sets, k=[7, 2])) == [7, 2]
    assert recall_at_k(*sets, k=[7, 2])[2] == recall_at_k(*sets, k=2)[2]
    for key, value in recall_at_k(*sets, k=np.array([2])).items():
        assert (type(key), type(value)) == (int, float)


@each_metric
def test_result_is_plain_python(metric):
    result = metric(*random_sets())
    assert type(result) in (float, dict)


def test_neighbour_labels_follow_the_distance():
    query, query_labels = np.array([[3.0, 0.0]]), np.array([[4]])
    gallery, gallery_labels = np.array([[0.0, 0.5], [4.5, 1.6]]), np.array([1, 2])
    for dist, expected in (("l2", [2, 1]), ("max_l1", [2, 1]), ("l1", [2, 1]), ("cos", [2, 1])):
        labels, answers = neighbour_labels(query, query_labels, gallery, gallery_labels, 2, dist)
        assert (labels.tolist(), answers.tolist()) == ([4], [expected])


def test_recall_uses_the_distance_that_is_asked_for():
    query, query_labels = np.array([[0.0, 0.0]]), np.array([1])
    gallery, gallery_labels = np.array([[2.0, 2.0], [3.0, 0.0], [2.5, 1.0]]), np.array([1, 2, 3])
    by_dist = {
        dist: recall_at_k(query, query_labels, gallery, gallery_labels, 1, dist)[1]
        for dist in ("l2", "l1", "max_l1")
    }
    assert by_dist == {"l2": 0, "l1": 0, "max_l1": 1}
    points, labels = np.concatenate([query, gallery]), np.array([1, 1, 2, 3])
    assert recall_at_k(points[:3], labels[:3], k=1, dist="max_l1")[1] == pytest.approx(2 / 3)


# The earlier repository's names


def test_kappa_support_query_takes_the_gallery_first():
    query, query_labels, gallery, gallery_labels = random_sets()
    recalls = recall_at_kappa_support_query(gallery, gallery_labels, query, query_labels, kappa=6)
    assert recalls.shape == (6,)
    expected = [naive_recall(k, query, query_labels, gallery, gallery_labels) for k in range(1, 7)]
    np.testing.assert_allclose(recalls, expected)


def test_kappa_leave_one_out():
    query, query_labels, _, _ = random_sets()
    recalls = recall_at_kappa_leave_one_out(query, query_labels, kappa=6)
    assert recalls.shape == (6,)
    np.testing.assert_allclose(recalls, [naive_recall(k, query, query_labels) for k in range(1, 7)])


def test_kappa_is_1_and_the_distance_l2_by_default():
    query, query_labels, gallery, gallery_labels = random_sets()
    supports = (gallery, gallery_labels, query, query_labels)
    assert recall_at_kappa_support_query(*supports) == recall_at_kappa_support_query(*supports, 1, "l2")
    assert recall_at_kappa_leave_one_out(query, query_labels) == recall_at_kappa_leave_one_out(
        query, query_labels, 1, "l2"
    )
    assert (
        recall_at_kappa_support_query(*supports).shape
        == recall_at_kappa_leave_one_out(*supports[:2]).shape
        == (1,)
    )


def test_kappa_functions_pass_the_distance_on():
    query, query_labels = np.array([[0.0, 0.0]]), np.array([1])
    gallery, gallery_labels = np.array([[2.0, 2.0], [3.0, 0.0]]), np.array([1, 2])
    assert recall_at_kappa_support_query(gallery, gallery_labels, query, query_labels, dist="l1") == 0
    assert recall_at_kappa_support_query(gallery, gallery_labels, query, query_labels, dist="max_l1") == 1
    points, labels = np.array([[0.0, 0.0], [2.0, 2.0], [3.0, 0.0]]), np.array([1, 1, 2])
    assert recall_at_kappa_leave_one_out(points, labels, dist="l1") == 0
    assert recall_at_kappa_leave_one_out(points, labels, dist="max_l1") == pytest.approx(2 / 3)


# What is refused


@pytest.mark.parametrize("k", [0, -1, (), (1, 0), [5, -2]])
def test_k_below_1_is_refused(k):
    with pytest.raises(ValueError, match=r"^K must be 1 or more, not "):
        recall_at_k(*random_sets(), k=k)


@pytest.mark.parametrize("k", ["1", "12", True, 1.0, (1.0, 2.0), None, np.array(1.0), [None], [[1, 2]]])
def test_k_that_is_no_whole_number_is_refused(k):
    message = re.escape(f"K must be a whole number or several, not {k!r}.")
    with pytest.raises(ValueError, match=f"^{message}$"):
        recall_at_k(*random_sets(), k=k)
    if not isinstance(k, (tuple, list)):
        message = re.escape(f"so k cannot be {k!r}.")
        with pytest.raises(ValueError, match=f"{message}$"):
            nearest_others(random_sets()[0], k)


@each_metric
@pytest.mark.parametrize(
    ("odd", "what"),
    [
        (np.array(["a", "b"]), "<U1"),
        (np.array(["0", "1"]), "<U1"),
        (np.array([b"a", b"b"]), "|S1"),
        (np.array([0, "b"], object), "object"),
        (np.array([0, 1], object), "object"),
        (np.array([2**64, 2**65]), "object"),
        (np.array([0, 1j]), "complex128"),
        (np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), "datetime64[D]"),
        (np.array([0.0, np.nan]), "nan"),
        (np.array([0.0, np.inf]), "inf"),
        (np.array([0.0, 0.5]), "0.5"),
        (np.array([0, 2**24 + 2], np.float32), "16777218.0"),
        (np.array([0, -(2.0**53) - 2]), "-9007199254740994.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "labels",
)
def test_labels_that_are_no_whole_numbers_are_refused(metric, odd, what):
    points, fine, odd = np.arange(12.0)[:, None], np.arange(12) % 2, np.tile(odd, 6)
    cure = "number the classes of query and gallery together, with np.unique(labels, return_inverse=True)[1]."
    for name, sets in (
        ("query", (points, odd)),
        ("query", (points, odd, points, fine)),
        ("gallery", (points, fine, points, odd)),
        ("query", (points, odd[:, None], points, odd)),
    ):
        message = f"{name}'s labels must be whole numbers, not {what}: {cure}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            metric(*sets)
    # What the message says helps.
    numbers = np.unique(odd.astype(str), return_inverse=True)[1]
    assert metric(points, numbers, points, numbers)


def test_k_beyond_the_gallery_is_refused():
    query, query_labels, gallery, gallery_labels = random_sets()
    with pytest.raises(
        ValueError, match=r"^k must be an integer from 1 to the gallery's size, 40; it is 41.$"
    ):
        recall_at_k(query, query_labels, gallery, gallery_labels, k=(1, 41))
    assert recall_at_k(query, query_labels, k=24)[24] == 1
    with pytest.raises(
        ValueError, match=r"^Leave-one-out, each item has 24 others to find, so k cannot be 25.$"
    ):
        recall_at_k(query, query_labels, k=25)
    with pytest.raises(ValueError, match="so k cannot be 0"):
        nearest_others(query, 0)
    for few in (0, 1):
        with pytest.raises(ValueError, match=rf"^Leave-one-out needs two embeddings or more, not {few}\.$"):
            nearest_others(query[:few], 1)


@each_metric
def test_labels_must_fit_the_embeddings(metric):
    query, query_labels, gallery, gallery_labels = random_sets()
    message = r"^query has 25 rows, so its labels must have shape \(25,\), not \(24,\).$"
    with pytest.raises(ValueError, match=message):
        metric(query, query_labels[1:], gallery, gallery_labels)
    message = r"^gallery has 40 rows, so its labels must have shape \(40,\), not \(39,\).$"
    with pytest.raises(ValueError, match=message):
        metric(query, query_labels, gallery, gallery_labels[1:])
    with pytest.raises(ValueError, match=r"^query has 25 rows, .* not \(25, 2\).$"):
        metric(query, np.stack([query_labels] * 2, axis=1))
    with pytest.raises(ValueError, match=r"^gallery has 40 rows, .* not \(\).$"):
        metric(query, query_labels, gallery)


@each_metric
def test_gallery_labels_without_a_gallery_are_refused(metric):
    query, query_labels, _, gallery_labels = random_sets()
    message = "^There are gallery_labels but no gallery: give both, or neither for leave-one-out.$"
    with pytest.raises(ValueError, match=message):
        metric(query, query_labels, None, gallery_labels)


@each_metric
def test_nan_is_refused(metric):
    query, query_labels, gallery, gallery_labels = random_sets()
    query[3, 1] = np.nan
    with pytest.raises(ValueError, match="query contains NaN or infinity"):
        metric(query, query_labels, gallery, gallery_labels)
    with pytest.raises(ValueError, match="contains NaN or infinity"):
        metric(query, query_labels)


@each_metric
def test_empty_sets_are_refused(metric):
    query, query_labels, gallery, gallery_labels = random_sets()
    message = "is empty|No query has an item|needs two embeddings or more"
    with pytest.raises(ValueError, match=message):
        metric(query[:0], query_labels[:0], gallery, gallery_labels)
    with pytest.raises(ValueError, match=message):
        metric(query, query_labels, gallery[:0], gallery_labels[:0])
    with pytest.raises(ValueError, match=message):
        metric(query[:1], query_labels[:1])


@pytest.mark.parametrize("metric", [r_precision, map_at_r])
def test_queries_without_any_right_answer_are_refused(metric):
    points = np.arange(4.0)[:, None]
    message = "^No query has an item of its own class to find.$"
    with pytest.raises(ValueError, match=message):
        metric(points, np.arange(4))
    with pytest.raises(ValueError, match=message):
        metric(points, np.zeros(4, int), points, np.ones(4, int))
