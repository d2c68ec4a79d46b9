"""Similar submissions: copies are found whatever their names, chance is not, and the figures in the docstring hold."""

import ast
import functools
import inspect
import random
import re
import sys
import textwrap
import time
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest

from utils import pages
from utils.grading import similar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from wrong_answers import wrong_answers  # noqa: E402

from . import classroom  # noqa: E402

LIMITS = 0.6, similar.THRESHOLD, 0.9
SOURCES = sorted((pages.ROOT / "solutions").glob("hw*.ipynb"))
PROGRAM = '''def nucleus(probs, p):
    """Keep the smallest set."""
    ranked, order = probs.sort(dim=-1, descending=True)
    held = ranked.cumsum(dim=-1)
    count = (held < p).sum(dim=-1) + 1
    kept = probs * 0
    for row in range(len(probs)):
        for column in order[row, : count[row]]:
            kept[row, column] = probs[row, column]
    return kept / kept.sum(dim=-1, keepdim=True)
'''
OTHER_WAY = """def nucleus(probs, p):
    order = probs.argsort(descending=True)
    below = probs.gather(-1, order).cumsum(-1).roll(1, -1)
    below[:, 0] = 0
    keep = torch.zeros_like(probs, dtype=bool).scatter(-1, order, below < p)
    left = torch.where(keep, probs, 0)
    return left / left.sum(-1, True)
"""


# ---- what a copier does ----


class Renamed(ast.NodeTransformer):
    """Gives names new names."""

    def __init__(self, names):
        self.names = names

    def visit_Name(self, node):
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node):
        node.arg = self.names.get(node.arg, node.arg)
        return node


def names_in(node, context):
    return {
        part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, context)
    }


def swap(body):
    """Swap neighbouring assignments where neither needs the other."""
    at = 0
    while at + 1 < len(body):
        one, other = body[at : at + 2]
        stored, stored_too = names_in(one, ast.Store), names_in(other, ast.Store)
        needed = names_in(one, ast.Load) | names_in(other, ast.Load) | stored & stored_too
        if (
            isinstance(one, ast.Assign)
            and isinstance(other, ast.Assign)
            and not (stored | stored_too) & needed
        ):
            body[at : at + 2] = other, one
            at += 1
        at += 1


pieces = functools.cache(similar.pieces)


@functools.cache
def copied(source, line=False):
    """The program under other names, in other layout, with comments, statements swapped; `line`: with one line more."""
    tree = ast.parse(source)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    own = {part.arg for part in function.args.args} | names_in(function, ast.Store)
    Renamed({name: f"v{at}_{name[::-1]}" for at, name in enumerate(sorted(own))}).visit(function)
    if ast.get_docstring(function):
        function.body[0].value.value = "In other words."
    swap(function.body)
    if line:
        function.body.insert(len(function.body) // 2, ast.parse("assert True, 'sure'").body[0])
    lines = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
    return "\n".join(f"{text}  # my own words" for text in lines)


# ---- a homework without running it, and its wrong answers as programs ----


def homework_of(path):
    """What `pairs` looks at: exercises, solutions, the released page."""
    nb = pages.read(path)
    solved = [cell for cell in pages.code_cells(nb) if pages.graded(cell).get("solution")]
    names = [pages.graded(cell)["grade_id"] for cell in solved]
    return SimpleNamespace(
        exercises=[SimpleNamespace(name=name) for name in names],
        solutions={name: cell.source for name, cell in zip(names, solved)},
        released=pages.cut(nb, path),
    )


def programs(path):
    """{exercise: sources of its wrong answers}"""
    found = {}
    for wrong in wrong_answers(path.name[:4]):
        source = textwrap.dedent(inspect.getsource(wrong.function)).partition("\n")[2]
        found.setdefault(wrong.exercise, []).append(source)
    return found


def record(student, code):
    return {"student": student, "code": code}


def share(one, other, known):
    """What `pairs` would say of two students alone, or None where there is too little to say anything."""
    left, right = (
        {(name, at) for name in code for at in pieces(code[name]) - known} for code in (one, other)
    )
    enough = min(len(left), len(right)) >= similar.EVIDENCE
    return similar.overlap(left, right) if enough else None


def measured(draws):
    """{kind of pair: the shares found}, for `draws` pairs of each kind and homework."""
    found, rng = {"different": [], "copied": [], "line": [], "half": []}, random.Random(3)
    for path in SOURCES:
        homework, variants = homework_of(path), programs(path)
        known = set().union(*map(pieces, similar.sources(homework)))
        for _ in range(draws):
            drawn = {name: rng.sample(sources, 2) for name, sources in variants.items()}
            one, other = ({name: two[at] for name, two in drawn.items()} for at in (0, 1))
            copy = {name: copied(source) for name, source in one.items()}
            half = dict(list(copy.items())[: len(copy) // 2])
            longer = {name: copied(source, line=True) for name, source in one.items()}
            theirs = {"different": other, "copied": copy, "line": longer, "half": other | half}
            for kind, code in theirs.items():
                found[kind].append(share(one, code, known))
    return {kind: [value for value in shares if value is not None] for kind, shares in found.items()}


def at_least(shares, limit):
    return sum(value >= limit for value in shares) / len(shares)


def figures(draws=300):
    """The table of the docstring."""
    shares = measured(draws)
    return {
        kind: [round(100 * at_least(values, limit), 1) for limit in LIMITS] for kind, values in shares.items()
    }


# ---- tests ----


def test_the_figures_of_the_docstring():
    found = figures(60)
    said = re.findall(r"^    \w.+?((?: +[\d.]+){3})$", similar.__doc__, re.MULTILINE)
    assert len(said) == len(found)
    for (kind, row), words in zip(found.items(), said):
        assert row == pytest.approx([float(word) for word in words.split()], abs=5), kind
    assert found["different"][1] < 1 and found["copied"][1] > 98


def test_a_copy_shares_nearly_all_pieces_and_another_way_few():
    changed = copied(PROGRAM)
    assert "probs" not in changed and "# my own words" in changed
    assert similar.overlap(similar.pieces(PROGRAM), similar.pieces(changed)) > 0.8
    assert similar.overlap(similar.pieces(PROGRAM), similar.pieces(OTHER_WAY)) < 0.3


def test_names_numbers_texts_comments_and_layout_do_not_count():
    one = "def f(a):\n    # why\n    return a + 1 if a else 'x'\n"
    other = 'def gg(bb) :\n\treturn (\n  bb+2_000  if bb else """y\nz""")'
    assert similar.tokens(one) == "def n ( n ) : return n + 1 if n else s".split()
    assert [part for part in similar.tokens(other) if part not in "()"] == [
        part for part in similar.tokens(one) if part not in "()"
    ]


def test_an_f_string_is_one_text():
    assert similar.tokens("f'{a!r:>{w}} and {b[\"x\"]}'")[:1] == ["s"]


@pytest.mark.parametrize(
    "broken",
    [
        "def f(:\n  x = (1,\n y = 2\n",
        "'''never closed\nx = 1",
        "  x\n y\n",
        "\0\0",
        "def ƒ(\ud800): €",
        "(" * 5000,
        "\\",
    ],
)
def test_what_is_no_python_is_read_as_far_as_it_goes(broken):
    first = similar.tokens(broken)
    assert first == similar.tokens(broken)
    similar.pieces(broken)


def test_code_after_a_fault_still_counts():
    assert similar.tokens("x = ]\nfor n in n: n")[-6:] == ["for", "n", "in", "n", ":", "n"]
    assert similar.tokens("''' open\nwhile x:\n")[-3:] == ["while", "n", ":"]


def class_of(path, count, rng):
    variants = programs(path)
    return [
        record(f"student {at:03}", {name: rng.choice(sources) for name, sources in variants.items()})
        for at in range(count)
    ]


def test_a_planted_copy_comes_first_and_names_its_exercises():
    path = next(path for path in SOURCES if path.name.startswith("hw07"))
    homework, variants = homework_of(path), programs(path)
    turns = [{name: sources[at % len(sources)] for name, sources in variants.items()} for at in range(6)]
    records = [record(f"student {at}", code) for at, code in enumerate(turns)]
    records.append(record("copier", {name: copied(source) for name, source in turns[2].items()}))
    found = similar.pairs(records, homework)
    assert (found[0].one, found[0].other) == ("copier", "student 2") and found[0].share > 0.8
    assert set(found[0].exercises) <= {task.name for task in homework.exercises}
    assert all(0 <= value <= 1 for pair in found for value in pair.exercises.values())
    assert found == similar.pairs(records[::-1], homework)


def test_the_solution_and_the_stub_say_nothing():
    homework = homework_of(SOURCES[0])
    stubs = {cell.id: cell.source for cell in pages.code_cells(homework.released)}
    for code in (homework.solutions, stubs):
        assert similar.pairs([record("a", code), record("b", dict(code)), record("c", {})], homework) == []


def test_what_much_of_the_class_has_is_no_sign():
    homework = homework_of(SOURCES[0])
    code = {name: copied(sources[0]) for name, sources in programs(SOURCES[0]).items()}
    assert len(similar.pairs([record(f"s{at}", code) for at in range(2)], homework)) == 1
    assert similar.pairs([record(f"s{at}", code) for at in range(30)], homework) == []


def test_the_same_file_and_the_same_words_are_seen():
    homework, words = classroom.homework(), "One two three four five six seven eight."
    made = lambda student, sha, text, verdict="right": classroom.record(
        student, [verdict] * 3, (text, "yes"), sha256=sha
    )
    records = [
        *(made("c", "1", words), made("a", "1", "Other words."), made("b", "2", f" {words.upper()}\n")),
        *(made("d", "3", "too short"), made("e", "4", "too short")),
        *(
            made("f", "5", "", "empty"),
            made("g", "5", "", "empty"),
            classroom.unreadable("h"),
            classroom.unreadable("i"),
        ),
    ]
    assert similar.twins(records, homework) == [
        ("the same file", ["a", "c"]),
        ("the same answer: 4. Why?", ["b", "c"]),
    ]
    assert similar.twins(records[3:], homework) == []


def test_three_hundred_students_take_seconds():
    path = next(path for path in SOURCES if path.name.startswith("hw07"))
    homework, records = homework_of(path), class_of(path, 300, random.Random(1))
    began = time.process_time()
    found = similar.pairs(records, homework)
    assert time.process_time() - began < 20
    assert all(one.share >= other.share for one, other in zip(found, found[1:]))
    assert len(list(combinations(records, 2))) == 44_850
