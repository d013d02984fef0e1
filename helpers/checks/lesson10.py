"""Checks of lesson 10, unseen classes."""

import numpy as np

from helpers.checks import exercise, number


@exercise(
    "every class is unseen in at most one lot, so the lots' results rest on different classes",
    returns="a list of sorted tuples of class numbers",
)
def exercise_1(deal):
    def dealt_by(classes, size, seed):
        return [tuple(int(c) for c in lot) for lot in deal(classes, size, seed)]

    lots = dealt_by(10, 3, 0)
    assert len(lots) == 3, (
        f"ten classes hold three lots of 3, and one class remains; you dealt {len(lots)} lots"
    )
    assert all(len(lot) == 3 for lot in lots), f"every lot should have 3 classes: {lots}"
    dealt = [c for lot in lots for c in lot]
    assert set(dealt) <= set(range(10)), f"the classes are 0 to 9, you dealt {sorted(dealt)}"
    assert len(set(dealt)) == 9, f"a class was dealt twice: {lots}"
    assert all(list(lot) == sorted(lot) for lot in lots), f"sort each lot: {lots}"
    assert lots != [(0, 1, 2), (3, 4, 5), (6, 7, 8)], (
        "these are the classes in their order: shuffle them first"
    )
    again = dealt_by(10, 3, 0)
    assert again == lots, "the same seed should deal the same lots: make the generator from the seed"
    others = {tuple(dealt_by(10, 3, seed)) for seed in range(20)}
    partners = {(deal_[0][0], deal_[0][1]) for deal_ in others}
    assert len(others) == 1 or len(partners) > 3, (
        "the same classes stay together whatever the seed: shuffle the classes, not the lots"
    )
    assert len(others) > 10, "other seeds should deal other lots"
    remaining = {c for deal_ in others for c in set(range(10)) - {c for lot in deal_ for c in lot}}
    assert len(remaining) > 3, "the class that remains should be another one from seed to seed"
    whole = dealt_by(12, 4, 0)
    assert len(whole) == 3, (
        f"twelve classes hold three lots of 4, with nothing left; you dealt {len(whole)} lots"
    )
    assert sorted(c for lot in whole for c in lot) == list(range(12)), (
        f"the classes are 0 to 11, you dealt {whole}"
    )
    sizes = [len(lot) for lot in dealt_by(100, 8, 5)]
    assert sizes == [8] * 12, f"a hundred classes hold twelve lots of 8, your lots have the sizes {sizes}"


@exercise(
    "one number, and a fair one for comparing; a gate still needs the threshold for the error that it can afford",
    returns="one number between 0 and 1",
)
def exercise_2(equal_error_rate):
    def rate(distances, same):
        return number(equal_error_rate(np.array(distances, dtype=float), np.array(same, dtype=bool)))

    value = rate([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0])
    assert not _near(value, 1), "a perfect order should give 0: small distances mean the same class"
    assert not _near(value, 0.2), "that is the threshold: return the mean of the two rates there"
    assert _near(value, 0), f"a perfect order should give 0, not {value:.3f}"
    value = rate([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])
    assert not _near(value, 0), "that is the difference of the two rates: return their mean"
    assert not _near(value, 0.5), (
        "each rate is a share of its own kind: divide by the different, and by the same pairs"
    )
    assert _near(value, 1), f"the reversed order should give 1, not {value:.3f}"
    value = rate([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0])
    assert _near(value, 0.5), (
        f"at threshold 0.2 one of two different pairs matches and one of two same pairs does not: 0.5, not {value:.3f}"
    )
    value = rate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1, 0, 0, 0, 0, 1])
    assert not _near(value, 0.25), (
        "a threshold that occurs is left out: roc_curve drops some, unless drop_intermediate=False"
    )
    assert _near(value, 0.5), f"at threshold 0.3 both rates are 1/2, so the result is 0.5, not {value:.3f}"
    value = rate([0.1, 0.2, 0.2, 0.3], [1, 0, 0, 1])
    assert not _near(value, 0), "that is the false-match rate alone: return the mean of the two rates"
    assert not _near(value, 0.75), "two thresholds have the same difference: take the smaller one"
    assert not _near(value, 0.5), (
        "that lies between two thresholds, or between tied pairs: take one of those that occur, and no "
        "interpolation"
    )
    assert _near(value, 0.25), (
        f"at threshold 0.1 the rates are 0 and 1/2, at 0.2 they are 1 and 1/2: the smaller threshold's mean is 0.25, "
        f"not {value:.3f}"
    )
    same = [1] * 3 + [0] * 6
    value = rate([0.1, 0.2, 0.5, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9], same)
    assert not _near(value, 2 / 9), (
        "divide false matches by the different pairs, missed matches by the same pairs"
    )
    assert _near(value, 1 / 3), (
        f"three same and six different pairs, at threshold 0.4 both rates are 1/3, not {value:.3f}"
    )
    tied = [0.1, 0.5, 0.5, 0.5, 0.5, 0.9]
    one, other = rate(tied, [1, 1, 1, 0, 0, 0]), rate(tied, [1, 0, 0, 1, 1, 0])
    assert _near(one, other), (
        f"four pairs at distance 0.5: their order changed the result from {one:.3f} to {other:.3f}; they all match or "
        "none does"
    )
    assert _near(one, 1 / 3), (
        f"with the ties, threshold 0.1 gives 0 and 2/3, threshold 0.5 gives 2/3 and 0: mean 1/3, not {one:.3f}"
    )
    rng = np.random.default_rng(10)
    same = rng.random(600) < 0.2
    distances = (rng.normal(0.8, 0.2, 600) - 0.3 * same).round(1)
    expected = _equal_error_rate_naively(distances, same)
    value = rate(distances, same)
    assert _near(value, expected), f"on 600 pairs with ties, expected {expected:.4f}, got {value:.4f}"


def _equal_error_rate_naively(distances, same):
    best = None
    for threshold in sorted(set(distances)):
        false_matches = sum(d <= threshold for d in distances[~same]) / (~same).sum()
        missed = sum(d > threshold for d in distances[same]) / same.sum()
        if best is None or abs(false_matches - missed) < best[0]:
            best = abs(false_matches - missed), (false_matches + missed) / 2
    return best[1]


@exercise(
    "what remains after the best order is taken off is the price of not knowing which answers are wrong",
    returns="one number, 0 or more",
)
def exercise_3(excess_aurc):
    def excess(distances, wrong):
        return number(excess_aurc(np.array(distances, dtype=float), np.array(wrong, dtype=bool)))

    worst = (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
    value = excess([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1])
    assert not _near(value, 1 / 16), "1/16 is the AURC itself: take off what the best order has"
    assert not _near(value, 1 / 16 - 1 / 4), (
        "you took off the error rate, 1/4: the best order has no risk until its errors come, at the end, 1/16 in all"
    )
    assert not _near(value, worst - 1 / 16), (
        "small distances, the most confident answers, come first; yours are last, or right and wrong exchanged"
    )
    assert value > -1e-9, (
        f"no order is better than the best, all the wrong ones last: the excess cannot be {value:.4f}"
    )
    assert _near(value, 0), f"the only error at the largest distance is the best order: 0, not {value:.4f}"
    value = excess([0.4, 0.3, 0.2, 0.1], [0, 0, 0, 1])
    assert not _near(value, 0), (
        "whatever the order, you get 0: the risk at a coverage is the mean of the answers up to there, the AURC the "
        "mean of those running means"
    )
    assert not _near(value, 4 * (worst - 1 / 16)), "that is the sum over the coverages: take the mean"
    assert not _near(value, worst), f"{worst:.4f} is the AURC itself: take off what the best order has"
    assert _near(value, worst - 1 / 16), (
        f"the only error at the smallest distance: risks 1, 1/2, 1/3, 1/4, less 1/16 for the best order, is "
        f"{worst - 1 / 16:.4f}, not {value:.4f}"
    )
    assert _near(excess([3, 1, 2], [1, 1, 1]), 0), "if all answers are wrong, no order is better: 0"
    assert _near(excess([3, 1, 2], [0, 0, 0]), 0), "if no answer is wrong, no order is better: 0"
    first, second = excess([0.5] * 4, [0, 0, 0, 1]), excess([0.5] * 4, [1, 0, 0, 0])
    assert _near(first, second), (
        f"four tied queries: their order changed the result from {first:.4f} to {second:.4f}"
    )
    assert _near(first, 1 / 4 - 1 / 16), (
        f"four tied queries with one error have risk 1/4 at every coverage, less 1/16 is {3 / 16:.4f}, not {first:.4f}"
    )
    rng = np.random.default_rng(11)
    wrong = rng.random(300) < 0.3
    distances = (rng.random(300) + 0.3 * wrong).round(1)
    expected = _excess_naively(distances, wrong)
    value = excess(distances, wrong)
    assert value > -1e-9, f"no order is better than the best one, so the excess cannot be {value:.4f}"
    assert _near(value, expected), f"on 300 queries with ties, expected {expected:.4f}, got {value:.4f}"


def _excess_naively(distances, wrong):
    spread = {d: wrong[distances == d].mean() for d in set(distances)}
    ours = [spread[d] for d in sorted(distances)]
    best = sorted(wrong.tolist())
    n = len(wrong)
    return sum((sum(ours[: i + 1]) - sum(best[: i + 1])) / (i + 1) for i in range(n)) / n


def _near(a, b):
    return abs(a - b) < 1e-6
