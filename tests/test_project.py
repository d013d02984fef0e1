"""README, the workflow and the project's address say the same."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

from first_steps import commands  # noqa: E402
from repoint import repoint  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = ("README.md", "pyproject.toml", "tools/setup_cell.py")


def test_readme_opens_and_tests_this_folder_as_it_is():
    """`.ci/run` types these commands in a clone (tests/first_steps.py); here is what they may not say."""
    pairs = commands(README)
    assert set(pairs) == {"pip", "uv"}
    for opening, test in pairs.values():
        assert opening.endswith("jupyter lab notebooks/00_start_here.ipynb")
        assert test.endswith("pytest")
    assert not re.search(r"git clone|\bcd ", README.split("## The lessons")[0])
    assert f"git clone {PROJECT['project']['urls']['Repository']}" not in README


def test_continuous_integration_types_the_readme_s_commands():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert re.search(r"^python3 tests/first_steps\.py$", script, flags=re.M)
    _, test = commands(README)["uv"]
    assert f"\n{test}\n" in script
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
    assert script.index("export BROWSER_TESTS=required") < script.index(f"\n{commands(README)['uv'][1]}\n")
    assert "BROWSER_TESTS" in (ROOT / "tests/test_app_browser.py").read_text(encoding="utf-8")


THE_SAME_ON_EVERY_BACKEND = {  # unit tests that start Keras, and why TensorFlow's run is enough
    "test_app": "the engine searches with NumPy and FAISS; embedding pictures is test_networks'",
    "test_app_browser": "the page is the same",
    "test_benchmark_scripts": "the scripts measure TensorFlow",
    "test_checks_lesson04": "what a learner answers is judged by its weights and seconds, which the solution trains",
    "test_checks_lesson07": "maps are drawn of embeddings that are given",
    "test_compare_losses": "the tool's stored trainings are TensorFlow's",
    "test_data": "Keras only fetches a file here",
    "test_many_classes": "the tool's stored trainings are TensorFlow's",
    "test_pictures": "batches of picture files are NumPy's; drawing them is test_sampling's",
    "test_readme": "the names in README's block; what they do is tested in their rooms",
    "test_scoreboard": "the stored figures are TensorFlow's",
    "test_train_embedding": "the tool's stored trainings are TensorFlow's",
}


def test_continuous_integration_runs_every_backend():
    script = (ROOT / ".ci/backend").read_text(encoding="utf-8").replace("\\\n", " ")
    command = re.search(
        r"/bin/pytest\" -n 0 --nbval-cell-timeout=1800 --each-value-once (.*)$", script, flags=re.M
    )[1]
    rooms, lessons = re.fullmatch(r"tests/test_{(.*)}\.py +notebooks/{(.*)}\.ipynb", command).groups()
    assert [name[:2] for name in lessons.split(",")] == ["03", "04"]
    assert all((ROOT / f"notebooks/{name}.ipynb").exists() for name in lessons.split(","))
    tested = {f"test_{room}" for room in rooms.split(",")}
    starts_keras = re.compile(
        r"^ *(import keras|from keras|from helpers\.(app|losses|networks|sampling|training) |"
        r"from helpers import .*\b(app|losses|networks|sampling|training)\b)",
        flags=re.M,
    )
    unit_tests = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py")}
    start_keras = {name for name, text in unit_tests.items() if starts_keras.search(text)}
    assert start_keras | {"test_two_devices"} == tested | set(THE_SAME_ON_EVERY_BACKEND)
    for backend in ("jax", "torch"):
        assert f"\nbash .ci/backend {backend}" in (ROOT / ".ci/run").read_text(encoding="utf-8")
        assert f"`bash .ci/backend {backend}`" in README
