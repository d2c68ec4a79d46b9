"""Behind the wall: a parent that has run the released page and forks, for each question, one process to answer it.

Three generations. The *parent* imports what is slow to import, runs the released cells, and from then on only forks:
it never reads a byte of any submission, so nothing of one can reach another. For each question it forks a *keeper*,
which keeps the limits and passes frames on, and this one forks the *page*: the student's cells run in it, and it
calls the student's function. The page is a single process that can start no other, and nothing of it is believed.
"""

import ast
import builtins
import contextlib
import inspect
import io
import linecache
import os
import select
import shutil
import signal
import sys
import time
from types import ModuleType

from utils.check import Answer, Case, TimeUp, ask, describe, kind_name, limited, live, one_line, plain
from utils.grading import wall, wire

INPUT, OUTPUT = 3, 4  # the channel to the outside; the page has other pipes under these numbers
DEVICES = "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"


def main():
    """The parent: make ready, then fork a keeper whenever there is something to read."""
    move(0, INPUT), move(1, OUTPUT)
    start = wire.unpack(wire.receive(INPUT))
    names, in_use = released(start["ground"]), wall.in_use()
    if start["wall"] != "none":
        wall.die_with_parent()
        wall.hide_memory()
        if wall.landlock_version() >= 3:
            readable = [*wall.python_folders(), *map(str, wall.READABLE), *wall.SYSTEM]
            wall.lock_files(readable, [start["box"], *DEVICES])
    move_away(2)
    wire.send(OUTPUT, b"ready")
    while select.select([INPUT], [], []):
        keeper = os.fork()
        if not keeper:
            end_with(lambda: keep(names, start, in_use))
        if os.waitpid(keeper, 0)[1] or not emptied(start["box"]):
            return  # to be built anew
        wire.send(OUTPUT, b"ready")


def move(old, new):
    """Give an open file another number, and leave nothing readable under the old one."""
    os.dup2(old, new)
    move_away(old)


def move_away(old):
    """Let an open file's number lead nowhere: what pages would share must hold nothing that one of them wrote."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, old)
    os.close(nothing)


def end_with(job):
    """Do this last thing: whatever it comes to, this process goes no further. Its status is 0 if it came to its end."""
    status = 1
    try:
        job()
        status = 0
    except wire.Ended:
        pass
    finally:
        os._exit(status)


def released(ground):
    """The names that the released cells define, as a page holds them."""
    page = ModuleType("__main__")
    sys.modules["__main__"] = page
    vars(page)["display"] = lambda *values, **settings: None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for source in ground:
            exec(compile(source, "<released>", "exec"), vars(page))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return vars(page)


def emptied(box):
    """Take away what a page left in its folder; False if something stays."""
    for folder, _, _ in os.walk(box):
        os.chmod(folder, 0o700)
    for entry in list(os.scandir(box)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    return not os.listdir(box)


# ---- the keeper: limits, and frames from here to there ----


def keep(names, start, in_use):
    """Fork the page of one question, pass calls and replies on while the limits hold, and tell how it ended."""
    question = wire.unpack(wire.receive(INPUT))
    (page_in, to_page), (from_page, page_out) = os.pipe(), os.pipe()
    page = os.fork()
    if not page:
        os.dup2(page_in, INPUT), os.dup2(page_out, OUTPUT)
        os.closerange(OUTPUT + 1, 1024)
        end_with(lambda: answer(question, names, start, in_use))
    os.close(page_in), os.close(page_out)
    until, end = time.monotonic() + start["patience"] * start["seconds"], "done"
    try:
        pass_on(from_page, until, start)
        while (frame := wire.receive(INPUT)) != b"end":
            wire.send(to_page, frame)
            pass_on(from_page, until, start)
    except (wire.TooLate, wire.TooLong, wire.Ended, wire.Damaged, TooMuch) as error:
        end = kind_name(error)
    os.kill(page, signal.SIGKILL)
    _, status, used = os.wait4(page, 0)
    last = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    told = {"end": end, "signal": last, "seconds": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss}
    wire.send(OUTPUT, b"X" + wire.pack(told))


class TooMuch(Exception):
    """The page wrote more into its folder than it may."""


def pass_on(from_page, until, start):
    """Send the page's next frame outside; meanwhile look after the clock and the folder.

    Damaged if the frame claims to be the keeper's own or the parent's.
    """
    while True:
        there = select.select([from_page], [], [], 0.1)[0]
        if time.monotonic() > until:
            raise wire.TooLate
        if there:
            break
        if size_of(start["box"]) > start["disk"]:
            raise TooMuch
    frame = wire.receive(from_page, until=until)
    if frame[:1] not in (b"R", b"A", b"L", b"Q", b"V"):
        raise wire.Damaged
    wire.send(OUTPUT, frame)


def size_of(box):
    """Bytes in a folder and all below it, a block at least for each entry."""
    total = 0
    for folder, folders, files in os.walk(box):
        for name in (*folders, *files):
            with contextlib.suppress(OSError):
                total += 4096 + os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


# ---- the page: a stranger's code; from here on nothing is believed ----


def answer(question, names, start, in_use):
    """Lock this process, run the student's cells, then call the function as often as a frame of arguments comes."""
    os.chdir(start["box"])
    if start["wall"] != "none":
        wall.die_with_parent()
        wall.lock_amounts(start["seconds"], in_use + start["memory"], start["disk"])
        wall.lock_calls()
    signatures = {name: inspect.signature(names[name]) for name in question["stand_ins"]}
    wire.send(OUTPUT, b"R" + wire.pack(run(question["cells"], names, start["seconds"] / 3)))
    for name, signature in signatures.items():
        names[name] = stand_in(name, signature)
    while True:
        args = wire.unpack(wire.receive(INPUT))
        wire.send(OUTPUT, reply(names.get(question["name"]), args, question))


def run(cells, names, seconds):
    """Run the cells statement by statement; what fails is noted and skipped: [(exercise, what is wrong)].

    What was only tried out on the page must not cost the grade: all cells together have so many seconds, and when
    they are used up each further statement has a quarter of a second.
    """
    troubles, until = [], time.monotonic() + seconds
    with silence():
        for label, source, exercise in cells:
            linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)
            try:
                statements = ast.parse(source, label).body
            except BaseException as error:
                troubles.append((exercise, trouble(label, error)))
                continue
            for statement in statements:
                code = compile_one(statement, label)
                try:
                    limited(max(0.25, until - time.monotonic()), lambda code=code: exec(code, names))
                except BaseException as error:
                    troubles.append((exercise, trouble(label, error, statement.lineno)))
    return troubles[:100]


def compile_one(statement, label):
    """The code of one statement; where Python refuses it, code that says so when it runs."""
    try:
        return compile(ast.Module([statement], []), label, "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        return compile(f"raise SyntaxError({one_line(str(error), 100)!r})", label, "exec")


def trouble(label, error, line=None):
    """Where and why a statement failed, in a few words."""
    if type(error) is TimeUp:
        return f"{label}, line {line}: stopped, it takes too long"
    if isinstance(error, SyntaxError):
        return one_line(f"{label}, line {error.lineno or line}: {kind_name(error)}: {error.msg}", 200)
    return one_line(f"{label}, line {line}: {describe(error)}", 200)


@contextlib.contextmanager
def silence():
    nowhere = open(os.devnull, "w", encoding="utf-8")
    with nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def reply(function, args, question):
    """The frame that answers a call."""
    if question["trusted"]:
        return b"V" + wire.pack(faithful(function(*map(revived, args))))
    if not builtins.callable(function):
        said = Answer(problem=f"is of type {kind_name(function)}, not a function")
    else:
        said = ask(function, Case(tuple(args)), question["seconds"])
    more = b"A" if said.state == "done" else b"L"  # no further call helps
    try:
        return more + wire.pack([said.value, *rest(said)])
    except Exception:
        return more + wire.pack([None, "returns something that cannot be read", *rest(said)[1:]])


def rest(said):
    return [said.problem, said.error, said.state, list(said.changed), said.printed]


def stand_in(name, signature):
    """A function that has its answers from outside, where the released solution of an earlier exercise runs."""

    def function(*args, **named):
        bound = signature.bind(*args, **named)
        wire.send(OUTPUT, b"Q" + wire.pack([name, plain(list(bound.args))]))
        frame = wire.receive(INPUT)
        if frame[:1] != b"V":
            raise ValueError(f"{name} takes no such arguments")
        return revived(wire.unpack(frame[1:]))

    return function


def faithful(value):
    """Plain data that still tells tuples from lists."""
    return (
        tuple(map(faithful, value))
        if type(value) is tuple
        else ([faithful(item) for item in value] if type(value) is list else plain(value))
    )


def revived(value):
    """What `faithful` made plain, as it was."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(revived, value))
    return live(value)


if __name__ == "__main__":
    main()
