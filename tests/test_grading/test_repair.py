"""Repair: odd but honest pages lose nothing, what is no page is told so, nothing is run and nothing crashes."""

import ast
import json
import random
import time

import pytest

from utils import course, pages
from utils.check import check
from utils.grading import repair as repairing
from utils.grading.homework import load
from utils.grading.repair import Unreadable, repair
from utils.grading.tidy import parse, tidy

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


def test_odd_pages_are_many():
    assert len(odd.ODD) >= 25


@pytest.mark.parametrize("name", odd.ODD)
def test_odd_pages_run(name, ground):
    """All functions answer as the solved ones do, on the public and the hidden cases."""
    homework = load("hw01")
    names = ground()
    for cell in repair(odd.ODD[name](odd.solved(homework)), homework).cells:
        run(cell, names)
    for exercise in homework.exercises:
        assert check(names[exercise.name], exercise.hidden), exercise.name


def run(cell, names):
    """Statement by statement; only an error in an answer's own cell counts."""
    for node in ast.parse(cell.source).body:
        try:
            exec(compile(ast.Module([node], []), cell.label, "exec"), names)
        except Exception:
            if cell.exercise:
                raise


def test_the_released_page_has_nothing_to_run(homework):
    page = repair(pages.as_text(homework.released).encode(), homework)
    assert page == repairing.Page((), {question.name: "" for question in homework.written}, ())


def test_the_solved_page_is_its_answers(homework):
    page = repair(odd.as_bytes(odd.solved(homework)), homework)
    assert {cell.exercise: cell.source for cell in page.cells} == {
        name: odd.solution(homework, name) for name in names_of(homework)
    }
    numbers = [at for at, cell in enumerate(homework.released.cells, 1) if odd.is_answer(cell)]
    assert [cell.label for cell in page.cells] == [f"cell {number}" for number in numbers]


# Which answer counts -------------------------------------------------------------------------------------------


def hw01(change):
    homework = load("hw01")
    return page_of(homework, change)


def source_of(page, name):
    return next((cell.source for cell in page.cells if cell.exercise == name), None)


def test_the_last_answer_that_is_python_counts():
    def change(notebook):
        cell = odd.cell_named(notebook, "stream")
        for source in ("def stream(pieces):\n    return 2", "def stream(pieces):\n    return 3 +"):
            odd.insert(notebook, odd.code(source), after=notebook.cells[-1])
        cell.source = "def stream(pieces):\n    return 1"
        return notebook

    page = hw01(change)
    assert source_of(page, "stream").endswith("return 2")
    assert "def stream(pieces):\n    return 1" in [cell.source for cell in page.cells if not cell.exercise]
    assert "`stream` is written more than once (cells 18, 39, 40): cell 39 counts." in page.notes


def test_a_changed_answer_below_the_solved_one_counts():
    def change(notebook):
        return odd.insert(notebook, odd.code("def stream(pieces):\n    return 2"), after=notebook.cells[-1])

    assert source_of(hw01(change), "stream").endswith("return 2")


def test_a_stub_stays_unwritten():
    def change(notebook):
        released = {cell.id: cell for cell in load("hw01").released.cells}
        odd.cell_named(notebook, "stream").source = released["stream"].source + "\n\n# later\n"
        return notebook

    page = hw01(change)
    assert source_of(page, "stream") is None and page.notes == ()


def test_a_syntax_error_is_told_under_its_exercise():
    def change(notebook):
        odd.cell_named(notebook, "stream").source = "def stream(pieces)\n    return pieces"
        odd.cell_named(notebook, "premium").source = "premium = = 3"
        return notebook

    page = hw01(change)
    assert source_of(page, "stream").startswith("def stream(pieces)\n")
    assert source_of(page, "premium") == "premium = = 3"
    assert answered(page) == names_of(load("hw01"))


def test_the_students_checks_and_set_up_do_not_run():
    def change(notebook):
        odd.cell_named(
            notebook, "setup"
        ).source += "\nimport torch as check\nprint('OWNED')\nmath = None\nMINE = 3"
        odd.cell_named(
            notebook, "stream-cases"
        ).source = "stream_cases = None\ndef helper():\n    return 1\nhelper()"
        odd.cell_named(
            notebook, "stream-check"
        ).source = "x = 1\nprint('OWNED')\nclass Mine:\n    pass\nMine()"
        odd.insert(notebook, odd.code("ok = check(stream, stream_cases)"), after=notebook.cells[-1])
        return notebook

    page = hw01(change)
    rest = [cell.source for cell in page.cells if not cell.exercise]
    assert rest == ["MINE = 3", "def helper():\n    return 1", "class Mine:\n    pass"]
    assert len(page.notes) == 3 and "`MINE`" in page.notes[0]


def test_exercises_run_in_the_released_order_with_what_they_need():
    def change(notebook):
        def at(name):
            return next(at for at, cell in enumerate(notebook.cells) if cell.id == name)

        stream = notebook.cells.pop(at("stream"))
        notebook.cells.insert(2, stream)
        notebook.cells.insert(2, odd.code("import functools"))
        stream.source = "@functools.cache\n" + stream.source
        notebook.cells.insert(at("best_pair") + 1, odd.code("after_best_pair = 1"))
        notebook.cells.insert(0, odd.code("before_all = 1"))
        return notebook

    page = hw01(change)
    assert answered(page) == names_of(load("hw01"))
    sources = [cell.source for cell in page.cells]
    assert sources[0] == "before_all = 1" and sources[2] == "after_best_pair = 1"
    assert sources[4] == "import functools" and sources[5].startswith("@functools.cache\ndef stream")
    assert any("another order" in note for note in page.notes)


def test_an_untouched_placeholder_is_no_answer(homework):
    def change(notebook):
        for cell in notebook.cells:
            if pages.is_answer(cell):
                cell.source = " *Your answer here.*\n"
        odd.insert(notebook, odd.words("Notes on something else."), after=notebook.cells[5])
        return notebook

    assert set(page_of(homework, change).written.values()) == {""}


def test_text_of_several_cells_is_one_answer():
    def change(notebook):
        return odd.insert(notebook, odd.words("And one thing more."), after=notebook.cells[-1])

    assert hw01(change).written == {"fair": f"{odd.WORDS}\n\nAnd one thing more."}


def test_another_homework_is_told():
    page = repair(pages.as_text(load("hw07").released).encode(), load("hw01"))
    assert answered(page) == [] and any("hw01" in note and note.endswith("?") for note in page.notes)


def test_an_answer_that_is_gone_is_told_and_a_stub_is_not():
    def change(notebook):
        odd.cell_named(notebook, "stream").source = " \n"
        notebook.cells.remove(odd.cell_named(notebook, "premium"))
        released = {cell.id: cell for cell in load("hw01").released.cells}
        odd.cell_named(notebook, "best_pair").source = released["best_pair"].source
        return notebook

    page = hw01(change)
    assert page.notes == (
        repairing.EMPTIED.format("stream"),
        repairing.ABSENT.format("premium"),
    )
    assert not {"stream", "premium", "best_pair"} & set(answered(page))


def test_a_cell_too_long_to_read_is_not_called_empty():
    def change(notebook):
        odd.cell_named(notebook, "stream").source += "\n#" + "x" * repairing.MAX_SOURCE
        return notebook

    (note,) = hw01(change).notes
    assert "was left out" in note


def test_another_homework_lacks_no_single_cell():
    page = repair(pages.as_text(load("hw07").released).encode(), load("hw01"))
    assert page.notes[0] == repairing.WRONG_PAGE.format("hw01")
    assert not [note for note in page.notes if note.startswith("The cell of")]


def test_marks_of_the_instructors_file_are_told(homework):
    page = repair(homework.path.read_bytes(), homework)
    number = 1 + [
        cell.cell_type == "code" and "### BEGIN" in cell.source for cell in pages.read(homework.path).cells
    ].index(True)
    assert repairing.MARKED.format("### BEGIN SOLUTION", number) in page.notes
    assert answered(page) == names_of(homework)


def test_a_first_cell_with_another_address_is_the_pages_own(homework):
    def change(notebook):
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        first.source = course.bootstrap("https://example.org/a/b.git")
        return notebook

    page = page_of(homework, change)
    assert page.notes == () and answered(page) == names_of(homework)


# Code as text --------------------------------------------------------------------------------------------------

UNTOUCHED = [
    "x = (10\n% 3)",
    'text = """\n%time\n!ls\nwhat?\n"""',
    "x = 5 \\\n% 3",
    "s = 'a“b'  # “quoted” \u00a0",
    "def f(a, /, *, b):\n\treturn a != b",
    "x = [\n    1,\n    # what?\n]",
    "class A:\n    @property\n    def x(self): return f'{1!r}'",
    "async def f():\n    await g()",
    "ls -l",
]


@pytest.mark.parametrize("source", UNTOUCHED)
def test_python_stays_as_it_is(source):
    assert tidy(source) == (source, [])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("%matplotlib inline\nx = 1", "\nx = 1"),
        ("!pip install a \\\n  b\nx = 1", "\n\nx = 1"),
        ("x = 1\nx?\n?x\nx.real??\n%x?", "x = 1\n\n\n\n"),
        ("files = !ls\npath = %pwd\nx = 1", "\n\nx = 1"),
        ("%time x = f(1)\n%timeit f(2)", "x = f(1)\n"),
        ("if x:\n    !ls\n    %cd ..", "if x:\n    pass\n    pass"),
        ("%%time\nx = 1", "\nx = 1"),
        ("\n%%capture out --no-stderr\n%load_ext a\nx = 1", "\n\n\nx = 1"),
        ("%%bash\nx = 1", ""),
        ("%%writefile a.py\ndef f(): pass", ""),
        ("%%unheard_of\nselect * from a", ""),
        ("%%unheard_of\nx = 1", "\nx = 1"),
        ("!echo don't stop\nx = 1", "\nx = 1"),
        ('!a\ntext = """\n%keep\n!keep\n"""\ny = (7\n% 4)', '\ntext = """\n%keep\n!keep\n"""\ny = (7\n% 4)'),
        ("!a\nt = '''\n?keep\nkeep?''' \\\n% 2", "\nt = '''\n?keep\nkeep?''' \\\n% 2"),
        ("!a\nx = 'it\\'s' # (\n%b\ny = f'{x!r}'", "\nx = 'it\\'s' # (\n\ny = f'{x!r}'"),
        (">>> x = 1\n>>> if x:\n...     y = 2", "x = 1\nif x:\n    y = 2"),
        ("    x = 1\n    y = 2", "x = 1\ny = 2"),
        ("def f():\n\u00a0\u00a0return '\u00a0'", "def f():\n  return '\u00a0'"),
        ("x\u200b = “a”", 'x = "a"'),
        ("if 1:\n    x = 1\n\ty = 2", "if 1:\n    x = 1\n    y = 2"),
        ("x = 1\0", "x = 1"),
        ("x = 1\nawait g(\n    x)\ny = 2", "x = 1\n\n\ny = 2"),
        ("x = [a async for a in b]\ny = 2", "\ny = 2"),
    ],
)
def test_odd_code_becomes_python(source, expected):
    made, said = tidy(source)
    assert made == expected and said
    assert made == "" or parse(made) is not None


# What is no page -----------------------------------------------------------------------------------------------


def real():
    return pages.as_text(odd.solved(load("hw01"))).encode()


UNREADABLE = {
    "empty": (b"", "empty"),
    "blank": (b" \n\0\0", "empty"),
    "login page": (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
    "Word": (b"PK\x03\x04\x14\x00[Content_Types].xml", "Office"),
    "PDF": (b"%PDF-1.7 ...", "PDF"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git"),
    "text": (b"def f():\n    return 1\n", "plain text"),
    "half a page": (lambda: real()[: len(real()) // 2], "ends in the middle"),
    "half a bracket": (b'{"cells": [', "ends in the middle"),
    "damaged": (lambda: real().replace(b'"cell_type"', b'"cell_type', 1), "damaged at line"),
    "JSON of something else": (b'{"a": 1}', "no cells"),
    "a list": (b"[1, 2]", "no cells"),
    "cells that are none": (b'{"cells": {"a": 1}}', "no cells"),
    "merge conflict": (
        lambda: real().replace(
            b' "cells": [', b'<<<<<<< HEAD\n "cells": [\n=======\n "cells": [\n>>>>>>> b', 1
        ),
        "Git merge",
    ),
    "depth": (b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "depth of dicts": (b'{"cells": [' + b'{"a":' * 50_000, "nested too deeply"),
    "digits": (b'{"cells": [], "nbformat": ' + b"9" * 1_000_000 + b"}", "too many digits"),
    "brackets": (b'{"cells": [' + b"[]," * 3_000_000 + b"[]]}", "too many parts"),
    "size": (b'{"cells": []}' + b" " * 20_000_000, "larger than 20 MB"),
    "cells": (json.dumps({"cells": [{"source": "x"}] * 2001}).encode(), "2,001 cells"),
    "old and odd": (b'{"worksheets": [{"cells": [3, null]}], "nbformat": 3}', "old format"),
    "UTF-16 of nothing": ("﻿".encode("utf-16"), "plain text"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_page_is_told_in_a_sentence(name):
    data, words = UNREADABLE[name]
    start = time.process_time()
    with pytest.raises(Unreadable, match=words) as caught:
        repair(data() if callable(data) else data, load("hw01"))
    assert time.process_time() - start < 3
    assert str(caught.value)[0].isupper() and str(caught.value)[-1] == "." and "\n" not in str(caught.value)


HEAVY = {
    "sum": "1+" * 24_000 + "1",
    "minus": "-" * 49_000 + "1",
    "brackets": "(" * 49_000,
    "attributes": "a" + ".a" * 24_000,
    "calls": "def stream(x): return f" + "()" * 24_000,
    "comparisons": "1<" * 24_000 + "1",
    "f-string": "f'" + "{1}" * 16_000 + "'",
    "hexadecimal": "x = 0x" + "f" * 49_000,
    "deep blocks": "".join(" " * at + "if 1:\n" for at in range(300)),
    "elif": "if 1:\n  pass\n" + "elif 1:\n  pass\n" * 2800,
    "decorators": "@a\n" * 16_000 + "def stream(): pass",
    "quotes": "'\"" * 24_000,
    "triple quotes": '"""\\' * 12_000,
    "commands": "!ls\n" * 12_000 + "(",
    "questions": "a?\n" * 16_000,
    "assignments": "a, " * 16_000 + "= (",
    "continued": "!a\\\n" * 12_000,
    "odd spaces": "x\u00a0=\u00a01\n" * 8_000,
    "statements": "x=1\n" * 12_000,
    "functions": "def f(): pass\n" * 3_500,
    "same answers": "def stream(x): pass\ny=1\n" * 2_000,
    "too long": "x = 1\n" * 100_000,
    "headings": "## \n" * 12_000,
    "fences": "```" * 16_000,
}


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_cells_take_no_time(name):
    """Source that is hard on a parser or on a regular expression, in new cells and in the page's own."""
    homework = load("hw01")
    notebook = odd.solved(homework)
    for cell_id in ("stream", "stream-check", "fair"):
        odd.cell_named(notebook, cell_id).source = HEAVY[name]
    notebook.cells += [odd.code(HEAVY[name]), odd.words(HEAVY[name] + "\ndef stream(x): pass")]
    start = time.process_time()
    page = repair(odd.as_bytes(notebook), homework)
    assert time.process_time() - start < 5
    assert len(HEAVY[name]) < repairing.MAX_SOURCE or name == "too long"
    assert set(answered(page)) >= set(names_of(homework)) - {"stream"}


def test_many_cells_take_no_time():
    homework = load("hw01")
    notebook = odd.solved(homework)
    notebook.cells += [odd.code(f"def helper_{at}():\n    return {at}\n" * 3) for at in range(1900)]
    start = time.process_time()
    assert len(repair(odd.as_bytes(notebook), homework).cells) == 1906
    assert time.process_time() - start < 5


# Anything at all -------------------------------------------------------------------------------------------------


def never_crashes(data, homework):
    """Repair gives a page of plain texts or says that there is none; how long it took, in seconds."""
    start = time.process_time()
    try:
        page = repair(data, homework)
    except Unreadable as words:
        assert str(words).endswith(".")
    else:
        assert all(type(cell.source) is str and cell.source for cell in page.cells)
        assert set(page.written) == {question.name for question in homework.written}
        "".join([*page.notes, *page.written.values(), *(cell.source for cell in page.cells)]).encode()
    return time.process_time() - start


def test_random_bytes():
    rng, homework = random.Random(1), load("hw01")
    heads = [
        b"",
        b"{",
        b'{"cells": [',
        b"\xff\xfe{\0",
        b"\xef\xbb\xbf{",
        b'{"nbformat": 3, "worksheets": [',
        b"\0{",
    ]
    for _ in range(1200):
        assert never_crashes(rng.choice(heads) + rng.randbytes(rng.randrange(300)), homework) < 2


WORDS = [
    *(
        "cells",
        "source",
        "cell_type",
        "metadata",
        "nbgrader",
        "grade_id",
        "id",
        "code",
        "markdown",
        "raw",
        "input",
    ),
    *(
        "stream",
        "fair",
        "setup",
        "stream-check",
        "def stream(x):\n    return x",
        "def premium(",
        "worksheets",
        "\ud800",
    ),
    *(
        "## 3. Never half a letter",
        "%%time\nx",
        "await x",
        "\u00a0x = 1",
        "nbformat",
        "level",
        "heading",
        "language",
    ),
]


def anything(rng, depth=0):
    """A random JSON value made of the words that notebooks are made of."""
    kind = rng.randrange(8 if depth < 5 else 5)
    if kind == 0:
        return rng.choice([None, True, 0, 3, 4, -1.5, 10**30, float("nan"), float("inf")])
    if kind < 5:
        return rng.choice(WORDS)
    if kind == 5:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(WORDS): anything(rng, depth + 1) for _ in range(rng.randrange(6))}


def test_random_json():
    rng, homework = random.Random(2), load("hw01")
    for at in range(1500):
        value = anything(rng)
        if at % 3:
            value = {"cells": [anything(rng, 1) for _ in range(6)]}
        elif at % 2:
            value = {
                "nbformat": rng.choice([2, 3]),
                "worksheets": [{"cells": [anything(rng, 1) for _ in range(6)]}],
            }
        assert never_crashes(json.dumps(value).encode(), homework) < 2


def test_random_truncations():
    rng, homework, data = random.Random(3), load("hw01"), real()
    for _ in range(600):
        assert never_crashes(data[: rng.randrange(len(data))], homework) < 2


def test_random_damages_of_a_real_page():
    rng, homework, data = random.Random(4), load("hw01"), real()
    for _ in range(50):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 3, 30])):
            changed[rng.randrange(len(changed))] = rng.choice(b'"\\{}[]:,\n\0\x80 dn0')
        assert never_crashes(bytes(changed), homework) < 5


def test_random_cells_put_into_a_real_page():
    rng, homework = random.Random(5), load("hw01")
    for _ in range(50):
        notebook = json.loads(real())
        for _ in range(8):
            cell = rng.choice(notebook["cells"])
            place = rng.choice([cell, cell["metadata"], cell["metadata"].get("nbgrader") or cell])
            if isinstance(place, dict):
                place[rng.choice([*place, *WORDS[:8]])] = anything(rng, 2)
            if not isinstance(cell.get("metadata"), dict):
                cell["metadata"] = {}
        rng.shuffle(notebook["cells"])
        assert never_crashes(json.dumps(notebook).encode(), homework) < 5
