"""The house rules that every notebook keeps."""

import base64
import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from scoreboard import rendered  # noqa: E402

LESSONS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
SOLUTIONS = sorted(ROOT.glob("notebooks/solutions/*.ipynb"))
SETUP_CELL = (ROOT / "tools/setup_cell.py").read_text(encoding="utf-8").rstrip("\n")
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Repository"
]
STARS = ("★", "★★", "★★★")
FAR_END = re.compile(r"/(?:home|root|tmp|work|Users|content)/\w|[A-Z]:\\\\")  # a path of somebody's machine

each_notebook = pytest.mark.parametrize("path", LESSONS + SOLUTIONS, ids=lambda p: str(p.relative_to(ROOT)))
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)


def cells(path, kind=None):
    return [c for c in nbformat.read(path, as_version=4).cells if kind in (None, c.cell_type)]


def prose(path):
    return "\n\n".join(c.source for c in cells(path, "markdown"))


def headings(path):
    """(level, text) of every heading; a `#` inside a fenced block is not one."""
    text = re.sub(r"^```.*?^```", "", prose(path), flags=re.M | re.S)
    return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#+) (.+)$", text, flags=re.M)]


def exercises(path):
    return [title for _, title in headings(path) if title.startswith("Exercise ")]


def is_ignored(cell):
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def test_there_are_lessons_numbered_from_zero():
    numbers = [int(p.name[:2]) for p in LESSONS]
    assert numbers == list(range(13))


def test_every_lesson_has_solutions_under_the_same_name():
    assert [p.name for p in LESSONS] == [p.name for p in SOLUTIONS]


@each_notebook
def test_notebook_is_valid_and_small(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size < 3_000_000


@each_notebook
def test_executed_in_order_without_errors_or_stderr(path):
    code = [c for c in cells(path, "code") if c.source.strip()]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source


@each_notebook
def test_no_machine_path_and_no_progress_debris(path):
    for cell in cells(path):
        assert not FAR_END.search(cell.source), cell.source
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if k != "image/png"}
            text = output.get("text", "") + json.dumps(data)
            assert not FAR_END.search(text), text
            assert "\r" not in text and "\x08" not in text and "\x1b" not in text, text


@each_notebook
def test_every_figure_has_alt_text(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert output.metadata.get("image/png", {}).get("alt", "").strip(), cell.source
            assert "image/svg+xml" not in output.get("data", {}), "nbval compares SVG: use PNG"


@each_notebook
def test_setup_cell_comes_first_and_is_identical(path):
    code = cells(path, "code")
    assert code[0].source == SETUP_CELL
    assert code[0].metadata.get("cellView") == "form"
    assert code[0].metadata.get("jupyter", {}).get("source_hidden") is True
    assert sum("google.colab" in c.source for c in code) == 1


@each_notebook
def test_badge_opens_this_notebook_on_colab(path):
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    place = path.relative_to(ROOT).as_posix()
    address = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/{place}"
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    assert f"[![Open in Colab]({badge})]({address})" in cells(path)[0].source


@each_notebook
def test_links_to_files_resolve(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"https?://|#|attachment:", target):
            assert (path.parent / target.split("#")[0]).exists(), target


@each_notebook
def test_cells_are_short(path):
    for cell in cells(path, "code")[1:]:
        lines = [
            line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
        assert len(lines) <= 30, cell.source


@each_lesson
def test_anatomy(path):
    number = int(path.name[:2])
    found = headings(path)
    assert re.fullmatch(rf"{number} · .+", found[0][1]) and found[0][0] == 1
    assert sum(level == 1 for level, _ in found) == 1
    first = cells(path)[0].source
    for label in ("**You will**", "**You need**", "**Time**"):
        assert label in first, label
    sections = [title for level, title in found if level == 2]
    assert any(title.startswith("What goes wrong") for title in sections)
    assert sections[-4:] == ["What you have now", "Exercises", "Quiz", "References"]
    assert len(exercises(path)) == 3
    for i, title in enumerate(exercises(path)):
        assert re.fullmatch(rf"Exercise {i + 1} {STARS[i]} · .+", title), title
    text = prose(path)
    assert text.count("<details>") == text.count("</details>") == 3
    assert "**Scoreboard**" in text or number == 0


@each_lesson
def test_reading_time_is_counted(path):
    """200 words a minute and 10 s for each cell of code; more than 45 minutes would be two lessons."""
    words = len(prose(path).split())
    counted = words / 200 + len(cells(path, "code")[1:]) / 6
    stated = int(re.search(r"\*\*Time\*\* reading (\d+) min", cells(path)[0].source)[1])
    assert abs(stated - counted) <= 2.5 and counted <= 45, counted
    running = re.search(r"running (.+) on two CPU cores", cells(path)[0].source)[1]
    (row,) = [
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| [") and f"](notebooks/{path.name})" in line
    ]
    assert f"| {stated} min · {running} |" in row


@each_lesson
def test_checkpoints_assert_and_print_one_line(path):
    checkpoints = [c for c in cells(path, "code") if c.source.startswith("# Checkpoint")]
    assert len(checkpoints) >= 2
    for cell in checkpoints:
        assert "assert " in cell.source, cell.source
        assert not is_ignored(cell), cell.source
        assert len(cell.outputs) == 1 and cell.outputs[0].text.startswith("Checkpoint passed: "), cell.source
        assert cell.outputs[0].text.count("\n") == 1, cell.source


@each_lesson
def test_untouched_exercises_say_so(path):
    stubs = [c for c in cells(path, "code") if "check.exercise_" in c.source]
    assert len(stubs) == 3
    for cell in stubs:
        assert cell.outputs[0].text == "not answered yet\n", cell.source
        assert not is_ignored(cell)


@each_lesson
def test_next_lesson_is_linked(path):
    if path != LESSONS[-1]:
        following = LESSONS[LESSONS.index(path) + 1].name
        assert f"]({following})" in cells(path)[-1].source


@each_lesson
def test_first_lesson_and_readme_lead_to_every_lesson(path):
    if path != LESSONS[0]:
        assert f"]({path.name})" in prose(LESSONS[0])
    assert f"](notebooks/{path.name})" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)
def test_solutions_match_the_exercises_and_are_right(path):
    lesson = path.parents[1] / path.name
    assert exercises(path) == exercises(lesson)
    checked = [c for c in cells(path, "code") if "check.exercise_" in c.source]
    assert len(checked) == 3
    for i, cell in enumerate(checked):
        assert f"check.exercise_{i + 1}(" in cell.source
        assert not is_ignored(cell)
        assert cell.outputs[-1].text.splitlines()[-1].startswith("right: "), cell.source


@each_notebook
def test_most_cells_with_outputs_are_compared(path):
    with_outputs = [c for c in cells(path, "code") if c.outputs]
    strict = [c for c in with_outputs if not is_ignored(c)]
    assert len(strict) >= 2 / 3 * len(with_outputs), f"{len(strict)} of {len(with_outputs)}"


def test_scoreboards_are_written_from_one_file():
    for path in [*LESSONS, ROOT / "README.md"]:
        lesson = int(path.name[:2]) if path.suffix == ".ipynb" else 99
        text = prose(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        expected = rendered(text, lesson)
        assert expected == (text, int(lesson > 0)), f"{path.name}: run python tools/scoreboard.py"
        assert text.count("**Scoreboard**\n\n| ") == int(lesson > 0)


def test_pictures_are_those_that_the_lessons_drew():
    drawn = {}
    for path in LESSONS:
        for cell in cells(path, "code"):
            names = [t.removeprefix("pic-") for t in cell.metadata.get("tags", []) if t.startswith("pic-")]
            pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            drawn |= dict(zip(names, pictures, strict=True)) if names else {}
    stored = {p.stem: base64.b64encode(p.read_bytes()).decode() for p in (ROOT / "pic").glob("*.png")}
    assert {k: v.replace("\n", "") for k, v in drawn.items()} == stored


def test_one_repository_address():
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'"{REPOSITORY}"' in SETUP_CELL
    for path in LESSONS:
        place = path.relative_to(ROOT).as_posix()
        assert f"https://colab.research.google.com/github/{owner_and_name}/blob/main/{place}" in readme
