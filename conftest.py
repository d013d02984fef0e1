"""How `pytest` shares the files out: one process a core, longest files first, and no more threads than cores.

pytest                      lessons, solutions and unit tests, on all cores
pytest tests                the unit tests
pytest notebooks/05_*.ipynb one file: nothing to share out, so in this process, as it is with `-n 0`
"""

import os

import pytest

LONGEST_FIRST = (  # in the order of their processor time; whatever is not named comes after them
    "notebooks/04_gpu_training.ipynb",
    "notebooks/09_more_data_sets.ipynb",
    "notebooks/01_data_loading.ipynb",
    "notebooks/07_tsne_visualisation.ipynb",
    "notebooks/11_search_at_scale.ipynb",
    "notebooks/10_unseen_classes.ipynb",
    "notebooks/12_search_app.ipynb",
    "tests/test_backup.py",
    "tests/test_train_embedding.py",
    "notebooks/00_start_here.ipynb",
    "tests/test_scoreboard.py",
    "notebooks/08_metric_losses.ipynb",
    "notebooks/06_recall_at_k.ipynb",
    "notebooks/05_l2_retrieval.ipynb",
)
BYTES_A_PROCESS = 3 * 2**30  # a lesson and its kernel need less


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory():
    """Bytes of this machine's memory, or infinity where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist everything runs in one process
def pytest_xdist_auto_num_workers(config):
    """As many processes as there are cores and room for; none (no sharing out) for a single file."""
    files = {argument.split("::")[0] for argument in config.args}
    wanted = len(files) if all(file.endswith((".py", ".ipynb")) for file in files) else cores()
    number = int(min(wanted, cores(), memory() // BYTES_A_PROCESS))
    return number if number > 1 else 0


def pytest_configure(config):
    """Share the cores among the processes; the notebooks' kernels inherit this, and no framework has started yet."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if workers > 1:
        threads = str(max(1, cores() // workers))
        for name in (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "TF_NUM_INTRAOP_THREADS",
            "TF_NUM_INTEROP_THREADS",
        ):
            os.environ.setdefault(name, threads)


def pytest_addoption(parser):
    parser.addoption(
        "--each-value-once",
        action="store_true",
        help="of a test's combinations run only enough for every value of every parameter to occur",
    )


def pytest_collection_modifyitems(config, items):
    """Long files first, so that no process is left with one at the end; the order within a file stays."""
    if config.getoption("--each-value-once"):
        items[:] = each_value_once(items)
    place = {file: i for i, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.split("::")[0], len(place)))


def each_value_once(items):
    """The items whose parameters hold a value that no earlier item of the same test had."""
    met, kept = set(), []
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        values = {(item.nodeid.split("[")[0], name, repr(value)) for name, value in parameters.items()}
        if not parameters or not values <= met:
            kept.append(item)
        met |= values
    return kept
