"""Importing a helper changes nothing: frameworks, logging, warnings and the environment stay as they were."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELPERS = sorted(
    "helpers." + path.relative_to(ROOT / "helpers").with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "helpers").glob("**/*.py")
    if path.stem != "__init__"
)

SNAPSHOT = """
import importlib, json, logging, os, signal, sys, warnings
warnings.filterwarnings("ignore", message="IProgress not found")
import faiss, gradio, keras, matplotlib.pyplot, numpy, PIL.Image, PIL.ImageFile, seaborn

def public(thing):
    return {name: id(vars(thing)[name]) for name in vars(thing) if not name.startswith("__")}

def snapshot():
    state = {
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "numpy": (numpy.geterr(), numpy.get_printoptions()),
        "matplotlib": dict(matplotlib.rcParams),
        "pillow": (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
        "faiss": faiss.omp_get_max_threads(),
        "keras": (keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format(),
                  keras.config.dtype_policy().name, keras.backend.backend(),
                  keras.config.is_traceback_filtering_enabled(), keras.config.is_interactive_logging_enabled()),
        "keras classes": {name: public(getattr(keras, name)) for name in ("Model", "Layer", "Variable")},
        "keras modules": {name: public(getattr(keras, name)) for name in ("ops", "losses", "layers", "utils")},
        "logging": {name: (logger.level, list(logger.filters), list(logger.handlers), logger.disabled, logger.propagate)
                    for name in ("", "tensorflow", "absl", "jax", "torch", "matplotlib", "PIL", "py.warnings")
                    for logger in [logging.getLogger(name)]},
        "hooks": (sys.excepthook, sys.displayhook, sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)),
    }
    if "tensorflow" in sys.modules:
        tf = sys.modules["tensorflow"]
        state["tf.data"] = {name: public(getattr(tf.data, name)) for name in ("Dataset", "Options")}
        state["tf"] = (tf.config.threading.get_intra_op_parallelism_threads(), tf.config.functions_run_eagerly())
    return state

def changed(statement):
    before = snapshot()
    exec(statement)
    after = snapshot()
    return [name for name in before if before[name] != after[name]]

print(json.dumps([changed(statement) for statement in json.loads(sys.argv[1])]))
"""
CHANGES = {  # what each of them changes
    "keras.Model.fit = keras.Model.predict": "keras classes",
    "logging.getLogger('tensorflow').addFilter(lambda record: True)": "logging",
    "warnings.filterwarnings('ignore', 'shuffle')": "warnings",
}


@pytest.fixture(scope="module")
def changed():
    """What the imports of all helpers change, and then each of `CHANGES`: in one process, since it is slow to start."""
    imports = "\n".join(f"importlib.import_module({helper!r})" for helper in HELPERS)
    run = subprocess.run(
        [sys.executable, "-c", SNAPSHOT, json.dumps([imports, *CHANGES])],
        cwd=ROOT, env={**os.environ, "MPLBACKEND": "agg"}, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_every_helper_changes_nothing(changed):
    assert changed[0] == []


def test_a_change_would_be_seen(changed):
    assert changed[1:] == [[seen] for seen in CHANGES.values()]
