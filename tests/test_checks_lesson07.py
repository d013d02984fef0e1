"""A battery for the checks of lesson 7: wrong answers with their mistakes, right ones in other styles."""

import keras
import numpy as np
import pytest
from battery import accepts, refuses
from scipy.spatial.distance import cdist
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from helpers.checks import lesson07 as check
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import embed


def sums(points, power=1):
    return (np.linalg.norm(points[:, None] - points[None], axis=2) ** power).sum(axis=1)


def nearest_to(points, place):
    return points[np.linalg.norm(points - place, axis=1).argmin()]


def sorts_its_points(points):
    points.sort(axis=0)
    return points[sums(points).argmin()]


def medoid_in_loops(points):
    best, least = None, np.inf
    for p in points.tolist():
        total = sum(((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2) ** 0.5 for q in points.tolist())
        if total < least:
            best, least = p, total
    return best


def medoid_in_float32(points):
    points = points.astype(np.float32)
    return points[sums(points).argmin()]


def continuity(points, flat, k, own=False, base=0, keep=None, scale=None, metric="euclidean"):
    """`base` is added to the ranks, `own` leaves a point among its neighbours, `keep` counts another excess."""
    n, rows = len(points), np.arange(len(points))[:, None]
    truth, drawn = cdist(points, points, metric), cdist(flat, flat, metric)
    np.fill_diagonal(truth, -1)
    np.fill_diagonal(drawn, -1)
    order = truth.argsort(axis=1)[:, (0 if own else 1) : k + (0 if own else 1)]
    excess = drawn.argsort(axis=1).argsort(axis=1)[rows, order] + base - k
    excess = keep(excess, k) if keep else np.maximum(excess, 0)
    return 1 - (2 / (n * k * (2 * n - 3 * k - 1)) if scale is None else scale(n, k)) * excess.sum()


def each_point(points, flat, k):
    return [continuity(points, flat, k)] * len(points)


def kept_share(points, flat, k):
    true, drawn = (
        NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False) for x in (points, flat)
    )
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(true.tolist(), drawn.tolist(), strict=True)])


def continuity_in_loops(points, flat, k):
    n, total = len(points), 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        near = sorted(others, key=lambda j: ((points[i] - points[j]) ** 2).sum())[:k]
        on_map = sorted(others, key=lambda j: ((flat[i] - flat[j]) ** 2).sum())
        for j in near:
            total += max(0, on_map.index(j) + 1 - k)
    return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


def continuity_by_counting(points, flat, k):
    n = len(points)
    true = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
    drawn = cdist(flat, flat)
    rank = np.array([[(drawn[i] < drawn[i, j]).sum() for j in true[i]] for i in range(n)])
    return np.float32(1 - 2 / (n * k * (2 * n - 3 * k - 1)) * np.clip(rank - k, 0, None).sum())


EMBEDDED = {}


def embedding_of(network, images):
    """Embeddings, each computed once, since the check asks for the same ones from every answer."""
    key = id(network), images.tobytes()
    if key not in EMBEDDED:
        EMBEDDED[key] = embed(network, images)
    return EMBEDDED[key]


def scores(network, images, labels, measure=lambda x, labels: recall_at_k(x, labels, k=1)[1]):
    pixels = images.reshape(len(images), -1) / 255
    return measure(embedding_of(network, images), labels), measure(pixels, labels)


def beats(compare, **more):
    def beats_pixels(network, images, labels):
        return compare(*scores(network, images, labels, **more))

    return beats_pixels


def far_apart(network, images, labels):
    x = embedding_of(network, images)
    return bool(np.linalg.norm(x[:500] - x[-500:], axis=1).mean() > 0.8)


def of_other_pixels(network, images, labels):
    return recall_at_k(embedding_of(network, images), labels, k=1)[1] > 0.736  # the pixels' on all 1,000


def with_a_loop(network, images, labels):
    x, pixels = embedding_of(network, images).astype(float), images.reshape(len(images), -1) / 255
    hits = []
    for vectors in (x, pixels):
        d = cdist(vectors, vectors)
        np.fill_diagonal(d, np.inf)
        hits.append(sum(labels[d[i].argmin()] == labels[i] for i in range(len(labels))))
    return hits[0] > hits[1]


@pytest.fixture(autouse=True, scope="module")
def forget():
    yield
    EMBEDDED.clear()
    keras.utils.clear_session()


WRONG = {
    check.exercise_1: [
        (lambda p: p.mean(axis=0), "this is the mean"),
        (lambda p: np.median(p, axis=0), "the median of each coordinate"),
        (lambda p: nearest_to(p, p.mean(axis=0)), "the point nearest to the mean"),
        (lambda p: p[sums(p, 2).argmin()], "*squared* distances"),
        (lambda p: p[sums(p).argmax()], "the largest sum"),
        (lambda p: sums(p).argmin(), "is it the point's index?"),
        (lambda p: p[[sums(p).argmin()]], "not something of shape (1, 2)"),
        (lambda p: nearest_to(p, np.median(p, axis=0)), "another point has a smaller sum"),
        (lambda p: p[len(p) // 2], "another point has a smaller sum"),
        (lambda p: sums(p), "not something of shape (5,)"),
        (sorts_its_points, "your function changes the points"),
    ],
    check.exercise_2: [
        (lambda a, b, k: trustworthiness(a, b, n_neighbors=k), "this is trustworthiness"),
        (lambda a, b, k: 1 - continuity(a, b, k), "you returned the loss"),
        (lambda a, b, k: continuity(a, b, k, own=True), "counted among its own k neighbours"),
        (lambda a, b, k: continuity(a, b, k, base=-1), "the ranks are one too small"),
        (lambda a, b, k: continuity(a, b, k, base=1), "are ranks and neighbours counted from the same place"),
        (kept_share, "the share of neighbours that were kept"),
        (
            lambda a, b, k: continuity(a, b, k, keep=lambda e, k: e),
            "a map that changes nothing should score 1",
        ),
        (
            lambda a, b, k: continuity(a, b, k, keep=lambda e, k: np.where(e > 0, e + k, 0)),
            "costs its whole rank",
        ),
        (
            lambda a, b, k: continuity(a, b, k, scale=lambda n, k: 1 / (n * k * (n - k - 1))),
            "the scale is not trustworthiness's",
        ),
        (lambda a, b, k: continuity(a, b, k, metric="cityblock"), "continuity is"),
        (lambda a, b, k: continuity(a, b, 2), "continuity is"),
        (each_point, "one number for the whole map"),
    ],
    check.exercise_3: [
        (beats(lambda mine, pixels: mine < pixels), "the other way round"),
        (beats(lambda mine, pixels: mine > pixels, measure=map_at_r), "not MAP@R"),
        (beats(lambda mine, pixels: mine > 0.9), "a fixed threshold will not do"),
        (beats(lambda mine, pixels: mine > 0.8), "a fixed threshold will not do"),
        (beats(lambda mine, pixels: mine > pixels + 0.1), "a higher R@1 is enough"),
        (beats(lambda mine, pixels: mine > 0.99), "neither A nor B beats"),
        (beats(lambda mine, pixels: mine > 0.5), "says that both A and B beat"),
        (beats(lambda mine, pixels: mine), "return True or False"),
        (beats(lambda mine, pixels: "yes" if mine > pixels else "no"), "return True or False"),
        (far_apart, "distances between embeddings are no sign"),
        (of_other_pixels, "measure both on the same images"),
    ],
}
RIGHT = {
    check.exercise_1: [
        lambda p: p[sums(p).argmin()],
        medoid_in_loops,
        medoid_in_float32,
        lambda p: tuple(min(p, key=lambda a: np.hypot(*(p - a).T).sum())),
    ],
    check.exercise_2: [
        continuity,
        lambda points, flat, k: trustworthiness(flat, points, n_neighbors=k),
        continuity_in_loops,
        continuity_by_counting,
    ],
    check.exercise_3: [
        beats(lambda mine, pixels: mine > pixels),
        beats(lambda mine, pixels: np.bool_(mine > pixels)),
        beats(lambda mine, pixels: np.array(mine) > np.array(pixels)),
        with_a_loop,
    ],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
