"""Solved homework has full marks, untouched homework none, and a wrong answer costs its own exercise only."""

import inspect
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

from utils import pages
from utils.check import Answer, Case, Cases
from utils.grading import Stop, executors, grade, homework, record, runner, wall, wire
from utils.grading.repair import Cell, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from wrong_answers import wrong_answers  # noqa: E402

SOURCES = sorted((pages.ROOT / "solutions").glob("hw*.ipynb"))
HOMEWORKS = [path.name[:4] for path in SOURCES]
WALLS = [name for name in ("bubblewrap", "landlock") if not wall.lacking(name)]
LONG = os.environ.get("COURSE_LONG") == "1"
pytestmark = pytest.mark.skipif(not WALLS, reason="no wall holds on this machine, so nothing is graded on it")


@pytest.fixture(scope="module")
def executor():
    yield executors.Local(1)
    runner.close_all()


def solved_page(name, other=()):
    """The page of a student who solved everything but the exercises in `other`: {exercise: its cell}."""
    solutions = homework.load(name).solutions | dict(other)
    return Page(tuple(Cell(source, name, name) for name, source in solutions.items()), {}, ())


def as_cell(wrong):
    """A wrong answer as a student would have it on the page, with the helpers that stand around it in its module."""
    module = inspect.getsource(inspect.getmodule(wrong.function))
    module = module.replace("from . import wrong", "wrong = lambda *words: lambda function: function")
    return (
        f"names = {{}}\nexec({module!r}, names)\n"
        f"def {wrong.exercise}(*args):\n    return names[{wrong.function.__name__!r}](*args)\n"
    )


def first_wrong(name, exercise):
    return as_cell(next(wrong for wrong in wrong_answers(name) if wrong.exercise == exercise))


def verdicts(name, page, executor, which=None, wall=None):
    """{exercise: what came of it}, of all exercises or of these."""
    hw = homework.load(name)
    judged = grade.Verdicts(hw, page, executor, wall, runner.LIMITS)
    if which is None:
        return judged.all()[0]
    asked = [(exercise, (), len(page.cells)) for exercise in hw.exercises if exercise.name in which]
    return {name: part for name, (part, _) in judged.asked(asked)[0].items()}


def points(found):
    return {name: part["points"] for name, part in found.items()}


def hand_in(folder, student, nb):
    folder.mkdir(exist_ok=True)
    nbformat.write(nb, folder / f"{student}.ipynb")


# ---- right, untouched, wrong ----


@pytest.mark.parametrize("name", HOMEWORKS)
def test_right_untouched_and_wrong_homework(name, executor, tmp_path):
    """Full marks, none, and where every second exercise is wrong, just these are lost: not those that call them."""
    hw, path = homework.load(name), homework.find(name)
    halves = {
        half: {one.name for one in hw.exercises[start::2]} for start, half in enumerate(("even", "odd"))
    }
    hand_in(tmp_path / "in", "solved", pages.read(path))
    hand_in(tmp_path / "in", "untouched", pages.read(pages.ROOT / "notebooks" / path.name))
    for half, names in halves.items():
        nb = pages.read(path)
        for cell in filter(homework.is_exercise, nb.cells):
            exercise = pages.graded(cell)["grade_id"]
            cell.source = first_wrong(name, exercise) if exercise in names else cell.source
        hand_in(tmp_path / "in", half, nb)
    records = grade.grade(name, tmp_path / "in", tmp_path / "out", executor, quiet=True)
    found = {record["student"]: points(record["exercises"]) for record in records}
    full = {one.name: one.points for one in hw.exercises}
    assert found["solved"] == full and found["untouched"] == dict.fromkeys(full, 0)
    for half, names in halves.items():
        assert found[half] == {name: 0 if name in names else points for name, points in full.items()}
    verdicts = {
        record["student"]: {one["verdict"] for one in record["exercises"].values()} for record in records
    }
    assert verdicts["solved"] == {"right"} and verdicts["untouched"] == {"empty"}
    assert all(one["text"] for one in records[2]["written"].values()) and records[2]["student"] == "solved"


@pytest.mark.skipif(not LONG, reason="all wrong answers behind the wall take four minutes: COURSE_LONG=1")
@pytest.mark.parametrize("name", HOMEWORKS)
def test_each_wrong_answer_has_no_points(name, executor):
    """Behind the wall and judged from what comes back, every named wrong answer is as wrong as on the page."""
    survivors = []
    for wrong in wrong_answers(name):
        page = solved_page(name, {wrong.exercise: as_cell(wrong)})
        part = verdicts(name, page, executor, {wrong.exercise})[wrong.exercise]
        if part["points"] or part["verdict"] == "right" or not part["lines"][0].startswith("✗"):
            survivors.append((wrong.name, part["lines"]))
    assert not survivors


def test_a_mistake_is_named_in_the_words_of_the_case(executor):
    wrong = next(wrong for wrong in wrong_answers("hw07") if "temperature" in wrong.says)
    page = solved_page("hw07", {wrong.exercise: as_cell(wrong)})
    part = verdicts("hw07", page, executor, {wrong.exercise})[wrong.exercise]
    assert wrong.says in part["mistake"] and part["mistake"] in part["lines"][-1]


def test_an_exercise_is_asked_where_it_stands(executor):
    """A helper's name that a later cell uses for something else costs nothing, nor does one that stands too low."""
    solutions = homework.load("hw20").solutions
    names = list(solutions)
    helped = "def helper(x):\n    return {}\n\n" + "{}"
    first = solutions[names[0]].replace("    ### BEGIN SOLUTION", "    helper(1)")
    second = solutions[names[1]].replace("    ### BEGIN SOLUTION", "    below(1)")
    cells = [Cell(helped.format("x", first), names[0], "cell 1"), Cell(second, names[1], "cell 2")]
    cells += [Cell(solutions[name], name, name) for name in names[2:]]
    cells += [Cell("def helper():\n    pass", "", "cell 8"), Cell("def below(x):\n    pass", "", "cell 9")]
    found = verdicts("hw20", Page(tuple(cells), {}, ()), executor)
    assert {part["verdict"] for part in found.values()} == {"right"}


# ---- what is said of inputs that are not on the page ----

SECRET = Cases("f(x)", [Case((n,), 1000 + n) for n in range(9)])
EXERCISE = homework.Exercise("f", "1. F", 3, Cases(SECRET.call, SECRET.cases[:2]), SECRET)


def told(answers, end="done", **more):
    replies = [wire.pack([one.value, one.problem, one.error, one.state, [], one.printed]) for one in answers]
    nothing = {"troubles": wire.pack([]), "signal": 0, "seconds": 0.1, "peak": 1}
    return nothing | {"replies": replies, "end": end} | more


def judged(answers, end="done", **more):
    return grade.Verdicts(None, None, None, None, runner.LIMITS).judged(EXERCISE, told(answers, end, **more))[
        0
    ]


RIGHT = [Answer(1000 + n) for n in range(9)]


@pytest.mark.parametrize(
    "last, says",
    [
        (Answer(77), "the answer is not the one expected"),
        (Answer([1008, 1008]), "the answer is not the one expected"),
        (Answer(problem="raises KeyError: 8, at `x[8]`", error="KeyError"), "f raises KeyError"),
        (Answer(problem="raises Argument8: 8", error="Argument8"), "f raises an exception"),
        (Answer(problem="returns something of type Type8"), "gives no answer of the kind"),
        (Answer(problem="still runs", state="late"), "f still runs"),
    ],
)
def test_a_failure_beyond_the_page_tells_nothing_of_its_input(last, says):
    found = judged([*RIGHT[:8], last])
    assert found["points"] == 0 and found["mistake"] == ""
    assert found["lines"][0] == "✗ f: right in the 2 cases of the page, wrong in 1 of 7 others"
    assert says in found["lines"][1] and not re.search(
        r"8|1008|77", "".join(found["lines"]).replace("still", "")
    )


@pytest.mark.parametrize("n_replies", range(9))
def test_an_answer_that_is_missing_is_never_right(n_replies):
    for end in ("done", "Ended", "TooLate", "TooLong", "TooMuch"):
        assert judged(RIGHT[:n_replies], end)["points"] == 0
    assert judged(RIGHT)["points"] == 3


def test_replies_of_another_form_are_wrong_answers():
    forms = [
        b"",
        b"\x00" * 9,
        wire.pack(1000),
        wire.pack([1000]),
        wire.pack({"value": 1000, "state": "done"}),
    ]
    forms += [wire.pack([1000, 1, 2, 3, 4, 5]), wire.pack([1000, "", "", "right", [], ""])]
    forms += [wire.pack([1000, "", "", "done", [99], ""]), wire.pack([1000, "", "", "done", ["points"], ""])]
    deep = []
    for _ in range(100):
        deep = [deep]
    forms += [wire.pack([value, "", "", "done", [], ""]) for value in (deep, [0] * 1_100_000)]
    for form in forms:
        answer = grade.read(form)
        assert answer.value is None and answer.problem == "gives no answer that can be read"


# ---- what would spoil the grades of a class is refused before anything runs ----


class Idle:
    """An executor that must not be asked."""

    at_once = 1

    def run(self, job):
        raise AssertionError("something ran")


def refused(folder, out, says, name="hw20"):
    with pytest.raises(Stop, match=says):
        grade.grade(name, folder, out, Idle(), quiet=True)


@pytest.fixture
def two(tmp_path):
    for student in ("ada", "bob"):
        hand_in(tmp_path / "in", student, pages.read(homework.find("hw20")))
    return tmp_path / "in"


def test_another_homework_is_refused(two, tmp_path):
    refused(two, tmp_path / "out", "None of these 2 notebooks is hw07", "hw07")


def test_grades_do_not_lie_among_submissions(two):
    refused(two, two / "out", "lies in the folder of submissions")
    refused(two, two, "lies in the folder of submissions")


def test_a_folder_of_grades_is_for_one_homework(two, tmp_path):
    with record.opened(tmp_path / "out") as kept:
        kept.append(entry("ada"))
    refused(two, tmp_path / "out", "holds grades of hw07")


def test_points_that_belong_to_nobody_here_are_refused_first(two, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "written.csv").write_text("student,question,points\nzoe,the-leash,2\n")
    refused(two, tmp_path / "out", "no submission is by")


def test_the_grades_are_those_of_the_folder(two, tmp_path, executor):
    """Who was graded into the same folder before but is not among these submissions has no line."""
    out = tmp_path / "out"
    assert len(grade.grade("hw20", two, out, executor, quiet=True)) == 2
    (two / "bob.ipynb").unlink()
    assert [one["student"] for one in grade.grade("hw20", two, out, Idle(), quiet=True)] == ["ada"]
    assert "bob" not in (out / "grades.csv").read_text(encoding="utf-8-sig")
    assert len((out / "record.jsonl").read_text().splitlines()) == 2


# ---- the record ----


def entry(student, n=0, **more):
    return {"student": student, "homework": "hw07", "sha256": str(n), "fingerprint": "f", "file": "x"} | more


def test_the_newest_line_of_a_student_counts(tmp_path):
    with record.opened(tmp_path) as kept:
        for line in (entry("a", 1), entry("b", 1), entry("a", 2), entry("a", 3, homework="hw01")):
            kept.append(line)
    with record.opened(tmp_path) as kept:
        newest = kept.newest(homework.load("hw07"))
    assert {student: line["sha256"] for student, line in newest.items()} == {"a": "2", "b": "1"}


def test_a_line_cut_short_by_a_kill_is_as_if_it_had_not_begun(tmp_path):
    with record.opened(tmp_path) as kept:
        kept.append(entry("a")), kept.append(entry("b"))
    whole = (tmp_path / "record.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        (tmp_path / "record.jsonl").write_bytes(whole[:cut])
        with record.opened(tmp_path) as kept:
            assert len(kept.found) == (cut >= first) + (cut >= len(whole))
            kept.append(entry("c"))
        with record.opened(tmp_path) as kept:
            assert kept.found[-1] == entry("c") and len(kept.found) == (cut >= first) + 1


def test_a_damaged_line_costs_itself_only(tmp_path):
    (tmp_path / "record.jsonl").write_bytes(b'{"student": 1}\n\xff\n[]\n{}\n')
    with record.opened(tmp_path) as kept:
        kept.append(entry("a"))
    with record.opened(tmp_path) as kept:
        assert kept.found == [entry("a")]


def test_two_graders_do_not_share_a_folder(tmp_path):
    with record.opened(tmp_path), pytest.raises(Stop, match="Another grader is at work"):
        with record.opened(tmp_path):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="file cannot be written"):
        with record.opened(tmp_path / "file"):
            pass
