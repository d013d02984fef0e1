"""The checks of lesson 03, network building."""

import contextlib
import unittest.mock
import warnings

import numpy as np

from helpers.checks import exercise, shown
from helpers.networks import embedding_network


@exercise(
    "a detector is shared by all places, and the average forgets the places, so the size of the picture costs nothing.",
    returns="one whole number",
)
def exercise_1(count_parameters):
    for channels, dimensions, filters in (
        (1, 64, (16, 32, 64)),
        (3, 32, (8,)),
        (1, 10, (4, 6)),
        (1, 128, (5, 7, 9)),
    ):
        answer = count_parameters(channels, dimensions, filters)
        asked = f"count_parameters({channels}, {dimensions}, {filters}) is {shown(answer)}"
        assert np.ndim(answer) == 0 and answer == int(answer), f"{asked}; it should be one whole number."
        answer = int(answer)
        right = embedding_network((28, 28, channels), dimensions, filters).count_params()
        into = (channels, *filters[:-1])  # channels that come into each stage
        mistakes = {
            "the measured mean and variance of batch normalisation (two numbers for each channel) are parameters too":
                -4 * sum(filters),
            "batch normalisation has four numbers for each channel, and each stage has two of it": -8 * sum(filters),
            "each stage has two blocks, each with its own batch normalisation": -4 * sum(filters),
            "the last layer has a bias for each dimension": -dimensions,
            "a convolution before batch normalisation has no bias": 2 * sum(filters),
            "the second block of a stage is missing": -sum(9 * w * w + 4 * w for w in filters),
            "the second block of a stage takes the stage's own width as input":
                sum(9 * w * (c - w) for c, w in zip(into, filters, strict=True)),
            "the last layer is missing": -(filters[-1] + 1) * dimensions,
        }  # fmt: skip
        for hint, off in mistakes.items():
            assert answer != right + off, f"{asked}, off by {off:+,}: {hint}?"
        assert answer == right, f"{asked}, but the network has {right:,}."


@exercise(
    "log(1 + eˣ) is a maximum with a rounded edge, near 0 or near x away from it; np.logaddexp(0, x) computes it "
    "without ever forming eˣ.",
    returns="an array (B,) of losses",
)
def exercise_2(soft_margin_loss):
    rng = np.random.default_rng(0)
    a, p, n = rng.normal(size=(3, 20, 5))
    to_positive, to_negative = np.linalg.norm(a - p, axis=1), np.linalg.norm(a - n, axis=1)
    x = to_positive - to_negative
    expected = np.logaddexp(0, x)
    loss = np.asarray(soft_margin_loss(a, p, n))
    assert loss.shape == (20,), f"one loss for each triplet, (20,), not {loss.shape}."
    wrong = {
        "these are *squared* distances: take the root before you compare.": np.logaddexp(
            0, to_positive**2 - to_negative**2
        ),
        "d_ap and d_an are exchanged.": np.logaddexp(0, -x),
        "the soft margin has no margin.": np.logaddexp(0, x + 0.2),
        "that is the edge, max(0, x); the soft margin is log(1 + eˣ).": np.maximum(0, x),
        "that is eˣ without its logarithm: log(1 + eˣ).": 1 + np.exp(x),
        "that is x itself: the logarithm of eˣ without the 1.": x,
        "that is the logarithm to the base 2: take the natural one.": expected / np.log(2),
        "that is the logarithm to the base 10: take the natural one.": expected / np.log(10),
        "the sign is turned round: a loss is positive here.": -expected,
        "the mean of all is in every place: each triplet has its own loss.": np.full(20, expected.mean()),
    }
    for message, values in wrong.items():
        assert not np.allclose(loss, values), message
    assert np.allclose(loss, expected), f"the first loss is {loss[0]:.4f}, not {expected[0]:.4f}."
    origin, far = np.zeros((1, 1)), np.full((1, 1), 1000.0)
    overflows = []
    for x, positive, negative in (("1,000", far, origin), ("−1,000", origin, far)):
        with warnings.catch_warnings(record=True) as caught, _watched_overflow(overflows):
            warnings.simplefilter("always")
            loss = np.asarray(soft_margin_loss(origin, positive, negative))
        right = 1000 if x == "1,000" else 0
        assert np.isfinite(loss).all(), (
            f"for x = {x} the loss is {loss[0]}: an exponential of 1,000 is too large for a float."
        )
        assert np.allclose(loss, right), f"for x = {x} the loss is {loss[0]:g}, not {right}."
        assert not overflows, (
            f"for x = {x} an exponential still overflows, and only its warning is switched off: never form it."
        )
        assert not caught, f"for x = {x} NumPy warns: {caught[0].message}."


@contextlib.contextmanager
def _watched_overflow(overflows):
    """Note what overflows within, also where `np.errstate` or a warnings filter would hide it."""

    def left_alone(*_, **__):
        return contextlib.nullcontext()

    with np.errstate(over="call", invalid="call", call=lambda kind, flag: overflows.append(kind)):
        with unittest.mock.patch.multiple(np, errstate=left_alone, seterr=left_alone):
            yield


@exercise(
    "every active triplet pulls and pushes with the same force, 1, however far its points are: only the direction and "
    "the number of active triplets decide what a batch teaches.",
    returns="an array (B, 3, d) of slopes",
)
def exercise_3(triplet_gradient):
    rng = np.random.default_rng(1)
    margin = 0.2
    triplets = rng.normal(size=(40, 3, 4))
    triplets[:10, 2] += 10  # easy: their negatives are far away
    found = np.asarray(triplet_gradient(*triplets.transpose(1, 0, 2), margin))
    assert found.shape != (3, 40, 4), (
        "the array should have shape (B, 3, d), yours is (3, B, d): stack along axis 1."
    )
    assert found.shape == (40, 3, 4), (
        f"the array should have shape (B, 3, d), here (40, 3, 4), not {found.shape}."
    )
    expected = _measured(triplets, margin)
    assert not np.allclose(found, -expected, atol=1e-4), (
        "the sign is turned round: that is the step, not the gradient."
    )
    a, p, n = triplets.transpose(1, 0, 2)
    differences, moved = np.stack([n - p, p - a, a - n], axis=1), found.any(axis=(1, 2))
    assert not any(moved.any() and np.allclose(found[moved], f * differences[moved]) for f in (1, 2)), (
        "that is the gradient of the *squared* distances: divide each difference by its length."
    )
    easy = (expected == 0).all(axis=(1, 2))
    assert (found[easy] == 0).all(), "an easy triplet, whose loss is 0, should have gradient 0."
    assert not np.allclose(found * easy.size, expected, atol=1e-4), (
        "the gradient of each triplet's own loss, no mean."
    )
    for i, j in ((1, 2), (0, 1), (0, 2)):
        swapped = found.copy()
        swapped[:, [i, j]] = swapped[:, [j, i]]
        assert not np.allclose(swapped, expected, atol=1e-4), (
            "two of the three slopes are exchanged: the order is anchor, positive, negative."
        )
    for i, role in enumerate(("anchor", "positive", "negative")):
        right = np.allclose(found[:, i], expected[:, i], atol=1e-4)
        turned = np.allclose(found[:, i], -expected[:, i], atol=1e-4)
        assert right, f"the slope for the {role} is not right" + (
            ": its sign is turned round." if turned else "."
        )
    wide = rng.normal(size=(8, 3, 2))
    right = np.allclose(triplet_gradient(*wide.transpose(1, 0, 2), 3.0), _measured(wide, 3.0), atol=1e-4)
    assert right, (
        "with a margin of 3 the gradient is not right: is the margin used to tell which triplets are active?"
    )
    twins = np.array([[[1.0, 2.0], [1.0, 2.0], [1.1, 2.0]], [[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = np.asarray(triplet_gradient(*twins.transpose(1, 0, 2), margin))
    assert np.isfinite(found).all(), "where two points coincide the gradient is not finite: 0 / 0?"
    expected = [[[1, 0], [0, 0], [-1, 0]], [[-0.6, -0.8], [0.6, 0.8], [0, 0]]]
    assert np.allclose(found, expected, atol=1e-4), (
        "where two points coincide, their distance should have slope 0, the other not."
    )


def _measured(triplets, margin, step=1e-6):
    def losses(triplets):
        anchor, positive, negative = triplets.transpose(1, 0, 2)
        difference = np.linalg.norm(anchor - positive, axis=1) - np.linalg.norm(anchor - negative, axis=1)
        return np.maximum(0, difference + margin)

    slopes = np.zeros_like(triplets)
    for index in np.ndindex(*triplets.shape[1:]):
        change = np.zeros_like(triplets)
        change[(slice(None), *index)] = step
        slopes[(slice(None), *index)] = (losses(triplets + change) - losses(triplets - change)) / (2 * step)
    return slopes
