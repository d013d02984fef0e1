"""Importing a helper changes nothing: frameworks, logging, warnings and the environment stay as they were."""

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
import importlib, logging, os, signal, sys, warnings
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

before = snapshot()
for helper in sys.argv[1].split(","):
    importlib.import_module(helper)
after = snapshot()
print([name for name in before if before[name] != after[name]])
"""


def changed_by(code, helpers):
    run = subprocess.run(
        [sys.executable, "-c", code, ",".join(helpers)],
        cwd=ROOT, env={**os.environ, "MPLBACKEND": "agg"}, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1]


def test_importing_every_helper_changes_nothing():
    assert changed_by(SNAPSHOT, HELPERS) == "[]"


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("keras.Model.fit = keras.Model.predict", "keras classes"),
        ("logging.getLogger('tensorflow').addFilter(lambda record: True)", "logging"),
        ("warnings.filterwarnings('ignore', 'shuffle')", "warnings"),
    ],
)
def test_a_change_would_be_seen(change, seen):
    code = SNAPSHOT.replace("    importlib.import_module(helper)\n", f"    {change}\n")
    assert changed_by(code, ["nothing"]) == f"['{seen}']"
