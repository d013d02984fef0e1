"""What each ingredient of the shipped embedding's recipe gives, as lesson 4 draws it.

    python tools/add_ingredients.py

Lesson 4's recipe, and then one ingredient after another, with two epochs each: the results go to
`helpers/results/ingredients.json`. Interrupted, the same command goes on with the first training that is missing.
"""

import json
import tempfile
from pathlib import Path

from train_embedding import RECIPE, measure, train

import helpers
from helpers.data import honest_split, load
from helpers.training import leave_input_untuned

RESULTS = Path(helpers.__file__).parent / "results/ingredients.json"
SEED = 0
SHORT = [{**RECIPE["cycles"][0], "epochs": 2}]
LESSON_4 = {
    **RECIPE,
    "network": {"dimensions": 64, "filters": [16, 32, 64]},
    "flip": False,
    "shift": 0,
    "erase": False,
    "loss_weights": [1.0, 0.0],
    "optimiser": "Adam",
    "peak_learning_rate": 0.006,
    "weight_decay": 0.0,
    "cycles": SHORT,
}
ADDED = {  # the settings of the recipe that each ingredient takes over, beside those before it
    "lesson 4": (),
    "+ softmax": ("loss_weights",),
    "+ Muon": ("optimiser", "peak_learning_rate", "weight_decay"),
    "+ flips": ("flip",),
    "+ shifts": ("shift",),
    "+ erasing": ("erase",),
    "+ twice as wide": ("network",),
}


def recipes():
    """Yields (ingredient, recipe): each recipe is the one before with one ingredient more."""
    recipe = LESSON_4
    for ingredient, settings in ADDED.items():
        recipe = {**recipe, **{setting: RECIPE[setting] for setting in settings}}
        yield ingredient, recipe


def write(document):
    RESULTS.parent.mkdir(exist_ok=True)
    partial = RESULTS.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(RESULTS)  # a file with this name is a whole one


def main():
    leave_input_untuned()  # no epoch is to wait for a tuning thread
    settings = dict(recipes())
    if RESULTS.is_file():
        document = json.loads(RESULTS.read_text(encoding="utf-8"))
        if document["settings"] != settings:
            raise SystemExit(f"{RESULTS} was made with other settings: delete it to start again.")
    else:
        document = {
            "made by": "python tools/add_ingredients.py",
            "seed": SEED,
            "settings": settings,
            "runs": [],
        }
    done = [run["ingredient"] for run in document["runs"]]
    data = load("fashion_mnist")
    for ingredient, recipe in settings.items():
        if ingredient not in done:
            with tempfile.TemporaryDirectory() as folder:
                network = train(recipe, SEED, honest_split(data), Path(folder))
            document["runs"].append({"ingredient": ingredient, **measure(network, data)})
            print(document["runs"][-1], flush=True)
            write(document)


if __name__ == "__main__":
    main()
