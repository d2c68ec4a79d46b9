"""Named wrong answers: what a student may plausibly write, one module per homework, named after it (hw07.py).

Each is a function with the exercise's arguments; its name says what is wrong with it, and `says` is a piece of
the message with which the exercise's check must reject it. No two of an exercise may get the same message.
"""

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Wrong:
    """One wrong answer to an exercise, and a piece of the message that must name the mistake."""

    exercise: str
    function: object
    says: str

    @property
    def name(self):
        return f"{self.exercise}-{self.function.__name__}"


def wrong(exercise, says):
    """Mark a function as a wrong answer to `exercise`; it stands in the list WRONG of its module."""

    def mark(function):
        function.__globals__.setdefault("WRONG", []).append(Wrong(exercise, function, says))
        return function

    return mark


def wrong_answers(homework):
    """All wrong answers to a homework, given by its number: "hw07"."""
    return importlib.import_module(f"{__name__}.{homework}").WRONG
