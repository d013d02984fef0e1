"""The rows of the scoreboard that no lesson computes as a whole."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.data import load
from helpers.networks import WEIGHTS_FOLDER, embedding_network

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from train_embedding import measure  # noqa: E402

README = ROOT / "README.md"


def row(retriever):
    """The three entries of a retriever's row, as text."""
    (line,) = [
        line
        for line in README.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {retriever} |")
    ]
    return [entry.strip() for entry in line.split("|")[2:5]]


def test_raw_pixels_leave_one_out():
    data = load("fashion_mnist")
    pixels, labels = data.x_test.reshape(len(data.x_test), -1).astype(float), data.y_test
    squares, precisions, first = (pixels**2).sum(axis=1), [], []
    for start in range(0, len(pixels), 500):
        rows = np.arange(start, start + 500)
        distances = squares - 2 * pixels[rows] @ pixels.T  # less the query's own part; whole numbers
        distances[np.arange(500), rows] = np.inf  # no image answers itself
        hits = (
            labels[distances.argsort(axis=1, kind="stable")[:, :999]] == labels[rows, None]
        )  # 999 of each class
        precisions += list((hits.cumsum(axis=1) / np.arange(1, 1000) * hits).mean(axis=1))
        first += list(hits[:, 0])
    assert f"{np.mean(precisions):.3f}" == row("raw pixels")[2]
    assert f"{np.mean(first):.3f}" == "0.809"  # lesson 6 quotes it


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends draw other weights")
def test_untrained_network():
    data, figures = load("fashion_mnist"), []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        figures.append(list(measure(embedding_network(), data).values()))
    expected = [[float(end) for end in entry.split("–")] for entry in row("untrained network, three seeds")]
    lowest_and_highest = np.stack([np.min(figures, axis=0), np.max(figures, axis=0)], axis=1)  # (3, 2)
    np.testing.assert_allclose(lowest_and_highest, expected, atol=0.006)  # rounded to two digits


def test_shipped_embedding():
    record = json.loads((WEIGHTS_FOLDER / "fashion_mnist.json").read_text(encoding="utf-8"))
    figures = record["figures of each seed"][str(record["seed"])]
    for retriever, of_these in (
        ("the shipped embedding", figures["after each cycle"][-1]),
        ("the same, each image with its mirror image", figures["with the mirror image"]),
    ):
        np.testing.assert_allclose(
            [float(entry) for entry in row(retriever)], list(of_these.values()), atol=0.00051
        )
