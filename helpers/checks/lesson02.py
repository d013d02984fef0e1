"""The checks of lesson 02, triplet sampling."""

import numpy as np

from helpers.checks import exercise, shown


@exercise(
    "as few classes as possible give the most triplets, with two of them half of the batch each; yet such a batch "
    "compares only two classes, so variety, not only the count, chose 10 × 12.",
    returns="the pair (P, K), two whole numbers",
)
def exercise_1(best_shape):
    for size, classes in ((120, 10), (12, 4), (35, 10), (35, 5), (45, 9), (49, 10), (9, 5)):
        shapes = [(p, size // p) for p in range(2, classes + 1) if size % p == 0]
        best = max(shapes, key=lambda shape: size * (shape[1] - 1) * (size - shape[1]))
        answer = best_shape(size, classes)
        assert np.shape(answer) == (2,), f"return the pair (P, K), not {shown(answer)}."
        p, k = (int(value) for value in answer)
        assert (p, k) == tuple(answer), f"P and K are whole numbers, not {shown(answer)}."
        asked = f"best_shape({size}, {classes}) is ({p}, {k})"
        assert p == k or (p, k) != best[::-1], f"{asked}: P, the number of classes, comes first, then K."
        assert p * k == size, f"{asked}, but P · K should be {size}."
        assert p <= classes, f"{asked}, but there are only {classes} classes."
        assert p > 1 or best[0] < classes, (
            f"{asked}, a batch of one class, without any negative; P may be as large as {classes}: does your range end "
            "before it?"
        )
        assert p > 1, f"{asked}: in a batch of one class there is no negative."
        assert k > 1, f"{asked}: an image that is alone in its class has no positive."
        count, most = (size * (n - 1) * (size - n) for n in (k, best[1]))
        assert (p, k) == best, f"{asked} with {count:,} triplets; another shape has {most:,}."


@exercise(
    "two sums, each modulo a length, replace the loops that try again: every draw is allowed, and none is rejected.",
    returns="an integer array (count, 3) of images",
)
def exercise_2(draw_triplets):
    labels = np.array([3, 0, 0, 7, 3, 0, 3, 9, 0, 7])  # unsorted; sizes: 0 four, 3 three, 7 two, 9 one
    count = 24_000
    rng = _CountedRng(np.random.default_rng(0))
    draw_triplets(labels, 300, rng)
    assert rng.calls < 300, (
        f"you asked `rng` {rng.calls:,} times for 300 triplets: draw arrays, without a loop."
    )
    drawn = np.asarray(draw_triplets(labels, count, np.random.default_rng(0)))
    assert drawn.shape == (count, 3), f"the array should have shape ({count}, 3), not {drawn.shape}."
    assert np.issubdtype(drawn.dtype, np.integer), f"indices are integers, not {drawn.dtype}."
    assert drawn.min() >= 0 and drawn.max() < len(labels), "an index lies outside the labels."
    assert np.array_equal(labels, [3, 0, 0, 7, 3, 0, 3, 9, 0, 7]), (
        "your function changes the labels: sort a copy."
    )
    places = np.argsort(labels, kind="stable")[drawn]
    assert _allowed(labels, drawn) or not _allowed(labels, places), (
        "these are places in the sorted order, not images: look each of them up in that order before you return them."
    )
    a, p, n = drawn.T
    assert not ((labels[a] == labels[n]) & (labels[a] != labels[p])).all(), (
        "positives and negatives are exchanged: the columns are anchor, positive, negative."
    )
    assert (labels[a] != 9).all(), "an image that is alone in its class was drawn as an anchor."
    assert (labels[a] == labels[p]).all(), (
        "a positive has another class than its anchor: begin again at the start of the anchor's own block, and "
        "remember that the labels come unsorted."
    )
    assert (a != p).all(), "an image is its own positive."
    assert (labels[a] != labels[n]).all(), "a negative has its anchor's class."
    assert (labels[n] == 9).any(), "an image that is alone in its class was never a negative."
    _assert_even(a, np.flatnonzero(labels != 9), "anchors", "draw images, not first a class")
    for image in np.flatnonzero(labels != 9):
        others = np.flatnonzero(labels == labels[image])
        _assert_even(
            p[a == image], others[others != image], f"positives of image {image}", "1 to size − 1 steps"
        )
        others = np.flatnonzero(labels != labels[image])
        _assert_even(n[a == image], others, f"negatives of image {image}", "images, not first a class")
    again = np.asarray(draw_triplets(labels, count, np.random.default_rng(1)))
    assert (again != drawn).any(), "another rng draws the same triplets: take all random numbers from `rng`."
    same = np.asarray(draw_triplets(labels, count, np.random.default_rng(0)))
    assert (same == drawn).all(), "the same rng draws other triplets: take all random numbers from `rng`."


class _CountedRng:
    """A random generator that counts how often it is asked."""

    def __init__(self, rng):
        self.rng, self.calls = rng, 0

    def __getattr__(self, name):
        def ask(*args, **kwargs):
            self.calls += 1
            return getattr(self.rng, name)(*args, **kwargs)

        return ask


def _allowed(labels, triplets):
    a, p, n = triplets.T
    return ((labels[a] == labels[p]) & (a != p) & (labels[a] != labels[n])).all()


def _assert_even(drawn, allowed, what, hint):
    counts = np.array([(drawn == image).sum() for image in allowed])
    expected = len(drawn) / len(allowed)
    off = np.abs(counts - expected).max() / np.sqrt(expected)
    assert off < 5, f"the {what} should be equally likely; they were drawn {counts.tolist()} times: {hint}."


@exercise(
    "one mask of B × B × B entries states all three conditions at once: the labels', the lower bound's and the "
    "upper's.",
    returns="an integer array (T, 3) of images",
)
def exercise_3(semi_hard_triplets):
    # On a line, in steps of 1/8, so that distances and margins are exact and the bounds can be hit.
    positions = np.array([0, 4, 5, 6, 8, 3, 20, 4]) / 8
    labels = np.array([0, 0, 1, 1, 0, 2, 1, 1])  # image 5 is alone in its class; images 1 and 7 coincide
    distances = np.abs(positions[:, None] - positions[None, :])
    for margin in (0.25, 1.0):
        expected = _semi_hard(distances, labels, margin)
        given = distances.copy()
        found = np.asarray(semi_hard_triplets(distances, labels, margin))
        assert np.array_equal(distances, given), "your function changes the distances: work on a copy."
        assert found.dtype != bool, "this is the mask: np.argwhere lists its true places."
        assert found.ndim == 2 and found.shape[1] == 3, (
            f"the array should have shape (T, 3), not {found.shape}."
        )
        assert np.issubdtype(found.dtype, np.integer), f"indices are integers, not {found.dtype}."
        rows, right = {tuple(map(int, row)) for row in found}, {tuple(row) for row in expected}
        for i, j, k in sorted(rows - right):
            row = f"({i}, {j}, {k}) should not be there"
            assert i != j, f"{row}: the anchor is its own positive."
            assert labels[i] == labels[j], f"{row}: the positive has another class."
            assert labels[i] != labels[k], f"{row}: the negative has the anchor's class."
            near, far = distances[i, j], distances[i, k]
            assert far > near, f"{row}: d_an = {far} is not larger than d_ap = {near}."
            assert far < near + margin, f"{row}: d_an = {far} is not below d_ap + margin = {near + margin}."
        assert not right - rows, f"{sorted(right - rows)[0]} is missing, with margin {margin}."
        assert len(found) == len(expected), "a triplet is there more than once."
        assert np.array_equal(found, expected), (
            "all are there, but not ordered by anchor, positive, negative."
        )
    column = np.asarray(semi_hard_triplets(distances, labels[:, None], 0.25))
    flat = _semi_hard(distances, labels, 0.25)
    assert np.array_equal(column, flat), "labels of shape (B, 1) give another result: flatten them first."
    none = np.asarray(semi_hard_triplets(distances[:3, :3], np.array([0, 1, 2]), 1.0))
    assert none.shape == (0, 3), f"without any positive the array should have shape (0, 3), not {none.shape}."
    assert np.issubdtype(none.dtype, np.integer), (
        f"indices are integers, in an empty array too, not {none.dtype}."
    )


def _semi_hard(distances, labels, margin):
    every = range(len(labels))
    return [
        [i, j, k]
        for i in every
        for j in every
        for k in every
        if i != j
        and labels[i] == labels[j]
        and labels[i] != labels[k]
        and distances[i, j] < distances[i, k] < distances[i, j] + margin
    ]
