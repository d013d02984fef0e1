"""How near does every checkpoint come to failing, on other processors than this one?

    python tools/check_margins.py notebooks/08_metric_losses.ipynb ...     (without arguments: all with a claim)
    python tools/check_margins.py --report                                 (the table again, nothing is run)
    python tools/check_margins.py --settings "as it is" "AVX2"             (some of the settings below)

A trained network's figures move from one processor to the next: other routines add in another order. Environment
variables let one machine play others. Each notebook runs in each setting, in a copy in memory: the files stay as
they are. Before, every `assert` is rewritten such that both sides of its comparisons are noted, and that a failing
one does not stop the run.

The share of its tolerance that a claim used in a setting:
- `abs(x - y) < tolerance` and `np.allclose(x, y, atol)`: |x - y| / tolerance;
- `a < b` and the like: 1 - slack / slack of the setting that had most of it, where the slack is b - a. Half the
  slack of the best setting is 50 %, nothing left is 100 %. In an array the nearest element counts;
- more than 100 %: the claim failed.
A claim has no such share, and only holds or fails, if it is exact (`==`, `in`, an order with `>= 0`), or if its two
sides are the same in all settings, as with everything that no network computes. A claim about time moves with the
machine's load: leave the machine alone. Errors count as failures, and so does another text than the stored one where
pytest compares them.

The table has a row for each cell with claims; its share is that of the nearest claim. The exit status is 1 if
anything failed or used more than two thirds.
"""

import argparse
import ast
import json
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build/margins"  # a file for each notebook and setting
ALLOWED = 2 / 3
ONE = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
SETTINGS = {  # name -> environment variables
    "as it is": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "FAISS_OPT_LEVEL": "avx2"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OPENBLAS_CORETYPE": "SkylakeX"},
    "oneDNN off": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "one thread": {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", **ONE},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem", "FAISS_OPT_LEVEL": "generic"},
    "seeds + 1": {"CHECK_MARGINS_SEED": "1"},  # no processor: keras.utils.set_random_seed(s) sets s + 1
}
# The first cell of a run. `_margins` is what the rewritten claims call.
PREPARE = """
import sys
sys.path.insert(0, {tools!r})
import check_margins as _margins
sys.path.pop(0)
_margins.shift_seeds()
"""


# --- in the notebook's own process ----------------------------------------------------------------------------------

NOTED = []  # one dict for each evaluated comparison of the cell that runs
OPERATIONS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def shift_seeds():
    if shift := int(os.environ.get("CHECK_MARGINS_SEED", "0")):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        import keras

        original = keras.utils.set_random_seed
        keras.utils.set_random_seed = lambda seed: original(seed + shift)


def compare(source, kind, operators, sides):
    """`a < b <= c` as Python evaluates it, with every pair of sides noted. kind: "order", "tolerance" or "exact"."""
    outcome = True
    for operator, left, right in zip(operators, sides[:-1], sides[1:], strict=True):
        outcome = outcome & OPERATIONS[operator](left, right)
        try:
            lower, upper = (left, right) if operator in "<=" else (right, left)
            lower, upper = np.broadcast_arrays(np.asarray(lower, float), np.asarray(upper, float))
        except (TypeError, ValueError):  # texts, sets
            continue
        if lower.size:
            i = int(np.argmax(lower / upper) if kind == "tolerance" else np.argmin(upper - lower))
            note(source, kind, lower.flat[i], upper.flat[i])
    return outcome


def close(source, function, a, b, rtol=1e-5, atol=1e-8, **more):
    off = np.abs(np.asarray(a, float) - np.asarray(b, float))
    allowed = np.broadcast_to(atol + rtol * np.abs(np.asarray(b, float)), off.shape)
    if off.size:
        i = int(np.argmax(off / np.maximum(allowed, 1e-300)))
        note(source, "tolerance", off.flat[i], allowed.flat[i])
    return function(a, b, rtol=rtol, atol=atol, **more)


def note(source, kind, left, right):
    NOTED.append({"claim": source, "kind": kind, "left": float(left), "right": float(right)})


def claim(source, holds):
    NOTED.append({"claim": source, "kind": "outcome", "holds": bool(holds)})


def end_of_cell():
    """Prints what was noted, as the one output that the run keeps."""
    print("MARGINS " + json.dumps(NOTED))
    NOTED.clear()


# --- the rewriting --------------------------------------------------------------------------------------------------


class Claims(ast.NodeTransformer):
    """Rewrites the asserts of a cell. Those in a `try` stay: there an error is what the cell shows."""

    def visit_Try(self, node):
        return node

    def visit_Assert(self, node):
        source = ast.unparse(node.test)
        holds = ast.copy_location(call("claim", ast.Constant(source), truth(node.test)), node)
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(holds), node))


def call(name, *arguments, keywords=()):
    function = ast.Attribute(ast.Name("_margins", ast.Load()), name, ast.Load())
    return ast.Call(function, list(arguments), list(keywords))


def truth(node):
    """The expression `node`, whose truth is claimed, with its comparisons noted. What stands inside a comparison, as
    `x > 3` in `(x > 3).sum() > 5`, is no claim and stays."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return ast.BoolOp(node.op, [truth(value) for value in node.values])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        return ast.BinOp(truth(node.left), node.op, truth(node.right))
    if isinstance(node, ast.Compare):
        return noted_comparison(node)
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return type(node)(truth(node.elt), node.generators)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name in ("np.allclose", "np.isclose"):
            return call(
                "close", ast.Constant(ast.unparse(node)), node.func, *node.args, keywords=node.keywords
            )
        if name in ("all", "np.all") and len(node.args) == 1:
            return ast.Call(node.func, [truth(node.args[0])], node.keywords)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "all":
            return ast.Call(
                ast.Attribute(truth(node.func.value), "all", ast.Load()), node.args, node.keywords
            )
    return node


def noted_comparison(node):
    signs = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
    operators = [signs.get(type(operator)) for operator in node.ops]
    if None in operators:  # ==, in, is
        return node
    sides = [node.left, *node.comparators]
    kind = "order"
    if len(sides) == 2:
        if is_distance(sides[0] if operators[0] in "<=" else sides[1]):
            kind = "tolerance"
        elif operators[0] in ("<=", ">=") and any(
            isinstance(s, ast.Constant) and s.value == 0 for s in sides
        ):
            kind = "exact"
    arguments = [ast.Constant(value) for value in (ast.unparse(node), kind)]
    signs = ast.Tuple([ast.Constant(operator) for operator in operators], ast.Load())
    return call("compare", *arguments, signs, ast.Tuple(sides, ast.Load()))


def is_distance(node):
    """Whether `node` is abs(x - y), or its largest element."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "max":
        node = node.func.value
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("abs", "np.abs"):
        return False
    inner = node.args[0]
    if isinstance(inner, ast.Call):
        return ast.unparse(inner.func) == "np.subtract"
    return isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Add | ast.Sub)


def rewrite(source):
    """A cell's source with its claims noted; None where it has none."""
    if "assert " not in source or any(line.startswith(("%", "!")) for line in source.splitlines()):
        return None
    tree = ast.parse(source)
    claims = sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
    tree = Claims().visit(tree)
    if claims == sum(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        return None
    return ast.unparse(tree) + "\n_margins.end_of_cell()"


# --- running --------------------------------------------------------------------------------------------------------


def run(path, setting):
    """{cell number: {"title", "noted", "wrong"}} of the cells with claims, and of those in which something was wrong.

    wrong: what failed besides a claim: an error, or another text than the stored one where pytest compares them.
    """
    import nbformat
    from nbclient import NotebookClient

    stored = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = rewrite(cell.source) or cell.source
    prepare = nbformat.v4.new_code_cell(PREPARE.format(tools=str(ROOT / "tools")))
    notebook.cells.insert(0, prepare)
    client = NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        allow_errors=True,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=os.environ | SETTINGS[setting])
    results = {}
    for number, (cell, before) in enumerate(zip(notebook.cells[1:], stored.cells, strict=True)):
        if cell.cell_type != "code":
            continue
        text, _, noted = text_of(cell).partition("MARGINS ")
        wrong = [f"{o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"]
        if text != text_of(before) and "nbval-ignore-output" not in cell.metadata.get("tags", []):
            wrong.append(f"prints {text!r} instead of {text_of(before)!r}")
        if noted or wrong:
            title = before.source.splitlines()[0].removeprefix("# Checkpoint: ")
            results[number] = {"title": title, "noted": json.loads(noted or "[]"), "wrong": wrong}
    return results


def text_of(cell):
    """What a cell printed and showed, without its pictures."""
    parts = []
    for output in cell.outputs:
        if output.get("name") == "stdout":
            parts.append(output.text)
        elif "image/png" not in output.get("data", {"image/png": ""}):
            parts.append(output.data.get("text/plain", ""))
    return "".join(parts)


def results_file(path, setting):
    name = "-".join(path.relative_to(ROOT / "notebooks").with_suffix("").parts)
    return RESULTS / f"{name}, {setting}.json"


# --- the table ------------------------------------------------------------------------------------------------------


def shares(noted):
    """The share of its tolerance that every claim used.

    noted: setting -> the list of comparisons of one cell, as in `NOTED`. Returns {claim: {setting: share}}, without the
    claims that are exact; of several evaluations of one claim, as in a loop, the nearest counts.
    """
    by_claim = {}  # (claim, number of the evaluation) -> {setting: comparison}
    for setting, comparisons in noted.items():
        seen = {}
        for comparison in comparisons:
            text = comparison["claim"]
            seen[text] = seen.get(text, -1) + 1
            by_claim.setdefault((text, seen[text]), {})[setting] = comparison
    used = {}
    for (text, _), found in by_claim.items():
        if all(c["kind"] in ("tolerance", "order") for c in found.values()):
            for setting, share in share_of_one(found).items():
                row = used.setdefault(text, {})
                row[setting] = max(share, row.get(setting, 0.0))
    return used


def share_of_one(found):
    """{setting: share} of one comparison, {} if its sides are the same everywhere. found: setting -> comparison."""
    slack = {setting: c["right"] - c["left"] for setting, c in found.items()}
    best = max(slack.values())
    if best - min(slack.values()) <= 1e-9 * max(1e-12, *(abs(c["right"]) for c in found.values())):
        return {}
    if all(c["kind"] == "tolerance" for c in found.values()):
        return {setting: c["left"] / max(c["right"], 1e-300) for setting, c in found.items()}
    return {setting: 1 - s / best if best > 0 else 2.0 for setting, s in slack.items()}


def report(chosen):
    """Prints the table of the stored results; True if every claim held and none used more than two thirds."""
    print("| cell | " + " | ".join(SETTINGS) + " | nearest claim |\n|" + "---|" * (len(SETTINGS) + 2))
    near, good = [], True
    for path in chosen:
        files = {s: results_file(path, s) for s in SETTINGS if results_file(path, s).exists()}
        stored = {s: json.loads(f.read_text(encoding="utf-8")) for s, f in files.items()}
        for number in sorted({int(n) for cells in stored.values() for n in cells}):
            cells = {s: cells[str(number)] for s, cells in stored.items() if str(number) in cells}
            used = shares({s: cell["noted"] for s, cell in cells.items()})
            failed = [
                (s, c["claim"]) for s, cell in cells.items() for c in cell["noted"]
                if c["kind"] == "outcome" and not c["holds"]
            ] + [(s, wrong) for s, cell in cells.items() for wrong in cell["wrong"]]  # fmt: skip
            worst = {s: max((row.get(s, 0) for row in used.values()), default=None) for s in cells}
            columns = []
            for s in SETTINGS:
                figure = "" if s not in cells else "exact" if not used else f"{worst[s]:.0%}"
                columns.append(figure + (" fails" if any(s == of for of, _ in failed) else ""))
            nearest = max(used, key=lambda text: max(used[text].values()), default="")
            row = [f"{path.relative_to(ROOT / 'notebooks').with_suffix('')} [{number}]", *columns]
            print("| " + " | ".join([*row, f"`{nearest}`" if nearest else ""]) + " |")
            beyond = {text: max(row.values()) for text, row in used.items() if max(row.values()) > ALLOWED}
            near += [(row[0], f"{share:.0%}", text) for text, share in beyond.items()]
            near += [(row[0], f"fails ({s})", text) for s, text in failed]
            good &= not beyond and not failed
    for cell, share, text in near:
        print(f"{cell}: {share}: {text}")
    print(
        "every claim used two thirds of its tolerance at most" if good else f"{len(near)} claims are too near"
    )
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument(
        "--report", action="store_true", help="only print the table of what has been run before"
    )
    arguments = parser.parse_args()
    chosen = [path.resolve() for path in arguments.notebooks] or sorted(
        ROOT.glob("notebooks/**/[0-9]*.ipynb")
    )
    os.environ["PYTEST_CURRENT_TEST"] = "margins"  # keeps TensorFlow's start-up lines out of the outputs
    for path in [] if arguments.report else chosen:
        if not any(rewrite(s) for s in code_of(path)):
            continue
        for setting in arguments.settings:
            results = run(path, setting)
            RESULTS.mkdir(parents=True, exist_ok=True)
            text = json.dumps(results, ensure_ascii=False, indent=1)
            results_file(path, setting).write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}, {setting}: {len(results)} cells", file=sys.stderr, flush=True)
    sys.exit(not report(chosen))


def code_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


if __name__ == "__main__":
    main()
