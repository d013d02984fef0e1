"""Checks of lesson 12, a search app."""

import html.parser
import tempfile
from pathlib import Path

import numpy as np

from helpers.checks import exercise


class _Reader(html.parser.HTMLParser):
    """What a screen reader would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.names, self.alts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if tag == "button":
            self.names.append(attributes.get("aria-label"))
        if tag == "img":
            self.alts.append(attributes.get("alt"))


@exercise("whatever somebody else typed, a name, a label, a file's title, is escaped where it enters a page")
def exercise_1(answer_button):
    text = str(answer_button(1, "Ankle boot", 0.2149, "PICTURE"))
    found = _Reader(text)
    assert "button" in found.tags, (
        "an answer should be a <button>: a keyboard reaches it, and a screen reader announces it"
    )
    assert "img" in found.tags and "PICTURE" in text, "put the picture in an <img> whose src is `source`"
    assert found.alts[0], "the <img> needs a text for those who cannot see it: alt"
    name = found.names[0]
    assert name, "give the button a name, aria-label: the picture alone says nothing to a screen reader"
    assert "Ankle boot" in name, f"the name should say the class; it is {name!r}"
    assert "1" in name.replace("0.21", ""), f"the name should say the rank, 1; it is {name!r}"
    assert "0.21" in name and "0.2149" not in name, f"round the distance to two digits; the name is {name!r}"
    attack = '"><script>alert(1)</script>'
    found = _Reader(str(answer_button(2, attack, 0.5, "PICTURE")))
    assert "script" not in found.tags, (
        "a class called '\"><script>alert(1)</script>' became part of the page: escape it with html.escape"
    )
    assert attack in (found.names[0] or ""), (
        "escaped, not removed: the reader should still get the class's name"
    )
    found = _Reader(str(answer_button(3, 'a "coat" & more', 0.5, "PICTURE")))
    assert 'a "coat" & more' in (found.names[0] or ""), (
        f"a class called 'a \"coat\" & more' was cut: the button's name is {found.names[0]!r}"
    )


@exercise(
    "resolve first, compare afterwards, and compare whole folders: a text that begins alike is not inside"
)
def exercise_2(is_inside):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place).resolve()
        folder = place / "pictures"
        (folder / "shoes").mkdir(parents=True)
        (place / "pictures-private").mkdir()
        for file in ("pictures/a.png", "pictures/shoes/b.png", "pictures-private/c.png", "d.png"):
            (place / file).write_text("x", encoding="utf-8")

        def ask(name):
            answer = is_inside(folder, name)
            assert answer in (True, False), f"return True or False, not {answer!r}"
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
        assert not ask("a.png\0.jpg"), "a name with a zero byte is no file's name"
        try:
            (folder / "link.png").symlink_to(place / "d.png")
        except OSError:  # Windows, without the right to make links
            return
        assert not ask("link.png"), "'link.png' is a link to a file outside: resolve it before you compare"


def _scene(slope, seed=0, inverse=False):
    """A garment-like shape on paper whose brightness falls from one side to the other; grey values and the shape."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :160]
    shape = (abs(x - 70) < 30) & (abs(y - 60) < 40) | (abs(x - 70) < 50) & (abs(y - 35) < 12)
    paper = 180 + slope[0] * (x / 159 - 0.5) + slope[1] * (y / 119 - 0.5)
    grey = paper + (60 if inverse else -110) * shape + rng.normal(0, 1, shape.shape)
    return grey, shape


@exercise(
    "a plane repairs light from one side; a shadow with an edge is no plane, and no preparation repairs everything"
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
        ground = flat[~shape]
        assert np.isfinite(flat).all(), "there is a nan or an infinity"
        assert ground.std() < 3, (
            f"with the light falling by {slope} across the picture, the background still varies by "
            f"±{ground.std():.0f}; fit a + b·x + c·y to the border's pixels and subtract it"
        )
        assert abs(np.median(ground)) < 3, (
            f"the background should end at 0, not at {np.median(ground):.0f}: the object is what differs from it"
        )
        inside = np.median(flat[shape])
        assert abs(inside - 110) < 4, (
            f"the object, darker than the paper by 110, should end at 110; it is at {inside:.0f}"
            + ("; did the fit include the object?" if abs(inside) < 100 else "")
        )
    grey, shape = _scene((40, 20), inverse=True)
    flat = np.asarray(flatten_light(grey))
    assert abs(np.median(flat[shape]) - 60) < 4, (
        "an object that is lighter than its paper should end lighter than 0, too: take the absolute difference"
    )
