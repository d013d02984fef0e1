"""A stranger's picture: opened with care, and brought to the form that the networks of the course know.

Importing this module starts no deep-learning framework.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from helpers.pictures import (
    DamagedError,
    OtherPixelsError,
    TooManyPixelsError,
    decode,
    is_file_or_folder,
    open_header,
)

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
MAX_BYTES = 30_000_000
# A good camera's picture. The number of pixels is known from the file's header, before anything is decoded.
MAX_PIXELS = 64_000_000
SIDE = 512  # the longer side of what is kept: plenty for 28 × 28
# What differs from the background by less than this share of the strongest difference is background, too.
NOISE = 0.1


class PictureError(ValueError):
    """The picture cannot be used. The message is a sentence for the person who gave it."""


def open_picture(source):
    """Open a picture from a person whom you do not know, in bounded time and memory.

    Only the formats in `FORMATS` are tried. The first frame of an animation is taken, the camera's orientation is
    applied, and transparent parts are filled: with white behind a dark object, with black behind a light one.

    Args:
        source: the file's path, or its content as bytes.

    Returns:
        uint8 RGB array (height, width, 3) with no side longer than `SIDE`, and a list of remarks, sentences that say
        what was done beyond decoding.

    Raises:
        PictureError: the file is too large, is no picture of these formats, has too many pixels, or is damaged; or it
            is no file but a pipe, a socket or a device.
        OSError: the file cannot be opened (FileNotFoundError: it is not there), or its disk fails.
    """
    if not isinstance(source, bytes) and not is_file_or_folder(source):
        raise PictureError("This is a pipe, a socket or a device, and not a file with a picture.")
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size > MAX_BYTES:
        raise PictureError(
            f"This file has {size / 1e6:.0f} megabytes, and at most {MAX_BYTES / 1e6:.0f} are read. "
            "Save the picture smaller and try again."
        )
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        picture = open_header(file, FORMATS, MAX_PIXELS)
    except TooManyPixelsError as error:
        count = f"{error.pixels / 1e6:.0f} million" if error.pixels else "far too many"
        raise PictureError(
            f"This picture has {count} pixels, and at most {MAX_PIXELS / 1e6:.0f} million are read. "
            "Make it smaller and try again."
        ) from error
    except (UnidentifiedImageError, DamagedError) as error:
        raise PictureError(
            f"This file is not a picture that can be read here ({', '.join(FORMATS)})."
        ) from error
    with picture:
        remarks = []
        # A phone's JPEG may hold a preview or a map of depths behind the photograph (MPO): nothing moves in it.
        if getattr(picture, "is_animated", False) and picture.format != "MPO":
            remarks.append("The picture is animated: its first frame is used.")
        try:
            picture, dark = decode(picture, SIDE)
        except OtherPixelsError as error:
            raise PictureError(f"This picture cannot be used: {error}.") from error
        except DamagedError as error:
            raise PictureError("This picture is damaged: it cannot be decoded to its end.") from error
    if dark:
        remarks.append("The picture is very dark: it uses less than a quarter of its scale of grey.")
    if picture.mode == "RGBA":
        pixels = np.asarray(picture, np.float32)
        opacity = pixels[..., 3:] / 255  # (height, width, 1)
        if opacity.min() < 1:
            visible = (pixels[..., :3] * opacity).sum() / max(3 * opacity.sum(), 1)
            ground = 255 if visible < 128 else 0
            remarks.append(f"Transparent parts are filled with {'white' if ground else 'black'}.")
            pixels = pixels[..., :3] * opacity + ground * (1 - opacity)
        return np.round(pixels[..., :3]).astype(np.uint8), remarks
    return np.asarray(picture.convert("RGB")), remarks


def prepare(picture, side=28):
    """Bring a picture to the form of Fashion-MNIST: grey, light on dark, trimmed, centred, side × side.

    The steps follow those with which the data set was made, as far as a stranger's picture allows.

    Args:
        picture: uint8 RGB array (height, width, 3).
        side: of the result.

    Returns:
        A dictionary of uint8 images, in order, the name of each step its key. The last one, (side, side), is what a
        network gets.

    Raises:
        PictureError: the picture is one even surface.

    Source: Xiao, Rasul & Vollgraf, Fashion-MNIST, 2017 (arXiv 1708.07747), section 2.
    """
    steps = {"as given": picture}
    grey = np.asarray(picture, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # (height, width)
    steps["grey"] = _to_uint8(grey)

    # The background is what the edge of the picture shows. Dark objects on a light one are turned into their negative.
    ground = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    light = np.maximum(ground - grey if ground > 127 else grey - ground, 0)
    if light.max() < 8:
        raise PictureError("This picture is one even surface: there is nothing in it to search for.")
    light *= 255 / light.max()
    light[light < 255 * NOISE] = 0
    steps["light on dark"] = _to_uint8(light)

    trimmed = light[_span(light.any(axis=1), light, 1)][:, _span(light.any(axis=0), light, 0)]
    steps["trimmed"] = _to_uint8(trimmed)

    height, width = (max(1, round(side * n / max(trimmed.shape))) for n in trimmed.shape)
    small = Image.fromarray(_to_uint8(trimmed)).resize((width, height), Image.Resampling.LANCZOS)
    centred = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    centred[top : top + height, left : left + width] = small
    steps[f"{side} × {side}, centred"] = centred
    return steps


def _span(occupied, light, axis):
    """From the first to the last row (axis 1) or column (axis 0) of the object; lone specks are not the object."""
    dense = (light > 0).mean(axis=axis) > 0.01
    places = np.flatnonzero(dense if dense.any() else occupied)
    return slice(places[0], places[-1] + 1)


def _to_uint8(image):
    return np.round(image).clip(0, 255).astype(np.uint8)
