"""Says which submissions share more code than chance would: a hint to read two pages side by side, never a verdict.

Code is compared as text, it never runs. What a copier changes without thinking (names, comments, layout, the values
of numbers and texts) is not looked at; what is left is cut into pieces, the runs of LENGTH tokens. Pieces of the
released page and of the model solution say nothing, nor do those that many of the class have. Of the others, the
share is named that two students have in common, taken from the one who has fewer.

How far it can be trusted, measured on the wrong answers of all homeworks (64 exercises, 590 programs). To every
exercise of a homework two students give two different ones of them: 300 such pairs for each homework, and for each
pair three copies of what the first one gave. Of how many pairs, in percent, the share is at least 0.6, 0.8, 0.9:

                                                                             0.6      0.8      0.9
    two different programs everywhere: nobody copied                         7.7      0.2      0.0
    copied, names and layout changed, comments added, statements swapped     100     99.9     95.1
    copied so, and one line more in every function                          90.6     26.8      2.5
    copied so in half of the exercises, own work in the others              75.0     21.0      4.2

The first row is too dark, for these programs are one author's variations on one solution, and two students differ
more. The last rows show what is not found: a line more in functions of ten lines hides most copies. And whoever
finds the same short way as a friend, wrong or right, is found here without having copied. It proves nothing.

Winnowing (Schleimer, Wilkerson and Aiken 2003), which keeps only some pieces, was tried and left out: in programs
this short it leaves to the luck of a hash what is found, and all pieces of 300 students are compared in seconds.
"""

import io
import keyword
import token
import tokenize
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations

LENGTH = 5  # tokens in a piece
THRESHOLD = 0.8  # the share from which a pair is named
EVIDENCE = 40  # pieces that the smaller of the two must have: below, chance rules
COMMON = 0.2  # what more than this share of the class has (and more than five) is common
WORDS = 8  # that a written answer must have: shorter ones are the same by chance
LONGEST = 20_000  # letters of one exercise that are read
LAYOUT = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
)


@dataclass(frozen=True)
class Pair:
    """Two students, the share of pieces that both have over all exercises, and the share in each of them."""

    one: str
    other: str
    share: float
    exercises: dict = field(default_factory=dict)


def pairs(records, homework):
    """The pairs that share at least THRESHOLD, most first. records, homework: as in utils/grading/report.py"""
    known = set().union(*(pieces(source) for source in sources(homework)))
    own = {record["student"]: rare_pieces(record, known) for record in records}
    owners = Counter(piece for found in own.values() for piece in found)
    limit = max(5, COMMON * len(own))
    own = {student: {piece for piece in own[student] if owners[piece] <= limit} for student in sorted(own)}
    found = []
    for one, other in combinations([student for student in own if len(own[student]) >= EVIDENCE], 2):
        share = overlap(own[one], own[other])
        if share >= THRESHOLD:
            found.append(Pair(one, other, share, by_exercise(own[one], own[other], homework)))
    return sorted(found, key=lambda pair: (-pair.share, pair.one, pair.other))


def twins(records, homework):
    """[(what, students)]: who handed in the same file, or word for word the same answer to a question."""
    groups = defaultdict(list)
    for record in sorted(records, key=lambda record: record["student"]):
        verdicts = {part["verdict"] for part in record["exercises"].values()}
        if verdicts - {"empty", "missing"}:
            groups["the same file", record["sha256"]].append(record["student"])
        for task in homework.written:
            words = record["written"].get(task.name, {}).get("text", "").casefold().split()
            if len(words) >= WORDS:
                groups[f"the same answer: {task.title}", " ".join(words)].append(record["student"])
    found = [(what, students) for (what, _), students in groups.items() if len(students) > 1]
    return sorted(found, key=lambda group: (group[0] != "the same file", group[0], -len(group[1])))


def sources(homework):
    """The code that everyone has, or that whoever found the right way may have."""
    yield from homework.solutions.values()
    for cell in homework.released.cells:
        if cell.cell_type == "code":
            yield cell.source


def rare_pieces(record, known):
    """{(exercise, piece)} of a submission, without those that are known."""
    code = record.get("code", {})
    return {(name, piece) for name, source in code.items() for piece in pieces(source) - known}


def overlap(one, other):
    """What two sets have in common, as a share of the smaller one."""
    return len(one & other) / (min(len(one), len(other)) or 1)


def by_exercise(one, other, homework):
    """{exercise: overlap} where both have pieces of their own, in the order of the homework."""
    found = {}
    for task in homework.exercises:
        left, right = ({piece for name, piece in side if name == task.name} for side in (one, other))
        if left and right:
            found[task.name] = overlap(left, right)
    return found


def pieces(source):
    """The pieces by which a program is known: all runs of LENGTH tokens."""
    found = tokens(source)
    return {tuple(found[at : at + LENGTH]) for at in range(len(found) - LENGTH + 1)}


def tokens(source):
    """The code as kinds of tokens, in order: "n" for a name, "1" for a number, "s" for a text, all else itself.

    Where it is no Python the rest is read line by line, each line as far as it can be read.
    """
    source = source[:LONGEST].encode("utf-8", "replace").decode().replace("\0", " ")
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    found, read = tokens_until_fault(source)
    for line in source.split("\n")[read:]:
        found += tokens_until_fault(line)[0]
    return found


def tokens_until_fault(source):
    """The tokens up to the first fault, and how many lines they fill: all lines where there is no fault."""
    found, row, depth = [], 0, 0  # depth: of f-strings, which newer Pythons take apart
    try:
        for kind, text, _, end, _ in tokenize.generate_tokens(io.StringIO(source).readline):
            row = end[0]
            if kind == getattr(token, "FSTRING_START", None):
                found += ["s"] * (depth == 0)
                depth += 1
            elif kind == getattr(token, "FSTRING_END", None):
                depth -= 1
            elif depth == 0 and kind not in LAYOUT and text.strip():
                found.append(kind_of(kind, text))
    except (tokenize.TokenError, SyntaxError, ValueError):
        return found, max(row, 1)
    return found, source.count("\n") + 1


def kind_of(kind, text):
    """A token without what a copier changes."""
    if kind == tokenize.NAME and not keyword.iskeyword(text):
        return "n"
    return {tokenize.NUMBER: "1", tokenize.STRING: "s"}.get(kind, text)
