"""The training of the shipped embedding: its optimiser, and that it goes on where it was cut."""

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers import networks
from helpers.data import Dataset, HonestSplit
from helpers.networks import embed, load_pretrained

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("train_embedding", ROOT / "tools/train_embedding.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def one_step(optimizer, value, gradient, name="kernel"):
    variable = keras.Variable(value, name=name)
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 2, 64), (6, 5)])
def test_a_kernel_moves_as_the_matrix_that_it_is(shape):
    rng = np.random.default_rng(0)
    value, gradient = rng.normal(size=(2, *shape)).astype("float32")
    settings = {"learning_rate": 0.1, "weight_decay": 0.3}
    moved = one_step(tool.ConvolutionMuon(**settings), value, gradient)
    matrix = one_step(
        keras.optimizers.Muon(**settings), value.reshape(-1, shape[-1]), gradient.reshape(-1, shape[-1])
    )
    np.testing.assert_allclose(moved.reshape(matrix.shape), matrix, atol=1e-5)


def test_the_step_of_a_kernel_is_nearly_orthogonal():
    gradient = np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype("float32")
    step = one_step(tool.ConvolutionMuon(1.0, weight_decay=None, rms_rate=1 / 6), 0 * gradient, gradient)
    stretches = np.linalg.svd(step.reshape(36, 8), compute_uv=False)  # the rate undoes the factor √36
    assert 0.6 < stretches.min() and stretches.max() < 1.3


@pytest.mark.parametrize(("shape", "name"), [((8,), "bias"), ((10, 4), "proxies")])
def test_vectors_and_proxies_move_as_adam_moves_them(shape, name):
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    moved = one_step(tool.ConvolutionMuon(0.1, adam_weight_decay=0.0), 0 * gradient, gradient, name)
    np.testing.assert_allclose(moved, -0.1 * np.sign(gradient), atol=1e-4)  # Adam's first step


@pytest.fixture(scope="module")
def recipe():
    """The recipe, with a network and batches that take seconds: two cycles of 5 steps an epoch."""
    network = {"dimensions": 8, "filters": [4, 6]}
    cycles = [
        {**cycle, "epochs": epochs} for cycle, epochs in zip(tool.RECIPE["cycles"], (2, 3), strict=True)
    ]
    return {**tool.RECIPE, "network": network, "images_per_class": 4, "cycles": cycles}


@pytest.fixture(scope="module")
def small():
    """Noise to train on."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    images = rng.integers(0, 256, (200, 28, 28, 1), dtype="uint8")
    fields = {"x_train": images, "y_train": labels, "x_valid": images[:50], "y_valid": labels[:50]}
    return HonestSplit(**{name: fields.get(name) for name in HonestSplit._fields})


@pytest.fixture(scope="module")
def trained(recipe, small, tmp_path_factory):
    """The folder of a training that nothing disturbs, and its network; most of its time is building two graphs."""
    folder = tmp_path_factory.mktemp("backup")
    return folder, tool.train(recipe, 0, small, folder)


@pytest.fixture(scope="module")
def undisturbed(trained):
    return trained[1]


class PowerCut(keras.callbacks.Callback):
    """Stop in the middle of the second epoch of a cycle: of the first cycle, or of the one with three epochs."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_batch_end(self, batch, logs=None):
        if self.params["epochs"] == self.epochs and self.model.optimizer.iterations >= 8:
            raise KeyboardInterrupt


def test_a_training_interrupted_in_each_cycle_ends_where_an_undisturbed_one_ends(
    recipe, small, undisturbed, tmp_path
):
    for cycle in (0, 1):  # the second time, the training goes on in the first cycle and is cut in the second
        cut = PowerCut(recipe["cycles"][cycle]["epochs"])
        with pytest.raises(KeyboardInterrupt):
            tool.train(recipe, 0, small, tmp_path, [cut])
        assert [f.name for f in tmp_path.glob("*.h5")] == [f"cycle_{i}.weights.h5" for i in range(cycle)]
        record = json.loads((tmp_path / f"cycle_{cycle}/backup.json").read_text(encoding="utf-8"))
        assert record["file"] == "epoch_0001.npz"
    resumed = tool.train(recipe, 0, small, tmp_path)
    np.testing.assert_allclose(embed(resumed, small.x_valid), embed(undisturbed, small.x_valid), atol=1e-5)


def test_a_finished_cycle_is_not_trained_again(recipe, small, trained):
    folder, expected = trained
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = tool.train(recipe, 0, small, folder)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    np.testing.assert_array_equal(embed(again, small.x_valid), embed(expected, small.x_valid))


@pytest.mark.parametrize(
    "change",
    [{"loss_weights": [1.0, 0.0]}, {"optimiser": "Adam"}, {"flip": False}, {"shift": 0}, {"erase": False}],
)
def test_every_ingredient_makes_a_difference(recipe, small, trained, tmp_path, change):
    """In the first cycle; the others read the recipe with the same lines."""
    first = {"cycles": recipe["cycles"][:1]}
    expected = tool.train({**recipe, **first}, 0, small, trained[0])  # is finished there
    network = tool.train({**recipe, **first, **change}, 0, small, tmp_path)
    assert np.abs(embed(network, small.x_valid) - embed(expected, small.x_valid)).max() > 1e-3


@pytest.fixture
def weights_folder(recipe, tmp_path, monkeypatch):
    """A folder without weights, for the tool and for those who load them."""
    monkeypatch.setattr(tool, "RECIPE", recipe)
    for module in (tool, networks):
        monkeypatch.setattr(module, "WEIGHTS_FOLDER", tmp_path)
    return tmp_path


def test_what_is_written_is_what_is_loaded(recipe, small, undisturbed, weights_folder):
    tool.write(0, undisturbed, {"with the mirror image": 0.5})
    record = tool.stored_record()
    assert record["figures of each seed"] == {"0": {"with the mirror image": 0.5}}
    assert record["seed"] == 0 and record["recipe"] == recipe
    expected = embed(undisturbed, small.x_valid)
    np.testing.assert_allclose(embed(load_pretrained(), small.x_valid), expected, atol=1e-6)


def test_another_seed_leaves_only_its_figures(recipe, undisturbed, weights_folder, monkeypatch):
    tool.write(0, undisturbed, "of seed 0")
    before = tool.stored_record()
    tool.write(1, None, "of seed 1")
    assert tool.stored_record() == before | {"figures of each seed": {"0": "of seed 0", "1": "of seed 1"}}
    tool.write(0, undisturbed, "anew")
    assert tool.stored_record()["figures of each seed"] == {"0": "anew", "1": "of seed 1"}
    monkeypatch.setattr(tool, "RECIPE", {**recipe, "shift": 3})
    monkeypatch.setattr("sys.argv", ["train_embedding.py", "--seed", "1"])
    with pytest.raises(SystemExit, match="train seed 0 first"):
        tool.main()
    tool.write(0, undisturbed, "of another recipe")
    assert tool.stored_record()["figures of each seed"] == {"0": "of another recipe"}


def test_figures_with_the_mirror_image_are_those_of_both_embeddings(undisturbed, small):
    images, labels = np.repeat(small.x_train, 60, axis=0), np.repeat(small.y_train, 60)
    images = (images + np.random.default_rng(1).integers(0, 9, (12_000, 1, 1, 1))).astype("uint8")
    data = Dataset(images, labels, images[:100], labels[:100], [str(c) for c in range(10)])
    symmetric = data._replace(
        **{name: np.maximum(x, x[:, :, ::-1]) for name, x in data._asdict().items() if name.startswith("x_")}
    )
    assert tool.measure(undisturbed, symmetric) == tool.measure(undisturbed, symmetric, mirror=True)
    assert tool.measure(undisturbed, data) != tool.measure(undisturbed, data, mirror=True)
