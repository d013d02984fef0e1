"""The stored figures of lesson 10 fit the experiment that made them, and its checks know wrong answers."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from helpers.checks import lesson10 as check

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


def deal(classes, size, seed):
    order = np.random.default_rng(seed).permutation(classes)
    return [tuple(sorted(order[i : i + size].tolist())) for i in range(0, classes - size + 1, size)]


def independent_lots(classes, size, seed):
    rng = np.random.default_rng(seed)
    return [tuple(sorted(rng.choice(classes, size, replace=False).tolist())) for _ in range(classes // size)]


def equal_error_rate(distances, same):
    thresholds = np.unique(distances)
    false_matches = np.array([(distances[~same] <= t).mean() for t in thresholds])
    missed = np.array([(distances[same] > t).mean() for t in thresholds])
    best = np.abs(false_matches - missed).argmin()
    return (false_matches[best] + missed[best]) / 2


def equal_error_rate_ignoring_ties(distances, same):
    same = same[np.argsort(distances, kind="stable")]
    false_matches, missed = (~same).cumsum() / (~same).sum(), 1 - same.cumsum() / same.sum()
    best = np.abs(false_matches - missed).argmin()
    return (false_matches[best] + missed[best]) / 2


def aurc(wrong):
    return (np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean()


def aurc_itself(distances, wrong):
    return aurc(wrong[np.argsort(distances, kind="stable")])


def excess_ignoring_ties(distances, wrong):
    return aurc_itself(distances, wrong) - aurc(np.sort(wrong))


def excess(distances, wrong):
    spread = np.array([wrong[distances == d].mean() for d in distances])
    return aurc(spread[np.argsort(distances, kind="stable")]) - aurc(np.sort(wrong))


@pytest.mark.parametrize(
    ("number", "answer", "expected"),
    [
        (1, deal, "right: "),
        (1, lambda classes, size, seed: None, "not answered yet"),
        (1, independent_lots, "not right yet: a class was dealt twice"),
        (1, lambda classes, size, seed: deal(classes, size, 7), "not right yet: other seeds"),
        (1, lambda classes, size, seed: deal(classes, size, None), "not right yet: the same seed"),
        (
            1,
            lambda *a: [tuple(range(s, s + 3)) for s in (0, 3, 6)],
            "not right yet: these are the classes in",
        ),
        (2, equal_error_rate, "right: "),
        (2, equal_error_rate_ignoring_ties, "not right yet: four pairs at distance 0.5"),
        (2, lambda d, s: equal_error_rate(-d, s), "not right yet: a perfect order should give 0"),
        (3, excess, "right: "),
        (3, aurc_itself, "not right yet: 1/16 is the AURC itself"),
        (3, excess_ignoring_ties, "not right yet: four tied queries: their order"),
        (3, lambda d, w: excess(-d, w), "not right yet: the only error at the largest distance"),
    ],
)
def test_checks_know_right_and_wrong_answers(capsys, number, answer, expected):
    getattr(check, f"exercise_{number}")(answer)
    assert capsys.readouterr().out.startswith(expected)
