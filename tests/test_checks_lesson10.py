"""A battery for the checks of lesson 10: wrong answers with their mistakes, right ones in other styles."""

import random

import numpy as np
from battery import accepts, refuses
from sklearn.metrics import roc_curve

from helpers.checks import lesson10 as check


def order_of(classes, seed):
    return np.random.default_rng(seed).permutation(classes).tolist()


def deal(classes, size, seed, order=order_of, lots=lambda n, size: n // size, arrange=sorted):
    row = order(classes, seed)
    return [tuple(arrange(row[i * size : (i + 1) * size])) for i in range(lots(classes, size))]


def each_lot_for_itself(classes, size, seed):
    rng = np.random.default_rng(seed)
    return [tuple(sorted(rng.choice(classes, size, replace=False).tolist())) for _ in range(classes // size)]


def shuffled_lots(classes, size, seed):
    lots = deal(classes, size, seed, order=lambda n, s: list(range(n)))
    return [lots[i] for i in np.random.default_rng(seed).permutation(len(lots))][::-1]


def last_one_stays(classes, size, seed):
    rest = classes % size
    return deal(classes, size, seed, order=lambda n, s: [*order_of(n - rest, s), *range(n - rest, n)])


def split_by_numpy(classes, size, seed):
    return [tuple(sorted(lot.tolist())) for lot in np.array_split(order_of(classes, seed), classes // size)]


def deal_with_python(classes, size, seed):
    row = random.Random(seed).sample(range(classes), classes)
    lots = []
    while len(row) >= size:
        lots.append(tuple(sorted(row.pop() for _ in range(size))))
    return lots


def deal_as_a_table(classes, size, seed):
    row = np.random.RandomState(seed).permutation(classes)
    return np.sort(row[: classes // size * size].reshape(-1, size), axis=1)


def deal_in_lists(classes, size, seed):
    return tuple(list(lot) for lot in deal(classes, size, seed))


def rates(distances, same, thresholds=None, matches=np.less_equal, count_all=False):
    thresholds = np.unique(distances) if thresholds is None else thresholds
    n, m = (len(same), len(same)) if count_all else ((~same).sum(), same.sum())
    false = np.array([matches(distances[~same], t).sum() / n for t in thresholds])
    missed = np.array([(~matches(distances[same], t)).sum() / m for t in thresholds])
    return false, missed


def eer(distances, same, best=lambda gap: np.abs(gap).argmin(), value=lambda f, m: (f + m) / 2, **more):
    false, missed = rates(distances, same, **more)
    i = best(false - missed)
    return value(false[i], missed[i])


def last_of_equals(gap):
    return len(gap) - 1 - np.abs(gap)[::-1].argmin()


def pair_by_pair(distances, same):  # passes between tied pairs
    order = np.argsort(distances, kind="stable")
    false, missed = (~same[order]).cumsum() / (~same).sum(), 1 - same[order].cumsum() / same.sum()
    i = np.abs(false - missed).argmin()
    return (false[i] + missed[i]) / 2


def by_roc_curve(distances, same, **more):
    false, true, _ = roc_curve(same, -distances, **more)
    i = np.abs(false - (1 - true)).argmin()
    return (false[i] + 1 - true[i]) / 2


def interpolated(distances, same):
    false, missed = rates(distances, same)
    false, missed = np.r_[0, false], np.r_[1, missed]
    i = np.flatnonzero(false >= missed)[0]
    before, after = false[i - 1] - missed[i - 1], false[i] - missed[i]
    t = before / (before - after) if before != after else 0
    return (1 - t) * (false[i - 1] + missed[i - 1]) / 2 + t * (false[i] + missed[i]) / 2


def eer_in_loops(distances, same):
    best = None
    for t in sorted(set(distances.tolist())):
        false = sum(d <= t and not s for d, s in zip(distances, same, strict=True)) / sum(~same)
        missed = sum(d > t and s for d, s in zip(distances, same, strict=True)) / sum(same)
        if best is None or abs(false - missed) < best[0]:
            best = abs(false - missed), (false + missed) / 2
    return best[1]


def eer_with_searchsorted(distances, same):
    thresholds = np.unique(distances)
    false = np.searchsorted(np.sort(distances[~same]), thresholds, side="right") / (~same).sum()
    missed = 1 - np.searchsorted(np.sort(distances[same]), thresholds, side="right") / same.sum()
    i = np.abs(false - missed).round(9).argmin()
    return np.float64(0.5 * (false[i] + missed[i]))


def aurc(errors):
    return (np.cumsum(errors) / np.arange(1, len(errors) + 1)).mean()


def excess(d, w, order=None, best=None, spread=True, area=aurc):
    _, group, size = np.unique(d, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=w) / size
    ours = np.repeat(shares, size) if spread else w[np.argsort(d, kind="stable")]
    ours = ours[::-1] if order == "reversed" else ours
    return area(ours) - (area(np.sort(w)) if best is None else best(w))


def excess_in_loops(d, w):
    n, pairs = len(d), sorted(zip(d.tolist(), w.tolist(), strict=True))
    shares = []
    for distance, _ in pairs:
        tied = [wrong for other, wrong in pairs if other == distance]
        shares.append(sum(tied) / len(tied))
    best = sorted(w.tolist())
    return sum((sum(shares[:i]) - sum(best[:i])) / i for i in range(1, n + 1)) / n


def excess_by_the_harmonic_sum(d, w):
    n, k = len(w), int(w.sum())
    weights = np.array([sum(1 / j for j in range(i, n + 1)) for i in range(1, n + 1)]) / n
    order = np.argsort(d)
    place = np.empty(n)
    for value in np.unique(d):
        tied = np.flatnonzero(d[order] == value)
        place[order[tied]] = weights[tied].mean()
    return np.float64(place[w].sum() - weights[n - k :].sum())


def excess_of_many_orders(d, w):  # each group of ties spread by hand
    ours = np.empty(len(d))
    sorted_d, sorted_w = d[np.argsort(d)], w[np.argsort(d)].astype(float)
    for value in set(sorted_d.tolist()):
        ours[sorted_d == value] = sorted_w[sorted_d == value].mean()
    return aurc(ours) - aurc(np.r_[np.zeros((~w).sum()), np.ones(w.sum())])


WRONG = {
    check.exercise_1: [
        (
            lambda n, size, seed: deal(n, size, seed, lots=lambda n, size: -(-n // size)),
            "three lots of 3, and one class remains",
        ),
        (
            lambda n, size, seed: deal(n, size, seed, lots=lambda n, size: (n - 1) // size),
            "twelve classes hold three lots",
        ),
        (lambda n, size, seed: deal(n, size, seed, arrange=list), "sort each lot"),
        (lambda n, size, seed: deal(n, size, seed, order=lambda n, s: list(range(n))), "shuffle them first"),
        (lambda n, size, seed: deal(n, size, 0), "other seeds should deal other lots"),
        (lambda n, size, seed: deal(n, size, None), "the same seed should deal the same lots"),
        (
            lambda n, size, seed: deal(n, size, seed, order=lambda n, s: [c + 1 for c in order_of(n, s)]),
            "the classes are 0 to 9",
        ),
        (each_lot_for_itself, "a class was dealt twice"),
        (shuffled_lots, "shuffle the classes, not the lots"),
        (last_one_stays, "the class that remains"),
        (split_by_numpy, "every lot should have 3 classes"),
    ],
    check.exercise_2: [
        (lambda d, same: eer(-d, same), "small distances mean the same class"),
        (lambda d, same: eer(d, same, value=lambda f, m: abs(f - m)), "the difference of the two rates"),
        (lambda d, same: eer(d, same, value=lambda f, m: f), "the false-match rate alone"),
        (lambda d, same: eer(d, same, count_all=True), "a share of its own kind"),
        (lambda d, same: eer(d, same, matches=np.greater_equal), "small distances mean the same class"),
        (lambda d, same: eer(d, same, best=last_of_equals), "take the smaller one"),
        (
            lambda d, same: eer(d, same, thresholds=np.linspace(0, 1, 5)),
            "at threshold 0.3 both rates are 1/2",
        ),
        (
            lambda d, same: np.unique(d)[np.abs(np.subtract(*rates(d, same))).argmin()],
            "that is the threshold",
        ),
        (pair_by_pair, "between tied pairs"),
        (by_roc_curve, "drop_intermediate=False"),
        (interpolated, "no interpolation"),
        (lambda d, same: rates(d, same), "return one number"),
    ],
    check.exercise_3: [
        (lambda d, w: excess(d, w, best=lambda w: 0), "is the AURC itself"),
        (lambda d, w: excess(d, w, best=lambda w: w.mean()), "you took off the error rate"),
        (lambda d, w: excess(d, w, best=lambda w: w.mean() ** 2), "on 300 queries with ties"),
        (lambda d, w: excess(d, w, spread=False), "their order changed the result"),
        (lambda d, w: excess(d, w, order="reversed"), "come first"),
        (lambda d, w: excess(d, w, area=lambda e: aurc(e) * len(e)), "that is the sum over the coverages"),
        (
            lambda d, w: excess(d, w, area=np.mean),
            "whatever the order, you get 0",
        ),
        (lambda d, w: -excess(d, w), "less 1/16 for the best order"),
        (lambda d, w: excess(d, ~w), "right and wrong exchanged"),
        (
            lambda d, w: excess(d, w, area=lambda e: np.cumsum(e) / np.arange(1, len(e) + 1)),
            "return one number",
        ),
        (lambda d, w: excess(d, w, best=lambda w: aurc(np.sort(w)[::-1])), "all the wrong ones last"),
    ],
}
RIGHT = {
    check.exercise_1: [deal, deal_with_python, deal_as_a_table, deal_in_lists],
    check.exercise_2: [
        eer,
        eer_in_loops,
        eer_with_searchsorted,
        lambda d, same: np.float32(by_roc_curve(d, same, drop_intermediate=False)),
    ],
    check.exercise_3: [excess, excess_in_loops, excess_by_the_harmonic_sum, excess_of_many_orders],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
