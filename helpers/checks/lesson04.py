"""Checks of lesson 4, GPU training."""

import time

import keras
import numpy as np

from helpers.checks import exercise
from helpers.training import one_cycle


@exercise(
    "a schedule is a function of the step and nothing else, which is why a resumed training can find its place"
)
def exercise_1(rate):
    assert abs(rate(0, 400, 1.0) - 0.1) < 1e-6, "at step 0 the rate should be peak / 10"
    assert abs(rate(100, 400, 1.0) - 1.0) < 1e-6, "at a quarter of the steps the rate should be the peak"
    assert abs(rate(50, 400, 1.0) - 0.55) < 1e-6, (
        "half-way up, it should be half-way between peak / 10 and peak"
    )
    assert abs(rate(400, 400, 1.0)) < 1e-6, "at the last step the rate should be 0"
    for steps, peak in ((400, 0.003), (403, 0.02)):
        schedule = one_cycle(peak, steps)
        for step in range(0, steps + 1, 50):
            expected = float(schedule(step))
            assert abs(rate(step, steps, peak) - expected) < 1e-5 * peak + 1e-8, (
                f"at step {step} of {steps} with peak {peak} the rate should be {expected:.6f}"
            )


@exercise(
    "one number about the loss and one about the embeddings tell three stories that the loss alone cannot"
)
def exercise_2(diagnose):
    rng = np.random.default_rng(0)
    apart = _on_sphere(rng.normal(size=(200, 16)))
    together = _on_sphere(rng.normal(size=(1, 16)) + 0.001 * rng.normal(size=(200, 16)))
    centres = _on_sphere(rng.normal(size=(4, 16)))
    by_class = _on_sphere(np.repeat(centres, 50, axis=0) + 0.001 * rng.normal(size=(200, 16)))
    falling, still = [0.6, 0.4, 0.3], [0.2, 0.201, 0.199]
    loose = _on_sphere(
        rng.normal(size=(1, 16)) + 0.11 * rng.normal(size=(200, 16))
    )  # mean distance about 0.15
    for losses, embeddings, expected, why in (
        (falling, apart, "learning", "spread embeddings and a falling loss"),
        (still, together, "collapsed", "all embeddings in one place"),
        ([0.9, 0.7, 0.693], together, "collapsed", "a falling loss does not excuse a collapse"),
        (still, apart, "look closer", "spread embeddings and a still loss"),
        (still, loose, "look closer", "a mean distance of 0.15 is no collapse; is yours squared?"),
        ([0.200, 0.185], apart, "learning", "from 0.2 to 0.185 the loss fell by 7.5 % of its first value"),
        ([1.00, 0.94], apart, "learning", "from 1.00 to 0.94 the loss fell by 6 %"),
        ([0.2, 0.3], apart, "look closer", "a rising loss is not learning"),
        ([1.0, 0.5, 1.0], apart, "look closer", "compare the first epoch with the last one"),
    ):
        answer = diagnose(losses, embeddings)
        assert answer == expected, f"{why}: expected {expected!r}, got {answer!r}"
    assert diagnose(falling, by_class) == "learning", (
        "four tight classes far from each other are no collapse: compare images from all over the array"
    )
    shuffled = by_class.reshape(4, 50, 16).transpose(1, 0, 2).reshape(200, 16)
    half = np.concatenate([shuffled[:100], shuffled[:100]])
    assert diagnose(falling, half) == "learning", (
        "images half an array apart may be alike too: draw pairs at random"
    )


@exercise("what counts as the budget is part of the result: measuring time must not be charged to the method")
def exercise_3(make_budget):
    # The spans are made of sleeps far longer than a step, so that a slow machine does not change the verdict.
    ran = _epochs_run(make_budget(0.0), epochs=3)
    assert ran == 1, f"a budget of 0 seconds should stop by the end of the first epoch; {ran} were run"
    ran = _epochs_run(make_budget(1000.0), epochs=3)
    assert ran == 3, f"a budget that is not used up should not stop anything; {ran} of 3 epochs were run"
    ran = _epochs_run(make_budget(1.5), epochs=3, pause=2.0)
    assert ran == 3, "pauses between epochs were charged to the budget: stop the watch at the end of an epoch"
    ran = _epochs_run(make_budget(1.6), epochs=8, loading=0.6)
    assert ran < 8, "epochs of 0.6 seconds did not use up 1.6: add the epochs up, and count waiting for data"
    assert ran in (2, 3), f"epochs of 0.6 seconds should use up 1.6 in the third; {ran} were run"


class _SlowData(keras.utils.PyDataset):
    """One batch an epoch, which takes its time."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def __len__(self):
        return 1

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return np.zeros((1, 1)), np.zeros((1, 1))


def _epochs_run(callback, epochs, pause=0.0, loading=0.0):
    """How many epochs of one batch a tiny model is trained for; pauses come between epochs, loading within them."""
    ran = []
    rest = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (ran.append(epoch), time.sleep(pause))
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(_SlowData(0.0), verbose=0)  # compiled before the watch starts
    model.fit(_SlowData(loading), epochs=epochs, verbose=0, callbacks=[callback, rest])
    return len(ran)


def _on_sphere(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)
