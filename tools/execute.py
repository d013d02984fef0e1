"""Run notebooks from the first cell to the last and store them as the course commits them.

    python tools/execute.py notebooks/05_l2_retrieval.ipynb ...     (without arguments: all of them)

A notebook whose run raises an error is left as it was. A picture in a cell with the tag `pic-NAME` is also written to
`pic/NAME.png`.
"""

import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def execute(path):
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            write_pictures(cell)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        **({"accelerator": "GPU"} if path.name.startswith("04_") else {}),
    }
    nbformat.write(notebook, path)
    print(f"{path.relative_to(ROOT)}: {time.monotonic() - started:.0f} s")


def write_pictures(cell):
    names = [tag.removeprefix("pic-") for tag in cell.metadata.get("tags", []) if tag.startswith("pic-")]
    pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    for name, picture in zip(names, pictures, strict=True) if names else []:
        (ROOT / "pic" / f"{name}.png").write_bytes(base64.b64decode(picture))


def main():
    # TensorFlow's start-up lines go to the process's stderr, which ipykernel stores unless it believes to be tested.
    os.environ["PYTEST_CURRENT_TEST"] = "execute"
    chosen = [Path(argument).resolve() for argument in sys.argv[1:]]
    for path in chosen or sorted(ROOT.glob("notebooks/**/*.ipynb")):
        execute(path)


if __name__ == "__main__":
    main()
