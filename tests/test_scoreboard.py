"""The rows of the scoreboard that no lesson computes as a whole."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.data import honest_split, load, published_split
from helpers.metrics import map_at_r, recall_at_k
from helpers.networks import WEIGHTS_FOLDER, embed, embedding_network

README = Path(__file__).resolve().parents[1] / "README.md"


def row(retriever):
    """The three entries of a retriever's row, as text."""
    (line,) = [
        line
        for line in README.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {retriever} |")
    ]
    return [entry.strip() for entry in line.split("|")[2:5]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends draw other weights")
def test_untrained_network():
    data = load("fashion_mnist")
    published, honest = published_split(data), honest_split(data)
    figures = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        network = embedding_network()
        query, gallery, test, train = (
            embed(network, images)
            for images in (published.x_query, published.x_gallery, honest.x_query, honest.x_gallery)
        )
        figures.append(
            [
                recall_at_k(query, published.y_query, gallery, published.y_gallery, k=1)[1],
                recall_at_k(test, honest.y_query, train, honest.y_gallery, k=1)[1],
                map_at_r(test, honest.y_query),
            ]
        )
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
