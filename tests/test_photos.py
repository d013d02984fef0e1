"""A stranger's picture is opened with care: every bad input gets an answer or a sentence, soon."""

import io
import os
import signal
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.photos import MAX_BYTES, SIDE, PictureError, open_picture, prepare


def encoded(array_or_image, kind="PNG", **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def disc(side=200, ground=240, ink=30):
    """A dark disc on light paper, off the centre."""
    y, x = np.mgrid[:side, :side]
    inside = (x - 0.3 * side) ** 2 + (y - 0.6 * side) ** 2 < (0.2 * side) ** 2
    return np.where(inside, ink, ground).astype(np.uint8)


def png_of_size(width, height, bits=1):
    """A valid PNG of any size, without having its pixels in memory: a decompression bomb."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    row = bytes(1 + (width * bits + 7) // 8)
    pack, rows = zlib.compressobj(9), []
    for _ in range(height):
        rows.append(pack.compress(row))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", b"".join(rows) + pack.flush())
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_formats_give_the_same_picture(kind):
    picture, remarks = open_picture(encoded(disc(), kind))
    assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8 and remarks == []
    assert np.abs(picture.astype(int) - disc()[..., None]).mean() < 3


def test_path_and_bytes_are_the_same(tmp_path):
    path = tmp_path / "disc.png"
    path.write_bytes(encoded(disc()))
    assert np.array_equal(open_picture(path)[0], open_picture(path.read_bytes())[0])
    assert np.array_equal(open_picture(str(path))[0], open_picture(path)[0])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_fifty_megapixels_are_answered_soon(kind):
    big = encoded(Image.fromarray(disc(100)).convert("RGB").resize((8700, 5800)), kind)
    started = time.perf_counter()
    picture, _ = open_picture(big)
    prepare(picture)
    assert picture.shape == (341, SIDE, 3)
    assert time.perf_counter() - started < 10  # one to two seconds on an idle machine


@pytest.mark.parametrize("size", [(9000, 9000), (13_000, 13_000), (30_000, 30_000)])
def test_decompression_bomb_is_refused_by_its_header(size):
    bomb = png_of_size(*size)
    assert len(bomb) < 200_000
    started = time.perf_counter()
    with pytest.raises(PictureError, match="Make it smaller"):
        open_picture(bomb)
    assert time.perf_counter() - started < 0.5


def test_pillows_own_warning_is_left_as_it_was():
    bomb = png_of_size(10_000, 10_000)
    with pytest.raises(PictureError, match="100 million pixels"):
        open_picture(bomb)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(bomb))


@pytest.mark.parametrize(
    "content",
    [b"", b"I am no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n", bytes(1000)],
)  # fmt: skip
def test_what_is_no_picture_gets_a_sentence(content):
    with pytest.raises(PictureError, match=r"^This (file|picture) .*\.$"):
        open_picture(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_every_cut_of_a_file_gives_a_picture_or_a_sentence(kind):
    content = encoded(disc(60), kind)
    for end in range(0, len(content), max(1, len(content) // 40)):
        try:
            picture, _ = open_picture(content[:end])
        except PictureError:
            continue
        assert picture.shape == (60, 60, 3)


def test_flipped_bytes_never_raise_anything_else():
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        content = np.frombuffer(encoded(disc(40), kind), np.uint8)
        for _ in range(60):
            damaged = content.copy()
            damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
            try:
                open_picture(damaged.tobytes())
            except PictureError as error:
                assert str(error).endswith(".")


def test_too_large_a_file():
    with pytest.raises(PictureError, match="megabytes"):
        open_picture(bytes(MAX_BYTES + 1))


def test_other_formats_are_not_even_tried():
    with pytest.raises(PictureError, match="not a picture"):
        open_picture(encoded(disc(), "TIFF"))


def test_animation_gives_its_first_frame():
    frames = [Image.fromarray(disc(ink=ink)) for ink in (0, 120, 200)]
    for kind in ("GIF", "PNG", "WEBP"):
        animated = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        picture, remarks = open_picture(animated)
        assert remarks == ["The picture is animated: its first frame is used."]
        assert np.abs(picture.astype(int) - disc(ink=0)[..., None]).mean() < 3


@pytest.mark.parametrize(("ink", "ground"), [(20, 255), (230, 0)])
def test_transparency_is_filled_so_that_the_object_stands_out(ink, ground):
    opacity = np.where(disc() < 100, 255, 0).astype(np.uint8)
    rgba = np.dstack([np.full((200, 200, 3), ink, np.uint8), opacity])
    picture, remarks = open_picture(encoded(rgba))
    assert remarks == [f"Transparent parts are filled with {'white' if ground else 'black'}."]
    assert set(np.unique(picture)) == {ink, ground}
    palette = encoded(Image.fromarray(rgba).quantize(8))  # transparency in a palette
    assert np.abs(open_picture(palette)[0].astype(int) - picture).mean() < 3
    grey_with_opacity = encoded(Image.fromarray(rgba).convert("LA"))
    assert np.array_equal(open_picture(grey_with_opacity)[0], picture)


def test_nothing_but_transparency_is_an_even_surface():
    picture, _ = open_picture(encoded(np.zeros((50, 50, 4), np.uint8)))
    with pytest.raises(PictureError, match="one even surface"):
        prepare(picture)


def test_sixteen_bits_black_and_white_and_cmyk():
    deep = Image.fromarray(disc().astype(np.uint16) * 257)
    assert np.array_equal(open_picture(encoded(deep))[0][..., 0], disc())
    two = Image.fromarray(disc()).convert("1", dither=Image.Dither.NONE)
    assert set(np.unique(open_picture(encoded(two))[0])) == {0, 255}
    cmyk = encoded(Image.fromarray(disc()).convert("RGB").convert("CMYK"), "JPEG")
    assert np.abs(open_picture(cmyk)[0].astype(int) - disc()[..., None]).mean() < 6


def test_camera_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    turned = open_picture(encoded(Image.fromarray(disc()).convert("RGB"), "JPEG", exif=exif))[0]
    upright = np.rot90(disc(), -1)
    assert np.abs(turned.astype(int) - upright[..., None]).mean() < 3
    deep = encoded(Image.fromarray(disc().astype(np.uint16) * 257), exif=exif)
    assert np.array_equal(open_picture(deep)[0][..., 0], upright)


def test_large_pictures_are_shrunk_and_small_ones_left():
    assert open_picture(encoded(disc(1600)))[0].shape == (SIDE, SIDE, 3)
    assert open_picture(encoded(disc(30)))[0].shape == (30, 30, 3)
    wide = encoded(np.zeros((1, 5000), np.uint8))
    assert open_picture(wide)[0].shape == (1, SIDE, 3)


@pytest.mark.parametrize("picture", [np.zeros((1, 1, 3)), np.full((40, 30, 3), 255), np.full((9, 9, 3), 131)])
def test_even_surface_is_refused(picture):
    with pytest.raises(PictureError, match="one even surface"):
        prepare(picture.astype(np.uint8))


def rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def test_prepare_trims_centres_and_turns_light_on_dark():
    dark_on_light, light_on_dark = (
        prepare(rgb(disc(ground=240, ink=30))),
        prepare(rgb(disc(ground=30, ink=240))),
    )
    assert list(dark_on_light) == ["as given", "grey", "light on dark", "trimmed", "28 × 28, centred"]
    for steps in (dark_on_light, light_on_dark):
        final = steps["28 × 28, centred"]
        assert final.shape == (28, 28) and final.dtype == np.uint8
        assert final[14, 14] == 255 and final[0, 0] == final[27, 27] == 0
        occupied = final > 127
        assert occupied.any(axis=1).sum() >= 27 and occupied.any(axis=0).sum() >= 27  # it fills the frame
        assert abs(occupied.mean() - np.pi / 4) < 0.03
    assert np.array_equal(*(s["28 × 28, centred"] for s in (dark_on_light, light_on_dark)))


def test_prepare_keeps_proportions():
    grey = np.full((300, 300), 250, np.uint8)
    grey[20:220, 200:250] = 10  # 200 high, 50 wide
    final = prepare(rgb(grey))["28 × 28, centred"] > 127
    assert final.any(axis=1).sum() == 28 and final.any(axis=0).sum() == 7
    assert np.flatnonzero(final.any(axis=0))[0] in (10, 11)


def test_prepare_ignores_a_speck_of_dust_but_not_a_small_object():
    grey = disc(400)
    grey[3, 390] = 30
    assert np.array_equal(prepare(rgb(grey))["trimmed"], prepare(rgb(disc(400)))["trimmed"])
    grey = np.full((400, 400), 250, np.uint8)
    grey[200, 100:103] = 0
    assert prepare(rgb(grey))["trimmed"].shape == (1, 3)


def test_prepare_weighs_colours_as_the_eye_does():
    picture = np.zeros((3, 3, 3), np.uint8)
    picture[1, 1] = (0, 255, 0)
    assert prepare(picture)["grey"][1, 1] == round(0.587 * 255)


# Whose fault it is, and what is told


def test_phones_picture_of_several_is_not_called_animated():
    photo = Image.fromarray(disc()).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    phone = encoded(photo, "MPO", save_all=True, append_images=[photo.resize((40, 40))], exif=exif)
    with Image.open(io.BytesIO(phone)) as opened:
        assert (opened.format, opened.is_animated) == ("MPO", True)  # as Pillow sees it
    picture, remarks = open_picture(phone)
    assert remarks == []
    assert np.abs(picture.astype(int) - np.rot90(disc(), -1)[..., None]).mean() < 3


@pytest.mark.parametrize("limit", [None, 1])
def test_pillows_own_limit_plays_no_part(monkeypatch, limit):
    """`None` must not make every picture damaged, nor is this module's limit lifted by it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if limit is None:
        assert open_picture(encoded(disc()))[0].shape == (200, 200, 3)
        with pytest.raises(PictureError, match="81 million pixels, and at most 64 million"):
            open_picture(png_of_size(9000, 9000))
    else:
        with pytest.raises(PictureError, match="far too many pixels, and at most 64 million"):
            open_picture(encoded(disc()))


@pytest.mark.parametrize(
    "fault", [NameError("a slip of ours"), MemoryError(), OSError(5, "Input/output error")]
)
@pytest.mark.parametrize(
    "place", ["PIL.Image.open", "PIL.PngImagePlugin.PngImageFile.load", "helpers.photos.decode"]
)
def test_other_faults_are_not_the_pictures(monkeypatch, place, fault):
    content = encoded(disc())

    def fail(*arguments, **options):
        raise fault

    monkeypatch.setattr(place, fail)
    with pytest.raises(type(fault)) as error:
        open_picture(content)
    assert error.value is fault


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_and_device_are_refused_at_once(tmp_path):
    def stop(*_):
        raise TimeoutError("still waiting after 10 s")

    os.mkfifo(tmp_path / "pipe.png")
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    try:
        for path in (tmp_path / "pipe.png", "/dev/zero"):
            with pytest.raises(PictureError, match="a pipe, a socket or a device"):
                open_picture(path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(FileNotFoundError):
        open_picture(tmp_path / "nothing.png")


def test_transparent_colour_of_deep_grey_is_filled():
    """A transparent black behind a light disc: filled with black, as 8 bits of it would be."""
    deep = np.where(disc() < 100, 60000, 0).astype(np.uint16)
    picture, remarks = open_picture(encoded(deep, transparency=0))
    assert remarks == ["Transparent parts are filled with black."]
    assert np.array_equal(picture[..., 0], deep // 257)


def test_dark_deep_grey_is_told():
    picture, remarks = open_picture(encoded(disc().astype(np.uint16) * 16))  # a camera of 12 bits
    assert remarks == ["The picture is very dark: it uses less than a quarter of its scale of grey."]
    assert picture.max() == 240 * 16 // 257
    assert open_picture(encoded(disc() // 16))[1] == []  # bytes are as dark as any viewer shows them


def test_sentences_tell_the_numbers():
    with pytest.raises(PictureError, match="This file has 31 megabytes, and at most 30 are read"):
        open_picture(bytes(31_000_000))
    with pytest.raises(PictureError, match=r"that can be read here \(PNG, JPEG, GIF, WEBP, BMP\)"):
        open_picture(b"text")
    with pytest.raises(PictureError, match="damaged: it cannot be decoded to its end"):
        open_picture(encoded(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8))[:-3000])
