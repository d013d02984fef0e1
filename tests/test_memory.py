"""The cross-batch memory, through `fit`, against loops in NumPy that keep a list."""

import keras
import numpy as np
import pytest
from keras import ops

from helpers.losses import (
    BatchAllTripletLoss,
    ContrastiveLoss,
    CrossBatchMemory,
    MultiSimilarityLoss,
    SupConLoss,
)

BATCH, DIMENSIONS = 8, 3
each_loss = pytest.mark.parametrize("loss", [ContrastiveLoss(), MultiSimilarityLoss(), SupConLoss()])


def model_with_memory(loss, size, start=0, learning_rate=0.0):
    """One linear layer, which begins as the identity, so that the embeddings are the inputs."""
    x = keras.Input((DIMENSIONS,), name="x")
    labels = keras.Input((), dtype="int32", name="labels")
    embeddings = keras.layers.Dense(DIMENSIONS, use_bias=False, kernel_initializer="identity", name="linear")(
        x
    )
    model = keras.Model([x, labels], CrossBatchMemory(loss, size, start, name="memory")([embeddings, labels]))
    model.compile(keras.optimizers.SGD(learning_rate))
    return model


def batches(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(BATCH, DIMENSIONS)).astype("float32"), rng.integers(0, 4, BATCH).astype("int32"))
        for _ in range(count)
    ]


def losses_of(model, steps):
    return [float(model.train_on_batch([x, labels])) for x, labels in steps]


def naive_pairs(loss, anchors, labels, others, other_labels, itself):
    """The mean loss of anchors against others, pair by pair in float64; `itself` says that they are the same batch."""
    if isinstance(loss, ContrastiveLoss):
        pull, push = [], []
        for i, j in np.ndindex(len(anchors), len(others)):
            d = np.linalg.norm(anchors[i] - others[j])
            if labels[i] != other_labels[j]:
                push.append(max(loss.negative_margin - d, 0))
            elif not (itself and i == j):
                pull.append(max(d - loss.positive_margin, 0))
        return sum(np.mean([v for v in values if v > 0] or [0]) for values in (pull, push))
    values = []
    for i in range(len(anchors)):
        s = others @ anchors[i] / np.linalg.norm(others, axis=1) / np.linalg.norm(anchors[i])
        same = other_labels == labels[i]
        positive, negative = same & ~(itself & (np.arange(len(others)) == i)), ~same
        if isinstance(loss, SupConLoss):
            if positive.any() and negative.any():
                every = np.exp(s / loss.temperature)[positive | negative].sum()
                values.append(np.mean(np.log(every) - s[positive] / loss.temperature))
        else:
            values.append(
                np.log1p(np.exp(-loss.alpha * (s[positive] - loss.base)).sum()) / loss.alpha
                + np.log1p(np.exp(loss.beta * (s[negative] - loss.base)).sum()) / loss.beta
            )
    return np.mean(values) if values else 0.0


def naive_losses(loss, steps, size, start=0):
    memory, labels_of_memory, expected = np.zeros((0, DIMENSIONS)), np.zeros(0, int), []
    for step, (x, labels) in enumerate(steps):
        x = x.astype("float64")
        value = naive_pairs(loss, x, labels, x, labels, itself=True)
        if step >= start and len(memory):
            value += naive_pairs(loss, x, labels, memory, labels_of_memory, itself=False)
        expected.append(value)
        memory = np.concatenate([x, memory])[:size]  # the oldest leave it
        labels_of_memory = np.concatenate([labels, labels_of_memory])[:size]
    return expected


@each_loss
@pytest.mark.parametrize("size", [5, 8, 20, 100])
def test_every_step_equals_loops(loss, size):
    steps = batches(6)
    model = model_with_memory(loss, size)
    np.testing.assert_allclose(losses_of(model, steps), naive_losses(loss, steps, size), rtol=1e-4)
    memory = model.get_layer("memory")
    newest = np.concatenate([x for x, _ in steps[::-1]])[:size]
    held = ops.convert_to_numpy(memory.embeddings)
    np.testing.assert_allclose(held[: len(newest)], newest, rtol=1e-6)
    assert int(memory.filled) == min(size, 6 * BATCH) and not held[len(newest) :].any()


def test_before_the_start_only_the_batch_counts():
    steps = batches(5)
    with_start = losses_of(model_with_memory(SupConLoss(), 20, start=3), steps)
    np.testing.assert_allclose(with_start, naive_losses(SupConLoss(), steps, 20, start=3), rtol=1e-4)
    alone = naive_losses(SupConLoss(), steps, 20, start=99)
    np.testing.assert_allclose(with_start[:3], alone[:3], rtol=1e-4)
    assert abs(with_start[3] - alone[3]) > 0.1


@each_loss
def test_the_gradient_is_that_of_the_batch_and_not_of_the_memory(loss):
    (first, labels), (second, their_labels) = batches(2)
    model = model_with_memory(loss, 20, learning_rate=0.0)
    model.train_on_batch([first, labels])
    model.optimizer.learning_rate = 1.0
    model.train_on_batch([second, their_labels])
    step = np.eye(DIMENSIONS) - ops.convert_to_numpy(model.get_layer("linear").kernel)

    def value(matrix):
        x = second.astype("float64") @ matrix
        return naive_pairs(loss, x, their_labels, x, their_labels, True) + naive_pairs(
            loss, x, their_labels, first.astype("float64"), labels, False
        )

    numeric, h = np.zeros((DIMENSIONS, DIMENSIONS)), 1e-6
    for i, j in np.ndindex(DIMENSIONS, DIMENSIONS):
        move = np.zeros((DIMENSIONS, DIMENSIONS))
        move[i, j] = h
        numeric[i, j] = (value(np.eye(DIMENSIONS) + move) - value(np.eye(DIMENSIONS) - move)) / (2 * h)
    np.testing.assert_allclose(step, numeric, atol=2e-3 * np.abs(numeric).max())


def test_predicting_leaves_the_memory_alone():
    (x, labels), *_ = batches(1)
    model = model_with_memory(SupConLoss(), 20)
    np.testing.assert_allclose(model.predict([x, labels], verbose=0), x, rtol=1e-6)
    assert int(model.get_layer("memory").filled) == 0


def test_a_saved_model_goes_on_with_its_memory(tmp_path):
    steps = batches(4)
    model = model_with_memory(MultiSimilarityLoss(alpha=3), 12, start=1)
    losses_of(model, steps[:2])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    memory = again.get_layer("memory")
    assert (memory.size, memory.start, memory.loss.alpha) == (12, 1, 3)
    np.testing.assert_allclose(losses_of(again, steps[2:]), losses_of(model, steps[2:]), rtol=1e-5)


def test_fit_trains_over_a_last_batch_that_is_smaller():
    x, labels = (np.concatenate(parts) for parts in zip(*batches(3), strict=True))
    model = model_with_memory(SupConLoss(), 20, learning_rate=0.01)
    history = model.fit([x, labels], batch_size=7, epochs=3, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all() and int(model.get_layer("memory").steps) == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": BatchAllTripletLoss(), "size": 8}, "a loss over pairs, such as SupConLoss"),
        ({"loss": "supcon", "size": 8}, "a loss over pairs"),
        ({"loss": SupConLoss(), "size": 0}, "size must be an integer ≥ 1, not 0"),
        ({"loss": SupConLoss(), "size": 2.5}, "size must be an integer"),
        ({"loss": SupConLoss(), "size": 8, "start": -1}, "start must be an integer ≥ 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CrossBatchMemory(**settings)
