import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest

from helpers import data
from helpers.data import Dataset, honest_split, load, published_split, read_idx

CURE = r"Restore the original: `git checkout -- helpers/data`, or install the course again\.$"
LABELS_FILE = "t10k-labels-idx1-ubyte.gz"


def idx(array):
    """The content of an IDX file that holds `array`."""
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(path, content):
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def tiny_folder(tmp_path, monkeypatch):
    """Four small files that stand for Fashion-MNIST's, with hashes of their own."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte.gz": np.arange(6, dtype=np.uint8),
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (4, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.arange(4, dtype=np.uint8)[::-1].copy(),
    }
    hashes = {name: hashlib.sha256(idx(array)).hexdigest() for name, array in arrays.items()}
    assert list(hashes) == list(data.FASHION_MNIST_FILES)
    monkeypatch.setattr(data, "FASHION_MNIST_FILES", hashes)
    for name, array in arrays.items():
        write(tmp_path / name, idx(array))
    return tmp_path


# The data set that travels with the course


@pytest.fixture(scope="module")
def fashion_mnist():
    return load("fashion_mnist")


def test_fashion_mnist_has_its_published_shape(fashion_mnist):
    x_train, y_train, x_test, y_test, class_names = fashion_mnist
    assert (x_train.shape, x_train.dtype) == ((60_000, 28, 28, 1), np.uint8)
    assert (x_test.shape, x_test.dtype) == ((10_000, 28, 28, 1), np.uint8)
    assert (y_train.shape, y_train.dtype) == ((60_000,), np.int64)
    assert (y_test.shape, y_test.dtype) == ((10_000,), np.int64)
    assert class_names == (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    assert np.bincount(y_train).tolist() == [6_000] * 10
    assert np.bincount(y_test).tolist() == [1_000] * 10
    assert y_train[:5].tolist() == [9, 0, 0, 3, 0]
    assert y_test[:5].tolist() == [9, 2, 1, 1, 6]
    assert round(x_train.mean(), 2) == 72.94
    assert isinstance(fashion_mnist, Dataset)


def test_recorded_hashes_are_the_original_ones():
    assert [digest[:8] for digest in data.FASHION_MNIST_FILES.values()] == [
        "c59f468a", "bad3541b", "5b4141f0", "0402a96d",
    ]  # fmt: skip


def test_folder_may_be_given_as_path_or_text(tiny_folder):
    for folder in (tiny_folder, str(tiny_folder)):
        loaded = load("fashion_mnist", folder)
        assert loaded.x_train.shape == (6, 28, 28, 1)
        assert loaded.y_train.tolist() == [0, 1, 2, 3, 4, 5]
        assert loaded.x_test.shape == (4, 28, 28, 1)
        assert loaded.y_test.tolist() == [3, 2, 1, 0]
        assert loaded.y_train.dtype == loaded.y_test.dtype == np.int64


def test_images_are_writable(tiny_folder):
    loaded = load("fashion_mnist", tiny_folder)
    loaded.x_train[0] = 7
    assert (loaded.x_train[0] == 7).all()


@pytest.mark.parametrize("name", ["cifar10", "Fashion_MNIST", "", None])
def test_unknown_name_is_refused_with_the_known_ones(name):
    message = f"^No data set is called {name!r}. Choose 'fashion_mnist' or 'mnist'.$"
    with pytest.raises(ValueError, match=message):
        load(name)


# Damaged files: the error names the file and the cure


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"train-images-idx3-ubyte\.gz is missing\. {CURE}"):
        load("fashion_mnist", tmp_path)


@pytest.mark.parametrize("name", list(data.FASHION_MNIST_FILES))
def test_missing_file_is_named(tiny_folder, name):
    (tiny_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing\. {CURE}"):
        load("fashion_mnist", tiny_folder)


def test_folder_in_place_of_a_file_counts_as_missing(tiny_folder):
    (tiny_folder / LABELS_FILE).unlink()
    (tiny_folder / LABELS_FILE).mkdir()
    with pytest.raises(FileNotFoundError, match=rf"{LABELS_FILE} is missing\. {CURE}"):
        load("fashion_mnist", tiny_folder)


@pytest.mark.parametrize("name", list(data.FASHION_MNIST_FILES))
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file_is_named(tiny_folder, name, keep):
    content = (tiny_folder / name).read_bytes()
    (tiny_folder / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=rf"{name} (is damaged|does not hold).*{CURE}"):
        load("fashion_mnist", tiny_folder)


def test_reason_of_the_decompressor_is_kept(tmp_path):
    path = write(tmp_path / "some.gz", idx(np.arange(100, dtype=np.uint8)))
    path.write_bytes(path.read_bytes()[:-20])
    message = rf"some\.gz is damaged and cannot be decompressed \(Compressed file ended before .*\)\. {CURE}"
    with pytest.raises(ValueError, match=message) as error:
        read_idx(path)
    assert isinstance(error.value.__cause__, EOFError)


def test_every_flipped_bit_is_noticed(tmp_path):
    """Flip each bit of a real file's first and last bytes, and some between."""
    original = (data.DATA_FOLDER / "fashion_mnist" / LABELS_FILE).read_bytes()
    header_end = 10 + len(LABELS_FILE)  # a gzip header holds a time and perhaps a name, which change no image
    path = tmp_path / LABELS_FILE
    for position in [
        header_end + 30,
        *range(1000, len(original), 1000),
        *range(len(original) - 8, len(original)),
    ]:
        damaged = bytearray(original)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{LABELS_FILE} (is damaged|does not hold).*{CURE}"):
            read_idx(path, data.FASHION_MNIST_FILES[LABELS_FILE])


def test_changed_pixel_is_noticed_though_the_archive_is_sound(tiny_folder):
    name = "train-images-idx3-ubyte.gz"
    content = bytearray(gzip.decompress((tiny_folder / name).read_bytes()))
    content[-1] ^= 1
    write(tiny_folder / name, bytes(content))
    with pytest.raises(
        ValueError, match=rf"{name} does not hold the original data: its sha256 differs\. {CURE}"
    ):
        load("fashion_mnist", tiny_folder)


def test_swapped_files_are_noticed(tiny_folder):
    one, other = tiny_folder / "train-labels-idx1-ubyte.gz", tiny_folder / LABELS_FILE
    shutil.copy(one, tiny_folder / "swap")
    shutil.copy(other, one)
    shutil.copy(tiny_folder / "swap", other)
    with pytest.raises(
        ValueError, match=rf"{one.name} does not hold the original data: its sha256 differs\. {CURE}"
    ):
        load("fashion_mnist", tiny_folder)


def test_not_gzipped_file_is_named(tmp_path):
    path = tmp_path / "plain.gz"
    path.write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=rf"plain\.gz is damaged .*{CURE}"):
        read_idx(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        b"\x00\x00\x0d\x01\x00\x00\x00\x00",
        b"\x00\x01\x08\x00",
        b"\x01\x00\x08\x00",
        b"PNG image",
    ],
    ids=["empty", "three bytes", "floats", "second byte", "first byte", "text"],
)
def test_wrong_magic_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=rf"some\.gz is not an IDX file of unsigned bytes\. {CURE}"):
        read_idx(write(tmp_path / "some.gz", content))


@pytest.mark.parametrize("extra", [-1, 1, -6])
def test_file_with_too_few_or_too_many_values_is_refused(tmp_path, extra):
    content = idx(np.arange(6, dtype=np.uint8).reshape(2, 3))
    content = content + b"\x00" if extra > 0 else content[:extra]
    message = rf"some\.gz promises shape \(.*2.*3.*\) but holds {6 + extra} values\. {CURE}"
    with pytest.raises(ValueError, match=message):
        read_idx(write(tmp_path / "some.gz", content))


# read_idx


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (300, 1, 2), (0,), (0, 28, 28)])
def test_idx_round_trip(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = write(tmp_path / "some.gz", idx(array))
    result = read_idx(path)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, array)
    np.testing.assert_array_equal(read_idx(str(path), hashlib.sha256(idx(array)).hexdigest()), array)


def test_hash_is_compared_when_it_is_given(tmp_path):
    path = write(tmp_path / "some.gz", idx(np.zeros(3, np.uint8)))
    read_idx(path, None)
    for wrong in ("0" * 64, ""):
        with pytest.raises(ValueError, match="its sha256 differs"):
            read_idx(path, wrong)


# MNIST


def test_mnist_offline_says_what_to_do(monkeypatch):
    import keras

    def no_network():
        raise Exception("URL fetch failure on https://storage.googleapis.com/…")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", no_network)
    with pytest.raises(OSError) as error:
        load("mnist")
    assert str(error.value) == (
        "MNIST is not cached on this machine and could not be downloaded. Connect to the internet once, "
        "call load('mnist') again, and from then on it works offline. "
        "load('fashion_mnist') needs no network at all."
    )
    assert "URL fetch failure" in str(error.value.__cause__)


def test_mnist_has_the_same_form(monkeypatch):
    import keras

    x, y = np.arange(5 * 28 * 28, dtype=np.uint8).reshape(5, 28, 28), np.array([5, 0, 4, 1, 9], np.uint8)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: ((x, y), (x[:2], y[:2])))
    loaded = load("mnist")
    assert isinstance(loaded, Dataset)
    np.testing.assert_array_equal(loaded.x_train, x[..., None])
    np.testing.assert_array_equal(loaded.x_test, x[:2, ..., None])
    assert loaded.y_train.tolist() == [5, 0, 4, 1, 9]
    assert loaded.y_test.tolist() == [5, 0]
    assert loaded.y_train.dtype == loaded.y_test.dtype == np.int64
    assert loaded.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


# Splits


def numbered(train, test=7):
    """A data set whose images are their own index, test images counted from a million."""
    x, x_test = np.arange(train), 1_000_000 + np.arange(test)
    return Dataset(x, 10 * x, x_test, 10 * x_test, ("a", "b"))


def test_published_split_is_the_earlier_repositorys():
    split = published_split(numbered(6_000))
    assert (split.x_query == np.arange(3_000)).all()
    assert (split.x_gallery == np.arange(3_000, 5_000)).all()
    assert (split.x_train == np.arange(5_000, 6_000)).all()
    for part in ("query", "gallery", "train"):
        assert (getattr(split, f"y_{part}") == 10 * getattr(split, f"x_{part}")).all()


def test_honest_split_keeps_the_test_images_apart():
    split = honest_split(numbered(12_000))
    assert (split.x_train == np.arange(5_000, 7_000)).all()
    assert (split.x_valid == np.arange(7_000, 12_000)).all()
    assert (split.x_query == 1_000_000 + np.arange(7)).all()
    assert (split.x_gallery == np.arange(5_000, 12_000)).all()
    for part in ("train", "valid", "query", "gallery"):
        assert (getattr(split, f"y_{part}") == 10 * getattr(split, f"x_{part}")).all()


@pytest.mark.parametrize(("split", "least"), [(published_split, 5_001), (honest_split, 10_001)])
def test_too_few_images_to_split_are_refused(split, least):
    assert len(split(numbered(least)).x_train) == 1
    message = f"^This split needs {least:,} training images or more, not {least - 1:,}.$"
    with pytest.raises(ValueError, match=message):
        split(numbered(least - 1))


def test_splits_of_fashion_mnist(fashion_mnist):
    published, honest = published_split(fashion_mnist), honest_split(fashion_mnist)
    assert [len(part) for part in published] == [55_000, 55_000, 3_000, 3_000, 2_000, 2_000]
    assert [len(part) for part in honest] == [50_000, 50_000, 5_000, 5_000, 10_000, 10_000, 55_000, 55_000]
