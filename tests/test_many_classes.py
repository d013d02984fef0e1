"""The trainings on many classes of few pictures: what is measured, and that a series goes on where it was."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.data import EmojiSplit
from helpers.losses import SupConLoss
from helpers.metrics import map_at_r, recall_at_k

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))  # one tool imports another
spec = importlib.util.spec_from_file_location("many_classes", ROOT / "tools/many_classes.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def split():
    """Noise in three parts without a class in common; a class has four to six pictures."""
    rng = np.random.default_rng(0)
    parts = []
    for first, classes in ((0, 40), (40, 12), (52, 15)):
        labels = rng.permutation(np.repeat(np.arange(first, first + classes), rng.integers(4, 7, classes)))
        parts += [rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels]
    return EmojiSplit(*parts)


def test_the_figures_of_the_classes_are_those_of_the_whole(split):
    embeddings = np.random.default_rng(1).normal(size=(len(split.y_test), 4)).astype(np.float32)
    _, size = np.unique(split.y_test, return_counts=True)
    for of_each_class, whole in zip(
        tool.scores_by_class(embeddings, split.y_test),
        (recall_at_k(embeddings, split.y_test, k=1)[1], map_at_r(embeddings, split.y_test)),
        strict=True,
    ):
        assert len(of_each_class) == 15
        assert np.average(of_each_class, weights=size) == pytest.approx(
            whole, abs=6e-4
        )  # three digits are kept


def test_a_series_goes_on_where_it_was(tmp_path):
    calls = []

    def measure(value):
        calls.append(value)
        return {"test": value, "R@1 by class": [0.5]}

    path = tmp_path / "results.json"
    assert tool.Records(path).once("first", measure, 1)["test"] == 1
    again = tool.Records(path)
    assert again.once("first", measure, 2)["test"] == 1  # it is there already
    assert again.once("second", measure, value=3)["test"] == 3
    assert calls == [1, 3] and list(json.loads(path.read_text(encoding="utf-8"))) == ["first", "second"]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_so_many_classes_are_drawn_by_lot_and_no_others_seen(split, monkeypatch):
    seen = []

    def train(images, labels, loss, seed, **settings):
        seen.append(np.unique(labels))
        assert len(images) == len(labels) == np.isin(split.y_train, labels).sum() and settings == {
            "memory": 8
        }

    monkeypatch.setattr(tool, "train", train)
    monkeypatch.setattr(tool, "embed", lambda network, images: images.reshape(len(images), -1)[:, :50])
    for seed in (0, 0, 1):
        found = tool.unseen_emoji(split, SupConLoss(), seed, count=10, memory=8)
    assert list(found) == ["training", "validation", "test"]
    first, again, other = map(set, seen)
    assert len(first) == 10 and first == again != other
    tool.unseen_emoji(split, SupConLoss(), 0, memory=8)
    assert len(seen[-1]) == 40


def vectors(split, loss, seed, **settings):
    network = tool.train(split.x_train, split.y_train, loss, seed, classes_per_batch=6, **settings)
    return tool.embed(network, split.x_test)


def test_a_training_is_repeatable_and_follows_its_seed(split, monkeypatch):
    monkeypatch.setattr(tool, "STEPS", 2)
    first, again, other = (vectors(split, SupConLoss(), seed) for seed in (0, 0, 1))
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("settings", [{"memory": 64, "start": 1, "colours": 0.3}, {"proxies": True}])
def test_a_memory_and_proxies_train(split, monkeypatch, settings):
    monkeypatch.setattr(tool, "STEPS", 2)
    loss = tool.loss_of("CosFace", 16) if settings.get("proxies") else SupConLoss()
    lengths = np.linalg.norm(vectors(split, loss, 0, **settings), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
