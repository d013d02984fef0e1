"""Point the project's address in pyproject.toml, and the badges and set-up cells that repeat it, to a fork.

    python tools/repoint.py https://github.com/YOU/YOUR-FORK

References to the earlier repository stay as they are.
"""

import re
import sys
from pathlib import Path

ADDRESS = r"https://github\.com/[\w.-]+/[\w.-]+"
PLACES = (  # what stands before an address that says where this course lives
    (r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(?=/blob/)", "{owner_and_name}"),
    (rf'((?:repository|Repository) = \\?"){ADDRESS}', "{address}"),
)


def repoint(root, address):
    """Rewrite every file of the course below `root` and return those that changed."""
    address = address.rstrip("/").removesuffix(".git")
    if not re.fullmatch(ADDRESS, address):
        raise SystemExit(f"Expected an address like https://github.com/YOU/YOUR-FORK, not {address}")
    owner_and_name = address.removeprefix("https://github.com/")
    changed = []
    for path in (
        root / "README.md",
        root / "pyproject.toml",
        root / "tools/setup_cell.py",
        *sorted(root.glob("notebooks/**/*.ipynb")),
    ):
        old = new = path.read_text(encoding="utf-8")
        for pattern, target in PLACES:
            target = target.format(address=address, owner_and_name=owner_and_name)
            new = re.sub(pattern, lambda match, target=target: match[1] + target, new)
        if new != old:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for changed_path in repoint(Path(__file__).resolve().parents[1], sys.argv[1]):
        print(changed_path.name)
