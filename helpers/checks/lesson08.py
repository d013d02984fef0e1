"""Checks of lesson 8, metric losses."""

import numpy as np
from scipy import stats

from helpers.checks import exercise


@exercise(
    "squared, the pull on a pair fades as the pair comes near; unsquared it is the same at every distance"
)
def exercise_1(hadsell):
    line = np.array([[0.0], [3.0]])
    value = float(hadsell(np.array([0, 0]), line, 1.0))
    assert not _near(value, 9.0), "a positive pair at distance 3 costs ½ · 3² = 4.5: the half is missing"
    assert not _near(value, 3.0), "a positive pair costs ½ d², not d"
    assert not _near(value, 2.25), "an image makes no pair with itself: leave the diagonal out of the mean"
    assert _near(value, 4.5), f"a positive pair at distance 3 costs ½ · 3² = 4.5, not {value:.3f}"
    value = float(hadsell(np.array([0, 1]), line, 5.0))
    assert _near(value, 2.0), f"a negative pair at distance 3, margin 5, costs ½ · 2² = 2, not {value:.3f}"
    value = float(hadsell(np.array([0, 1]), line, 1.0))
    assert _near(value, 0.0), f"a negative pair beyond the margin costs nothing, not {value:.3f}"
    rng = np.random.default_rng(0)
    labels, x = np.array([0, 0, 1, 1, 2, 2, 0]), rng.normal(size=(7, 3))
    d = np.linalg.norm(x[:, None] - x[None, :], axis=-1)
    same = labels[:, None] == labels[None, :]
    cost = np.where(same, d**2, np.maximum(2.0 - d, 0) ** 2) / 2
    others = ~np.eye(7, dtype=bool)
    value = float(hadsell(labels, x, 2.0))
    assert not _near(value, cost[others & (cost > 0)].mean()), (
        "the mean runs over all pairs, also those that cost nothing"
    )
    assert not _near(value, cost[others & same].mean() + cost[~same].mean()), (
        "one mean over all pairs, not one over the positive and one over the negative pairs"
    )
    assert _near(value, cost[others].mean()), (
        f"on seven points of three classes, expected {cost[others].mean():.4f}, got {value:.4f}"
    )


@exercise("without the right proxy in the denominator the loss has no lowest value: it never rests")
def exercise_2(proxy_nca):
    c = np.array([[0.8, 0.2, -0.1], [0.5, 0.6, 0.0]])
    labels = np.array([0, 1])

    def expected(scale, own_in_sum=False):
        total = 0.0
        for row, label in zip(c, labels, strict=True):
            others = [scale * s for k, s in enumerate(row) if own_in_sum or k != label]
            total += max(others) + np.log(sum(np.exp(o - max(others)) for o in others)) - scale * row[label]
        return total / 2

    value = float(proxy_nca(labels, c, 10))
    assert not _near(value, expected(10, own_in_sum=True)), (
        "that is the normalised softmax: the sum leaves the right proxy out"
    )
    assert not _near(value, 2 * expected(10)), "the mean over the images, not their sum"
    assert not _near(value, -expected(10)), "the sign: the loss falls as the right cosine rises"
    assert not _near(value, expected(1)), "the cosines have to be multiplied by the scale"
    assert _near(value, expected(10)), f"with scale 10, expected {expected(10):.4f}, got {value:.4f}"
    with np.errstate(all="ignore"):
        value = float(proxy_nca(labels, c, 1000))
    assert np.isfinite(value), (
        f"with scale 1,000 it is {value}: subtract the largest exponent before taking exp, and add it again"
    )
    assert _near(value, expected(1000)), f"with scale 1,000, expected {expected(1000):.2f}, got {value:.2f}"


@exercise("half the difference needs about four times the seeds: three seeds only see large differences")
def exercise_3(seeds_needed):
    rng = np.random.default_rng(0)
    assert float(seeds_needed(np.array([0.5, 0.6, 0.7]), np.array([0.6, 0.5, 0.7]))) == np.inf, (
        "a mean difference of 0 is never told from 0: return np.inf"
    )
    a = np.array([0.50, 0.60, 0.70])
    value = seeds_needed(a, a - np.array([0.020, 0.021, 0.019]))
    assert value <= 3, (
        "the differences 0.020, 0.021, 0.019 are clear at once: pair the scores seed by seed before you take the "
        "standard deviation"
    )
    assert seeds_needed(a, a - 0.01) == 2, "a difference without any spread needs the smallest number, 2"
    for shift in (0.004, 0.01, 0.03):
        a, b = rng.normal(0.7, 0.01, 5), rng.normal(0.7 - shift, 0.01, 5)
        expected, value = _seeds(a - b), seeds_needed(a, b)
        assert seeds_needed(b, a) == value, "the order of the two losses should not matter: use |mean|"
        normal = next(n for n in range(2, 10**6) if _clear(a - b, 1.96, n))
        assert expected == normal or value != normal, (
            "with few seeds 1.96 is too small: use the quantile of Student's t with n − 1 degrees of freedom"
        )
        one_sided = next(n for n in range(2, 10**6) if _clear(a - b, stats.t.ppf(0.95, n - 1), n))
        assert expected == one_sided or value != one_sided, (
            "a 95 % interval leaves out 2.5 % at either end: the quantile is that of 0.975"
        )
        assert value == expected, f"expected {expected} seeds for one pair of losses, got {value}"


def _clear(difference, quantile, n):
    return abs(difference.mean()) > quantile * difference.std(ddof=1) / np.sqrt(n)


def _seeds(difference):
    return next(n for n in range(2, 10**6) if _clear(difference, stats.t.ppf(0.975, n - 1), n))


def _near(a, b):
    return abs(a - b) < 1e-6 * max(1, abs(b))
