"""The data sets of the course, and the splits that say which images answer which question.

Importing this module starts no deep-learning framework.
"""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA_FOLDER = Path(__file__).parent / "data"

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# sha256 of each file's *decompressed* bytes: two gzip files with the same content may differ in their headers.
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class Dataset(NamedTuple):
    """A labelled image data set with its two original parts."""

    x_train: np.ndarray  # uint8 (N, height, width, channels)
    y_train: np.ndarray  # int64 (N,)
    x_test: np.ndarray  # uint8 (M, height, width, channels)
    y_test: np.ndarray  # int64 (M,)
    class_names: tuple[str, ...]


class PublishedSplit(NamedTuple):
    """The earlier repository's split, so that results compare with it."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_query: np.ndarray
    y_query: np.ndarray
    x_gallery: np.ndarray
    y_gallery: np.ndarray


class HonestSplit(NamedTuple):
    """One part to learn from, one to choose with, and test images that nothing has looked at."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    x_query: np.ndarray
    y_query: np.ndarray
    x_gallery: np.ndarray
    y_gallery: np.ndarray


def load(name, folder=None):
    """Load a data set by name.

    Args:
        name: `"fashion_mnist"` (the files travel with the course, no network is needed) or `"mnist"`
            (downloaded once by `keras.datasets`, then cached).
        folder: where the four Fashion-MNIST files lie, if not beside this module.

    Returns:
        A `Dataset`: uint8 images (N, 28, 28, 1) and integer labels (N,), train and test, with class names.

    Raises:
        ValueError: unknown name, or a file whose content is not the original one.
        FileNotFoundError: a file is missing.
        OSError: MNIST is neither cached nor can it be downloaded.

    Source: Xiao, Rasul & Vollgraf, Fashion-MNIST, 2017 (arXiv 1708.07747).
    """
    if name == "fashion_mnist":
        return _load_fashion_mnist(DATA_FOLDER / name if folder is None else Path(folder))
    if name == "mnist":
        return _load_mnist()
    raise ValueError(f"No data set is called {name!r}. Choose 'fashion_mnist' or 'mnist'.")


def _load_fashion_mnist(folder):
    images_train, labels_train, images_test, labels_test = (
        read_idx(folder / file, sha256) for file, sha256 in FASHION_MNIST_FILES.items()
    )
    return Dataset(
        images_train[..., None],  # (60000, 28, 28) -> (60000, 28, 28, 1)
        labels_train.astype(np.int64),
        images_test[..., None],
        labels_test.astype(np.int64),
        FASHION_MNIST_CLASSES,
    )


def _load_mnist():
    from keras.datasets import mnist  # imported here, so that Fashion-MNIST needs no framework

    try:
        (x_train, y_train), (x_test, y_test) = mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise OSError(
            "MNIST is not cached on this machine and could not be downloaded. Connect to the internet once, "
            "call load('mnist') again, and from then on it works offline. "
            "load('fashion_mnist') needs no network at all."
        ) from error
    return Dataset(
        x_train[..., None],
        y_train.astype(np.int64),
        x_test[..., None],
        y_test.astype(np.int64),
        tuple("0123456789"),
    )


def read_idx(path, sha256=None):
    """Read one gzipped IDX file of unsigned bytes, the format of MNIST and Fashion-MNIST.

    Args:
        path: the `.gz` file.
        sha256: the expected digest of the decompressed content (hexadecimal); `None` checks nothing.

    Returns:
        uint8 array of the shape that the file states.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is not IDX, or its content is not the expected one.

    Source: the format's description, http://yann.lecun.com/exdb/mnist/
    """
    path = Path(path)
    cure = "Restore the original: `git checkout -- helpers/data`, or install the course again."
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {cure}")
    try:
        payload = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged and cannot be decompressed ({error}). {cure}") from error
    if sha256 is not None and hashlib.sha256(payload).hexdigest() != sha256:
        raise ValueError(f"{path} does not hold the original data: its sha256 differs. {cure}")
    # Two zero bytes, the type (8 = unsigned byte), the number of axes, then each axis as a big-endian int32.
    if len(payload) < 4 or payload[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes. {cure}")
    header_size = 4 + 4 * payload[3]
    if len(payload) < header_size:
        raise ValueError(f"{path} ends within its header. {cure}")
    shape = tuple(np.frombuffer(payload[4:header_size], ">u4"))
    values = np.frombuffer(payload, np.uint8, offset=header_size)
    if values.size != np.prod(shape):
        raise ValueError(f"{path} promises shape {shape} but holds {values.size} values. {cure}")
    return values.reshape(shape).copy()  # a writable array, not a view of the file's bytes


def published_split(data):
    """Split as the earlier repository does: 3,000 queries against a gallery of 2,000 training images.

    Args:
        data: a `Dataset` with more than 5,000 training images.

    Returns:
        A `PublishedSplit`: queries `x_train[:3000]`, gallery `x_train[3000:5000]`, training `x_train[5000:]`.

    Source: https://github.com/kdhht2334/Triplet_loss_for_image_retrieval
    """
    _require_images(data, 5_001)
    x, y = data.x_train, data.y_train
    return PublishedSplit(x[5000:], y[5000:], x[:3000], y[:3000], x[3000:5000], y[3000:5000])


def honest_split(data):
    """Split so that the images that judge have never been used to learn or to choose.

    The last 5,000 training images are for validation. The first 5,000 stay out of training, as in
    `published_split`, so that one network can be judged on both splits.

    Args:
        data: a `Dataset` with more than 10,000 training images.

    Returns:
        An `HonestSplit`: training `x_train[5000:-5000]`, validation `x_train[-5000:]`, queries `x_test`,
        gallery `x_train[5000:]` (training and validation images together).
    """
    _require_images(data, 10_001)
    x, y = data.x_train, data.y_train
    return HonestSplit(
        x[5000:-5000], y[5000:-5000], x[-5000:], y[-5000:], data.x_test, data.y_test, x[5000:], y[5000:]
    )


def _require_images(data, count):
    if len(data.x_train) < count:
        raise ValueError(f"This split needs {count:,} training images or more, not {len(data.x_train):,}.")
