"""The claims of the course, read from its pages: the words, the figures that were printed, the margin that is asserted.

A claim stands in a code cell tagged `claim`. The cell prints the figures and asserts the margin, the text around it
says what that means, the heading above it is its name. Nothing is written a second time.
"""

import ast
import itertools
import re
from dataclasses import dataclass

from utils import course, pages

TAG = "claim"


@dataclass(frozen=True)
class Claim:
    """One claim of a page; `cell` is the id of the cell that measures it."""

    page: str
    cell: str
    name: str  # the heading above the cell
    words: str  # the paragraph in which the page says what was found, Markdown
    figures: str  # what was printed
    picture: str  # base64 PNG, where nothing was printed
    margin: str  # its assertions, Python


def is_assertion(statement):
    """`assert …`, or a call of a function named `assert_…`."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return ast.unparse(statement.value.func).rpartition(".")[2].startswith("assert_")
    return isinstance(statement, ast.Assert)


def asserted(statements):
    """The numbers of the lines of all assertions, with the head of each block around them."""
    for statement in statements:
        if is_assertion(statement):
            yield from range(statement.lineno, statement.end_lineno + 1)
        elif inner := [*asserted(getattr(statement, "body", []))]:
            yield from [*range(statement.lineno, statement.body[0].lineno), *inner]


def margin(source):
    """The lines of a cell that assert something, as they stand there."""
    lines = source.splitlines()
    numbers = sorted(set(asserted(ast.parse(source).body)))
    return "\n".join(lines[number - 1] for number in numbers if lines[number - 1].strip())


def printed(cell):
    """What a stored cell printed."""
    return "".join(output.get("text", "") for output in cell.get("outputs", [])).strip("\n")


def picture(cell):
    """The first picture that a stored cell shows, base64 PNG; "" if there is none."""
    shown = (output.get("data", {}).get("image/png") for output in cell.get("outputs", []))
    return next(filter(None, shown), "").strip()


def in_section(cells):
    """The cells up to the next heading."""
    is_heading = lambda cell: cell.cell_type == "markdown" and re.search("^#", cell.source, re.MULTILINE)
    return itertools.takewhile(lambda cell: not is_heading(cell), cells)


def figures(cells, number):
    """What the cell at this number printed, else its picture, else those of the nearest cell, best in its section.

    Returns a text and a base64 PNG, of which one is empty.
    """
    upwards, downwards = cells[number::-1], cells[number + 1 :]
    for cell in [*in_section(upwards), *in_section(downwards), *upwards]:
        if text := printed(cell):
            return text, ""
        if png := picture(cell):
            return "", png
    return "", ""


def paragraphs(text):
    """The paragraphs of Markdown that state something: no headings, no predictions, no folds' own lines."""
    text = re.sub(r"<details>.*?</summary>|</details>", "", text, flags=re.DOTALL)
    return [part.strip() for part in re.split(r"\n\s*\n", text) if re.match(r"\s*[^#>\s]", part)]


def said_after(cells):
    """The paragraphs from here to the next heading or the next claim."""
    for cell in cells:
        if TAG in pages.tags(cell):
            return
        if cell.cell_type == "markdown":
            text, *rest = re.split(r"^#", cell.source, maxsplit=1, flags=re.MULTILINE)
            # in plain text a bold beginning announces the next thing
            yield from paragraphs(text) if text.startswith("<") else paragraphs(re.split(r"^\*\*", text)[0])
            if rest:
                return


def words(cells, number):
    """What the page says about the cell at this number: behind it the first that is no question, else before it."""
    if after := [*said_after(cells[number + 1 :])]:
        return next((part for part in after if not re.match(r"[^.?!]*\?", part)), after[0])
    before = [
        part for cell in cells[:number] if cell.cell_type == "markdown" for part in paragraphs(cell.source)
    ]
    return before[-1]


def heading(cells, number):
    """The last heading above the cell at this number."""
    text = "\n".join(cell.source for cell in cells[:number] if cell.cell_type == "markdown")
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)[-1]


def claims_of(page):
    """The claims of a lesson, in the order of the page."""
    cells = pages.read(pages.ROOT / "notebooks" / f"{page}.ipynb").cells
    return [
        Claim(page, cell.id, heading(cells, i), words(cells, i), *figures(cells, i), margin(cell.source))
        for i, cell in enumerate(cells)
        if TAG in pages.tags(cell)
    ]


def all_claims():
    """Part → lesson → its claims, for every lesson that is finished."""
    return {
        part: {page: claims_of(page) for page in lessons if course.standing(page) == "here"}
        for part, lessons in course.PAGES.items()
    }
