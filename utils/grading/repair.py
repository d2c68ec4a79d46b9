"""From the bytes that a student handed in to the cells to run: whose answer each is, and what had to be mended.

Nothing of the student is run here. Cells find back to the released page by nbgrader's grade id, by cell id, by their
text, and by the function that they define; what a page's own cells do is the release's business alone.
"""

import ast
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import nbformat

from utils import course, pages
from utils.grading.tidy import parse, squeezed, tidy

MAX_BYTES = 20_000_000
MAX_PARTS = 2_000_000  # brackets in the file: a list costs sixty times the memory of its two characters
MAX_CELLS = 2_000
MAX_SOURCE = 50_000  # characters of code in one cell
MAX_CODE = 400_000  # and in all cells together
MAX_TEXT = 20_000  # characters of one written answer
MAX_NOTES = 40
WRONG_PAGE = "No exercise of {} stands in this notebook: is it the right file?"
ABSENT, EMPTIED = "The cell of `{}` is not in your file.", "The cell of `{}` is empty in your file."
MARKED = "Your file holds marks of the instructor's file (`{}`, cell {})."
FINDINGS = tuple(note.partition("{")[0] for note in (WRONG_PAGE, ABSENT, MARKED))  # how such a note begins
LEFT_OUT = "was left out"
FIRST = re.compile(re.escape(course.bootstrap("ADDRESS")).replace("ADDRESS", '[^"\\n]*'))  # with any address
DEFINITION = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(", re.MULTILINE)
HEADING = re.compile(r"^## (.+?)(?: · .*)?$", re.MULTILINE)
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
IMPORTS = ast.Import, ast.ImportFrom
LOOPS = ast.For, ast.While
BLOCKS = ast.If, ast.Try, ast.With, *LOOPS


class Unreadable(Exception):
    """One plain sentence: why these bytes are no notebook, and what to hand in instead."""


@dataclass(frozen=True)
class Cell:
    """Code to run. exercise: the one whose answer it defines, else ""; label: where it stands, for messages."""

    source: str
    exercise: str = ""
    label: str = ""


@dataclass(frozen=True)
class Page:
    """What a student handed in.

    cells: code to run, in order   written: {name of a written question: the answer, "" if there is none}
    notes: a sentence for the student about each thing that was mended, or that the file lacks or should not hold
    """

    cells: tuple
    written: dict
    notes: tuple = ()


def repair(data, homework):
    """The Page that these bytes hold; Unreadable if they are no notebook."""
    notes = []
    try:
        cells, texts, findings = repaired(data, homework, notes)
    except RecursionError:
        raise Unreadable(f"The code of this page is nested too deeply to be read. {SAVE}") from None
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES:] = [f"… and {len(notes) - MAX_NOTES} more repairs."]
    return Page(cells, texts, (*findings, *notes))


def repaired(data, homework, notes):
    """(the cells to run, the written answers, what else was found); `notes` grows by what was mended."""
    release = Release(homework)
    found = attach(cells_of(notebook(data, notes), notes), release)
    left_out = {cell.number for cell in found if f"Cell {cell.number} {LEFT_OUT}" in "\n".join(notes)}
    pieces = code(found, release, notes)
    texts = written(found, {piece.number for piece in pieces}, release, notes)
    cells = tuple(
        Cell(piece.source, piece.exercise, f"cell {piece.number}")
        for piece in arranged(pieces, release, notes)
    )
    nothing = not any(cell.exercise for cell in cells) and not any(texts.values())
    if nothing and not any(release.is_answer(cell.at) for cell in found):
        findings = [WRONG_PAGE.format(homework.name)]
    else:
        findings = absent(found, {cell.exercise for cell in cells}, left_out, release)
    return cells, texts, [*findings, *marked(found)]


def absent(found, answered, left_out, release):
    """A sentence for each exercise of which not even the stub is there. left_out: numbers of cells not read"""
    for name in release.exercises:
        own = [cell for cell in found if release.exercise(cell.at) == name]
        here = any(cell.source.strip() or cell.number in left_out for cell in own)
        if name not in answered and not here:
            if not any(name in DEFINITION.findall(cell.source) for cell in found):
                yield (EMPTIED if own else ABSENT).format(name)


def marked(found):
    """A sentence if code holds a line that only the instructor's file has."""
    for cell in found:
        marks = [line.strip() for line in cell.source.split("\n") if pages.MARK.fullmatch(line)]
        if marks and cell.kind == "code":
            return [MARKED.format(marks[0], cell.number)]
    return []


def worth(data, homework):
    """How many exercises of this homework the bytes hold, and how many of those are more than the stub."""
    try:
        found = cells_of(notebook(data, []), [])
    except Unreadable:
        return 0, 0
    stubs = {pages.squeeze(cell.source) for cell in homework.released.cells}
    names = {exercise.name for exercise in homework.exercises}
    held, written = set(), set()
    for cell in found:
        here = names & {cell.id, cell.grade_id, *DEFINITION.findall(cell.source)}
        held |= here
        if pages.squeeze(cell.source) not in stubs:
            written |= here & set(DEFINITION.findall(cell.source))
    return len(held), len(written)


# Bytes, text, notebook -----------------------------------------------------------------------------------------

LOOKS_LIKE = [
    (b"PK\x03\x04", "is a zip or an Office document"),
    (b"PK\x05\x06", "is an empty zip"),
    (b"%PDF", "is a PDF"),
    (b"{\\rtf", "is a text document (RTF)"),
    (b"\xd0\xcf\x11\xe0", "is an old Word document"),
    (b"\x1f\x8b", "is a packed file (gzip)"),
    (b"\x89PNG", "is a picture"),
    (b"version https://git-lfs", "is only the address of a file that Git stores elsewhere"),
]
SAVE = "Save the page in Jupyter and hand in the .ipynb file itself."


def notebook(data, notes):
    """The notebook as plain dicts and lists, of format 4."""
    if not data.strip(b"\0\t\r\n "):
        raise Unreadable(f"The file is empty. {SAVE}")
    if len(data) > MAX_BYTES:
        raise Unreadable(
            f"The file is larger than {MAX_BYTES // 10**6} MB. Clear the outputs and hand it in again."
        )
    for start, words in LOOKS_LIKE:
        if data.startswith(start):
            raise Unreadable(f"The file {words}, not a notebook. {SAVE}")
    text = decoded(data, notes).strip("\0\t\r\n \ufeff")
    if re.match(r"<(?:!doctype|html|head|\?xml|script|!--)", text, re.IGNORECASE):
        raise Unreadable(f"The file is a web page, perhaps one that asks to log in, not a notebook. {SAVE}")
    return upgraded(loaded(text), notes)


def decoded(data, notes):
    """The bytes as text: UTF-8 as it should be, or what else editors write."""
    marks = [
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ]
    bare = [(b"{\0", "utf-16-le"), (b"\0{", "utf-16-be")]
    for start, encoding in marks + bare:
        if data.startswith(start):
            notes.append(f"The file was saved as {encoding[:6].upper()}; it was read as that.")
            return data.decode(encoding, "replace")
    if data.startswith(b"\xef\xbb\xbf"):
        notes.append("The file began with an invisible byte order mark, which was left out.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        notes.append("The file was not saved as UTF-8; it was read as Windows text, so letters may differ.")
        return data.decode("cp1252", "replace")


def number(digits):
    """An integer of a notebook; none of them is long."""
    if len(digits) > 1000:
        raise ValueError("a number with too many digits")
    return int(digits)


def loaded(text):
    """What the JSON text stands for, a dict with cells."""
    if text.count("[") + text.count("{") > MAX_PARTS:
        raise Unreadable(
            f"The file has too many parts for a notebook. Clear the outputs and hand it in again. {SAVE}"
        )
    try:
        found = json.loads(text, strict=False, parse_int=number)
    except RecursionError:
        raise Unreadable(f"The file is nested too deeply for a notebook. {SAVE}") from None
    except json.JSONDecodeError as error:
        raise Unreadable(why_broken(text, error)) from None
    except ValueError as error:
        raise Unreadable(f"The file is no notebook: it holds {error}. {SAVE}") from None
    if not isinstance(found, dict) or not isinstance(found.get("cells", found.get("worksheets")), list):
        raise Unreadable(f"The file has no cells, so it is no notebook. {SAVE}")
    return found


def why_broken(text, error):
    """The likely reason why a text is not JSON, as a sentence."""
    if re.search(r"^<{7}", text, re.MULTILINE) and re.search(r"^>{7}", text, re.MULTILINE):
        return (
            "The file holds both sides of a Git merge (`<<<<<<<`). "
            "Settle the conflict, open the page in Jupyter, save it and hand it in again."
        )
    if not text.startswith(("{", "[")):
        return f"The file is plain text, not a notebook. {SAVE}"
    if error.pos >= len(text) or error.msg.startswith("Unterminated string"):
        return f"The file ends in the middle: it was not saved or sent as a whole. {SAVE}"
    return f"The file is damaged at line {error.lineno}, so it cannot be opened as a notebook. {SAVE}"


def upgraded(found, notes):
    """The notebook in format 4, whatever format it was saved in."""
    if "cells" in found:
        return found
    try:
        changed = nbformat.convert(nbformat.from_dict(found | {"nbformat": old_format(found)}), 4)
        changed = json.loads(nbformat.v4.writes_json(changed))
    except Exception:  # the library raises what it happens to meet
        raise Unreadable(f"The file is a notebook of an old format that cannot be read. {SAVE}") from None
    notes.append("The page was saved in an old notebook format; it was read as such.")
    return changed


def old_format(found):
    """2 or 3, the formats with worksheets."""
    return 2 if found.get("nbformat") == 2 else 3


@dataclass(frozen=True)
class Found:
    """A cell as it stands in the file. at: its place in the released page, None if it has none there."""

    number: int
    kind: str
    source: str
    id: str = ""
    grade_id: str = ""
    at: int | None = None


def cells_of(nb, notes):
    """The cells, whatever they lack."""
    raw = [cell for cell in nb["cells"] if isinstance(cell, dict)]
    if len(raw) > MAX_CELLS:
        raise Unreadable(
            f"The page has {len(raw):,} cells; at most {MAX_CELLS:,} are read. Hand in the released page."
        )
    found, room = [], MAX_CODE
    for count, cell in enumerate(raw, 1):
        metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
        mark = metadata.get("nbgrader") if isinstance(metadata.get("nbgrader"), dict) else {}
        kind = cell.get("cell_type") if cell.get("cell_type") in ("markdown", "raw") else "code"
        source = joined(cell.get("source", cell.get("input", "")))
        if kind == "code":
            fits = len(source) <= min(MAX_SOURCE, room)
            room -= len(source) if fits else 0
            if not fits:
                most = f"{MAX_SOURCE:,} characters of code in a cell and {MAX_CODE:,} in all are read"
                notes.append(f"Cell {count} {LEFT_OUT}: at most {most}.")
                source = ""
        cell_id = text(cell.get("id")) or text(metadata.get("id"))  # Colab keeps the id among the metadata
        found.append(Found(count, kind, source, cell_id, text(mark.get("grade_id"))))
    return found


def text(value):
    return value if isinstance(value, str) else ""


def joined(source):
    """A source as one text with LF line ends, from a text or a list of lines, with or without their ends."""
    if isinstance(source, list):
        lines = [line for line in source if isinstance(line, str)]
        ends = any(line.endswith(("\n", "\r")) for line in lines[:-1])
        source = ("" if ends else "\n").join(lines)
    return text(source).replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode("utf-8")


# The released page ---------------------------------------------------------------------------------------------


class Release:
    """The released page, as cells find back to it."""

    def __init__(self, homework):
        self.cells = homework.released.cells
        self.exercises = [exercise.name for exercise in homework.exercises]
        self.written = {question.name: question.title for question in homework.written}
        self.by_id = {cell.id: at for at, cell in enumerate(self.cells)}
        self.by_mark = {pages.graded(cell).get("grade_id"): at for at, cell in enumerate(self.cells)}
        self.by_text = {
            (cell.cell_type == "code", pages.squeeze(cell.source)): at
            for at, cell in enumerate(self.cells)
            if self.role(at) != "written"
        }
        self.lines = [set(map(pages.squeeze, cell.source.split("\n"))) - {""} for cell in self.cells]
        self.by_heading = {
            match[1]: at for at, cell in enumerate(self.cells) if (match := HEADING.search(cell.source))
        }

    def role(self, at):
        """What the cell is: "answer", "written", "check", "ground", "page" (code without a mark) or "prose"."""
        cell, mark = self.cells[at], pages.graded(self.cells[at])
        if mark.get("solution"):
            return "answer" if cell.cell_type == "code" else "written"
        if cell.cell_type != "code":
            return "prose"
        return "check" if mark.get("grade") else "ground" if mark else "page"

    @cached_property
    def sections(self):
        """For each cell: the exercise or question that it belongs to, "" for what stands before the first."""
        groups = []
        for at, cell in enumerate(self.cells):
            if cell.cell_type == "markdown" and HEADING.search(cell.source) or not groups:
                groups.append([])
            groups[-1].append(at)
        sections, name = [], ""
        for group in groups:
            answers = [at for at in group if self.role(at) in ("answer", "written")]
            name = pages.graded(self.cells[answers[0]])["grade_id"] if answers else name
            sections += [name] * len(group)
        return sections

    @cached_property
    def stubs(self):
        """{exercise: its unwritten function, as a comparable text}"""
        trees = {name: parse(self.cells[self.by_mark[name]].source) for name in self.exercises}
        return {
            name: bare(node) for name, tree in trees.items() for node in tree.body if name in defined(node)
        }

    def bodies(self, *roles):
        """The statements of the cells that have these roles, one after the other."""
        sources = [cell.source for at, cell in enumerate(self.cells) if self.role(at) in roles]
        return [node for source in sources for node in parse(source).body]

    @cached_property
    def names(self):
        """For each cell the names that its code binds."""
        trees = [
            parse(cell.source) if cell.cell_type == "code" else ast.Module([], []) for cell in self.cells
        ]
        return [set().union(*map(bound, tree.body)) for tree in trees]

    @cached_property
    def ground_names(self):
        return set().union(*map(bound, self.bodies("ground")))

    @cached_property
    def statements(self):
        """All statements of the page but answers, as comparable texts."""
        return set(map(bare, self.bodies("ground", "check", "page")))

    @cached_property
    def done(self):
        """Statements that need not be run again: the ground, and what checks do besides defining."""
        checks = [node for node in self.bodies("check") if not is_definition(node, ())]
        return set(map(bare, self.bodies("ground") + checks))

    def knows(self, node):
        """Whether a student's statement is none of the student's: a stub, a check, or a line of the page."""
        if isinstance(node, FUNCTIONS) and node.name in self.stubs:
            return bare(node) == self.stubs[node.name]
        return bare(node) in self.done or not is_definition(node, ()) and calls(node, "check")

    def answers(self, node):
        """The exercise that a statement answers, else ""."""
        return next((name for name in self.exercises if name in defined(node)), "")

    def exercise(self, at):
        """The exercise whose answer belongs at this place, else ""."""
        return pages.graded(self.cells[at])["grade_id"] if self.is_answer(at) else ""

    def is_answer(self, at):
        return at is not None and self.role(at) == "answer"

    def place(self, cell):
        """The place of a student's cell in the released page, None if it is new there."""
        is_code, words = cell.kind == "code", pages.squeeze(cell.source)
        if words and (is_code, words) in self.by_text:
            return self.by_text[is_code, words]
        for known, name in ((self.by_mark, cell.grade_id), (self.by_id, cell.id)):
            if name and name in known:
                return known[name]
        if not is_code and (match := HEADING.search(cell.source)):
            return self.by_heading.get(match[1])
        return self.likest(cell) if words else None

    def likest(self, cell):
        """The released cell of which this one still holds more than half of the lines, None if there is none."""
        lines = set(map(pages.squeeze, cell.source.split("\n"))) - {""}
        roles = ("prose",) if cell.kind != "code" else ("ground", "check", "page")
        shares = [
            (len(lines & known) / len(known), at)
            for at, known in enumerate(self.lines)
            if known and self.role(at) in roles
        ]
        share, at = max(shares, default=(0, None))
        return at if share > 0.5 else None

    def untouched(self, cell):
        """Whether a cell is as it was handed out, up to white space."""
        return cell.at is not None and pages.squeeze(self.cells[cell.at].source) == pages.squeeze(cell.source)


def attach(cells, release):
    """The cells, each with its place in the released page, the first with the released page's address."""
    cells = [replace(cell, source=FIRST.sub(lambda _: course.BOOTSTRAP, cell.source)) for cell in cells]
    return [replace(cell, at=release.place(cell)) for cell in cells]


# What code defines ---------------------------------------------------------------------------------------------


def bare(node):
    """A statement as a text to compare: without comments, layout and docstrings."""
    documented = [
        part
        for part in ast.walk(node)
        if isinstance(part, (*FUNCTIONS, ast.ClassDef)) and ast.get_docstring(part, clean=False) is not None
    ]
    bodies = [part.body for part in documented]
    for part in documented:
        part.body = part.body[1:]
    try:
        return ast.dump(node)
    except (RecursionError, ValueError):
        return f"too deep to compare, line {node.lineno}"
    finally:
        for part, body in zip(documented, bodies):
            part.body = body


def calls(node, name):
    """Whether a statement calls the function of this name."""
    called = (part.func for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(isinstance(function, ast.Name) and function.id == name for function in called)


def inside(node):
    """A plain statement alone, or all statements of a block (if, try, with, for, while), loops themselves too."""
    found, plain = [node], []
    while found:
        node = found.pop()
        if not isinstance(node, BLOCKS) or isinstance(node, LOOPS):
            plain.append(node)
        if isinstance(node, BLOCKS):
            parts = (node, *getattr(node, "handlers", []))
            lists = [getattr(part, name, []) for part in parts for name in ("body", "orelse", "finalbody")]
            found += [statement for body in lists for statement in body]
    return plain


def bound(node):
    """The names that a statement binds at the top level of a page, a set."""
    found, names = [node], set()
    while found:
        node = found.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, IMPORTS):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, ast.Lambda):
            found += ast.iter_child_nodes(node)
    return names


def used(tree):
    """The names that code reads, a set."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def defined(node):
    """The names that a statement gives a value of its own: a function, or what is not made from the old value."""
    names = set()
    for part in inside(node):
        if isinstance(part, FUNCTIONS):
            names.add(part.name)
        elif isinstance(part, ast.Assign | ast.AnnAssign) and part.value is not None:
            names |= bound(part) - used(part.value)
    return names


def is_definition(node, also):
    """Whether a statement only defines: functions, classes, imports and the kinds in `also`."""
    kinds = (*FUNCTIONS, ast.ClassDef, *IMPORTS, *also, *([ast.Pass] if isinstance(node, BLOCKS) else []))
    return all(isinstance(part, kinds) for part in inside(node))


# Code: pieces of cells, each with the exercise that it answers ---------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Code of one cell. exercise: the one it answers; near: the one it stands by; tree: None if it is not Python."""

    number: int
    source: str
    exercise: str
    tree: ast.Module | None
    near: str = ""


def code(found, release, notes):
    """All pieces of code that count, in the order of the page."""
    pieces, found, mends = [], rejoined(found, release, notes), {}
    for cell in found:
        role = "answer" if cell.at is None else release.role(cell.at)
        if cell.kind != "code" or role == "written" or release.untouched(cell):
            continue
        source, said = tidy(cell.source)
        if role in ("ground", "check", "page"):
            pieces += additions(cell, source, role, release, notes)
        else:
            for phrase in said:
                mends.setdefault(phrase, []).append(str(cell.number))
            pieces += cut(cell, source, release, notes)
    for phrase, cells in mends.items():
        notes.append(f"In cell{'s' * (len(cells) > 1)} {', '.join(cells)} {phrase}.")
    answered = {piece.exercise for piece in pieces}
    for piece in from_text(found, release):
        if piece.exercise not in answered:
            notes.append(
                f"Cell {piece.number} is text, but it holds `{piece.exercise}`; it was taken as code."
            )
            pieces.append(piece)
    say_moved(found, pieces, release, notes)
    return chosen(sorted(pieces, key=lambda piece: piece.number), release, notes)


def rejoined(found, release, notes):
    """The cells, where an answer that was split within its function is whole again."""
    cells = []
    for cell in found:
        before = cells[-1] if cells else None
        if before and continues(before, cell, release):
            cells[-1] = replace(before, source=f"{before.source}\n{cell.source}")
            notes.append(
                f"Cell {cell.number} goes on with the function of cell {before.number}; they were joined."
            )
        else:
            cells.append(cell)
    return cells


def continues(before, cell, release):
    """Whether a cell is the rest of the function that the cell before it ends with."""
    if not (before.kind == cell.kind == "code" and cell.at is None and cell.source[:1] in (" ", "\t")):
        return False
    whole, first = parse(f"{before.source}\n{cell.source}"), parse(before.source)
    if whole is None or not whole.body or not defined(whole.body[-1]) & set(release.exercises):
        return False
    return first is None or len(first.body) == len(whole.body)


def split(source, tree):
    """[(text, statement)]: the source, cut between its statements; None where two share a line."""
    lines, parts, end = source.split("\n"), [], 0
    for node in tree.body:
        first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])
        if first <= end:
            return None
        parts.append(("\n".join(lines[end : node.end_lineno]), node))
        end = node.end_lineno
    return parts


def cut(cell, source, release, notes):
    """The pieces of a new cell or of an answer: one, or a piece for each of several exercises."""
    tree = parse(source)
    if tree is None:
        names = [name for name in DEFINITION.findall(source) if name in release.exercises]
        names += [name for name in [release.exercise(cell.at)] if name]
        if not names:
            notes.append(f"Cell {cell.number} is not Python and was left out.")
        return [Piece(cell.number, source, name, None) for name in names[:1]]
    parts = split(source, tree) or [(source, tree)]
    kept = [(part, node) for part, node in parts if not release.knows(node)]
    names = {release.answers(node) for _, node in kept} - {""}
    if len(kept) == len(parts) and len(names) < 2:
        return [Piece(cell.number, source, "".join(names), tree)] if tree.body else []
    return pieces_of(cell.number, kept, release)


def pieces_of(number, parts, release):
    """Statements as pieces: neighbours that answer the same exercise, or none, together."""
    for name, group in groupby(parts, key=lambda part: release.answers(part[1])):
        source = "\n".join(text for text, _ in group).strip("\n")
        yield Piece(number, source, name, parse(source))


def additions(cell, source, role, release, notes):
    """What a student added to a cell of the page: definitions and imports; the rest is the release's own."""
    tree = parse(source)
    belongs = f"Cell {cell.number} belongs to the page and was changed: the released one counts"
    if tree is None:
        names = [name for name in DEFINITION.findall(source) if name in release.exercises][:1]
        notes.append(f"{belongs}.")
        return [Piece(cell.number, source, name, None) for name in names]
    also = (ast.Assign, ast.AnnAssign) if role == "ground" else ()
    taken = release.ground_names | release.names[cell.at]
    parts = split(source, tree) or [(source, node) for node in tree.body[:1]]
    new = [part for part in parts if bare(part[1]) not in release.statements]
    kept = [
        (part, node)
        for part, node in new
        if is_definition(node, also) and bound(node) - taken and not release.knows(node)
    ]
    names = ", ".join(f"`{name}`" for _, node in kept[:20] for name in sorted(bound(node) - taken))
    if new:
        notes.append(f"{belongs}{', and what you added was kept: ' + squeezed(names, 120) if names else ''}.")
    return list(pieces_of(cell.number, kept, release))


def from_text(found, release):
    """Answers in cells that were turned into text."""
    for cell in found:
        if cell.kind == "code" or len(cell.source) > MAX_SOURCE:
            continue
        if release.untouched(cell) or not set(DEFINITION.findall(cell.source)) & set(release.exercises):
            continue
        source = (
            re.sub(r"^```\w*[ \t]*$", "", cell.source, flags=re.MULTILINE)
            if release.is_answer(cell.at)
            else cell.source
        )
        source, _ = tidy(source)
        pieces = cut(cell, source, release, []) if parse(source) else []
        yield from (piece for piece in pieces if piece.exercise)


def say_moved(found, pieces, release, notes):
    """A note about the answers that stand where the page has no place for them."""
    own = {cell.number: release.exercise(cell.at) for cell in found}
    names = {
        piece.exercise: piece.number for piece in pieces if piece.exercise not in ("", own[piece.number])
    }
    at_home = {piece.exercise for piece in pieces if piece.exercise == own[piece.number]}
    if moved := [f"`{name}` (cell {number})" for name, number in names.items() if name not in at_home]:
        notes.append(f"Recognised by the function that the cell defines: {', '.join(moved)}.")


def chosen(pieces, release, notes):
    """The pieces, where of several answers to an exercise the last that is Python counts."""
    for name in release.exercises:
        attempts = [piece for piece in pieces if piece.exercise == name]
        if len(attempts) < 2:
            continue
        counts = ([piece for piece in attempts if piece.tree] or attempts)[-1]
        rest = {id(piece): outdone(piece, counts) for piece in attempts if piece is not counts}
        cells = ", ".join(str(piece.number) for piece in attempts)
        if all(pages.squeeze(piece.source) == pages.squeeze(counts.source) for piece in attempts):
            notes.append(f"Cells {cells} are copies of one another (`{name}`): the last one was run.")
        else:
            notes.append(f"`{name}` is written more than once (cells {cells}): cell {counts.number} counts.")
        pieces = [rest.get(id(piece), piece) for piece in pieces]
        pieces = [piece for piece in pieces if piece]
    return pieces


def outdone(piece, counts):
    """An answer that another one replaces: still run for what else it defines, unless nothing is lost with it."""
    if piece.tree is None or pages.squeeze(piece.source) == pages.squeeze(counts.source):
        return None
    return replace(piece, exercise="", near=piece.exercise)


def arranged(pieces, release, notes):
    """The pieces in the released order of their exercises; others stay after the one that they followed.

    A new cell that makes what the next answer needs goes with that answer.
    """
    order = {name: at for at, name in enumerate(release.exercises)}
    keys, last, needs = [], -1, set()
    for piece in pieces:
        last = order.get(piece.exercise or piece.near, last)
        keys.append(last)
    for at, piece in reversed(list(enumerate(pieces))):
        body = piece.tree.body if piece.tree else []
        if piece.exercise or piece.near:
            last, needs = keys[at], set().union(*map(used, body))
        elif needs & set().union(*map(bound, body)):
            keys[at], needs = last, needs.union(*map(used, body))
    counted = [key for key, piece in zip(keys, pieces) if piece.exercise]
    if counted != sorted(counted):
        notes.append(
            "Your answers stand in another order than in the released page; they were run in its order."
        )
    return [pieces[at] for at in sorted(range(len(pieces)), key=keys.__getitem__)]


# Written answers -----------------------------------------------------------------------------------------------


def written(found, taken, release, notes):
    """{question: the student's words}: its own cell, and all new text between the question and the next one."""
    texts, placed, section = {name: [] for name in release.written}, set(), ""
    for cell in found:
        section = section if cell.at is None else release.sections[cell.at]
        words = own_words(cell, release)
        if section not in texts or not words or cell.number in taken:
            continue
        if cell.at is None or release.role(cell.at) != "written":
            placed.add(section)
        if words not in texts[section]:
            texts[section].append(words)
    for name in release.written:
        if name in placed:
            notes.append(
                f"Your answer to “{release.written[name]}” was found by where it stands, not by the mark of its cell."
            )
    return {
        name: shortened("\n\n".join(parts), release.written[name], notes) for name, parts in texts.items()
    }


def own_words(cell, release):
    """What the student wrote in a cell of text: all of a new one, of the page's own the lines that were added."""
    if cell.kind == "code" and not (cell.at is not None and release.role(cell.at) == "written"):
        return ""
    lines = cell.source.split("\n")
    if cell.at is not None:
        known = release.lines[cell.at]
        lines = [line for line in lines if pages.squeeze(line) not in known]
    lines = [line for line in lines if pages.squeeze(line) != "*Your answer here.*"]
    return "\n".join(lines).replace("\0", "").strip()


def shortened(words, title, notes):
    """The words, as many as a person can be asked to read."""
    if len(words) > MAX_TEXT:
        notes.append(f"Your answer to “{title}” was cut after {MAX_TEXT:,} characters.")
    return words[:MAX_TEXT]
