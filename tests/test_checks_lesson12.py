"""A battery for the checks of lesson 12: wrong answers with their mistakes, right ones in other styles."""

import html
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson12 as check


def button(
    rank,
    name,
    distance,
    source,
    escape=html.escape,
    escape_source=html.escape,
    label="Answer {rank}: {name}, distance {distance:.2f}",
    page='<button type="button" aria-label="{label}"><img src="{source}" alt="{name}"> {name}</button>',
):
    name, source = escape(name), escape_source(source)
    label = label.format(rank=rank, name=name, distance=distance)
    return page.format(label=label, source=source, name=name)


def with_(**more):
    return lambda *arguments: button(*arguments, **more)


def button_of_parts(rank, class_name, distance, source):
    safe = {k: html.escape(str(v), quote=True) for k, v in {"c": class_name, "s": source}.items()}
    parts = [
        f"<button aria-label='{safe['c']} ({rank}.), {round(float(distance), 2)}'>",
        f"<img alt='Picture of {safe['c']}' src='{safe['s']}'/>",
        "</button>",
    ]
    return "\n".join(parts)


def button_of_a_tree(rank, class_name, distance, source):
    element = ET.Element("button", {"aria-label": f"{rank}: {class_name}, {distance:.2f}"})
    ET.SubElement(element, "img", src=source, alt=f"{class_name}")
    return ET.tostring(element, encoding="unicode")


def button_by_hand(rank, class_name, distance, source):
    def safe(text):
        for character, written in (
            ("&", "&amp;"),
            ("<", "&lt;"),
            (">", "&gt;"),
            ('"', "&quot;"),
            ("'", "&#39;"),
        ):
            text = text.replace(character, written)
        return text

    label = safe(f"No. {rank:d}, {class_name}, distance {distance:.2f}")
    return f'<div><button aria-label="{label}"><img src="{safe(source)}" alt="{safe(class_name)}"></button></div>'


def inside(folder, name, resolve_folder=True, resolve_path=True, files=True, zero=True):
    if zero and "\0" in name:
        return False
    folder = Path(folder).resolve() if resolve_folder else Path(folder)
    path = folder / name
    path = path.resolve() if resolve_path else path
    return path.is_relative_to(folder) and (path.is_file() if files else path.exists())


def within(**more):
    return lambda folder, name: inside(folder, name, **more)


def no_dots(folder, name):
    return "\0" not in name and ".." not in name and (Path(folder) / name).is_file()


def no_way_up(folder, name):
    name = name.lstrip("/")
    return "\0" not in name and ".." not in Path(name).parts and (Path(folder) / name).is_file()


def begins_alike(folder, name):
    root = str(Path(folder).resolve())
    return (
        "\0" not in name
        and str((Path(root) / name).resolve()).startswith(root)
        and (Path(root) / name).is_file()
    )


def normalised(folder, name):  # ".." is taken out as text: links are not followed
    path = os.path.normpath(os.path.join(os.path.abspath(folder), name))
    return "\0" not in name and path.startswith(os.path.abspath(folder) + os.sep) and os.path.isfile(path)


def exists_only(folder, name):
    return "\0" not in name and (Path(folder) / name).is_file()


def direct_children_only(folder, name):
    return "\0" not in name and name in os.listdir(folder)


def inside_with_os(folder, name):
    if chr(0) in name:
        return 0
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    return int(os.path.isfile(path) and os.path.commonpath([root, path]) == root)


def inside_by_parents(folder, name):
    try:
        path = (Path(folder) / name).resolve(strict=True)
    except (OSError, ValueError):
        return False
    return path.is_file() and Path(folder).resolve() in path.parents


def inside_by_relative_to(folder, name):
    try:
        root = Path(os.fspath(folder)).resolve()
        root.joinpath(name).resolve().relative_to(root)
        return np.bool_(root.joinpath(name).is_file())
    except ValueError:
        return False


def flat(grey, of="border", terms="1xy", result=np.abs, width=2):
    h, w = grey.shape
    y, x = np.mgrid[:h, :w].astype(float)
    columns = {"1": np.ones(grey.shape), "x": x, "y": y}
    design = np.stack([columns[term] for term in terms], axis=-1)
    chosen = np.ones(grey.shape, bool)
    if of == "border":
        chosen[width:-width, width:-width] = False
    coefficients = np.linalg.lstsq(design[chosen], grey[chosen], rcond=None)[0]
    return result(grey - design @ coefficients)


def flat_with(**more):
    return lambda grey: flat(grey, **more)


def flat_in_place(grey):
    grey -= grey - flat(grey)
    return grey


def flat_with_normal_equations(grey):
    h, w = grey.shape
    y, x = np.indices((h, w))
    edge = (x == 0) | (y == 0) | (x == w - 1) | (y == h - 1)
    a = np.c_[x[edge], y[edge], np.ones(edge.sum())]
    b, c, d = np.linalg.solve(a.T @ a, a.T @ grey[edge])
    return abs(grey - b * x - c * y - d).astype(np.float32)


def flat_by_scikit_learn(grey):
    from sklearn.linear_model import LinearRegression

    places = np.array([(y, x) for y in range(grey.shape[0]) for x in range(grey.shape[1])])
    rows, columns = places.T
    border = (rows < 3) | (columns < 3) | (rows >= grey.shape[0] - 3) | (columns >= grey.shape[1] - 3)
    model = LinearRegression().fit(places[border], grey[rows[border], columns[border]])
    return np.abs(grey.ravel() - model.predict(places)).reshape(grey.shape)


def flat_as_lists(grey):
    return flat(grey, width=4).tolist()


ARIA = '<button aria-label="{label}"><img src="{source}" alt="{name}"></button>'
WRONG = {
    check.exercise_1: [
        (with_(escape=str), "a class called"),
        (with_(escape_source=str), "a `source` that is"),
        (with_(escape=lambda text: html.escape(text, quote=False)), "quotation marks included"),
        (with_(escape=lambda text: html.escape(html.escape(text))), "was escaped twice"),
        (
            with_(escape=lambda text: text.replace("<", "").replace(">", "").replace('"', "")),
            "remove nothing",
        ),
        (with_(label="Answer {rank}: {name}, distance {distance}"), "round the distance"),
        (with_(label="{name}, distance {distance:.2f}"), "should say the rank"),
        (with_(label="Answer {rank}, distance {distance:.2f}"), "should say the class"),
        (with_(page=ARIA.replace("button", "a")), "should be a <button>"),
        (with_(page=ARIA.replace(' alt="{name}"', "")), "alt"),
        (with_(page=ARIA.replace(' aria-label="{label}"', "")), "give the button a name"),
        (with_(page=ARIA.replace("{source}", "{name}.png")), "whose src is `source`"),
        (
            with_(page='<img src="{source}" alt="{name}"><button aria-label="{label}"></button>'),
            "belongs into the button",
        ),
        (with_(page=ARIA.replace("</button>", "")), "is not closed"),
        (with_(page=ARIA.replace('"{label}"', "{label}")), "an attribute needs quotation marks"),
        (lambda *arguments: button(*arguments).encode(), "return the HTML as text"),
    ],
    check.exercise_2: [
        (no_dots, "should be served"),
        (no_way_up, "'shoes/../a.png'"),
        (exists_only, "'../d.png' climbs out"),
        (begins_alike, "compare paths, not texts"),
        (normalised, "'link.png' is a link to a file outside"),
        (direct_children_only, "should be served"),
        (within(resolve_folder=False), "with a relative `folder`"),
        (within(resolve_path=False), "climbs out"),
        (within(files=False), "only files that exist"),
        (within(zero=False), "zero byte"),
        (lambda folder, name: not inside(folder, name), "should be served"),
        (lambda folder, name: True, "climbs out"),
        (lambda folder, name: str(inside(folder, name)), "return True or False"),
    ],
    check.exercise_3: [
        (flat_with(of="all"), "did the fit include the object?"),
        (flat_with(terms="1"), "the background still varies"),
        (flat_with(terms="1x"), "the background still varies"),
        (flat_with(terms="xy"), "the background"),
        (flat_with(result=lambda x: x), "take the absolute difference"),
        (flat_with(result=lambda x: (-x).clip(0)), "lighter than 0, too"),
        (flat_with(result=lambda x: -x), "take the absolute difference"),
        (flat_with(result=lambda x: np.abs(x).astype(np.uint8)), "return a float array"),
        (flat_with(result=lambda x: x**2), "should end at 110"),
        (lambda grey: np.abs(grey - np.median(grey)), "the background still varies"),
        (lambda grey: grey - flat(grey), "the background"),
        (lambda grey: flat(grey)[2:-2, 2:-2], "expected the picture's shape"),
        (flat_in_place, "work on a copy"),
    ],
}
RIGHT = {
    check.exercise_1: [button, button_of_parts, button_of_a_tree, button_by_hand],
    check.exercise_2: [inside, inside_with_os, inside_by_parents, inside_by_relative_to],
    check.exercise_3: [flat, flat_with_normal_equations, flat_by_scikit_learn, flat_as_lists],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
