"""The comparison of the losses: what it trains, measures and keeps."""

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.data import Dataset

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("compare_losses", ROOT / "tools/compare_losses.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope="module")
def noise():
    """Pictures without any meaning, as many as the tool's slices need to leave some for training."""
    rng = np.random.default_rng(0)
    labels = np.arange(12_000) % 10
    images = rng.integers(0, 256, (12_000, 14, 14, 1), dtype="uint8")
    return Dataset(images, labels, images[:5000], labels[:5000], [str(c) for c in range(10)])


def test_half_size_is_the_mean_of_four():
    image = np.arange(16, dtype="uint8").reshape(1, 4, 4, 1)
    assert tool.half_size(image)[0, :, :, 0].tolist() == [[2, 4], [10, 12]]  # 2.5, 4.5, 10.5 and 12.5, cut


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the stored trainings are TensorFlow's")
@pytest.mark.parametrize("name", tool.LOSSES)
def test_a_training_is_repeatable_and_sees_only_its_classes(noise, name):
    classes, (_, _, _, values) = [1, 2, 7], tool.LOSSES[name]
    weights = []
    for labels in (noise.y_train, np.where(noise.y_train == 5, 6, noise.y_train)):  # the others do not matter
        network = tool.train(noise._replace(y_train=labels), classes, name, values[0], 0.01, steps=2, seed=3)
        weights.append(network.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    other = tool.train(noise, classes, name, values[0], 0.01, steps=2, seed=4).get_weights()
    assert not np.allclose(other[0], weights[0][0])


def test_scores_ask_for_some_classes_in_the_whole_gallery():
    query, gallery = np.array([[0.0], [10.0]]), np.array([[1.0], [2.0], [11.0], [12.0]])
    result = tool.scores(query, np.array([0, 1]), gallery, np.array([0, 1, 1, 0]), unseen=(1,))
    assert result == {"seen": [1.0, 0.5], "unseen": [1.0, 0.5]}


def test_best_setting_is_that_of_the_protocol():
    runs = [
        {"loss": "a", "value": 1, "peak": 2, "seen": [0, 0.5], "unseen": [1, 0.1]},
        {"loss": "a", "value": 3, "peak": 4, "seen": [1, 0.4], "unseen": [0, 0.2]},
        {"loss": "b", "value": 5, "peak": 6, "seen": [1, 0.9], "unseen": [1, 0.9]},
    ]
    assert tool.best({"tuning": runs}, "a", "seen") == (1, 2)
    assert tool.best({"tuning": runs}, "a", "unseen") == (3, 4)


def test_tuning_classes_are_unseen_in_no_partition():
    assert not {*tool.TUNING_CLASSES} & {c for partition in tool.PARTITIONS for c in partition}


def test_stored_results_are_complete_and_made_with_these_settings():
    document = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
    assert document["settings"] == tool.fingerprint()
    for stored, wanted in (
        (document["tuning"], list(tool.tuning_runs())),
        (document["runs"], list(tool.final_runs())),
    ):
        assert len(stored) == len(wanted)
        for run in wanted:
            assert sum(run.items() <= other.items() for other in stored) == 1
    for run in document["runs"]:
        protocol = "seen" if run["partition"] is None else "unseen"
        assert (run["value"], run["peak"]) == tool.best(document, run["loss"], protocol)
