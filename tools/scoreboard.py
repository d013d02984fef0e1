"""Write the scoreboard, notebooks/scoreboard.toml, into the lessons and README.

    python tools/scoreboard.py

Only the table changes, wherever its first line stands already; a lesson shows the rows that it or an earlier one won.
"""

import re
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
BOARD = tomllib.loads((ROOT / "notebooks/scoreboard.toml").read_text(encoding="utf-8"))


def table(lesson):
    """The scoreboard after a lesson, as a Markdown table without a line break at its end."""
    rows = [[row["retriever"], *row["figures"]] for row in BOARD["rows"] if row["since"] <= lesson]
    lines = ["| " + " | ".join(row) + " |" for row in (BOARD["columns"], *rows)]
    lines.insert(1, "|---" * len(BOARD["columns"]) + "|")
    return "\n".join(lines)


def rendered(text, lesson):
    """A text in which every scoreboard is the one after a lesson, and how many it has."""
    first_line = re.escape(f"| {BOARD['columns'][0]} | {BOARD['columns'][1]} |")
    return re.subn(rf"^{first_line}.*(?:\n\|.*)*", lambda _: table(lesson), text, flags=re.M)


def main():
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new, _ = rendered(old, lesson=99)
    if new != old:
        readme.write_text(new, encoding="utf-8")
        print(readme.name)
    for path in sorted(ROOT.glob("notebooks/[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        changed = False
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                source, _ = rendered(cell.source, lesson=int(path.name[:2]))
                changed |= source != cell.source
                cell.source = source
        if changed:
            nbformat.write(notebook, path)
            print(path.name)


if __name__ == "__main__":
    main()
