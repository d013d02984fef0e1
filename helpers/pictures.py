"""One picture file in, one array out, whatever a folder of real pictures holds.

Importing this module starts no deep-learning framework. Pillow does the decoding.
"""

import contextlib
import errno
import os
import stat
import struct
import threading
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_QUIET = threading.Lock()  # a thread that changes the warnings' filters must not be disturbed by another
# Pillow recognises these and cannot draw them by itself: a program that Ghostscript would run, drawings of Windows,
# measurements, films. To the course they are no pictures.
NO_PICTURES = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG")
# What Pillow's decoders raise at a damaged file.
DECODER_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, ArithmeticError, TypeError, AttributeError,
    AssertionError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
# Pillow brings these pixels to 8 bits and leaves the number of their transparent colour as it was in the file.
TO_8_BITS = {"L;2": lambda grey: 85 * grey, "L;4": lambda grey: 17 * grey,
             "RGB;16B": lambda rgb: tuple(value >> 8 for value in rgb)}  # fmt: skip


class TooManyPixelsError(ValueError):
    """A picture whose decoding could fill the memory; `pixels` says how many it has, `None` if it is not known."""

    def __init__(self, pixels=None):
        super().__init__("The picture has too many pixels.")
        self.pixels = pixels


class UnreadableError(ValueError):
    """A file that is no picture, or a damaged one; `reason` says which, without the file's name."""

    def __init__(self, path, reason):
        super().__init__(f"{Path(path).name} cannot be read: {reason}.")
        self.reason = reason


class DamagedError(ValueError):
    """Pillow's decoder gave up; the message is the decoder's."""


class OtherPixelsError(ValueError):
    """A sound file whose pixels are of a kind that is not read; the message says of which."""


def read_picture(path, size=None, colour=True, fit="pad", background=255):
    """Read one picture, upright, in grey or in colour, at the size that a network expects.

    A photograph is turned as its EXIF note says, transparency is laid over the background, and of an animation, and of
    a file with several pictures, the first is taken.

    Deeper grey is brought to 8 bits by the depth that the file states, as every viewer does: of 16 bits 65,535 becomes
    255, of 12 bits 4,095. 32-bit integers state no scale: they are taken for 8 bits where none exceeds 255, else for
    16; negative and larger ones are refused, as fractions are. A camera of 12 bits whose files state 16 uses a
    sixteenth of the scale, and its pictures come out nearly black: where no grey reaches a quarter of the scale, a
    UserWarning says so.

    Args:
        path: a file in any format that Pillow reads (JPEG, PNG, GIF, WebP, BMP, TIFF, …).
        size: (height, width), or one number for both; `None` keeps the picture's own.
        colour: three channels, red, green and blue; else one, grey.
        fit: how a picture of another shape comes to `size`: `"pad"` keeps all of it between two bars of background,
            `"crop"` fills the frame and cuts off what stands over, `"stretch"` changes its proportions.
        background: the grey, 0–255, behind transparent pixels and of the bars.

    Returns:
        uint8 array (height, width, 3), or (height, width, 1) in grey.

    Raises:
        UnreadableError (a ValueError): the file is no picture, is damaged, or is larger than Pillow thinks safe
            (`Image.MAX_IMAGE_PIXELS`; `None` reads any size); or it is no file but a pipe, a socket or a device.
        ValueError: an argument is wrong.
        OSError: the file cannot be opened (FileNotFoundError: it is not there), or its disk fails.
    """
    array, dark = read_with_remark(path, size, colour, fit, background)
    if dark:
        warnings.warn(f"{Path(path).name}: {dark}", stacklevel=2)
    return array


def read_with_remark(path, size=None, colour=True, fit="pad", background=255):
    """As `read_picture`, but what that would warn of is returned beside the array: a sentence, or ""."""
    height_and_width = _check_size(size)
    if fit not in ("pad", "crop", "stretch"):
        raise ValueError(f"fit must be 'pad', 'crop' or 'stretch', not {fit!r}.")
    if not 0 <= background <= 255:
        raise ValueError(f"background must be a grey from 0 to 255, not {background!r}.")
    if not is_file_or_folder(
        path
    ):  # to open a pipe is to wait for its other end; a folder raises OSError below
        raise UnreadableError(path, "it is a pipe, a socket or a device, not a file")
    with open(path, "rb") as file:
        try:
            picture, dark = decode(open_header(file))
        except UnidentifiedImageError:
            is_empty = file.seek(0, os.SEEK_END) == 0
            raise UnreadableError(path, "the file is empty" if is_empty else "it is not a picture") from None
        except TooManyPixelsError:
            limit = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
            raise UnreadableError(path, f"{limit}, which Pillow takes for an attack on the memory") from None
        except OtherPixelsError as error:
            raise UnreadableError(path, str(error)) from error
        except DamagedError as error:
            raise UnreadableError(path, f"it is damaged ({error})") from error
    if picture.mode == "RGBA":
        behind = Image.new("RGBA", picture.size, (background, background, background, 255))
        picture = Image.alpha_composite(behind, picture)
    picture = picture.convert("RGB" if colour else "L")
    if height_and_width is not None:
        width_and_height = height_and_width[::-1]  # Pillow's order
        if fit == "pad":
            picture = _pad(picture, width_and_height, background)
        elif fit == "crop":
            picture = ImageOps.fit(picture, width_and_height)
        else:
            picture = picture.resize(width_and_height)
    array = np.array(picture)  # a writable copy
    return array if colour else array[..., None], dark


def is_file_or_folder(path):
    """False for a pipe, a socket or a device, which may keep a reader waiting for ever. OSError: nothing is there."""
    mode = os.stat(path).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def open_header(file, formats=None, max_pixels=None):
    """Open a picture file as far as its header: its kind and size are known, and nothing is decoded yet.

    Args:
        file: a path, or a file opened for reading bytes.
        formats: the names of Pillow's formats that are tried, all but `NO_PICTURES` by default.
        max_pixels: how many are read, Pillow's `Image.MAX_IMAGE_PIXELS` by default; if that is `None`, any number.

    Returns:
        A Pillow image, for `decode`.

    Raises:
        TooManyPixelsError: the picture has more pixels.
        PIL.UnidentifiedImageError: the file is no picture of these formats.
        DamagedError: its header is damaged.
        OSError: the disk fails.
    """
    if formats is None:
        Image.init()
        formats = [name for name in Image.OPEN if name not in NO_PICTURES]
    with _quietly(), _decoding():  # too many pixels are refused below, in our words
        picture = Image.open(file, formats=formats)
    pixels = picture.width * picture.height
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if limit is not None and pixels > limit:
        picture.close()
        raise TooManyPixelsError(pixels)
    return picture


def decode(picture, side=None):
    """Decode an opened picture, whatever its pixels are made of, and turn it as its EXIF note says.

    Args:
        picture: from `open_header`; of an animation, and of a file with several pictures, the first is taken.
        side: the longest that a side may be; larger pictures are shrunk as early as possible. `None` shrinks nothing.

    Returns:
        A Pillow image with 8 bits a channel: "RGBA" if parts of it may be transparent, else one that `convert` brings
        to "RGB" or "L". And a sentence if its grey is implausibly dark (see `read_picture`), else "".

    Raises:
        DamagedError: the decoder gave up.
        OtherPixelsError: its pixels are of a kind that is not read.
        OSError: the disk fails.
    """
    raw = picture.tile[0][3] if picture.tile else None  # how the file writes its pixels
    with _decoding():
        if side is not None:
            picture.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size
        picture.load()
    if picture.mode == "F":
        raise OtherPixelsError("its pixels are fractions of unknown scale")
    if picture.mode == "LAB":
        raise OtherPixelsError("its colours are those of CIELAB, which are not read")
    if isinstance(raw, str) and raw in TO_8_BITS and "transparency" in picture.info:
        picture.info["transparency"] = TO_8_BITS[raw](picture.info["transparency"])
    with _quietly(), contextlib.suppress(*DECODER_ERRORS):  # a damaged note beside good pixels
        ImageOps.exif_transpose(picture, in_place=True)
    dark = ""
    if picture.mode.startswith("I"):
        picture, dark = _grey_of_8_bits(picture)
    # The colours of a palette cannot be averaged: skip pixels first.
    if side is not None and picture.mode in ("1", "P"):
        step = max(1, max(picture.size) // (4 * side))
        size = tuple(max(1, n // step) for n in picture.size)
        picture = picture.resize(size, Image.Resampling.NEAREST).convert("RGBA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    if side is not None:
        picture.thumbnail((side, side), reducing_gap=2)
    return picture, dark


def _grey_of_8_bits(picture):
    """Grey of 12, 16 or 32 bits as "L", or "LA" if a grey is transparent, and a sentence if it is implausibly dark.

    Pillow's own conversion cuts off what is above 255.
    """
    grey = np.asarray(picture)  # (height, width), uint16 or int32
    least, most = int(grey.min()), int(grey.max())
    if picture.mode != "I" or picture.format in ("PNG", "PPM"):  # the file states a depth
        tags = getattr(picture, "tag_v2", {})  # a TIFF's: 258 is BitsPerSample
        white = 4095 if tags.get(258) == (12,) else 65535
    else:
        white = 255 if most <= 255 else 65535
    if not 0 <= least <= most <= white:
        raise OtherPixelsError(f"its grey values, {least:,} to {most:,}, are of unknown scale")
    result = Image.fromarray((grey.astype("int32") * 255 // white).astype("uint8"))
    if "transparency" in picture.info:
        opacity = np.where(grey == picture.info["transparency"], 0, 255).astype("uint8")
        result.putalpha(Image.fromarray(opacity))
    if not 0 < most < (white + 1) // 4:
        return result, ""
    return result, (
        f"its brightest grey is {most:,} of {white:,}, so that it comes out dark. If its camera has fewer bits than "
        "the file, stretch its values to the whole scale and save it again."
    )


@contextlib.contextmanager
def _decoding():
    """For calls of Pillow alone: what a decoder raises at a damaged file becomes `DamagedError`, whatever it is.

    A failing disk, a full memory and a mistake in this module stay what they are.
    """
    try:
        yield
    except UnidentifiedImageError:
        raise
    except Image.DecompressionBombError:
        raise TooManyPixelsError from None
    except DECODER_ERRORS as error:
        # A decoder's own OSError has no number, or EINVAL for a place before the file's start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DamagedError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def _quietly():
    """Pillow warns of odd notes in pictures that are readable all the same, and of many pixels."""
    with _QUIET, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _pad(picture, width_and_height, background):
    """The whole picture in the middle of a frame."""
    scale = min(frame / side for frame, side in zip(width_and_height, picture.size, strict=True))
    inner = tuple(max(1, round(side * scale)) for side in picture.size)
    frame = Image.new(picture.mode, width_and_height, (background,) * len(picture.getbands()))
    frame.paste(
        picture.resize(inner), tuple((a - b) // 2 for a, b in zip(width_and_height, inner, strict=True))
    )
    return frame


class PictureFiles:
    """Picture files that look like an array of images but are read only when asked for.

    `files[3]` is one image, `files[2:5]` and `files[[7, 1]]` are batches, as with an array (N, height, width,
    channels). So a sampler such as `BalancedBatches` can draw from more pictures than fit into memory.

    Args:
        paths: N files.
        size, colour, fit, background: as for `read_picture`; a size is needed.

    Raises:
        ValueError: no size; and, when it is read, UnreadableError for a file that is no picture.
    """

    def __init__(self, paths, size, colour=True, fit="crop", background=255):
        if size is None:
            raise ValueError("Give a size: pictures of different sizes do not fit into one array.")
        self.paths = tuple(Path(path) for path in paths)
        self.options = {"size": _check_size(size), "colour": colour, "fit": fit, "background": background}
        self.shape = (len(self.paths), *self.options["size"], 3 if colour else 1)
        self.ndim, self.dtype = 4, np.dtype("uint8")

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, chosen):
        numbers = np.arange(len(self))[chosen]
        if np.ndim(numbers) == 0:
            return read_picture(self.paths[numbers], **self.options)
        batch = [read_picture(self.paths[i], **self.options) for i in numbers]
        return np.stack(batch) if batch else np.empty((0, *self.shape[1:]), self.dtype)


def normalised(name):
    """A name with its accents in one piece: macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def _check_size(size):
    if size is None:
        return None
    height_and_width = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(height_and_width) != 2 or any(int(side) != side or side < 1 for side in height_and_width):
        raise ValueError(f"size must be (height, width) or one number, in whole pixels ≥ 1, not {size!r}.")
    return tuple(int(side) for side in height_and_width)
