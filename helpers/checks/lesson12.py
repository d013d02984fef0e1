"""Checks of lesson 12, a search app."""

import html
import html.parser
import os
import tempfile
from pathlib import Path

import numpy as np

from helpers.checks import LearnersError, exercise, shown


class _Reader(html.parser.HTMLParser):
    """What a screen reader would find: the tags, their attributes, and which of them stand within a button."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.inside, self.depth = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append(dict(attributes))
        self.inside.append(self.depth > 0)
        self.depth += tag == "button"

    def handle_endtag(self, tag):
        self.depth -= tag == "button"

    def first(self, tag, attribute):
        return next(
            (a.get(attribute) for t, a in zip(self.tags, self.attributes, strict=True) if t == tag), None
        )


@exercise(
    "whatever somebody else typed, a name, a label, a file's title, is escaped where it enters a page",
    returns="text: the HTML of one button",
)
def exercise_1(answer_button):
    text = answer_button(1, "Ankle boot", 0.2149, "PICTURE")
    assert isinstance(text, str), f"return the HTML as text, not {shown(text)}"
    found = _Reader(text)
    assert "button" in found.tags, (
        "an answer should be a <button>: a keyboard reaches it, and a screen reader announces it"
    )
    assert found.depth == 0, "the <button> is not closed: </button>"
    assert "img" in found.tags and found.first("img", "src") == "PICTURE", (
        "put the picture in an <img> whose src is `source`"
    )
    assert found.inside[found.tags.index("img")], (
        "the <img> belongs into the button, between <button …> and </button>"
    )
    assert found.first("img", "alt"), "the <img> needs a text for those who cannot see it: alt"
    name = found.first("button", "aria-label")
    assert name, "give the button a name, aria-label: the picture alone says nothing to a screen reader"
    assert "Ankle boot" in name, f"the name should say the class; it is {name!r}" + (
        ": an attribute needs quotation marks" * (" " not in name)
    )
    assert "0.2149" not in name and "0.21" in name, f"round the distance to two digits; the name is {name!r}"
    assert "1" in name.replace("0.21", ""), f"the name should say the rank, 1; it is {name!r}"
    attacks = (
        '"><script>alert(1)</script>',
        "' onload='alert(1)",
        '" onload="alert(1)',
        'a "coat" & more',
        "a 'coat'",
    )
    for attack in attacks:
        for what in ("class", "source"):
            arguments = (attack, 0.5, "PICTURE") if what == "class" else ("Coat", 0.5, attack)
            found = _Reader(answer_button(2, *arguments))
            what = f"a {what} called {attack!r}" if what == "class" else f"a `source` that is {attack!r}"
            onload = any("onload" in attributes for attributes in found.attributes)
            assert "script" not in found.tags and not onload, (
                f"{what} became part of the page: escape it with html.escape, quotation marks included"
            )
            got = found.first("button", "aria-label") if arguments[0] == attack else found.first("img", "src")
            assert html.escape(attack) not in (got or ""), (
                f"{what} was escaped twice: the reader gets {got!r}"
            )
            assert attack in (got or ""), (
                f"{what} was cut: the reader gets {got!r}. Escape it, quotation marks included, and remove nothing"
            )


@exercise(
    "resolve first, compare afterwards, and compare whole folders: a text that begins alike is not inside",
    returns="True or False",
)
def exercise_2(is_inside):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place).resolve()
        folder = place / "pictures"
        (folder / "shoes").mkdir(parents=True)
        (place / "pictures-private").mkdir()
        for file in (
            "pictures/a.png",
            "pictures/shoes/b.png",
            "pictures/..a.png",
            "pictures-private/c.png",
            "d.png",
        ):
            (place / file).write_text("x", encoding="utf-8")

        def ask(name, folder=folder):
            answer = is_inside(folder, name)
            assert np.ndim(answer) == 0 and answer in (True, False), (
                f"return True or False, not {shown(answer)}"
            )
            return bool(answer)

        for name in ("a.png", "shoes/b.png", "shoes/../a.png"):
            assert ask(name), f"{name!r} lies inside the folder, and should be served"
        assert not ask("../d.png"), "'../d.png' climbs out of the folder"
        assert not ask("shoes/../../d.png"), "'shoes/../../d.png' begins inside and climbs out"
        assert not ask(str(place / "d.png")), (
            "an absolute path replaces the folder when the two are joined: it must be refused"
        )
        assert not ask("../pictures-private/c.png"), (
            "'pictures-private' begins with the same letters as 'pictures', but is another folder: "
            "compare paths, not texts"
        )
        assert not ask("no such.png") and not ask("shoes"), "only files that exist are served"
        try:
            assert not ask("a.png\0.jpg"), "a name with a zero byte is no file's name"
        except LearnersError as error:
            raise AssertionError(
                f"for a name with a zero byte your code raised {type(error.__cause__).__name__}: return False"
            ) from error
        assert ask("..a.png"), "'..a.png' is a file's name like others: it does not climb"
        try:
            relative = Path(os.path.relpath(folder))
        except ValueError:  # Windows, with the temporary folder on another drive
            relative = folder
        assert ask("a.png", relative) and not ask("../d.png", relative), (
            "with a relative `folder`, such as Path('pictures'), it fails: resolve the folder, too"
        )
        try:
            (folder / "link.png").symlink_to(place / "d.png")
            (folder / "near.png").symlink_to(folder / "a.png")
            (place / "shelf").symlink_to(folder, target_is_directory=True)
        except OSError:  # Windows, without the right to make links
            return
        assert not ask("link.png"), "'link.png' is a link to a file outside: resolve it before you compare"
        assert ask("near.png"), "'near.png' is a link to a file inside the folder, and should be served"
        assert ask("a.png", place / "shelf") and not ask("../d.png", place / "shelf"), (
            "with a `folder` that is itself a link it fails: resolve the folder, too, before you compare"
        )


def _scene(slope, seed=0, inverse=False):
    """A garment-like shape on paper whose brightness falls from one side to the other; grey values and the shape."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :160]
    shape = (abs(x - 70) < 30) & (abs(y - 60) < 40) | (abs(x - 70) < 50) & (abs(y - 35) < 12)
    paper = 180 + slope[0] * (x / 159 - 0.5) + slope[1] * (y / 119 - 0.5)
    grey = paper + (60 if inverse else -110) * shape + rng.normal(0, 1, shape.shape)
    return grey, shape


@exercise(
    "a plane repairs light from one side; a shadow with an edge is no plane, and no preparation repairs everything",
    returns="a float array (height, width)",
)
def exercise_3(flatten_light):
    for slope in ((0, 0), (80, 0), (0, -70), (60, 50)):
        grey, shape = _scene(slope)
        given = grey.copy()
        flat = np.asarray(flatten_light(grey))
        assert np.array_equal(grey, given), (
            "your function changed the picture that it was given: work on a copy"
        )
        assert flat.shape == grey.shape, f"expected the picture's shape {grey.shape}, got {flat.shape}"
        assert flat.dtype.kind == "f", f"return a float array; yours is {flat.dtype}"
        ground = flat[~shape]
        assert np.isfinite(flat).all(), "there is a nan or an infinity"
        assert ground.std() < 3, (
            f"with the light falling by {slope} across the picture, the background still varies by "
            f"±{ground.std():.0f}; "
            + (
                "did the fit include the object?"
                if slope == (0, 0)
                else "fit a + b·x + c·y to the border's pixels"
            )
        )
        assert abs(np.median(ground)) < 3, (
            f"the background should end at 0, not at {np.median(ground):.0f}: the object is what differs from it"
        )
        inside = np.median(flat[shape])
        assert inside > 0 or abs(inside + 110) > 4, (
            "the object is as far below 0 as it should be above: take the absolute difference"
        )
        assert abs(inside - 110) < 4, (
            f"the object, darker than the paper by 110, should end at 110; it is at {inside:.0f}"
            + ("; did the fit include the object?" if abs(inside) < 100 else "")
        )
    grey, shape = _scene((40, 20), inverse=True)
    flat = np.asarray(flatten_light(grey))
    assert abs(np.median(flat[shape]) - 60) < 4, (
        "an object that is lighter than its paper should end lighter than 0, too: take the absolute difference"
    )
    assert flat.min() >= 0, f"the result should not be negative; its smallest value is {flat.min():.3g}"
