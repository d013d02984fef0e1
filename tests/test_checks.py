"""What all checks have in common; the answers to each lesson's exercises are in test_checks_lessonNN.py."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from battery import verdict

from helpers.checks import exercise, number, shown

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted(path.stem for path in ROOT.glob("helpers/checks/lesson*.py"))
EXERCISES = [
    pytest.param(lesson, name, id=f"{lesson}-{name}")
    for lesson in LESSONS
    for name in ("exercise_1", "exercise_2", "exercise_3")
]


def require(condition, message):
    """`assert`, to whose message pytest adds nothing."""
    if not condition:
        raise AssertionError(message)


@exercise("doubling is adding a number to itself.", returns="one number")
def check_double(answer):
    require(answer(3) + 0 == 6, "3 doubled is 6")
    require(answer(0) + 0 == 0, "0 doubled is 0")


def fails(x):
    return x / 0


def fails_itself(x):
    require(x > 5, "x\nis small")
    return 2 * x


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda x: ..., "not answered yet"),
        (..., "not answered yet"),
        (None, "not answered yet"),
        (lambda x: None, "not right yet: your function returned nothing: did you forget `return`?"),
        (
            lambda x: 6 if x else None,
            "not right yet: your function returned nothing: did you forget `return`?",
        ),
        (lambda x: 6 if x else ..., "not answered yet"),
        (lambda x: x + x, "right: doubling is adding a number to itself."),
        (lambda x: np.float32(2 * x), "right: doubling is adding a number to itself."),
        (lambda x: x + 3, "not right yet: 0 doubled is 0"),
        (lambda x: "", "not right yet: return one number; yours is ''"),
        (lambda x: [x, x], "not right yet: return one number; yours is [3, 3]"),
        (
            fails,
            "not right yet: your code raised ZeroDivisionError: division by zero, when it was called with (3)",
        ),
        (
            fails_itself,
            "not right yet: your code raised AssertionError: x is small, when it was called with (3)",
        ),
        (
            lambda: 6,
            "not right yet: your code raised TypeError: <lambda>() takes 0 positional arguments but 1 was given, "
            "when it was called with (3)",
        ),
        (6, "not right yet: give the check your function itself, by its name and without calling it"),
    ],
)
def test_one_line_says_what_is_off(answer, line, capsys):
    assert verdict(check_double, answer, capsys) == line


@pytest.mark.parametrize("value", [0, False, "", [], {}, np.zeros(2)])
def test_empty_values_are_answers(value, capsys):
    assert verdict(check_double, lambda x: value, capsys).startswith("not right yet: ")


def test_long_arguments_are_not_repeated(capsys):
    @exercise("short.")
    def check(answer):
        answer(np.arange(1000), 3)

    def failing(x, y):
        raise ValueError("no")

    assert verdict(check, failing, capsys) == "not right yet: your code raised ValueError: no"


def test_what_a_check_measured_stands_before_the_insight(capsys):
    @exercise("six times seven.")
    def check(answer):
        return f"{answer()} it is:"

    assert verdict(check, lambda: 42, capsys) == "right: 42 it is: six times seven."


def test_check_keeps_its_name():
    assert check_double.__name__ == "check_double"


def test_answer_keeps_its_name_and_takes_keywords(capsys):
    @exercise("named.")
    def check(answer):
        require(answer.__name__ == "learners", "name")
        require(answer(1, y=2) == 3, "sum")

    def learners(x, y):
        return x + y

    assert verdict(check, learners, capsys) == "right: named."


def test_number():
    for value in (2, 2.0, np.int64(2), np.float32(2), np.array(2.0)):
        assert number(value) == 2 and type(number(value)) is float
    for value, message in (
        (np.zeros(1), "shape \\(1,\\)"),
        ([1, 2], "shape \\(2,\\)"),
        ("2", "one number, not '2'"),
        (True, "one number, not True"),
        (np.nan, "divided by 0"),
    ):
        with pytest.raises(AssertionError, match=message):
            number(value)


def test_shown():
    assert shown(np.array([[1, 2], [3, 4]])) == "array([[1, 2], [3, 4]])"
    assert shown("x" * 100) == f"'{'x' * 59}…"


def check_of(lesson, name):
    return getattr(importlib.import_module(f"helpers.checks.{lesson}"), name)


@pytest.mark.parametrize(("lesson", "name"), EXERCISES)
def test_dots_are_no_answer_and_nothing_is_a_forgotten_return(lesson, name, capsys):
    check = check_of(lesson, name)
    assert verdict(check, lambda *_, **__: ..., capsys) == "not answered yet"
    assert "did you forget `return`?" in verdict(check, lambda *_, **__: None, capsys)


ODD = ["", "text", [], {}, object(), np.zeros(3), np.full((2, 2), np.nan), [[1], [2, 3]], (1, 2), 1j, -1, len]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("lesson", "name"), EXERCISES)
def test_no_raw_error_reaches_the_learner(lesson, name, capsys):
    for odd in ODD:
        line = verdict(check_of(lesson, name), lambda *_, odd=odd, **__: odd, capsys)
        assert line.startswith("not right yet: ") and "Error" not in line, (odd, line)
        assert "what the exercise asks for" not in line, (odd, line)


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_lesson_has_its_battery(lesson):
    battery = importlib.import_module(f"test_checks_{lesson}")
    checks = {check_of(lesson, name) for name in ("exercise_1", "exercise_2", "exercise_3")}
    assert set(battery.WRONG) == set(battery.RIGHT) == checks
    assert battery.test_wrong and battery.test_right
