"""The decorator that turns assertions into one printed line; the checks themselves are run by the notebooks."""

import pytest

from helpers.checks import exercise


def require(condition, message):
    """`assert`, to whose message pytest adds nothing."""
    if not condition:
        raise AssertionError(message)


@exercise("doubling is adding a number to itself.")
def check_double(answer):
    require(answer(3) == 6, "3 doubled is 6")
    require(answer(0) == 0, "0 doubled is 0")


@exercise("six times seven.")
def check_number(answer):
    require(answer == 42, f"{answer} is not it")


def printed_by(check, answer, capsys):
    assert check(answer) is None
    return capsys.readouterr().out


@pytest.mark.parametrize("answer", [None, ..., lambda x: None, lambda x: ...])
def test_untouched_stub_is_not_answered_yet(capsys, answer):
    assert printed_by(check_double, answer, capsys) == "not answered yet\n"


def test_right_answer_earns_the_insight(capsys):
    expected = "right: doubling is adding a number to itself.\n"
    assert printed_by(check_double, lambda x: x + x, capsys) == expected
    assert printed_by(check_number, 42, capsys) == "right: six times seven.\n"


def test_wrong_answer_is_told_what_is_off(capsys):
    assert printed_by(check_double, lambda x: x + 3, capsys) == "not right yet: 0 doubled is 0\n"
    assert printed_by(check_number, 41, capsys) == "not right yet: 41 is not it\n"


@pytest.mark.parametrize("answer", [0, False, "", [], {}])
def test_empty_values_are_answers(capsys, answer):
    assert printed_by(check_number, answer, capsys) == f"not right yet: {answer} is not it\n"


def test_error_of_the_learners_code_is_reported(capsys):
    def broken(x):
        return x / 0

    expected = "not right yet: your code raised ZeroDivisionError: division by zero\n"
    assert printed_by(check_double, broken, capsys) == expected


def test_function_that_answers_only_sometimes_is_not_answered_yet(capsys):
    assert printed_by(check_double, lambda x: 6 if x == 3 else None, capsys) == "not answered yet\n"


def test_check_keeps_its_name():
    assert check_double.__name__ == "check_double"


def test_answer_keeps_its_name_and_takes_keywords(capsys):
    @exercise("named.")
    def check(answer):
        require(answer.__name__ == "learners", "name")
        require(answer(1, y=2) == 3, "sum")

    def learners(x, y):
        return x + y

    assert printed_by(check, learners, capsys) == "right: named.\n"
