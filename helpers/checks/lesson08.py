"""Checks of lesson 8, metric losses."""

import numpy as np
from scipy import stats

from helpers.checks import exercise, number


@exercise(
    "squared, the pull on a pair fades as the pair comes near; unsquared it is the same at every distance",
    returns="one number, the loss",
)
def exercise_1(hadsell):
    line = np.array([[0.0], [3.0]])
    value = number(hadsell(np.array([0, 0]), line, 1.0))
    assert np.array_equal(line, [[0.0], [3.0]]), "your function changes the embeddings: work on a copy"
    assert not _near(value, 9.0), "a positive pair at distance 3 costs ½ · 3² = 4.5: the half is missing"
    assert not _near(value, 3.0), "a positive pair costs ½ d², not d"
    assert not _near(value, 2.25), "an image makes no pair with itself: leave the diagonal out of the mean"
    assert _near(value, 4.5), f"a positive pair at distance 3 costs ½ · 3² = 4.5, not {value:.3f}"
    value = number(hadsell(np.array([0, 1]), line, 5.0))
    assert not _near(value, 4.0), "a negative pair costs ½ [margin − d]₊²: the half is missing"
    assert not _near(value, 1.0), "a negative pair costs ½ [margin − d]₊²: the square is missing"
    assert not _near(value, 8.0), "that is ½ (margin² − d²): subtract first, then square"
    assert not _near(value, 4.5), (
        "a negative pair is pulled together: labels that differ cost ½ [margin − d]₊²"
    )
    assert _near(value, 2.0), f"a negative pair at distance 3, margin 5, costs ½ · 2² = 2, not {value:.3f}"
    value = number(hadsell(np.array([0, 1]), line, 1.0))
    assert _near(value, 0.0), (
        f"a negative pair beyond the margin costs nothing, not {value:.3f}: cut off at 0, then square"
    )
    rng = np.random.default_rng(0)
    labels, x = np.array([0, 0, 1, 1, 2, 2, 0]), rng.normal(size=(7, 3))
    d = np.linalg.norm(x[:, None] - x[None, :], axis=-1)
    same = labels[:, None] == labels[None, :]
    cost = np.where(same, d**2, np.maximum(2.0 - d, 0) ** 2) / 2
    others = ~np.eye(7, dtype=bool)
    value = number(hadsell(labels, x, 2.0))
    assert not _near(value, cost[others & (cost > 0)].mean()), (
        "the mean runs over all pairs, also those that cost nothing"
    )
    assert not _near(value, cost[others & same].mean() + cost[~same].mean()), (
        "one mean over all pairs, not one over the positive and one over the negative pairs"
    )
    assert not _near(value, cost[others].sum()) and not _near(value, cost[others].sum() / 2), (
        "the mean over the pairs, not their sum"
    )
    assert not _near(value, cost.mean()), (
        "an image makes no pair with itself: leave the diagonal out of the mean"
    )
    assert not _near(value, cost[others].sum() / 7), (
        "divide by the number of pairs, B · (B − 1), not of images"
    )
    assert _near(value, cost[others].mean()), (
        f"on seven points of three classes, expected {cost[others].mean():.4f}, got {value:.4f}"
    )


@exercise(
    "without the right proxy in the denominator the loss has no lowest value: it never rests",
    returns="one number, the loss",
)
def exercise_2(proxy_nca):
    c = np.array([[0.8, 0.2, -0.1], [0.5, 0.6, 0.0]])
    labels = np.array([0, 1])

    def loss(scale):
        given = c.copy()
        value = proxy_nca(labels, c, scale)
        assert np.array_equal(c, given), "your function changes the cosines: work on a copy"
        assert np.shape(value) != (2,), "these are the images' own losses: take their mean"
        return value

    def expected(scale, own_in_sum=False):
        total = 0.0
        for row, label in zip(c, labels, strict=True):
            others = [scale * s for k, s in enumerate(row) if own_in_sum or k != label]
            total += max(others) + np.log(sum(np.exp(o - max(others)) for o in others)) - scale * row[label]
        return total / 2

    value = number(loss(10))
    assert not _near(value, expected(10, own_in_sum=True)), (
        "that is the normalised softmax: the sum leaves the right proxy out"
    )
    assert not _near(value, 2 * expected(10)), "the mean over the images, not their sum"
    assert not _near(value, -expected(10)), "the sign: the loss falls as the right cosine rises"
    assert not _near(value, _without_own(labels, 10 * c, np.max)), (
        "that is the largest of the others alone: sum their exponentials, and take the logarithm of the sum"
    )
    assert not _near(value, _without_own(labels, 10 * c, np.mean)), (
        "that is the mean of the others: sum their exponentials, and take the logarithm of the sum"
    )
    assert not _near(value, expected(10) - np.log(2)), (
        "the exponentials of the others are summed, not averaged"
    )
    assert not _near(value, expected(1)), "the cosines have to be multiplied by the scale"
    assert _near(value, expected(10)), f"with scale 10, expected {expected(10):.4f}, got {value:.4f}"
    with np.errstate(all="ignore"):
        value = loss(1000)
    assert np.isfinite(value), (
        f"with scale 1,000 it is {value}: subtract the largest exponent before taking exp, and add it again"
    )
    value = number(value)
    assert not _near(value, _without_own(labels, 1000 * c.clip(None, 0.7), np.max)), (
        "the exponents are cut off where they grow too large, which changes the loss: subtract the largest instead"
    )
    assert _near(value, expected(1000)), f"with scale 1,000, expected {expected(1000):.2f}, got {value:.2f}"


@exercise(
    "half the difference needs about four times the seeds: three seeds only see large differences",
    returns="one whole number of seeds, or np.inf",
)
def exercise_3(seeds_needed):
    rng = np.random.default_rng(0)

    def needed(a, b):
        value = number(seeds_needed(a.copy(), b.copy()))
        assert value == np.inf or value == int(value), f"seeds are counted in whole numbers, not {value}"
        return value

    assert needed(np.array([0.5, 0.6, 0.7]), np.array([0.6, 0.5, 0.7])) == np.inf, (
        "a mean difference of 0 is never told from 0: return np.inf"
    )
    a = np.array([0.50, 0.60, 0.70])
    value = needed(a, a - np.array([0.020, 0.021, 0.019]))
    assert value <= 3, (
        "the differences 0.020, 0.021, 0.019 are clear at once: pair the scores seed by seed before you take the "
        "standard deviation"
    )
    assert needed(a, a - 0.01) != 1, "one seed has no interval: begin at n = 2"
    assert needed(a, a - 0.01) == 2, "a difference without any spread needs the smallest number, 2"
    pairs = [(rng.normal(0.7, 0.01, 5), rng.normal(0.7 - shift, 0.01, 5)) for shift in (0.004, 0.01, 0.03)]
    values, expected = [needed(a, b) for a, b in pairs], [_seeds(a - b) for a, b in pairs]
    assert values == [needed(b, a) for a, b in pairs], (
        "the order of the two losses should not matter: use |mean|"
    )
    slips = {
        "with few seeds 1.96 is too small: use the quantile of Student's t with n − 1 degrees of freedom": {
            "quantile": lambda n: 1.96
        },
        "a 95 % interval leaves out 2.5 % at either end: the quantile is that of 0.975": {
            "quantile": lambda n: stats.t.ppf(0.95, n - 1)
        },
        "the quantile depends on the n that you ask about: n − 1 degrees of freedom, not S − 1": {
            "quantile": lambda n: stats.t.ppf(0.975, 4)
        },
        "n seeds have n − 1 degrees of freedom, not n": {"quantile": lambda n: stats.t.ppf(0.975, n)},
        "the standard deviation of a sample divides by S − 1: ddof=1": {"ddof": 0},
    }
    for mistake, slip in slips.items():
        assert values == expected or values != [_seeds(a - b, **slip) for a, b in pairs], mistake
    assert values != [n + 1 for n in expected], (
        "that is one more than needed: the smallest number that is enough"
    )
    assert values == expected, (
        f"for three pairs of losses, expected {expected} seeds, got {[int(n) for n in values]}"
    )


def _without_own(labels, logits, of):
    """The loss with another function than the logarithm of summed exponentials, over all but the right proxy."""
    rows = zip(logits, labels, strict=True)
    return np.mean([of(np.delete(row, label)) - row[label] for row, label in rows])


def _seeds(difference, quantile=lambda n: stats.t.ppf(0.975, n - 1), ddof=1):
    mean, deviation = abs(difference.mean()), difference.std(ddof=ddof)
    return next(n for n in range(2, 10**6) if mean > quantile(n) * deviation / np.sqrt(n))


def _near(a, b):
    return abs(a - b) < 1e-6 * max(1, abs(b))
