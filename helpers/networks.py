"""The embedding network, the three towers that train it, and the one that is already trained."""

import contextlib
import hashlib
import json
import logging
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers

from helpers.losses import TripletLoss

WEIGHTS_FOLDER = Path(__file__).parent / "weights"

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if ON_TENSORFLOW:
    tensorflow = sys.modules["tensorflow"]  # Keras has imported it


@keras.saving.register_keras_serializable("metric_learning")
class BatchNormalization(layers.BatchNormalization):
    """Keras's layer, for images (B, height, width, channels), trained on TensorFlow by one fused operation.

    Keras's own takes a dozen operations there, each of which goes through all the numbers once. The two differ in one
    thing: a batch's variance enters the running average divided by n − 1 instead of n = B · height · width.

    Raises:
        ValueError: the input is no batch of images, or `axis`, `scale` or `center` is not Keras's default.
    """

    def build(self, input_shape):
        if len(input_shape) != 4 or self.axis not in (-1, 3) or not (self.scale and self.center):
            raise ValueError(
                "This layer normalises images (B, height, width, channels) over their channels, with scale and center; "
                f"got the shape {tuple(input_shape)}. Take keras.layers.BatchNormalization for anything else."
            )
        super().build(input_shape)

    def call(self, inputs, training=None, mask=None):
        if not (ON_TENSORFLOW and training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tensorflow.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            exponential_avg_factor=1 - self.momentum,
        )
        self.moving_mean.assign(mean)
        self.moving_variance.assign(variance)
        return outputs


def embedding_network(shape=(28, 28, 1), dimensions=64, filters=(16, 32, 64)):
    """A small convolutional network that maps images to points on the unit sphere.

    Each entry of `filters` is a stage of two 3 × 3 convolutions with batch normalisation and ReLU; between two stages
    the picture is halved. The average over all positions, a linear layer and a division by its length follow.

    Args:
        shape: (height, width, channels) of an image.
        dimensions: d, of the embedding.
        filters: width of each stage.

    Returns:
        An uncompiled `keras.Model`: images (B, height, width, channels) with values 0–255 in (scaling to 0–1 is its
        first layer), float unit vectors (B, d) out. With the defaults it has 76,624 parameters.
    """
    inputs = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 255)(inputs)
    for stage, width in enumerate(filters):
        if stage > 0:
            x = layers.MaxPooling2D()(x)  # half the height and width
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)  # (B, filters[-1])
    x = layers.Dense(dimensions)(x)  # (B, d)
    outputs = layers.UnitNormalization(name="embedding", dtype="float32")(x)
    return keras.Model(inputs, outputs, name="embedding_network")


class TripletNet:
    """Three towers, for anchor, positive and negative, that share one embedding network.

    Args:
        shape: (height, width, channels) of an image.
        dimensions: d, of the embedding.
        pretrained: start from the embedding that ships with the course, instead of random weights.
        learning_rate: of the Adam optimiser.
        margin: of the triplet loss.

    Attributes:
        embedding: the shared network, images (B, height, width, channels) -> unit vectors (B, d).
        model: the compiled model with three inputs, -> (B, 3, d).

    Raises:
        ValueError: `pretrained` with another shape or another number of dimensions than the shipped network has.
    """

    def __init__(self, shape=(28, 28, 1), dimensions=64, pretrained=False, learning_rate=0.001, margin=0.2):
        self.embedding = load_pretrained() if pretrained else embedding_network(shape, dimensions)
        if self.embedding.input_shape[1:] != tuple(shape) or self.embedding.output_shape[1] != dimensions:
            raise ValueError(
                f"The shipped network embeds images of shape {self.embedding.input_shape[1:]} in "
                f"{self.embedding.output_shape[1]} dimensions, not {tuple(shape)} in {dimensions}: "
                "ask for these, or for pretrained=False."
            )
        towers = [keras.Input(shape, name=name) for name in ("anchor", "positive", "negative")]
        stacked = keras.ops.stack([self.embedding(tower) for tower in towers], axis=1)  # (B, 3, d)
        self.model = keras.Model(towers, stacked, name="triplet_net")
        self.model.compile(keras.optimizers.Adam(learning_rate), TripletLoss(margin))

    def summary(self):
        """Print the three towers and the network that they share."""
        # With `print_fn` it is plain text, without the control characters of Keras's coloured table.
        self.model.summary(print_fn=print)


def embed(model, images, batch_size=500, mirror=False):
    """Embed images, a batch at a time.

    Args:
        model: an embedding network.
        images: array (N, height, width, channels), finite values 0–255. A warning tells of floats that seem to have
            another range.
        batch_size: images in memory at once.
        mirror: embed each image and its mirror image, and return the direction half-way between the two unit vectors.
            It takes twice the time, and is meant for a network that was trained on mirrored images.

    Returns:
        float32 NumPy array (N, d).

    Raises:
        ValueError: there are no images, they do not have the shape that the network expects, or they hold NaN or
            infinity (which a network may turn into an ordinary embedding).
    """
    images = check_images(model, images)
    with without_retracing_warning():
        embeddings = np.asarray(model.predict(images, batch_size=batch_size, verbose=0), dtype="float32")
        if mirror:
            mirrored = model.predict(images[:, :, ::-1], batch_size=batch_size, verbose=0)
            embeddings = embeddings + np.asarray(mirrored, dtype="float32")
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings


def check_images(model, images):
    """Images as an array that `model` can embed; raises and warns as `embed` does."""
    images, shape = np.asarray(images), model.input_shape
    if isinstance(shape, (list, dict)):
        raise ValueError(f"The network has {len(shape)} inputs. Of a TripletNet, embed with `.embedding`.")
    fits = images.ndim == len(shape) and all(
        expected in (None, size) for expected, size in zip(shape[1:], images.shape[1:], strict=True)
    )
    if not fits or images.size == 0:
        raise ValueError(f"Expected images of shape (N, {str(shape[1:])[1:-1]}), got {images.shape}.")
    if images.dtype.kind not in "buif":
        raise ValueError(f"Images must be numbers, not {images.dtype}.")
    if images.dtype == np.uint8:
        return images
    smallest, largest = float(images.min()), float(images.max())  # NaN if there is one
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise ValueError(
            "The images hold NaN or infinity: clean or leave out those, see np.isfinite(images)."
        )
    if images.ndim == 4 and ((smallest >= 0 and 0 < largest <= 1) or largest > 255):
        warnings.warn(
            f"The images have values {smallest:g} to {largest:g}. The networks of this course take 0–255: a picture "
            "scaled to 0–1 is nearly black to them. Rescale, unless your network wants them so.",
            stacklevel=3,
        )
    return images


@contextlib.contextmanager
def without_retracing_warning():
    """Keep TensorFlow from warning that many networks are each compiled for `predict`; all else is logged as ever."""
    logger = logging.getLogger("tensorflow")

    def is_another(record):
        return "tf.function retracing" not in record.getMessage()

    logger.addFilter(is_another)
    try:
        yield
    finally:
        logger.removeFilter(is_another)


def load_pretrained():
    """Load the embedding network that ships with the course.

    Returns:
        A `keras.Model`: uint8 images (N, 28, 28, 1) in, float32 unit vectors (N, d) out. Its recipe, seed and
        figures are in `helpers/weights/fashion_mnist.json`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a file is damaged.
    """
    path, record_path = WEIGHTS_FOLDER / "fashion_mnist.weights.h5", WEIGHTS_FOLDER / "fashion_mnist.json"
    cure = "Restore the original: `git checkout -- helpers/weights`, or install the course again."
    for file in (path, record_path):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing. {cure}")
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        recorded, settings = record["sha256"], record["recipe"]["network"]
    except (ValueError, KeyError, TypeError) as error:  # not JSON, not even text, or without these entries
        raise ValueError(f"{record_path} is damaged ({error!r}). {cure}") from error
    if hashlib.sha256(path.read_bytes()).hexdigest() != recorded:
        raise ValueError(
            f"{path} or {record_path} is damaged: the sha256 of the one is not the one that the other records. {cure}"
        )
    # From here on both files are what they were: whatever fails is no fault of theirs.
    # Weights alone, for a network built here: an older Keras may not load a whole model that a newer one saved.
    network = embedding_network(**settings)
    network.load_weights(path)
    return network
