"""Words follow numbers: each figure that a sentence names stands in an output, in the code or among the quoted figures.

A *figure* is, in prose, headings, quiz answers, and the strings and comments of code cells: a decimal; a percentage; a
number with a thousands comma; "N of M" and "N in M" from M = 10 on, also in words; "two thirds", "seven thousandths",
"half a point"; "N times as …"; "about N" from ten on. None are: code spans, links, references, versions, the sizes of
the data set and its splits, the first cell's times, and whatever stands in a question.
A figure *follows a number* if one that rounds to it is printed, asserted (no bound) or in an alternative text of the
same section (`##`; closing sections, first cells and solutions see all of them), or is set anywhere in the code.
"N of M" wants N and M, or their ratio; parts in words may be off by two hundredths, "about N" by 5 per cent. What a
string says is no evidence, even when printed, and in titles and alternative texts results have to come from variables.
All other figures have an entry, with some words of the sentence and a source, in notebooks/quoted_figures.toml.
"""

import ast
import functools
import io
import json
import re
import sys
import tokenize
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from scoreboard import BOARD  # noqa: E402

PATHS = {
    path.relative_to(ROOT / "notebooks").with_suffix("").as_posix(): path
    for path in sorted(ROOT.glob("notebooks/**/[0-9]*.ipynb"))
} | {"README": ROOT / "README.md"}
QUOTED = tomllib.loads((ROOT / "notebooks/quoted_figures.toml").read_text(encoding="utf-8"))

SIZES = {
    70_000,
    60_000,
    55_000,
    50_000,
    10_000,
    6_000,
    5_000,
    3_000,
    2_000,
    1_000,
}  # of the data set and its splits
SEEN_WHOLE = ("What you have now", "Exercises", "Quiz")  # sections that look back at all the others
TITLE = "title or alternative text"
TRIVIAL = {"0.0", "1.0", "0 %", "100 %"}

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
ONES += "seventeen eighteen nineteen".split()
TENS = dict(
    zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True)
)
WORDS = {word: i for i, word in enumerate(ONES)} | TENS
WORDS |= {f"{ten}-{ONES[i]}": TENS[ten] + i for ten in TENS for i in range(1, 10)}
WORDS |= {"a hundred": 100, "a thousand": 1000, "hundred": 100, "thousand": 1000}
PARTS = "third quarter fifth sixth seventh eighth ninth tenth".split()
PARTS = {part: i for i, part in enumerate(PARTS, start=3)} | {"hundredth": 100, "thousandth": 1000}

WORD = "|".join(sorted(WORDS, key=len, reverse=True))
COUNT = rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+|\b(?:{WORD})\b)"
START, END = r"(?<![\w.,/=])", r"(?![\w/]|[.,]\d)"
PATTERNS = {  # kind: the figure, with its numbers in groups
    "decimal": rf"{START}([−+±-]?)(\d+\.\d+)(?! ?%){END}",
    "percentage": rf"{START}([−+±-]?)(\d+(?:\.\d+)?) ?%",
    "thousands": rf"{START}()(\d{{1,3}}(?:,\d{{3}})+){END}",
    "share": rf"{START}({COUNT})(?: of|(?: (?!of |in |and |or )[\w-]+){{0,2}} in)(?: the| a)? ({COUNT}){END}"
    "(?! ?%| dimensions)",
    "part": rf"\b({WORD})(?: and(?: by)? ({WORD}))? ({'|'.join(PARTS)})s\b",
    "points": rf"(?:(half a) point|({COUNT}|\d+\.\d+) points of )",
    "times": rf"\b({COUNT}|\d+\.\d+) times (?:as|too|the|fewer|faster|slower|longer|larger|more)\b",
    "about": rf"\b(?:[Aa]bout|[Ss]ome|[Nn]early|[Aa]lmost) ({COUNT}){END}(?! ?%)",
}


class Figure(NamedTuple):
    kind: str
    text: str  # as it stands in the sentence
    values: tuple  # its numbers, as they stand there
    digits: int  # after the decimal point
    sentence: str
    place: str  # where in the notebook
    section: str


def number(text):
    return float(WORDS[text.lower()]) if text.lower() in WORDS else float(text.replace(",", ""))


def figures(sentence, place="", section=""):
    """The figures of a sentence."""
    for kind, pattern in PATTERNS.items():
        for match in re.finditer(pattern, sentence, flags=re.I if kind in ("share", "part", "times") else 0):
            text, digits = match[0].strip(), 0
            if kind in ("decimal", "percentage", "thousands"):
                values = (number(match[2]) * (-1 if match[1] in ("−", "-") else 1),)
                digits = len(match[2].partition(".")[2])
                if text in TRIVIAL or values[0] in SIZES:
                    continue
            elif kind == "share":
                values = number(match[1]), number(match[2])
                if values[1] < 10 or values[0] > values[1] or values[0] in SIZES:
                    continue
            elif kind == "part":
                values = (number(match[1]) / PARTS[match[3].lower()],)
                if match[2]:  # "two and seven thousandths" are two figures
                    seven = (number(match[2]) / PARTS[match[3].lower()],)
                    yield Figure(kind, text, seven, digits, sentence, place, section)
            elif kind == "points":
                values = (0.5 if match[1] else number(match[2]),)
                digits = 1 if match[1] else len(match[2].partition(".")[2])
            else:
                values = (number(match[1]),)
                if kind == "about" and (values[0] < 10 or values[0] in SIZES):
                    continue
                digits = len(match[1].partition(".")[2])
            yield Figure(kind, text, values, digits, sentence, place, section)


def plain(markdown):
    """A Markdown text without all that is not prose."""
    text = re.sub(r"^## References.*?(?=^## |\Z)", "", markdown, flags=re.M | re.S)
    text = re.sub(r"^```.*?^```", "\n\n", text, flags=re.M | re.S)
    text = re.sub(r"`[^`]*`", "`code`", text)
    text = re.sub(r"\]\([^)\s]*\)|https?://\S+|\*", lambda match: "]" if match[0][0] == "]" else "", text)
    text = re.sub(r"<[^>]+>", "\n\n", text)
    text = re.sub(r"\b\d{4}\.\d{5}\b|95 % (?:t-)?interval", "", text)
    text = re.sub(r"\*\*Time\*\*.*|^Time reading.*", "", text, flags=re.M)
    versions = r"\b(?:arXiv|Python|Keras|Ray|client|version) [\d.]+(?:, [\d.]+)*(?: or [\d.]+)?"
    return re.sub(versions, "", text)


def sentences(text):
    """The sentences of a plain text; a table's row and a list's item are sentences, a question claims nothing."""
    for block in re.split(r"\n\s*\n|\n(?=[|#>-])|\n(?=\d+\. )", text):
        block = " ".join(block.split())
        for sentence in (
            [block] if block.startswith("|") else re.split(r"(?<=[.?!:])[\")]*\s+(?=[^a-z])", block)
        ):
            if sentence and not sentence.endswith("?"):
                yield sentence


class Number(NamedTuple):
    value: float
    digits: int  # after the decimal point: 0.84 cannot vouch for 0.844


def numbers(text):
    """The numbers of an output; a percentage also as a share."""
    pattern = r"(?<![\w.])([−-]?)(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(e[+-]?\d+)?( ?%)?"
    for sign, digits, power, percent in re.findall(pattern, text):
        value = float(digits.replace(",", "") + power) * (-1 if sign else 1)
        places = 12 if power else len(digits.partition(".")[2])
        yield Number(value, places)
        if percent:
            yield Number(value / 100, places + 2)


def draws(call):
    """Whether a call is one of a figure or an axis: widths of lines and sizes of letters are no evidence."""
    node = call.func
    while not isinstance(node, ast.Name):
        node = getattr(node, "func", None) or getattr(node, "value", None)
        if node is None:
            return False
    return bool(re.match(r"ax|fig|plt", node.id))


def read_code(source):
    """The numbers that a code cell sets and those that it asserts; what it says in prints and comments; its titles."""
    settings, asserted, bounds, said, titles = [], [], [], [], []

    def visit(node, drawn=False, into=settings, words=titles):
        if isinstance(node, ast.Call):
            drawn |= draws(node)
            words = said if getattr(node.func, "id", "") == "print" else words
        if isinstance(node, ast.Assert):
            into, words = asserted, said
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                words.append(node.value)
            elif isinstance(node.value, (int, float)) and not isinstance(node.value, bool) and not drawn:
                into.append(Number(float(node.value), 12))
        ordered = isinstance(node, ast.Compare) and isinstance(
            node.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
        )
        for child in ast.iter_child_nodes(node):
            # What is above 0.95 need not be 0.95: only the checkpoint's own words may name its bounds.
            bound = into is asserted and ordered and isinstance(child, ast.Constant)
            if not (isinstance(node, ast.FormattedValue) and child is node.format_spec):
                visit(child, drawn, bounds if bound else into, words)

    visit(ast.parse(source))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    said += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return settings, asserted, bounds, said, [title for title in titles if not re.fullmatch(r"[\d.]*", title)]


def read_outputs(cell):
    """The text of a cell's outputs and the alternative texts of its figures."""
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        data = output.get("data", {})
        yield "" if "image/png" in data else data.get("text/plain", "")
        yield output.get("metadata", {}).get("image/png", {}).get("alt", "")


class Evidence(NamedTuple):
    section: str
    numbers: list  # of the outputs and assertions
    settings: list  # the other numbers of the code
    bounds: list  # in the assertions


def read(cells):
    """The figures of a notebook's cells and the evidence of its code cells."""
    found, evidence, section = [], [], ""
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            for part in re.split(r"^(?=#{1,2} )", cell.source, flags=re.M):
                heading = re.match(r"##? (.+)", part)
                section = heading[1] if heading else section
                without_board, _ = re.subn(r"^\| retriever \| published.*(?:\n\|.*)*", "", part, flags=re.M)
                for sentence in sentences(plain(without_board)):
                    found += figures(sentence, f"cell {i}", section)
        elif "google.colab" not in cell.source:
            settings, asserted, bounds, said, titles = read_code(cell.source)
            printed = [n for text in read_outputs(cell) for n in numbers(text)]
            for place, words in ((f"cell {i}, said", said), (f"cell {i}, {TITLE}", titles)):
                for word in words:
                    for sentence in sentences(plain(word)):
                        found += figures(sentence, place, section)
                    for spoken in numbers(word):  # in an output, but from no computation
                        if spoken in printed:
                            printed.remove(spoken)
            if cell.source.startswith("# Checkpoint"):
                asserted, settings = asserted + settings, []
            evidence.append(Evidence(section, asserted + printed, settings, bounds))
    return found, evidence


def follows(figure, among):
    """Whether a figure follows one of some numbers."""
    if figure.kind == "share":
        n, m = figure.values
        values = {abs(one.value) for one in among}
        ratios = [
            r
            for one in among
            if 2 <= one.digits < 12 and 0 < one.value < 1
            for r in (one.value, 1 - one.value)
        ]
        return (n in values and m in values) or any(abs(ratio * m - n) <= 0.5 + 1e-9 for ratio in ratios)
    (value,) = figure.values
    for one in among:
        scales = {"percentage": (1, 100), "points": (1, 100)}.get(figure.kind, (1,))
        for scale in scales:
            other = one.value * scale if value < 0 else abs(one.value) * scale
            if figure.kind == "part":
                close = abs(other - value) <= (0.02 if value > 0.1 else 0.0005)
            elif figure.kind == "about":
                close = abs(other - value) <= 0.05 * value
            else:
                enough = one.digits >= figure.digits + (2 if scale == 100 else 0)
                close = enough and abs(other - value) <= 0.5 * 10**-figure.digits + 1e-9
            if close:
                return True
    return False


def visible(figure, evidence, key=""):
    """The numbers that may vouch for a figure: those of its section, or all."""
    settings = [n for one in evidence for n in one.settings if figure.kind not in ("times", "about", "part")]
    if figure.place.endswith(TITLE):
        return settings  # a finding is to be built from its variable
    looks_back = (
        figure.section in ("", *SEEN_WHOLE) or figure.place == "cell 0" or key.startswith("solutions/")
    )
    near = [one for one in evidence if looks_back or one.section == figure.section]
    bounds = [n for one in near for n in one.bounds if figure.place.endswith("said")]
    return settings + bounds + [n for one in near for n in one.numbers]


def without_evidence(found, evidence, key=""):
    return [figure for figure in found if not follows(figure, visible(figure, evidence, key))]


@functools.cache
def read_path(key):
    path = PATHS[key]
    if path.suffix == ".ipynb":
        return read(nbformat.read(path, as_version=4).cells)
    text, _ = re.subn(
        r"^\| retriever \| published.*(?:\n\|.*)*", "", path.read_text(encoding="utf-8"), flags=re.M
    )
    return [f for sentence in sentences(plain(text)) for f in figures(sentence, "README")], []


def vouches(entry, figure):
    return figure.text in entry["figures"] and entry["sentence"] in figure.sentence


@functools.cache
def looked_up(place):
    """The numbers of a stored result, of a notebook, of a program or of the scoreboard."""
    path = ROOT / place
    if place == "notebooks/scoreboard.toml":
        return [
            n for row in BOARD["rows"] for text in row["figures"] for n in numbers(text.replace("–", " "))
        ]
    if path.suffix == ".ipynb":
        _, evidence = read_path(path.relative_to(ROOT / "notebooks").with_suffix("").as_posix())
        return [n for one in evidence for n in one.numbers + one.settings]
    if path.suffix == ".py":
        settings, asserted, _, _, _ = read_code(path.read_text(encoding="utf-8"))
        return settings + asserted
    assert path.suffix == ".json", place
    return [Number(n.value, 12) for n in numbers(json.dumps(json.loads(path.read_text(encoding="utf-8"))))]


def calculate(text):
    """The value of a sum like `1 - 0.022`, and the numbers in it."""
    tree = ast.parse(text, mode="eval")
    allowed = ast.Expression, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.Constant
    assert all(isinstance(node, allowed) for node in ast.walk(tree)), text
    return eval(compile(tree, text, "eval")), list(numbers(text.replace("-", " ")))


def notebook(sentence, output="", code="1", alt=None, elsewhere=""):
    """Three sections: one with a result, then the sentence, and another one with another result."""
    made = nbformat.v4
    outputs = [made.new_output("stream", text=output)]
    if alt is not None:
        outputs.append(
            made.new_output("display_data", data={"image/png": ""}, metadata={"image/png": {"alt": alt}})
        )
    return [
        made.new_markdown_cell("# 1 · A lesson"),
        made.new_markdown_cell("## Here"),
        made.new_code_cell(code, outputs=outputs),
        made.new_markdown_cell(sentence),
        made.new_markdown_cell("## There"),
        made.new_code_cell("2", outputs=[made.new_output("stream", text=elsewhere)]),
    ]


def caught(*arguments, **options):
    return [figure.text for figure in without_evidence(*read(notebook(*arguments, **options)))]


@pytest.mark.parametrize(
    "output, stale, mended",
    [  # what lessons once said beside these outputs, and what they say now
        ("R@1 0.742", "Untrained it reaches 0.734.", "Trained it reaches 0.742."),
        ("active  2.2%", "Nineteen of twenty are for nothing.", "Forty-nine of fifty are for nothing."),
        (
            "mean 0.002 and 0.007",
            "Ahead by three and by seven thousandths.",
            "Ahead by two and by seven thousandths.",
        ),
        (
            "by chance ±0.009",
            "By chance alone it moves by half a point.",
            "By chance alone it moves by 0.009.",
        ),
        ("shares 69.9 %", "Two thirds of the mistakes are tops.", "Seven tenths of the mistakes are tops."),
        ("shirt 0.80 bag 1.00", "From about 0.80 to about 0.99.", "From about 0.80 to 1.00."),
        ("trust 0.986", "Real structure gave 0.98.", "Real structure gave 0.99."),
        ("coverage 0.47", "It refuses some 40 % of them.", "It refuses some 47 % of them."),
        ("risk 0.27", "It has 28 wrong in 100.", "It has 27 wrong in 100."),
        ("dimension 14", "It uses about 15 of them.", "It uses about 14 of them."),
        (
            "ratio 16.7, 27.0",
            "Ten times the vectors, ten times the wait.",
            "17 times the vectors, 27 times the wait.",
        ),
        ("helper 12.1 ms, numpy 10.0 ms", "The helper is four times as fast.", "The helper needs 12.1 ms."),
        ("R@1 on the map 0.16", "It has fallen to 0.15 or so.", "It has fallen to 0.16 or so."),
        ("images 1,502", "There are 1,520 of them.", "There are 1,502 of them."),
        ("difference -0.27", "The correlation is −0.47.", "The correlation is −0.27."),
        ("R@1 0.84", "It reaches 0.844.", "It reaches 0.84."),
    ],
)
def test_a_stale_figure_is_caught(output, stale, mended):
    assert caught(stale, output)
    assert not caught(mended, output)
    assert caught(mended, elsewhere=output)  # the same numbers, in another section


def test_a_literal_in_an_alternative_text_is_caught_and_one_built_from_a_variable_is_not():
    stale = "low, high = values()\nshow(figure, 'They lie at 1.4 to 3.7.')"
    mended = "low, high = values()\nshow(figure, f'They lie at {low:.1f} to {high:.1f}.')"
    assert caught("", "1.37 to 3.55", code=stale, alt="They lie at 1.4 to 3.7.") == ["1.4", "3.7"]
    assert not caught("They lie at 1.4 to 3.6.", "1.37 to 3.55", code=mended, alt="They lie at 1.4 to 3.6.")
    assert not caught("", code="margin = 0.2\naxis.set(title='The margin of 0.2')")  # a setting, no finding


def test_what_only_a_string_says_is_no_evidence():
    assert caught("It has 0.742.", "published: 0.742", code="print('published: 0.742')") == ["0.742", "0.742"]


def test_what_is_no_figure():
    for text in (
        "Which one is it: 0.1, 0.5 or 0.8?",
        "`x[0.25]`, [a link](https://a.b/0.75), arXiv 1503.03832, Python 3.11, 3.12 or 3.13",
        "60,000 images, a 95 % interval",
        "```python\nprint(0.25)\n```",
        "One of them, lesson 3 of it, chapter 1.",
    ):
        assert not caught(text), text


each_text = pytest.mark.parametrize("key", PATHS)


@each_text
def test_figures_follow_numbers(key):
    found, evidence = read_path(key)
    entries = QUOTED.get(key, []) + QUOTED["everywhere"]
    missing = [f for f in without_evidence(found, evidence, key) if not any(vouches(e, f) for e in entries)]
    assert not missing, "\n".join(f"{f.place}: {f.text}: {f.sentence}" for f in missing)


@each_text
def test_every_quoted_figure_is_used_and_agrees_with_its_source(key):
    found, evidence = read_path(key)
    for entry in QUOTED.get(key, []):
        assert set(entry) <= {"figures", "sentence", "source", "look_up", "worked"}, entry
        assert entry.get("source") or entry.get("look_up") or entry.get("worked"), entry
        there = looked_up(entry["look_up"]) if "look_up" in entry else []
        for text in entry["figures"]:
            used = [f for f in found if f.text == text and entry["sentence"] in f.sentence]
            assert used, f"no sentence says {text} any more: {entry}"
            if "worked" in entry:
                result, parts = calculate(entry["worked"])
                assert follows(used[0], [Number(result, 12)]), f"{entry['worked']} is {result}: {entry}"
                known = there + [n for one in evidence for n in one.numbers + one.settings]
                known += numbers(used[0].sentence)
                for part in parts:  # whole numbers may be given, decimals are results
                    assert part.digits == 0 or any(abs(part.value - abs(n.value)) < 1e-9 for n in known), (
                        part,
                        entry,
                    )
            elif "look_up" in entry:
                assert follows(used[0], there), f"{text} does not stand in {entry['look_up']}: {entry}"


def test_quoted_figures_name_existing_texts():
    assert set(QUOTED) <= {"everywhere", *PATHS}
    for entry in QUOTED["everywhere"]:
        for text in entry["figures"]:
            assert any(text == f.text for key in PATHS for f in read_path(key)[0]), text
