"""Checks of lesson 9, more data sets."""

import numpy as np

from helpers.checks import exercise, shown


@exercise(
    "for raw pixels no mirrored boot is a boot: such a list tells you what a mirror does to the pixels, "
    "whether it keeps the meaning only you can say",
    returns="a list of class numbers",
)
def exercise_1(classes_that_survive):
    def survivors(labels, answers, enough):
        found = classes_that_survive(np.array(labels), np.array(answers), enough)
        assert isinstance(found, (list, tuple, np.ndarray)), f"return a list, not {shown(found)}"
        assert np.asarray(found).dtype != bool, "return the classes themselves, not True or False for each"
        return [int(c) for c in found]

    labels, answers = [0, 0, 5, 5, 8, 8, 8, 8], [0, 0, 2, 5, 8, 8, 8, 3]
    found = survivors(labels, answers, 0.7)
    assert 2 not in found and 3 not in found, (
        "2 and 3 occur among the answers only: count the mirrored images of a class, not what was found"
    )
    assert found != [5], "these are the classes that do not survive"
    assert 8 in found, "of the eights 3 of 4 survive, which is at least 0.7"
    assert 5 not in found, "of the fives 1 of 2 survives, which is less than 0.7"
    assert found == [0, 8], f"with enough=0.7 the answer is [0, 8], not {found}"
    found = survivors(labels, answers, 0.75)
    assert found == [0, 8], f"exactly 3 of 4 is at least 0.75: [0, 8], not {found}"
    found = survivors([9, 9, 1, 1], [9, 9, 1, 1], 1.0)
    assert found == [1, 9], f"in ascending order: [1, 9], not {found}"
    found = survivors([4, 4], [7, 7], 0.1)
    assert found == [], f"no class may survive at all: [], not {found}"
    rng = np.random.default_rng(0)
    labels, answers = rng.integers(0, 50, 2000), rng.integers(0, 3, 2000)
    answers = np.where(rng.random(2000) < 0.5, labels, answers)
    expected = [int(c) for c in np.unique(labels) if (answers[labels == c] == c).mean() >= 0.5]
    assert survivors(labels, answers, 0.5) == expected, (
        "on 2,000 images of 50 classes, 0 to 49, the list is another one: ask about every class that occurs"
    )


@exercise(
    "a network that is tuned and tested on such a split is asked about classes it never saw, as a search engine is "
    "every day",
    returns="a boolean array (n,), True for the images that are for training",
)
def exercise_2(training_mask):
    labels = np.array([30, 10, 20, 10, 40, 30])
    original = labels.copy()
    mask = np.asarray(training_mask(labels, 0.5))
    assert mask.dtype == bool and mask.shape == (6,), (
        f"return a boolean array of shape (6,), not {mask.dtype} {mask.shape}"
    )
    assert (labels == original).all(), "your function changed the labels that it was given"
    shared = set(labels[mask]) & set(labels[~mask])
    assert not shared, f"class {min(shared)} is on both sides: divide the classes, not the images"
    assert set(labels[mask]) != {30, 40}, (
        "classes 30 and 40 are for training in yours: the smaller numbers are, and True is for training"
    )
    assert set(labels[mask]) == {10, 20}, (
        f"half of the classes 10, 20, 30, 40 are 10 and 20, not {sorted(int(c) for c in set(labels[mask]))}"
    )
    mask = np.asarray(training_mask(np.array([3, 1, 2]), 0.5))
    assert mask.tolist() == [False, True, False], "half of three classes, rounded down, is one: class 1"
    mask = np.asarray(training_mask(np.arange(100), 0.29))
    assert mask.sum() != 28, (
        "0.29 of 100 classes are 29, not 28: 0.29 * 100 is 28.999999999999996 for the machine, and int cuts it off"
    )
    assert mask.sum() == 29, f"0.29 of 100 classes are 29, yours are {mask.sum()}"
    mask = np.asarray(training_mask(np.array([900, 1, 2, 300]), 0.5))
    assert mask.tolist() == [False, True, True, False], (
        "of the classes 1, 2, 300, 900 half are 1 and 2: count the classes, their numbers have gaps"
    )
    column = np.asarray(training_mask(labels[:, None], 0.5))
    assert column.shape == (6,), (
        f"labels of shape (n, 1) should give a mask of shape (n,), not {column.shape}"
    )
    assert column.tolist() == [False, True, True, True, False, False], "labels (n, 1): another mask"
    birds = np.repeat(np.arange(1, 201), np.random.default_rng(0).integers(41, 61, 200))
    birds = np.random.default_rng(1).permutation(birds)
    assert (np.asarray(training_mask(birds, 0.5)) == (birds <= 100)).all(), (
        "CUB's classes are 1 to 200, and 1 to 100 are for training"
    )


@exercise(
    "the network stayed as it was and the question changed: half of making a search work on strange pictures is this",
    returns="a uint8 array (28, 28)",
)
def exercise_3(as_catalogue):
    def call(photo):
        given = photo.copy()
        result = np.asarray(as_catalogue(photo))
        assert (photo == given).all(), "your function changed the array that it was given: work on a copy"
        assert result.shape == (28, 28) and result.dtype == np.uint8, (
            f"return uint8 (28, 28), not {result.dtype} {result.shape}"
        )
        return result

    def photo(background, thing, box=(30, 80, 40, 60), size=(200, 150)):
        image = np.full(size, background, np.uint8)
        image[box[0] : box[1], box[2] : box[3]] = thing
        return image

    nothing = call(np.full((40, 60), 200, np.uint8))
    assert not nothing.any(), "a photograph of nothing gives zeros"
    for background, thing, name in ((255, 30, "dark on white"), (0, 120, "light on black")):
        result = call(photo(background, thing))
        assert result[0, 0] == 0, (
            f"{name}: the background should be 0; in the corner it is {result[0, 0]}: is the thing there? "
            "put it into the middle"
        )
        assert result.max() == 255, f"{name}: the brightest pixel should be 255, not {result.max()}"
        _check_box(result, 24, 24 * 20 / 50, name)
    result = call(photo(180, 60))
    assert result[0, 0] == 0 and result.max() == 255, (
        "dark grey on light grey: background 0, brightest pixel 255"
    )
    _check_box(result, 24, 24 * 20 / 50, "dark grey on light grey")
    result = call(photo(90, 250, box=(10, 30, 5, 145)))
    assert result[0, 0] == 0 and result.max() == 255, "white on dark grey: background 0, brightest pixel 255"
    _check_box(result, 24 * 20 / 140, 24, "wide, white on dark grey")
    two_tones = photo(255, 200)
    two_tones[30:55, 40:60] = 0
    result = call(two_tones)
    assert result[6, 13] > result[20, 13] > 0, (
        "dark on white: the darker half becomes the brighter one; is something subtracted in uint8, which wraps?"
    )
    tiny = call(photo(255, 0, box=(3, 7, 4, 6), size=(12, 12)))
    _check_box(tiny, 24, 12, "a thing of 4 × 2 pixels")
    noisy = photo(240, 40).astype(int) + np.random.default_rng(0).integers(-9, 10, (200, 150))
    noisy = call(noisy.clip(0, 255).astype(np.uint8))
    assert noisy[0].max() == 0 and noisy[:, 0].max() == 0, (
        "pixels that differ from the background by less than 20 are background, and become 0"
    )
    _check_box(noisy, 24, 24 * 20 / 50, "with a little noise")
    result = call(photo(200, 60, box=(3, 57, 3, 57), size=(60, 60)))
    assert result[13, 13] == 255, (
        "a thing that covers most of the photograph became dark: the outermost rows and columns tell the background's "
        "brightness, the whole picture's median or mean does not"
    )
    faint = photo(100, 200, box=(30, 80, 60, 90))
    faint[80:130, 60:90] = 120
    _check_box(
        call(faint), 24, 7.2, "a thing whose lower half differs by exactly 20, which is not less", least=25
    )
    hollow = photo(240, 40, box=(30, 130, 30, 130), size=(160, 160))
    hollow[60:100, 60:100] = 225
    result = call(hollow)
    assert result[13:15, 13:15].max() == 0, (
        "pixels that differ from the background by less than 20 become 0 inside the thing, too, where it has a hole; "
        f"there is a {result[13:15, 13:15].max()} in yours"
    )


def _check_box(result, height, width, name, least=60):
    rows, columns = np.flatnonzero(result.max(axis=1) > least), np.flatnonzero(result.max(axis=0) > least)
    assert len(rows), f"{name}: there is nothing to see in the result"
    tall, wide = len(rows), len(columns)
    assert abs(tall - height) <= 1.5 and abs(wide - width) <= 1.5, (
        f"{name}: the thing should be {height:.0f} high and {width:.0f} wide (longer side 24), it is {tall} × {wide}"
    )
    middle = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    assert max(abs(place - 13.5) for place in middle) <= 1, (
        f"{name}: the middle of the thing should be at 13.5, 13.5, it is at {middle[0]}, {middle[1]}"
    )
