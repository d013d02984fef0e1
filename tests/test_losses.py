import math
from itertools import product

import keras
import numpy as np
import pytest
from keras import ops
from numeric import REFERENCE, numpy, value_and_gradient

from helpers import losses
from helpers.losses import (
    BatchAllTripletLoss,
    BatchHardTripletLoss,
    SemiHardTripletLoss,
    TripletLoss,
    pair_masks,
    pairwise_distances,
    safe_sqrt,
)

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


@pytest.mark.parametrize("margin", [-0.1, "hard", None, float("nan")])
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
