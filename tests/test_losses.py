import contextlib
import json
import math
from itertools import product

import keras
import numpy as np
import pytest
from keras import ops
from numeric import REFERENCE, numpy, value_and_gradient

from helpers import losses
from helpers.losses import (
    ArcFaceLoss,
    BatchAllTripletLoss,
    BatchHardTripletLoss,
    ContrastiveLoss,
    CosFaceLoss,
    CosineProxies,
    MultiSimilarityLoss,
    NormalisedSoftmaxLoss,
    ProxyAnchorLoss,
    SemiHardTripletLoss,
    SupConLoss,
    TripletLoss,
    cosines,
    log_one_plus_sum_exp,
    pair_masks,
    pairwise_distances,
    safe_sqrt,
    shares_of_mean,
)
from helpers.sampling import BalancedBatches

IN_BATCH = [BatchAllTripletLoss, SemiHardTripletLoss, BatchHardTripletLoss]
ALL = [TripletLoss, *IN_BATCH]
MARGINS = [0.2, 1.0, "soft"]

each_in_batch = pytest.mark.parametrize("loss_class", IN_BATCH)
each_loss = pytest.mark.parametrize("loss_class", ALL)
each_margin = pytest.mark.parametrize("margin", MARGINS)
squared_or_not = pytest.mark.parametrize("squared", [False, True])


def random_batch(seed=0, size=12, dimensions=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, size), rng.normal(size=(size, dimensions)).astype("float32").astype("float64")


# The same losses as loops over pairs and triplets, in float64.


def distance(a, b, squared):
    d2 = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return d2 if squared else math.sqrt(d2)


def penalty(difference, margin):
    return math.log1p(math.exp(difference)) if margin == "soft" else max(difference + margin, 0.0)


def mean(values):
    return sum(values) / len(values) if values else 0.0


def positives_and_negatives(labels, a):
    positives = [i for i in range(len(labels)) if labels[i] == labels[a] and i != a]
    negatives = [i for i in range(len(labels)) if labels[i] != labels[a]]
    return positives, negatives


def naive_penalties(loss_class, labels, embeddings, margin, squared):
    """(anchor, penalty) of every triplet that the loss selects."""

    def d(i, j):
        return distance(embeddings[i], embeddings[j], squared)

    penalties = []
    for a in range(len(labels)):
        positives, negatives = positives_and_negatives(labels, a)
        if not positives or not negatives:
            continue
        if loss_class is BatchAllTripletLoss:
            triplets = [(d(a, p), d(a, n)) for p in positives for n in negatives]
        elif loss_class is BatchHardTripletLoss:
            triplets = [(max(d(a, p) for p in positives), min(d(a, n) for n in negatives))]
        else:
            triplets = []
            for p in positives:
                farther = [d(a, n) for n in negatives if d(a, n) > d(a, p)]
                triplets.append((d(a, p), min(farther) if farther else max(d(a, n) for n in negatives)))
        penalties += [
            (a, penalty(to_positive - to_negative, margin)) for to_positive, to_negative in triplets
        ]
    if loss_class is BatchAllTripletLoss:
        penalties = [(a, x) for a, x in penalties if x > 0]
    return penalties


def naive_loss(loss_class, labels, embeddings, margin, squared):
    return mean([x for _, x in naive_penalties(loss_class, labels, embeddings, margin, squared)])


@pytest.mark.parametrize("seed", range(3))
@squared_or_not
@each_margin
@each_in_batch
def test_in_batch_loss_equals_loops(loss_class, margin, squared, seed):
    labels, embeddings = random_batch(seed)
    result = numpy(loss_class(margin, squared)(labels, embeddings))
    assert result == pytest.approx(naive_loss(loss_class, labels, embeddings, margin, squared), rel=1e-5)


@squared_or_not
@each_margin
@each_in_batch
def test_each_anchor_carries_its_share(loss_class, margin, squared):
    labels, embeddings = random_batch(3)
    penalties = naive_penalties(loss_class, labels, embeddings, margin, squared)
    shares = [
        sum(x for a, x in penalties if a == i) * len(labels) / len(penalties) for i in range(len(labels))
    ]
    result = numpy(loss_class(margin, squared).call(labels, embeddings))
    assert result.shape == (len(labels),)
    np.testing.assert_allclose(result, shares, rtol=1e-4, atol=1e-6)


def cubic_loss(loss_class, labels, embeddings, margin, squared):
    """All B × B × B triplets at once: the same losses as formulas that autodiff can follow, for the gradient."""
    distances = pairwise_distances(embeddings, squared)
    positive, negative = pair_masks(labels)
    to_positive, to_negative = distances[:, :, None], distances[:, None, :]
    if loss_class is BatchAllTripletLoss:
        penalties = ops.relu(to_positive - to_negative + margin)
        penalties = ops.where(positive[:, :, None] & negative[:, None, :], penalties, 0.0)
        return ops.sum(penalties) / ops.cast(ops.sum(penalties > 0), "float32")
    farther = negative[:, None, :] & (to_negative > to_positive)
    nearest = ops.min(ops.where(farther, to_negative, float("inf")), axis=2)
    farthest = ops.max(ops.where(negative, distances, 0.0), axis=1)[:, None]
    penalties = ops.relu(distances - ops.where(ops.any(farther, axis=2), nearest, farthest) + margin)
    return ops.sum(ops.where(positive, penalties, 0.0)) / ops.cast(ops.sum(positive), "float32")


@pytest.mark.parametrize("margin", [0, 0.2, 1.0])
@squared_or_not
@pytest.mark.parametrize("loss_class", [BatchAllTripletLoss, SemiHardTripletLoss])
def test_value_and_gradient_equal_all_triplets_at_once(loss_class, squared, margin):
    labels, embeddings = random_batch(size=60)
    value, gradient = value_and_gradient(lambda x: loss_class(margin, squared)(labels, x), embeddings)
    expected = value_and_gradient(lambda x: cubic_loss(loss_class, labels, x, margin, squared), embeddings)
    assert value == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("margin", [0, 1.0])
@squared_or_not
@pytest.mark.parametrize("seed", range(5))
def test_ties_are_not_active(seed, squared, margin):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 30)
    embeddings = rng.integers(0, 4, (30, 1)).astype("float64")  # many coincide
    value, gradient = value_and_gradient(
        lambda x: BatchAllTripletLoss(margin, squared)(labels, x), embeddings
    )
    expected, expected_gradient = value_and_gradient(
        lambda x: cubic_loss(BatchAllTripletLoss, labels, x, margin, squared), embeddings
    )
    naive = naive_loss(BatchAllTripletLoss, labels, embeddings, margin, squared)
    assert value == pytest.approx(expected) == pytest.approx(naive)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
    semi_hard = SemiHardTripletLoss(margin, squared)(labels, embeddings)
    assert numpy(semi_hard) == pytest.approx(
        naive_loss(SemiHardTripletLoss, labels, embeddings, margin, squared)
    )


@pytest.mark.parametrize("loss_class", [BatchAllTripletLoss, SemiHardTripletLoss])
def test_a_large_batch_needs_no_cubic_memory(loss_class):
    size, margin = 3000, 0.5  # 27 thousand million triplets: 100 GB
    rng = np.random.default_rng(0)
    labels, points = rng.integers(0, 300, size), rng.normal(size=(size, 1))
    penalties = []
    for a in range(size):
        distances = abs(points[:, 0] - points[a, 0])
        negatives = np.sort(distances[labels != labels[a]])
        for d in distances[(labels == labels[a]) & (np.arange(size) != a)]:
            nearer = np.searchsorted(negatives, d + margin)
            if loss_class is BatchAllTripletLoss:
                penalties.append((nearer, (d + margin) * nearer - negatives[:nearer].sum()))
            else:
                i = np.searchsorted(negatives, d, side="right")
                penalties.append((1, max(d + margin - negatives[min(i, len(negatives) - 1)], 0)))
    counts, sums = np.sum(penalties, axis=0)
    value, gradient = value_and_gradient(lambda x: loss_class(margin)(labels, x), points)
    assert value == pytest.approx(sums / counts, rel=1e-3)
    assert np.isfinite(gradient).all()


@each_in_batch
def test_a_nan_is_not_hidden(loss_class):
    labels, embeddings = random_batch()
    embeddings[0] = np.nan
    assert np.isnan(numpy(loss_class()(labels, embeddings)))


@squared_or_not
@each_margin
def test_explicit_loss_equals_loops(margin, squared):
    triplets = np.random.default_rng(0).normal(size=(7, 3, 4)).astype("float32")
    expected = [
        penalty(distance(a, p, squared) - distance(a, n, squared), margin)
        for a, p, n in triplets.astype("float64")
    ]
    loss = TripletLoss(margin, squared)
    np.testing.assert_allclose(numpy(loss.call(None, triplets)), expected, rtol=1e-5, atol=1e-6)
    assert numpy(loss(np.zeros(7), triplets)) == pytest.approx(mean(expected), rel=1e-5)


@pytest.mark.parametrize(
    "case", REFERENCE["losses"]["cases"], ids=lambda c: f"{c['loss']}-{c['margin']}-squared={c['squared']}"
)
def test_value_and_gradient_equal_pytorch_metric_learning(case):
    is_explicit = case["loss"] == "TripletLoss"
    points = np.array(REFERENCE["losses"]["triplets" if is_explicit else "embeddings"])
    labels = np.zeros(len(points)) if is_explicit else np.array(REFERENCE["losses"]["labels"])
    loss = getattr(losses, case["loss"])(case["margin"], case["squared"])
    value, gradient = value_and_gradient(lambda x: loss(labels, x), points)
    assert value == pytest.approx(case["value"], rel=1e-5)
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-4, atol=1e-5)


# Worked by hand: four points on a line, two of class 0 at 0 and 1, two of class 1 at 3 and 7.

LINE_LABELS = np.array([0, 0, 1, 1])
LINE = np.array([[0.0], [1.0], [3.0], [7.0]])


@pytest.mark.parametrize(
    ("loss_class", "expected"),
    [
        # d(a, p) − d(a, n) + 2: anchor 0 → 1 − 3 + 2 = 0, 1 − 7 + 2 < 0; anchor 1 → 1 − 2 + 2 = 1, 1 − 6 + 2 < 0;
        # anchor 3 → 4 − 3 + 2 = 3, 4 − 2 + 2 = 4; anchor 7 → 4 − 7 + 2 < 0, 4 − 6 + 2 = 0. Active are 1, 3 and 4.
        (BatchAllTripletLoss, 8 / 3),
        # The nearest negative is farther for anchors 0 (0), 1 (1) and 7 (0); anchor 3 has none, its farthest gives 3.
        (SemiHardTripletLoss, 4 / 4),
        # Nearest negatives: 0, 1, 4, 0.
        (BatchHardTripletLoss, 5 / 4),
    ],
)
def test_four_points_on_a_line(loss_class, expected):
    assert numpy(loss_class(margin=2.0)(LINE_LABELS, LINE)) == pytest.approx(expected)


def test_a_single_active_triplet_is_the_mean():
    labels, points = np.array([0, 0, 1]), np.array([[0.0], [1.0], [2.5]])
    # Anchor 0: 1 − 2.5 + 1 < 0; anchor 1: 1 − 1.5 + 1 = 0.5.
    assert numpy(BatchAllTripletLoss(margin=1.0)(labels, points)) == pytest.approx(0.5)


def test_explicit_triplet_by_hand():
    triplet = np.array([[[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]])  # d(a, p) = 5, d(a, n) = 10
    assert numpy(TripletLoss(margin=7.0)(np.zeros(1), triplet)) == pytest.approx(2.0)
    assert numpy(TripletLoss(margin=80.0, squared=True)(np.zeros(1), triplet)) == pytest.approx(25 - 100 + 80)
    assert numpy(TripletLoss(margin=4.0)(np.zeros(1), triplet)) == 0


def test_default_margin_is_a_fifth_of_plain_distance():
    triplet = np.array([[[0.0], [2.0], [2.0]]])
    assert numpy(TripletLoss()(np.zeros(1), triplet)) == pytest.approx(0.2)
    far = np.array([[[0.0], [3.0], [3.1]]])  # plain: 3 − 3.1 + 0.2; squared: 9 − 9.61 + 0.2 < 0
    assert numpy(TripletLoss()(np.zeros(1), far)) == pytest.approx(0.1, rel=1e-4)


def test_margin_zero_is_a_margin():
    triplet = np.array([[[0.0], [2.0], [1.0]]])
    assert numpy(TripletLoss(margin=0)(np.zeros(1), triplet)) == pytest.approx(1.0)


# Labels


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@each_in_batch
def test_label_shape_and_dtype_make_no_difference(loss_class, shape, dtype):
    labels, embeddings = random_batch()
    loss = loss_class()
    expected = numpy(loss(labels, embeddings))
    assert expected > 0
    assert numpy(loss(labels.reshape(shape).astype(dtype), embeddings)) == expected
    assert numpy(loss.call(labels.reshape(shape).astype(dtype), embeddings)).shape == (len(labels),)


def test_pair_masks_by_hand():
    positive, negative = pair_masks(np.array([[5.0], [7.0], [5.0]]))
    assert ops.convert_to_numpy(positive).tolist() == [
        [False, False, True],
        [False] * 3,
        [True, False, False],
    ]
    assert ops.convert_to_numpy(negative).tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]


def test_labels_that_float32_cannot_tell_apart_differ():
    _, negative = pair_masks(np.array([16_777_216, 16_777_217]))
    assert ops.convert_to_numpy(negative).tolist() == [[False, True], [True, False]]


@each_in_batch
def test_singleton_class_is_a_negative_only(loss_class):
    labels = np.array([0, 0, 1])  # the only triplets are (0, 1, 2) and (1, 0, 2)
    embeddings = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    expected = (1 - 1 + 2 + max(0, 1 - math.sqrt(2) + 2)) / 2
    assert numpy(loss_class(margin=2.0)(labels, embeddings)) == pytest.approx(expected)


# Batches without triplets, ties, coinciding embeddings


@pytest.mark.parametrize(
    "labels", [[1, 1, 1, 1], [0, 1, 2, 3], [4]], ids=["one class", "all different", "one image"]
)
@squared_or_not
@each_margin
@each_in_batch
def test_batch_without_triplets_gives_zero(loss_class, margin, squared, labels):
    embeddings = np.random.default_rng(0).normal(size=(len(labels), 3))
    value, gradient = value_and_gradient(
        lambda x: loss_class(margin, squared)(np.array(labels), x), embeddings
    )
    assert value == 0
    assert (gradient == 0).all()


@squared_or_not
@pytest.mark.parametrize("margin", [0.2, "soft"])
@each_in_batch
def test_gradient_is_finite_where_embeddings_coincide(loss_class, margin, squared):
    labels = np.array([0, 0, 1, 1, 2])
    embeddings = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    value, gradient = value_and_gradient(lambda x: loss_class(margin, squared)(labels, x), embeddings)
    assert value == pytest.approx(naive_loss(loss_class, labels, embeddings, margin, squared), rel=1e-5)
    assert np.isfinite(gradient).all()


@squared_or_not
@pytest.mark.parametrize("margin", [0.2, "soft"])
def test_gradient_of_explicit_triplets_is_finite_where_they_coincide(margin, squared):
    triplets = np.array(
        [[[1.0, 2.0]] * 3, [[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]], [[0.0, 1.0], [5.0, 5.0], [0.0, 1.0]]]
    )
    _, gradient = value_and_gradient(lambda x: TripletLoss(margin, squared)(np.zeros(3), x), triplets)
    assert np.isfinite(gradient).all()
    assert (gradient[0] == 0).all()
    assert (gradient[2] != 0).any()


@each_in_batch
def test_collapsed_batch_sits_at_the_margin_or_at_ln_2(loss_class):
    labels, embeddings = np.array([0, 0, 1, 1, 2, 2]), np.ones((6, 4))
    assert numpy(loss_class(0.3)(labels, embeddings)) == pytest.approx(0.3)
    assert numpy(loss_class("soft")(labels, embeddings)) == pytest.approx(math.log(2))


def test_semi_hard_negative_must_be_strictly_farther():
    labels = np.array([0, 0, 1, 1])
    embeddings = np.array([[0.0], [1.0], [-1.0], [4.0]])
    # Anchor 0: the positive is at 1, the negatives are at 1 (a tie, not farther) and 4: max(1 − 4 + 2, 0) = 0.
    # Anchor 1: positive 1, negatives 2 and 3: 1 − 2 + 2 = 1. The others: positive 5; negatives 1, 2 and 4, 3, none
    # farther, so the farthest: 5 − 2 + 2 = 5 and 5 − 4 + 2 = 3.
    assert numpy(SemiHardTripletLoss(2.0).call(labels, embeddings)).tolist() == pytest.approx([0, 1, 5, 3])


def test_batch_hard_takes_the_positive_beyond_every_negative():
    labels = np.array([0, 0, 0, 1])
    embeddings = np.array([[0.0], [1.0], [10.0], [3.0]])
    # d(a, p) − d(a, n): 10 − 3, 9 − 2, 10 − 7; the singleton has no positive. The mean runs over three of four.
    expected = [7 * 4 / 3, 7 * 4 / 3, 3 * 4 / 3, 0]
    assert numpy(BatchHardTripletLoss(0.0).call(labels, embeddings)).tolist() == pytest.approx(expected)


# Distances


@squared_or_not
def test_pairwise_distances_equal_loops(squared):
    _, embeddings = random_batch(size=9, dimensions=5)
    expected = [[distance(a, b, squared) for b in embeddings] for a in embeddings]
    np.testing.assert_allclose(numpy(pairwise_distances(embeddings, squared)), expected, rtol=1e-4, atol=2e-3)


def test_pairwise_distances_are_plain_by_default():
    assert numpy(pairwise_distances(np.array([[0.0, 0.0], [3.0, 4.0]]))).tolist() == [[0, 5], [5, 0]]


def test_distances_are_never_negative():
    nearly_equal = 100 + 1e-5 * np.random.default_rng(0).normal(size=(50, 64))
    assert numpy(pairwise_distances(nearly_equal, squared=True)).min() >= 0
    assert np.isfinite(numpy(pairwise_distances(nearly_equal))).all()


def test_pairwise_distance_and_gradient_are_zero_where_embeddings_coincide():
    embeddings = np.array([[3.0, 4.0], [3.0, 4.0]])
    value, gradient = value_and_gradient(lambda x: ops.sum(pairwise_distances(x)), embeddings)
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [3, 1000])
def test_distances_far_from_the_origin_are_as_near_it(offset, unit):
    rng = np.random.default_rng(0)
    embeddings = ((rng.normal(size=(40, 16)) + offset) * unit).astype("float32")
    expected = np.array([[distance(a, b, False) for b in embeddings.astype("float64")] for a in embeddings])
    np.testing.assert_allclose(numpy(pairwise_distances(embeddings)), expected, rtol=1e-5)


def test_gradient_far_from_the_origin_is_as_near_it():
    labels, embeddings = random_batch(1)
    embeddings = np.round(embeddings * 64) / 64  # whole sixty-fourths, which stay exact a thousand away
    for loss_class in IN_BATCH:
        near = value_and_gradient(lambda x, c=loss_class: c()(labels, x), embeddings)
        far = value_and_gradient(lambda x, c=loss_class: c()(labels, x), embeddings + 1000)
        assert far[0] == pytest.approx(near[0], rel=1e-5)
        np.testing.assert_allclose(far[1], near[1], atol=1e-5)


def test_equal_rows_of_a_whole_batch_are_exactly_zero_apart():
    rows = np.random.default_rng(0).normal(size=(60, 64)).astype("float32")
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distances = numpy(pairwise_distances(np.concatenate([rows, rows])))
    assert np.diag(distances).max() == np.diag(distances, 60).max() == 0


def test_safe_sqrt_and_its_gradient():
    value, gradient = value_and_gradient(lambda x: ops.sum(safe_sqrt(x)), np.array([0.0, 0.25, 1.0, 16.0]))
    assert value == 0 + 0.5 + 1 + 4
    assert gradient.tolist() == [0, 1, 0.5, 0.125]


# bfloat16


@each_loss
def test_bfloat16_embeddings_lose_no_more_than_their_rounding(loss_class):
    labels, embeddings = random_batch(size=12, dimensions=8)
    embeddings = embeddings + 3  # far from the origin, where ‖a‖² + ‖b‖² − 2 a·b cancels
    if loss_class is TripletLoss:
        labels, embeddings = np.zeros(4), embeddings.reshape(4, 3, 8)
    rounded = ops.cast(embeddings, "bfloat16")
    for loss in (loss_class(), loss_class(dtype="bfloat16")):
        result = loss.call(labels, rounded)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        np.testing.assert_array_equal(numpy(result), numpy(loss.call(labels, ops.cast(rounded, "float32"))))
        assert np.isfinite(numpy(loss(labels, rounded)))


@each_loss
def test_bfloat16_gradient_is_finite(loss_class):
    labels, embeddings = np.array([0, 0, 1, 1]), np.array([[1.0, 2.0], [1.0, 2.0], [0.5, 1.0], [1.0, 2.0]])
    if loss_class is TripletLoss:
        embeddings = np.stack([embeddings] * 3, axis=1)
    value, gradient = value_and_gradient(lambda x: loss_class("soft")(labels, x), embeddings, "bfloat16")
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


# Arguments, saving


@pytest.mark.parametrize("margin", [-0.1, "hard", None, True, float("nan"), float("inf"), np.ones(2)])
def test_bad_margin_is_refused(margin):
    with pytest.raises(ValueError, match=r"^margin must be a number ≥ 0 or 'soft', not "):
        TripletLoss(margin)


@each_loss
def test_config_restores_the_loss(loss_class):
    loss = loss_class("soft", squared=True, name="my_loss", reduction="sum")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is loss_class
    assert copy.get_config() == loss.get_config()
    assert (copy.margin, copy.squared, copy.name, copy.reduction) == ("soft", True, "my_loss", "sum")
    assert keras.saving.get_registered_name(loss_class) == f"metric_learning>{loss_class.__name__}"


@pytest.mark.parametrize(("loss_class", "margin", "squared"), list(product(IN_BATCH, [0.4, "soft"], [True])))
def test_compiled_model_survives_save_and_load(loss_class, margin, squared, tmp_path):
    labels, images = random_batch()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile("sgd", loss_class(margin, squared))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.loss.get_config() == model.loss.get_config()
    expected = naive_loss(
        loss_class, labels, model.predict(images, verbose=0).astype("float64"), margin, squared
    )
    assert loaded.test_on_batch(images, labels) == pytest.approx(expected, rel=1e-4)


@each_in_batch
def test_training_lowers_the_loss(loss_class):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 5)
    points = rng.normal(size=(4, 6))[labels] + rng.normal(size=(20, 6))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.05), loss_class(1.0))
    history = [float(model.train_on_batch(points, labels[:, None])) for _ in range(20)]
    assert history[-1] < 0.9 * history[0]


# Losses over pairs and over proxies

PAIR_LOSSES = [ContrastiveLoss, MultiSimilarityLoss, SupConLoss]
PROXY_LOSSES = [NormalisedSoftmaxLoss, CosFaceLoss, ArcFaceLoss, ProxyAnchorLoss]
PAIR_SETTINGS = [
    (ContrastiveLoss, {}),
    (ContrastiveLoss, {"positive_margin": 1.0, "negative_margin": 2.5}),
    (MultiSimilarityLoss, {}),
    (MultiSimilarityLoss, {"alpha": 3, "beta": 8.0, "base": 0.1, "epsilon": 0.1}),
    (SupConLoss, {}),
    (SupConLoss, {"temperature": 0.7}),
]
PROXY_SETTINGS = [
    (NormalisedSoftmaxLoss, {}),
    (NormalisedSoftmaxLoss, {"temperature": 0.7}),
    (CosFaceLoss, {}),
    (CosFaceLoss, {"scale": 5.0, "margin": 0.1}),
    (ArcFaceLoss, {}),
    (ArcFaceLoss, {"scale": 5.0, "margin": 2.0}),  # so wide that most angles pass 180°
    (ProxyAnchorLoss, {}),
    (ProxyAnchorLoss, {"scale": 5.0, "margin": 0.3}),
]
CLASSES = 6  # random_batch has the classes 0 to 3: two proxies have no image

each_pair_loss = pytest.mark.parametrize("loss_class", PAIR_LOSSES)
each_proxy_loss = pytest.mark.parametrize("loss_class", PROXY_LOSSES)
each_setting = pytest.mark.parametrize(("loss_class", "settings"), PAIR_SETTINGS + PROXY_SETTINGS)


each_in_batch_or_setting = pytest.mark.parametrize(
    ("loss_class", "settings"), [(loss_class, {}) for loss_class in IN_BATCH] + PAIR_SETTINGS + PROXY_SETTINGS
)


def random_input(loss_class, seed=0):
    """Labels, and what the loss takes: embeddings or cosines."""
    labels, embeddings = random_batch(seed)
    if loss_class in IN_BATCH + PAIR_LOSSES:
        return labels, embeddings
    rng = np.random.default_rng(seed)
    return labels, rng.uniform(-1, 1, (len(labels), CLASSES)).astype("float32").astype("float64")


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


def naive_contrastive(labels, embeddings, positive_margin=0.0, negative_margin=1.0):
    pull, push = [], []
    for a in range(len(labels)):
        positives, negatives = positives_and_negatives(labels, a)
        pull += [distance(embeddings[a], embeddings[p], False) - positive_margin for p in positives]
        push += [negative_margin - distance(embeddings[a], embeddings[n], False) for n in negatives]
    return mean([x for x in pull if x > 0]) + mean([x for x in push if x > 0])


def naive_multi_similarity(labels, embeddings, alpha=2, beta=50, base=0.5, epsilon=None):
    values = []
    for a in range(len(labels)):
        positives, negatives = (
            [cosine(embeddings[a], embeddings[i]) for i in indices]
            for indices in positives_and_negatives(labels, a)
        )
        if epsilon is not None:
            positives, negatives = (
                [p for p in positives if negatives and p - epsilon < max(negatives)],
                [n for n in negatives if positives and n + epsilon > min(positives)],
            )
        pull = math.log(1 + sum(math.exp(-alpha * (p - base)) for p in positives)) / alpha
        values.append(pull + math.log(1 + sum(math.exp(beta * (n - base)) for n in negatives)) / beta)
    return mean(values)


def naive_supcon(labels, embeddings, temperature=0.1):
    values = []
    for a in range(len(labels)):
        positives, negatives = positives_and_negatives(labels, a)
        if positives and negatives:
            weight = [math.exp(cosine(embeddings[a], x) / temperature) for x in embeddings]
            total = sum(weight) - weight[a]
            values.append(mean([-math.log(weight[p] / total) for p in positives]))
    return mean(values)


def cross_entropy(logits, label):
    return math.log(sum(math.exp(x - logits[label]) for x in logits))


def naive_normalised_softmax(labels, cosines_, temperature=0.05):
    return mean(
        [cross_entropy([c / temperature for c in row], y) for y, row in zip(labels, cosines_, strict=True)]
    )


def naive_cosface(labels, cosines_, scale=64, margin=0.35):
    return mean(
        [
            cross_entropy([scale * (c - margin * (j == y)) for j, c in enumerate(row)], y)
            for y, row in zip(labels, cosines_, strict=True)
        ]
    )


def naive_arcface(labels, cosines_, scale=64, margin=0.5):
    def widened(c):
        angle = math.acos(c)
        return math.cos(angle + margin) if angle + margin <= math.pi else c - margin * math.sin(margin)

    return mean(
        [
            cross_entropy([scale * (widened(c) if j == y else c) for j, c in enumerate(row)], y)
            for y, row in zip(labels, cosines_, strict=True)
        ]
    )


def naive_proxy_anchor(labels, cosines_, scale=32, margin=0.1):
    pull, push = [], []
    for j in range(len(cosines_[0])):
        own = [row[j] for y, row in zip(labels, cosines_, strict=True) if y == j]
        others = [row[j] for y, row in zip(labels, cosines_, strict=True) if y != j]
        if own:
            pull.append(math.log(1 + sum(math.exp(-scale * (c - margin)) for c in own)))
        push.append(math.log(1 + sum(math.exp(scale * (c + margin)) for c in others)))
    return mean(pull) + mean(push)


NAIVE = {
    ContrastiveLoss: naive_contrastive,
    MultiSimilarityLoss: naive_multi_similarity,
    SupConLoss: naive_supcon,
    NormalisedSoftmaxLoss: naive_normalised_softmax,
    CosFaceLoss: naive_cosface,
    ArcFaceLoss: naive_arcface,
    ProxyAnchorLoss: naive_proxy_anchor,
}


@pytest.mark.parametrize("seed", range(3))
@each_setting
def test_metric_loss_equals_loops(loss_class, settings, seed):
    labels, x = random_input(loss_class, seed)
    expected = NAIVE[loss_class](labels, x, **settings)
    assert expected > 0
    assert numpy(loss_class(**settings)(labels, x)) == pytest.approx(expected, rel=1e-5)


def case_name(case):
    return "-".join([case["loss"], *(f"{name}={value}" for name, value in case["settings"].items())])


@pytest.mark.parametrize("case", REFERENCE["metric_losses"]["cases"], ids=case_name)
def test_metric_loss_and_gradients_equal_pytorch_metric_learning(case):
    embeddings, labels, proxies = (
        np.array(REFERENCE["metric_losses"][name]) for name in ("embeddings", "labels", "proxies")
    )
    loss_class = getattr(losses, case["loss"])
    loss = loss_class(**case["settings"])
    if loss_class in PAIR_LOSSES:
        value, gradient = value_and_gradient(lambda x: loss(labels, x), embeddings)
    else:
        layer = CosineProxies(len(proxies))
        layer.build(embeddings.shape)
        layer.set_weights([proxies])
        value, gradient = value_and_gradient(lambda x: loss(labels, layer(x)), embeddings)
        fixed = ops.convert_to_tensor(embeddings, "float32")
        _, of_proxies = value_and_gradient(lambda w: loss(labels, cosines(fixed, w)), proxies)
        np.testing.assert_allclose(of_proxies, case["proxies_gradient"], rtol=1e-4, atol=2e-5)
    assert value == pytest.approx(case["value"], rel=1e-5)
    np.testing.assert_allclose(gradient, case["gradient"], rtol=1e-4, atol=2e-5)


def test_reference_holds_every_loss_and_an_angle_beyond_180_degrees():
    reference = REFERENCE["metric_losses"]
    assert {case["loss"] for case in reference["cases"]} == {loss_class.__name__ for loss_class in NAIVE}
    assert cosine(reference["embeddings"][0], reference["proxies"][reference["labels"][0]]) < -math.cos(0.5)


# Worked by hand


def test_contrastive_loss_on_a_line():
    # Pairs in both directions. Positives at 1 and 4: mean 2.5. Negatives at 3, 7, 2, 6: with a margin of 5, 2 and 3.
    assert numpy(ContrastiveLoss(negative_margin=5.0)(LINE_LABELS, LINE)) == pytest.approx(2.5 + 2.5)
    # Positives beyond 2: 4 − 2 = 2 alone. Negatives below 2.5: 2 alone.
    assert numpy(ContrastiveLoss(2.0, 2.5)(LINE_LABELS, LINE)) == pytest.approx(2 + 0.5)
    assert numpy(ContrastiveLoss(2.0, 2.5).call(LINE_LABELS, LINE)).tolist() == pytest.approx([0, 1, 5, 4])


def test_supcon_of_four_points_on_a_circle():
    points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    # From anchor 0, at τ = 1: its positive at cosine 0, the others at −1 and 0.
    expected = math.log(1 + math.exp(-1) + 1)
    assert numpy(SupConLoss(1.0).call([0, 0, 1, 1], points)).tolist() == pytest.approx([expected] * 4)


def test_multi_similarity_miner_drops_the_easy_pairs():
    angles = np.radians([0.0, 10.0, 20.0, 170.0, 180.0])  # two groups, far apart
    points, labels = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([0, 0, 0, 1, 1])
    assert numpy(MultiSimilarityLoss()(labels, points)) > 0.1
    assert numpy(MultiSimilarityLoss(epsilon=0.1)(labels, points)) == 0


def test_margins_make_the_softmax_harder():
    labels, x = np.array([0]), np.array([[0.5, 0.5]])
    assert numpy(NormalisedSoftmaxLoss(1.0)(labels, x)) == pytest.approx(math.log(2))
    assert numpy(CosFaceLoss(1, 0.35)(labels, x)) == pytest.approx(math.log(1 + math.exp(0.35)))
    expected = math.log(1 + math.exp(0.5 - math.cos(math.pi / 3 + 0.5)))  # cos 60° = 0.5
    assert numpy(ArcFaceLoss(1, 0.5)(labels, x)) == pytest.approx(expected)


def test_without_margin_the_three_softmax_losses_are_one():
    labels, x = random_input(ArcFaceLoss)
    expected = numpy(NormalisedSoftmaxLoss(1 / 64)(labels, x))
    assert numpy(CosFaceLoss(64, 0)(labels, x)) == pytest.approx(expected, rel=1e-5)
    assert numpy(ArcFaceLoss(64, 0)(labels, x)) == pytest.approx(expected, rel=1e-5)


def test_arcface_rises_all_the_way_to_the_opposite_point():
    angles = np.radians(np.arange(0, 181, 5))
    x = np.stack([np.cos(angles), np.zeros(len(angles))], axis=1)
    per_image = numpy(ArcFaceLoss(4, 0.5).call(np.zeros(len(angles)), x))
    assert (np.diff(per_image) > 0).all()


def test_proxy_anchor_by_hand():
    x = np.array([[1.0, 0.0, -1.0], [1.0, 0.0, -1.0]])
    # At scale 1 and margin 0. Proxy 0 owns both images, at cosine 1; the others own none, two are at 0, two at −1.
    expected = math.log(1 + 2 * math.exp(-1)) + (0 + math.log(1 + 2) + math.log(1 + 2 * math.exp(-1))) / 3
    assert numpy(ProxyAnchorLoss(1, 0).call([0, 0], x)).tolist() == pytest.approx([expected] * 2)


# Labels, batches that lack something, and the ends of the scale


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@each_setting
def test_label_shape_and_dtype_make_no_difference_to_a_metric_loss(loss_class, settings, shape, dtype):
    labels, x = random_input(loss_class)
    loss = loss_class(**settings)
    expected = numpy(loss(labels, x))
    assert numpy(loss(labels.reshape(shape).astype(dtype), x)) == expected
    result = loss.call(labels.reshape(shape).astype(dtype), x)
    assert numpy(result).shape == (len(labels),)
    assert numpy(result).mean() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [4]], ids=["all different", "one image"])
@each_setting
def test_a_batch_without_positives_gives_no_nan(loss_class, settings, labels):
    _, x = random_input(loss_class)
    x = x[: len(labels)]
    value, gradient = value_and_gradient(lambda x: loss_class(**settings)(np.array(labels), x), x)
    assert value == pytest.approx(NAIVE[loss_class](labels, x, **settings), rel=1e-5)
    assert np.isfinite(gradient).all()
    if loss_class is SupConLoss or "epsilon" in settings or (loss_class in PAIR_LOSSES and len(labels) == 1):
        assert value == 0
        assert (gradient == 0).all()


@pytest.mark.parametrize("epsilon", [None, 0.1])
@each_pair_loss
def test_positives_alone_are_pulled_together_or_ignored(loss_class, epsilon):
    _, embeddings = random_batch()
    loss = loss_class() if epsilon is None else MultiSimilarityLoss(epsilon=epsilon)
    value, gradient = value_and_gradient(lambda x: loss(np.zeros(len(embeddings)), x), embeddings)
    assert np.isfinite(gradient).all()
    is_ignored = loss_class is SupConLoss or epsilon is not None
    assert (value == 0) == is_ignored
    assert (gradient == 0).all() == is_ignored


@each_setting
def test_gradient_is_finite_where_embeddings_coincide_or_are_zero(loss_class, settings):
    labels = np.array([0, 0, 1, 1, 2, 2])
    embeddings = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [0.0, 0.0]])
    proxies = ops.convert_to_tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]], "float32")
    loss = loss_class(**settings)
    value, gradient = value_and_gradient(
        lambda x: loss(labels, x if loss_class in PAIR_LOSSES else cosines(x, proxies)), embeddings
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("value", [1.0, -1.0, 1 - 2**-24, -1 + 2**-24, 1 + 2**-23, -1 - 2**-23])
@each_proxy_loss
def test_gradient_is_finite_at_both_ends_of_the_cosine(loss_class, value):
    for labels in (np.array([0, 1]), np.array([1, 0])):
        x = np.array([[value, 0.3], [0.3, value]])
        loss, gradient = value_and_gradient(lambda x, y=labels: loss_class()(y, x), x)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def test_extreme_settings_do_not_overflow():
    labels, embeddings = random_batch()
    loss = MultiSimilarityLoss(alpha=1000, beta=1000, base=0)
    value, gradient = value_and_gradient(lambda x: loss(labels, x), embeddings)
    # Only the largest term counts: about 1 for the pull, 1 for the push.
    assert 0.5 < value < 2.1
    assert np.isfinite(gradient).all()
    value, _ = value_and_gradient(lambda x: SupConLoss(1e-3)(labels, x), embeddings)
    assert np.isfinite(value)


@pytest.mark.parametrize("dtype", ["int64", "float32"])
@pytest.mark.parametrize("label", [-1, 2, 7 + 2**20])
@each_proxy_loss
def test_a_label_without_a_proxy_is_an_error(loss_class, label, dtype):
    labels = np.array([0, label, 1]).astype(dtype)
    message = rf"^With 2 proxies, labels must lie in 0 … 1\. Some are not, such as {label}\. Number the classes from 0"
    for given in (labels, labels[:, None], ops.convert_to_tensor(labels)):
        with pytest.raises(ValueError, match=message):
            loss_class()(given, np.array([[0.1, 0.2]] * 3))


@each_proxy_loss
def test_labels_from_one_to_c_are_not_learnt_from_silently(loss_class):
    """What `load_benchmark` may hand out, in a compiled training: an error, or a loss that nobody overlooks."""
    model = metric_model(loss_class, 3)
    points = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
    try:
        values = model.fit(points, np.arange(12) % CLASSES + 1, verbose=0).history["loss"]
    except Exception as error:
        assert "labels must lie in 0 … 5" in str(error) or "valid range" in str(error)
    else:
        assert np.isnan(values).all()


@each_setting
def test_one_hot_labels_are_an_error(loss_class, settings):
    labels, x = random_input(loss_class)
    message = r"^Labels must be class numbers \(B,\) or \(B, 1\), not \(.*6\)\. If they are one-hot, give np\.argmax\("
    with pytest.raises(ValueError, match=message):
        loss_class(**settings)(np.eye(CLASSES)[labels], x)
    model = metric_model(loss_class, 3, settings)
    with pytest.raises(ValueError, match=r"If they are one-hot, give np\.argmax\(labels, axis=1\)"):
        model.fit(random_batch()[1], np.eye(CLASSES)[labels], verbose=0)


@each_in_batch_or_setting
def test_labels_and_embeddings_must_be_as_many(loss_class, settings):
    labels, x = random_input(loss_class)
    for count in (1, 11):  # a single label would be spread over all
        with pytest.raises(
            ValueError, match=rf"^12 embeddings but {count} labels: give one label for each\.$"
        ):
            loss_class(**settings)(labels[:count], x)


@each_in_batch_or_setting
def test_labels_that_are_no_numbers_are_an_error(loss_class, settings):
    _, x = random_input(loss_class)
    with pytest.raises(ValueError, match=r"^Labels must be integers, not <U1"):
        loss_class(**settings)(np.array(list("aabbccddeeff")), x)


# Labels stay what they are, by every door

HAS_INT64 = keras.backend.standardize_dtype(ops.convert_to_tensor(np.zeros(1, np.int64)).dtype) == "int64"
LARGE = {
    "2²⁴ …": np.array([0, 1, 2, 3]) + 2**24,
    "negative": np.array([-(2**24) - 1, -(2**24), 2**24, 2**24 + 1]),
    "uint32": np.array([2**31, 2**31 + 1, 2**32 - 1, 0], np.uint32),
}
VERY_LARGE = {
    "shop items": np.array([111085122871, 111085122872, 5, 6]),
    "7 and 7 + 2³²": np.array([7, 7 + 2**32, 5, 6]),
    "above 2⁵³": np.array([0, 1, 2, 3]) + 2**53,
    "uint64": np.array([2**64 - 1, 2**64 - 2, 0, 1], np.uint64),
}
each_pairs_loss = pytest.mark.parametrize("loss_class", IN_BATCH + PAIR_LOSSES)
UNIT_ROWS = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
UNIT_ROWS /= np.linalg.norm(UNIT_ROWS, axis=1, keepdims=True)
FOUR_CLASSES = np.repeat(np.arange(4), 2)


def naive_value(loss_class, embeddings=UNIT_ROWS):
    embeddings = embeddings.astype("float64")
    if loss_class in IN_BATCH:
        return naive_loss(loss_class, FOUR_CLASSES, embeddings, 0.2, False)
    return NAIVE[loss_class](FOUR_CLASSES, embeddings)


def unchanged_network(loss_class, **options):
    """A network that hands its input on, and trains nothing."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Identity()])
    model.compile("sgd", loss_class(), **options)
    return model


@pytest.mark.parametrize("name", [*LARGE, *VERY_LARGE])
@each_pairs_loss
def test_large_labels_are_told_apart_when_called_evaluated_and_trained(loss_class, name):
    labels = {**LARGE, **VERY_LARGE}[name][FOUR_CLASSES]
    too_large = pytest.raises(
        ValueError, match=r"^On this backend labels must fit into 32 bits\. Number the classes"
    )
    if (
        name in VERY_LARGE and name != "uint64" and not HAS_INT64
    ):  # those of uint64 are −1 and −2 in signed integers
        with too_large:
            loss_class()(labels, UNIT_ROWS)
        return
    expected = pytest.approx(naive_value(loss_class), rel=1e-5)
    assert numpy(loss_class()(labels, UNIT_ROWS)) == expected
    if labels.max() < 2**63:  # NumPy itself makes floats of a list that goes on beyond
        with contextlib.nullcontext() if HAS_INT64 or labels.max() < 2**31 else too_large:
            assert numpy(loss_class()(labels.tolist(), UNIT_ROWS)) == expected
    assert numpy(loss_class().call(labels, UNIT_ROWS)).mean() == expected
    model = unchanged_network(loss_class)
    if name == "uint64" and keras.backend.backend() == "torch":  # Keras says so before a loss sees them
        with pytest.raises(ValueError, match="Unsupported dtype for PyTorch: uint64"):
            model.evaluate(UNIT_ROWS, labels, verbose=0)
        return
    assert model.evaluate(UNIT_ROWS, labels, verbose=0) == expected
    history = model.fit(UNIT_ROWS, labels[:, None], batch_size=8, verbose=0).history
    assert history["loss"] == [expected]


def test_large_labels_are_told_apart_in_balanced_batches():
    name = "shop items" if HAS_INT64 else "2²⁴ …"
    labels = {**LARGE, **VERY_LARGE}[name][FOUR_CLASSES]
    batches = BalancedBatches(UNIT_ROWS, labels, 4, 2, batches=1)
    model = unchanged_network(BatchHardTripletLoss)
    expected = pytest.approx(naive_value(BatchHardTripletLoss), rel=1e-5)
    assert model.evaluate(batches, verbose=0) == expected
    assert model.fit(batches, verbose=0).history["loss"] == [expected]


@each_pairs_loss
def test_labels_are_told_apart_where_everything_else_is_bfloat16(loss_class):
    rounded = numpy(ops.cast(UNIT_ROWS, "bfloat16"))
    expected = pytest.approx(
        naive_value(loss_class, rounded), rel=0.03
    )  # Keras takes the mean in bfloat16, too
    before = keras.config.floatx()
    keras.config.set_floatx("bfloat16")
    try:
        for labels in (FOUR_CLASSES, FOUR_CLASSES + 256):  # 256 … 259: in bfloat16, 256 is 257
            assert numpy(loss_class()(labels, UNIT_ROWS)) == expected
    finally:
        keras.config.set_floatx(before)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.array([2.0**24, 1.0], "float32"), "float32"),
        (np.array([0.5, 1.0], "float32"), "float32"),
        (np.array([np.nan, 1.0], "float32"), "float32"),
        (np.array([np.inf, 1.0], "float32"), "float32"),
        (np.array([2048, 1], "float16"), "float16"),
    ],
)
@each_pairs_loss
def test_floats_that_may_have_merged_classes_are_refused(loss_class, labels, dtype):
    message = f"^Labels in {dtype} must be whole numbers, and below [0-9,]+ to be told apart\\. Some are not, such as"
    for given in (labels, labels[:, None], ops.convert_to_tensor(labels)):
        with pytest.raises(ValueError, match=message):
            loss_class()(given, UNIT_ROWS[:2])


def test_floats_that_may_have_merged_classes_are_not_learnt_from_silently():
    model = unchanged_network(BatchHardTripletLoss)
    for labels, is_nan in ((FOUR_CLASSES, False), (FOUR_CLASSES + 2**24, True), (FOUR_CLASSES / 2, True)):
        try:
            assert np.isnan(model.evaluate(UNIT_ROWS, labels.astype("float32"), verbose=0)) == is_nan
        except ValueError as error:  # PyTorch sees the values
            assert is_nan and "must be whole numbers" in str(error)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "bool", "float64"])
@each_pairs_loss
def test_small_labels_may_have_any_dtype(loss_class, dtype):
    labels = (FOUR_CLASSES % 2).astype(dtype)
    assert numpy(loss_class()(labels, UNIT_ROWS)) == numpy(loss_class()(FOUR_CLASSES % 2, UNIT_ROWS))


def test_more_proxies_than_a_label_of_one_byte_can_name():
    cosines_ = np.random.default_rng(0).uniform(-1, 1, (4, 600))
    labels = np.array([0, 3, 200, 255])
    for loss_class in PROXY_LOSSES:
        expected = pytest.approx(NAIVE[loss_class](labels, cosines_), rel=1e-4)
        assert numpy(loss_class()(labels.astype("uint8"), cosines_)) == expected


@each_in_batch_or_setting
def test_sample_weights_and_reduction_are_those_of_keras(loss_class, settings):
    labels, x = random_input(loss_class)
    weights = np.linspace(0, 2, len(labels)).astype("float32")
    each = numpy(loss_class(**settings).call(labels, x))  # (B,)
    assert numpy(loss_class(**settings, reduction="none")(labels, x)).tolist() == pytest.approx(
        each, rel=1e-6
    )
    assert numpy(loss_class(**settings, reduction="sum")(labels, x)) == pytest.approx(each.sum(), rel=1e-5)
    weighted = numpy(loss_class(**settings)(labels, x, sample_weight=weights))
    assert weighted == pytest.approx((each * weights).mean(), rel=1e-5)


def test_a_mask_of_keras_leaves_images_out():
    labels, x = random_batch()
    tensor = ops.convert_to_tensor(x, "float32")
    keep = np.arange(len(labels)) % 3 > 0
    tensor._keras_mask = ops.convert_to_tensor(keep)
    each = numpy(SupConLoss().call(labels, tensor))
    assert numpy(SupConLoss()(labels, tensor)) == pytest.approx(each[keep].mean(), rel=1e-5)


# NumPy numbers


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: BatchHardTripletLoss(margin=np.float32(0.25)), "margin", 0.25),
        (lambda: TripletLoss(margin=np.int64(1)), "margin", 1),
        (lambda: SupConLoss(temperature=np.float32(0.5)), "temperature", 0.5),
        (lambda: ArcFaceLoss(scale=np.int64(64)), "scale", 64),
        (lambda: MultiSimilarityLoss(epsilon=np.float64(0.1)), "epsilon", 0.1),
        (lambda: CosineProxies(np.array([0, 1, 2]).max() + 1), "classes", 3),
    ],
)
def test_numpy_numbers_are_numbers_and_can_be_saved(make, name, value):
    made = make()
    config = json.loads(json.dumps(made.get_config()))
    assert config[name] == getattr(made, name) == value
    assert type(made).from_config(config).get_config() == made.get_config()


def test_explicit_loss_refuses_what_is_no_triplet():
    for shape in ((6, 4), (6, 2, 4)):
        with pytest.raises(
            ValueError, match=r"^TripletLoss takes anchors, positives and negatives, \(B, 3, d\), not"
        ):
            TripletLoss()(np.zeros(6), np.ones(shape))


# Parts


def test_cosines_equal_loops_and_ignore_length():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    expected = [[cosine(x, y) for y in b] for x in a]
    np.testing.assert_allclose(numpy(cosines(a, b)), expected, atol=1e-6)
    np.testing.assert_allclose(numpy(cosines(100 * a, 0.01 * b)), expected, atol=1e-6)
    assert numpy(cosines(np.zeros((1, 3)), b)).tolist() == [[0] * 5]


def test_log_one_plus_sum_exp():
    x, mask = np.array([[0.0, 1.0, 5.0], [500.0, 500.0, 0.0], [1.0, 2.0, 3.0]]), np.eye(3) > 2
    mask[0, :2] = mask[1] = True
    expected = [math.log(1 + 1 + math.e), 500 + math.log(2), 0]
    assert numpy(log_one_plus_sum_exp(x, mask, axis=1)).tolist() == pytest.approx(expected)
    assert numpy(log_one_plus_sum_exp(x.T, mask.T, axis=0)).tolist() == pytest.approx(expected)


def test_shares_of_mean():
    values = keras.ops.convert_to_tensor([1.0, 2.0, 6.0, 7.0])
    shares = numpy(shares_of_mean(values, np.array([True, False, True, True])))
    assert shares.tolist() == pytest.approx([4 / 3, 0, 8, 28 / 3])
    assert shares.mean() == pytest.approx(14 / 3)
    assert numpy(shares_of_mean(values, np.zeros(4, bool))).tolist() == [0, 0, 0, 0]


# bfloat16


@each_setting
def test_bfloat16_input_of_a_metric_loss_loses_no_more_than_its_rounding(loss_class, settings):
    labels, x = random_input(loss_class)
    rounded = ops.cast(x, "bfloat16")
    for loss in (loss_class(**settings), loss_class(**settings, dtype="bfloat16")):
        result = loss.call(labels, rounded)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        np.testing.assert_array_equal(numpy(result), numpy(loss.call(labels, ops.cast(rounded, "float32"))))
    value, gradient = value_and_gradient(lambda x: loss_class(**settings)(labels, x), x, "bfloat16")
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.fixture
def mixed_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_proxies_and_cosines_are_float32_under_mixed_precision(mixed_bfloat16, tmp_path):
    _, embeddings = random_batch()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), CosineProxies(CLASSES)])
    model.save(tmp_path / "model.keras")
    for network in (model, keras.saving.load_model(tmp_path / "model.keras")):
        dense, layer = network.layers
        assert (dense.compute_dtype, layer.compute_dtype, layer.proxies.dtype) == (
            "bfloat16",
            "float32",
            "float32",
        )
        result = network(embeddings)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        exact = cosines(dense(embeddings), layer.proxies)
        np.testing.assert_array_equal(numpy(result), numpy(exact))


# The layer, arguments, saving, training


def test_cosine_proxies():
    keras.utils.set_random_seed(0)
    _, embeddings = random_batch(dimensions=64)
    layer = CosineProxies(500)
    result = numpy(layer(embeddings))
    assert result.shape == (12, 500)
    assert layer.compute_output_shape((None, 64)) == (None, 500)
    assert [tuple(weight.shape) for weight in layer.trainable_weights] == [(500, 64)]
    proxies = numpy(layer.proxies)
    np.testing.assert_allclose(result, [[cosine(x, p) for p in proxies] for x in embeddings], atol=1e-6)
    assert np.linalg.norm(proxies, axis=1).mean() == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="expected ndim=2"):
        CosineProxies(3)(np.zeros((1, 2, 3)))


@pytest.mark.parametrize("classes", [0, -1, 2.0, None, True])
def test_bad_number_of_classes_is_refused(classes):
    with pytest.raises(ValueError, match=r"^classes must be an integer ≥ 1, not "):
        CosineProxies(classes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ContrastiveLoss(negative_margin=-1), "negative_margin must be a number ≥ 0, not -1."),
        (lambda: ContrastiveLoss("soft"), "positive_margin must be a number ≥ 0, not 'soft'."),
        (lambda: MultiSimilarityLoss(alpha=0), "alpha must be a number > 0, not 0."),
        (lambda: MultiSimilarityLoss(beta=0), "beta must be a number > 0, not 0."),
        (lambda: MultiSimilarityLoss(epsilon=-0.1), "epsilon must be a number ≥ 0, not -0.1."),
        (lambda: SupConLoss(0), "temperature must be a number > 0, not 0."),
        (lambda: NormalisedSoftmaxLoss(float("nan")), "temperature must be a number > 0, not nan."),
        (lambda: CosFaceLoss(scale=0), "scale must be a number > 0, not 0."),
        (lambda: ArcFaceLoss(margin=28.6), "margin is an angle in radians, below π = 180°, not 28.6."),
        (lambda: ProxyAnchorLoss(margin=None), "margin must be a number ≥ 0, not None."),
    ],
)
def test_bad_setting_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@each_setting
def test_config_restores_a_metric_loss(loss_class, settings):
    loss = loss_class(**settings, name="my_loss", reduction="sum")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is loss_class
    assert copy.get_config() == loss.get_config()
    assert (copy.name, copy.reduction) == ("my_loss", "sum")
    assert all(getattr(copy, name) == value for name, value in settings.items())
    assert keras.saving.get_registered_name(loss_class) == f"metric_learning>{loss_class.__name__}"


def metric_model(loss_class, dimensions, settings=None):
    model = keras.Sequential([keras.Input((dimensions,)), keras.layers.Dense(4)])
    if loss_class in PROXY_LOSSES:
        model.add(CosineProxies(CLASSES))
    model.compile(keras.optimizers.Adam(0.05), loss_class(**(settings or {})))
    return model


@each_setting
def test_model_with_a_metric_loss_survives_save_and_load(loss_class, settings, tmp_path):
    labels, images = random_batch()
    model = metric_model(loss_class, 3, settings)
    model.train_on_batch(images, labels)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.loss.get_config() == model.loss.get_config()
    for before, after in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert len(loaded.get_weights()) == (3 if loss_class in PROXY_LOSSES else 2)
    outputs = model.predict(images, verbose=0)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), outputs)
    expected = NAIVE[loss_class](labels, outputs.astype("float64"), **settings)
    assert loaded.test_on_batch(images, labels) == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(loaded.train_on_batch(images, labels))


@pytest.mark.parametrize("loss_class", PAIR_LOSSES + PROXY_LOSSES)
def test_training_lowers_a_metric_loss(loss_class):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 5)
    points = rng.normal(size=(4, 6))[labels] + rng.normal(size=(20, 6))
    model = metric_model(loss_class, 6)
    history = [float(model.train_on_batch(points, labels[:, None])) for _ in range(20)]
    assert history[-1] < 0.9 * history[0]
