"""The ingredients of the shipped embedding's recipe, one after another: what is trained and kept."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path.insert(0, str(TOOLS))  # one tool imports another
spec = importlib.util.spec_from_file_location("add_ingredients", TOOLS / "add_ingredients.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_from_lesson_4_to_the_whole_recipe():
    recipes = list(tool.recipes())
    assert recipes[0] == ("lesson 4", tool.LESSON_4)
    whole = {**tool.RECIPE, "cycles": tool.SHORT}
    assert recipes[-1] == ("+ twice as wide", whole)
    for (_, before), (ingredient, after) in itertools.pairwise(recipes):
        changed = [name for name in after if after[name] != before[name]]
        assert changed == [name for name in after if name in tool.ADDED[ingredient]] != []


def test_an_interrupted_series_goes_on_where_it_was(tmp_path, monkeypatch):
    trained = []

    def train(recipe, seed, data, folder):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(recipe)

    monkeypatch.setattr(tool, "RESULTS", tmp_path / "results/ingredients.json")
    monkeypatch.setattr(tool, "load", lambda name: None)
    monkeypatch.setattr(tool, "honest_split", lambda data: None)
    monkeypatch.setattr(tool, "train", train)
    monkeypatch.setattr(tool, "measure", lambda network, data: {"R@1": len(trained)})
    with pytest.raises(KeyboardInterrupt):
        tool.main()
    assert len(json.loads(tool.RESULTS.read_text(encoding="utf-8"))["runs"]) == 2
    trained.append(None)  # do not stop again at two
    tool.main()
    runs = json.loads(tool.RESULTS.read_text(encoding="utf-8"))["runs"]
    assert [run["ingredient"] for run in runs] == list(tool.ADDED)
    assert trained[3:] == [recipe for _, recipe in tool.recipes()][2:]

    monkeypatch.setattr(tool, "LESSON_4", {**tool.LESSON_4, "images_per_class": 3})
    with pytest.raises(SystemExit, match="delete it to start again"):
        tool.main()


def test_stored_results_are_complete_and_made_with_these_settings():
    document = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
    assert document["settings"] == dict(tool.recipes())
    assert [run["ingredient"] for run in document["runs"]] == list(tool.ADDED)
