"""Open lessons as Colab does: an empty folder, Colab's versions, nothing but the notebook file.

A stand-in takes the place of `google.colab`, and git fetches the course from this checkout instead of the network.
`.ci/run` calls this in an environment with Colab's packages.
"""

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Repository"
]
LESSONS = ("00_start_here", "05_l2_retrieval")
NOT_TO_BE_TOUCHED = ("tensorflow", "keras", "numpy", "ipykernel", "tornado", "scikit-learn")


def versions():
    code = "import importlib.metadata as m, sys; print([m.version(p) for p in sys.argv[1:]])"
    return subprocess.check_output([sys.executable, "-c", code, *NOT_TO_BE_TOUCHED], text=True)


def main():
    before = versions()
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder, "stand_in")
        stand_in.mkdir()
        (stand_in / "sitecustomize.py").write_text(
            "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n",
            encoding="utf-8",
        )
        # A clean clone, as the one that Colab would find on the branch main.
        clone = Path(folder, "repository")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["git", "-C", str(clone), "branch", "-q", "-f", "main", "HEAD"], check=False)
        os.environ |= {
            "PYTHONPATH": str(stand_in),
            "PYTEST_CURRENT_TEST": "colab",  # keeps TensorFlow's start-up lines out of the outputs
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf",
            "GIT_CONFIG_VALUE_0": REPOSITORY,
        }
        for name in LESSONS:
            empty = Path(folder, name)
            empty.mkdir()
            notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
            NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(empty)}}).execute()
            checkpoints = [c for c in notebook.cells if c.source.startswith("# Checkpoint")]
            assert checkpoints and all("Checkpoint passed" in c.outputs[0].text for c in checkpoints), name
            print(f"{name}: {len(checkpoints)} checkpoints passed")
    assert versions() == before, f"the set-up cell changed Colab's packages: {before} -> {versions()}"
    print("Colab's packages are untouched:", importlib.metadata.version("tensorflow"))


if __name__ == "__main__":
    main()
