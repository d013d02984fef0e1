"""One picture file in, one array out, whatever a folder of real pictures holds.

Importing this module starts no deep-learning framework. Pillow does the decoding.
"""

import contextlib
import os
import threading
import unicodedata
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow warns of odd EXIF notes in pictures that are readable all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_OPENING = threading.Lock()  # a thread that changes the warnings' filters must not be disturbed by another


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


def read_picture(path, size=None, colour=True, fit="pad", background=255):
    """Read one picture, upright, in grey or in colour, at the size that a network expects.

    A photograph is turned as its EXIF note says, transparency is laid over the background, 16-bit grey is scaled to
    8 bits, and of an animation the first frame is taken.

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
        UnreadableError (a ValueError): the file is no picture, is damaged, or is larger than Pillow thinks safe.
        ValueError: an argument is wrong.
        OSError: the file cannot be opened (FileNotFoundError: it is not there).
    """
    height_and_width = _check_size(size)
    if fit not in ("pad", "crop", "stretch"):
        raise ValueError(f"fit must be 'pad', 'crop' or 'stretch', not {fit!r}.")
    if not 0 <= background <= 255:
        raise ValueError(f"background must be a grey from 0 to 255, not {background!r}.")
    with open(path, "rb") as file:
        try:
            picture = decode(open_header(file))
            if picture.mode == "RGBA":
                behind = Image.new("RGBA", picture.size, (background, background, background, 255))
                picture = Image.alpha_composite(behind, picture)
            picture = picture.convert("RGB" if colour else "L")
        except UnidentifiedImageError:
            is_empty = file.seek(0, os.SEEK_END) == 0
            raise UnreadableError(path, "the file is empty" if is_empty else "it is not a picture") from None
        except TooManyPixelsError:
            limit = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
            raise UnreadableError(path, f"{limit}, which Pillow takes for an attack on the memory") from None
        except Exception as error:  # a damaged file can raise almost anything in its decoder
            raise UnreadableError(path, f"it is damaged ({error})") from error
    if height_and_width is not None:
        width_and_height = height_and_width[::-1]  # Pillow's order
        if fit == "pad":
            picture = _pad(picture, width_and_height, background)
        elif fit == "crop":
            picture = ImageOps.fit(picture, width_and_height)
        else:
            picture = picture.resize(width_and_height)
    array = np.array(picture)  # a writable copy
    return array if colour else array[..., None]


def open_header(file, formats=None, max_pixels=None):
    """Open a picture file as far as its header: its kind and size are known, and nothing is decoded yet.

    Args:
        file: a path, or a file opened for reading bytes.
        formats: the names of Pillow's formats that are tried, all but Encapsulated PostScript by default.
        max_pixels: how many are read, Pillow's `Image.MAX_IMAGE_PIXELS` by default.

    Returns:
        A Pillow image, for `decode`.

    Raises:
        TooManyPixelsError: the picture has more pixels.
        PIL.UnidentifiedImageError: the file is no picture of these formats.
        Exception: whatever else a decoder raises at a damaged header.
    """
    if formats is None:  # Encapsulated PostScript is a program: to draw it, Pillow would start Ghostscript
        Image.init()
        formats = [name for name in Image.OPEN if name != "EPS"]
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is refused here, in our words
        try:
            picture = Image.open(file, formats=formats)
        except Image.DecompressionBombError:
            raise TooManyPixelsError from None
    pixels = picture.width * picture.height
    if pixels > (Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels):
        picture.close()
        raise TooManyPixelsError(pixels)
    return picture


def decode(picture, side=None):
    """Decode an opened picture, whatever its pixels are made of, and turn it as its EXIF note says.

    Args:
        picture: from `open_header`; of an animation the first frame is taken.
        side: the longest that a side may be; larger pictures are shrunk as early as possible. `None` shrinks nothing.

    Returns:
        A Pillow image with 8 bits a channel: "RGBA" if parts of it may be transparent, else one that `convert` brings
        to "RGB" or "L".

    Raises:
        Exception: the file is damaged; a decoder may raise almost anything.
    """
    if side is not None:
        picture.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size
    picture.load()
    if picture.mode == "F":
        raise ValueError("its pixels are fractions of unknown scale")
    with contextlib.suppress(Exception):  # a damaged note beside good pixels
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would cut it off at 255
        picture = Image.fromarray((np.clip(np.asarray(picture, "int64"), 0, 65535) // 257).astype("uint8"))
    # The colours of a palette cannot be averaged: skip pixels first.
    if side is not None and picture.mode in ("1", "P"):
        step = max(1, max(picture.size) // (4 * side))
        size = tuple(max(1, n // step) for n in picture.size)
        picture = picture.resize(size, Image.Resampling.NEAREST).convert("RGBA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    if side is not None:
        picture.thumbnail((side, side), reducing_gap=2)
    return picture


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
