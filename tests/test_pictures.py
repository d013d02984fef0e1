"""One file in, one array out: each test writes the picture that it is about."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import PictureFiles, UnreadableError, normalised, read_picture

ROOT = Path(__file__).resolve().parents[1]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def two_colours(tmp_path):
    """A picture 40 wide and 20 high, red on the left and blue on the right."""
    array = np.zeros((20, 40, 3), np.uint8)
    array[:, :20], array[:, 20:] = RED, BLUE
    path = tmp_path / "two.png"
    Image.fromarray(array).save(path)
    return path


# Colour and size


def test_own_size_and_colours(two_colours):
    array = read_picture(two_colours)
    assert (array.shape, array.dtype) == ((20, 40, 3), np.uint8)
    assert (array[:, :20] == RED).all() and (array[:, 20:] == BLUE).all()
    array[:] = 0  # writable


def test_grey_has_one_channel_and_the_usual_weights(two_colours):
    array = read_picture(str(two_colours), colour=False)
    assert array.shape == (20, 40, 1)
    assert array[0, 0, 0] == round(0.299 * 255) and array[0, -1, 0] == round(0.114 * 255)  # ITU-R 601


def test_grey_file_in_colour(tmp_path):
    Image.new("L", (3, 2), 77).save(tmp_path / "grey.png")
    assert (read_picture(tmp_path / "grey.png") == np.full((2, 3, 3), 77)).all()


def test_pad_keeps_all_of_it(two_colours):
    array = read_picture(
        two_colours, (30, 20), background=200
    )  # 20 x 10 in the middle of a frame 20 wide, 30 high
    assert array.shape == (30, 20, 3)
    assert (array[:10] == 200).all() and (array[20:] == 200).all()
    assert (array[10:20, :8] == RED).all() and (array[10:20, 12:] == BLUE).all()


def test_pad_beside(two_colours):
    array = read_picture(two_colours, (20, 60), colour=False)
    assert (array[:, :10] == 255).all() and (array[:, 50:] == 255).all() and array[0, 10, 0] == 76


def test_crop_fills_the_frame_from_the_middle(two_colours):
    array = read_picture(two_colours, 20, fit="crop")
    assert (array[:, :10] == RED).all() and (array[:, 10:] == BLUE).all()


def test_stretch_changes_the_proportions(two_colours):
    array = read_picture(two_colours, (40, 40), fit="stretch")
    assert (array[:, :18] == RED).all() and (array[:, 22:] == BLUE).all()


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (1000, 1), (1, 1000), (3, 2000)])
def test_any_shape_comes_to_any_size(tmp_path, fit, size):
    Image.new("RGB", size, GREEN).save(tmp_path / "odd.png")
    array = read_picture(tmp_path / "odd.png", (28, 28), fit=fit, background=0)
    assert array.shape == (28, 28, 3)
    assert (array == GREEN).all(axis=-1).any()


@pytest.mark.parametrize("size", [0, -1, 2.5, (28,), (28, 28, 1), (0, 28), (28, 0), (28, 1.5)])
def test_impossible_sizes_are_refused(two_colours, size):
    with pytest.raises(ValueError, match="size must be"):
        read_picture(two_colours, size)


def test_whole_numbers_of_any_type_are_sizes(two_colours):
    for size in (np.int64(5), 5.0, [5, 5], np.array([5, 5])):
        assert read_picture(two_colours, size).shape == (5, 5, 3)


def test_unknown_fit_and_background_are_refused(two_colours):
    with pytest.raises(ValueError, match="fit must be 'pad', 'crop' or 'stretch', not 'zoom'"):
        read_picture(two_colours, 8, fit="zoom")
    for background in (-1, 256):
        with pytest.raises(ValueError, match="background must be"):
            read_picture(two_colours, 8, background=background)


# What real files hold


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif", "a.ppm", "A.JPG", "no_suffix"]
)
def test_common_formats(tmp_path, name):
    format_ = None if "." in name else "PNG"
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / name, format=format_)
    np.testing.assert_allclose(read_picture(tmp_path / name)[4, 4], (200, 100, 50), atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_bytes(tmp_path, mode):
    name = "a.png" if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16") else "a.tif"
    picture = (
        Image.new("I;16", (4, 4), 65535)
        if mode == "I;16"
        else Image.new("RGB", (4, 4), "white").convert(mode)
    )
    picture.save(tmp_path / name)
    for colour, channels in ((True, 3), (False, 1)):
        array = read_picture(tmp_path / name, colour=colour)
        assert array.shape == (4, 4, channels) and array.dtype == np.uint8
        assert (array >= 254).all()


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16)).save(tmp_path / "scan.png")
    assert read_picture(tmp_path / "scan.png", colour=False)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_fractions_are_refused(tmp_path):
    Image.new("F", (4, 4), 0.5).save(tmp_path / "depth.tif")
    with pytest.raises(UnreadableError, match="fractions"):
        read_picture(tmp_path / "depth.tif")


@pytest.mark.parametrize("background", [255, 0, 128])
def test_transparency_shows_the_background(tmp_path, background):
    array = np.zeros((1, 3, 4), np.uint8)
    array[0] = [[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]
    Image.fromarray(array).save(tmp_path / "logo.png")
    seen = read_picture(tmp_path / "logo.png", background=background)[0]
    assert seen[0].tolist() == [255, 0, 0] and seen[1].tolist() == [background] * 3
    np.testing.assert_allclose(seen[2], background * (1 - 128 / 255), atol=1)


def test_transparent_colour_of_a_palette(tmp_path):
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.gif", transparency=0)
    assert read_picture(tmp_path / "a.gif", background=9)[0].tolist() == [[9, 9, 9], [0, 0, 255]]


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in (RED, GREEN, BLUE)]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(
            tmp_path / name,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if "webp" in name else {}),
        )
        assert (read_picture(tmp_path / name) == RED).all(), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0] = RED, GREEN, BLUE
    # how a camera stores an upright scene under each orientation (EXIF 2.3, tag 0x0112)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "photo.png"), upright)


def test_damaged_note_does_not_cost_the_picture(tmp_path):
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05broken"
    Image.new("RGB", (8, 8), GREEN).save(tmp_path / "photo.jpg", exif=exif)
    np.testing.assert_allclose(read_picture(tmp_path / "photo.jpg")[4, 4], GREEN, atol=6)


# What is no picture


def test_missing_file_and_folder_keep_their_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(OSError):
        read_picture(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "it is not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is not a picture"),
        (b"%PDF-1.4", "it is not a picture"),
        (b"\x89PNG\r\n\x1a\n", "it is (not a picture|damaged)"),
        (b"GIF89a", "it is (not a picture|damaged)"),
        (b"\xff\xd8\xff\xe0", "it is (not a picture|damaged)"),
    ],
)
def test_no_picture_is_named_with_its_reason(tmp_path, content, reason):
    (tmp_path / "strange.png").write_bytes(content)
    with pytest.raises(UnreadableError, match=rf"^strange\.png cannot be read: {reason}") as error:
        read_picture(tmp_path / "strange.png")
    assert isinstance(error.value, ValueError) and "strange" not in error.value.reason


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_cut_files_are_refused_or_whole(tmp_path, format_):
    """Wherever a file is cut: the picture, or UnreadableError, never another error and never a partial picture."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format_)
    whole = buffer.getvalue()
    path = tmp_path / "cut"
    path.write_bytes(whole)
    expected, refused = read_picture(path), 0
    for keep in np.linspace(1, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:keep])
        try:
            np.testing.assert_array_equal(read_picture(path), expected)
        except UnreadableError:
            refused += 1
    assert refused >= 36  # the last bytes of some formats say nothing about the picture


def test_flipped_bits_raise_nothing_else(tmp_path):
    rng = np.random.default_rng(1)
    for format_ in ("JPEG", "PNG", "GIF", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, format_)
        for _ in range(60):
            content = bytearray(buffer.getvalue())
            for position in rng.integers(0, len(content), 4):
                content[position] ^= 1 << rng.integers(8)
            (tmp_path / "flipped").write_bytes(content)
            try:
                assert read_picture(tmp_path / "flipped", 8).shape == (8, 8, 3)
            except UnreadableError:
                pass


def png_of(width, height):
    """The file of a PNG that promises so many pixels and holds none."""

    def chunk(kind, content):
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 60_000])  # Pillow warns of the first and refuses the second
def test_bombs_are_refused_before_they_go_off(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_of(side, side))
    with pytest.raises(UnreadableError, match="more than 89,478,485 pixels"):
        read_picture(tmp_path / "bomb.png", 8)


def test_postscript_is_not_run(tmp_path):
    Image.new("RGB", (8, 8), RED).save(tmp_path / "drawing.eps")
    with pytest.raises(UnreadableError, match="it is not a picture"):
        read_picture(tmp_path / "drawing.eps")


def test_nothing_is_written_to_stderr(tmp_path):
    """Odd files that make Pillow warn leave a notebook's output clean."""
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05broken"
    Image.new("RGB", (8, 8), GREEN).save(tmp_path / "photo.jpg", exif=exif)
    palette = Image.new("RGBA", (4, 4), (1, 2, 3, 0)).quantize()
    palette.save(tmp_path / "palette.png", transparency=bytes([0] * 3))
    (tmp_path / "bomb.png").write_bytes(png_of(10_000, 10_000))
    code = (
        "import sys\nfrom helpers.pictures import *\n"
        "for name in sys.argv[1:]:\n"
        "    try: read_picture(name, 8, colour='grey' not in name)\n"
        "    except UnreadableError as error: print(error)"
    )
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    run = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("bomb.png cannot be read: more than")


# Many files that are read when they are asked for


@pytest.fixture
def five(tmp_path):
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (12, 6), (10 * i, 0, 0)).save(paths[-1])
    return paths


def test_files_look_like_an_array(five):
    files = PictureFiles(five, 6)
    assert (len(files), files.shape, files.ndim, files.dtype) == (5, (5, 6, 6, 3), 4, np.uint8)
    everything = files[:]
    assert (everything.shape, everything.dtype) == (files.shape, files.dtype)
    assert everything[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    for chosen in (3, -1, slice(1, 4), slice(None, None, -2), [4, 0, 4], np.array([2]), np.arange(5) > 2):
        np.testing.assert_array_equal(files[chosen], everything[chosen])
    assert (files[2:2].shape, files[2:2].dtype) == ((0, 6, 6, 3), np.uint8)
    with pytest.raises(IndexError):
        files[5]


def test_files_take_the_options_of_one_picture(five):
    files = PictureFiles(map(str, five), (4, 12), colour=False, fit="pad", background=9)
    assert files.shape == (5, 4, 12, 1)
    assert files[1][0, :, 0].tolist() == [9, 9, 3, 3, 3, 3, 3, 3, 3, 3, 9, 9]
    assert PictureFiles(five, 4).options["fit"] == "crop"


def test_files_need_a_size(five):
    with pytest.raises(ValueError, match="Give a size"):
        PictureFiles(five, None)
    with pytest.raises(ValueError, match="size must be"):
        PictureFiles(five, (4,))


def test_file_is_read_only_when_asked_for(five):
    five[2].write_text("no picture any more", encoding="utf-8")
    files = PictureFiles(five, 6)
    assert len(files[[0, 1, 3]]) == 3
    with pytest.raises(UnreadableError, match=r"^2\.png cannot be read"):
        files[[1, 2]]


def test_files_feed_balanced_batches(five):
    from helpers.sampling import BalancedBatches

    batches = BalancedBatches(PictureFiles(five, 6), np.array([0, 0, 1, 1, 1]), 2, 2, seed=0)
    images, labels = batches[0]
    assert images.shape == (4, 6, 6, 3) and sorted(labels.tolist()) == [0, 0, 1, 1]
    for image, label in zip(images, labels, strict=True):
        assert (image[0, 0, 0] // 10 >= 2) == label


def test_normalised_name():
    assert normalised("e\u0301") == "\u00e9" and normalised("plain") == "plain"
