"""Checks of lesson 4, GPU training."""

import time

import keras
import numpy as np

from helpers.checks import exercise, guarded, number, shown
from helpers.training import one_cycle


@exercise(
    "a schedule is a function of the step and nothing else, which is why a resumed training can find its place",
    returns="one number, the learning rate",
)
def exercise_1(rate):
    def at(step, steps, peak):
        return number(rate(step, steps, peak))

    assert abs(at(0, 400, 1.0)) > 1e-6, "at step 0 the rate should be peak / 10, not 0"
    assert abs(at(0, 400, 1.0) - 0.1) < 1e-6, (
        f"at step 0 the rate should be peak / 10, not {at(0, 400, 1.0):.4g}"
    )
    top = at(100, 400, 1.0)
    assert abs(top - 1.0) < 1e-6, f"at a quarter of the steps the rate should be the peak, not {top:.4g}"
    half = at(50, 400, 1.0)
    assert abs(half - 0.5) > 1e-6, "half-way up it is 0.5: the straight line begins at peak / 10, not at 0"
    assert abs(half - 0.55) < 1e-6, (
        f"half-way up, it should be half-way between peak / 10 and peak, 0.55 of it, not {half:.4g}: in a straight line"
    )
    last = at(400, 400, 1.0)
    assert abs(last - 0.1) > 1e-6, "at the last step the rate should be 0, not peak / 10"
    assert abs(last) < 1e-6, f"at the last step the rate should be 0, not {last:.4g}"
    third = at(200, 400, 1.0)
    assert abs(third - 2 / 3) > 1e-6, "after the peak it falls along half a cosine, not in a straight line"
    assert abs(third - np.cos(np.pi / 6)) > 1e-6, (
        "that is a quarter of a cosine wave: ½ (1 + cos(π t)) is half of it"
    )
    assert abs(third - 0.5 * (1 + np.cos(np.pi / 2))) > 1e-6, (
        "t counts from 0 to 1 over the steps that *remain* after the first quarter, not over all"
    )
    assert abs(at(103, 413, 1.0) - 1) < 1e-9, (
        "a quarter of 413 steps is 103, rounded down: there the rate is the peak"
    )
    for steps, peak in ((400, 0.003), (403, 0.02)):
        schedule = one_cycle(peak, steps)
        for step in (*range(0, steps, 50), steps):
            expected, value = float(schedule(step)), at(step, steps, peak)
            assert abs(value - expected) < 1e-5 * peak + 1e-8, (
                f"at step {step} of {steps} with peak {peak} the rate should be {expected:.6f}, not {value:.6f}"
            )


@exercise(
    "one number about the loss and one about the embeddings tell three stories that the loss alone cannot",
    returns='"collapsed", "learning" or "look closer"',
)
def exercise_2(diagnose):
    rng = np.random.default_rng(0)
    apart = _on_sphere(rng.normal(size=(200, 16)))
    together = _on_sphere(rng.normal(size=(1, 16)) + 0.001 * rng.normal(size=(200, 16)))
    centres = _on_sphere(rng.normal(size=(4, 16)))
    by_class = _on_sphere(np.repeat(centres, 50, axis=0) + 0.001 * rng.normal(size=(200, 16)))
    falling, still = [0.6, 0.4, 0.3], [0.2, 0.201, 0.199]
    loose = _at_distance(0.15, rng)
    for losses, embeddings, expected, why in (
        (falling, apart, "learning", "spread embeddings and a falling loss"),
        (still, together, "collapsed", "all embeddings in one place"),
        ([0.9, 0.7, 0.693], together, "collapsed", "a falling loss does not excuse a collapse"),
        (still, apart, "look closer", "spread embeddings and a still loss"),
        (still, loose, "look closer", "a mean distance of 0.15 is no collapse; is yours squared?"),
        (
            still,
            _at_distance(0.12, rng),
            "look closer",
            "a mean distance of 0.12 between pairs is no collapse; is yours the distance to the mean embedding, 0.085?",
        ),
        (still, _at_distance(0.08, rng), "collapsed", "a mean distance of 0.08 between pairs is below 0.1"),
        ([0.200, 0.185], apart, "learning", "from 0.2 to 0.185 the loss fell by 7.5 % of its first value"),
        ([1.00, 0.94], apart, "learning", "from 1.00 to 0.94 the loss fell by 6 %"),
        ([0.2, 0.3], apart, "look closer", "a rising loss is not learning"),
        (
            [0.9, 0.5, 0.499],
            apart,
            "learning",
            "the loss fell by 45 %: compare the first epoch with the last one",
        ),
        ([1.0, 0.5, 1.0], apart, "look closer", "compare the first epoch with the last one"),
    ):
        given = embeddings.copy()
        answer = diagnose(losses, embeddings)
        assert np.array_equal(embeddings, given), "your function changes the embeddings: shuffle a copy"
        assert isinstance(answer, str) and answer in ("collapsed", "learning", "look closer"), (
            f'return one of the three words "collapsed", "learning", "look closer", not {shown(answer)}'
        )
        assert answer == expected, f"{why}: expected {expected!r}, got {answer!r}"
    assert diagnose(falling, by_class) == "learning", (
        "four tight classes far from each other are no collapse: compare images from all over the array"
    )
    shuffled = by_class.reshape(4, 50, 16).transpose(1, 0, 2).reshape(200, 16)
    half = np.concatenate([shuffled[:100], shuffled[:100]])
    assert diagnose(falling, half) == "learning", (
        "images half an array apart may be alike too: draw pairs at random"
    )


@exercise(
    "what counts as the budget is part of the result: measuring time must not be charged to the method",
    returns="the callback, an object of a class derived from keras.callbacks.Callback",
)
def exercise_3(make_budget):
    # The spans are made of sleeps far longer than a step, so that a slow machine does not change the verdict.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(_SlowData(0.0, 1), verbose=0)  # compiled before any watch starts
    started = time.monotonic()
    model.fit(_SlowData(0.0, 1), epochs=3, verbose=0)
    second = max(0.4, 6 * (time.monotonic() - started))  # on a busy machine all spans are longer

    def run(seconds, epochs, batches=1, **spans):
        spans = {name: second * span for name, span in spans.items()}
        return _batches_run(model, make_budget, second * seconds, epochs, batches, **spans)

    ran = run(0.0, epochs=3)
    assert ran == 1, f"a budget of 0 seconds should stop by the end of the first epoch; {ran} were run"
    ran = run(1000.0, epochs=3, waiting=0.1)
    assert ran == 3, f"a budget that is not used up should not stop anything; {ran} of 3 epochs were run"
    ran = run(0.9, epochs=2, waiting=1.2)
    assert ran == 2, "the time before the training was charged to the budget: start the watch with the epoch"
    ran = run(1.0, epochs=3, pause=1.3)
    assert ran == 3, "pauses between epochs were charged to the budget: stop the watch at the end of an epoch"
    ran = run(1.6, epochs=8, loading=0.6)
    assert ran < 8, "epochs of 0.6 seconds did not use up 1.6: add the epochs up, and count waiting for data"
    assert ran in (2, 3), f"epochs of 0.6 seconds should use up 1.6 in the third; {ran} were run"
    ran = run(1.0, epochs=1, loading=0.4, batches=8)
    assert ran < 8, (
        "one epoch of 8 batches, 0.4 seconds each, went on to its end with a budget of 1 second: look at the watch "
        "after every batch, in on_train_batch_end"
    )
    assert ran in (2, 3, 4), f"batches of 0.4 seconds should use up 1 second in the third; {ran} were run"


class _SlowData(keras.utils.PyDataset):
    """Batches which take their time."""

    def __init__(self, seconds, batches):
        super().__init__()
        self.seconds, self.batches = seconds, batches

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return np.zeros((1, 1)), np.zeros((1, 1))


def _batches_run(model, make_budget, seconds, epochs, batches, waiting=0.0, pause=0.0, loading=0.0):
    """How many batches the model is trained for; waiting comes before, pauses between epochs, loading within them."""
    ran = []
    rest = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ran.append(batch),
        on_epoch_end=lambda epoch, logs: time.sleep(pause),
    )
    callback = make_budget(seconds)
    assert isinstance(callback, keras.callbacks.Callback), (
        "return a callback, an object of your class derived from keras.callbacks.Callback, "
        + ("not the class itself: call it" if isinstance(callback, type) else f"not {shown(callback)}")
    )
    time.sleep(waiting)
    guarded(model.fit)(_SlowData(loading, batches), epochs=epochs, verbose=0, callbacks=[callback, rest])
    return len(ran)


def _at_distance(distance, rng):
    """Embeddings (200, 16) on the sphere whose pairs have about this mean distance."""
    x = rng.normal(size=16)
    spread = rng.normal(size=(200, 16))
    near = _on_sphere(4 * x / np.linalg.norm(x) + 0.1 * spread)
    measured = np.linalg.norm(near[:, None] - near[None, :], axis=2).mean()
    return _on_sphere(4 * x / np.linalg.norm(x) + 0.1 * distance / measured * spread)


def _on_sphere(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)
