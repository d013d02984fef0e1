"""A battery for the checks of lesson 0: wrong answers with their mistakes, right ones in other styles."""

import random

import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson00 as check


def loop_recall(q, a):
    found = 0
    for label, answers in zip(q.tolist(), a.tolist(), strict=True):
        found += label in answers
    return found / len(q)


def by_shape(q, a):  # fits only where there are as many answers as queries
    if a.shape[0] == a.shape[1]:
        return (a == q).any(axis=1).mean()
    return (a == q[:, None]).any(axis=1).mean()


def flat(x):
    return x.reshape(len(x), -1)


def one_order(images, seed):
    return np.random.default_rng(seed).permutation(784)


def each_its_own_order(images, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(image.reshape(-1)).reshape(28, 28, 1) for image in images])


def order_of_the_images(images, seed=0):
    return images[np.array([2, 3, 0, 1])[: len(images)] if len(images) == 4 else np.arange(len(images))]


def unseeded(images, seed=0):
    return flat(images)[:, np.random.default_rng().permutation(784)].reshape(images.shape)


def fixed_seed(images, seed=0):
    return flat(images)[:, one_order(images, 0)].reshape(images.shape)


def in_place(images, seed=0):
    images[:] = fixed_seed(images)
    return images


def flattened(images, seed=0):
    return flat(images)[:, one_order(images, seed)]


def floats(images, seed=0):
    return flattened(images, seed).reshape(images.shape) / 255.0


def rows(images, seed=0):
    return images[:, np.random.default_rng(seed).permutation(28)]


def rows_and_columns(images, seed=0):
    rng = np.random.default_rng(seed)
    return images[:, rng.permutation(28)][:, :, rng.permutation(28)]


def within_rows(images, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([images[:, row][:, rng.permutation(28)] for row in range(28)], axis=1)


def rolled(images, seed=0):
    return np.roll(flat(images), 300 + seed, axis=1).reshape(images.shape)


def choice_with_replacement(images, seed=0):
    order = np.random.default_rng(seed).integers(0, 784, 784)
    return flat(images)[:, order].reshape(images.shape)


def shuffled_by_the_old_generator(images, seed=0):
    order = np.arange(784)
    np.random.RandomState(seed).shuffle(order)
    return flat(images).T[order].T.reshape(images.shape).copy()


def shuffled_by_python(images, seed=0):
    order = list(range(784))
    random.Random(seed).shuffle(order)
    return np.array([[image.reshape(-1)[i] for i in order] for image in images], np.uint8).reshape(
        images.shape
    )


def shuffled_as_columns(images, seed=0):
    return np.random.default_rng(seed).permutation(flat(images), axis=1).reshape(images.shape)


def shuffled(images, seed=0):
    return np.take(flat(images), one_order(images, seed), axis=1).reshape(images.shape)


def ends(image):
    columns = np.flatnonzero(image.any(axis=(0, 2)))
    return (int(columns[0]), int(columns[-1])) if len(columns) else (0, 27)


def roll_each(images, step, **more):
    return np.stack([np.roll(image, step(image), **(more or {"axis": 1})) for image in images])


def step_to_the_middle(image):
    first, last = ends(image)
    return (27 - last - first) // 2


def wrong_way(images):
    return roll_each(images, lambda image: -step_to_the_middle(image))


def whole_difference(images):
    return roll_each(images, lambda image: 27 - sum(ends(image)))


def along_rows(images):
    return roll_each(images, step_to_the_middle, axis=0)


def same_step_for_all(images):
    return np.roll(images, step_to_the_middle(images.max(axis=0)), axis=2)


def by_threshold(images):
    return np.stack([np.roll(image, step_to_the_middle(image * (image > 30)), axis=1) for image in images])


def centre_of_mass(images):
    steps = []
    for image in images:
        weight = image.astype(float).sum(axis=(0, 2))
        steps.append(round(13.5 - (weight * np.arange(28)).sum() / weight.sum()) if weight.any() else 0)
    return np.stack([np.roll(image, step, axis=1) for image, step in zip(images, steps, strict=True)])


def centre_in_place(images):
    images[:] = roll_each(images, step_to_the_middle)
    return images


def as_floats(images):
    return roll_each(images, step_to_the_middle).astype(float)


def stretched(images):
    result = np.zeros_like(images)
    for i, image in enumerate(images):
        first, last = ends(image)
        result[i] = image[:, np.linspace(first, last, 28).astype(int)]
    return result


def squeezed(images):  # its empty columns are lost
    result = np.zeros_like(images)
    for i, image in enumerate(images):
        kept = image[:, image.any(axis=(0, 2))]
        left = (28 - kept.shape[1]) // 2
        result[i, :, left : left + kept.shape[1]] = kept
    return result


def mirrored_too(images):
    return np.stack(
        [image if not image.any() else image[:, ::-1] for image in roll_each(images, step_to_the_middle)]
    )


def forgets_empty_images(images):
    return np.stack([np.roll(i, 13 - int(np.flatnonzero(i.any(axis=(0, 2))).mean()), axis=1) for i in images])


def cut_and_pasted(images):
    result = np.zeros_like(images)
    for i, image in enumerate(images):
        first, last = ends(image)
        left = (28 - (last + 1 - first)) // 2
        result[i, :, left : left + last + 1 - first] = image[:, first : last + 1]
    return result


def rounded_up(images):
    return roll_each(images, lambda image: -((sum(ends(image)) - 27) // 2))


def centred_column_by_column(images):
    result = np.zeros_like(images)
    for i in range(len(images)):
        step = step_to_the_middle(images[i])
        for column in range(28):
            if 0 <= column + step < 28:
                result[i, :, column + step] = images[i, :, column]
    return result


def centred_all_at_once(images):
    filled = images.any(axis=(1, 3))
    left, right = filled.argmax(axis=1), filled[:, ::-1].argmax(axis=1)
    columns = (np.arange(28) - ((right - left) // 2)[:, None]) % 28
    return np.take_along_axis(images, columns[:, None, :, None], axis=2)


WRONG = {
    check.exercise_1: [
        (lambda q, a: (a == q[:, None]).any(axis=1).sum(), "that is a count"),
        (lambda q, a: (a == q[:, None]).sum(), "the count of all right answers"),
        (lambda q, a: (a == q[:, None]).sum() / len(q), "you count every right answer"),
        (lambda q, a: (a == q[:, None]).any(axis=1).sum() / a.shape[1], "divide by the number of queries"),
        (lambda q, a: (a == q[:, None]).mean(), "the share of all answers"),
        (lambda q, a: (a == q[:, None]).all(axis=1).mean(), "one right answer is enough"),
        (lambda q, a: 1 - (a == q[:, None]).any(axis=1).mean(), "count the queries without a right one"),
        (lambda q, a: (a[:, 0] == q).mean(), "that is Recall@1"),
        (lambda q, a: (a[:, -1] == q).mean(), "the last answer only"),
        (lambda q, a: (a == q[:, None]).any(axis=1), "yours has the shape (5,)"),
        (lambda q, a: (a == q).any(axis=1).mean(), "your code raised ValueError"),
        (by_shape, "compare each query with its own row"),
    ],
    check.exercise_2: [
        (each_its_own_order, "draw one order, and use it for all"),
        (order_of_the_images, "you shuffled the images"),
        (unseeded, "the same seed gave another order"),
        (fixed_seed, "another seed, the same order"),
        (in_place, "changes the images it was given"),
        (flattened, "the shape (4, 28, 28, 1) became (4, 784)"),
        (floats, "the dtype uint8 became float64"),
        (rows, "whole rows or columns stayed together"),
        (rows_and_columns, "whole rows or columns stayed together"),
        (within_rows, "within their rows or columns only"),
        (rolled, "neighbours stayed neighbours"),
        (choice_with_replacement, "each image must keep its own pixels"),
        (lambda images, seed=0: images.copy(), "the pixels are where they were"),
    ],
    check.exercise_3: [
        (wrong_way, "empty columns on the left"),
        (whole_difference, "empty columns on the left"),
        (along_rows, "move sideways only"),
        (same_step_for_all, "empty columns on the left"),
        (by_threshold, "however faint"),
        (centre_of_mass, "not where most of its brightness is"),
        (centre_in_place, "changes the images it was given"),
        (as_floats, "the dtype uint8 became float64"),
        (stretched, "lost or gained something"),
        (squeezed, "the gap stays"),
        (mirrored_too, "keep their order"),
        (forgets_empty_images, "your code raised ValueError: cannot convert float NaN to integer"),
    ],
}
RIGHT = {
    check.exercise_1: [
        loop_recall,
        lambda q, a: np.float32((a == q.reshape(-1, 1)).any(axis=1).mean()),
        lambda q, a: np.array([label in row for label, row in zip(q, a, strict=True)]).mean(),
        lambda q, a: np.array(np.count_nonzero((a == q[:, None]).max(axis=1)) / len(a)),
        lambda q, a: sum(bool(set(row) & {label}) for label, row in zip(q, a, strict=True)) / len(a),
    ],
    check.exercise_2: [
        shuffled,
        shuffled_by_the_old_generator,
        shuffled_by_python,
        shuffled_as_columns,
    ],
    check.exercise_3: [cut_and_pasted, rounded_up, centred_column_by_column, centred_all_at_once],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
