"""README, the workflow and the project's address say the same."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from repoint import repoint  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = ("README.md", "pyproject.toml", "tools/setup_cell.py")


def test_continuous_integration_runs_the_readme_s_test_command():
    command = re.search(r"^uv run pytest$", README, flags=re.M)
    assert command, "README shows the test command on a line of its own"
    assert f"\n{command[0]}\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "bash .ci/run" in (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")


def test_environment_file_lists_no_dependency_of_its_own():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    entries = [line.strip() for line in text.splitlines() if line.strip().startswith("- ")]
    assert [re.split("[=<>]", e.removeprefix("- "))[0] for e in entries] == ["python", "pip", "pip:", "-e ."]


def test_no_registry_address_in_the_project():
    assert not re.search(
        r"index-url|find-links|pypi\.org", (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert "uv.lock" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_one_command_points_everything_to_a_fork_and_back(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    original = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    address = PROJECT["project"]["urls"]["Repository"]
    changed = repoint(tmp_path, "https://github.com/somebody/some-fork")
    notebooks = list(tmp_path.glob("notebooks/**/*.ipynb"))
    assert len(changed) == len(FILES) + len(notebooks)
    owner_and_name = address.removeprefix("https://github.com/")
    for path in changed:
        text = path.read_text(encoding="utf-8")
        assert f"colab.research.google.com/github/{owner_and_name}" not in text
        assert "github.com/somebody/some-fork" in text or "github/somebody/some-fork" in text
    repoint(tmp_path, address)
    assert original == {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_continuous_integration_does_not_skip_the_browser():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert script.index("export BROWSER_TESTS=required") < script.index("\nuv run pytest\n")
    assert "BROWSER_TESTS" in (ROOT / "tests/test_app_browser.py").read_text(encoding="utf-8")


def test_continuous_integration_runs_every_backend():
    tested = re.search(
        r"/bin/pytest\" (.*)$", (ROOT / ".ci/backend").read_text(encoding="utf-8"), flags=re.M
    )[1]
    unit_tests, lessons = re.fullmatch(r"(\S+) notebooks/{(.*)}\.ipynb", tested).groups()
    assert unit_tests == "tests"
    assert [name[:2] for name in lessons.split(",")] == ["00", "03", "04", "05"]
    assert all((ROOT / f"notebooks/{name}.ipynb").exists() for name in lessons.split(","))
    for backend in ("jax", "torch"):
        assert f"\nbash .ci/backend {backend}" in (ROOT / ".ci/run").read_text(encoding="utf-8")
        assert f"`bash .ci/backend {backend}`" in README
