"""Checks of homework: right answers pass, every named wrong answer is told what is wrong, nothing stops the page."""

import copy
import functools
import json
import math
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils import pages
from utils.check import Answer, Case, Cases, Raises, Table, ask, check, judge, plain, same

sys.path.insert(0, str(Path(__file__).resolve().parent))
from wrong_answers import wrong_answers  # noqa: E402

SOURCES = sorted((pages.ROOT / "solutions").glob("hw*.ipynb"))
NUMBERS = ("01", "02", "03", "04", "06", "07", "09", "14", "17", "20", "25")
POINTS, MINUTES = {f"hw{number}": 20 for number in NUMBERS}, (90, 160)
FLOOR = 4  # wrong answers that each exercise has at least


def mark(cell):
    return cell.metadata.get("nbgrader", {})


def graded_cells(path):
    """Names of the exercises of a homework in order: the code cells that hold a solution."""
    return [
        mark(cell)["grade_id"]
        for cell in pages.read(path).cells
        if cell.cell_type == "code" and mark(cell).get("solution")
    ]


@functools.cache
def exercises(homework):
    """{name: its public and hidden cases, the right answer, the stub}, got by running the cells without payoffs."""
    path = next(path for path in SOURCES if path.name.startswith(homework))
    found, given = {}, []

    def note(function, cases):
        given.append(cases)
        return (
            len(given) > 1
        )  # the public check guards the payoff, which is left out; hidden ones are asserted

    def run(cell, names):
        exec(compile(cell.source, cell.id, "exec"), names)

    solved, unsolved = {"__name__": "page"}, {"__name__": "page"}
    stubs = {cell.id: cell for cell in pages.cut(pages.read(path), path).cells}
    for cell in pages.read(path).cells:
        kind = mark(cell)
        if cell.cell_type != "code" or not kind or cell.id == "model":
            continue
        solved["check"] = note
        given.clear()
        run(cell, solved)
        if kind["solution"]:
            run(stubs[cell.id], unsolved)
            found[kind["grade_id"]] = SimpleNamespace(
                answer=solved[kind["grade_id"]], stub=unsolved[kind["grade_id"]]
            )
        elif kind["grade"]:
            found[given[0].name].public, found[given[0].name].hidden = given
        elif cell.id == "setup":
            run(cell, unsolved)
    torch.set_grad_enabled(True)
    return found


def said(capsys, function, cases):
    """The verdict of a check, and what it says."""
    verdict = check(function, cases)
    return verdict, capsys.readouterr().out


def arrow(text):
    """The sentence that explains a failure."""
    return text.partition("→ ")[2].splitlines()[0]


EXERCISES = [(path.name[:4], name) for path in SOURCES for name in graded_cells(path)]
WRONG = [(path.name[:4], wrong) for path in SOURCES for wrong in wrong_answers(path.name[:4])]
each_exercise = pytest.mark.parametrize(
    "homework, name", EXERCISES, ids=["-".join(pair) for pair in EXERCISES]
)
each_wrong = pytest.mark.parametrize(
    "homework, wrong", WRONG, ids=[f"{hw}-{wrong.name}" for hw, wrong in WRONG]
)


# ---- every exercise of every homework ----


@each_exercise
def test_the_solution_passes(homework, name, capsys):
    exercise = exercises(homework)[name]
    for cases in (exercise.public, exercise.hidden):
        verdict, text = said(capsys, exercise.answer, cases)
        assert verdict and text == f"✓ {name}: {len(cases.cases)} of {len(cases.cases)} cases\n"
    assert len(exercise.hidden.cases) >= len(exercise.public.cases) + 20


@each_exercise
def test_the_untouched_stub_is_not_written_yet(homework, name, capsys):
    exercise = exercises(homework)[name]
    assert said(capsys, exercise.stub, exercise.public) == (False, f"○ {name}: not written yet\n")


@pytest.mark.mutant
@each_wrong
def test_a_wrong_answer_is_told_its_mistake(homework, wrong, capsys):
    verdict, text = said(capsys, wrong.function, exercises(homework)[wrong.exercise].public)
    assert not verdict
    assert text.startswith("✗") and wrong.says in arrow(text), text


@each_wrong
def test_the_hidden_tests_reject_it_too(homework, wrong):
    exercise = exercises(homework)[wrong.exercise]
    unseen = exercise.hidden.cases[len(exercise.public.cases) :]
    assert unseen and not check(wrong.function, Cases(exercise.hidden.call, unseen))


@each_exercise
def test_no_two_mistakes_get_one_message(homework, name, capsys):
    exercise = exercises(homework)[name]
    wrongs = [wrong for wrong in wrong_answers(homework) if wrong.exercise == name]
    messages = [arrow(said(capsys, wrong.function, exercise.public)[1]) for wrong in wrongs]
    assert len(wrongs) >= FLOOR
    assert len(set(messages)) == len(messages), messages


@each_exercise
def test_each_message_of_a_case_is_said_to_some_wrong_answer(homework, name, capsys):
    exercise = exercises(homework)[name]
    messages = {
        arrow(said(capsys, wrong.function, exercise.public)[1])
        for wrong in wrong_answers(homework)
        if wrong.exercise == name
    }
    assert {words for case in exercise.public.cases for words in case.mistakes} <= messages


def ties_turned_round(beams, next_log_probs, end, width, dtype=np.float32):
    """A right beam step that adds in single precision and takes equal scores in the other order."""
    candidates = []
    for ids, score in beams:
        grown = enumerate(next_log_probs(ids).numpy().astype(dtype))
        grown = [([*ids, token], float(dtype(score) + log_p)) for token, log_p in grown]
        candidates += [(ids, score)] if ids[-1] == end else grown
    return sorted(candidates[::-1], key=lambda beam: -beam[1])[:width]


def test_ties_of_a_beam_may_come_in_any_order():
    """No case depends on one, nor on the last digit of a score: the contract leaves that open."""

    def search(next_log_probs, start, end, width, n_steps, alpha):
        beams = [([start], 0.0)]
        for _ in range(n_steps):
            beams = ties_turned_round(beams, next_log_probs, end, width)
        beams = [(ids, score / (len(ids) - 1) ** alpha) for ids, score in beams]
        return sorted(beams[::-1], key=lambda beam: -beam[1])

    found = exercises("hw07")
    for name, function in (("beam_step", ties_turned_round), ("beam_search", search)):
        assert check(function, found[name].public) and check(function, found[name].hidden)


@each_exercise
def test_no_mistake_is_the_right_answer(homework, name):
    public = exercises(homework)[name].public
    for case in public.cases:
        for words, value in case.mistakes.items():
            assert not same(value, case.expected, public.tolerance), words


@each_exercise
def test_the_worked_case_of_the_check_says_no_more_than_the_page(homework, name, capsys):
    """What a check prints stays short: a line for each argument, and at most six more."""
    exercise = exercises(homework)[name]
    longest = len(exercise.public.parameters) + 6
    for wrong in [wrong for wrong in wrong_answers(homework) if wrong.exercise == name]:
        text = said(capsys, wrong.function, exercise.public)[1]
        assert len(text.splitlines()) <= longest and max(map(len, text.splitlines())) <= 200


# ---- the form of a homework page ----


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_points_minutes_hints_and_marks(path):
    cells = pages.read(path).cells
    marks = [mark(cell) for cell in cells if mark(cell)]
    assert len({kind["grade_id"] for kind in marks}) == len(marks)
    for kind in marks:
        assert kind["schema_version"] == 3 and kind["task"] is False
        assert ("points" in kind) == kind["grade"] and kind["locked"] == (not kind["solution"])
    points = [kind["points"] for kind in marks if kind["grade"]]
    assert sum(points) == POINTS[path.name[:4]]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    stated = re.findall(r"^## \d.* · (\d+) points · (\d+) minutes", text, re.MULTILINE)
    assert [int(said) for said, _ in stated] == points
    minutes = sum(int(minutes) for _, minutes in stated)
    assert MINUTES[0] <= minutes <= MINUTES[1] and pages.read(path).metadata["course"]["minutes"] == minutes
    assert f"{sum(points)} points, about {minutes} minutes" in cells[0].source
    assert text.count("<details><summary>Hint") == 3 * len(graded_cells(path))
    assert any(
        mark(cell).get("grade") and cell.cell_type == "markdown" for cell in cells
    )  # the written answer


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_check_stands_right_below_its_function(path):
    """Between the two is only the cell with the check's cases, which is folded, for it names the mistakes."""
    cells = pages.read(path).cells
    for at, cell in enumerate(cells):
        if cell.cell_type == "code" and mark(cell).get("solution"):
            name, (cases, check_cell) = mark(cell)["grade_id"], cells[at + 1 : at + 3]
            assert f"{name}_cases = Cases(" in cases.source and cases.metadata["jupyter"]["source_hidden"]
            assert mark(check_cell)["grade"] and f"check({name}, {name}_cases)" in check_cell.source
            assert "### BEGIN HIDDEN TESTS" in check_cell.source


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_cases_are_compact(path):
    """A mistake is one line, so that a page without folding is not all cases."""
    for cell in pages.read(path).cells:
        if "source_hidden" in cell.metadata.get("jupyter", {}):
            assert len(cell.source.splitlines()) <= 40 and max(map(len, cell.source.splitlines())) <= 110


# ---- cases travel: the call in one process, the judgement in another ----

WORKER = """
import json, sys
import numpy as np
from utils.check import Case, Table, ask

def back(data):
    if isinstance(data, list): return [back(part) for part in data]
    if not isinstance(data, dict): return data
    (kind, value), = data.items()
    if kind == "array": return np.array(value["values"], dtype=value["dtype"]).reshape(value["shape"])
    if kind == "bytes": return bytes(value)
    if kind == "dict": return {key: back(part) for key, part in value}
    return Table({tuple(key): row for key, row in value})

def forth(value):
    if isinstance(value, np.ndarray):
        return {"array": {"dtype": str(value.dtype), "shape": value.shape, "values": value.ravel().tolist()}}
    if isinstance(value, dict): return {"dict": [[key, forth(part)] for key, part in value.items()]}
    return [forth(part) for part in value] if isinstance(value, list) else value

names = {}
exec("import math, torch\\nfrom collections import Counter\\n" + sys.argv[1], names)
for line in sys.stdin:
    call = json.loads(line)
    answer = ask(names[call["function"]], Case(tuple(back(call["args"]))))
    print(json.dumps([forth(answer.value), answer.problem, answer.error, list(answer.changed)]))
"""


def as_json(value):
    if isinstance(value, np.ndarray):
        return {"array": {"dtype": str(value.dtype), "shape": value.shape, "values": value.ravel().tolist()}}
    if isinstance(value, Table):
        return {"table": [[list(key), row] for key, row in value.rows.items()]}
    if isinstance(value, bytes):
        return {"bytes": list(value)}
    if isinstance(value, dict):
        return {"dict": [[key, as_json(part)] for key, part in value.items()]}
    return [as_json(part) for part in value] if isinstance(value, list) else value


def from_json(value):
    if isinstance(value, dict) and "dict" in value:
        return {key: from_json(part) for key, part in value["dict"]}
    if isinstance(value, dict):
        array = value["array"]
        return np.array(array["values"], dtype=array["dtype"]).reshape(array["shape"])
    return [from_json(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_calls_may_be_made_in_another_process(path):
    """Only function names and plain arguments go there, only plain answers come back; the verdict is ours."""
    found = exercises(path.name[:4])
    source = "\n".join(
        cell.source
        for cell in pages.read(path).cells
        if mark(cell).get("solution") and cell.cell_type == "code"
    )
    calls = [(exercise.hidden, case) for exercise in found.values() for case in exercise.hidden.cases]
    lines = [json.dumps({"function": cases.name, "args": as_json(case.args)}) for cases, case in calls]
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, source],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=pages.ROOT,
    )
    replies = [json.loads(line) for line in worker.stdout.splitlines()]
    assert len(replies) == len(calls), worker.stderr
    for (cases, case), (value, problem, error, changed) in zip(calls, replies):
        answer = Answer(from_json(value), problem, error, changed=tuple(changed))
        assert judge(case, answer, cases) is None
        if isinstance(case.expected, np.ndarray):
            assert judge(case, Answer(case.expected + 1), cases) is not None


# ---- check never raises, whatever the function does ----


def test_a_part_of_another_shape_is_named(capsys):
    """Even where the two shapes could be stretched to meet."""
    cases = Cases("split(x)", [Case((1.0,), (torch.zeros(2), torch.zeros(2, 2)))])
    verdict, text = said(capsys, lambda x: (torch.zeros(2, 2), torch.zeros(2)), cases)
    assert not verdict and "at [0]: the shape is (2, 2), where (2,) is expected" in text


HALVES = Cases("halve(numbers)", [Case((torch.tensor([2.0, 4.0]),), torch.tensor([1.0, 2.0]))], seconds=0.3)


class LyingTensor(torch.Tensor):
    """Says yes to every comparison."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True


class LyingArray(np.ndarray):
    def __eq__(self, other):
        return np.True_

    def __array_function__(self, function, types, args, kwargs):
        return True


class Liar:
    """Claims to be a tensor and equal to everything."""

    __class__ = torch.Tensor
    shape, dtype = (2,), torch.float32

    def __eq__(self, other):
        return True

    def __getattr__(self, name):
        raise SystemExit("looked at")


class LyingNumber(float):
    def __eq__(self, other):
        return True


class Spiteful(BaseException):
    def __str__(self):
        raise KeyboardInterrupt


class Endless(Exception):
    def __str__(self):
        while True:
            pass


def raising(error):
    def halve(numbers):
        raise error

    return halve


def endless(numbers):
    while True:
        pass


def endless_and_deaf(numbers):
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


def without_end(numbers):
    return without_end(numbers)


def loops_in_itself(numbers):
    items = []
    items.append(items)
    return items


def bomb(numbers):
    items = [0.0]
    for _ in range(60):
        items = [items, items]
    return items


def patches_its_tensor(numbers):
    wrong = numbers.clone()
    wrong.detach = wrong.cpu = wrong.numpy = lambda *args: torch.tensor([1.0, 2.0])
    return wrong


def prints_a_lot(numbers):
    for _ in range(20_000):
        print("\x1b[31mnoise\r", end="\n" * 3)
    return numbers


def closes_its_output(numbers):
    sys.stdout.close()
    sys.stderr.write(str(object()))
    return numbers


def changes_its_argument(numbers):
    numbers /= 2
    return numbers


def makes_its_argument_unreadable(numbers):
    numbers.resize_(0)
    return torch.tensor([1.0, 2.0])


HOSTILE = {
    "endless": (endless, "still running after 0.3 s"),
    "endless and deaf": (endless_and_deaf, "still running"),
    "endless in its message": (raising(Endless()), "still running"),
    "recursion": (without_end, "calls itself without end"),
    "system exit": (raising(SystemExit(0)), "raises SystemExit"),
    "keyboard interrupt": (raising(KeyboardInterrupt()), "was stopped"),
    "generator exit": (raising(GeneratorExit()), "raises GeneratorExit"),
    "its own base exception": (raising(Spiteful()), "raises Spiteful"),
    "lying tensor": (
        lambda numbers: torch.zeros(2).as_subclass(LyingTensor),
        "something of type LyingTensor",
    ),
    "lying array": (lambda numbers: np.zeros(2).view(LyingArray), "something of type LyingArray"),
    "lying object": (lambda numbers: Liar(), "something of type Liar"),
    "lying number": (lambda numbers: LyingNumber(7), "something of type LyingNumber"),
    "lying numbers in a list": (
        lambda numbers: [LyingNumber(1), LyingNumber(2)],
        "something of type LyingNumber",
    ),
    "patched tensor": (patches_its_tensor, "the answer at [0] is 2, where 1 is expected"),
    "generator": (lambda numbers: (number / 2 for number in numbers), "something of type generator"),
    "function": (lambda numbers: endless, "something of type function"),
    "list in itself": (loops_in_itself, "something too large to read"),
    "list bomb": (bomb, "something too large to read"),
    "huge tensor": (lambda numbers: torch.zeros(1).expand(10**12), "more than ten million"),
    "huge number": (lambda numbers: 10**100_000, "something of type int"),
    "objects": (lambda numbers: np.array([None, []], dtype=object), "something of type ndarray"),
    "meta": (lambda numbers: numbers.to("meta"), "a tensor that holds no plain numbers"),
    "sparse": (lambda numbers: numbers.to_sparse(), "the answer at [0] is 2, where 1 is expected"),
    "nan": (lambda numbers: numbers * math.nan, "the answer at [0] is nan"),
    "list": (lambda numbers: [1.0, 2.0], "a list of 2 items, where a tensor of shape (2,)"),
    "text": (lambda numbers: "\x1b[2J\ud800", "a text, where a tensor"),
    "a dict with odd keys": (lambda numbers: {Liar: 1}, "a dict with a type as key"),
    "shape": (lambda numbers: numbers[None] / 2, "the shape is (1, 2), where (2,) is expected"),
    "kind of number": (lambda numbers: (numbers / 2).long(), "whole numbers, where fractions"),
    "complex": (lambda numbers: torch.complex(numbers / 2, numbers), "complex numbers, where fractions"),
    "noise": (prints_a_lot, "the answer at [0] is 2"),
    "closed output": (closes_its_output, "the answer at [0] is 2"),
    "nothing": (lambda numbers: print("here"), "returns None: is the `return` missing?"),
    "wrong arguments": (lambda: 1, "raises TypeError"),
    "changed argument": (changes_its_argument, "changes its argument `numbers`"),
    "unreadable argument": (makes_its_argument_unreadable, "changes its argument `numbers`"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_functions_are_told_what_they_do(name, capsys):
    function, says = HOSTILE[name]
    began = time.process_time()
    verdict, text = said(capsys, function, HALVES)
    assert verdict is False and says in arrow(text), text
    assert len(text) < 1500 and "\x1b" not in text and "0x7" not in text
    assert time.process_time() - began < 5
    assert said(capsys, lambda numbers: numbers / 2, HALVES) == (
        True,
        "✓ halve: 1 of 1 cases\n",
    )  # nothing is left over


@pytest.mark.parametrize("name", HOSTILE)
def test_what_it_says_is_the_same_every_time(name, capsys):
    function, _ = HOSTILE[name]
    assert said(capsys, function, HALVES) == said(capsys, function, HALVES)


def test_what_is_no_function_is_said_so(capsys):
    assert (
        said(capsys, 7, HALVES)[1]
        == "✗ halve is of type int, not a function: run the cell that defines it again\n"
    )


def test_stubs_of_every_kind_are_not_written_yet(capsys):
    def raises(numbers):
        raise NotImplementedError

    def passes(numbers):
        """Halve them."""

    def dots(numbers): ...

    def leans(numbers):
        return raises(numbers)

    for stub in (raises, passes, dots):
        assert said(capsys, stub, HALVES) == (False, "○ halve: not written yet\n")
    assert said(capsys, leans, HALVES) == (False, "○ halve: waits for raises\n")


def test_a_check_works_beside_the_main_thread(capsys):
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(check(lambda numbers: numbers / 2, HALVES)))
    thread.start()
    thread.join()
    assert verdicts == [True]


def test_the_alarm_is_given_back(capsys):
    signal = pytest.importorskip("signal")
    before = signal.getsignal(signal.SIGALRM)
    check(endless, HALVES)
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert sys.gettrace() is None or "coverage" in sys.modules


def test_a_terminal_that_knows_no_tick(monkeypatch):
    import io

    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert check(lambda numbers: numbers / 2, HALVES) is True
    out.flush()
    assert out.buffer.getvalue() == b"[ok] halve: 1 of 1 cases\n"


def test_the_first_failure_is_explained_and_the_others_counted(capsys):
    cases = Cases("double(x)", [Case((n,), 2 * n, {"squared": n * n} if n == 5 else {}) for n in range(1, 7)])
    verdict, text = said(capsys, lambda x: x * x, cases)
    said_of_it = [
        "✗ double: 5 of 6 cases fail",
        "    x         5",
        "    yours     25",
        "    expected  10",
        "  → squared",
    ]
    assert not verdict and text.splitlines() == said_of_it
    nameless = Cases(cases.call, cases.cases[:4])
    assert arrow(said(capsys, lambda x: x * x, nameless)[1]) == "the answer is 1, where 2 is expected"


def test_every_argument_is_shown_on_a_line_of_its_own_the_short_ones_first(capsys):
    table, mask = torch.arange(200.0).view(20, 10), torch.tensor([[True, False]])
    cases = Cases("mix(table, mask, next_one, p)", [Case((table, mask, Table({(2,): [0.5, 0.5]}), 0.3), 1)])
    lines = said(capsys, lambda *args: 2, cases)[1].splitlines()
    assert lines[1] == "    p         0.3"
    assert lines[2].startswith("    table     [[0, 1, 2") and lines[2].endswith("… of shape (20, 10)")
    assert lines[3:5] == ["    mask      [[True, False]]", "    next_one  Table({(2,): [0.5, 0.5]})"]
    assert lines[5:7] == ["    yours     2", "    expected  1"] and max(map(len, lines)) < 200


def test_what_the_function_printed_is_shown_when_it_fails(capsys):
    def halve(numbers):
        print("half of", len(numbers))
        return numbers

    assert "    printed   half of 2\n" in said(capsys, halve, HALVES)[1]


def test_numbers_may_come_as_tensors_without_a_shape(capsys):
    for expected, answer in (
        (0.5, torch.tensor(0.5)),
        (0.5, np.float32(0.5)),
        (3, torch.tensor(3)),
        (1.0, 1),
    ):
        assert same(plain(answer), expected, 1e-4)
    for expected, answer in ((3, 3.0), (3, True), (0.5, "0.5"), (True, 1), (0.5, None)):
        assert not same(plain(answer), expected, 1e-4)


def test_no_number_is_near_infinity():
    for expected, answer in ((math.inf, 18.8), (18.8, math.inf), (-math.inf, math.inf), (math.inf, math.nan)):
        assert not same(plain(answer), expected, 1e-4)
        assert not same(plain(torch.tensor([answer])), plain(torch.tensor([expected])), 1e-4)
    assert same(math.inf, math.inf, 1e-4)
    assert not same(10**400, 1.5, 1e-4) and not same(-(10**400), -math.inf, 1e-4)


def test_cases_cannot_be_changed_through_their_arguments():
    numbers = torch.tensor([2.0, 4.0])
    case = Case((numbers, [1, 2], Table({(): [0.5, 0.5]})), 1)
    before = copy.deepcopy(case.args)
    numbers.zero_()

    def spoil(numbers, items, table):
        numbers.zero_()
        items.clear()
        table.rows.clear()
        return 1

    assert ask(spoil, case).changed == (0, 1, 2)
    assert same(case.args, before, 0)


def test_a_rule_needs_no_expected_answer(capsys):
    cases = Cases(
        "weights(scores)", [Case((torch.tensor([[1.0, 2.0], [3.0, 5.0]]),))], rules=["rows sum to 1"]
    )
    assert check(lambda scores: scores.softmax(-1), cases)
    assert "over the wrong axis?" in arrow(said(capsys, lambda scores: scores.softmax(0), cases)[1])
    assert "row 1 sums to 0.881, not 1: divide by what is left" in arrow(
        said(capsys, lambda scores: scores.softmax(-1).triu(), cases)[1]
    )
    assert "a list of 1 item" in arrow(said(capsys, lambda scores: [1], cases)[1])


def test_a_known_mistake_may_be_an_exception(capsys):
    cases = Cases("inverse(x)", [Case((0,), 0.0, {"there is no 1 / 0": Raises("ZeroDivisionError")})])
    assert arrow(said(capsys, lambda x: 1 / x, cases)[1]) == "there is no 1 / 0"
    later = Cases(cases.call, [Case((2,), 0.5), *cases.cases])  # an exception that comes everywhere says less
    assert arrow(said(capsys, lambda x: 1 / x, later)[1]) == "there is no 1 / 0"
    assert "raises ZeroDivisionError" in arrow(said(capsys, lambda x: 1 / 0, later)[1])
    assert "raises KeyError" in arrow(said(capsys, lambda x: {}[x], cases)[1])


def test_a_table_looks_for_the_longest_ending():
    table = Table({(): [0.5, 0.5], (1,): [0.25, 0.75], (0, 1): [1.0, 0.0]})
    assert table([0]).exp().tolist() == [0.5, 0.5]
    assert table([1, 1]).exp().tolist() == [0.25, 0.75]
    assert table([1, 0, 1]).exp().tolist() == [1.0, 0.0]


def test_torch_is_only_loaded_when_a_case_needs_it():
    code = "import sys; from utils.check import *; print(check(len, Cases('len(x)', [Case(('ab',), 2)])))"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=pages.ROOT)
    assert done.stdout == "✓ len: 1 of 1 cases\nTrue\nFalse\n", done.stderr
