"""A battery for the checks of lesson 3: wrong answers with their mistakes, right ones in other styles."""

import itertools
import math
import warnings

import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson03 as check


def count(channels, dimensions, filters, blocks=2, norm=4, bias=0, own=True, last=True, last_bias=True):
    total = 0
    for width in filters:
        for block in range(blocks):
            total += 9 * channels * width + norm * width + bias * width
            channels = width if own or block == blocks - 1 else channels
    return total + (channels * dimensions if last else 0) + (dimensions if last and last_bias else 0)


def norm_once_a_stage(channels, dimensions, filters):
    return count(channels, dimensions, filters) - 4 * sum(filters)


def count_from_a_list_of_layers(channels, dimensions, filters):
    widths = [channels] + [w for w in filters for _ in range(2)]
    layers = [9 * a * b + 4 * b for a, b in itertools.pairwise(widths)]
    return sum(layers) + (widths[-1] + 1) * dimensions


def count_with_arrays(channels, dimensions, filters):
    widths = np.array([channels, *np.repeat(filters, 2)])
    return np.int64((9 * widths[:-1] * widths[1:] + 4 * widths[1:]).sum() + dimensions * (widths[-1] + 1))


def distances(a, p, n):
    return np.linalg.norm(a - p, axis=1), np.linalg.norm(a - n, axis=1)


def soft(change=lambda x: np.logaddexp(0, x)):
    def loss(a, p, n):
        near, far = distances(a, p, n)
        return change(near - far)

    return loss


def hidden_overflow(x):
    with np.errstate(over="ignore"):
        return np.where(x > 30, x, np.log1p(np.exp(x)))


def hidden_by_a_filter(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.where(x > 30, x, np.log(1 + np.exp(x)))


def clipped(x):
    return np.log1p(np.exp(np.minimum(x, 500)))


def one_sided(x):  # sound for large x; for small ones e^−x overflows
    return x + np.log1p(np.exp(-x))


def seen_overflow(x):
    return np.where(x > 30, x, np.log1p(np.exp(x)))


def squared_soft(a, p, n):
    return np.logaddexp(0, ((a - p) ** 2).sum(axis=1) - ((a - n) ** 2).sum(axis=1))


def soft_in_a_loop(a, p, n):
    losses = []
    for anchor, positive, negative in zip(a, p, n, strict=True):
        x = math.dist(anchor, positive) - math.dist(anchor, negative)
        losses.append(max(0.0, x) + math.log1p(math.exp(-abs(x))))
    return losses


def direction(a, b):
    difference = a - b
    distance = np.linalg.norm(difference, axis=1, keepdims=True)
    return difference / np.where(distance == 0, 1, distance), distance


def slopes(a, p, n, margin, active=True, care=True, unit=True, mean=False, axis=1):
    to_p, near = direction(a, p)
    to_n, far = direction(a, n)
    if not care:
        to_p, to_n = (a - p) / near, (a - n) / far
    if not unit:
        to_p, to_n = 2 * (a - p), 2 * (a - n)
    result = np.stack([to_p - to_n, -to_p, to_n], axis=1)
    if active:
        result = result * (near - far + margin > 0)[:, None]
    if mean:
        result = result / len(a)
    return result if axis == 1 else np.moveaxis(result, 1, axis)


def squared_to_the_end(a, p, n, margin):
    active = ((a - p) ** 2).sum(axis=1) - ((a - n) ** 2).sum(axis=1) + margin > 0
    return np.stack([n - p, p - a, a - n], axis=1) * active[:, None, None] * 2


def without_margin(a, p, n, margin):
    return slopes(a, p, n, 0.0)


def negative_turned(a, p, n, margin):
    result = slopes(a, p, n, margin)
    result[:, 2] *= -1
    return result


def anchor_of_the_positive_only(a, p, n, margin):
    result = slopes(a, p, n, margin)
    result[:, 0] = -result[:, 1]
    return result


def epsilon_in_the_root(a, p, n, margin):
    def unit(x, y):
        return (x - y) / np.sqrt(((x - y) ** 2).sum(axis=1, keepdims=True) + 1e-12)

    near, far = distances(a, p, n)
    to_p, to_n = unit(a, p), unit(a, n)
    return np.where((near - far + margin > 0)[:, None, None], np.stack([to_p - to_n, -to_p, to_n], 1), 0)


def slopes_in_a_loop(a, p, n, margin):
    result = []
    for anchor, positive, negative in zip(a, p, n, strict=True):
        near, far = np.linalg.norm(anchor - positive), np.linalg.norm(anchor - negative)
        to_p = (anchor - positive) / near if near else 0 * anchor
        to_n = (anchor - negative) / far if far else 0 * anchor
        active = float(near - far + margin > 0)
        result.append([active * (to_p - to_n), -active * to_p, active * to_n])
    return result


def slopes_in_float32(a, p, n, margin):
    return slopes(a, p, n, margin).astype(np.float32)


def slopes_with_safe_division(a, p, n, margin):
    near, far = (np.linalg.norm(x, axis=1)[:, None] for x in (a - p, a - n))
    to_p = np.divide(a - p, near, out=np.zeros_like(a), where=near > 0)
    to_n = np.divide(a - n, far, out=np.zeros_like(a), where=far > 0)
    result = np.empty((len(a), 3, a.shape[1]))
    result[:, 0], result[:, 1], result[:, 2] = to_p - to_n, -to_p, to_n
    result[(near - far + margin <= 0)[:, 0]] = 0
    return result


WRONG = {
    check.exercise_1: [
        (lambda c, d, f: count(c, d, f, norm=2), "the measured mean and variance of batch normalisation"),
        (lambda c, d, f: count(c, d, f, norm=0), "batch normalisation has four numbers"),
        (norm_once_a_stage, "batch normalisation"),
        (lambda c, d, f: count(c, d, f, last_bias=False), "the last layer has a bias"),
        (lambda c, d, f: count(c, d, f, bias=1), "a convolution before batch normalisation has no bias"),
        (lambda c, d, f: count(c, d, f, blocks=1), "the second block of a stage is missing"),
        (lambda c, d, f: count(c, d, f, own=False), "takes the stage's own width as input"),
        (lambda c, d, f: count(c, d, f, last=False), "the last layer is missing"),
        (lambda c, d, f: count(c, d, f) / 2, "but the network has 76,624"),
        (lambda c, d, f: count(c, d, f) + 0.5, "one whole number"),
        (lambda c, d, f: 76_624, "but the network has"),
        (lambda c, d, f: [count(c, d, f)], "one whole number"),
    ],
    check.exercise_2: [
        (squared_soft, "these are *squared* distances"),
        (soft(lambda x: np.logaddexp(0, -x)), "d_ap and d_an are exchanged"),
        (soft(lambda x: np.logaddexp(0, x + 0.2)), "the soft margin has no margin"),
        (soft(lambda x: np.maximum(0, x)), "that is the edge"),
        (soft(lambda x: 1 + np.exp(x)), "without its logarithm"),
        (soft(lambda x: np.log10(1 + np.exp(x))), "to the base 10"),
        (soft(lambda x: np.logaddexp2(0, x / np.log(2))), "to the base 2"),
        (soft(lambda x: np.logaddexp(0, x).mean()), "one loss for each triplet"),
        (soft(lambda x: np.logaddexp(0, x)[:, None]), "one loss for each triplet"),
        (soft(lambda x: np.log(1 + np.exp(x))), "for x = 1,000 the loss is inf: an exponential"),
        (soft(one_sided), "for x = −1,000 the loss is inf: an exponential"),
        (soft(clipped), "for x = 1,000 the loss is 500"),
        (soft(hidden_overflow), "only its warning is switched off"),
        (soft(hidden_by_a_filter), "only its warning is switched off"),
        (soft(seen_overflow), "an exponential still overflows"),
    ],
    check.exercise_3: [
        (lambda a, p, n, m: -slopes(a, p, n, m), "that is the step, not the gradient"),
        (lambda a, p, n, m: slopes(a, p, n, m, active=False), "an easy triplet"),
        (lambda a, p, n, m: slopes(a, p, n, m, care=False), "the gradient is not finite"),
        (lambda a, p, n, m: slopes(a, p, n, m, unit=False), "the *squared* distances"),
        (lambda a, p, n, m: slopes(a, p, n, m, unit=False, active=False) / 2, "the *squared* distances"),
        (squared_to_the_end, "the *squared* distances"),
        (lambda a, p, n, m: slopes(a, p, n, m, mean=True), "no mean"),
        (lambda a, p, n, m: slopes(a, p, n, m, axis=0), "stack along axis 1"),
        (lambda a, p, n, m: slopes(a, p, n, m, axis=2), "should have shape (B, 3, d)"),
        (lambda a, p, n, m: slopes(a, p, n, m)[:, [0, 2, 1]], "two of the three slopes are exchanged"),
        (without_margin, "is not right"),
        (negative_turned, "the slope for the negative is not right: its sign is turned round"),
        (anchor_of_the_positive_only, "the slope for the anchor is not right"),
    ],
}
RIGHT = {
    check.exercise_1: [
        count,
        count_from_a_list_of_layers,
        count_with_arrays,
        lambda c, d, f: float(count(c, d, f)),
    ],
    check.exercise_2: [
        soft(),
        soft(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
        soft(lambda x: -np.log(1 / (1 + np.exp(-np.abs(x)))) + np.where(x > 0, x, 0)),
        soft(lambda x: np.logaddexp(0, x).astype(np.float32)),
        soft_in_a_loop,
    ],
    check.exercise_3: [
        slopes,
        epsilon_in_the_root,
        slopes_in_a_loop,
        slopes_in_float32,
        slopes_with_safe_division,
    ],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
