"""The checks of the exercises, a module for each lesson.

A check is called with the learner's answer, a value or a function, and prints one line: that the stub is still
untouched, what is off, or that the answer is right and what it teaches.
"""

import functools


class NotAnsweredError(Exception):
    """The stub still returns nothing."""


def exercise(insight):
    """Turn a function that asserts what a right answer does into a check that prints one line.

    Args:
        insight: the sentence that a right answer earns.

    Returns:
        A decorator. The decorated function takes the learner's answer; its `assert` messages say what is off. An answer
        of `None` or `...`, or a function that returns one of them, counts as not answered yet.
    """

    def decorate(check):
        @functools.wraps(check)
        def run(answer):
            try:
                check(_answered(answer))
            except NotAnsweredError:
                print("not answered yet")
            except AssertionError as error:
                print(f"not right yet: {error}")
            except Exception as error:  # whatever the learner's code raises is reported, not thrown at them
                print(f"not right yet: your code raised {type(error).__name__}: {error}")
            else:
                print(f"right: {insight}")

        return run

    return decorate


def _answered(answer):
    if answer is None or answer is ...:
        raise NotAnsweredError
    if not callable(answer):
        return answer

    @functools.wraps(answer)
    def call(*args, **kwargs):
        return _answered(answer(*args, **kwargs))

    return call
