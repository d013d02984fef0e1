import json
import logging
import shutil

import keras
import numpy as np
import pytest

from helpers import networks
from helpers.losses import TripletLoss
from helpers.metrics import recall_at_k
from helpers.networks import TripletNet, embed, embedding_network, load_pretrained
from helpers.sampling import TripletGenerator


def random_images(count, shape=(28, 28, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(autouse=True)
def same_weights_in_every_test():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def small():
    return embedding_network((8, 8, 1), dimensions=5, filters=(4, 6))


# embedding_network


def test_default_network_is_the_described_one():
    network = embedding_network()
    assert network.input_shape == (None, 28, 28, 1)
    assert network.output_shape == (None, 64)
    assert network.count_params() == 76_624


@pytest.mark.parametrize(("shape", "dimensions", "filters"), [((12, 10, 3), 7, (4, 8)), ((5, 5, 1), 2, (3,))])
def test_shape_dimensions_and_filters_are_as_asked_for(shape, dimensions, filters):
    network = embedding_network(shape, dimensions, filters)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [width for width in filters for _ in range(2)]
    assert embed(network, random_images(3, shape)).shape == (3, dimensions)


def test_embeddings_are_unit_vectors_for_bytes_and_for_floats(small):
    images = random_images(6, (8, 8, 1))
    embeddings = embed(small, images)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embed(small, images.astype("float32")), embeddings, atol=1e-6)


def test_scaling_is_the_first_layer(small):
    rescaling = small.layers[1]
    assert isinstance(rescaling, keras.layers.Rescaling)
    scaled = keras.ops.convert_to_numpy(rescaling(np.array([[[[255.0]]]])))
    assert scaled.item() == pytest.approx(1)


def test_embedding_stays_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        network = embedding_network((8, 8, 1), 5, (4,))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert keras.backend.standardize_dtype(network(random_images(2, (8, 8, 1))).dtype) == "float32"


# BatchNormalization


def trained_one_step(normalisation, images, targets):
    """All weights of a convolution and a normalisation after one step of training on the images."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(images.shape[1:])
    x = keras.layers.Conv2D(3, 3, use_bias=False)(inputs)
    model = keras.Model(inputs, normalisation(momentum=0.9)(x))
    model.layers[-1].gamma.assign([0.5, 1.0, 2.0])
    model.layers[-1].beta.assign([-1.0, 0.0, 3.0])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(images, targets)
    return model.get_weights()


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.02), ("mixed_float16", 0.005)]
)
def test_batch_normalisation_trains_as_keras_own(policy, tolerance):
    rng = np.random.default_rng(0)
    images = rng.normal(1, 2, (16, 9, 8, 2)).astype("float32")
    targets = rng.normal(0, 3, (16, 7, 6, 3)).astype("float32")
    keras.mixed_precision.set_global_policy(policy)
    try:
        ours = trained_one_step(networks.BatchNormalization, images, targets)
        expected = trained_one_step(keras.layers.BatchNormalization, images, targets)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    # On TensorFlow the batch variance is divided by the count less one; the running one was 1.
    if keras.backend.backend() == "tensorflow":
        count = 16 * 7 * 6
        expected[-1] = 0.9 + (expected[-1] - 0.9) * count / (count - 1)
    for name, a, b in zip(("kernel", "gamma", "beta", "mean", "variance"), ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((4, 5), {}),
        ((4, 6, 6, 3), {"axis": 1}),
        ((4, 6, 6, 3), {"scale": False}),
        ((4, 6, 6, 3), {"center": False}),
    ],
)
def test_batch_normalisation_refuses_what_the_fused_operation_cannot_do(shape, arguments):
    with pytest.raises(ValueError, match="over their channels, with scale and center"):
        networks.BatchNormalization(**arguments).build(shape)


def test_frozen_batch_normalisation_keeps_its_running_averages():
    layer = networks.BatchNormalization()
    images = np.random.default_rng(0).normal(5, 2, (4, 6, 6, 3)).astype("float32")
    layer.build(images.shape)
    before = layer.get_weights()
    layer.trainable = False
    frozen, inferred = layer(images, training=True), layer(images, training=False)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(frozen), keras.ops.convert_to_numpy(inferred))
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


# embed


def test_embed_does_not_depend_on_the_batch_size(small):
    images = random_images(7, (8, 8, 1))
    expected = keras.ops.convert_to_numpy(small(images, training=False))
    for batch_size in (1, 3, 500):
        embeddings = embed(small, images, batch_size)
        assert (type(embeddings), embeddings.dtype) == (np.ndarray, np.float32)
        np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_with_the_mirror_an_image_is_embedded_half_way_between_its_two_sides(small):
    images = random_images(5, (8, 8, 1))
    straight, mirrored = embed(small, images), embed(small, images[:, :, ::-1])
    both = embed(small, images, batch_size=2, mirror=True)
    assert both.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-5)
    span = straight + mirrored
    np.testing.assert_allclose(both, span / np.linalg.norm(span, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(embed(small, images[:, :, ::-1], mirror=True), both, atol=1e-5)


def test_embed_prints_nothing(small, capsys):
    embed(small, random_images(2, (8, 8, 1)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (3, 8, 8), (3, 8, 8, 3), (3, 28, 28, 1), (8, 8, 1)])
def test_embed_refuses_images_of_another_shape(small, shape):
    with pytest.raises(ValueError, match=r"Expected images of shape \(N, 8, 8, 1\), got \("):
        embed(small, np.zeros(shape, np.uint8))


def test_embed_takes_images_of_any_size_where_the_network_does():
    inputs = keras.Input((None, None, 1))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3)(inputs)))
    for shape in ((8, 9, 1), (12, 10, 1)):
        images = random_images(4, shape)
        expected = keras.ops.convert_to_numpy(network(images.astype("float32")))
        np.testing.assert_allclose(embed(network, images), expected, rtol=1e-4, atol=1e-3)
    with pytest.raises(
        ValueError, match=r"Expected images of shape \(N, None, None, 1\), got \(4, 8, 9, 3\)"
    ):
        embed(network, random_images(4, (8, 9, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_embed_refuses_what_is_not_finite(small, value, dtype):
    """Max pooling drops NaN: such pictures would get ordinary embeddings, all of them the same."""
    images = random_images(6, (8, 8, 1)).astype(dtype)
    images[4, 3, 2, 0] = value
    with pytest.raises(ValueError, match=r"^The images hold NaN or infinity: clean or leave out those"):
        embed(small, images)


@pytest.mark.parametrize(
    ("images", "values"),
    [
        (np.linspace(0, 1, 128, dtype="float32").reshape(2, 8, 8, 1), "0 to 1"),
        (np.linspace(0, 0.5, 128).reshape(2, 8, 8, 1), "0 to 0.5"),
        (np.arange(128).reshape(2, 8, 8, 1) > 60, "0 to 1"),
        (np.arange(128, dtype="uint16").reshape(2, 8, 8, 1) * 500, "0 to 63500"),
    ],
    ids=["0–1", "dark", "booleans", "16 bits"],
)
def test_embed_warns_of_another_range(small, images, values):
    with pytest.warns(
        UserWarning, match=f"^The images have values {values}\\. The networks of this course take 0–255"
    ):
        embeddings = embed(small, images)
    assert embeddings.shape == (2, 5)


@pytest.mark.filterwarnings("error::UserWarning")
def test_embed_does_not_warn_of_bytes_black_pictures_or_points(small):
    embed(small, np.ones((2, 8, 8, 1), np.uint8))
    embed(small, np.zeros((2, 8, 8, 1), "float32"))
    embed(small, random_images(2, (8, 8, 1)).astype("float32"))
    points = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    embed(points, np.random.default_rng(0).random((4, 3)))


def test_embed_tells_which_network_of_three_towers_to_take():
    net = TripletNet((8, 8, 1), 5)
    with pytest.raises(
        ValueError, match=r"^The network has 3 inputs. Of a TripletNet, embed with `.embedding`.$"
    ):
        embed(net.model, random_images(2, (8, 8, 1)))


def test_many_networks_may_embed_without_a_warning_and_logging_stays_as_it_was(caplog):
    logger = logging.getLogger("tensorflow")
    before, handlers = list(logger.filters), list(logger.handlers)
    logger.addHandler(caplog.handler)
    for _ in range(8):
        embed(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), np.ones((2, 3)))
    assert "retracing" not in caplog.text
    logger.warning("tf.function retracing, told by somebody else")
    assert "told by somebody else" in caplog.text
    logger.removeHandler(caplog.handler)
    assert (logger.filters, logger.handlers) == (before, handlers)


# TripletNet


def test_triplet_net_is_three_towers_of_one_network():
    net = TripletNet((8, 8, 1), dimensions=5)
    assert [tensor.name for tensor in net.model.inputs] == ["anchor", "positive", "negative"]
    assert net.model.output_shape == (None, 3, 5)
    assert net.model.count_params() == net.embedding.count_params()
    towers = [random_images(4, (8, 8, 1), seed) for seed in range(3)]
    outputs = net.model.predict(towers, verbose=0)
    for i, tower in enumerate(towers):
        np.testing.assert_allclose(outputs[:, i], embed(net.embedding, tower), atol=1e-5)


def test_triplet_net_defaults():
    net = TripletNet()
    assert net.model.output_shape == (None, 3, 64)
    assert net.embedding.input_shape == (None, 28, 28, 1)
    assert isinstance(net.model.loss, TripletLoss)
    assert net.model.loss.margin == 0.2
    assert isinstance(net.model.optimizer, keras.optimizers.Adam)
    assert float(net.model.optimizer.learning_rate) == pytest.approx(0.001)


def test_learning_rate_and_margin_are_passed_on():
    net = TripletNet((8, 8, 1), 5, learning_rate=0.02, margin="soft")
    assert float(net.model.optimizer.learning_rate) == pytest.approx(0.02)
    assert net.model.loss.margin == "soft"


def test_summary_shows_the_towers(capsys):
    TripletNet((8, 8, 1), 5).summary()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("anchor", "positive", "negative", "embedding_network"))


@pytest.mark.filterwarnings("error:`shuffle")
def test_fit_on_the_generators_stream_trains_the_shared_network():
    net = TripletNet((8, 8, 1), 5)
    before = net.embedding.get_weights()
    net.model.run_eagerly = True  # two steps are sooner done than compiled
    stream = TripletGenerator(0).flow(random_images(12, (8, 8, 1)), np.arange(12) % 3, batch_size=4)
    history = net.model.fit(stream, steps_per_epoch=2, epochs=1, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    changed = [not np.array_equal(a, b) for a, b in zip(before, net.embedding.get_weights(), strict=True)]
    assert all(changed)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # it has not taken a step yet
def test_saved_triplet_net_loads_as_it_was(tmp_path):
    net = TripletNet((8, 8, 1), 5, margin=0.3)
    towers = [random_images(4, (8, 8, 1), seed) for seed in range(3)]
    net.model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras", safe_mode=True)
    np.testing.assert_allclose(
        loaded.predict(towers, verbose=0), net.model.predict(towers, verbose=0), atol=1e-6
    )
    assert (type(loaded.loss), loaded.loss.margin) == (TripletLoss, 0.3)


# The network that ships with the course


@pytest.fixture(scope="module")
def shipped():
    return load_pretrained()


def test_shipped_network_takes_bytes_and_gives_unit_vectors(shipped):
    embeddings = embed(shipped, random_images(5))
    assert embeddings.shape == (5, 64)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_shipped_network_retrieves_better_than_pixels(shipped):
    from helpers.data import load

    data = load("fashion_mnist")
    query, gallery = data.x_test[:250], data.x_train[:1000]
    labels = data.y_test[:250], data.y_train[:1000]
    pixels = [images.reshape(len(images), -1) for images in (query, gallery)]
    by_pixels = recall_at_k(pixels[0], labels[0], pixels[1], labels[1], k=1)[1]
    by_network = recall_at_k(embed(shipped, query), labels[0], embed(shipped, gallery), labels[1], k=1)[1]
    assert by_network > by_pixels + 0.05


def test_recipe_is_recorded_beside_the_weights():
    record = json.loads((networks.WEIGHTS_FOLDER / "fashion_mnist.json").read_text(encoding="utf-8"))
    figures = record["figures of each seed"][str(record["seed"])]
    assert len(figures["after each cycle"]) == len(record["recipe"]["cycles"])
    one_look = figures["after each cycle"][-1]
    assert one_look["test → 55,000 training images R@1"] >= 0.93
    assert one_look["test leave-one-out MAP@R"] >= 0.87
    assert figures["with the mirror image"]["published split R@1"] >= 0.93
    assert figures["with the mirror image"]["test → 55,000 training images R@1"] >= 0.935
    assert figures["with the mirror image"]["test leave-one-out MAP@R"] >= 0.88
    assert (networks.WEIGHTS_FOLDER / "fashion_mnist.weights.h5").stat().st_size <= 2_000_000


def test_triplet_net_may_start_from_the_shipped_network(shipped):
    net = TripletNet(pretrained=True)
    images = random_images(3)
    np.testing.assert_allclose(embed(net.embedding, images), embed(shipped, images), atol=1e-6)


@pytest.mark.parametrize("arguments", [{"dimensions": 128}, {"shape": (32, 32, 1)}])
def test_shipped_network_has_one_shape(arguments):
    message = (
        r"The shipped network embeds images of shape \(28, 28, 1\) in 64 dimensions, not .*pretrained=False"
    )
    with pytest.raises(ValueError, match=message):
        TripletNet(pretrained=True, **arguments)


CURE = r"Restore the original: `git checkout -- helpers/weights`, or install the course again\.$"


def test_missing_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"fashion_mnist\.weights\.h5 is missing\. {CURE}"):
        load_pretrained()


@pytest.mark.parametrize(
    ("content", "error", "state"),
    [
        (None, FileNotFoundError, "missing"),
        ("{", ValueError, "damaged"),
        ("[1]", ValueError, "damaged"),
        ('{"recipe": {"network": {}}}', ValueError, "damaged"),
        ('{"sha256": "0"}', ValueError, "damaged"),
    ],
)
def test_a_missing_or_damaged_record_is_refused(tmp_path, monkeypatch, content, error, state):
    shutil.copy(networks.WEIGHTS_FOLDER / "fashion_mnist.weights.h5", tmp_path)
    if content is not None:
        (tmp_path / "fashion_mnist.json").write_text(content, encoding="utf-8")
    monkeypatch.setattr(networks, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(error, match=rf"fashion_mnist\.json is {state}.*{CURE}"):
        load_pretrained()


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "empty"])
def test_damaged_weights_are_refused(tmp_path, monkeypatch, damage):
    for path in networks.WEIGHTS_FOLDER.glob("fashion_mnist.*"):
        shutil.copy(path, tmp_path)
    path = tmp_path / "fashion_mnist.weights.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-1], "flipped bit": content, "empty": b""}[damage])
    monkeypatch.setattr(networks, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=rf"fashion_mnist\.weights\.h5 or .*\.json is damaged: .*{CURE}"):
        load_pretrained()


def test_intact_files_are_not_blamed_for_a_fault_elsewhere(monkeypatch):
    """A memory that is full, a network that was changed: neither is cured by restoring the weights."""
    monkeypatch.setattr(networks, "embedding_network", lambda **kwargs: embedding_network((28, 28, 1), 32))
    with pytest.raises(ValueError, match=r"(?i)shape|expected") as error:
        load_pretrained()
    assert "damaged" not in str(error.value) and "Restore" not in str(error.value)
