"""A battery for the checks of lesson 8: wrong answers with their mistakes, right ones in other styles."""

import math

import numpy as np
from battery import accepts, refuses
from scipy import stats
from scipy.special import logsumexp

from helpers.checks import lesson08 as check


def costs(labels, x, margin):
    d = np.linalg.norm(x[:, None] - x[None, :], axis=-1)
    same = labels[:, None] == labels[None, :]
    others = ~np.eye(len(x), dtype=bool)
    return np.where(same, d**2, np.maximum(margin - d, 0) ** 2) / 2, d, same, others


def hadsell(change=lambda cost, d, same, others, margin: cost[others].mean()):
    return lambda labels, x, margin: change(*costs(labels, x, margin), margin)


def changes_x(labels, x, margin):
    value = hadsell()(labels, x, margin)
    x -= x.mean(axis=0)
    return value


def two_means(cost, d, same, others, margin):
    return sum(cost[kind].mean() for kind in (same & others, ~same) if kind.any())


def pairs_that_cost(cost, d, same, others, margin):
    return cost[others & (cost > 0)].mean() if (cost[others] > 0).any() else 0.0


def hadsell_in_loops(labels, x, margin):
    total = 0.0
    for i, a in enumerate(x.tolist()):
        for j, b in enumerate(x.tolist()):
            if i != j:
                d = math.dist(a, b)
                total += d * d / 2 if labels[i] == labels[j] else max(0.0, margin - d) ** 2 / 2
    return total / (len(x) * (len(x) - 1))


def hadsell_of_unordered_pairs(labels, x, margin):
    i, j = np.triu_indices(len(x), k=1)
    d = np.sqrt(((x[i] - x[j]) ** 2).sum(axis=1))
    return np.where(labels[i] == labels[j], d * d, (margin - d).clip(0) ** 2).mean() / 2


def hadsell_by_sums(labels, x, margin):
    cost, _, _, _ = costs(labels, x, margin)
    return np.array(cost.sum() / (len(x) ** 2 - len(x)))  # the diagonal costs nothing


def proxy(labels, c, scale, own=False, sign=1, of=logsumexp, mean=np.mean):
    losses = []
    for row, label in zip(scale * c, labels, strict=True):
        losses.append(of(row if own else np.delete(row, label)) - row[label])
    return sign * mean(losses)


def naive(labels, c, scale):
    rows = np.arange(len(labels))
    e = np.exp(scale * c)
    return -np.log(e[rows, labels] / (e.sum(axis=1) - e[rows, labels])).mean()


def changes_c(labels, c, scale):
    value = proxy(labels, c, scale)
    c[np.arange(len(labels)), labels] = -np.inf
    return value


def cut_off(labels, c, scale):
    return proxy(labels, (scale * c).clip(None, 700), 1)


def with_an_epsilon(labels, c, scale):
    rows = np.arange(len(labels))
    e = np.exp(scale * (c - c.max()))
    return -np.log(e[rows, labels] / (e.sum(axis=1) - e[rows, labels] + 1e-12) + 1e-12).mean()


def proxy_with_arrays(labels, c, scale):
    rows = np.arange(len(labels))
    logits = scale * np.array(c)
    others = logits.copy()
    others[rows, labels] = -np.inf
    largest = others.max(axis=1)
    total = largest + np.log(np.exp(others - largest[:, None]).sum(axis=1))
    return (total - logits[rows, labels]).mean()


def proxy_with_a_mask(labels, c, scale):
    others = np.arange(c.shape[1]) != labels[:, None]
    top = logsumexp(scale * c, axis=1, b=others)
    return np.float64(np.average(top - scale * (c * ~others).sum(axis=1)))


def proxy_with_logaddexp(labels, c, scale):
    total = 0.0
    for row, label in zip((scale * c).tolist(), labels.tolist(), strict=True):
        own = row.pop(label)
        total += np.logaddexp.reduce(row) - own
    return total / len(labels)


def seeds(a, b, ddof=1, quantile=None, spread=None, first=2, beyond=0):
    difference = a - b
    mean, s = abs(difference.mean()), difference.std(ddof=ddof) if spread is None else spread(a, b)
    if mean == 0:
        return np.inf
    n = first
    quantile = quantile or (lambda n: stats.t.ppf(0.975, n - 1))
    while mean <= quantile(n) * s / np.sqrt(n) if n > 1 else s > 1e-9:
        n += 1
    return n + beyond


def without_abs(a, b):
    difference = a - b
    if difference.mean() == 0:
        return np.inf
    for n in range(2, 2000):
        if difference.mean() > stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n):
            return n
    return np.inf


def no_seeds_for_nothing(a, b):
    return 10**6 if np.isclose(a.mean(), b.mean()) else seeds(a, b)


def by_formula(a, b):
    difference = a - b
    if difference.mean() == 0:
        return np.inf
    return max(2, math.ceil((1.96 * difference.std(ddof=1) / difference.mean()) ** 2))


def seeds_from_the_normal_guess(a, b):
    d = np.array([x - y for x, y in zip(a, b, strict=True)])
    if d.mean() == 0:
        return float("inf")

    def half(n):
        return stats.t.interval(0.95, n - 1, loc=0, scale=d.std(ddof=1) / n**0.5)[1]

    n = max(2, int((1.96 * d.std(ddof=1) / d.mean()) ** 2))
    while n > 2 and abs(d.mean()) > half(n - 1):
        n -= 1
    while abs(d.mean()) <= half(n):
        n += 1
    return n


def seeds_at_once(a, b):
    d = a - b
    if not d.mean():
        return np.inf
    n = np.arange(2, 5000)
    return n[np.abs(d.mean()) > stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / np.sqrt(n)].min()


def seeds_as_a_float(a, b):
    return float(seeds(a, b))


WRONG = {
    check.exercise_1: [
        (hadsell(lambda cost, d, same, others, m: 2 * cost[others].mean()), "the half is missing"),
        (hadsell(lambda cost, d, same, others, m: np.where(same, d, cost)[others].mean()), "½ d², not d"),
        (hadsell(lambda cost, d, same, others, m: cost.mean()), "leave the diagonal out"),
        (
            hadsell(lambda cost, d, same, o, m: np.where(same, cost, 2 * cost)[o].mean()),
            "[margin − d]₊²: the half is missing",
        ),
        (
            hadsell(lambda cost, d, same, o, m: np.where(same, cost, (m - d).clip(0) / 2)[o].mean()),
            "the square is missing",
        ),
        (
            hadsell(lambda cost, d, same, o, m: np.where(same, cost, (m - d) ** 2 / 2)[o].mean()),
            "cut off at 0, then square",
        ),
        (
            hadsell(lambda cost, d, same, o, m: np.where(same, cost, (m**2 - d**2).clip(0) / 2)[o].mean()),
            "subtract first",
        ),
        (hadsell(lambda cost, d, same, o, m: (d**2 / 2)[o].mean()), "a negative pair is pulled together"),
        (hadsell(pairs_that_cost), "also those that cost nothing"),
        (hadsell(two_means), "one mean over all pairs"),
        (hadsell(lambda cost, d, same, others, m: cost[others].sum() / 2), "not their sum"),
        (hadsell(lambda cost, d, same, others, m: cost[others]), "return one number"),
        (changes_x, "your function changes the embeddings"),
    ],
    check.exercise_2: [
        (lambda labels, c, scale: proxy(labels, c, scale, own=True), "that is the normalised softmax"),
        (
            lambda labels, c, scale: proxy(labels, c, scale, mean=np.sum),
            "the mean over the images, not their sum",
        ),
        (lambda labels, c, scale: proxy(labels, c, scale, sign=-1), "the sign"),
        (lambda labels, c, scale: proxy(labels, c, 1), "multiplied by the scale"),
        (lambda labels, c, scale: proxy(labels, c, scale, of=np.max), "the largest of the others alone"),
        (lambda labels, c, scale: proxy(labels, c, scale, of=np.mean), "the mean of the others"),
        (lambda labels, c, scale: proxy(labels, c, scale) - np.log(2), "summed, not averaged"),
        (lambda labels, c, scale: proxy(labels, c, scale, mean=np.array), "the images' own losses"),
        (naive, "subtract the largest exponent"),
        (with_an_epsilon, "with scale"),
        (cut_off, "the exponents are cut off"),
        (changes_c, "your function changes the cosines"),
    ],
    check.exercise_3: [
        (lambda a, b: seeds(a, b, quantile=lambda n: 1.96), "1.96 is too small"),
        (lambda a, b: seeds(a, b, quantile=lambda n: stats.t.ppf(0.95, n - 1)), "that of 0.975"),
        (
            lambda a, b: seeds(a, b, quantile=lambda n: stats.t.ppf(0.975, n)),
            "n − 1 degrees of freedom, not n",
        ),
        (lambda a, b: seeds(a, b, quantile=lambda n: stats.t.ppf(0.975, len(a) - 1)), "not S − 1"),
        (lambda a, b: seeds(a, b, ddof=0), "ddof=1"),
        (
            lambda a, b: seeds(a, b, spread=lambda a, b: np.hypot(a.std(ddof=1), b.std(ddof=1))),
            "pair the scores seed by seed",
        ),
        (lambda a, b: seeds(a, b, first=1), "begin at n = 2"),
        (lambda a, b: seeds(a, b, first=3), "needs the smallest number, 2"),
        (without_abs, "use |mean|"),
        (no_seeds_for_nothing, "return np.inf"),
        (lambda a, b: seeds(a, b) + 0.5, "whole numbers"),
        (by_formula, "with few seeds 1.96 is too small"),
    ],
}
RIGHT = {
    check.exercise_1: [hadsell(), hadsell_in_loops, hadsell_of_unordered_pairs, hadsell_by_sums],
    check.exercise_2: [proxy, proxy_with_arrays, proxy_with_a_mask, proxy_with_logaddexp],
    check.exercise_3: [seeds, seeds_from_the_normal_guess, seeds_at_once, seeds_as_a_float],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
