"""Text files are read and written as UTF-8, whatever the system's own code page is."""

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = [
    path for folder in ("helpers", "tools", "tests") for path in sorted((ROOT / folder).rglob("*.py"))
]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def code_of(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    return "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")


def calls_without_encoding(code):
    """The calls in a program that read or write text in whatever encoding the system prefers."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        says_so = any(word.arg in ("encoding", None) for word in node.keywords)
        says_so |= any(isinstance(argument, ast.Starred) for argument in node.args)  # handed on as it came
        if name in ("read_text", "write_text"):
            given = len(node.args) > (0 if name == "read_text" else 1)
        elif name == "open" and isinstance(node.func, ast.Name):
            mode = next((w.value for w in node.keywords if w.arg == "mode"), None)
            mode = node.args[1] if len(node.args) > 1 else mode
            given = mode is not None and not (isinstance(mode, ast.Constant) and "b" not in mode.value)
        else:
            continue
        if not (says_so or given):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", PROGRAMS + NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_text_file_is_opened_as_utf8(path):
    assert list(calls_without_encoding(code_of(path))) == []


@pytest.mark.parametrize(
    "code", ["path.read_text()", "path.write_text(x)", "open(f)", "open(f, 'w')", "open(f, mode='r')"]
)
def test_the_rule_finds_calls_that_leave_the_encoding_open(code):
    assert len(list(calls_without_encoding(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "path.read_text('utf-8')",
        "path.write_text(x, encoding='utf-8')",
        "open(f, 'rb')",
        "path.open_picture()",
    ],
)
def test_the_rule_leaves_the_others_alone(code):
    assert list(calls_without_encoding(code)) == []


# `open` as it is on a Korean Windows: text is CP949 unless the call says otherwise.
KOREAN_WINDOWS = """
import builtins, io, os

def korean(file, mode="r", buffering=-1, encoding=None, *args, _open=io.open, **kwargs):
    if "b" not in mode and encoding in (None, "locale") and str(file).startswith(os.getcwd()):
        encoding = "cp949"
    return _open(file, mode, buffering, encoding, *args, **kwargs)

builtins.open = io.open = korean
"""


def test_what_the_course_ships_opens_under_a_korean_code_page():
    code = KOREAN_WINDOWS + (
        "from pathlib import Path\n"
        "record = Path.cwd() / 'helpers/weights/fashion_mnist.json'\n"
        "try: record.read_text()\n"
        "except UnicodeDecodeError: print('read in CP949, the record is no text')\n"
        "from helpers.networks import load_pretrained\n"
        "print(load_pretrained().name)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert run.stdout.splitlines() == ["read in CP949, the record is no text", "embedding_network"], (
        run.stderr
    )
