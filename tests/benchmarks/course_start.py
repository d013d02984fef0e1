"""From opening a lesson to its first picture: a fresh kernel, then the cells one after another until a picture comes.

    uv run python tests/benchmarks/course_start.py notebooks/00_start_here.ipynb      (any number of lessons)

The ratio is to a notebook whose one cell draws one line with Matplotlib: what the lesson adds to what Jupyter and
Matplotlib take anyway.
"""

import argparse
import statistics
import time
from pathlib import Path

import nbformat
import race
from jupyter_client.manager import start_new_kernel

EMPTY = "import matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()"


def seconds_to_first_picture(cells, folder):
    """Wall time from the start of a kernel until the first output that is a picture; None if there is none."""
    started = time.perf_counter()
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder))
    try:
        for cell in cells:
            request = client.execute(cell)
            while True:
                message = client.get_iopub_msg(timeout=600)
                kind, content = message["msg_type"], message["content"]
                if message["parent_header"].get("msg_id") != request:
                    continue
                if kind == "error":
                    raise RuntimeError("\n".join(content["traceback"])[-2000:])
                if kind in ("display_data", "execute_result") and "image/png" in content["data"]:
                    return time.perf_counter() - started
                if kind == "status" and content["execution_state"] == "idle":
                    break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "lessons", nargs="*", type=Path, default=[race.ROOT / "notebooks/00_start_here.ipynb"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    named = {"a single line": ([EMPTY], race.ROOT)}
    for path in chosen.lessons:
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        named[path.stem] = (cells, path.resolve().parent)
    print(race.machine(), flush=True)
    times = {name: [] for name in named}
    for _ in range(chosen.rounds):
        for name, (cells, folder) in named.items():
            times[name].append(seconds_to_first_picture(cells, folder))
    rows = []
    for name, of_name in times.items():
        compared = [{"seconds": s} for s in of_name], [{"seconds": s} for s in times["a single line"]]
        rows.append([name, f"{statistics.median(of_name):.1f}", race.as_text(race.ratios(*compared[::-1]))])
    race.print_table(["first picture of", "s", "ratio"], rows)


if __name__ == "__main__":
    main()
