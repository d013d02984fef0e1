"""Checks of lesson 7, t-SNE visualisation."""

import functools

import keras
import numpy as np
from sklearn.manifold import trustworthiness

from helpers.checks import exercise, number, shown
from helpers.data import load
from helpers.networks import embedding_network, load_pretrained


@exercise(
    "a name belongs where the points are: the middle of a class can be a place where it has no point at all",
    returns="one of the points, an array of shape (2,)",
)
def exercise_1(medoid):
    line = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [100.0, 0.0]])
    result = np.asarray(medoid(line.copy()))
    assert result.shape == (2,), (
        f"return the point itself, an array of shape (2,), not something of shape {result.shape}"
        + (": is it the point's index?" if result.shape == () else "")
    )
    assert result.dtype.kind in "iuf", f"return the point's two coordinates, not {shown(result)}"
    assert not np.allclose(result, line.mean(axis=0)), "this is the mean, and there is no point there"
    assert not np.allclose(result, [3, 0]), (
        "this is the point nearest to the mean, or the one with the smallest sum of *squared* distances: "
        "one stray point far away should not pull the name along"
    )
    assert not np.allclose(result, [100, 0]), "this is the point with the largest sum of distances"
    assert np.allclose(result, [2, 0]), f"of 0, 1, 2, 3 and 100 on a line the medoid is 2, not {result[0]:g}"
    rng = np.random.default_rng(0)
    islands = np.concatenate([rng.normal(size=(60, 2)), rng.normal([30, 10], 1, (40, 2))])
    angles = rng.uniform(0, 2 * np.pi, 101)
    ring = 10 * np.column_stack([np.cos(angles), np.sin(angles)])
    copy = islands.copy()
    medoid(copy)
    assert np.array_equal(copy, islands), "your function changes the points: work on a copy"
    for points, where in ((islands, "two islands"), (ring, "a ring"), (line[:1], "a single point")):
        result = np.asarray(medoid(points.copy()))
        gap = np.abs(points - result).sum(axis=1).min()
        assert gap < 1e-4, (
            f"on {where} the name would stand where there is no point: the median of each coordinate?"
        )
        sums = np.linalg.norm(points[:, None] - points[None], axis=2).sum(axis=1)
        mine = np.linalg.norm(points - result, axis=1).sum()
        assert mine <= sums.min() + 1e-2, (
            f"on {where} another point has a smaller sum of distances to the others"
        )


@exercise(
    "one measure counts false neighbours and the other lost ones; a map can be good at one of them alone",
    returns="one number, 1 for a perfect map",
)
def exercise_2(continuity):
    truth = np.array([[0.0], [1.0], [3.0], [7.0], [12.0], [20.0]])
    drawn = np.array([[0.0], [1.0], [3.0], [7.0], [12.0], [-2.5]])
    result = continuity(truth.copy(), truth.copy(), 2)
    assert np.shape(result) != (6,), (
        "these are the six points' own values: one number for the whole map is asked for"
    )
    result = number(result)
    assert not np.isclose(result, 0), (
        "a map that changes nothing should score 1: you returned the loss, or forgot 1 − …"
    )
    assert np.isclose(result, 1), (
        f"a map that changes nothing should score 1, not {result:.3f}: are ranks and neighbours counted from the same "
        "place, each point itself left out of both?"
    )
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False) + rng.uniform(0, 0.01, 60)
    ring, cut = np.column_stack([np.cos(angles), np.sin(angles)]), angles[:, None]
    cloud = rng.normal(size=(150, 10))
    for points, flat, k, where in (
        (truth, drawn, 2, "the lesson's six points"),
        (ring, cut, 6, "a ring that is cut open"),
        (cloud, cloud[:, :2], 10, "the shadow of a cloud"),
        (cloud, cloud[:, :2], 25, "the shadow of a cloud, k = 25"),
    ):
        expected = float(trustworthiness(flat, points, n_neighbors=k))
        other = float(trustworthiness(points, flat, n_neighbors=k))
        result = number(continuity(points.copy(), flat.copy(), k))
        assert abs(expected - other) < 1e-4 or not np.isclose(result, other, atol=1e-5), (
            f"on {where} this is trustworthiness: take the neighbours in truth, and their ranks on the map"
        )
        assert not np.isclose(result, 1 - expected, atol=1e-5) or np.isclose(expected, 0.5), (
            "1 should be best and 0 worst: you returned the loss"
        )
        for mistake, value in _mistaken(points, flat, k).items():
            assert abs(value - expected) < 1e-4 or not np.isclose(result, value, atol=1e-5), (
                f"on {where} {mistake}"
            )
        assert np.isclose(result, expected, atol=1e-5), (
            f"on {where} continuity is {expected:.4f}, not {result:.4f}"
        )


def _mistaken(points, flat, k):
    """What the usual slips give, by what there is to say about each."""
    n, rows = len(points), np.arange(len(points))[:, None]
    away = [np.linalg.norm(x[:, None] - x[None], axis=2) for x in (points, flat)]
    for distances in away:
        np.fill_diagonal(distances, -1)
    order = away[0].argsort(axis=1)
    ranks = away[1].argsort(axis=1).argsort(axis=1)  # 0 for the point itself
    scale = 2 / (n * k * (2 * n - 3 * k - 1))
    excess = ranks[rows, order[:, 1 : k + 1]] - k
    return {
        "a point is counted among its own k neighbours: leave it out": 1
        - scale * np.maximum(ranks[rows, order[:, :k]] - k, 0).sum(),
        "the ranks are one too small: the nearest other point has rank 1": 1
        - scale * np.maximum(excess - 1, 0).sum(),
        "the ranks are one too large: the nearest other point has rank 1": 1
        - scale * np.where(excess >= 0, excess + 1, 0).sum(),
        "this is the share of neighbours that were kept: count by how much each rank exceeds k": (
            excess <= 0
        ).mean(),
        "neighbours that came nearer are counted too: only ranks larger than k are an error": 1
        - scale * excess.sum(),
        "each lost neighbour costs its whole rank: only what exceeds k counts": 1
        - scale * np.where(excess > 0, excess + k, 0).sum(),
        "the scale is not trustworthiness's: 2 / (n k (2n − 3k − 1))": 1
        - np.maximum(excess, 0).sum() / (n * k * (n - k - 1)),
    }


@exercise(
    "no single picture tells, but R@1 does: network A does worse than the pixels it was fed with",
    returns="True or False",
)
def exercise_3(beats_pixels):
    data = load("fashion_mnist")
    everything = data.x_test[2000:3000], data.y_test[2000:3000]
    hard = _images_of(data, (0, 2, 4, 6))  # T-shirts, pullovers, coats, shirts
    easy = _images_of(data, (1, 3, 7))  # trousers, dresses, sneakers
    networks = two_networks()

    def verdict(network, images, labels):
        result = beats_pixels(network, images, labels)
        assert np.shape(result) == () and np.asarray(result).dtype == bool, (
            f"return True or False, not {shown(result)}"
        )
        return bool(result)

    verdicts = [verdict(networks[name], *everything) for name in "AB"]
    assert verdicts != [True, True], (
        "your function says that both A and B beat their pixels. By R@1 A does not: measure R@1 (not MAP@R, in which A "
        "comes out a little ahead) of the network and of the pixels"
    )
    assert verdicts != [False, False], (
        "your function says that neither A nor B beats its pixels. B's R@1 is higher by more than a tenth: measure the "
        "embedding's R@1 and the pixels' on the same images, leave-one-out"
    )
    assert verdicts == [False, True], (
        "the other way round: B beats its pixels and A does not; a higher R@1 is better"
    )
    spread_out = _spread_out_untrained()
    assert not verdict(spread_out, *everything), (
        "of a network with random weights, whose embeddings lie far apart, it says that it beats its pixels: "
        "distances between embeddings are no sign of that"
    )
    assert not verdict(spread_out, *easy), (
        "on trousers, dresses and sneakers alone even random weights score high, but not higher than the pixels: a "
        "fixed threshold will not do, measure both on the same images"
    )
    assert verdict(networks["B"], *hard), (
        "T-shirts, pullovers, coats and shirts alone are hard for any network, and harder for the pixels: a fixed "
        "threshold will not do, measure both on the same images"
    )
    assert verdict(networks["B"], *easy), (
        "on trousers, dresses and sneakers alone network B beats its pixels, by a little: a higher R@1 is enough"
    )


@functools.cache
def two_networks():
    """Two networks of the same architecture for exercise 3, of which one was never trained."""
    keras.utils.set_random_seed(0)
    return {"A": embedding_network(filters=(32, 64, 128)), "B": load_pretrained()}


@functools.cache
def _spread_out_untrained():
    """A network with random weights; the coordinates of its last linear layer have mean 0 and variance 1."""
    images = load("fashion_mnist").x_test[:300]
    keras.utils.set_random_seed(3)
    network = embedding_network(filters=(32, 64, 128))
    linear = keras.Model(network.input, network.layers[-2].output)
    values = keras.ops.convert_to_numpy(linear(images, training=False))
    x = keras.layers.Normalization(mean=values.mean(axis=0), variance=values.var(axis=0))(linear.output)
    return keras.Model(network.input, keras.layers.UnitNormalization()(x))


def _images_of(data, classes):
    chosen = np.flatnonzero(np.isin(data.y_test, classes))[-500:]
    return data.x_test[chosen], data.y_test[chosen]
