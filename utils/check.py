"""Check an exercise and say in words what is wrong with it; whatever the function does, the page goes on.

A case is plain data: a call, what its answer must be, and the answers that known mistakes would give. `ask`
makes the call and `judge` looks at what came back: the two may stand in different processes.
"""

import contextlib
import dis
import io
import linecache
import math
import re
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, field, replace

import numpy as np

# ---- a case, as plain data ----


@dataclass(frozen=True)
class Table:
    """A language model small enough to write down.

    rows: {the last tokens of the text, a tuple of ids: the probabilities of the next token, V numbers};
    the longest ending that stands in the table counts, and () stands for any text
    """

    rows: dict

    def __call__(self, ids):
        """ids: a list of token ids → the log-probabilities of the next token (V,)."""
        import torch

        endings = (tuple(ids[start:]) for start in range(len(ids) + 1))
        return torch.tensor(next(self.rows[ending] for ending in endings if ending in self.rows)).log()


@dataclass(frozen=True)
class Raises:
    """What a known mistake gives when it ends in an exception of this name."""

    name: str


@dataclass(frozen=True)
class Case:
    """One call, and what a right answer to it looks like.

    args      what the function gets: numbers, texts, lists, dicts, tensors (kept as arrays), a Table
    expected  the right answer; None where the rules alone decide
    mistakes  {what is wrong, in words: the answer that this mistake gives here, or Raises(…)}
    rules     names from RULES that every right answer keeps
    """

    args: tuple
    expected: object = None
    mistakes: dict = field(default_factory=dict)
    rules: tuple = ()

    def __post_init__(self):
        expected = plain(self.expected)
        mistakes = {words: plain(value) for words, value in self.mistakes.items()}
        if isinstance(expected, np.ndarray):  # mistakes may be written as lists
            mistakes = {
                words: np.array(value, dtype=expected.dtype) if isinstance(value, list) else value
                for words, value in mistakes.items()
            }
        object.__setattr__(self, "args", plain(list(self.args)))
        object.__setattr__(self, "expected", expected)
        object.__setattr__(self, "mistakes", mistakes)


@dataclass(frozen=True)
class Cases:
    """The cases of one exercise.

    call: the function and its arguments, as in "nucleus(probs, p)"   rules: what every answer keeps
    tolerance: how far a number may be off   seconds: how long one call may take
    """

    call: str
    cases: list
    rules: tuple = ()
    tolerance: float = 1e-4
    seconds: float = 10.0

    def __post_init__(self):
        cases = [replace(case, rules=(*self.rules, *case.rules)) for case in self.cases]
        object.__setattr__(self, "cases", cases)

    @property
    def name(self):
        return self.call.partition("(")[0]

    @property
    def parameters(self):
        return [word.strip() for word in self.call.partition("(")[2].rstrip(")").split(",")]


# ---- plain data: copies that cannot lie ----


class Odd(Exception):
    """Says in words what an answer is that cannot be read as plain data."""


def plain(value, depth=0, room=None):
    """A copy of `value` made of numbers, texts, lists, dicts and arrays alone; Odd where that cannot be.

    It looks at `type(value)` only, which nothing can override. room: [how many items may still come]
    """
    kind, room = type(value), room or [1_000_000]
    room[0] -= 1
    if depth > 20 or room[0] < 0:
        raise Odd("something too large to read")
    if kind in (bool, float, str, bytes, type(None)) or (kind is int and value.bit_length() < 4096):
        return value
    if kind in NUMPY_NUMBERS:
        return value.item()
    if kind in (Raises, Table):
        return kind(*(plain(part, depth + 1, room) for part in vars(value).values()))
    if kind is list or issubclass(kind, tuple):
        items = list.__iter__(value) if kind is list else tuple.__iter__(value)
        return [plain(item, depth + 1, room) for item in items]
    if kind is dict:
        return {plain_key(key): plain(item, depth + 1, room) for key, item in value.items()}
    return plain_array(value)


NUMPY_NUMBERS = {kind for kind in np.sctypeDict.values() if issubclass(kind, (np.number, np.bool_))}


def plain_key(key):
    """A key of a dict: a number, a text or a tuple of them."""
    if type(key) is tuple:
        return tuple(plain_key(part) for part in key)
    if type(key) not in (bool, int, float, str, bytes, type(None)):
        raise Odd(f"a dict with a {kind_name(key)} as key")
    return key


def plain_array(value):
    """A tensor or an array as a fresh array of numbers."""
    torch = sys.modules.get("torch")
    if torch is not None and type(value) in (torch.Tensor, torch.nn.Parameter):
        try:
            value = numbers_of(torch.Tensor.detach(value))
        except (NotImplementedError, RuntimeError, TypeError):
            raise Odd("a tensor that holds no plain numbers") from None
    if type(value) is not np.ndarray or value.dtype.kind not in "biufc" or value.size > 10_000_000:
        raise Odd(f"something of type {kind_name(value)}")
    return np.array(value)


def numbers_of(tensor):
    """The numbers of a tensor, wherever and however it keeps them, as an array."""
    import torch

    if tensor.numel() > 10_000_000:
        raise Odd("a tensor of more than ten million numbers")
    tensor = tensor.cpu().to_dense() if tensor.layout is not torch.strided else tensor.cpu()
    tensor = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return tensor.resolve_conj().resolve_neg().numpy()


def kind_name(value):
    """The name of a value's type, which the type cannot override."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def live(value):
    """A fresh copy of a case's argument, as the function gets it: arrays become tensors."""
    if isinstance(value, np.ndarray):
        import torch

        return torch.from_numpy(value.copy())
    if isinstance(value, list):
        return [live(item) for item in value]
    if isinstance(value, dict):
        return {key: live(item) for key, item in value.items()}
    return Table(live(value.rows)) if isinstance(value, Table) else value


# ---- the call: this half runs the student's function ----


@dataclass(frozen=True)
class Answer:
    """What a call came to, as plain data: a value, or in `problem` the words for why there is none.

    error: the name of the exception   state: "done", "empty" (not written yet) or "late" (stopped)
    changed: the positions of the arguments that the call changed   printed: what the function printed
    """

    value: object = None
    problem: str = ""
    error: str = ""
    state: str = "done"
    changed: tuple = ()
    printed: str = ""


def ask(fn, case, seconds=10.0):
    """Call `fn` on fresh copies of the case's arguments; whatever happens becomes an Answer."""
    page = Page()
    try:
        with contextlib.redirect_stdout(page), contextlib.redirect_stderr(page):
            answer = limited(seconds, lambda: attempt(fn, case))
    except TimeUp:
        answer = Answer(
            problem=f"is still running after {seconds:g} s: a loop that never ends?", state="late"
        )
    return replace(answer, printed=page.text)


def attempt(fn, case):
    """The call itself, inside the time limit."""
    args = [live(value) for value in case.args]
    try:
        value = fn(*args)
        if value is None and is_stub(fn):
            return Answer(problem="not written yet", state="empty")
        if value is None:
            return Answer(problem="returns None: is the `return` missing?")
        changed = tuple(at for at, arg in enumerate(args) if not same(readable(arg), case.args[at], 0))
        return Answer(plain(value), changed=changed)
    except TimeUp:
        raise
    except Odd as odd:
        return Answer(problem=f"returns {odd}; the docstring says what to return")
    except NotImplementedError as error:
        inner, own = innermost(error), getattr(getattr(fn, "__code__", None), "co_name", "")
        return Answer(problem="not written yet" if inner == own else f"waits for {inner}", state="empty")
    except KeyboardInterrupt:
        return Answer(problem="was stopped", state="late")
    except RecursionError:
        return Answer(problem="calls itself without end", error="RecursionError")
    except BaseException as error:
        return Answer(problem=f"raises {describe(error)}{place(error, fn)}", error=kind_name(error))


def readable(arg):
    """An argument after the call, as plain data; something that equals no argument if that cannot be."""
    try:
        return plain(arg)
    except Exception:
        return Raises("")


def is_stub(fn):
    """True for a function of nothing but a docstring and `pass` or `…`."""
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    code = getattr(fn, "__code__", None)
    return code is not None and {step.opname for step in dis.get_instructions(code)} <= nothing


def innermost(error):
    """The name of the function in which an exception was raised."""
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)][-1]


def describe(error):
    """An exception in one line: its name and the beginning of its message."""
    try:
        message = one_line(str(error), 120)
    except TimeUp:
        raise
    except BaseException:
        message = ""
    return f"{kind_name(error)}: {message}" if message else kind_name(error)


def place(error, fn):
    """The last line of the student's own code on the way to an exception, as in ", at `return a / b`"."""
    code = getattr(fn, "__code__", None)
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if code and frame.f_code.co_filename == code.co_filename]
    if not lines:
        return ""
    source = one_line(linecache.getline(code.co_filename, lines[-1]), 70)
    return f", at `{source}`" if source else ""


class Page(io.TextIOBase):
    """Takes what a function prints and keeps the beginning."""

    def __init__(self):
        self.text = ""

    def writable(self):
        return True

    def write(self, text):
        self.text += str(text[: 2000 - len(self.text)])
        return len(text)

    def close(self):
        """A function that closes its output closes nothing of ours."""


class TimeUp(BaseException):
    """Ends a function that runs too long."""


def limited(seconds, job):
    """job(), or TimeUp when it takes too long: where there are POSIX alarms, in the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return job()
    running = [True]

    def ring(signum, frame):
        if running[0]:
            insist(frame)
            raise TimeUp

    tracing, handler = sys.gettrace(), signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        result = job()
        running[0] = False
        return result
    finally:
        running[0] = False
        sys.settrace(tracing)  # first of all, for `insist` may have left its own
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)


def insist(frame):
    """Should the function swallow the alarm (`except: pass`), let its next line raise it again."""

    def again(frame, event, arg):
        if event == "line":
            raise TimeUp
        return again

    while frame is not None and frame.f_code not in (attempt.__code__, limited.__code__):
        frame.f_trace, frame = again, frame.f_back
    sys.settrace(again)


# ---- the judgement: this half sees plain data only ----


def judge(case, answer, cases):
    """None for a right answer; otherwise (what is wrong in words, True if that is certain to name the mistake).

    An exception names it only where nothing failed before: it may as well have come from every case.
    """
    for words, value in case.mistakes.items():
        if matches(answer, value, cases.tolerance):
            return words, not isinstance(value, Raises)
    if answer.problem:
        return f"{cases.name} {answer.problem}", False
    if answer.changed:
        names = ", ".join(f"`{cases.parameters[at]}`" for at in answer.changed)
        return f"the call changes its argument {names}: work on a copy", True
    wrong_kind = case.expected is not None and unlike(answer.value, case.expected)
    if wrong_kind:
        return wrong_kind, False
    for rule in case.rules:
        broken = RULES[rule](answer.value)
        if broken:
            return broken, False
    if case.expected is not None and not same(answer.value, case.expected, cases.tolerance):
        return first_difference(answer.value, case.expected, cases.tolerance), False
    return None


def matches(answer, mistake, tolerance):
    """Is this answer what a known mistake gives?"""
    if isinstance(mistake, Raises):
        return answer.error == mistake.name
    return not answer.problem and same(answer.value, mistake, tolerance)


def number(value):
    """A tensor of one number without a shape counts as that number."""
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value


def same(yours, expected, tolerance):
    """Are two pieces of plain data equal, numbers up to the tolerance? NaN equals NaN."""
    yours, expected = number(yours), number(expected)
    if isinstance(expected, np.ndarray):
        return not unlike(yours, expected) and bool(np.all(close(yours, expected, tolerance)))
    if isinstance(expected, float):
        fits = type(yours) is float or type(yours) is int and abs(yours) < 10**308
        return fits and bool(close(yours, expected, tolerance))
    if type(yours) is not type(expected):
        return False
    if isinstance(expected, list):
        return len(yours) == len(expected) and all(same(a, b, tolerance) for a, b in zip(yours, expected))
    if isinstance(expected, dict):
        return yours.keys() == expected.keys() and all(
            same(yours[k], expected[k], tolerance) for k in expected
        )
    if isinstance(expected, Table):
        return same(yours.rows, expected.rows, tolerance)
    return yours == expected


def close(yours, expected, tolerance):
    """|yours - expected| <= tolerance · max(1, |expected|), number by number; NaN equals NaN, inf inf."""
    with np.errstate(all="ignore"):
        yours, expected = np.asarray(yours, dtype=complex), np.asarray(expected, dtype=complex)
        near = np.abs(yours - expected) <= tolerance * np.maximum(1, np.abs(expected))
        finite = np.isfinite(yours) & np.isfinite(expected)  # or every number would be near infinity
        return near & finite | (yours == expected) | (np.isnan(yours) & np.isnan(expected))


def unlike(yours, expected):
    """How the answer differs in kind or shape from what is expected, in words; None if it does not."""
    yours, expected = number(yours), number(expected)
    if isinstance(yours, int) and isinstance(expected, float) and not isinstance(yours, bool):
        return None
    if type(yours) is not type(expected):
        return f"it returns {kind_of(yours)}, where {kind_of(expected)} is expected"
    if isinstance(expected, np.ndarray):
        if yours.shape != expected.shape:
            return f"the shape is {yours.shape}, where {expected.shape} is expected"
        if KINDS[yours.dtype.kind] != KINDS[expected.dtype.kind]:
            return f"it holds {KINDS[yours.dtype.kind]}, where {KINDS[expected.dtype.kind]} are expected"
    if isinstance(expected, (list, dict)) and len(yours) != len(expected):
        return f"it returns {kind_of(yours)}, where {kind_of(expected)} is expected"
    return None


KINDS = {
    "b": "truth values",
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "fractions",
    "c": "complex numbers",
}


def kind_of(value):
    """What a piece of plain data is, in words."""
    if isinstance(value, np.ndarray):
        return f"a tensor of shape {value.shape}"
    if isinstance(value, (list, dict)):
        return f"a {kind_name(value)} of {len(value)} item{'s' * (len(value) != 1)}"
    words = {bool: "a truth value", int: "a whole number", float: "a fraction", str: "a text", bytes: "bytes"}
    return words.get(type(value), f"a {kind_name(value)}")


def first_difference(yours, expected, tolerance, where=""):
    """Where two pieces of plain data of one kind part, in words."""
    yours, expected = number(yours), number(expected)
    if where and unlike(yours, expected):  # one of several parts; the answer as a whole was looked at before
        return f"at {where}: {unlike(yours, expected)}"
    if isinstance(expected, np.ndarray):
        at = tuple(int(i) for i in np.argwhere(~close(yours, expected, tolerance))[0])
        where, yours, expected = where + str(list(at)), yours[at].item(), expected[at].item()
    elif isinstance(expected, list) and isinstance(yours, list) and len(yours) == len(expected):
        at = next(i for i, (a, b) in enumerate(zip(yours, expected)) if not same(a, b, tolerance))
        return first_difference(yours[at], expected[at], tolerance, f"{where}[{at}]")
    return f"the answer{where and ' at '}{where} is {show(yours)}, where {show(expected)} is expected"


def sums_to_one(answer):
    """Along the last axis; says so when it is the other axis that does."""
    if not isinstance(answer, np.ndarray):
        return f"it returns {kind_of(answer)}, where a tensor is expected"
    sums = np.atleast_1d(np.sum(answer, axis=-1)).ravel()
    bad = [row for row, total in enumerate(sums) if not abs(total - 1) < 1e-3]
    if not bad:
        return None
    where = f"row {bad[0]}" if np.ndim(answer) > 1 else "the answer"
    if math.isnan(sums[bad[0]]):
        return f"{where} holds nan: 0 / 0, or 0 · inf?"
    columns = np.sum(answer, axis=0) if np.ndim(answer) > 1 else 0
    why = "divide by what is left" if sums[bad[0]] < 1 else "is something counted twice?"
    why = "over the wrong axis?" if np.all(np.abs(columns - 1) < 1e-3) else why
    return f"{where} sums to {sums[bad[0]]:.3g}, not 1: {why}"


RULES = {"rows sum to 1": sums_to_one}


# ---- the report ----


def check(fn, cases):
    """Does `fn` answer all cases rightly? Prints ✓, ✗ and what is wrong, or ○ if it is not written yet."""
    try:
        passed, lines = report(fn, cases)
    except BaseException:  # beyond what `ask` could tame: the page goes on all the same
        passed, lines = False, ["✗ the check came to no result: restart the kernel and run the page again"]
    say(lines)
    return passed


def report(fn, cases):
    """The verdict and the lines to print."""
    if not callable(fn):
        return False, [
            f"✗ {cases.name} is of type {kind_name(fn)}, not a function: run the cell that defines it again"
        ]
    return weigh(cases, (ask(fn, case, cases.seconds) for case in cases.cases))


def weigh(cases, answers):
    """The verdict on the answers to some cases, and the lines that say it; after a late answer none is asked for.

    Of all failures the first whose mistake has a name is explained.
    """
    failures = failed(cases, answers)
    if failures and failures[0][2].state == "empty":
        return False, [f"○ {cases.name}: {failures[0][2].problem}"]
    if not failures:
        return True, [f"✓ {cases.name}: {len(cases.cases)} of {len(cases.cases)} cases"]
    explained = next((failure for failure in failures if failure[0][1]), failures[0])
    return False, [
        f"✗ {cases.name}: {len(failures)} of {len(cases.cases)} cases fail",
        *explain(cases, *explained),
    ]


def failed(cases, answers):
    """The failures among the answers to some cases: (what `judge` found, the case, the answer)."""
    failures = []
    for case, answer in zip(cases.cases, answers):
        finding = judge(case, answer, cases)
        if finding:
            failures.append((finding, case, answer))
        if answer.state == "late" or failures and failures[0][2].state == "empty":
            break
    return failures


def explain(cases, finding, case, answer):
    """One failure: the arguments, numbers first, yours, expected, what is wrong, the beginning of the print-out."""
    args = zip(cases.parameters, case.args)
    rows = sorted(args, key=lambda arg: isinstance(arg[1], (np.ndarray, list, dict, Table)))
    if not answer.problem:
        rows += [("yours", answer.value)]
    if case.expected is not None:
        rows += [("expected", case.expected)]
    width = max(len(name) for name in ("expected", *cases.parameters))
    lines = [f"    {name:{width}}  {show(value)}" for name, value in rows]
    printed = [f"    {'printed':{width}}  {one_line(line, 100)}" for line in answer.printed.splitlines()[:5]]
    return [*lines, f"  → {finding[0]}", *printed]


def show(value):
    """Plain data in one short line, numbers to four digits; a tensor too long for it says its shape."""
    if isinstance(value, np.ndarray):
        text = show(value.tolist())
        return f"{text} of shape {value.shape}" if text.endswith("…") else text
    if isinstance(value, Table):
        return f"Table({show(value.rows)})"
    if isinstance(value, float):
        return f"{round(value, 6) + 0.0:.4g}" if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        inside = ", ".join([show(item) for item in value[:24]] + ["…"] * (len(value) > 24))
        inside = f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
        return one_line(inside, 160)
    if isinstance(value, dict):
        pairs = [f"{show(key)}: {show(item)}" for key, item in list(value.items())[:6]]
        return one_line("{" + ", ".join(pairs + ["…"] * (len(value) > 6)) + "}", 160)
    return one_line(repr(value[:80] if isinstance(value, (str, bytes)) else value), 100)


def one_line(text, longest):
    """Text fit for one line of output: nothing unprintable, no addresses in memory, cut where it gets long."""
    text = re.sub(r"\b0x[0-9a-fA-F]{4,}", "0x…", text)
    text = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def say(lines):
    """Print; where the output knows no ✓, in plain letters."""
    try:
        print("\n".join(lines))
    except UnicodeEncodeError:
        marks = str.maketrans({"✓": "[ok]", "✗": "[wrong]", "○": "[ ]", "→": "->", "…": "..."})
        print("\n".join(lines).translate(marks).encode("ascii", "backslashreplace").decode())
