"""The emoji: what ships, how it is read and split, and the rules by which it was made."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import data
from helpers.data import EmojiDataset, emoji_split, load, unseen_hand_split
from helpers.metrics import map_at_r, nearest_others, recall_at_k

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import make_emoji  # noqa: E402

FOLDER = data.DATA_FOLDER / "emoji"
CURE = r"Restore the original: `git checkout -- helpers/data`, or install the course again\.$"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
INDEX = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def emoji():
    return load("emoji", size=32)


# What ships


def test_emoji_have_the_shape_that_the_card_says(emoji):
    assert isinstance(emoji, EmojiDataset)
    assert (emoji.images.shape, emoji.images.dtype) == ((6922, 32, 32, 3), np.uint8)
    assert (emoji.labels.shape, emoji.labels.dtype) == ((6922,), np.int64)
    assert (emoji.hands.shape, emoji.hands.dtype) == ((6922,), np.int64)
    assert emoji.hand_names == ("Noto", "Noto v1", "Twemoji", "Fluent", "EmojiOne", "OpenMoji")
    assert emoji.hand_names == tuple(make_emoji.HANDS)
    assert np.bincount(emoji.hands).tolist() == [1190, 1125, 1179, 1167, 1075, 1186]
    assert np.unique(emoji.labels).tolist() == list(range(1192))
    for part in (emoji.class_names, emoji.characters, emoji.groups, emoji.splits):
        assert len(part) == 1192
    assert Counter(emoji.splits.tolist()) == {"training": 699, "validation": 200, "test": 293}


def test_classes_are_unicode_s(emoji):
    assert len(set(emoji.class_names)) == len(set(emoji.characters)) == 1192
    named = dict(zip(emoji.class_names, zip(emoji.characters, emoji.groups, strict=True), strict=True))
    assert named["grinning face"] == ("😀", "Smileys & Emotion")
    assert named["keycap 1"] == ("1️⃣", "Symbols")
    assert named["woman running"][1] == "People & Body"
    assert set(emoji.groups) == {
        "Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink",
        "Travel & Places", "Activities", "Objects", "Symbols",
    }  # fmt: skip
    assert not [name for name in emoji.class_names if "skin tone" in name or name.startswith("flag")]


def test_each_class_has_four_to_six_pictures_and_a_hand_draws_it_once(emoji):
    counts = np.bincount(emoji.labels)
    assert counts.min() == 4 and counts.max() == 6
    assert len(set(zip(emoji.labels.tolist(), emoji.hands.tolist(), strict=True))) == 6922


@pytest.mark.parametrize("size", [64, 32])
def test_no_two_pictures_are_alike(size):
    images = load("emoji", size=size).images
    assert len({image.tobytes() for image in images}) == len(images)


def test_pictures_are_drawings_on_white():
    images = load("emoji").images
    assert images.shape == (6922, 64, 64, 3)
    assert (images == 255).all(axis=3).mean() > 0.4
    assert (255 - images).reshape(len(images), -1).mean(axis=1).min() > 0.4  # none is empty


def test_folder_is_small_and_everything_in_it_is_told():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_000_000
    sheets = {hand["file"] for hand in INDEX["hands"]}
    licences = {
        "Apache-2.0": "LICENSE-Apache-2.0.txt",
        "MIT": "LICENSE-MIT.txt",
        "CC-BY-4.0": "LICENSE-CC-BY-4.0.txt",
        "CC-BY-SA-4.0": "LICENSE-CC-BY-SA-4.0.txt",
    }
    assert {path.name for path in FOLDER.iterdir()} == {
        "README.md", "index.json", *sheets, *licences.values()
    }  # fmt: skip
    for hand in INDEX["hands"]:
        notice = (FOLDER / licences[hand["licence"]]).read_text(encoding="utf-8").split("-" * 50)[0]
        for what in ("file", "address", "package"):
            assert hand[what] in notice
        assert f"`{hand['file']}`" in CARD and hand["address"] in CARD
    alone = (FOLDER / licences["CC-BY-SA-4.0"]).read_text(encoding="utf-8").split("-" * 50)[0]
    assert [file for file in sheets if file in alone] == ["openmoji.webp"]


def test_card_says_how_many(emoji):
    for number, name in enumerate(emoji.hand_names):
        row = next(line for line in CARD.splitlines() if line.startswith(f"| {name} |"))
        counts = [
            np.sum((emoji.hands == number) & (emoji.splits[emoji.labels] == part))
            for part in ("training", "validation", "test")
        ]
        assert row.endswith("| " + " | ".join(f"{count:,}" for count in (sum(counts), *counts)) + " |")
    for group in set(emoji.groups):
        counts = [
            np.sum((np.array(emoji.groups) == group) & (emoji.splits == part))
            for part in ("training", "validation", "test")
        ]
        assert f"| {group} | " + " | ".join(map(str, counts)) + " |" in CARD
    sizes = np.bincount(np.bincount(emoji.labels))
    assert f"{sizes[6]:,} classes have six pictures, {sizes[5]} five and {sizes[4]} four." in CARD


# Reading


def write(folder):
    """A small data set in 40 classes, of which the second hand lacks the first; returns what it holds."""
    classes = 40
    rng = np.random.default_rng(0)
    images = 80 * rng.integers(0, 4, (2 * classes - 1, 4, 4, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    images[:, ::3, 1::5] ^= 55  # so that no square is of one colour
    labels = np.array([*range(classes), *range(1, classes)])
    numbers = np.array([0] * classes + [1] * (classes - 1))
    entries = [
        {"character": chr(0x1F600 + i), "name": f"face {i}", "group": "Faces", "split": "test"}
        for i in range(classes)
    ]
    files = [{"name": name, "file": f"{name}.webp"} for name in ("one", "two")]
    make_emoji.write(folder, entries, files, images, labels, numbers, {"drawings": len(images)})
    return images, labels, numbers


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    return folder, write(folder)


@pytest.fixture
def tiny(written, tmp_path, monkeypatch):
    """Its folder, which a test may damage; its index is trusted as it is."""
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    digest = hashlib.sha256((tmp_path / "index.json").read_bytes()).hexdigest()
    monkeypatch.setattr(data, "EMOJI_INDEX_SHA256", digest)
    return tmp_path


def test_what_is_written_is_read(written, tiny):
    images, labels, numbers = written[1]
    for folder in (tiny, str(tiny)):
        loaded = load("emoji", folder)
        np.testing.assert_array_equal(loaded.images, images)
        np.testing.assert_array_equal(loaded.labels, labels)
        np.testing.assert_array_equal(loaded.hands, numbers)
        assert loaded.labels.dtype == loaded.hands.dtype == np.int64
    assert loaded.hand_names == ("one", "two")
    assert loaded.characters[1] == "😁" and loaded.class_names[39] == "face 39"
    loaded.images[0] = 7
    assert (loaded.images[0] == 7).all()


def test_written_twice_it_is_the_same(written, tmp_path):
    write(tmp_path)
    for path in written[0].iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize("size", [32, 16])
def test_smaller_pictures_are_means_of_squares(written, tiny, size):
    images = written[1][0]
    result = load("emoji", tiny, size=size).images
    assert (result.shape, result.dtype) == ((len(images), size, size, 3), np.uint8)
    block = 64 // size
    for i, y, x, c in np.random.default_rng(1).integers(0, [79, size, size, 3], (300, 4)):
        square = images[i, y * block : (y + 1) * block, x * block : (x + 1) * block, c]
        assert result[i, y, x, c] == np.floor(square.mean() + 0.5)


@pytest.mark.parametrize("size", [28, 0, 128, "32"])
def test_sizes_that_do_not_exist_are_refused(size):
    with pytest.raises(ValueError, match=rf"^The emoji come in 64, 32 or 16 pixels, not {size!r}\.$"):
        load("emoji", size=size)


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "mnist_5000"])
def test_other_data_sets_come_in_one_size(name):
    with pytest.raises(ValueError, match=f"^Only 'emoji' comes in several sizes; '{name}' has 28 × 28"):
        load(name, size=14)


@pytest.mark.parametrize("name", ["index.json", "one.webp", "two.webp"])
def test_missing_file_is_named(tiny, name):
    (tiny / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(name)} is missing\. {CURE}"):
        load("emoji", tiny)
    (tiny / name).mkdir()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(name)} is missing\. {CURE}"):
        load("emoji", tiny)


NOT_ORIGINAL = rf"two\.webp does not hold the original data: its sha256 differs\. {CURE}"


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_truncated_sheet_is_named(tiny, keep):
    content = (tiny / "two.webp").read_bytes()
    (tiny / "two.webp").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=NOT_ORIGINAL):
        load("emoji", tiny)


@pytest.mark.parametrize("place", [0, 20, 0.5, -1])
def test_altered_byte_is_noticed(tiny, place):
    content = bytearray((tiny / "two.webp").read_bytes())
    content[int(place * len(content)) if place == 0.5 else place] ^= 1
    (tiny / "two.webp").write_bytes(content)
    with pytest.raises(ValueError, match=NOT_ORIGINAL):
        load("emoji", tiny)


def test_appended_byte_is_noticed(tiny):
    with (tiny / "two.webp").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match=NOT_ORIGINAL):
        load("emoji", tiny)


def test_the_same_pixels_in_another_file_are_refused(tiny):
    with Image.open(tiny / "two.webp") as picture:
        picture.load()
        picture.save(tiny / "two.webp", lossless=True, method=0)
    with pytest.raises(ValueError, match=NOT_ORIGINAL):
        load("emoji", tiny)


def test_swapped_sheets_are_noticed(tiny):
    shutil.move(tiny / "one.webp", tiny / "three")
    shutil.move(tiny / "two.webp", tiny / "one.webp")
    shutil.move(tiny / "three", tiny / "two.webp")
    with pytest.raises(ValueError, match=rf"one\.webp does not hold the original data.* {CURE}"):
        load("emoji", tiny)


@pytest.mark.parametrize("change", [lambda text: text[:-5], lambda text: text.replace(b"test", b"tset", 1)])
def test_changed_index_is_noticed(tiny, change):
    path = tiny / "index.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"index\.json does not hold the original data.* {CURE}"):
        load("emoji", tiny)


def test_shipped_files_are_the_recorded_ones():
    for hand in INDEX["hands"]:
        assert hashlib.sha256((FOLDER / hand["file"]).read_bytes()).hexdigest() == hand["sha256"]
    assert hashlib.sha256((FOLDER / "index.json").read_bytes()).hexdigest() == data.EMOJI_INDEX_SHA256


# Splits


def test_protocol_a_by_a_loop(emoji):
    parts = emoji_split(emoji)
    expected = defaultdict(list)
    for image, label in zip(emoji.images, emoji.labels, strict=True):
        expected[str(emoji.splits[label])].append((image, label))
    for x, y, part, count in (
        (parts.x_train, parts.y_train, "training", 4079),
        (parts.x_valid, parts.y_valid, "validation", 1124),
        (parts.x_test, parts.y_test, "test", 1719),
    ):
        assert len(x) == len(y) == len(expected[part]) == count
        assert y.tolist() == [label for _, label in expected[part]]
        assert all((a == b).all() for a, (b, _) in zip(x, expected[part], strict=True))
    sets = [set(y.tolist()) for y in (parts.y_train, parts.y_valid, parts.y_test)]
    assert [len(each) for each in sets] == [699, 200, 293]
    assert len(set.union(*sets)) == 1192


def test_protocol_b_by_a_loop(emoji):
    for hand, name in enumerate(emoji.hand_names):
        parts = unseen_hand_split(emoji, name)
        expected = {"training": [], "validation": [], "query": [], "gallery": []}
        for i, (label, drawn) in enumerate(zip(emoji.labels, emoji.hands, strict=True)):
            part = str(emoji.splits[label])
            if part == "test":
                part = "query" if drawn == hand else "gallery"
            elif drawn == hand:
                continue
            expected[part].append(i)
        for (x, y), rows in zip(
            ((parts[i], parts[i + 1]) for i in range(0, 8, 2)), expected.values(), strict=True
        ):
            np.testing.assert_array_equal(y, emoji.labels[rows])
            np.testing.assert_array_equal(x, emoji.images[rows])
        assert set(parts.y_query) <= set(parts.y_gallery)


def test_queries_without_an_answer_are_left_out():
    tiny = EmojiDataset(
        np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 0, 2]), np.array([0, 0, 1, 1]),
        ("a", "b", "c"), ("A", "B", "C"), ("g",) * 3, np.array(["test", "test", "training"]), ("x", "y"),
    )  # fmt: skip
    parts = unseen_hand_split(tiny, "x")
    assert parts.y_query.tolist() == [0] and parts.y_gallery.tolist() == [0]
    assert parts.y_train.tolist() == [2] and len(parts.y_valid) == 0


@pytest.mark.parametrize("hand", ["noto", "Apple", 0, None])
def test_unknown_hand_is_refused_with_the_known_ones(emoji, hand):
    known = "'Noto', 'Noto v1', 'Twemoji', 'Fluent', 'EmojiOne', 'OpenMoji'"
    with pytest.raises(ValueError, match=rf"^No hand is called {hand!r}\. Choose one of {known}\.$"):
        unseen_hand_split(emoji, hand)


def test_families_stay_together(emoji):
    parts = defaultdict(set)
    for name, part in zip(emoji.class_names, emoji.splits.tolist(), strict=True):
        parts[make_emoji.family(name)].add(part)
    assert all(len(each) == 1 for each in parts.values())
    assert emoji.splits.tolist() == make_emoji.split(emoji.class_names)


# The card's other figures


def flat(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255


def colours(images):
    """The square roots of the shares of 64 colours, four steps of each channel."""
    steps = (images // 64).reshape(len(images), -1, 3)
    codes = steps @ np.array([16, 4, 1], dtype=np.uint8)
    counts = np.stack([np.bincount(each, minlength=64) for each in codes])
    return np.sqrt(counts / codes.shape[1]).astype(np.float32)


def scores(query, query_labels, gallery=None, gallery_labels=None):
    """As the card's table has them: queries, gallery, R@1, R@5, R@10, MAP@R."""
    arguments = query, query_labels, gallery, gallery_labels
    size = len(query) - 1 if gallery is None else len(gallery)
    return [len(query), size, *recall_at_k(*arguments).values(), map_at_r(*arguments)]


def row(name):
    """The figures of a row of the card's tables."""
    cells = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", CARD, flags=re.MULTILINE)[1].split("|")
    return [float(cell.replace(",", "")) for cell in cells if cell.strip()]


def as_rounded(figures):
    """What the card says to three digits may differ by half a digit, and by an answer or two on another machine."""
    return pytest.approx(figures, abs=1.5e-3)


def test_card_s_table_of_scores(emoji):
    parts = emoji_split(emoji)
    assert row("A") == as_rounded(scores(flat(parts.x_test), parts.y_test))
    assert row("A, colours alone") == as_rounded(scores(colours(parts.x_test), parts.y_test))
    rotations = []
    for hand in emoji.hand_names:
        *_, x_query, y_query, x_gallery, y_gallery = unseen_hand_split(emoji, hand)
        rotations.append(scores(flat(x_query), y_query, flat(x_gallery), y_gallery))
        assert row(f"B, {hand}") == as_rounded(rotations[-1])
    assert row("B, mean of the six") == as_rounded(np.mean(rotations, axis=0)[2:])
    assert f"The {len(parts.x_test):,} pictures of the test classes search each other" in CARD


def test_card_s_figures_on_the_nearest_pictures(emoji):
    is_test = emoji.splits[emoji.labels] == "test"
    labels, hands = emoji.labels[is_test], emoji.hands[is_test]
    nearest = nearest_others(flat(emoji.images[is_test]), 1)[1][:, 0]
    right, by_own_hand = labels[nearest] == labels, hands[nearest] == hands
    assert f"{by_own_hand.mean():.0%}".replace("%", " %") + " of the nearest pictures are by the" in CARD
    assert not right[by_own_hand].any()

    is_clock = np.array([name.endswith(("o’clock", "-thirty")) for name in emoji.class_names])[labels]
    said = re.search(
        r"(\d+) of the ([\d,]+) test pictures are clock faces, of which pixels find none; of the others (0\.\d+)\.",
        CARD,
    )
    assert said.groups()[:2] == (str(is_clock.sum()), f"{len(labels):,}")
    assert not right[is_clock].any()
    assert float(said[3]) == as_rounded(right[~is_clock].mean())

    classes, numbers = np.unique(labels, return_inverse=True)
    pictures, found = np.bincount(numbers), np.bincount(numbers, right)
    said = re.search(
        r"The test has (\d+) classes\. Drawn again, ([\d,]+) times, they .* (0\.\d+) and (0\.\d+) \(95 %\)",
        CARD,
    )
    assert int(said[1]) == len(classes)
    draws = np.random.default_rng(0).integers(0, len(classes), (int(said[2].replace(",", "")), len(classes)))
    interval = np.percentile(found[draws].sum(axis=1) / pictures[draws].sum(axis=1), [2.5, 97.5])
    assert (float(said[3]), float(said[4])) == pytest.approx(tuple(interval), abs=3e-3)


def test_card_s_figures_on_two_hands_each(emoji):
    is_test = emoji.splits[emoji.labels] == "test"
    recalls = []
    for one in range(6):
        for other in set(range(6)) - {one}:
            gallery = is_test & (emoji.hands == other)
            query = is_test & (emoji.hands == one) & np.isin(emoji.labels, emoji.labels[gallery])
            recalls += recall_at_k(
                flat(emoji.images[query]), emoji.labels[query],
                flat(emoji.images[gallery]), emoji.labels[gallery], k=1,
            ).values()  # fmt: skip
    assert f"pixels find {100 * min(recalls):.0f} to {100 * max(recalls):.0f} % of a hand's" in CARD


def test_card_s_figures_on_families(emoji):
    names = np.array([make_emoji.family(name) for name in emoji.class_names])
    families, numbers, sizes = np.unique(names, return_inverse=True, return_counts=True)
    assert f"There are {len(families):,} families, {(sizes > 1).sum()} of them of two emoji or more." in CARD
    counts = Counter(emoji.splits.tolist())
    said = "{training} classes for training, {validation} for validation, {test} for test."
    assert said.format(**counts) in CARD
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        drawn = rng.permutation(numbers)
        shares.append(np.isin(drawn[: counts["test"]], drawn[-counts["training"] :]).mean())
    assert f"about {100 * np.mean(shares):.0f} % of the test classes would have had a sibling" in CARD

    part = dict(zip(emoji.class_names, emoji.splits.tolist(), strict=True))
    clocks = [name for name in part if make_emoji.family(name) == "clock"]
    assert f"the {len(clocks)} clock faces" in CARD
    assert {part[name] for name in (*clocks, "red heart", "blue heart")} == {"test"}
    straight = [f"{direction} arrow" for direction in ("up", "down", "left", "right")]
    families = [name for name in part if name.startswith("family")]
    assert families and {part[name] for name in (*straight, *families)} == {"validation"}


def test_card_s_figures_on_what_was_left_out(emoji):
    making = INDEX["making"]
    assert f"That leaves {making['emoji']:,} emoji and {making['drawings']:,} drawings." in CARD
    undecidable = sorted(making["undecidable"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{count} of {hand}" for hand, count in undecidable)
    assert f"both are left out: {sum(making['undecidable'].values())} pictures ({told})." in CARD
    assert {hand: count for hand, count in making["copies"].items() if count} == {"Noto v1": 2}
    too_few = [f"*{name}*" for name in making["too few left"]]
    told = f"{', '.join(too_few[:-1])} and {too_few[-1]}."
    assert f"Five classes had fewer than four pictures left, and went too: {told}" in CARD
    assert making["emoji"] - len(too_few) == len(emoji.class_names)
    assert not set(making["too few left"]) & set(emoji.class_names)


def test_card_s_figures_on_pairs_that_are_one_drawing():
    making = INDEX["making"]
    nearly = {tuple(pair["drawings"]): pair["difference"] for pair in making["pairs that are nearly so"]}
    assert f"{making['pairs that are equal']} are equal to the last pixel and six nearly so" in CARD
    assert len(nearly) == 6 and max(nearly.values()) <= make_emoji.SAME
    copies = [
        ("comet (Noto)", "comet (Noto v1)"),
        ("right anger bubble (Noto)", "right anger bubble (Noto v1)"),
    ]
    of_one_hand = [100 * difference for pair, difference in nearly.items() if pair not in copies]
    assert set(copies) < set(nearly) and len(of_one_hand) == 4
    assert f"four of one hand each, at {min(of_one_hand):.1f} to {max(of_one_hand):.1f} %" in CARD
    assert f"at most {100 * make_emoji.SAME:.1f} % of their ink: ‖a − b‖² ≤ {make_emoji.SAME}² (" in CARD


def test_no_two_shipped_pictures_are_one_drawing(monkeypatch):
    stored = load("emoji")
    small = load("emoji", size=32).images
    # A mean of four at most doubles the difference as a share of the ink: these are all pairs that may be within 4 %.
    monkeypatch.setattr(make_emoji, "SAME", 0.081)
    parts = [np.flatnonzero(stored.hands == hand) for hand in range(6)]
    parts += [np.flatnonzero(stored.labels == label) for label in range(len(stored.class_names))]
    close = {}
    for part in parts:
        for pair in part[make_emoji.same_drawings(small[part])]:
            share = make_emoji.difference(*stored.images[pair])
            if share < 0.04:
                names = {stored.class_names[label] for label in stored.labels[pair]}
                close[stored.hand_names[stored.hands[pair[0]]], *sorted(names)] = f"{100 * share:.1f} %"
    assert close == {("Twemoji", "man frowning", "man pouting"): "3.8 %"}
    assert "Twemoji's *man frowning* and *man pouting*, is at 3.8 %." in CARD


# The rules by which it was made


def entry(slug, group="Objects"):
    return {"slug": slug, "name": slug.replace("_", " "), "group": group}


def test_drawings_are_joined_by_character_then_name_then_alias():
    unicode = {
        "🐻": entry("bear"),
        "🦗": entry("cricket"),
        "🏏": entry("cricket_game"),
        "☎️": entry("telephone"),
        "🆙": entry("up!_button"),
        "🔼": entry("upwards_button"),
        "🧿": entry("nazar_amulet"),
    }
    icons = dict.fromkeys
    sets = {
        # lists its characters, and calls 🆙 by another name; the variation selector does not matter
        "listed": {
            "icons": icons(["bear", "phone", "up-text", "upwards-button"], {}),
            "aliases": {"up!-button": {"parent": "upwards-button"}},
            "chars": {"1f43b": "bear", "260e": "phone", "1f199": "up-text", "1f51f": "no-emoji-of-ours"},
        },
        # a name of its own, an alias, the other set's name, and an alias that leads to another emoji
        "named": {
            "icons": icons(["bear-face", "cricket-game", "phone", "upwards-button"], {}),
            "aliases": {
                "bear": {"parent": "bear-face"},
                "cricket": {"parent": "cricket-game"},
                "up!-button": {"parent": "upwards-button"},
            },
        },
    }
    assert make_emoji.join(unicode, sets) == {
        "🐻": {"listed": "bear", "named": "bear"},
        "🦗": {},
        "🏏": {"named": "cricket-game"},
        "☎️": {"listed": "phone", "named": "phone"},
        "🆙": {"listed": "up-text"},
        "🔼": {"listed": "upwards-button", "named": "upwards-button"},
        "🧿": {},
    }


def test_flags_and_skin_tones_are_not_wanted():
    assert make_emoji.wanted(entry("bear"))
    assert not make_emoji.wanted(entry("chequered_flag", "Flags"))
    assert not make_emoji.wanted(entry("flag_in_hole"))
    assert not make_emoji.wanted(entry("waving_hand_light_skin_tone"))


def test_aliases_lead_to_drawings_and_may_mirror_them():
    drawings = {
        "icons": {"left": {"body": "<path/>"}},
        "aliases": {
            "right": {"parent": "left", "hFlip": True},
            "left-again": {"parent": "right", "hFlip": True},
            "turned": {"parent": "left", "rotate": 1},
        },
    }
    assert make_emoji.source(drawings, "left") == ("left", False)
    assert make_emoji.source(drawings, "right") == ("left", True)
    assert make_emoji.source(drawings, "left-again") == ("left", False)
    with pytest.raises(ValueError, match=r"turned changes its drawing in an unknown way: .*rotate"):
        make_emoji.source(drawings, "turned")


def test_documents_are_square_with_the_drawing_in_the_middle():
    drawings = {
        "width": 36,
        "height": 36,
        "icons": {"square": {"body": "<path/>"}, "flat": {"body": "<path/>", "height": 26}},
        "aliases": {"mirrored": {"parent": "flat", "hFlip": True}},
    }
    assert 'viewBox="0 0 36 36"><path/>' in make_emoji.svg(drawings, "square")
    assert 'viewBox="0 -5 36 36"><path/>' in make_emoji.svg(drawings, "flat")
    mirrored = '><g transform="translate(36 0) scale(-1 1)"><path/></g></svg>'
    assert make_emoji.svg(drawings, "mirrored").endswith(mirrored)


def test_drawing_on_white():
    pytest.importorskip("resvg_py")
    drawings = {"width": 32, "height": 32, "icons": {"a": {"body": '<path fill="#f00" d="M0 0h16v32H0z"/>'}}}
    image = make_emoji.draw(make_emoji.svg(drawings, "a"))
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    assert (image[:, :32] == (255, 0, 0)).all() and (image[:, 32:] == 255).all()


def test_same_drawings_against_a_loop():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    images[3] = images[1]
    images[4] = np.clip(images[2].astype(int) + rng.integers(-6, 7, images[2].shape), 0, 255)
    images[5] = np.clip(images[0].astype(int) + rng.integers(-25, 26, images[0].shape), 0, 255)
    pairs = []
    for i in range(6):
        for j in range(i + 1, 6):
            a, b = 255.0 - images[i], 255.0 - images[j]
            if ((a - b) ** 2).sum() <= 0.037**2 * ((a**2).sum() + (b**2).sum()):
                pairs.append([i, j])
    assert make_emoji.same_drawings(images).tolist() == pairs == [[1, 3], [2, 4]]
    assert make_emoji.same_drawings(images[:3]).shape == (0, 2)


@pytest.mark.parametrize(("darker", "same"), [(5, True), (6, False), (-5, True), (-6, False)])
def test_limit_is_3_7_percent_of_the_ink(darker, same):
    # 100 against 105: 5 / √(100² + 105²) = 3.4 %; 100 against 106: 4.1 %
    images = np.full((2, 4, 4, 3), 155, dtype=np.uint8)
    images[1] = 155 - darker
    ink = 100 + darker
    assert make_emoji.difference(*images) == pytest.approx(abs(darker) / np.hypot(100, ink))
    images[:, 2:] = 255  # white paper changes nothing
    assert make_emoji.difference(*images) == pytest.approx(abs(darker) / np.hypot(100, ink))
    assert make_emoji.same_drawings(images).tolist() == ([[0, 1]] if same else [])


def test_blank_pictures_are_one_drawing():
    assert make_emoji.same_drawings(np.full((2, 4, 4, 3), 255, dtype=np.uint8)).tolist() == [[0, 1]]


def test_undecidable_drawings_go_both_and_copies_leave_one():
    images = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    images[:, :4] = np.array([10, 10, 80, 80, 200, 240], dtype=np.uint8)[:, None, None, None]
    images[2:4, 4:] = 255
    images[4, :, :4] = 255
    labels, hands = np.array([0, 1, 2, 2, 3, 4]), np.array([0, 0, 1, 0, 0, 0])
    undecidable, copy = make_emoji.undecidable_and_copies(make_emoji.same_drawings(images), labels, hands)
    assert undecidable.tolist() == [True, True, False, False, False, False]
    assert copy.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("names", "rest"),
    [
        (["woman running", "man running", "person running"], "running"),
        (["people wrestling", "men wrestling"], "wrestling"),
        (["police officer", "man police officer"], "police officer"),
        (["family man, woman, girl, boy", "family"], "family"),
        (["men’s room", "women’s room"], "room"),
        (["man", "woman", "boy", "girl", "prince"], ""),
        (["one o’clock", "twelve-thirty"], "clock"),
        (["keycap #", "keycap 10"], "keycap"),
        (["red apple", "green apple"], "apple"),
        (["black medium-small square", "white large square"], "square"),
        (["up-right arrow", "left arrow"], "arrow"),
        (["upwards button", "downwards button"], "button"),
        (["left-facing fist", "right-facing fist"], "facing fist"),
    ],
)
def test_families(names, rest):
    assert [make_emoji.family(name) for name in names] == [rest] * len(names)


def test_no_family_where_a_word_only_contains_another():
    names = [
        "snowman",
        "blackbird",
        "Mrs. Claus",
        "one-piece swimsuit",
        "UP! button",
        "copyright",
        "woman’s hat",
    ]
    families = [make_emoji.family(name) for name in names]
    assert families == [
        "snowman", "blackbird", "Mrs. Claus", "one piece swimsuit", "UP! button", "copyright", "hat"
    ]  # fmt: skip


def test_split_is_exact_and_the_same_every_time(emoji):
    parts = make_emoji.split(emoji.class_names)
    assert Counter(parts) == {"training": 699, "validation": 200, "test": 293}
    assert parts == make_emoji.split(emoji.class_names)


def test_packages_are_fetched_by_npm_once_and_checked(tmp_path, monkeypatch):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        text = json.dumps({"a": 1}).encode()
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    package = make_emoji.Package("@set/some", "1.2.3", digest)
    commands = []

    def npm(command, check):
        commands.append(command)
        (tmp_path / "new" / "set-some-1.2.3.tgz").write_bytes(content.getvalue())

    monkeypatch.setattr(subprocess, "run", npm)
    for _ in range(2):  # the second time it lies there
        path = make_emoji.fetch(tmp_path / "new", package)
    assert commands == [["npm", "pack", "@set/some@1.2.3", "--pack-destination", str(tmp_path / "new")]]
    assert make_emoji.read_json(path, "icons.json") == {"a": 1}
    assert make_emoji.read_json(path, "chars.json", {}) == {}
    with pytest.raises(KeyError):
        make_emoji.read_json(path, "chars.json")
    path.write_bytes(content.getvalue()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"set-some-1\.2\.3\.tgz is not the file .* its sha256 differs\.$"):
        make_emoji.fetch(tmp_path / "new", package)


def test_every_package_is_pinned():
    for package in (make_emoji.UNICODE, *make_emoji.HANDS.values()):
        assert re.fullmatch(r"\d+\.\d+\.\d+", package.version) and re.fullmatch(
            "[0-9a-f]{64}", package.sha256
        )
    packages = [f"{package.name} {package.version}" for package in make_emoji.HANDS.values()]
    assert [hand["package"] for hand in INDEX["hands"]] == packages
