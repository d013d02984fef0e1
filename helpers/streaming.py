"""Embeddings of more images than the memory holds, written to a file that survives an interruption.

Importing this module starts no deep-learning framework.
"""

import json
import os
from pathlib import Path

import numpy as np


def embed_to_file(path, embed, read, count, chunk=2000, made_with="", progress=None):
    """Embed `count` images, a chunk at a time, into a memory-mapped `.npy` file; go on where an earlier call stopped.

    Until the last chunk is written the file's name ends in `.part`, so whatever bears the name `path` is complete.
    Beside it, `.part.json` says how many rows are done. Rows reach the disk before the note about them: a process
    that is killed at any moment loses at most one chunk, and never believes in rows that are not there.

    Args:
        path: the file to write, ending in `.npy`.
        embed: a function, images (n, …) -> embeddings (n, d).
        read: a function, (start, stop) -> images start … stop − 1. It must give the same images every time.
        count: how many images there are, N.
        chunk: images in memory at once.
        made_with: what makes these embeddings what they are, for instance the checksum of the network's weights: a
            text, a number, or a list or dictionary of them. Rows that were made with something else are refused.
        progress: a function that is called with the number of finished rows, after each chunk.

    Returns:
        float32 array (N, d), read from the file as it is used.

    Raises:
        OSError: there is no room for the file, found out before the first row is written.
        ValueError: `path` does not end in .npy, `count` or `chunk` is not positive, `made_with` cannot be written down,
            `read` or `embed` does not return a row for each image, a chunk's rows are longer or shorter than those
            before, the embeddings contain NaN or infinity, or the file holds something else than asked for: another
            `count` or another `made_with`.
    """
    path = Path(path)
    part, note = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    if path.suffix != ".npy" or count < 1 or chunk < 1:
        raise ValueError(
            f"Give a path ending in .npy, count ≥ 1 and chunk ≥ 1, not {path.name}, {count}, {chunk}."
        )
    try:  # as it will be read again: a tuple comes back from the file as a list
        wanted = json.loads(json.dumps({"count": int(count), "made_with": made_with}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"made_with cannot be written into a JSON file: {made_with!r} ({error}).") from error
    finished = path.with_name(path.name + ".json")
    if path.exists():
        _compare(path, finished, wanted)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    done = 0
    if part.exists() and note.exists():
        _compare(part, note, wanted)
        done = json.loads(note.read_text(encoding="utf-8"))["rows"]
    while done < count:
        stop = min(done + chunk, count)
        rows = np.asarray(embed(_images(read, done, stop)), np.float32)
        if rows.ndim != 2 or len(rows) != stop - done:
            raise ValueError(
                f"embed returned {rows.shape} for {stop - done} images: it should be ({stop - done}, d)."
            )
        if not np.isfinite(rows).all():
            raise ValueError(f"The embeddings of images {done} to {stop - 1} contain NaN or infinity.")
        if done == 0:
            _reserve(part, (count, rows.shape[1]))
        file = np.load(
            part, mmap_mode="r+", allow_pickle=False
        )  # opened for each chunk, so that its pages are let go
        if file.shape[1] != rows.shape[1]:  # NumPy would repeat a single column
            raise ValueError(
                f"embed returned {rows.shape[1]} numbers for each of the images {done} to {stop - 1}, but "
                f"{file.shape[1]} for those before."
            )
        file[done:stop] = rows
        file.flush()
        del file
        _write_note(note, {**wanted, "rows": stop})
        done = stop
        if progress is not None:
            progress(done)
    _write_note(finished, {**wanted, "rows": done})
    os.replace(part, path)
    note.unlink()
    return np.load(path, mmap_mode="r", allow_pickle=False)


def shifted_copies(images):
    """As many images as you like from a few: all of them, then all moved by a pixel, and so on, farther and farther.

    Args:
        images: array (N, height, width, channels).

    Returns:
        A function (start, stop) -> images start … stop − 1 of a series that is 9 · 9 = 81 times as long as `images`.
        Nothing is stored, and image i is the same at every call. What is moved out of the picture is lost, what is
        moved in is 0. IndexError beyond its end.
    """
    reach = range(-4, 5)
    moves = sorted(
        ((down, right) for down in reach for right in reach), key=lambda m: (abs(m[0]) + abs(m[1]), m)
    )

    def read(start, stop):
        if not 0 <= start <= stop <= len(images) * len(moves):
            raise IndexError(f"Images {start} to {stop} of {len(images) * len(moves):,}.")
        index = np.arange(start, stop)
        result = np.zeros((len(index), *images.shape[1:]), images.dtype)
        for round_ in np.unique(index // len(images)):
            mine = np.flatnonzero(index // len(images) == round_)
            moved = images[index[mine] % len(images)]
            for axis, by in zip((1, 2), moves[round_], strict=True):
                moved = np.roll(moved, by, axis=axis)
                edge = slice(0, by) if by > 0 else slice(moved.shape[axis] + by, None)
                if by != 0:
                    moved[(slice(None),) * axis + (edge,)] = 0  # what came round at the other side
            result[mine] = moved
        return result

    return read


def _reserve(path, shape):
    """Make a `.npy` file of float32 zeros that has its place on the disk.

    Without the second step the file would be sparse, and a disk that is full later would kill the process (SIGBUS).
    """
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _images(read, start, stop):
    images = read(start, stop)
    if len(images) != stop - start:
        raise ValueError(f"read({start}, {stop}) returned {len(images)} images instead of {stop - start}.")
    return images


def _compare(file, note, wanted):
    """ValueError if what was begun, or finished, is not what is asked for now."""
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"{file.name} was begun with {name} {found.get(name)!r}, not {value!r}. "
                "Ask for that again, or delete the file to start anew."
            )


def _write_note(path, content):
    """Replace the note in one step, so that a reader finds the old one or the new one, and never half of it."""
    new = path.with_name(path.name + ".new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
