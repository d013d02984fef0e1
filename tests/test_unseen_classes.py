"""The stored figures of lesson 10 fit the experiment that made them."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "helpers/results/unseen_classes.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools/unseen_classes.py"))


def test_results_come_from_the_tool_as_it_is(results, tool):
    lots = [{"unseen": list(unseen), "valid": list(valid)} for unseen, valid in tool["PARTITIONS"]]
    assert results["partitions"] == lots
    assert results["seeds"] == list(tool["SEEDS"])
    assert results["training"] == {
        "steps": tool["STEPS"],
        "images a step": tool["IMAGES"],
        "peak": tool["PEAK"],
        "margin": tool["MARGIN"],
        "temperature": tool["TEMPERATURE"],
    }
    assert results["weights"] == list(tool["WEIGHTS"])


def test_classes_of_a_lot_are_disjoint_and_drawn_by_lot(results):
    shuffles = [np.random.default_rng(seed).permutation(10) for seed in (10, 11)]
    lots = [sorted(order[start : start + 3].tolist()) for order in shuffles for start in (0, 3, 6)]
    assert [lot["unseen"] for lot in results["partitions"]] == lots  # all of them: none was left out
    for i, lot in enumerate(results["partitions"]):
        rest = [c for c in range(10) if c not in lot["unseen"]]
        assert lot["valid"] == sorted(np.random.default_rng(100 + i).choice(rest, 2, replace=False).tolist())


def test_every_retriever_was_measured_on_every_lot_with_every_seed(results):
    lots, seeds = range(len(results["partitions"])), results["seeds"]
    found = [(r["partition"], r["retriever"], r["seed"]) for r in results["records"]]
    assert len(set(found)) == len(found)
    for retriever in ("untrained", "trained on seven", "glued", "trained on ten"):
        assert {(i, retriever, seed) for i in lots for seed in seeds} <= set(found)
    for retriever in ("raw pixels", "components"):
        assert {(i, retriever, None) for i in lots} <= set(found)
    for loss in ("semi-hard", "normalised softmax"):
        assert {(i, f"trained on seven, {loss}", seeds[0]) for i in lots} <= set(found)


def test_the_weight_is_the_one_that_the_validation_classes_chose(results):
    for record in results["records"]:
        if record["retriever"] == "glued":
            curve = results["validation"][record["partition"]]["glued"]["unseen"]
            assert record["weight"] == results["weights"][int(np.argmax(curve))]


def test_separation_of_classes_by_hand(tool):
    labels = np.repeat(np.arange(10), 2)
    places = np.array([4.0 * c + i for c in range(10) for i in (0, 1)])  # 0 and 1, 4 and 5, 8 and 9, …
    apart = tool["separations"](np.abs(places[:, None] - places), labels, labels)
    assert np.isclose(
        apart[0, 1], 4 / 0.5
    )  # 4 between the two; 0.5 within one, where half of the pairs are at 0
    assert np.isclose(apart[0, 2], 8 / 0.5) and np.allclose(apart, apart.T)


def test_a_measured_share_is_a_share(results):
    for record in results["records"]:
        for name, value in record.items():
            if ":" in name:
                assert 0 <= value <= 1, (record["partition"], record["retriever"], name)


def test_the_threshold_was_calibrated_at_one_per_cent(results):
    for record in results["records"]:
        assert 0.007 < record["seen–seen: false matches"] < 0.014
