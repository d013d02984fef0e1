"""How `conftest.py` shares the test files out among the cores."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("sharing", ROOT / "conftest.py")
sharing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sharing)

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def test_named_files_exist():
    assert all((ROOT / name).is_file() for name in sharing.LONGEST_FIRST)
    assert len(set(sharing.LONGEST_FIRST)) == len(sharing.LONGEST_FIRST)


@pytest.mark.parametrize(
    ("arguments", "cores", "gigabytes", "processes"),
    [
        (["tests", "notebooks"], 2, 8, 2),
        (["tests", "notebooks"], 8, 64, 8),
        (["tests", "notebooks"], 8, 16, 5),
        (["tests"], 1, 64, 0),
        (["tests"], 8, 2, 0),
        (["tests/test_data.py"], 8, 64, 0),
        (["tests/test_data.py::test_a", "tests/test_data.py::test_b"], 8, 64, 0),
        (["tests/test_data.py", "notebooks/05_l2_retrieval.ipynb"], 8, 64, 2),
    ],
)
def test_as_many_processes_as_there_are_cores_and_files_and_room_for(
    monkeypatch, arguments, cores, gigabytes, processes
):
    monkeypatch.setattr(sharing, "cores", lambda: cores)
    monkeypatch.setattr(sharing, "memory", lambda: gigabytes * 2**30)
    assert sharing.pytest_xdist_auto_num_workers(SimpleNamespace(args=arguments)) == processes


@pytest.mark.parametrize("processes", [0, 2])
def test_processes_share_the_threads_and_take_the_long_file_first(tmp_path, processes):
    text = (ROOT / "conftest.py").read_text(encoding="utf-8")
    text = text.replace(sharing.LONGEST_FIRST[-1], "z/test_long.py")
    (tmp_path / "conftest.py").write_text(text, encoding="utf-8")
    told = f"print('told', [os.environ.get(name) for name in {VARIABLES}])"
    test = f"import os\n\ndef test_one():\n    {told}\n"
    for place in ("a/test_short.py", "b/test_short_too.py", "z/test_long.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(test, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES and not k.startswith("PYTEST")}
    options = ["-v", "-rP", "-n", str(processes), "--dist=loadfile", "--no-loadscope-reorder"]
    command = [sys.executable, "-m", "pytest", *options]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout.splitlines()[-1]
    told = [line.split("[")[1] for line in run.stdout.splitlines() if line.startswith("told")]
    share = repr(str(max(1, sharing.cores() // 2))) if processes else "None"
    assert told == [", ".join([share] * 4) + "]"] * 3
    if not processes:
        first = next(line for line in run.stdout.splitlines() if "::test_one" in line)
        assert first.startswith("z/test_long.py")


def test_each_value_of_each_parameter_occurs_once_where_that_is_enough():
    def item(name, **params):
        brackets = f"[{'-'.join(map(str, params.values()))}]" if params else ""
        return SimpleNamespace(
            nodeid=f"t.py::{name}{brackets}",
            **({"callspec": SimpleNamespace(params=params)} if params else {}),
        )

    every = [item("both", a=a, b=b) for b in "xyz" for a in (1, 2)]
    others = [item("plain"), item("other", a=1), item("other", a=2)]
    kept = [i.nodeid for i in sharing.each_value_once(every + others)]
    assert kept == [
        "t.py::both[1-x]", "t.py::both[2-x]", "t.py::both[1-y]", "t.py::both[1-z]",
        "t.py::plain", "t.py::other[1]", "t.py::other[2]",
    ]  # fmt: skip
