"""README's own code block, in the earlier repository's words, does what it says."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers import metrics, networks, plots, retrieval, sampling

README = Path(__file__).resolve().parents[1] / "README.md"
FIRST_LINE = "gen = TripletGenerator()"
VOCABULARY = [
    "TripletGenerator()",
    "gen.flow(",
    "TripletNet(",
    "net.summary()",
    "net.model.fit(",
    "recall_at_kappa_support_query(",
    "recall_at_kappa_leave_one_out(",
    "find_l2_distances(",
    "show_images(",
    "plot_embedding(",
]


@pytest.fixture(scope="module")
def block():
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = [block for block in blocks if block.startswith(FIRST_LINE)]
    assert found, f"README.md has no ```python block whose first line is `{FIRST_LINE}`"
    assert len(found) == 1, f"README.md has {len(found)} blocks that start with `{FIRST_LINE}`"
    return found[0]


@pytest.mark.parametrize("word", VOCABULARY)
def test_readme_shows_the_earlier_vocabulary(block, word):
    assert word in block


def test_readme_block_runs(block, monkeypatch, tmp_path, capsys):
    pictures = []
    monkeypatch.setattr(plots, "display", pictures.append)
    rng = np.random.default_rng(0)
    namespace = {
        name: value
        for module in (sampling, networks, metrics, retrieval, plots)
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
    } | {
        "keras": keras,
        "np": np,
        "x_train": rng.integers(0, 256, (64, 28, 28, 1), dtype=np.uint8),
        "y_train": np.arange(64) % 4,
        "x_supp": rng.integers(0, 256, (32, 28, 28, 1), dtype=np.uint8),
        "y_supp": np.arange(32) % 4,
        "x_valid": rng.integers(0, 256, (32, 28, 28, 1), dtype=np.uint8),
        "y_valid": np.arange(32) % 4,
        "batch_size": 4,
        "steps": 2,
        "epochs": 1,
        "checkpoint": keras.callbacks.ModelCheckpoint(tmp_path / "checkpoint.keras"),
    }
    exec(compile(block, str(README), "exec"), namespace)
    assert (tmp_path / "checkpoint.keras").exists()
    assert namespace["net"].model.output_shape[1] == 3
    assert "anchor" in capsys.readouterr().out
    assert len(pictures) >= 2


def test_readme_shows_the_figures_of_the_record():
    record = json.loads((networks.WEIGHTS_FOLDER / "fashion_mnist.json").read_text(encoding="utf-8"))
    names = {"0": "seed 0, which ships"}
    expected = {}
    for seed, figures in record["figures of each seed"].items():
        expected[names.get(seed, f"seed {seed}")] = figures["after each cycle"][-1]
        expected[f"seed {seed}, with the mirror image"] = figures["with the mirror image"]
    expected["the shipped embedding"] = expected["seed 0, which ships"]
    expected["the same, each image with its mirror image"] = expected["seed 0, with the mirror image"]
    with_mirror = [list(f["with the mirror image"].values()) for f in record["figures of each seed"].values()]
    expected["mean of the three, with the mirror image"] = dict(enumerate(np.mean(with_mirror, axis=0)))
    lines = README.read_text(encoding="utf-8").splitlines()
    for name, figures in expected.items():
        assert f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |" in lines
