"""The script that measures how near the checkpoints come to failing on other processors."""

import importlib.util
import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("check_margins", ROOT / "tools/check_margins.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def noted(cell, capsys, **variables):
    """What a rewritten cell notes: [(claim, kind, left or None, right or whether it holds)]."""
    exec(tool.rewrite(cell), {"np": np, "_margins": tool, **variables})
    last = capsys.readouterr().out.splitlines()[-1]
    return [
        (c["claim"], c["kind"], c.get("left"), c.get("right", c.get("holds")))
        for c in json.loads(last.removeprefix("MARGINS "))
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("assert x < 4", [("order", 3, 4)]),
        ("assert x > 1 and x >= 2", [("order", 1, 3), ("order", 2, 3)]),
        ("assert 1 < x <= 5", [("order", 1, 3), ("order", 3, 5)]),
        ("assert abs(x - 2.5) < 1", [("tolerance", 0.5, 1)]),
        ("assert abs(x) < 4", [("order", 3, 4)]),  # a size, not a distance
        ("assert np.abs(a - 2).max() <= 2", [("tolerance", 2, 2)]),
        ("assert (np.abs(np.subtract(a, 1)) < (2, 2, 9)).all()", [("tolerance", 1, 2)]),
        ("assert np.allclose(a, [0, 2.25, 4], atol=0.5, rtol=0)", [("tolerance", 0.25, 0.5)]),
        ("assert (a < 5).all()", [("order", 4, 5)]),  # the nearest element
        ("assert (np.diff(a) >= 0).all()", [("exact", 0, 2)]),
        ("assert all(v < 5 for v in a if v > 1)", [("order", 2, 5), ("order", 4, 5)]),
        ("for v in a:\n    assert v < 5, v", [("order", 0, 5), ("order", 2, 5), ("order", 4, 5)]),
        ("assert (a > 1).sum() > 1", [("order", 1, 2)]),  # the inner comparison claims nothing
        ("assert x == 3 and 'a' < 'b' and 3 in a[1:] - 1", []),
        ("if x == 3:\n    assert ((a >= 0) & (a < 5)).all()", [("exact", 0, 0), ("order", 4, 5)]),
    ],
)
def test_both_sides_of_a_claim_are_noted(capsys, cell, expected):
    found = noted(cell, capsys, x=3, a=np.array([0.0, 2.0, 4.0]))
    assert [c[1:] for c in found if c[1] != "outcome"] == expected
    outcomes = [c[3] for c in found if c[1] == "outcome"]
    assert outcomes and all(outcomes)


def test_a_failing_claim_is_noted_and_the_cell_goes_on(capsys):
    cell = "assert x < 2 and x > 0, 'too large'\nassert (a > 5).all()\nassert x == 3\nassert np.isclose(x, 4)"
    found = noted(cell, capsys, x=3, a=np.array([0.0, 9.0]))
    assert [c[3] for c in found if c[1] == "outcome"] == [False, False, True, False]


def test_what_is_no_claim_stays_as_it_is():
    assert tool.rewrite("x = 3\nprint(x < 4)") is None
    shown = "try:\n    assert x == 4\nexcept AssertionError:\n    print('as announced')"
    assert tool.rewrite(shown) is None
    rewritten = tool.rewrite(f"assert x < 4\n{shown}")
    assert "assert x == 4" in rewritten and "assert x < 4" not in rewritten


def test_every_cell_with_claims_is_understood():
    for path in sorted(ROOT.glob("notebooks/**/[0-9]*.ipynb")):
        for source in tool.code_of(path):
            if source.startswith("# Checkpoint"):
                assert "_margins.claim(" in tool.rewrite(source)


def sides(claim, kind, left, right):
    return {"claim": claim, "kind": kind, "left": left, "right": right}


def test_shares_of_the_tolerance():
    def cell(x):
        return [
            sides("abs(x - 1) < 0.1", "tolerance", abs(x - 1), 0.1),
            sides("x > 0.5", "order", 0.5, x),
            sides("same everywhere", "order", 0.5, 0.6),
            sides("in order", "exact", 0, x),
        ]

    used = tool.shares({"A": cell(1.0), "B": cell(0.95), "C": cell(0.4)})
    assert used == {
        "abs(x - 1) < 0.1": {"A": 0, "B": pytest.approx(0.5), "C": pytest.approx(6)},
        "x > 0.5": {"A": 0, "B": pytest.approx(0.1), "C": pytest.approx(1.2)},
    }


def test_of_a_claim_in_a_loop_the_nearest_evaluation_counts():
    used = tool.shares({
        "A": [sides("x < 1", "order", 0.2, 1), sides("x < 1", "order", 0.9, 1)],
        "B": [sides("x < 1", "order", 0.6, 1), sides("x < 1", "order", 0.8, 1)],
    })  # fmt: skip
    assert used["x < 1"] == {"A": pytest.approx(0.5), "B": pytest.approx(0.5)}  # 1 - 0.1/0.2, 1 - 0.4/0.8


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A lesson whose figure an environment variable moves, run in two settings."""
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "build")
    monkeypatch.setattr(tool, "SETTINGS", {"here": {}, "there": {"MOVED": "0.03"}})
    monkeypatch.setattr(tool, "PREPARE", tool.PREPARE.replace("{tools!r}", repr(str(ROOT / "tools"))))
    cells = [
        'import os\n\nfigure = 0.90 + float(os.environ.get("MOVED", "0"))\nprint(f"{figure:.1f}")',
        '# Checkpoint: near enough\nassert abs(figure - 0.90) < 0.04\nprint("Checkpoint passed: near")',
        '# Checkpoint: exact\nassert round(figure) == 1\nprint("Checkpoint passed: one")',
    ]
    path = tmp_path / "notebooks/03_figures.ipynb"
    path.parent.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    for cell, text in zip(
        notebook.cells, ("0.9", "Checkpoint passed: near", "Checkpoint passed: one"), strict=True
    ):
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text + "\n")]
    nbformat.write(notebook, path)
    return path


def measured(path, monkeypatch, capsys, *arguments):
    """The exit status and the rows of the table."""
    monkeypatch.setattr("sys.argv", ["check_margins.py", *arguments, str(path)])
    with pytest.raises(SystemExit) as end:
        tool.main()
    return end.value.code, capsys.readouterr().out.splitlines()


def test_a_notebook_in_two_settings(notebook, monkeypatch, capsys):
    before = notebook.read_bytes()
    code, lines = measured(notebook, monkeypatch, capsys)
    assert code == 1  # 75 % are more than two thirds
    assert lines[2] == "| 03_figures [1] | 0% | 75% | `abs(figure - 0.9) < 0.04` |"
    assert lines[3] == "| 03_figures [2] | exact | exact |  |"
    assert notebook.read_bytes() == before
    monkeypatch.setattr(tool, "run", None)  # the table again runs nothing
    assert measured(notebook, monkeypatch, capsys, "--report") == (code, lines)
    monkeypatch.setattr(tool, "ALLOWED", 0.8)
    assert measured(notebook, monkeypatch, capsys, "--report")[0] == 0


def test_a_failure_shows_in_its_setting(notebook, monkeypatch, capsys):
    monkeypatch.setattr(tool, "SETTINGS", {"here": {}, "there": {"MOVED": "0.7"}})
    code, lines = measured(notebook, monkeypatch, capsys)
    assert code == 1
    assert lines[2] == "| 03_figures [0] |  | exact fails |  |"  # another text than the stored one
    assert lines[4] == "| 03_figures [2] | exact | exact fails |  |"
    assert r"03_figures [0]: fails (there): prints '1.6\n' instead of '0.9\n'" in lines
    assert "03_figures [2]: fails (there): round(figure) == 1" in lines
