"""The scripts in tests/benchmarks still run, on tiny sizes. No test is timed: none may depend on the machine."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests/benchmarks"
sys.path.insert(0, str(SCRIPTS))

import race  # noqa: E402

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these scripts measure the TensorFlow backend"
)


def test_contenders_take_turns_in_processes_of_their_own():
    command = [
        sys.executable,
        str(SCRIPTS / "search.py"),
        "--queries",
        "20",
        "--gallery",
        "200",
        "--rounds",
        "3",
    ]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert re.search(r"20 × 200 .* \d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\)", run.stdout), run.stdout


def test_a_contender_whose_library_is_missing_is_left_out_and_one_that_fails_says_why(tmp_path, capsys):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "import json, race\n"
        "def missing(): import no_such_module\n"
        "def failing(): print('not an answer'); return lambda: {}['the cause']\n"
        "race.contend(globals()[sys.argv[2]], json.loads(sys.argv[4]))\n",
        encoding="utf-8",
    )
    started = race.start(script, {"missing": sys.executable, "failing": sys.executable})
    assert list(started) == ["failing"]
    assert "no_such_module" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="the cause"):
        started["failing"].turn()


def test_ratios_turn_by_turn():
    ours, theirs = [{"seconds": s} for s in (1, 2, 4)], [{"seconds": s} for s in (2, 2, 2)]
    assert race.ratios(ours, theirs) == (1.0, 0.5, 2.0)
    assert race.as_text((1.0, 0.5, 20)) == "1.00 (0.50–20.00)"


@on_tensorflow
def test_loss_and_mining():
    script = importlib.import_module("loss_and_mining")
    turn = script.helpers_losses()
    for loss in script.LOSSES:
        found = turn(loss, 20, 0)
        assert found["loss"] > 0 and found["ms"] > 0, loss


@on_tensorflow
def test_throughput():
    script = importlib.import_module("throughput")
    assert script.keras_training(prefetch=True, steps=2)()["loss"] > 0


@on_tensorflow
def test_time_to_quality():
    script = importlib.import_module("time_to_quality")
    found = script.lesson_4(seed=0)(steps=2)
    assert 0 < found["trained"] and 0.2 < found["recall"] < 0.9
    assert 2.4e6 < script.earlier_network().count_params() < 2.6e6
    curve = [(1.0, 2.0, 0.7), (2.0, 4.0, 0.8)]
    assert script.reached(curve, 0.788) == (2.0, 4.0) and script.reached(curve, 0.89) is None


def test_the_recipe_that_is_timed_is_the_one_of_lesson_4():
    script = importlib.import_module("time_to_quality")
    lesson = json.loads((ROOT / "notebooks/04_gpu_training.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) + "\n" for cell in lesson["cells"])
    per_epoch, epochs, peak = re.search(
        r"^steps_per_epoch, epochs, peak = (.*), (.*), (.*)$", text, re.M
    ).groups()
    assert (int(per_epoch) * int(epochs), float(peak)) == (script.STEPS, script.PEAK)


def test_tsne(monkeypatch):
    script = importlib.import_module("tsne")
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    points = 10 * np.eye(3, 8)[labels] + rng.normal(size=(90, 8))
    monkeypatch.setattr(script, "embedded", lambda count: (points, labels))
    assert script.scikit_learn(1)(points=90)()["purity"] > 0.9


def test_first_picture():
    script = importlib.import_module("course_start")
    assert script.seconds_to_first_picture(["1 + 1", script.EMPTY], ROOT) > 0
    assert script.seconds_to_first_picture(["print('no picture')"], ROOT) is None


def test_the_peer_is_the_same_network():
    pytest.importorskip("pytorch_metric_learning")
    torch_peer = importlib.import_module("torch_peer")
    images = np.random.default_rng(0).integers(0, 256, (240, 28, 28, 1), dtype=np.uint8)
    training = torch_peer.Training(images, np.arange(240) % 10, steps=10, peak=0.006)
    state = [
        p for name, p in training.network.state_dict().items() if not name.endswith("num_batches_tracked")
    ]
    assert sum(p.numel() for p in state) == 76_624
    training.run(1)
    np.testing.assert_allclose(np.linalg.norm(training.embed(images[:5]), axis=1), 1, rtol=1e-5)
