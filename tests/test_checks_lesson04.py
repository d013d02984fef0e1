"""A battery for the checks of lesson 4: wrong answers with their mistakes, right ones in other styles.

The third check measures seconds, so this file takes a minute or two.
"""

import math
import time

import keras
import numpy as np
from battery import accepts, refuses

from helpers.checks import lesson04 as check
from helpers.training import one_cycle


def rate(step, steps, peak, start=0.1, end=0.0, remaining=True, fall=lambda t: 0.5 * (1 + np.cos(np.pi * t))):
    warmup = steps // 4
    if step < warmup:
        return peak * (start + (1 - start) * step / warmup)
    t = (step - warmup) / (steps - warmup) if remaining else step / steps
    return peak * (end + (1 - end) * fall(t))


def quarter_not_rounded(step, steps, peak):
    warmup = steps / 4
    if step < warmup:
        return peak / 10 + 0.9 * peak * step / warmup
    return peak * 0.5 * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup)))


def peak_forgotten(step, steps, peak):
    return rate(step, steps, 1.0)


def rise_of_the_whole_peak(step, steps, peak):
    warmup = steps // 4
    return peak / 10 + peak * step / warmup if step < warmup else rate(step, steps, peak)


def rise_along_a_curve(step, steps, peak):
    warmup = steps // 4
    return peak * 0.1 * 10 ** (step / warmup) if step < warmup else rate(step, steps, peak)


def rate_as_one_expression(step, steps, peak):
    warmup = steps // 4
    up = np.interp(step, [0, warmup], [peak / 10, peak])
    down = peak * np.cos(np.pi / 2 * (step - warmup) / (steps - warmup)) ** 2
    return np.where(step < warmup, up, down)


def rate_with_math(step, steps, peak):
    warmup = int(steps * 0.25)
    if step <= warmup:
        return 0.1 * peak + 0.9 * peak * (step / warmup)
    return (peak + peak * math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def diagnose(losses, x, limit=0.1, spread=None, fell=lambda a: 1 - a[-1] / a[0] > 0.05, loss_first=False):
    spread = spread or random_pairs
    if loss_first and fell(losses):
        return "learning"
    if spread(np.asarray(x)) < limit:
        return "collapsed"
    return "learning" if fell(losses) else "look closer"


def random_pairs(x, seed=0):
    first, second = np.random.default_rng(seed).integers(0, len(x), (2, 1000))
    return np.linalg.norm(x[first] - x[second], axis=1).mean()


def all_pairs(x):
    d = np.linalg.norm(x[:, None] - x[None, :], axis=2)
    return d[~np.eye(len(x), dtype=bool)].mean()


def shuffled_neighbours(x):
    x = np.random.default_rng().permutation(x)
    return np.linalg.norm(np.diff(x, axis=0), axis=1).mean()


def next_ones(x):
    return np.linalg.norm(x[1:] - x[:-1], axis=1).mean()


def halves(x):
    return np.linalg.norm(x[: len(x) // 2] - x[len(x) // 2 :], axis=1).mean()


def to_the_centre(x):
    return np.linalg.norm(x - x.mean(axis=0), axis=1).mean()


def squared(x):
    return np.mean([((x[i] - x[-1 - j]) ** 2).sum() for i in range(90) for j in range(90)])


def spread(of):
    return lambda losses, x: diagnose(losses, x, spread=of)


def falls(fell):
    return lambda losses, x: diagnose(losses, x, fell=fell)


def shuffles_in_place(losses, x):
    np.random.default_rng(0).shuffle(x)
    return diagnose(losses, x)


class Budget(keras.callbacks.Callback):
    clock = staticmethod(time.monotonic)

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.spent = seconds, 0.0

    def on_train_begin(self, logs=None):
        self.spent = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.started = self.clock()

    def on_train_batch_end(self, batch, logs=None):
        if self.spent + self.clock() - self.started >= self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.spent += self.clock() - self.started


class WithTheWallClock(Budget):
    clock = staticmethod(time.time)


class WithAPerformanceCounter(Budget):
    clock = staticmethod(time.perf_counter)


class OnlyTheProcessor(Budget):
    clock = staticmethod(time.process_time)


class FromTheBeginning(Budget):
    def on_train_begin(self, logs=None):
        self.start = self.clock()

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = self.clock() - self.start >= self.seconds

    def on_epoch_end(self, epoch, logs=None):
        pass


class FromTheConstructor(FromTheBeginning):
    def __init__(self, seconds):
        super().__init__(seconds)
        self.start = self.clock()

    def on_train_begin(self, logs=None):
        pass


class EachEpochAnew(Budget):
    def on_epoch_end(self, epoch, logs=None):
        pass


class AfterTheEpochOnly(Budget):
    def on_train_batch_end(self, batch, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch)
        if self.spent >= self.seconds:
            self.model.stop_training = True


class Always(Budget):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = True


class Never(Budget):
    def on_train_batch_end(self, batch, logs=None):
        self.stop_training = True  # the callback's own, which nobody reads


class WithoutKeras:
    def __init__(self, seconds):
        self.seconds = seconds


class WithADeadline(keras.callbacks.Callback):
    """What is left of the budget, moved on by each pause."""

    def __init__(self, seconds):
        super().__init__()
        self.left = seconds

    def on_epoch_begin(self, epoch, logs=None):
        self.deadline = time.monotonic() + self.left

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.deadline:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.left = self.deadline - time.monotonic()


def budget_of_lambdas(seconds):
    spent, started = [0.0], [0.0]

    def begin(epoch, logs):
        started[0] = time.monotonic()

    def look(batch, logs):
        if spent[0] + time.monotonic() - started[0] >= seconds:
            callback.model.stop_training = True

    def end(epoch, logs):
        spent[0] += time.monotonic() - started[0]

    callback = keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end, on_train_batch_end=look)
    return callback


WRONG = {
    check.exercise_1: [
        (
            lambda step, steps, peak: rate(step, steps, peak, start=0),
            "at step 0 the rate should be peak / 10, not 0",
        ),
        (lambda step, steps, peak: rate(step, steps, peak, end=0.1), "the rate should be 0, not peak / 10"),
        (lambda step, steps, peak: rate(step, steps, peak, remaining=False), "a quarter of the steps"),
        (lambda step, steps, peak: rate(step, steps, peak, fall=lambda t: 1 - t), "not in a straight line"),
        (
            lambda step, steps, peak: rate(step, steps, peak, fall=lambda t: np.cos(np.pi / 2 * t)),
            "quarter of a cosine",
        ),
        (
            lambda step, steps, peak: rate(step, steps, peak, fall=lambda t: np.cos(np.pi * t)),
            "the rate should be 0",
        ),
        (quarter_not_rounded, "rounded down"),
        (peak_forgotten, "with peak 0.003"),
        (rise_of_the_whole_peak, "half-way up"),
        (rise_along_a_curve, "in a straight line"),
        (lambda step, steps, peak: [rate(step, steps, peak)], "return one number"),
        (lambda step, steps, peak: one_cycle(peak, steps), "return one number"),
    ],
    check.exercise_2: [
        (lambda losses, x: diagnose(losses, x, loss_first=True), "does not excuse a collapse"),
        (spread(next_ones), "compare images from all over the array"),
        (spread(halves), "draw pairs at random"),
        (spread(to_the_centre), "is yours the distance to the mean embedding"),
        (spread(squared), "is yours squared?"),
        (spread(lambda x: x.std(axis=0).mean()), "is yours squared?"),
        (falls(lambda a: a[0] - a[-1] > 0.05), "7.5 % of its first value"),
        (falls(lambda a: a[-1] < a[0]), "a still loss"),
        (falls(lambda a: min(a) < 0.95 * a[0]), "compare the first epoch with the last one"),
        (falls(lambda a: abs(1 - a[-1] / a[0]) > 0.05), "a rising loss is not learning"),
        (falls(lambda a: a[-2] - a[-1] > 0.05 * a[-2]), "compare the first epoch with the last one"),
        (lambda losses, x: diagnose(losses, x).title(), "return one of the three words"),
        (lambda losses, x: diagnose(losses, x) == "learning", "return one of the three words"),
        (shuffles_in_place, "shuffle a copy"),
    ],
    check.exercise_3: [
        (lambda seconds: Budget, "not the class itself"),
        (WithoutKeras, "derived from keras.callbacks.Callback"),
        (lambda seconds: seconds, "return a callback"),
        (Never, "a budget of 0 seconds should stop"),
        (Always, "should not stop anything"),
        (FromTheConstructor, "the time before the training"),
        (FromTheBeginning, "pauses between epochs were charged"),
        (OnlyTheProcessor, "count waiting for data"),
        (EachEpochAnew, "add the epochs up"),
        (AfterTheEpochOnly, "look at the watch after every batch"),
    ],
}
RIGHT = {
    check.exercise_1: [
        rate,
        rate_as_one_expression,
        rate_with_math,
        lambda step, steps, peak: np.float64(rate(step, steps, peak)),
    ],
    check.exercise_2: [
        diagnose,
        spread(all_pairs),
        spread(shuffled_neighbours),
        falls(lambda a: a[-1] < 0.95 * a[0]),
        lambda losses, x: str(np.array(diagnose(np.array(losses), x.tolist()))),
    ],
    check.exercise_3: [WithTheWallClock, WithAPerformanceCounter, WithADeadline, budget_of_lambdas],
}
test_wrong = refuses(WRONG)
test_right = accepts(RIGHT)
