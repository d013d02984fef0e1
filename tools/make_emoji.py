"""Make the data set `emoji`: the same emoji drawn by six hands, as `helpers.data.load("emoji")` reads it.

    uv run --group authors python tools/make_emoji.py build/emoji

The drawings come from seven npm packages of pinned versions, which `npm pack` fetches into the folder that is named;
those that lie there already are used again. Each must have the sha256 that stands below. The same packages give the
same pixels, and the same version of Pillow packs them into the same files; a learner needs none of this.

What becomes a picture and what is left out is told in `helpers/data/emoji/README.md`.
"""

import argparse
import hashlib
import json
import re
import subprocess
import tarfile
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from helpers.data import DATA_FOLDER

SIDE, COLUMNS = 64, 32  # of a picture in pixels, of a sheet in pictures
SEED, TRAINING_CLASSES, VALIDATION_CLASSES = 0, 699, 200
HANDS_NEEDED = 5  # to draw an emoji, if it is to be a class
PICTURES_NEEDED = 4  # to be left of a class at the end


class Package(NamedTuple):
    name: str
    version: str
    sha256: str  # of the archive that `npm pack` writes

    @property
    def archive(self):
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


UNICODE = Package(
    "unicode-emoji-json", "0.9.0", "ae7efacb55533385bf8767d613dbd36c71226669759d95919a6e9059f5e4c401"
)
HANDS = {  # in the order of their numbers; today's Noto before the older one, whose copies are left out
    "Noto": Package(
        "@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"
    ),
    "Noto v1": Package(
        "@iconify-json/noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"
    ),
    "Twemoji": Package(
        "@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"
    ),
    "Fluent": Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "EmojiOne": Package(
        "@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"
    ),
    "OpenMoji": Package(
        "@iconify-json/openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"
    ),
}


# The packages


def fetch(folder, package):
    """The package's archive in the folder, fetched by `npm pack` if it is not there; its sha256 must be right."""
    path = folder / package.archive
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"{package.name}@{package.version}", "--pack-destination", str(folder)]
        subprocess.run(command, check=True)
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise ValueError(f"{path} is not the file that the data set was made of: its sha256 differs.")
    return path


def read_json(archive, name, default=None):
    """A JSON file of an npm archive, or `default` if the archive has none of this name."""
    with tarfile.open(archive) as files:
        try:
            return json.load(files.extractfile(f"package/{name}"))
        except KeyError:
            if default is None:
                raise
            return default


# Which drawing shows which emoji


def wanted(entry):
    """No flags and no skin tones: flags are their countries' drawings, skin tones are one drawing in five colours."""
    return not (entry["group"] == "Flags" or entry["name"].startswith("flag") or "skin tone" in entry["name"])


def join(unicode, sets):
    """Find each emoji's drawing in each set.

    A set that lists its characters (`chars`) is taken at its word. Elsewhere a drawing is found by its name: the
    emoji's own (its slug, with - for _), or one by which another set calls this character. A name may be an alias of a
    drawing, but not of one that is named after another emoji: a cricket is no `cricket-game`.

    Args:
        unicode: character -> {"slug": …, "name": …, "group": …}.
        sets: hand -> {"icons": {name: …}, "aliases": {name: {"parent": name, …}}, "chars": {code points: name}}.

    Returns:
        character -> {hand: name of an icon or an alias}, for all characters in `unicode`.
    """
    characters = {character.replace("\ufe0f", ""): character for character in unicode}
    listed = {hand: {} for hand in sets}  # hand -> character -> name
    names = {character: [entry["slug"].replace("_", "-")] for character, entry in unicode.items()}
    for hand, drawings in sets.items():
        for points, name in drawings.get("chars", {}).items():
            character = characters.get(
                "".join(chr(int(point, 16)) for point in points.split("-")).replace("\ufe0f", "")
            )
            if character is not None:
                listed[hand].setdefault(character, name)
                names[character].append(name)
    owner = {name: character for character in reversed(names) for name in names[character]}
    found = {character: {} for character in unicode}
    for character in unicode:
        for hand, drawings in sets.items():
            icons, aliases = drawings["icons"], drawings.get("aliases", {})
            candidates = [name for name in names[character] if name in icons]
            candidates += [
                name
                for name in names[character]
                if name in aliases and owner.get(source(drawings, name)[0], character) == character
            ]
            if character in listed[hand]:
                candidates.insert(0, listed[hand][character])
            if candidates:
                found[character][hand] = candidates[0]
    return found


def source(drawings, name):
    """The icon that an alias leads to, and whether it is mirrored on the way."""
    mirrored = False
    while name not in drawings["icons"]:
        alias = drawings["aliases"][name]
        if set(alias) - {"parent", "hFlip"}:
            raise ValueError(f"{name} changes its drawing in an unknown way: {sorted(alias)}.")
        mirrored ^= alias.get("hFlip", False)
        name = alias["parent"]
    return name, mirrored


# Drawing


def svg(drawings, name):
    """The drawing as an SVG document on a white square, with its own shape in the middle."""
    name, mirrored = source(drawings, name)
    icon = drawings["icons"][name]
    left, top, width, height = (
        icon.get(key, drawings.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    side = max(width, height)
    x, y = left - (side - width) / 2, top - (side - height) / 2
    body = icon["body"]
    if mirrored:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="{x:g} {y:g} {side:g} {side:g}">{body}</svg>'
    )


def draw(document):
    """An SVG document as uint8 (64, 64, 3), composed on white."""
    from resvg_py import svg_to_bytes  # imported here, so that the tests of the rest need no renderer

    png = svg_to_bytes(svg_string=document, width=SIDE, background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


# The same drawing twice


SAME = 0.037  # see `same_drawings`


def difference(one, other):
    """How much two pictures differ, as a share of their ink: √(‖a − b‖² / (‖a‖² + ‖b‖²)), over all pixels.

    White counts as 0 and black as 255, so that white paper makes no two thin drawings alike.
    """
    a, b = (255 - picture.astype(np.int64) for picture in (one, other))
    return np.sqrt(((a - b) ** 2).sum() / max((a**2).sum() + (b**2).sum(), 1))  # 1: both are blank


def same_drawings(images):
    """The pairs of pictures (n, 2), first < second, that are practically one drawing: `difference` is at most 3.7 %.

    Args:
        images: uint8 (N, height, width, channels).
    """
    rough = (255 - images).reshape(len(images), -1).astype(np.float32) / 255
    squares = (rough**2).sum(axis=1)
    pairs = []
    for start in range(0, len(images), 1000):
        ones = slice(start, start + 1000)
        both = squares[ones, None] + squares
        # float32 finds the candidates, `difference` decides
        rows, others = np.nonzero(both - 2 * rough[ones] @ rough.T <= 2 * SAME**2 * both)
        for one, other in zip(rows + start, others, strict=True):
            if one < other and difference(images[one], images[other]) <= SAME:
                pairs.append((one, other))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def undecidable_and_copies(pairs, labels, hands):
    """Which pictures to leave out, of the pairs that `same_drawings` found, and why.

    A hand that draws two emoji alike: nobody can tell which of the two a picture shows, and both are left out. Two
    hands that draw one emoji alike: a search would find the copy and learn nothing, and the one whose hand comes later
    in `HANDS` is left out.

    Returns:
        Two boolean arrays (N,): undecidable, copy.
    """
    undecidable, copy = np.zeros((2, len(labels)), dtype=bool)
    for one, other in pairs:
        if labels[one] != labels[other]:
            undecidable[[one, other]] = True
        else:
            copy[one if hands[one] > hands[other] else other] = True
    return undecidable, copy & ~undecidable


# Splits


FAMILY_WORDS = (  # what two names of one family may differ in
    r"\b(person|man|woman|people|men|women|boy|girl|prince|princess|merperson|merman|mermaid)(’s)?\b",
    r"\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)( o’clock|-thirty)$",
    r"(?<=^keycap ).*$",
    r"\b(black|white|grey|brown|red|orange|yellow|green|blue|purple)\b",
    r"\b(large|medium|small)\b",
    r"\b(left|right|up|down)(wards)?\b",
)


def family(name):
    """What is left of an emoji's name when sex, hour, key, colour, size and direction are taken out.

    Emoji of one family show one thing in variants: woman running and man running, a red and a green apple. They go into
    the same part of the split. Names of which nothing is left are one family: man, woman, boy, girl, person; for the
    hours of the clock it is called `clock`.
    """
    for number, words in enumerate(FAMILY_WORDS):
        name = re.sub(words, "clock" if number == 1 else "", name)
    return " ".join(re.findall(r"[\w’“”!?#*()&.]+", name))


def split(names):
    """The part of each class, in the order of the names: "training" (699), "validation" (200) or "test" (the rest).

    Families are drawn by lot; each goes into the first of the three parts that has room for all of it.
    """
    families = defaultdict(list)
    for number, name in enumerate(names):
        families[family(name)].append(number)
    room = {"training": TRAINING_CLASSES, "validation": VALIDATION_CLASSES, "test": len(names)}
    room["test"] -= TRAINING_CLASSES + VALIDATION_CLASSES
    parts = [""] * len(names)
    members = list(families.values())
    for drawn in np.random.default_rng(SEED).permutation(len(members)):
        part = next(part for part, left in room.items() if left >= len(members[drawn]))
        room[part] -= len(members[drawn])
        for number in members[drawn]:
            parts[number] = part
    return parts


# Files


def sheet(images):
    """Pictures (N, 64, 64, 3) side by side, 32 in a row, the last row filled up with white; uint8."""
    rows = -(-len(images) // COLUMNS)
    tiles = np.full((rows * COLUMNS, SIDE, SIDE, 3), 255, dtype=np.uint8)
    tiles[: len(images)] = images
    tiles = tiles.reshape(rows, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    return tiles.reshape(rows * SIDE, COLUMNS * SIDE, 3)


def one_line_each(entries):
    return "[\n" + ",\n".join("    " + json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n  ]"


def write(folder, classes, hands, images, labels, numbers, making):
    """The sheets and `index.json`, in which the classes of a hand stand in the order of its pictures.

    `making` are the figures of what was left out: the index keeps them for the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, hand in enumerate(hands):
        drawn = numbers == number
        path = folder / hand["file"]
        Image.fromarray(sheet(images[drawn])).save(path, lossless=True, quality=100, method=6, exact=True)
        hand["pictures"] = int(drawn.sum())
        hand["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        hand["classes"] = labels[drawn].tolist()
    making = json.dumps(making, ensure_ascii=False)
    text = (
        f'{{\n  "making": {making},\n  "classes": {one_line_each(classes)},\n'
        f'  "hands": {one_line_each(hands)}\n}}\n'
    )
    (folder / "index.json").write_text(text, encoding="utf-8", newline="\n")


def count_by_hand(numbers):
    return dict(zip(HANDS, np.bincount(numbers, minlength=len(HANDS)).tolist(), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, help="the folder for the npm packages")
    parser.add_argument("--to", type=Path, default=DATA_FOLDER / "emoji", help="the folder for the data set")
    arguments = parser.parse_args()

    unicode = read_json(fetch(arguments.packages, UNICODE), "data-by-emoji.json")
    archives = {hand: fetch(arguments.packages, package) for hand, package in HANDS.items()}
    sets = {
        hand: read_json(archive, "icons.json") | {"chars": read_json(archive, "chars.json", {})}
        for hand, archive in archives.items()
    }
    found = {
        character: drawings
        for character, drawings in join(unicode, sets).items()
        if wanted(unicode[character]) and len(drawings) >= HANDS_NEEDED
    }

    images, labels, numbers = [], [], []
    for number, hand in enumerate(HANDS):
        for label, drawings in enumerate(found.values()):
            if hand in drawings:
                images.append(draw(svg(sets[hand], drawings[hand])))
                labels.append(label)
                numbers.append(number)
    images, labels, numbers = np.stack(images), np.array(labels), np.array(numbers)

    pairs = same_drawings(images)
    undecidable, copy = undecidable_and_copies(pairs, labels, numbers)
    kept = ~(undecidable | copy)
    enough = np.bincount(labels[kept], minlength=len(found)) >= PICTURES_NEEDED
    kept &= enough[labels]
    characters = [character for character, is_in in zip(found, enough, strict=True) if is_in]

    every_name = [unicode[character]["name"] for character in found]
    nearly = [
        {
            "drawings": [
                f"{every_name[labels[picture]]} ({list(HANDS)[numbers[picture]]})" for picture in pair
            ],
            "difference": round(float(difference(*images[pair])), 4),
        }
        for pair in pairs
        if (images[pair[0]] != images[pair[1]]).any()
    ]
    making = {
        "emoji": len(found),
        "drawings": len(images),
        "undecidable": count_by_hand(numbers[undecidable]),
        "copies": count_by_hand(numbers[copy]),
        "too few left": [name for name, is_in in zip(every_name, enough, strict=True) if not is_in],
        "pairs that are equal": len(pairs) - len(nearly),
        "pairs that are nearly so": nearly,
    }
    for what, figures in making.items():
        print(f"{what}:", figures)
    print(f"what is left: {len(characters)} classes, {kept.sum()} pictures")

    names = [unicode[character]["name"] for character in characters]
    classes = [
        {"character": character, "name": name, "group": unicode[character]["group"], "split": part}
        for character, name, part in zip(characters, names, split(names), strict=True)
    ]
    hands = []
    for hand, package in HANDS.items():
        info = read_json(archives[hand], "info.json")
        hands.append(
            {
                "name": hand,
                "file": package.name.split("/")[1] + ".webp",
                "author": info["author"]["name"],
                "address": info["author"]["url"],
                "licence": info["license"]["spdx"],
                "licence address": info["license"]["url"],
                "package": f"{package.name} {package.version}",
            }
        )
    labels = (np.cumsum(enough) - 1)[labels]  # numbered without those left out
    write(arguments.to, classes, hands, images[kept], labels[kept], numbers[kept], making)
    size = sum(path.stat().st_size for path in arguments.to.glob("*.webp"))
    print(f"{size / 1e6:.1f} MB in {arguments.to}")


if __name__ == "__main__":
    main()
