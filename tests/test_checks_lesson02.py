"""A battery for the checks of lesson 2: wrong answers with their mistakes, right ones in other styles."""

import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson02 as check


def shapes(size, first, last):
    return [(p, size // p) for p in range(first, last) if size % p == 0]


def triplets_of(p, k):
    return p * k * (k - 1) * (p * k - k)


def best(size, classes, first=2, beyond=1, count=triplets_of):
    return max(shapes(size, first, classes + beyond), key=lambda shape: count(*shape))


def best_by_search(size, classes):
    found, most = None, -1
    for k in range(size, 1, -1):
        p = size // k
        if p * k == size and 2 <= p <= classes and triplets_of(p, k) > most:
            found, most = [p, k], triplets_of(p, k)
    return found


def smallest_divisor(size, classes):
    return next((np.int64(p), np.int64(size // p)) for p in range(2, size + 1) if size % p == 0)


def best_with_numpy(size, classes):
    p = np.arange(2, classes + 1)
    p = p[size % p == 0]
    k = size // p
    i = np.argmax((k - 1) * (size - k))
    return np.array([p[i], k[i]])


def draw(
    labels,
    count,
    rng,
    first=1,
    negative_first=0,
    look_up=True,
    singles=False,
    by_class=False,
    n_by_class=False,
):
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    if by_class:
        block = rng.choice(np.flatnonzero(sizes > 1), count)
        anchor = starts[block] + rng.integers(0, sizes[block])
    else:
        anchor = rng.choice(np.flatnonzero(size > (0 if singles else 1)), count)
    start, size = start[anchor], size[anchor]
    positive = start + (anchor - start + rng.integers(first, np.maximum(size, first + 1))) % size
    if n_by_class:
        mine = np.searchsorted(starts, start)
        block = (mine + rng.integers(1, len(starts), count)) % len(starts)
        negative = starts[block] + rng.integers(0, sizes[block])
    else:
        negative = (start + size + negative_first + rng.integers(0, len(labels) - size)) % len(labels)
    triplets = np.stack([anchor, positive, negative], axis=1)
    return order[triplets] if look_up else triplets


def draw_in_a_loop(labels, count, rng):
    result = []
    for _ in range(count):
        a = rng.choice(np.flatnonzero(labels != 9))
        p = rng.choice(np.flatnonzero((labels == labels[a]) & (np.arange(len(labels)) != a)))
        result.append((a, p, rng.choice(np.flatnonzero(labels != labels[a]))))
    return result


def draw_in_a_loop_with_an_alias(labels, count, rng):
    integers = rng.integers
    groups = {c: np.flatnonzero(labels == c) for c in set(labels.tolist())}
    anchors = np.concatenate([group for group in groups.values() if len(group) > 1])
    result = []
    for _ in range(count):
        a = anchors[integers(len(anchors))]
        mine = groups[labels[a]]
        p = mine[mine != a][integers(len(mine) - 1)]
        others = np.flatnonzero(labels != labels[a])
        result.append((a, p, others[integers(len(others))]))
    return result


def draw_as_if_sorted(labels, count, rng):
    _, starts, sizes = np.unique(labels, return_index=True, return_counts=True)
    block = rng.choice(np.flatnonzero(sizes > 1), count)
    start, size = starts[block], sizes[block]
    a = start + rng.integers(0, size)
    p = start + (a - start + rng.integers(1, size)) % size
    return np.stack([a, p, (start + size + rng.integers(0, len(labels) - size)) % len(labels)], axis=1) % len(
        labels
    )


def draw_without_singles(labels, count, rng):
    kept = np.flatnonzero(labels != 9)
    return kept[draw(labels[kept], count, rng)]


def draw_and_sort(labels, count, rng):
    result = draw(labels, count, rng)
    labels.sort()
    return result


def draw_with_masks(labels, count, rng):
    same = labels[:, None] == labels[None, :]
    positive = same & ~np.eye(len(labels), dtype=bool)
    a = rng.choice(np.flatnonzero(positive.any(axis=1)), count)
    p = np.where(positive[a], rng.random((count, len(labels))), -1).argmax(axis=1)
    n = np.where(same[a], -1, rng.random((count, len(labels)))).argmax(axis=1)
    return np.column_stack([a, p, n])


def draw_class_by_class(labels, count, rng):
    classes, sizes = np.unique(labels, return_counts=True)
    anchors = rng.choice(np.flatnonzero(np.isin(labels, classes[sizes > 1])), count)
    result = np.empty((count, 3), np.int32)
    result[:, 0] = anchors
    for c in classes[sizes > 1]:
        rows = np.flatnonzero(labels[anchors] == c)
        mine, others = np.flatnonzero(labels == c), np.flatnonzero(labels != c)
        place = np.searchsorted(mine, anchors[rows])
        result[rows, 1] = mine[(place + rng.integers(1, len(mine), len(rows))) % len(mine)]
        result[rows, 2] = rng.choice(others, len(rows))
    return result


def draw_from_the_list_of_all(labels, count, rng):
    table = {a: [] for a in range(len(labels))}
    for a in table:
        for p in table:
            for n in table:
                if a != p and labels[a] == labels[p] != labels[n]:
                    table[a].append((a, p, n))
    anchors = rng.choice([a for a in table if table[a]], count)
    which = rng.random(count)
    return [table[a][int(w * len(table[a]))] for a, w in zip(anchors.tolist(), which.tolist(), strict=True)]


def mask_of(distances, labels, margin):
    labels = np.asarray(labels).reshape(-1)
    same = labels[:, None] == labels[None, :]
    valid = (same & ~np.eye(len(labels), dtype=bool))[:, :, None] & ~same[:, None, :]
    return valid, distances[:, :, None], distances[:, None, :]


def semi_hard(distances, labels, margin):
    valid, near, far = mask_of(distances, labels, margin)
    return np.argwhere(valid & (near < far) & (far < near + margin))


def with_own_positive(distances, labels, margin):
    labels = np.asarray(labels).reshape(-1)
    same = labels[:, None] == labels[None, :]
    _, near, far = mask_of(distances, labels, margin)
    return np.argwhere(same[:, :, None] & ~same[:, None, :] & (near < far) & (far < near + margin))


def any_negative(distances, labels, margin):
    labels = np.asarray(labels).reshape(-1)
    same = (labels[:, None] == labels[None, :]) & ~np.eye(len(labels), dtype=bool)
    _, near, far = mask_of(distances, labels, margin)
    return np.argwhere(same[:, :, None] & (near < far) & (far < near + margin))


def any_positive(distances, labels, margin):
    labels = np.asarray(labels).reshape(-1)
    other = labels[:, None] != labels[None, :]
    _, near, far = mask_of(distances, labels, margin)
    away = ~np.eye(len(labels), dtype=bool)
    return np.argwhere(away[:, :, None] & other[:, None, :] & (near < far) & (far < near + margin))


def bounds(lower, upper):
    def found(distances, labels, margin):
        valid, near, far = mask_of(distances, labels, margin)
        return np.argwhere(valid & lower(near, far) & upper(near, far, margin))

    return found


def inside_the_margin_only(distances, labels, margin):
    valid, near, far = mask_of(distances, labels, margin)
    return np.argwhere(valid & (far < near + margin))


def flat_labels_only(distances, labels, margin):
    same = labels[:, None] == labels[None, :]
    valid = (same & ~np.eye(len(labels), dtype=bool))[:, :, None] & ~same[:, None, :]
    near, far = distances[:, :, None], distances[:, None, :]
    return np.argwhere(valid & (near < far) & (far < near + margin))


def in_loops(distances, labels, margin):
    labels, rows = np.ravel(labels), []
    for i in range(len(labels)):
        for j in range(len(labels)):
            for k in range(len(labels)):
                if i != j and labels[i] == labels[j] and labels[i] != labels[k]:
                    if 0 < distances[i, k] - distances[i, j] < margin:
                        rows.append((i, j, k))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def empty_list(distances, labels, margin):
    return in_loops(distances, labels, margin).tolist()


def float_when_empty(distances, labels, margin):
    rows = semi_hard(distances, labels, margin)
    return rows if len(rows) else np.empty((0, 3))


def changes_its_input(distances, labels, margin):
    found = semi_hard(distances, labels, margin)
    np.fill_diagonal(distances, np.inf)
    return found


def with_nonzero(distances, labels, margin):
    valid, near, far = mask_of(distances, labels, margin)
    gap = far - near
    return np.stack(np.nonzero(valid & (gap > 0) & (gap < margin)), axis=1).astype(np.int32)


def anchor_by_anchor(distances, labels, margin):
    labels, rows = np.asarray(labels).flatten(), [np.zeros((0, 3), int)]
    for i, label in enumerate(labels):
        near = np.flatnonzero((labels == label) & (np.arange(len(labels)) != i))
        far = np.flatnonzero(labels != label)
        j, k = (x.ravel() for x in np.meshgrid(near, far, indexing="ij"))
        keep = (distances[i, j] < distances[i, k]) & (distances[i, k] < distances[i, j] + margin)
        rows.append(np.column_stack([np.full(keep.sum(), i), j[keep], k[keep]]))
    return np.concatenate(rows)


def sorted_set(distances, labels, margin):
    rows = sorted({tuple(row) for row in in_loops(distances, labels, margin).tolist()}, reverse=True)
    return np.array(rows[::-1], dtype=int).reshape(len(rows), 3)


WRONG = {
    check.exercise_1: [
        (lambda size, classes: best(size, classes, beyond=0), "when it was called with (35, 5)"),
        (lambda size, classes: best(size, classes, first=1, beyond=0), "does your range end before it?"),
        (lambda size, classes: best(size, classes)[::-1], "comes first, then K"),
        (lambda size, classes: max(shapes(size, 2, classes + 1)), "another shape has 424,800"),
        (lambda size, classes: (2, size // 2), "P · K should be 35"),
        (lambda size, classes: (2, size / 2), "P and K are whole numbers"),
        (lambda size, classes: (1, size), "there is no negative"),
        (lambda size, classes: (size, 1), "but there are only 10 classes"),
        (lambda size, classes: (size // 3, 3), "but there are only 10 classes"),
        (lambda size, classes: triplets_of(*best(size, classes)), "return the pair (P, K)"),
        (lambda size, classes: (*best(size, classes), 0), "return the pair (P, K)"),
        (
            lambda size, classes: best(size, classes, count=lambda p, k: p * k * (p * k - k)),
            "another shape has",
        ),
    ],
    check.exercise_2: [
        (
            lambda labels, count, rng: draw(labels, count, rng, look_up=False),
            "these are places in the sorted order",
        ),
        (lambda labels, count, rng: draw(labels, count, rng, first=0), "an image is its own positive"),
        (
            lambda labels, count, rng: draw(labels, count, rng, by_class=True),
            "draw images, not first a class",
        ),
        (lambda labels, count, rng: draw(labels, count, rng, n_by_class=True), "images, not first a class"),
        (
            lambda labels, count, rng: draw(labels, count, rng, singles=True),
            "alone in its class was drawn as an anchor",
        ),
        (
            lambda labels, count, rng: draw(labels, count, rng, negative_first=-1),
            "a negative has its anchor's class",
        ),
        (
            lambda labels, count, rng: draw(labels, count, rng)[:, [0, 2, 1]],
            "positives and negatives are exchanged",
        ),
        (lambda labels, count, rng: draw(labels, count, rng).T, "the array should have shape (24000, 3)"),
        (lambda labels, count, rng: draw(labels, count, rng) * 1.0, "indices are integers"),
        (
            lambda labels, count, rng: draw(labels, count, np.random.default_rng()),
            "take all random numbers from `rng`",
        ),
        (draw_in_a_loop, "draw arrays, without a loop"),
        (draw_in_a_loop_with_an_alias, "draw arrays, without a loop"),
        (draw_as_if_sorted, "the labels come unsorted"),
        (draw_without_singles, "was never a negative"),
        (draw_and_sort, "sort a copy"),
    ],
    check.exercise_3: [
        (with_own_positive, "the anchor is its own positive"),
        (any_negative, "the negative has the anchor's class"),
        (any_positive, "the positive has another class"),
        (bounds(lambda n, f: n <= f, lambda n, f, m: f < n + m), "is not larger than d_ap"),
        (bounds(lambda n, f: n < f, lambda n, f, m: f <= n + m), "is not below d_ap + margin"),
        (bounds(lambda n, f: n < f, lambda n, f, m: f > 0), "is not below d_ap + margin"),
        (bounds(lambda n, f: n < f, lambda n, f, m: f < m), "is missing, with margin"),
        (inside_the_margin_only, "is not larger than d_ap"),
        (lambda d, labels, m: mask_of(d, labels, m)[0], "np.argwhere lists its true places"),
        (lambda d, labels, m: semi_hard(d, labels, m)[::-1], "not ordered by anchor, positive, negative"),
        (lambda d, labels, m: np.repeat(semi_hard(d, labels, m), 2, axis=0), "more than once"),
        (lambda d, labels, m: semi_hard(d, labels, m)[:, [0, 2, 1]], "the positive has another class"),
        (flat_labels_only, "flatten them first"),
        (empty_list, "should have shape (0, 3), not (0,)"),
        (float_when_empty, "indices are integers, in an empty array too"),
        (changes_its_input, "your function changes the distances"),
    ],
}
RIGHT = {
    check.exercise_1: [
        best,
        best_by_search,
        smallest_divisor,
        best_with_numpy,
        # The positives of an anchor counted with the anchor itself: the same shape wins, whatever the size.
        lambda size, classes: best(size, classes, count=lambda p, k: p * k * k * (p * k - k)),
    ],
    check.exercise_2: [draw, draw_with_masks, draw_class_by_class, draw_from_the_list_of_all],
    check.exercise_3: [semi_hard, in_loops, with_nonzero, anchor_by_anchor, sorted_set],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
