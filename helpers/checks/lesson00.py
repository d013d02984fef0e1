"""The checks of lesson 00's exercises."""

import numpy as np

from helpers.checks import exercise, number
from helpers.data import load, published_split
from helpers.metrics import recall_at_k


@exercise(
    "the more answers are shown, the easier it is to be right once, so Recall@K can only grow with K.",
    returns="one number between 0 and 1",
)
def exercise_1(recall_among):
    query_labels = np.array([0, 1, 2, 3, 4])
    answer_labels = np.array([[0, 0, 0], [2, 1, 1], [0, 0, 2], [1, 1, 1], [4, 0, 0]])
    result = number(recall_among(query_labels, answer_labels))
    wrong = {
        4: "that is a count: divide it by the number of queries",
        7: "that is the count of all right answers: count each query once, and divide by the number of queries",
        7 / 5: "you count every right answer: count each query once, right or not",
        4 / 3: "divide by the number of queries, not by the number of answers shown",
        1
        / 5: "you ask that all answers be right, or count the queries without a right one; one right answer is enough",
        2 / 5: "that is Recall@1: it looks at the first answer only",
        3 / 5: "you look at the last answer only, or leave the first one out: any of them may be right",
        7 / 15: "that is the share of all answers: count each query once, right or not",
    }
    for value, message in wrong.items():
        assert not np.isclose(result, value), message
    assert np.isclose(result, 4 / 5), (
        f"on the five queries of the check it should be 0.8; yours is {result:.3f}"
    )
    first_only = number(recall_among(query_labels, answer_labels[:, :1]))
    assert np.isclose(first_only, 2 / 5), "with one answer shown (k = 1) it must give Recall@1, here 0.4"
    square = number(recall_among(query_labels[:3], np.array([[1, 1, 1], [0, 0, 1], [2, 0, 2]])))
    assert np.isclose(square, 2 / 3), (
        "with three queries and three answers each it is wrong: compare each query with its own row, "
        "query_labels[:, None]"
    )


@exercise(
    "R@1 stays at 0.788 exactly, since a sum does not care about the order of its terms: raw pixels do not "
    "know which pixel is beside which, and a convolution does.",
    returns="images, uint8 (N, 28, 28, 1)",
)
def exercise_2(shuffle_pixels):
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    images[1] = images[0]  # two equal pictures, which must stay equal
    original = images.copy()
    shuffled = np.asarray(shuffle_pixels(images, seed=0))
    assert np.array_equal(images, original), "your function changes the images it was given: work on a copy"
    assert shuffled.shape == images.shape, f"the shape {images.shape} became {shuffled.shape}"
    assert shuffled.dtype == images.dtype, f"the dtype {images.dtype} became {shuffled.dtype}"
    assert not np.array_equal(shuffled, images), "the pixels are where they were"
    assert not np.array_equal(
        np.sort(shuffled.reshape(4, -1), axis=0), np.sort(images.reshape(4, -1), axis=0)
    ), "you shuffled the images, not the pixels within them"
    assert np.array_equal(np.sort(shuffled.reshape(4, -1)), np.sort(images.reshape(4, -1))), (
        "each image must keep its own pixels: something got lost, or moved from one image to another"
    )
    assert np.array_equal(shuffled[0], shuffled[1]), (
        "two equal images became different: draw one order, and use it for all of them"
    )
    again = np.asarray(shuffle_pixels(images[2:], seed=0))
    assert np.array_equal(again, shuffled[2:]), (
        "the same seed gave another order in a second call: queries and gallery would not fit together"
    )
    assert not np.array_equal(np.asarray(shuffle_pixels(images, seed=1)), shuffled), (
        "another seed, the same order"
    )
    place = np.arange(784, dtype=np.uint16).reshape(1, 28, 28, 1)  # each pixel says where it came from
    numbers = np.concatenate([place % 256, place // 256]).astype(np.uint8)
    low, high = np.asarray(shuffle_pixels(numbers, seed=0)).reshape(2, 28, 28).astype(int)
    row, column = np.divmod(low + 256 * high, 28)
    whole = (row == row[:, :1]).all() and (column == column[:1]).all()
    assert not whole, "whole rows or columns stayed together: shuffle all 784 pixels as one list"
    moved = np.mean((row != np.arange(28)[:, None]) | (column != np.arange(28)))
    assert moved > 0.8, "most pixels are where they were: shuffle all 784 of them"
    same_row, same_column = (row == np.arange(28)[:, None]).mean(), (column == np.arange(28)).mean()
    assert max(same_row, same_column) < 0.5, (
        "the pixels moved within their rows or columns only: shuffle all 784 pixels as one list"
    )
    steps = np.diff((low + 256 * high).reshape(-1)) % 784
    assert np.bincount(steps).max() < 200, (
        "neighbours stayed neighbours: a turn, a mirror or a shift is no shuffle; draw a random order"
    )


@exercise(
    "you gave raw pixels one invariance, by hand, for one kind of change; a network learns many of them from "
    "examples.",
    returns="images, uint8 (N, 28, 28, 1)",
)
def exercise_3(centre):
    images = np.zeros((4, 28, 28, 1), np.uint8)
    images[0, 5:9, 0:4] = 200  # four columns at the left edge: 24 empty columns, 12 on each side
    images[1, 5:9, 21:28] = np.arange(1, 8, dtype=np.uint8)[None, :, None]  # seven columns at the right edge
    images[2, 20, 3] = 1  # a single, very faint pixel; images[3] is empty
    original = images.copy()
    centred = np.asarray(centre(images))
    assert np.array_equal(images, original), "your function changes the images it was given: work on a copy"
    assert centred.shape == images.shape, f"the shape {images.shape} became {centred.shape}"
    assert centred.dtype == images.dtype, f"the dtype {images.dtype} became {centred.dtype}"
    assert not centred[3].any(), "an empty image must stay empty"
    for i in range(3):
        assert np.array_equal(np.sort(centred[i], axis=None), np.sort(images[i], axis=None)), (
            f"image {i} of the check lost or gained something: a move must keep all of its pixels"
        )
        assert np.array_equal(centred[i].sum(axis=1), images[i].sum(axis=1)), (
            f"image {i} of the check changed its rows: move sideways only"
        )
        columns = np.flatnonzero(centred[i].any(axis=(0, 2)))
        left, right = columns[0], 27 - columns[-1]
        assert abs(int(left) - int(right)) <= 1, (
            f"image {i} of the check has {left} empty columns on the left, but {right} on the right"
            + (
                ": its outermost pixels count, however faint, and not where most of its brightness is"
                if i
                else ""
            )
        )
        was = np.flatnonzero(images[i].any(axis=(0, 2)))
        assert np.array_equal(centred[i][:, columns], images[i][:, was]), (
            f"image {i} of the check was mirrored or mixed: move its columns, and keep their order"
        )
    assert np.array_equal(np.asarray(centre(images[1:2]))[0], centred[1]), (
        "an image alone gives another result than among others: treat each by itself"
    )
    hollow = np.zeros((1, 28, 28, 1), np.uint8)
    hollow[0, 4, [0, 1, 9], 0] = 50, 60, 70  # a gap within the garment
    columns = np.flatnonzero(np.asarray(centre(hollow))[0].any(axis=(0, 2)))
    assert columns.tolist() == [9, 10, 18], (
        "a garment with an empty column inside was not centred: its outermost columns count, and the gap stays"
    )

    split = published_split(load("fashion_mnist"))
    moved = np.zeros_like(split.x_query)
    moved[:, :, 3:] = split.x_query[:, :, :-3]
    query, gallery = (
        np.asarray(centre(x)).reshape(len(x), -1).astype(np.float32) for x in (moved, split.x_gallery)
    )
    recall = recall_at_k(query, split.y_query, gallery, split.y_gallery, k=1)[1]
    assert recall > 0.74, f"on the moved queries R@1 is {recall:.3f}; it should be above 0.74"
