import inspect
import math

import keras
import numpy as np
import pytest

from helpers import training
from helpers.data import honest_split, load
from helpers.losses import BatchAllTripletLoss
from helpers.metrics import recall_at_k
from helpers.networks import embed, embedding_network
from helpers.sampling import BalancedBatches
from helpers.training import RecallCallback, describe_device, leave_input_untuned, one_cycle

# describe_device


def with_devices(monkeypatch, accelerators=()):
    devices = ["cpu:0", *accelerators]

    def list_devices(kind=None):
        return [device for device in devices if kind is None or device.startswith(kind)]

    monkeypatch.setattr(keras.distribution, "list_devices", list_devices)
    monkeypatch.setattr(training.os, "cpu_count", lambda: 6)
    return describe_device()


def test_device_without_an_accelerator(monkeypatch):
    expected = f"{keras.backend.backend()} backend · no GPU, 6 CPU cores · float32"
    assert with_devices(monkeypatch) == expected


def test_device_with_accelerators(monkeypatch):
    described = with_devices(monkeypatch, ["gpu:0", "gpu:1", "tpu:0"])
    assert "· gpu:0, gpu:1, tpu:0, 6 CPU cores ·" in described


def test_device_names_the_precision(monkeypatch):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        assert with_devices(monkeypatch).endswith("· mixed_bfloat16")
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_real_device_is_described_in_one_line():
    assert describe_device().count("·") == 2
    assert "\n" not in describe_device()


# one_cycle


def rates(peak, steps):
    schedule = one_cycle(peak, steps)
    return np.array([float(schedule(step)) for step in range(steps + 1)])


def test_rate_rises_for_a_quarter_and_falls_along_a_cosine():
    rate = rates(0.3, 40)
    for step in range(11):
        assert rate[step] == pytest.approx(0.03 + 0.27 * step / 10, rel=1e-5)
    for step in range(10, 41):
        assert rate[step] == pytest.approx(
            0.3 * (1 + math.cos(math.pi * (step - 10) / 30)) / 2, rel=1e-4, abs=1e-7
        )


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_short_trainings_end_at_zero_too(steps):
    rate = rates(0.1, steps)
    assert np.isfinite(rate).all()
    assert rate.max() <= 0.1 + 1e-7
    assert rate[-1] == pytest.approx(0, abs=1e-7)


def test_optimiser_takes_the_schedule():
    optimizer = keras.optimizers.Adam(one_cycle(0.1, 8))
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


# RecallCallback


@pytest.fixture
def task():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    points = (rng.normal(size=(3, 4))[labels] + 0.5 * rng.normal(size=(24, 4))).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.05), BatchAllTripletLoss())
    return model, points, labels


@pytest.mark.parametrize("k", [1, 5])
def test_recall_is_measured_after_every_epoch(task, k):
    model, points, labels = task
    history = model.fit(
        points, labels, epochs=3, verbose=0, callbacks=[RecallCallback(points, labels, k)]
    ).history
    recalls = history[f"val_recall_at_{k}"]
    assert len(recalls) == 3
    assert recalls[-1] == recall_at_k(embed(model, points), labels, k=k)[k]


def test_recall_at_1_is_the_default(task):
    model, points, labels = task
    history = model.fit(
        points, labels, verbose=0, callbacks=[RecallCallback(points, labels[:, None])]
    ).history
    assert "val_recall_at_1" in history


def test_another_network_may_be_measured(task):
    model, points, labels = task
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    callback = RecallCallback(points, labels, embedding=other)
    history = model.fit(points, labels, verbose=0, callbacks=[callback]).history
    assert history["val_recall_at_1"] == [recall_at_k(embed(other, points), labels, k=1)[1]]


def test_checkpoint_finds_the_recall(task, tmp_path):
    model, points, labels = task
    path = tmp_path / "best.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="val_recall_at_1", mode="max", save_best_only=True
    )
    model.fit(points, labels, verbose=0, callbacks=[RecallCallback(points, labels), checkpoint])
    loaded = keras.saving.load_model(path, safe_mode=True)
    np.testing.assert_allclose(embed(loaded, points), embed(model, points), atol=1e-6)


def test_images_and_labels_that_do_not_fit_are_refused_before_anything_is_trained(task):
    _, points, labels = task
    with pytest.raises(ValueError, match=r"^24 images but 23 labels: give one label for each image\.$"):
        RecallCallback(points, labels[:-1])
    with pytest.raises(ValueError, match=r"^labels must be integers"):
        RecallCallback(points, labels / 2)
    for k in (0, 24, 1.0, "1", True, None):
        with pytest.raises(
            ValueError, match=rf"^k must be an integer from 1 to 23, the other images, not {k!r}\.$"
        ):
            RecallCallback(points, labels, k)
    RecallCallback(points, labels, np.int64(23))


@pytest.mark.parametrize("fault", ["shape", "NaN"])
def test_images_that_the_network_refuses_are_refused_before_the_first_epoch(task, fault):
    model, points, labels = task
    images = points[:, :3] if fault == "shape" else np.where(points > 1, np.nan, points)
    begun = []
    diary = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    with pytest.raises(ValueError, match=r"^Expected images of shape|^The images hold NaN"):
        model.fit(points, labels, verbose=0, callbacks=[diary, RecallCallback(images, labels)])
    assert begun == []


def test_callback_without_logs_is_harmless(task):
    model, points, labels = task
    callback = RecallCallback(points, labels)
    callback.set_model(model)
    callback.on_epoch_end(0)


# leave_input_untuned


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow trains from tf.data")
def test_no_data_set_that_keras_makes_tunes_itself_once_asked(task, monkeypatch):
    import tensorflow as tf

    made = []

    def recorded(original):
        return lambda *given: made.append(original(*given)) or made[-1]

    prefetch = tf.data.Dataset.prefetch  # or, if another test has asked, what stands in its place:
    original = inspect.getclosurevars(prefetch).nonlocals.get("prefetch", prefetch)
    monkeypatch.setattr(tf.data.Dataset, "prefetch", original)  # put back afterwards
    assert original(tf.data.Dataset.range(3), 1).options().autotune.enabled is None
    leave_input_untuned()
    once = tf.data.Dataset.prefetch
    leave_input_untuned()
    assert tf.data.Dataset.prefetch is once, "a second call does nothing"
    assert [int(i) for i in tf.data.Dataset.range(9).prefetch(2)] == list(range(9))
    tf.data.Dataset.prefetch = recorded(once)
    model, points, labels = task
    embed(model, points)
    model.fit(BalancedBatches(points, labels, 3, 4), verbose=0)
    model.fit((batch for batch in [(points, labels)]), steps_per_epoch=1, verbose=0, shuffle=False)
    model.fit(points, labels, verbose=0)
    assert len(made) >= 4
    assert [data_set.options().autotune.enabled for data_set in made] == [False] * len(made)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="there it does something")
def test_elsewhere_there_is_nothing_to_leave_untuned():
    assert leave_input_untuned() is None


# Precision: the lesson's training, shortened, with layers that compute in 16 bits


@pytest.fixture(scope="module")
def clothes():
    return honest_split(load("fashion_mnist"))


def train_with(policy, clothes, batches=15):
    """A small network after four epochs under a dtype policy: the network, its losses, its Recall@1."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        network = embedding_network(dimensions=32, filters=(8, 16))
        network.compile(keras.optimizers.Adam(one_cycle(0.01, 4 * batches)), BatchAllTripletLoss(0.2))
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    data = BalancedBatches(clothes.x_train, clothes.y_train, 10, 12, batches=batches, seed=0)
    losses = network.fit(data, epochs=4, verbose=0).history["loss"]
    embeddings = embed(network, clothes.x_valid[:2000])
    return network, losses, recall_at_k(embeddings, clothes.y_valid[:2000], k=1)[1]


def test_training_in_bfloat16_learns_as_in_float32(clothes):
    network, losses, recall = train_with("mixed_bfloat16", clothes)
    _, losses_in_full, recall_in_full = train_with("float32", clothes)
    assert [layer.compute_dtype for layer in network.layers if "conv" in layer.name] == ["bfloat16"] * 4
    assert {variable.dtype for variable in network.trainable_variables} == {"float32"}
    assert all(np.isfinite(weights).all() for weights in network.get_weights())
    np.testing.assert_allclose(losses, losses_in_full, rtol=0.05)
    assert abs(recall - recall_in_full) < 0.03  # two such short trainings differ by as much in float32


def test_training_in_float16_scales_the_loss(clothes):
    network, losses, _ = train_with("mixed_float16", clothes, batches=2)
    assert isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
    assert np.isfinite(losses).all()
    assert all(np.isfinite(weights).all() for weights in network.get_weights())
