"""One file in, one array out: each test writes the picture that it is about."""

import contextlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import warnings
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
    run = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
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


# Grey of other depths, and colours that are transparent


def png_with_transparent_colour(depth, colour_type, row, colour, width):
    def chunk(kind, content):
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", colour), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (1, bytes([0b01000000]), 1, [0, 9]),
        (2, bytes([0b00011011]), 2, [0, 85, 9, 255]),
        (4, bytes([0x0A, 0xF3]), 10, [0, 9, 255, 51]),
        (8, bytes([0, 7, 200, 255]), 200, [0, 7, 9, 255]),
        (16, struct.pack(">4H", 0, 30000, 30001, 65535), 30000, [0, 9, 116, 255]),
        (16, struct.pack(">4H", 0, 257, 65535, 0), 0, [9, 1, 255, 9]),
    ],
)
def test_grey_that_is_transparent_shows_the_background_at_any_depth(
    tmp_path, depth, row, transparent, expected
):
    content = png_with_transparent_colour(depth, 0, row, struct.pack(">H", transparent), len(expected))
    (tmp_path / "a.png").write_bytes(content)
    for colour in (False, True):
        seen = read_picture(tmp_path / "a.png", colour=colour, background=9)
        assert seen[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("depth", "code"), [(8, ">6B"), (16, ">6H")])
def test_colour_that_is_transparent_shows_the_background_at_any_depth(tmp_path, depth, code):
    factor = 1 if depth == 8 else 250  # 16 bits whose two bytes differ
    row = struct.pack(code, *(factor * value for value in (1, 2, 3, 40, 50, 60)))
    colour = struct.pack(">3H", *(factor * value for value in (40, 50, 60)))
    (tmp_path / "a.png").write_bytes(png_with_transparent_colour(depth, 2, row, colour, 2))
    seen = read_picture(tmp_path / "a.png", background=9)[0]
    assert seen[1].tolist() == [9, 9, 9] and (seen[0] < 4).all()


def tiff_of_12_bits(path, values):
    """A row of grey with 12 bits a pixel, packed two to three bytes; its tags say so."""
    packed = bytearray()
    for a, b in zip(values[::2], values[1::2], strict=True):
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    tags = [(256, len(values)), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1),
            (279, len(packed))]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags)
    packed += b"\0" * (len(packed) % 2)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory + bytes(4))


def test_twelve_bits_that_the_file_states_fill_the_scale(tmp_path):
    tiff_of_12_bits(tmp_path / "a.tif", [0, 2048, 4095, 17])
    with Image.open(tmp_path / "a.tif") as picture:
        assert np.asarray(picture)[0].tolist() == [0, 2048, 4095, 17]  # the file is as we think
    assert read_picture(tmp_path / "a.tif", colour=False)[0, :, 0].tolist() == [0, 127, 255, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 100, 255], [0, 100, 255]), ([0, 25700, 65535], [0, 100, 255]), ([0, 256, 65535], [0, 0, 255])],
)
def test_integers_of_32_bits_are_taken_for_8_or_16(tmp_path, values, expected):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
    assert read_picture(tmp_path / "a.tif", colour=False)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "told"), [([0, 65536], "0 to 65,536"), ([-1, 9], "-1 to 9"), ([0, 2**31 - 1], "0 to 2,147,483,647")]
)  # fmt: skip
def test_integers_beyond_16_bits_are_refused_as_fractions_are(tmp_path, values, told):
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableError, match=f"its grey values, {told}, are of unknown scale"):
        read_picture(tmp_path / "a.tif")


def test_grey_of_a_portable_map_has_the_scale_that_it_states(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + struct.pack(">3H", 0, 2048, 4095))
    assert read_picture(tmp_path / "a.pgm", colour=False)[0, :, 0].tolist() == [0, 127, 255]
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 0, 200))
    with pytest.warns(UserWarning, match=r"dark\.pgm: its brightest grey is 200 of 65,535"):
        assert read_picture(tmp_path / "dark.pgm").max() == 0


@pytest.mark.parametrize(
    ("bits", "dark"), [(8, True), (10, True), (12, True), (14, True), (15, False), (16, False)]
)
def test_a_picture_that_uses_little_of_its_scale_is_told(tmp_path, bits, dark):
    brightest = 2**bits - 1
    Image.fromarray(np.linspace(0, brightest, 6).astype(np.uint16)[None]).save(tmp_path / "camera.png")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        array = read_picture(tmp_path / "camera.png", colour=False)
    assert array.max() == brightest // 257
    assert len(told) == dark
    for warned in told:
        assert str(warned.message).startswith(
            f"camera.png: its brightest grey is {brightest:,} of 65,535, so that"
        )
    assert all(w.filename == __file__ for w in told)  # it points at the reader's own line


def test_black_and_dark_bytes_are_what_they_are(tmp_path):
    Image.new("I;16", (3, 3), 0).save(tmp_path / "black.png")
    Image.new("L", (3, 3), 5).save(tmp_path / "bytes.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(tmp_path / "black.png").max() == 0
        assert read_picture(tmp_path / "bytes.png").max() == 5


# Whose fault it is


def test_pillows_limit_may_be_lifted_or_moved(two_colours, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_picture(two_colours).shape == (20, 40, 3)
    assert PictureFiles([two_colours], 6)[0].shape == (6, 6, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 799)
    with pytest.raises(UnreadableError, match="more than 799 pixels"):
        read_picture(two_colours)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)
    assert read_picture(two_colours).shape == (20, 40, 3)


@pytest.mark.parametrize("name", ["features.h5", "weather.grib", "weather.bufr", "drawing.wmf", "film.mpg"])
def test_intact_files_that_are_no_pictures_are_not_called_damaged(tmp_path, name):
    head = {
        "h5": b"\x89HDF\r\n\x1a\n",
        "grib": b"GRIB\0\0\0\1",
        "bufr": b"BUFR",
        "wmf": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 99, 99, 99) + bytes(6) + b"\x01\0\t\0",
        "mpg": b"\0\0\1\xb3\x10\x01\x00\x00",
    }[name.partition(".")[2]]
    (tmp_path / name).write_bytes(head + bytes(200))
    with pytest.raises(UnreadableError) as error:
        read_picture(tmp_path / name)
    assert error.value.reason == "it is not a picture"


@pytest.mark.parametrize(
    "fault", [NameError("a slip of ours"), MemoryError(), OSError(5, "Input/output error")]
)
@pytest.mark.parametrize("place", ["PIL.ImageFile.ImageFile.load", "PIL.Image.open"])
def test_other_faults_are_not_called_damage(two_colours, monkeypatch, place, fault):
    def fail(*arguments, **options):
        raise fault

    monkeypatch.setattr(place, fail)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(type(fault)) as error:
        read_picture(two_colours)
    assert error.value is fault


@pytest.mark.parametrize("step", ["PIL.Image.alpha_composite", "PIL.Image.Image.convert", "numpy.asarray"])
def test_a_slip_after_decoding_is_not_the_files_damage(tmp_path, monkeypatch, step):
    path = tmp_path / "a.png"
    if step == "numpy.asarray":
        Image.new("I;16", (2, 2), 40000).save(path)
    else:
        Image.new("RGBA", (2, 2)).save(path)

    def slip(*arguments, **options):
        raise TypeError("a slip of ours")

    monkeypatch.setattr(step, slip)
    with pytest.raises(TypeError, match="a slip of ours"):
        read_picture(path)


def test_colours_that_are_not_read_are_no_damage(tmp_path):
    Image.new("LAB", (2, 2)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableError, match=r"a\.tif cannot be read: its colours are those of CIELAB"):
        read_picture(tmp_path / "a.tif")


def test_of_several_pictures_the_first_is_taken(tmp_path):
    for name, kind in (("phone.jpg", "MPO"), ("pages.tif", "TIFF")):
        photo, depth = Image.new("RGB", (16, 8), GREEN), Image.new("RGB", (16, 8), BLUE)
        photo.save(tmp_path / name, kind, save_all=True, append_images=[depth])
        np.testing.assert_allclose(read_picture(tmp_path / name)[4, 4], GREEN, atol=6)


# What would keep a reader waiting for ever


@pytest.fixture
def soon():
    """An alarm instead of a test that never ends."""

    def stop(*_):
        raise TimeoutError("still waiting after 10 s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path, soon, five):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        listener.bind("socket.png")  # a whole path may be too long for a socket
        for path in ("pipe.png", tmp_path / "link.png", "socket.png", "/dev/zero"):
            with pytest.raises(UnreadableError, match="it is a pipe, a socket or a device, not a file"):
                read_picture(path)
    with pytest.raises(UnreadableError, match=r"^pipe\.png cannot be read"):
        PictureFiles([*five, tmp_path / "pipe.png"], 6)[:]


def test_importing_leaves_the_warnings_filters_alone():
    code = (
        "import warnings, numpy\n"
        "before = list(warnings.filters)\n"
        "import helpers.pictures, helpers.photos, helpers.data, helpers.benchmarks, helpers.streaming\n"
        "print(before == warnings.filters)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert run.stdout == "True\n", run.stderr
