"""The usual wrong answers to lesson 9's exercises are told what is off (the right ones are in the solutions)."""

import numpy as np
import pytest

from helpers.checks import lesson09 as check


def assert_told(message, exercise, answer, capsys):
    exercise(answer)
    output = capsys.readouterr().out
    assert output.startswith("not right yet: ") and message in output


def share_of_answers(labels, answers, enough):
    return [c for c in np.unique(answers) if (labels[answers == c] == c).mean() >= enough]


def more_than(labels, answers, enough):
    return [c for c in np.unique(labels) if (answers[labels == c] == c).mean() > enough]


def unsorted(labels, answers, enough):
    return [c for c in dict.fromkeys(labels.tolist()) if (answers[labels == c] == c).mean() >= enough]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda labels, answers, enough: [2], "2 and 3 occur among the answers only"),
        (lambda labels, answers, enough: 8, "return a list"),
        (share_of_answers, "which is less than 0.7"),
        (more_than, "exactly 3 of 4"),
        (unsorted, "in ascending order"),
    ],
)
def test_survivors(answer, message, capsys):
    assert_told(message, check.exercise_1, answer, capsys)


def by_images(labels, share):
    return np.arange(len(labels)) < share * len(labels)


def by_number(labels, share):
    return labels.reshape(-1) <= share * labels.max()


def rounded_up(labels, share):
    classes = np.unique(labels)
    return np.isin(labels.reshape(-1), classes[: int(np.ceil(share * len(classes)))])


def columns_stay(labels, share):
    classes = np.unique(labels)
    return np.isin(labels, classes[: int(share * len(classes))])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda labels, share: np.ones(3), "boolean array of shape (6,)"),
        (by_images, "divide the classes, not the images"),
        (lambda labels, share: np.isin(labels, [30, 40]), "are 10 and 20"),
        (rounded_up, "rounded down"),
        (columns_stay, "not (6, 1)"),
        (by_number, "their numbers have gaps"),
    ],
)
def test_split_by_class(answer, message, capsys):
    assert_told(message, check.exercise_2, answer, capsys)


def in_place(image):
    image[:] = 0
    return np.zeros((28, 28), np.uint8)


def stretched(image):
    from PIL import Image

    thing = np.abs(image.astype(int) - int(image[0, 0])).astype(np.uint8)
    if not thing.any():
        return np.zeros((28, 28), np.uint8)
    rows, columns = np.flatnonzero(thing.any(axis=1)), np.flatnonzero(thing.any(axis=0))
    box = thing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int) * 255 // thing.max()
    result = np.zeros((28, 28), np.uint8)
    result[2:26, 2:26] = np.asarray(Image.fromarray(box.astype(np.uint8)).resize((24, 24)))
    return result


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda image: np.zeros((28, 28)), "return uint8 (28, 28)"),
        (lambda image: np.ones((28, 28), np.uint8), "a photograph of nothing gives zeros"),
        (in_place, "changed the array"),
        (lambda image: np.zeros((28, 28), np.uint8), "the brightest pixel should be 255"),
        (stretched, "dark on white: the thing should be 24 high and 10 wide (longer side 24), it is 24 × 24"),
    ],
)
def test_strangers_photograph(answer, message, capsys):
    assert_told(message, check.exercise_3, answer, capsys)
