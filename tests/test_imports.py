"""Who may import whom: a lesson that only searches starts without a deep-learning framework."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}
WITHOUT_FRAMEWORK = ["data", "pictures", "benchmarks", "retrieval", "metrics", "plots", "streaming", "photos"]
ALLOWED = {  # what each room knows of the others
    "pictures": set(),
    "data": {"pictures"},
    "benchmarks": {"pictures"},
    "sampling": set(),
    "losses": set(),
    "networks": {"losses"},
    "retrieval": set(),
    "metrics": {"retrieval"},
    "plots": set(),
    "streaming": set(),
    "training": {"metrics", "networks", "sampling"},
    "photos": {"pictures"},
    "app": {"data", "networks", "photos", "retrieval"},
}


def imports_of(module):
    for node in ast.walk(ast.parse((ROOT / f"helpers/{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_search_and_plots_start_no_framework():
    code = "import sys; " + "".join(f"import helpers.{module}; " for module in WITHOUT_FRAMEWORK)
    code += f"print(sorted({FRAMEWORKS} & set(sys.modules)))"
    environment = {**os.environ, "MPLBACKEND": "agg"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]\n"


@pytest.mark.parametrize("module", ALLOWED)
def test_imports_run_only_downward_and_through_keras(module):
    names = set(imports_of(module))
    assert not {name.split(".")[0] for name in names} & (FRAMEWORKS - {"keras"})
    assert {name.split(".")[1] for name in names if name.startswith("helpers.")} <= ALLOWED[module]


def test_every_room_is_listed():
    assert {path.stem for path in ROOT.glob("helpers/*.py")} - {"__init__"} == set(ALLOWED)
