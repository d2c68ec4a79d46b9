"""Repair: odd but honest pages lose nothing, what is no page is told so, nothing is run and nothing crashes."""

import pytest

from utils.grading import repair as repairing
from utils.grading.homework import load
from utils.grading.repair import repair
from utils.grading.tidy import parse

from . import odd

QUIET = {
    *("as it should be", "Windows line ends in the file", "Windows line ends in the cells", "another kernel"),
    *(
        "escaped JSON on one line",
        "sources as lists of lines",
        "sources as lists of lines that lost their ends",
    ),
    *("saved with outputs, warnings and an error", "saved by Colab", "zeros at the end of the file"),
    *("check and case cells deleted", "tabs for indentation", "untouched stubs left below the answers"),
    *("written answer below the placeholder, in its cell", "each answer merged with its cases and its check"),
    *("a second copy of the whole page below the first, unsolved",),
    *("an answer split into import, helper and function",),
}


@pytest.fixture(scope="module", params=["hw01", "hw07"])
def homework(request):
    return load(request.param)


@pytest.fixture(scope="module")
def ground():
    """The names of hw01 before any answer, as plain data: a new dict each time."""
    names = {"__name__": "page"}
    for source in load("hw01").ground:
        exec(compile(source, "<ground>", "exec"), names)
    return lambda: dict(names)


def page_of(homework, change):
    """The repaired page, after `change` has worked on the solved notebook."""
    return repair(odd.damage("tried")(change)(odd.solved(homework)), homework)


def answered(page):
    return [cell.exercise for cell in page.cells if cell.exercise]


def names_of(homework):
    return [exercise.name for exercise in homework.exercises]


@pytest.mark.parametrize("name", odd.ODD)
def test_odd_pages_keep_every_answer(name, homework):
    page = repair(odd.ODD[name](odd.solved(homework)), homework)
    assert answered(page) == names_of(homework)
    for cell in page.cells:
        if cell.exercise:
            assert repairing.defined(parse(odd.solution(homework, cell.exercise)).body[-1]) == {cell.exercise}
    assert list(page.written.values()) == [odd.WORDS] * len(homework.written)
    assert all(note.endswith((".", "?")) and "\n" not in note for note in page.notes)
    assert bool(page.notes) != (name in QUIET), page.notes
