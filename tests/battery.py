"""Batteries for the exercises' checks: plausible wrong answers, each with its mistake, and right ones in any style."""

import pytest


def verdict(check, answer, capsys):
    """The line that a check prints about an answer; the answer's own warnings are not errors."""
    capsys.readouterr()
    assert check(answer) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def refuses(wrong):
    """A test of {check: [(answer, what the line must say about its mistake), ...]}, at least eight for each check."""
    assert all(len(answers) >= 8 for answers in wrong.values()), {
        c.__name__: len(a) for c, a in wrong.items()
    }
    table = [(check, answer, mistake) for check, answers in wrong.items() for answer, mistake in answers]

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(("check", "answer", "mistake"), table, ids=_names(table))
    def test_wrong_answer_is_told_its_mistake(check, answer, mistake, capsys):
        line = verdict(check, answer, capsys)
        assert line.startswith("not right yet: ") and mistake in line, line

    return test_wrong_answer_is_told_its_mistake


def accepts(right):
    """A test of {check: [answer, ...]}, at least four answers for each check."""
    assert all(len(answers) >= 4 for answers in right.values()), {
        c.__name__: len(a) for c, a in right.items()
    }
    table = [(check, answer) for check, answers in right.items() for answer in answers]

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(("check", "answer"), table, ids=_names(table))
    def test_right_answer_is_right_in_any_style(check, answer, capsys):
        line = verdict(check, answer, capsys)
        assert line.startswith("right: "), line

    return test_right_answer_is_right_in_any_style


def _names(table):
    return [f"{row[0].__name__}-{getattr(row[1], '__name__', 'answer').strip('<>')}" for row in table]
