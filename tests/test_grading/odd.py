"""Honest but odd notebooks: a solved page, damaged in every way that editors, uploads and people damage pages.

ODD: {what happened to the page: function(notebook) → the bytes that are handed in}. All of them deserve full marks.
"""

import copy
import json
import re
import textwrap

import nbformat

from utils import pages

ODD = {}
WORDS = "Self-BLEU sinks with heat.\n\nI read 0.017 at 1.5 off the table — and 8.4 bits: ≥ noise."


def damage(name):
    """Register a function that turns a solved notebook, its own copy, into bytes (or returns the notebook)."""

    def register(function):
        def damaged(notebook):
            made = function(copy.deepcopy(notebook))
            return made if isinstance(made, bytes) else as_bytes(made)

        ODD[name] = damaged
        return damaged

    return register


def as_bytes(notebook):
    return (json.dumps(notebook, ensure_ascii=False, indent=1) + "\n").encode()


def solved(homework):
    """The released page with all solutions and an answer to each written question, as a good student hands it in."""
    notebook = copy.deepcopy(homework.released)
    for cell in notebook.cells:
        if is_answer(cell):
            cell.source = solution(homework, pages.graded(cell)["grade_id"])
        elif pages.is_answer(cell):
            cell.source = WORDS
    return notebook


def solution(homework, name):
    """The solving source of an exercise, without marks."""
    return re.sub(
        r"^ *### (BEGIN|END) SOLUTION *\n?", "", homework.solutions[name], flags=re.MULTILINE
    ).strip("\n")


def is_answer(cell):
    return cell.cell_type == "code" and bool(pages.graded(cell).get("solution"))


def is_check(cell):
    return cell.cell_type == "code" and bool(pages.graded(cell).get("grade"))


def answers(notebook):
    return [cell for cell in notebook.cells if is_answer(cell)]


def cell_named(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def code(source):
    return nbformat.v4.new_code_cell(source)


def words(source):
    return nbformat.v4.new_markdown_cell(source)


def insert(notebook, cell, before=None, after=None):
    at = notebook.cells.index(before) if before is not None else notebook.cells.index(after) + 1
    notebook.cells.insert(at, cell)
    return notebook


# The file as a whole -------------------------------------------------------------------------------------------


@damage("as it should be")
def as_it_should_be(notebook):
    return notebook


@damage("byte order mark")
def byte_order_mark(notebook):
    return b"\xef\xbb\xbf" + as_bytes(notebook)


@damage("UTF-16 with mark")
def utf16(notebook):
    return as_bytes(notebook).decode().encode("utf-16")


@damage("UTF-16 without mark")
def utf16_bare(notebook):
    return as_bytes(notebook).decode().encode("utf-16-le")


@damage("Windows line ends in the file")
def crlf_file(notebook):
    return as_bytes(notebook).replace(b"\n", b"\r\n")


@damage("Windows line ends in the cells")
def crlf_cells(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")
    return notebook


@damage("zeros at the end of the file")
def zeros(notebook):
    return as_bytes(notebook) + b"\0" * 512


@damage("escaped JSON on one line")
def one_line(notebook):
    return json.dumps(notebook, ensure_ascii=True, separators=(",", ":")).encode()


@damage("sources as lists of lines")
def lists(notebook):
    for cell in notebook.cells:
        cell["source"] = cell.source.splitlines(keepends=True)
    return notebook


@damage("sources as lists of lines that lost their ends")
def bare_lists(notebook):
    for cell in notebook.cells:
        cell["source"] = cell.source.split("\n")
    return notebook


@damage("notebook format 3")
def format_3(notebook):
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            new = {"input": cell.source, "language": "python", "outputs": [], "collapsed": False}
        else:
            new = {"source": cell.source}
        cells.append({"cell_type": cell.cell_type, "metadata": cell.metadata, **new})
    sheet = {"cells": cells, "metadata": {}}
    return as_bytes({"metadata": {"name": "hw"}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [sheet]})


@damage("saved by Colab")
def colab(notebook):
    for cell in notebook.cells:
        cell.metadata = {"id": cell.pop("id"), "colab": {"base_uri": "https://colab.research.google.com/"}}
    notebook.metadata = {
        "colab": {"provenance": []},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
    }
    notebook.nbformat_minor = 0
    return notebook


@damage("saved by VS Code")
def vs_code(notebook):
    for at, cell in enumerate(notebook.cells):
        cell.metadata = {"vscode": {"languageId": "python"}} if cell.cell_type == "code" else {}
        cell.id = f"{at:08x}"
    return notebook


@damage("another kernel")
def another_kernel(notebook):
    notebook.metadata["kernelspec"] = {
        "name": "conda-env-nlp-py",
        "display_name": "nlp (3.12)",
        "language": "python",
    }
    return notebook


@damage("no ids and no metadata at all")
def bare(notebook):
    cells = [{"cell_type": cell.cell_type, "source": cell.source} for cell in notebook.cells]
    return as_bytes({"cells": cells})


@damage("saved with outputs, warnings and an error")
def with_outputs(notebook):
    for at, cell in enumerate(pages.code_cells(notebook)):
        cell.execution_count = at + 40
        cell.outputs = [
            nbformat.v4.new_output("stream", name="stderr", text="UserWarning: careful\n"),
            nbformat.v4.new_output("error", ename="KeyboardInterrupt", evalue="", traceback=["\x1b[31m…"]),
        ]
    return notebook


# Cells out of place --------------------------------------------------------------------------------------------


@damage("cells in reverse order")
def reversed_cells(notebook):
    notebook.cells.reverse()
    return notebook


@damage("every answer copied below itself, marks and all")
def copied(notebook):
    for cell in answers(notebook):
        insert(notebook, copy.deepcopy(cell), after=cell)
    return notebook


@damage("untouched stubs left below the answers")
def stubs_left(notebook):
    for cell in answers(notebook):
        head, _, _ = cell.source.rpartition('"""')
        stub = f'{head}"""\n    raise NotImplementedError("write {cell.id} here")  # TODO'
        insert(notebook, code(stub), after=cell)
    return notebook


@damage("first attempts left above the answers")
def first_attempts(notebook):
    for cell in answers(notebook):
        insert(notebook, code(f"def {cell.id}(*args):\n    return None  # first try"), before=cell)
    return notebook


@damage("an attempt that is no Python left below an answer")
def broken_attempt(notebook):
    cell = answers(notebook)[1]
    return insert(notebook, code(f"def {cell.id}(x):\n    return x +"), after=cell)


@damage("answers in new cells, their own places empty")
def in_new_cells(notebook):
    for cell in answers(notebook):
        insert(notebook, code(cell.source), after=cell)
        cell.source = ""
    return notebook


@damage("all answers in one cell")
def one_cell(notebook):
    whole = "\n\n\n".join(cell.source for cell in answers(notebook))
    for cell in answers(notebook)[:-1]:
        notebook.cells.remove(cell)
    answers(notebook)[0].source = whole
    return notebook


@damage("each answer merged with its cases and its check")
def merged(notebook):
    kept = []
    for cell in notebook.cells:
        if kept and cell.cell_type == "code" and is_answer(kept[-1]):
            kept[-1].source += "\n\n" + cell.source
        else:
            kept.append(cell)
    notebook.cells = kept
    return notebook


@damage("answers written into the check cells")
def in_checks(notebook):
    for cell in answers(notebook):
        check = cell_named(notebook, f"{cell.id}-check")
        check.source = f"{cell.source}\n\n\n{check.source}"
        cell.source = ""
    return notebook


@damage("an answer split into import, helper and function")
def split_in_three(notebook):
    cell = answers(notebook)[0]
    first, _, rest = cell.source.partition("\n")
    insert(notebook, code("import functools\nfrom functools import partial"), before=cell)
    insert(notebook, code("@functools.cache\ndef one():\n    return 1"), before=cell)
    doc, quotes, body = rest.rpartition('"""')
    cell.source = f"{first}\n{doc}{quotes}\n    assert one() == partial(int, 1)(){body}"
    return notebook


@damage("an answer split within its function")
def split_within(notebook):
    cell = answers(notebook)[0]
    head, _, rest = cell.source.rpartition("\n")
    insert(notebook, code(rest), after=cell)
    cell.source = head
    return notebook


@damage("an answer that became text")
def became_text(notebook):
    for cell, kind in zip(answers(notebook), ("markdown", "raw")):
        cell.cell_type = kind
        for key in ("outputs", "execution_count"):
            cell.pop(key, None)
    return notebook


@damage("check and case cells deleted")
def deleted(notebook):
    notebook.cells = [cell for cell in notebook.cells if not cell.id.endswith(("-check", "-cases"))]
    return notebook


@damage("check cells edited into noise")
def edited_checks(notebook):
    for cell in notebook.cells:
        if is_check(cell):
            cell.source = "print('my own test')\nassert False, 'still thinking'\n" + cell.source
    return notebook


@damage("helpers and imports added to the page's own cells")
def helpers_elsewhere(notebook):
    first, second, third = answers(notebook)[:3]
    cell_named(notebook, "setup").source += "\nimport collections as boxes\n\nTINY = 1e-30"
    cell_named(notebook, f"{first.id}-cases").source += "\n\n\ndef nothing():\n    return TINY - TINY"
    check = cell_named(notebook, f"{first.id}-check")
    check.source = "import string\n" + check.source
    line = "\n    assert nothing() == 0 and boxes.Counter and string.digits\n"
    for cell in (second, third):
        doc, quotes, body = cell.source.rpartition('"""')
        cell.source = doc + quotes + line + body.lstrip("\n")
    return notebook


@damage("scratch cells everywhere, some of which fail")
def scratch(notebook):
    for cell in answers(notebook):
        insert(notebook, code(f"print({cell.id})\n1 / 0"), after=cell)
        insert(notebook, code("this is no python at all"), after=cell)
    return notebook


@damage("a second copy of the whole page below the first, unsolved")
def twice(notebook):
    again = copy.deepcopy(notebook.cells)
    for cell in again:
        if is_answer(cell):
            head, _, _ = cell.source.rpartition('"""')
            cell.source = f'{head}"""\n    raise NotImplementedError("write {cell.id} here")'
        elif pages.is_answer(cell):
            cell.source = "*Your answer here.*"
    notebook.cells += again
    return notebook


# Odd code ------------------------------------------------------------------------------------------------------


@damage("commands of the notebook in the answers")
def magics(notebook):
    heads = [
        "%%time\n",
        "%matplotlib inline\n",
        "!pip install nothing\n",
        "%%capture out\n",
        "%load_ext autoreload\n",
    ]
    for cell, head in zip(answers(notebook), heads):
        cell.source = f'{head}{cell.source}\n\ntext = """\n%keep this\n!and this\n"""\n{cell.id}?'
    return notebook


@damage("cells of other languages")
def other_languages(notebook):
    first = answers(notebook)[0]
    for source in (
        "%%bash\nrm -f x && echo done",
        "%%html\n<b>bold</b>",
        "%%writefile notes.py\nx = 1",
        "!ls -l\n%pwd",
    ):
        insert(notebook, code(source), before=first)
    return notebook


@damage("non-breaking spaces in the code")
def nbsp(notebook):
    for cell in answers(notebook):
        cell.source = cell.source.replace("\n    ", "\n\u00a0\u00a0\u00a0\u00a0")
    return notebook


@damage("typographic quotes in the code")
def quotes(notebook):
    for cell in answers(notebook):
        cell.source = cell.source.replace('"""', "“““", 1).replace('"""', "”””", 1)
    return notebook


@damage("tabs for indentation")
def tabs(notebook):
    for cell in answers(notebook):
        cell.source = re.sub(
            r"^( {4})+", lambda match: "\t" * (len(match[0]) // 4), cell.source, flags=re.MULTILINE
        )
    return notebook


@damage("copied with the prompts of a console")
def prompts(notebook):
    for cell in answers(notebook):
        lines = cell.source.split("\n")
        cell.source = "\n".join([">>> " + lines[0], *("... " + line for line in lines[1:])])
    return notebook


@damage("all lines indented")
def indented(notebook):
    for cell in answers(notebook):
        cell.source = textwrap.indent(cell.source, "    ")
    return notebook


@damage("await outside a function")
def top_await(notebook):
    cell = answers(notebook)[0]
    cell.source = f"import asyncio\nawait asyncio.sleep(0)\n\n{cell.source}"
    return notebook


@damage("zero bytes in the code")
def nul(notebook):
    for cell in answers(notebook):
        cell.source = cell.source.replace(":\n", ":\0\n", 1)
    return notebook


# Written answers -----------------------------------------------------------------------------------------------


@damage("written answer in a new cell, its place untouched")
def answer_below(notebook):
    cell = next(cell for cell in notebook.cells if pages.is_answer(cell))
    insert(notebook, words(cell.source), after=cell)
    cell.source = "*Your answer here.*"
    return notebook


@damage("written answer in a new cell, its place deleted")
def answer_instead(notebook):
    at = next(at for at, cell in enumerate(notebook.cells) if pages.is_answer(cell))
    notebook.cells[at] = words(notebook.cells[at].source)
    return notebook


@damage("written answer below the placeholder, in its cell")
def below_placeholder(notebook):
    cell = next(cell for cell in notebook.cells if pages.is_answer(cell))
    cell.source = "*Your answer here.*\n\n" + cell.source
    return notebook


@damage("written answer within the question's cell")
def in_question(notebook):
    at = next(at for at, cell in enumerate(notebook.cells) if pages.is_answer(cell))
    question = max(i for i in range(at) if notebook.cells[i].cell_type == "markdown")
    notebook.cells[question].source += "\n\n" + notebook.cells[at].source
    notebook.cells[at].source = "*Your answer here.*"
    return notebook
