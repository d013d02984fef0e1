"""A file that is loaded is data: nothing in it is ever run, here or in what the course shows."""

import ast
import os
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*ROOT.glob("helpers/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("notebooks/**/*.ipynb")]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SHOWS_WHY_NOT = "lesson-12-060"  # the cell that loads a file in the unsafe way, to see what happens
CALLS = {"eval", "exec", "enable_unsafe_deserialization", "read_pickle", "unsafe_load"}


def python_of(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(c.source for c in cells if c.cell_type == "code" and c.id != SHOWS_WHY_NOT)


def unsafe(source):
    """What in a Python source could run code from a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            owner = getattr(getattr(node.func, "value", None), "id", None)
            if name in CALLS or (owner, name) == ("torch", "load"):
                found.append(name)
            for keyword in node.keywords:
                allowed = {"allow_pickle": False, "safe_mode": True}
                if keyword.arg in allowed:
                    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                    if value is not allowed[keyword.arg]:
                        found.append(keyword.arg)
    return found


def test_only_the_cell_that_shows_why_not_is_left_out():
    cells = nbformat.read(ROOT / "notebooks/12_search_app.ipynb", as_version=4).cells
    (left_out,) = [c for c in cells if c.id == SHOWS_WHY_NOT]
    assert unsafe(left_out.source) == ["safe_mode"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_loads_in_an_unsafe_way(path):
    assert unsafe(python_of(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "keras.saving.load_model(f, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "exec(open(f, encoding='utf-8').read())",
    ],
)
def test_an_unsafe_way_would_be_found(source):
    assert len(unsafe(source)) == 1


class Trap:
    """When unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["trap.npy", "trap.npz"])
def test_pickled_objects_are_refused(tmp_path, name):
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, trap, allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        loaded = np.load(tmp_path / name)
        loaded["arr_0"]
    assert not (tmp_path / "sprung").exists()


def saved_network(folder, layer):
    keras.Sequential([keras.Input((3,)), layer]).save(folder / "network.keras")
    return folder / "network.keras"


def test_a_network_that_carries_code_is_refused(tmp_path):
    folder = tmp_path / "sprung"
    path = saved_network(
        tmp_path, keras.layers.Lambda(lambda x, folder=str(folder): (__import__("os").makedirs(folder), x)[1])
    )
    folder.rmdir()  # its own computation made it once
    with pytest.raises(ValueError, match="unsafe"):
        keras.saving.load_model(path)
    assert not folder.exists()


def test_a_network_that_names_a_function_of_python_is_refused(tmp_path):
    """Its configuration asks for `os.makedirs`, as if that were an activation."""
    import json
    import zipfile

    path = saved_network(tmp_path, keras.layers.Dense(2, activation="relu"))
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    dense = config["config"]["layers"][-1]["config"]
    dense["activation"] = {
        "module": "os", "class_name": "function", "config": "makedirs", "registered_name": "makedirs"
    }  # fmt: skip
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises((TypeError, ValueError), match=r"makedirs|deserialize"):
        keras.saving.load_model(path)
