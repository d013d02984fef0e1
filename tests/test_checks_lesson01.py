"""A battery for the checks of lesson 1: wrong answers with their mistakes, right ones in other styles."""

import hashlib
from collections import Counter

import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson01 as check


def chances(q, g):
    return (q[:, None] == g[None, :]).mean(axis=1)


def drawn(q, g):
    return (np.random.default_rng().choice(g, len(q)) == q).mean()


def drawn_with_a_seed(q, g):
    return (np.random.default_rng(0).choice(g, len(q)) == q).mean()


def drawn_often(q, g):
    return np.mean([(np.random.default_rng(seed).choice(g, len(q)) == q).mean() for seed in range(2000)])


def place_by_place(q, g):
    return (q == g[: len(q)]).mean()


def leaves_absent_out(q, g):
    return np.mean([(g == label).mean() for label in q if label in g])


def chance_by_counting(q, g):
    count = Counter(g.tolist())
    return sum(count[label] for label in q.tolist()) / (len(q) * len(g))


def chance_by_bincount(q, g):
    size = max(q.max(), g.max()) + 1
    return np.float64(np.bincount(q, minlength=size) @ np.bincount(g, minlength=size) / len(q) / len(g))


def chance_in_loops(q, g):
    total = 0.0
    for a in q:
        for b in g:
            total += a == b
    return total / len(q) / len(g)


def leak(q, g, mirror=True, make=list):
    seen = {image.tobytes() for image in g}
    return make(
        i
        for i, image in enumerate(q)
        if image.tobytes() in seen or (mirror and image[:, ::-1].tobytes() in seen)
    )


def array_leak(q, g):
    return np.array(leak(q, g), dtype=int)


def upside_down(q, g):
    seen = {image.tobytes() for image in g}
    return np.array([i for i, x in enumerate(q) if x.tobytes() in seen or x[::-1].tobytes() in seen], int)


def mirrored_batch_axis(q, g):  # reverses the rows: the axes of a single image are not those of the array
    seen = {image.tobytes() for image in g}
    turned = q[:, ::-1]
    found = [i for i in range(len(q)) if q[i].tobytes() in seen or turned[i].tobytes() in seen]
    return np.array(found, dtype=int)


def pair_by_pair(q, g):
    found = []
    for i, a in enumerate(q):
        for b in g:
            if np.array_equal(a, b) or np.array_equal(a[:, ::-1], b):
                found.append(i)
                break
    return np.array(found, dtype=int)


def query_by_query(q, g):
    flat = g.reshape(len(g), -1)
    found = [
        i
        for i, a in enumerate(q)
        if (flat == a.reshape(-1)).all(axis=1).any() or (flat == a[:, ::-1].reshape(-1)).all(axis=1).any()
    ]
    return np.array(found, dtype=int)


def in_a_list(q, g):
    seen = [image.tobytes() for image in g]
    return np.array([i for i, a in enumerate(q) if a.tobytes() in seen or a[:, ::-1].tobytes() in seen], int)


def sums_of_pixels(q, g):
    seen = set(g.reshape(len(g), -1).astype(int).sum(axis=1).tolist())
    return np.flatnonzero([int(image.astype(int).sum()) in seen for image in q])


def near_copies(q, g):
    d = np.abs(q[:, None].astype(int) - g[None]).reshape(len(q), len(g), -1).sum(axis=2)
    m = np.abs(q[:, None, :, ::-1].astype(int) - g[None]).reshape(len(q), len(g), -1).sum(axis=2)
    return np.flatnonzero((np.minimum(d, m) < 5).any(axis=1))


def of_the_gallery(q, g):
    both = {image.tobytes() for image in q} | {image[:, ::-1].tobytes() for image in q}
    return np.array([i for i, image in enumerate(g) if image.tobytes() in both], dtype=int)


def each_copy_once(q, g):
    found, seen = [], {image.tobytes() for image in g}
    for i, a in enumerate(q):
        for key in {a.tobytes(), a[:, ::-1].tobytes()}:
            if key in seen:
                seen.remove(key)
                found.append(i)
    return np.array(found, dtype=int)


def leak_with_dictionary(q, g):
    where = {image.tobytes(): i for i, image in enumerate(g)}
    plain = [i for i in range(len(q)) if q[i].tobytes() in where]
    turned = [i for i in range(len(q)) if np.fliplr(q[i]).tobytes() in where]
    return np.array(sorted(set(plain + turned)), dtype=np.int32)


def leak_with_hashes(q, g):
    def key(image):
        return hashlib.sha1(np.ascontiguousarray(image)).hexdigest()

    seen = {key(image) for image in g} | {key(image[:, ::-1]) for image in g}
    return np.flatnonzero([key(image) in seen for image in q])


def leak_with_isin(q, g):
    def keys(x):
        flat = np.ascontiguousarray(x.reshape(len(x), -1))
        return flat.view(np.dtype((np.void, flat.shape[1]))).reshape(-1)

    return np.flatnonzero(np.isin(keys(q), keys(g)) | np.isin(keys(q[:, :, ::-1]), keys(g)))


def leak_with_a_mask(q, g):
    seen = set(map(bytes, np.concatenate([g, g[:, :, ::-1]]).reshape(2 * len(g), -1)))
    mask = np.fromiter((bytes(image) in seen for image in q.reshape(len(q), -1)), dtype=bool)
    return mask.nonzero()[0]


def pixels(images):
    return images.reshape(len(images), -1).astype(np.float32)


def pattern(images):
    x = pixels(images)
    x -= x.mean(axis=1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-6)


def without_clip(images):
    x = pixels(images)
    x -= x.mean(axis=1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def whitened_by_the_batch(images):
    x = pixels(images)
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1)


def pattern_image_by_image(images):
    result = []
    for image in images:
        x = image.reshape(-1).astype(float)
        x = x - x.mean()
        result.append(x / (np.sqrt((x**2).sum()) + 1e-9))
    return np.array(result)


def pattern_double(images):
    return pattern(images).astype(np.float64)


def pattern_and_root(images):
    return np.concatenate([pattern(images), 0.3 * pattern(np.sqrt(images.astype(np.float32)))], axis=1)


WRONG = {
    check.exercise_1: [
        (drawn, "do not draw"),
        (drawn_with_a_seed, "do not draw"),
        (drawn_often, "do not draw"),
        (place_by_place, "do not compare place by place"),
        (lambda q, g: 1 / len(np.unique(g)), "1 / classes is right only if"),
        (lambda q, g: 1 / len(np.unique(q)), "1 / classes is right only if"),
        (lambda q, g: np.bincount(g).max() / len(g), "the share of the most frequent class"),
        (lambda q, g: (q == np.bincount(g).argmax()).mean(), "always answering with the most frequent class"),
        (lambda q, g: np.mean([(g == c).mean() for c in np.unique(q)]), "average over the queries"),
        (lambda q, g: chances(g, g).mean(), "drawn from the gallery"),
        (lambda q, g: chances(q, q).mean(), "among the queries themselves"),
        (lambda q, g: chances(q, g).sum(), "take their mean"),
        (chances, "yours has the shape (4,)"),
        (leaves_absent_out, "no chance, but it counts"),
    ],
    check.exercise_2: [
        (lambda q, g: leak(q, g, mirror=False), "a mirrored copy was missed"),
        (upside_down, "a mirrored copy was missed"),
        (mirrored_batch_axis, "a mirrored copy was missed"),
        (pair_by_pair, "you compare pair by pair"),
        (query_by_query, "you compare pair by pair"),
        (in_a_list, "you compare pair by pair"),
        (sums_of_pixels, "stands upside down is no copy"),
        (near_copies, "differs in one pixel is no copy"),
        (of_the_gallery, "indices of the gallery's images"),
        (each_copy_once, "report both"),
        (lambda q, g: np.isin(np.arange(len(q)), leak(q, g)), "np.flatnonzero turns one into the other"),
        (lambda q, g: array_leak(q, g)[::-1], "in ascending order"),
        (lambda q, g: np.array(leak(q, g)), "np.array([]) holds floats"),
        (lambda q, g: array_leak(q, g)[:, None], "a one-dimensional array"),
    ],
    check.exercise_3: [
        (pixels, "R@1 is 0.80"),
        (lambda images: images, "should give an array (3, d)"),
        (lambda images: pixels(images).mean(axis=1), "should give an array (3, d)"),
        (lambda images: pixels(images).mean(axis=1, keepdims=True), "of the first 400 queries"),
        (without_clip, "one single colour gives NaN"),
        (whitened_by_the_batch, "each must be treated by itself"),
        (
            lambda images: np.random.default_rng().normal(size=(len(images), 9)),
            "each must be treated by itself",
        ),
        (lambda images: pixels(images)[:3], "2,000 images should give"),
        (lambda images: (pixels(images) > 128).astype(int), "R@1"),
    ],
}
RIGHT = {
    check.exercise_1: [
        lambda q, g: chances(q, g).mean(),
        lambda q, g: np.float32(np.equal.outer(q, g).mean()),
        chance_by_counting,
        chance_by_bincount,
        chance_in_loops,
    ],
    check.exercise_2: [
        array_leak,
        leak_with_dictionary,
        leak_with_hashes,
        leak_with_isin,
        leak_with_a_mask,
    ],
    check.exercise_3: [pattern, pattern_image_by_image, pattern_double, pattern_and_root],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
