import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.streaming import embed_to_file, shifted_copies

ROOT = Path(__file__).resolve().parents[1]


def read(start, stop):
    return np.arange(start, stop)


def embed(numbers):
    """(n,) -> (n, 3): rows that can be recognised, none of them zero."""
    return np.stack([numbers + 1, numbers**2 + 1, np.full(len(numbers), 7)], axis=1)


def expected(count):
    return embed(np.arange(count)).astype(np.float32)


class Interruption(Exception):
    pass


def interrupted_at(limit, function):
    def cut_off(start, stop):
        if start >= limit:
            raise Interruption
        return function(start, stop)

    return cut_off


@pytest.mark.parametrize(("count", "chunk"), [(1, 1), (10, 3), (12, 4), (5, 100), (7, 1)])
def test_all_rows_are_written_in_order(tmp_path, count, chunk):
    path, seen = tmp_path / "e.npy", []
    result = embed_to_file(path, embed, read, count, chunk=chunk, progress=seen.append)
    assert isinstance(result, np.memmap) and result.dtype == np.float32
    assert np.array_equal(result, expected(count))
    assert np.array_equal(np.load(path, allow_pickle=False), expected(count))
    assert seen == [min(done, count) for done in range(chunk, count + chunk, chunk)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.npy", "e.npy.json"]


def test_result_cannot_be_changed_by_accident(tmp_path):
    result = embed_to_file(tmp_path / "e.npy", embed, read, 4)
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 0


@pytest.mark.parametrize("limit", [0, 3, 6, 9])
def test_interrupted_it_goes_on_and_reads_nothing_twice(tmp_path, limit):
    path, asked = tmp_path / "e.npy", []

    def remember(start, stop):
        asked.append((start, stop))
        return read(start, stop)

    with pytest.raises(Interruption):
        embed_to_file(path, embed, interrupted_at(limit, remember), 10, chunk=3)
    assert not path.exists(), "a file bears its name only when it is complete"
    assert np.array_equal(embed_to_file(path, embed, remember, 10, chunk=3), expected(10))
    assert asked == [(0, 3), (3, 6), (6, 9), (9, 10)]


def test_goes_on_with_another_chunk_size(tmp_path):
    path = tmp_path / "e.npy"
    with pytest.raises(Interruption):
        embed_to_file(path, embed, interrupted_at(6, read), 10, chunk=3)
    assert np.array_equal(embed_to_file(path, embed, read, 10, chunk=4), expected(10))


def test_note_never_says_more_than_the_file_holds(tmp_path):
    path = tmp_path / "e.npy"

    def progress(done):
        note = json.loads((tmp_path / "e.npy.part.json").read_text(encoding="utf-8"))
        on_disk = np.fromfile(tmp_path / "e.npy.part", np.float32)[-30:].reshape(10, 3)
        assert note["rows"] == done
        assert np.array_equal(on_disk[:done], expected(done)) and (on_disk[done:] == 0).all()

    embed_to_file(path, embed, read, 10, chunk=3, progress=progress)


def test_rows_are_there_before_the_note_about_them(tmp_path, monkeypatch):
    """Killed between the two, it must do the chunk again."""
    path = tmp_path / "e.npy"
    with pytest.raises(Interruption):
        embed_to_file(path, embed, interrupted_at(6, read), 10, chunk=3)

    def killed(*arguments):
        raise Interruption

    monkeypatch.setattr("helpers.streaming._write_note", killed)
    with pytest.raises(Interruption):
        embed_to_file(path, embed, read, 10, chunk=3)
    monkeypatch.undo()
    on_disk = np.fromfile(tmp_path / "e.npy.part", np.float32)[-30:].reshape(10, 3)
    assert np.array_equal(on_disk[:9], expected(9))
    assert json.loads((tmp_path / "e.npy.part.json").read_text(encoding="utf-8"))["rows"] == 6
    assert np.array_equal(embed_to_file(path, embed, read, 10, chunk=3), expected(10))


def test_finished_file_is_opened_and_nothing_is_embedded(tmp_path):
    path = tmp_path / "e.npy"
    embed_to_file(path, embed, read, 10, made_with="a")
    assert np.array_equal(embed_to_file(path, None, None, 10, made_with="a"), expected(10))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(("count", "made_with", "said"), [(11, "a", "count 10"), (10, "b", "made_with 'a'")])
def test_rows_of_something_else_are_refused(tmp_path, finished, count, made_with, said):
    path = tmp_path / "e.npy"
    if finished:
        embed_to_file(path, embed, read, 10, chunk=3, made_with="a")
    else:
        with pytest.raises(Interruption):
            embed_to_file(path, embed, interrupted_at(3, read), 10, chunk=3, made_with="a")
    with pytest.raises(ValueError, match=said):
        embed_to_file(path, embed, read, count, chunk=3, made_with=made_with)
    assert np.array_equal(embed_to_file(path, embed, read, 10, chunk=3, made_with="a"), expected(10))


def test_file_of_unknown_origin_is_refused(tmp_path):
    np.save(tmp_path / "e.npy", expected(10))
    with pytest.raises(ValueError, match="count None"):
        embed_to_file(tmp_path / "e.npy", embed, read, 10)


@pytest.mark.parametrize(
    ("name", "count", "chunk"), [("e.bin", 5, 2), ("e", 5, 2), ("e.npy", 0, 2), ("e.npy", 5, 0)]
)
def test_bad_arguments_are_named(tmp_path, name, count, chunk):
    with pytest.raises(ValueError, match=r"ending in \.npy, count ≥ 1 and chunk ≥ 1"):
        embed_to_file(tmp_path / name, embed, read, count, chunk=chunk)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad_embed", "bad_read", "said"),
    [
        (lambda x: embed(x)[:-1], read, "embed returned"),
        (lambda x: embed(x)[:, 0], read, "embed returned"),
        (lambda x: embed(x) * np.nan, read, "NaN"),
        (lambda x: embed(x) / np.zeros(1), read, "infinity"),
        (embed, lambda start, stop: read(start, stop)[1:], "returned 2 images instead of 3"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_rows_are_not_written(tmp_path, bad_embed, bad_read, said):
    with pytest.raises(ValueError, match=said):
        embed_to_file(tmp_path / "e.npy", bad_embed, bad_read, 10, chunk=3)
    assert not (tmp_path / "e.npy").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full's kind of disk")
def test_full_disk_is_an_error_and_not_a_crash(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        embed_to_file(tmp_path / "e.npy", embed, read, 10)
    monkeypatch.undo()
    assert np.array_equal(embed_to_file(tmp_path / "e.npy", embed, read, 10), expected(10))


WORKER = """
import sys, time
import numpy as np
from helpers.streaming import embed_to_file

def embed(numbers):
    time.sleep(0.002)
    return np.stack([numbers + 1, numbers**2 + 1, np.full(len(numbers), 7)], axis=1)

embed_to_file(sys.argv[1], embed, np.arange, 3000, chunk=10, progress=lambda done: print(done, flush=True))
"""


def test_killed_three_times_and_started_again_it_ends_with_every_row(tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path / "e.npy")]
    rng, done = np.random.default_rng(0), 0
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(rng.integers(5, 30))]
        assert int(lines[0]) <= done + 20, (
            "it began far behind (a chunk may be lost, and one more be under way)"
        )
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        assert int(lines[0]) > done, "it began anew"
        done = int(lines[-1])
        assert not (tmp_path / "e.npy").exists()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert np.array_equal(np.load(tmp_path / "e.npy"), expected(3000))


# shifted_copies


def test_first_round_is_the_pictures_themselves():
    images = np.random.default_rng(0).integers(1, 255, (5, 8, 9, 1), dtype=np.uint8)
    copies = shifted_copies(images)(0, 5)
    assert copies.dtype == np.uint8 and np.array_equal(copies, images)


def test_every_copy_is_its_picture_moved_and_no_two_are_equal():
    images = np.random.default_rng(0).integers(1, 255, (2, 11, 10, 1), dtype=np.uint8)
    copies = shifted_copies(images)(0, 2 * 81)
    assert len({copy.tobytes() for copy in copies}) == 162
    moves, padded = set(), np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for i, copy in enumerate(copies):
        fits = [
            (down, right)
            for down in range(-4, 5)
            for right in range(-4, 5)
            if np.array_equal(copy, padded[i % 2, 4 - down : 15 - down, 4 - right : 14 - right])
        ]
        assert len(fits) == 1, i
        moves.add(fits[0])
    assert len(moves) == 81


def test_far_moves_come_last():
    picture = np.zeros((1, 9, 9, 1), np.uint8)
    picture[0, 4, 4] = 1
    copies = shifted_copies(picture)(0, 81)[..., 0]
    steps = [np.abs(np.argwhere(copy)[0] - 4).sum() for copy in copies]
    assert steps == sorted(steps) and steps[-1] == 8


def test_any_piece_is_a_piece_of_the_whole():
    images = np.random.default_rng(1).integers(0, 255, (7, 10, 10, 3), dtype=np.uint8)
    function = shifted_copies(images)
    whole = function(0, 100)
    for start, stop in ((0, 1), (3, 19), (6, 8), (20, 20), (93, 100)):
        assert np.array_equal(function(start, stop), whole[start:stop])
    assert np.array_equal(images, function(0, 7)), "the pictures themselves stay as they are"


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (5, 4), (0, 2 * 81 + 1)])
def test_beyond_the_end_is_an_error(start, stop):
    with pytest.raises(IndexError):
        shifted_copies(np.zeros((2, 8, 8, 1), np.uint8))(start, stop)


# What a note says, and what a chunk must be


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "made_with",
    [("sha", 3), ["sha", 3], {"network": "sha", "shift": (1, 2)}, {3: "three"}, 0.1, None, "Größe"],
)
def test_its_own_file_is_never_refused(tmp_path, finished, made_with):
    """JSON gives a tuple back as a list, and the number of a dictionary's key as text."""
    path = tmp_path / "e.npy"
    if not finished:
        with pytest.raises(Interruption):
            embed_to_file(path, embed, interrupted_at(3, read), 10, chunk=3, made_with=made_with)
    for _ in range(2):
        assert np.array_equal(
            embed_to_file(path, embed, read, 10, chunk=3, made_with=made_with), expected(10)
        )
    with pytest.raises(ValueError, match=r"made_with .*, not 'another'"):
        embed_to_file(path, embed, read, 10, chunk=3, made_with="another")


@pytest.mark.parametrize("made_with", [np.int64(3), Path("weights"), b"sha", float("nan"), {1, 2}])
def test_what_cannot_be_written_down_is_refused_before_anything_is_embedded(tmp_path, made_with):
    with pytest.raises(
        ValueError, match=r"made_with cannot be written into a JSON file: .*(3|weights|sha|nan|2)"
    ):
        embed_to_file(tmp_path / "e.npy", None, None, 10, made_with=made_with)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [1, 2, 4])
def test_chunk_of_another_width_is_refused_and_never_repeated(tmp_path, width):
    def another(numbers):
        return embed(numbers) if numbers[0] == 0 else np.ones((len(numbers), width))

    path = tmp_path / "e.npy"
    told = f"embed returned {width} numbers for each of the images 3 to 5, but 3 for those before"
    with pytest.raises(ValueError, match=told):
        embed_to_file(path, another, read, 10, chunk=3)
    assert json.loads((tmp_path / "e.npy.part.json").read_text(encoding="utf-8"))["rows"] == 3
    with pytest.raises(ValueError, match=told):  # the same after an interruption
        embed_to_file(path, another, read, 10, chunk=3)
    assert np.array_equal(embed_to_file(path, embed, read, 10, chunk=3), expected(10))


def test_messages_tell_the_very_chunk(tmp_path):
    def embed_wrongly(numbers):
        rows = embed(numbers).astype(float)
        rows[:, 0][numbers == 4] = np.nan
        return rows

    with pytest.raises(ValueError, match="The embeddings of images 3 to 5 contain NaN or infinity"):
        embed_to_file(tmp_path / "a.npy", embed_wrongly, read, 10, chunk=3)
    with pytest.raises(ValueError, match=r"embed returned \(2, 3\) for 3 images: it should be \(3, d\)"):
        embed_to_file(tmp_path / "b.npy", lambda x: embed(x)[:-1], read, 10, chunk=3)
    with pytest.raises(ValueError, match=r"read\(0, 3\) returned 2 images instead of 3"):
        embed_to_file(tmp_path / "c.npy", embed, lambda a, b: read(a, b)[1:], 10, chunk=3)
    with pytest.raises(ValueError, match=r"not e\.bin, 5, 2"):
        embed_to_file(tmp_path / "e.bin", embed, read, 5, chunk=2)
    with pytest.raises(IndexError, match="Images 5 to 163 of 162"):
        shifted_copies(np.zeros((2, 8, 8, 1), np.uint8))(5, 163)
