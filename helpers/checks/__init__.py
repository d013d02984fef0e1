"""The checks of the exercises, a module for each lesson.

A check is called with the learner's function and prints one line: that the stub is still untouched, what is off, or
that the answer is right and what it teaches.
"""

import functools

import numpy as np


class NotAnsweredError(Exception):
    """The stub still returns its dots."""


class Refused(AssertionError):
    """What a check finds wrong from within the learner's code: an object that the check lent it complains."""


class LearnersError(Exception):
    """The learner's code raised an error, which is this one's cause; the message says what it was called with."""


def exercise(insight, returns="what the exercise asks for"):
    """Turn a function that asserts what a right answer does into a check that prints one line.

    Args:
        insight: the sentence that a right answer earns. A check that measured something may return what should stand
            before it.
        returns: what the learner's function should return, in words; said if the check cannot read what it returned.

    Returns:
        A decorator. The decorated function takes the learner's answer; its `assert` messages say what is off. A
        function that returns `...` is not answered yet, one that returns `None` is filled, but without a `return`.
    """

    def decorate(check):
        @functools.wraps(check)
        def run(answer):
            returned = []
            try:
                measured = check(_watched(answer, returned))
            except NotAnsweredError:
                print("not answered yet")
            except AssertionError as error:
                print(f"not right yet: {error}")
            except (
                LearnersError
            ) as error:  # whatever the learner's code raises is reported, not thrown at them
                cause = error.__cause__
                print(
                    f"not right yet: your code raised {type(cause).__name__}: {' '.join(str(cause).split())}{error}"
                )
            except Exception:  # raised by the check itself, which expected something else
                if returned:
                    print(f"not right yet: return {returns}; yours is {shown(returned[-1])}")
                else:
                    print(
                        "not right yet: give the check your function itself, by its name and without calling it"
                    )
            else:
                print(f"right: {measured} {insight}" if measured else f"right: {insight}")

        return run

    return decorate


def _watched(answer, returned):
    """The answer, as it is or, if it is a function, one that keeps what it returned and marks its own errors."""
    if answer is None or answer is ...:
        raise NotAnsweredError
    if not callable(answer):
        return answer

    @functools.wraps(answer)
    def call(*args, **kwargs):
        result = guarded(answer)(*args, **kwargs)
        assert result is not None, "your function returned nothing: did you forget `return`?"
        if result is ...:
            raise NotAnsweredError
        returned.append(result)
        return result

    return call


def guarded(function):
    """A function of the learner's, or one that runs their code, whose errors are theirs and not the check's."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Refused:
            raise
        except Exception as error:
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            short = len(given) <= 60 and "\n" not in given
            raise LearnersError(f", when it was called with ({given})" if short else "") from error

    return call


def number(value):
    """What the learner returned, as a float; Python's numbers, NumPy's and arrays without axes are welcome."""
    array = np.asarray(value)
    assert array.ndim == 0, f"return one number; yours has the shape {array.shape}"
    assert array.dtype.kind in "iuf", f"return one number, not {shown(value)}"
    assert not np.isnan(array), "your number is nan: something is divided by 0, or averaged over nothing"
    return float(array)


def shown(value, most=60):
    """A value as it looks, on one line and cut if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]}…"
