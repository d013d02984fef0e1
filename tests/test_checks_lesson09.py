"""A battery for the checks of lesson 9: wrong answers with their mistakes, right ones in other styles."""

from collections import Counter
from fractions import Fraction

import numpy as np
from battery import accepts, refuses
from PIL import Image, ImageOps

from helpers.checks import lesson09 as check


def share(labels, answers, c):
    return (answers[labels == c] == c).mean()


def survivors(labels, answers, enough):
    return [c for c in np.unique(labels) if share(labels, answers, c) >= enough]


def share_of_answers(labels, answers, enough):
    return [c for c in np.unique(answers) if (labels[answers == c] == c).mean() >= enough]


def more_than(labels, answers, enough):
    return [c for c in np.unique(labels) if share(labels, answers, c) > enough]


def unsorted(labels, answers, enough):
    return [c for c in dict.fromkeys(labels.tolist()) if share(labels, answers, c) >= enough]


def share_of_all(labels, answers, enough):
    return [c for c in np.unique(labels) if ((labels == c) & (answers == c)).mean() >= enough]


def at_least_one(labels, answers, enough):
    return [c for c in np.unique(labels) if (answers[labels == c] == c).any()]


def all_of_them(labels, answers, enough):
    return [c for c in np.unique(labels) if (answers[labels == c] == c).all()]


def count_instead(labels, answers, enough):
    return [c for c in np.unique(labels) if (answers[labels == c] == c).sum() >= enough]


def that_fail(labels, answers, enough):
    return [c for c in np.unique(labels) if share(labels, answers, c) < enough]


def ten_classes(labels, answers, enough):
    return [c for c in range(10) if (labels == c).any() and share(labels, answers, c) >= enough]


def as_a_mask(labels, answers, enough):
    return [bool(share(labels, answers, c) >= enough) for c in np.unique(labels)]


def survivors_by_counting(labels, answers, enough):
    there, found = Counter(labels.tolist()), Counter(labels[labels == answers].tolist())
    return tuple(sorted(c for c in there if found[c] >= enough * there[c]))


def survivors_with_bincount(labels, answers, enough):
    size = np.bincount(labels)
    found = np.bincount(labels, weights=labels == answers)
    return np.flatnonzero((size > 0) & (found >= enough * size))


def survivors_in_a_loop(labels, answers, enough):
    result = []
    for c in sorted(set(labels.tolist())):
        right = total = 0
        for label, answer in zip(labels, answers, strict=True):
            if label == c:
                total += 1
                right += answer == c
        if right / total >= enough:
            result.append(c)
    return result


def mask(labels, part, number=lambda part, n: int(part * n + 1e-9), classes=np.unique, flat=True):
    labels = labels.reshape(-1) if flat else labels
    chosen = classes(labels)
    return np.isin(labels, chosen[: number(part, len(chosen))])


def by_images(labels, part):
    return np.arange(len(labels)) < part * len(labels)


def by_sorted_images(labels, part):
    order = np.argsort(labels.reshape(-1), kind="stable")
    return np.isin(np.arange(len(labels)), order[: int(part * len(labels)) + 1])


def by_number(labels, part):
    return labels.reshape(-1) <= part * labels.max()


def in_order_of_appearance(labels, part):
    return mask(labels, part, classes=lambda x: np.array(list(dict.fromkeys(x.tolist()))))


def as_indices(labels, part):
    return np.flatnonzero(mask(labels, part))


def sorts_in_place(labels, part):
    labels.sort(axis=0)
    return mask(labels, part)


def mask_in_a_loop(labels, part):
    flat = [int(label) for label in np.ravel(labels)]
    classes = sorted(set(flat))
    chosen = set(classes[: int(Fraction(str(part)) * len(classes))])
    return [label in chosen for label in flat]


def mask_with_ranks(labels, part):
    classes, place = np.unique(labels.reshape(-1), return_inverse=True)
    return place < np.floor(round(part * len(classes), 6))


def mask_with_searchsorted(labels, part):
    classes = np.unique(labels)
    number = np.floor(np.float64(part) * len(classes) + 1e-6).astype(int)
    return np.searchsorted(classes, labels.flatten()) < number


def catalogue(
    image,
    background=lambda image: np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])),
    differ=lambda image, b: np.abs(image.astype(int) - int(b)),
    least=20,
    brightest=True,
    stretch=False,
    side=24,
    corner=False,
    clear=True,
):
    difference = np.asarray(differ(image, background(image))).astype(int)
    strong = difference >= least
    if clear:
        difference = np.where(strong, difference, 0)
    result = np.zeros((28, 28), np.uint8)
    if not strong.any():
        return result
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    thing = difference[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].clip(0, 255).astype(np.uint8)
    height, width = (max(1, round(s * side / max(thing.shape))) for s in thing.shape)
    height, width = (side, side) if stretch else (height, width)
    thing = np.asarray(Image.fromarray(thing).resize((width, height))).astype(int)
    top, left = (0, 0) if corner else ((28 - height) // 2, (28 - width) // 2)
    result[top : top + height, left : left + width] = thing * 255 // thing.max() if brightest else thing
    return result


def with_(**more):
    return lambda image: catalogue(image, **more)


def in_place(image):
    result = catalogue(image)
    image[:] = 0
    return result


def in_uint8(image, b):
    return image - np.uint8(b)


def catalogue_with_pillow(image):
    edge = np.concatenate([image[:1].ravel(), image[-1:].ravel(), image[:, 0], image[:, -1]])
    difference = np.abs(image.astype(np.float32) - edge.mean())
    difference[difference < 19.5] = 0
    picture = Image.fromarray(difference.astype(np.uint8))
    if picture.getbbox() is None:
        return np.zeros((28, 28), np.uint8)
    picture = ImageOps.contain(picture.crop(picture.getbbox()), (24, 24), method=Image.Resampling.BOX)
    page = Image.new("L", (28, 28))
    page.paste(picture, (14 - picture.width // 2, 14 - picture.height // 2))
    return (np.asarray(page) * (255 / np.asarray(page).max())).round().astype(np.uint8)


def catalogue_by_hand(image):
    grey = [[int(value) for value in row] for row in image]
    border = sorted(grey[0] + grey[-1] + [row[0] for row in grey] + [row[-1] for row in grey])
    background = border[len(border) // 2]
    far = [[d if (d := abs(value - background)) >= 20 else 0 for value in row] for row in grey]
    rows = [y for y, row in enumerate(far) if any(row)]
    result = np.zeros((28, 28), np.uint8)
    if not rows:
        return result
    columns = [x for x in range(len(grey[0])) if any(row[x] for row in far)]
    tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    scale = max(tall, wide) / 24
    height, width = max(1, round(tall / scale)), max(1, round(wide / scale))
    brightest = max(max(row) for row in far)
    for y in range(height):
        for x in range(width):
            value = far[rows[0] + min(tall - 1, int((y + 0.5) * tall / height))][
                columns[0] + min(wide - 1, int((x + 0.5) * wide / width))
            ]
            result[14 - height // 2 + y, 14 - width // 2 + x] = value * 255 // brightest
    return result


WRONG = {
    check.exercise_1: [
        (lambda labels, answers, enough: [2], "2 and 3 occur among the answers only"),
        (lambda labels, answers, enough: 8, "return a list"),
        (lambda labels, answers, enough: set(survivors(labels, answers, enough)), "return a list"),
        (share_of_answers, "which is less than 0.7"),
        (more_than, "exactly 3 of 4"),
        (unsorted, "in ascending order"),
        (share_of_all, "of the eights 3 of 4 survive"),
        (at_least_one, "of the fives 1 of 2 survives"),
        (all_of_them, "of the eights 3 of 4 survive"),
        (count_instead, "of the fives 1 of 2 survives"),
        (that_fail, "that do not survive"),
        (ten_classes, "0 to 49"),
        (as_a_mask, "not True or False"),
    ],
    check.exercise_2: [
        (lambda labels, part: np.ones(3), "boolean array of shape (6,)"),
        (by_images, "divide the classes, not the images"),
        (by_sorted_images, "is on both sides"),
        (lambda labels, part: ~mask(labels, part), "True is for training"),
        (lambda labels, part: np.isin(labels, [10, 30]), "are 10 and 20, not [10, 30]"),
        (in_order_of_appearance, "are 10 and 20, not [10, 30]"),
        (lambda labels, part: mask(labels, part, lambda p, n: int(np.ceil(p * n))), "rounded down"),
        (lambda labels, part: mask(labels, part, lambda p, n: round(p * n)), "rounded down"),
        (lambda labels, part: mask(labels, part, lambda p, n: int(p * n)), "int cuts it off"),
        (
            lambda labels, part: mask(labels, part, lambda p, n: np.floor(p * n).astype(int)),
            "0.29 of 100 classes are 29",
        ),
        (lambda labels, part: mask(labels, part, flat=False), "not (6, 1)"),
        (by_number, "their numbers have gaps"),
        (as_indices, "a boolean array"),
        (sorts_in_place, "your function changed the labels"),
    ],
    check.exercise_3: [
        (lambda image: np.zeros((28, 28)), "return uint8 (28, 28)"),
        (lambda image: np.ones((28, 28), np.uint8), "a photograph of nothing gives zeros"),
        (in_place, "changed the array"),
        (lambda image: np.zeros((28, 28), np.uint8), "the brightest pixel should be 255"),
        (
            with_(stretch=True),
            "dark on white: the thing should be 24 high and 10 wide (longer side 24), it is 24 × 24",
        ),
        (with_(brightest=False), "the brightest pixel should be 255"),
        (with_(side=28), "it is 28"),
        (with_(corner=True), "put it into the middle"),
        (with_(background=np.median), "a thing that covers most of the photograph"),
        (with_(background=lambda image: 0), "nothing gives zeros"),
        (
            with_(differ=lambda image, b: (image.astype(int) - int(b)).clip(0)),
            "the brightest pixel should be 255",
        ),
        (with_(differ=in_uint8), "which wraps"),
        (with_(least=40), "differs by exactly 20"),
        (with_(least=21), "differs by exactly 20"),
        (with_(least=1), "with a little noise"),
        (with_(clear=False), "inside the thing, too"),
    ],
}
RIGHT = {
    check.exercise_1: [survivors, survivors_by_counting, survivors_with_bincount, survivors_in_a_loop],
    check.exercise_2: [mask, mask_in_a_loop, mask_with_ranks, mask_with_searchsorted],
    check.exercise_3: [
        catalogue,
        with_(background=lambda image: np.concatenate([image[0], image[-1]]).mean().round()),
        catalogue_with_pillow,
        catalogue_by_hand,
    ],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
