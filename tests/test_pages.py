"""The page machinery: normal form, safe writing, exported modules, and homework that tells students nothing."""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from utils import pages, setup
from utils.pages import FREE, Refusal

HERE = Path(__file__).resolve().parents[1]
HOMEWORK = sorted(HERE.glob("solutions/hw*.ipynb"))
PAGES = sorted([*HERE.glob("notebooks/*.ipynb"), *HERE.glob("solutions/*.ipynb")])


@pytest.fixture
def course(tmp_path, monkeypatch):
    """An empty course in a folder whose name has spaces, accents and a quote."""
    root = tmp_path / "mon cours d'été 日本"
    for folder in ("notebooks", "solutions", "utils/lessons"):
        (root / folder).mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.ruff]\nline-length = 110\n")
    monkeypatch.setattr(pages, "ROOT", root)
    monkeypatch.setattr(pages, "MADE", [pages.lesson_modules, pages.student_pages])
    return root


def code(source, *tags, **metadata):
    return new_code_cell(source, metadata={**({"tags": [*tags]} if tags else {}), **metadata})


def save(path, *cells, **about):
    """Store a page of these cells (strings are code), with notebook metadata `course`."""
    cells = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number}"
    nbformat.write(new_notebook(cells=cells, metadata={"course": about}), path)
    return path


def run(path, **options):
    """Execute one page as `pages run` does; True if the file changed."""
    return asyncio.run(pages.run_page(path, **options))


def edit(path, number, source):
    """Change the source of one cell, as an author does."""
    nb = pages.read(path)
    nb.cells[number].source = source
    path.write_text(pages.as_text(nb), encoding="utf-8")


def outputs(path, number):
    return pages.read(path).cells[number].outputs


# ---- running and normal form


def test_a_page_is_stored_in_normal_form_and_a_second_run_changes_nothing(course):
    figure = "import matplotlib.pyplot as plt\nplt.figure(figsize=(1, 1))\nplt.plot([1, 2])\nplt.show()"
    page = save(
        course / "notebooks/01_first.ipynb",
        "print('a', flush=True)\nprint('b', flush=True)\nprint(object())",
        new_markdown_cell("In between."),
        figure,
        "",
        "2 + 2",
        code("import time\ntime.time_ns()", FREE),
        code("from ipywidgets import IntSlider\nIntSlider()", FREE, "widget"),
        code("raise ValueError('on purpose')", "raises-exception"),
        code("import os\nos.getcwd()", FREE),
        "print(os.environ['OMP_NUM_THREADS'], os.environ['COURSE_ONLINE'])",
    )
    assert run(page)
    text = page.read_text(encoding="utf-8")
    nb = nbformat.reads(text, as_version=4)
    cells = nb.cells
    assert [cell.get("execution_count") for cell in cells] == [1, None, 2, None, 3, 4, 5, 6, 7, 8]
    assert [out.text for out in cells[0].outputs] == ["a\nb\n<object object at 0x0>\n"]
    picture = base64.b64decode(cells[2].outputs[0].data["image/png"])
    assert (
        picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82") and b"Software" not in picture
    )
    assert cells[4].outputs[0].execution_count == 3
    assert cells[6].outputs == [] and "widgets" not in nb.metadata
    assert cells[7].outputs[0].evalue == "on purpose"
    assert cells[8].outputs[0].data["text/plain"] == '"course/notebooks"'
    assert cells[9].outputs[0].text == "1 0\n"
    assert str(course) not in text and text.endswith("}\n") and not text.endswith("\n\n") and "\r" not in text
    assert [*json.loads(text)] == sorted(json.loads(text)) and "execution" not in cells[0].metadata
    nbformat.validate(nb)
    assert not run(page)
    assert page.read_text(encoding="utf-8") == text


def test_a_stored_output_that_the_machine_decides_stays_only_while_its_code_does(course):
    clock = code("import time\ntime.time_ns()", FREE)
    page = save(course / "notebooks/01_first.ipynb", "a = 1", clock, "b = 2")
    run(page)
    first = outputs(page, 1)
    edit(page, 2, "b = 3")  # code behind it: stays
    assert not run(page) and outputs(page, 1) == first
    edit(page, 0, "a = 2")  # code before it: renewed
    assert run(page) and outputs(page, 1) != first
    renewed = outputs(page, 1)
    assert run(page, fresh=True) and outputs(page, 1) != renewed


def test_a_page_that_is_reworded_keeps_what_the_machine_decided(course):
    page = save(course / "notebooks/01_first.ipynb", "a = 1", code("import time\ntime.time_ns()", FREE))
    run(page)
    first = outputs(page, 1)
    assert pages.reword(page, lambda source: source.replace("a = 1", "a = 0 + 1"))
    assert pages.read(page).cells[0].source == "a = 0 + 1"
    assert not run(page) and outputs(page, 1) == first
    edit(page, 0, "a = 2")
    assert pages.reword(page, lambda source: source.replace("2", "3"))  # a seal that was broken stays so
    assert run(page) and outputs(page, 1) != first


def test_a_stored_output_that_was_emptied_cut_or_written_by_hand_is_renewed(course):
    page = save(course / "notebooks/01_first.ipynb", code("print('one')\nprint('two')", FREE))
    run(page)
    stored = page.read_bytes()
    for forged in ([], [new_output("stream", text="one\n")], [new_output("stream", text="three\n")]):
        nb = pages.read(page)
        nb.cells[0].outputs = forged
        page.write_text(pages.as_text(nb), encoding="utf-8")
        assert run(page) and page.read_bytes() == stored


def test_a_picture_is_replaced_only_if_one_can_see_the_difference(course):
    from io import BytesIO

    from PIL import Image

    def png(grey, **about):
        file = BytesIO()
        Image.new("L", (4, 4), grey).save(file, "PNG", **about)
        return base64.b64encode(file.getvalue()).decode()

    def page_with(picture):
        cell = code("draw()")
        cell.outputs = [new_output("display_data", {"image/png": picture})]
        return pages.normalise(new_notebook(cells=[cell]))

    for grey, kept in ((100, True), (110, True), (140, False)):
        new, stored = page_with(png(grey)), page_with(png(100, compress_level=0))
        assert new.cells[0].outputs != stored.cells[0].outputs
        pages.settle(new, stored)
        assert (new.cells[0].outputs == stored.cells[0].outputs) == kept


def test_ids_are_kept_made_the_same_way_each_time_and_unique(course):
    page = course / "notebooks/01_first.ipynb"
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["Same.\r\n", "Text."]}
    raw = {"cells": [cell, {**cell, "id": "my-id"}, cell, {**cell, "id": "my-id"}, {**cell, "id": "no id!"}]}
    page.write_text(json.dumps({**raw, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}), encoding="utf-8")
    one, two = pages.read(page), pages.read(page)
    ids = [cell.id for cell in one.cells]
    assert ids == [cell.id for cell in two.cells] and len(set(ids)) == 5 and ids[1] == "my-id"
    assert one.cells[0].source == "Same.\nText."
    page.write_text(pages.as_text(one), encoding="utf-8")
    assert [cell.id for cell in pages.read(page).cells] == ids


def test_paths_of_this_machine_are_named_by_what_they_are(course):
    home, site = Path.home(), Path(nbformat.__file__).parent
    text = f"{course}/data/a.txt {site}/x.py:3 {home}/b ~{home}x at 0x7fe1 0x7fe1"
    clean = pages.scrub({"text": [text], "image/png": text}, pages.private_places())
    assert clean["text"][0].startswith("course/data/a.txt site-packages/nbformat/x.py:3 ~/b ")
    assert clean["text"][0].endswith(" at 0x0 0x7fe1") and clean["image/png"] == text


REFUSED = {
    "error": (
        "raise ValueError('boom\\nmore')",
        "cell 2 (c1): `raise ValueError('boom\\nmore')` raised ValueError: boom more",
    ),
    "warning": ("import warnings\nwarnings.warn('old')", "cell 2 (c1), writes a warning: "),
    "warning in a free cell": (
        code("import sys\nprint('hm', file=sys.stderr)", FREE),
        "writes a warning: hm",
    ),
    "hidden by a semicolon": ("1 + 1;  # two", "ends with `;`"),
    "progress bar": ("print('10 %', end='\\r')\nprint('20 %')", "prints a progress bar"),
    "path": ("import os\nprint(os.getcwd())", "a path of this machine"),
    "widget": ("from ipywidgets import IntSlider\nIntSlider()", f"shows a widget: tag it `{FREE}`"),
    "hub": (code("print('a model')", "hub", FREE), "let it start with `if course.online():`"),
    "slow": ("import time\ntime.sleep(60)", "it took longer than 2 seconds"),
    "death": ("import os\nos._exit(1)", "its kernel died"),
}


@pytest.mark.parametrize("cell, sentence", REFUSED.values(), ids=REFUSED)
def test_a_page_that_may_not_be_stored_stays_untouched_and_says_why(course, capsys, cell, sentence):
    page = save(course / "notebooks/01_first.ipynb", "1 + 1", cell)
    before = page.read_bytes()
    assert pages.main(["run", "--timeout", "2"]) == 1
    line = capsys.readouterr().out
    assert sentence in line and line.startswith("notebooks/01_first.ipynb") and line.count("\n") == 1
    assert page.read_bytes() == before and [*page.parent.iterdir()] == [page]


def test_a_hub_cell_does_nothing_offline_and_keeps_what_was_stored_online(course, monkeypatch):
    (course / "utils/course.py").write_text(
        "import os\n\ndef online():\n    return os.environ['COURSE_ONLINE'] == '1'\n"
    )
    hub = code("if course.online():\n    print('from the hub')", "hub", FREE)
    page = save(
        course / "notebooks/01_first.ipynb",
        "import sys\nsys.path[:0] = ['..']\nfrom utils import course",
        hub,
    )
    monkeypatch.setenv("COURSE_ONLINE", "0")
    assert run(page) and outputs(page, 1) == []
    monkeypatch.setenv("COURSE_ONLINE", "1")
    assert run(page) and outputs(page, 1)[0].text == "from the hub\n"
    monkeypatch.setenv("COURSE_ONLINE", "0")
    assert not run(page)


def test_names_choose_pages(course, capsys):
    for name in (
        "notebooks/07_decoding",
        "notebooks/hw07_decoding",
        "solutions/hw07_decoding",
        "notebooks/08_bert",
    ):
        save(course / f"{name}.ipynb")
    named = lambda *names: [pages.short(page)[:-6] for page in pages.pages_named(names)]
    assert (
        named("07")
        == named("07_decoding")
        == named("notebooks/07_decoding.ipynb")
        == ["notebooks/07_decoding"]
    )
    assert named("hw07") == ["solutions/hw07_decoding", "notebooks/hw07_decoding"]
    assert named("solutions/hw07") == ["solutions/hw07_decoding"]
    assert len(named()) == 4 and len(named("07", "08")) == 2
    assert pages.main(["run", "09"]) == 1
    assert "There is no page 09" in capsys.readouterr().err


# ---- writing


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(course, monkeypatch, step, fault):
    path = course / "notebooks/a.ipynb"
    path.write_text("old", encoding="utf-8")

    def fail(*_):
        raise fault

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(Refusal if isinstance(fault, OSError) else KeyboardInterrupt, match="No space|"):
        pages.write(path, "new")
    assert path.read_text(encoding="utf-8") == "old" and [*path.parent.iterdir()] == [path]


def test_a_read_only_page_is_named_and_left(course):
    page = save(course / "notebooks/01_first.ipynb", "1 + 1")
    page.chmod(0o444)
    before = page.read_bytes()
    with pytest.raises(Refusal, match=r"notebooks/01_first.ipynb is read-only"):
        run(page)
    assert page.read_bytes() == before
    page.chmod(0o640)
    assert run(page) and page.stat().st_mode & 0o777 == 0o640


def test_a_page_that_is_edited_while_it_runs_is_left(course):
    page = save(course / "notebooks/01_first.ipynb", "open('01_first.ipynb', 'a').write(' ')")
    with pytest.raises(Refusal, match="was edited while it ran"):
        run(page)
    assert page.read_text(encoding="utf-8").endswith("} ") or page.read_text(encoding="utf-8").endswith("\n ")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"nbformat": 3, "worksheets": []}', '{"nbformat": 4, "cells": [{}]}']
)
def test_a_broken_page_is_named(course, text):
    (course / "notebooks/01_first.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(
        Refusal, match="^notebooks/01_first.ipynb cannot be read as a notebook of format 4: ."
    ):
        pages.read(course / "notebooks/01_first.ipynb")


# ---- modules from exported cells


def test_exported_cells_become_one_module_with_merged_imports(course):
    save(
        course / "notebooks/07_decoding.ipynb",
        new_markdown_cell("# Decoding"),
        code(
            "import torch\nfrom math import pi\n\n\ndef area(r):\n    # a comment stays\n    return pi*r**2",
            "export",
        ),
        "print(area(2))",
        code(
            "from math import (\n    tau,\n    pi,\n)\nimport torch\nfrom utils.lessons.gpt import GPT",
            "export",
        ),
        code("class Ring(torch.nn.Module):\n    'Round.'\n    turn = tau, area, GPT", "export"),
        lesson="decoding",
    )
    assert pages.main(["made"]) == 0
    assert (course / "utils/lessons/decoding.py").read_text(encoding="utf-8").splitlines() == [
        '"""The code of lesson 07_decoding, for the pages after it.',
        "",
        "Made from the cells tagged `export` of notebooks/07_decoding.ipynb.",
        "Never edit: change the page, then `make made`.",
        '"""',
        "",
        "from math import pi, tau",
        "",
        "import torch",
        "",
        "from utils.lessons.gpt import GPT",
        "",
        "",
        "def area(r):",
        "    # a comment stays",
        "    return pi * r**2",
        "",
        "",
        "class Ring(torch.nn.Module):",
        '    "Round."',
        "",
        "    turn = tau, area, GPT",
    ]


EXPORTS_REFUSED = {
    "magic": ("%time 1", "not plain Python"),
    "runs": ("def f(): pass\nprint(f())", "only defines"),
    "utils": ("from utils.show import bars", "imports more of utils"),
    "utils itself": ("from utils import show", "imports more of utils"),
    "a name from another cell": ("def f():\n    return helper()", "Undefined name `helper`"),
    "import and more": ("import os; folder = os.sep", "on one line"),
}


@pytest.mark.parametrize("source, sentence", EXPORTS_REFUSED.values(), ids=EXPORTS_REFUSED)
def test_an_exported_cell_that_makes_no_module_is_named(course, capsys, source, sentence):
    save(
        course / "notebooks/07_decoding.ipynb",
        "def helper(): pass",
        code(source, "export"),
        lesson="decoding",
    )
    assert pages.main(["made"]) == 1
    report = capsys.readouterr().err
    assert "notebooks/07_decoding.ipynb" in report and sentence in report and report.count("\n") == 1
    assert not (course / "utils/lessons/decoding.py").exists()


def test_two_lessons_do_not_share_a_module(course, capsys):
    for name in ("07_a", "08_b"):
        save(course / f"notebooks/{name}.ipynb", code("a = 1", "export"), lesson="same")
    assert pages.main(["made"]) == 1 and "notebooks/08_b.ipynb" in capsys.readouterr().err


def test_compare_names_each_made_file_that_differs_and_how_to_mend_it(course, capsys, monkeypatch):
    page = save(course / "notebooks/07_decoding.ipynb", code("a = 1", "export"), lesson="decoding")
    monkeypatch.setattr(pages, "MADE", [*pages.MADE, lambda: {"environment.yml": lambda: "python=3.11\n"}])

    def compared():
        status = pages.main(["compare"])
        return status, capsys.readouterr().out.splitlines()

    assert compared()[0] == 1
    assert pages.main(["made"]) == 0 and capsys.readouterr().out.count(" is made anew\n") == 2
    assert compared() == (0, ["Every made file is what its source makes."])
    edit(page, 0, "a = 2")
    (course / "environment.yml").write_text("python=3.12\n", encoding="utf-8")
    (course / "utils/lessons/orphan.py").write_text("", encoding="utf-8")
    status, lines = compared()
    assert status == 1 and [line.split()[0] for line in lines] == [
        "utils/lessons/decoding.py",
        "environment.yml",
        "utils/lessons/orphan.py",
    ]
    assert "Run `make made`." in lines[0] and "made by nothing" in lines[2]


# ---- homework

SOLUTION = """def top_p(probs, p):
    \"\"\"Keep the smallest set of tokens whose probabilities sum to at least p.\"\"\"
    if p < 1:
        ### BEGIN SOLUTION
        ordered, places = probs.sort(descending=True)
        return ordered.cumsum(-1)[places] < p
        ### END SOLUTION
    return probs"""
TESTS = """assert callable(top_p)
### BEGIN HIDDEN TESTS
assert top_p(secret_vector, 0.25) == secret_answer
### END HIDDEN TESTS"""
ONLY_HIDDEN = "### BEGIN HIDDEN TESTS\nassert top_p(another_secret, 0.5) is None\n### END HIDDEN TESTS"
ANSWER = "Top-p adapts to how sure the model is, top-k does not."


def marks(solution=False, grade=False, **more):
    return {
        "nbgrader": dict(solution=solution, grade=grade, locked=False, schema_version=3, task=False, **more)
    }


def homework(course, *more, solution=SOLUTION, name="hw07_decoding"):
    """A homework source with one of everything, and `more` cells behind it."""
    return save(
        course / f"solutions/{name}.ipynb",
        new_markdown_cell("# Homework"),
        code(solution, **marks(solution=True, grade_id="top_p")),
        code(
            TESTS,
            FREE,
            **marks(grade=True, points=2, grade_id="top_p_tests", answer="assert top_p(secret_vector"),
        ),
        code(ONLY_HIDDEN, **marks(grade=True, points=1, grade_id="top_p_hidden")),
        new_markdown_cell(ANSWER, metadata=marks(solution=True, grade=True, points=3, grade_id="why")),
        code("print('how the model answer was found')", "solution-only"),
        *more,
        minutes=90,
    )


def cut(path):
    return pages.cut(pages.read(path), path)


def test_the_students_file_holds_stubs_and_no_answers(course):
    student = cut(homework(course))
    assert [cell.source for cell in student.cells] == [
        "# Homework",
        'def top_p(probs, p):\n    """Keep the smallest set of tokens whose probabilities sum to at least p."""\n'
        '    if p < 1:\n        raise NotImplementedError("write top_p here")\n    return probs',
        "assert callable(top_p)",
        "*Your answer here.*",
    ]
    assert [cell.id for cell in student.cells] == ["c0", "c1", "c2", "c4"]
    assert student.cells[2].metadata == {
        "tags": [FREE],
        **marks(grade=True, points=2, grade_id="top_p_tests"),
    }
    assert student.metadata.course == {
        "minutes": 90,
        "made": "from solutions/hw07_decoding.ipynb by `make made`: never edit",
    }
    nbformat.validate(student)


def test_a_stub_names_the_function_around_it(course):
    source = (
        "class A:\n    async def outer(\n        self,\n    ):\n        def inner():\n            pass\n\n"
    )
    source += "        ### BEGIN SOLUTION\n        return 1\n        ### END SOLUTION\n\n\n"
    source += "def second():\n    def third():\n"
    source += "        ### BEGIN SOLUTION\n        return 2\n        ### END SOLUTION\n"
    stubs = re.findall(
        r"^( *)raise NotImplementedError\(\"(.*)\"\)$",
        cut(homework(course, solution=source)).cells[1].source,
        re.M,
    )
    assert stubs == [("        ", "write outer here"), ("        ", "write third here")]


def test_windows_line_ends_change_nothing(course):
    path = homework(course)
    expected = cut(path)
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.replace("\\n", "\\r\\n").replace("\n", "\r\n").encode())
    assert cut(path) == expected


def solved(body):
    return f"def f(x):\n{body}"


BAD_MARKS = {
    "never closed": solved("    ### BEGIN SOLUTION\n    return x"),
    "never opened": solved("    return x\n    ### END SOLUTION"),
    "nested": solved(
        "    ### BEGIN SOLUTION\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n    ### END SOLUTION"
    ),
    "crossed": solved("    ### BEGIN SOLUTION\n    return x\n    ### END HIDDEN TESTS"),
    "hidden inside": solved(
        "    ### BEGIN SOLUTION\n    ### BEGIN HIDDEN TESTS\n    return x\n"
        "    ### END HIDDEN TESTS\n    ### END SOLUTION"
    ),
    "two spaces": solved("    ###  BEGIN SOLUTION\n    return x\n    ###  END SOLUTION"),
    "no space": solved("    ###BEGIN SOLUTION\n    return x\n    ###END SOLUTION"),
    "small letters": solved("    ### begin solution\n    return x\n    ### end solution"),
    "one sign": solved("    # BEGIN SOLUTION\n    return x\n    # END SOLUTION"),
    "four signs": solved("    #### BEGIN SOLUTION\n    return x\n    #### END SOLUTION"),
    "behind code": solved("    y = x  ### BEGIN SOLUTION\n    return y\n    ### END SOLUTION"),
    "misspelt": solved("    ### BEGN SOLUTION\n    return x\n    ### ED SOLUTION"),
    "underscore": solved("    # BEGIN_SOLUTION\n    return x\n    # END_SOLUTION"),
    "no marks at all": solved("    return x"),
    "outside a function": "### BEGIN SOLUTION\nx = 1\n### END SOLUTION",
    "not Python": "%%time\ndef f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION",
}


@pytest.mark.parametrize("source", BAD_MARKS.values(), ids=BAD_MARKS)
def test_marks_that_are_not_right_are_refused_with_file_and_cell(course, source):
    with pytest.raises(Refusal, match=r"^solutions/hw07_decoding.ipynb, cell c1\b.*\.$"):
        cut(homework(course, solution=source))


MISPLACED = {
    "hidden test in no graded cell": code(ONLY_HIDDEN),
    "solution in no solution cell": code(SOLUTION),
    "marks in prose": new_markdown_cell("Look:\n\n### BEGIN SOLUTION\nreturn x\n### END SOLUTION"),
    "hidden test, misspelt": code(
        "### BEGIN HIDDEN TEST\nassert x\n### END HIDDEN TEST", **marks(grade=True)
    ),
    "hidden test, one sign": code("# begin hidden tests\nassert x\n# end hidden tests", **marks(grade=True)),
}


@pytest.mark.parametrize("cell", MISPLACED.values(), ids=MISPLACED)
def test_marks_in_the_wrong_cell_are_refused(course, cell):
    with pytest.raises(Refusal, match=r"^solutions/hw07_decoding.ipynb, cell c6\b.*\.$"):
        cut(homework(course, cell))


def attached(text):
    cell = new_markdown_cell("![](attachment:a.png)")
    cell.attachments = {"a.png": {"image/png": base64.b64encode(text.encode()).decode()}}
    return cell


ONE_LINE = "ordered, places = probs.sort(descending=True)"
LEAKS = {
    "commented out": "# ordered,  places = probs.sort(descending=True)",
    "in prose": new_markdown_cell(f"A hint: `{ONE_LINE}`"),
    "in a string": f"text = '''{ONE_LINE}'''",
    "the whole answer again": "ordered, places = probs.sort(descending=True)\nordered.cumsum(-1)[places]\n"
    "def again(p):\n    return ordered.cumsum(-1)[places] < p",
    "the written answer, wrapped": new_markdown_cell(
        "Note. Top-p adapts to how sure the\nmodel is, top-k does not. Yes."
    ),
    "the hidden test": "assert top_p(secret_vector, 0.25) == secret_answer",
    "the solution-only cell": "print('how the model answer was found') # oops",
    "in the tags": code("1", "return ordered.cumsum(-1)[places] < p"),
    "in nbgrader's grade_id": code("1", **marks(grade=True, grade_id=ONE_LINE)),
    "in an attachment": attached(f"PNG {ONE_LINE}"),
}


@pytest.mark.parametrize("cell", LEAKS.values(), ids=LEAKS)
def test_a_source_that_would_tell_its_answers_is_refused(course, cell):
    with pytest.raises(
        Refusal, match=r"^solutions/hw07_decoding.ipynb: students would read `.*` from .* cell c\d\.$"
    ):
        cut(homework(course, cell))


def test_what_is_stripped_anyway_is_no_leak(course):
    shown = code("1 + 1", answer=ONE_LINE)
    shown.outputs = [new_output("stream", text=SOLUTION)]
    common = code("if True:\n    ordered, places = probs.sort(descending=True)", "raises-exception")
    student = cut(homework(course, shown, common))
    assert (
        len(student.cells) == 6 and "answer" not in student.cells[4].metadata and not student.cells[4].outputs
    )


def test_outputs_of_the_students_file_may_not_tell_either(course):
    tell = "print('ordered, places =', 'probs.sort(descending=True)')"
    homework(course, tell, code("print('fine')"))
    assert pages.main(["made"]) == 0
    with pytest.raises(Refusal, match="students would read `ordered, places"):
        run(course / "notebooks/hw07_decoding.ipynb")


def test_homework_is_made_run_and_compared(course, capsys):
    path = homework(course, "print(1)", solution=SOLUTION)
    student = course / "notebooks/hw07_decoding.ipynb"
    assert pages.main(["made"]) == 0
    assert pages.main(["compare"]) == 1 and "without its outputs. Run `make run`." in capsys.readouterr().out
    run(student)
    stored = student.read_bytes()
    assert pages.main(["compare"]) == 0 and pages.main(["made"]) == 0 and student.read_bytes() == stored
    edit(student, 0, "# My own homework")
    assert pages.main(["compare"]) == 1
    assert pages.main(["made"]) == 0 and pages.read(student).cells[0].source == "# Homework"
    edit(path, 1, SOLUTION.replace("### END SOLUTION", ""))
    capsys.readouterr()
    assert (
        pages.main(["made"]) == 1 and "cell c1: `### BEGIN SOLUTION` has no end." in capsys.readouterr().err
    )


# ---- the course itself


@pytest.mark.parametrize("page", [pages.ROOT / page for page in setup.finished()], ids=lambda page: page.stem)
def test_every_page_is_stored_run_and_in_normal_form(page):
    nb = pages.read(page)
    text = page.read_text(encoding="utf-8")
    assert not [pages.complaint(cell) for cell in pages.code_cells(nb) if pages.complaint(cell)]
    ran = all(cell.execution_count for cell in pages.code_cells(nb) if cell.source.strip())
    assert ran and pages.as_text(pages.normalise(nb)) == text, f"make run ARGS={page.stem}"


def test_every_made_file_is_what_its_source_makes():
    assert [*pages.differences()] == []


def plain_secrets(nb):
    """The leak test's own reading of a source: what stands between marks, in written answers, for solvers only."""
    secret, inside = set(), False
    for cell in nb.cells:
        grader = cell.metadata.get("nbgrader", {})
        whole = "solution-only" in cell.metadata.get("tags", []) or (
            cell.cell_type != "code" and grader.get("solution")
        )
        for line in cell.source.splitlines():
            if re.search("BEGIN (SOLUTION|HIDDEN)", line):
                inside = True
            elif re.search("END (SOLUTION|HIDDEN)", line):
                inside = False
            elif inside or whole:
                secret.add(line.strip())
    return {line for line in secret if len(line) >= 16}


@pytest.mark.parametrize("source", HOMEWORK, ids=lambda source: source.stem)
def test_no_student_reads_an_answer(source):
    nb = nbformat.read(HERE / "notebooks" / source.name, as_version=4)
    public = {line.strip() for cell in nb.cells for line in cell.source.splitlines()}
    told = json.dumps(nb, ensure_ascii=False)
    assert not re.search("BEGIN SOLUTION|HIDDEN TESTS|solution-only", told)
    secret = plain_secrets(nbformat.read(source, as_version=4)) - public
    assert secret and not [line for line in secret if json.dumps(line, ensure_ascii=False)[1:-1] in told]


HOLD = "room = bytearray({} * 10**6)\nfor at in range(0, len(room), 4096):\n    room[at] = 1"


def test_nbval_in_strict_mode_accepts_what_run_stores_and_refuses_what_holds_too_much(course):
    page = save(
        course / "notebooks/01_first.ipynb",
        "print(object())\nprint('one', flush=True)\nobject()",
        code("import time\ntime.time_ns()", FREE),
        code("{}['missing']", "raises-exception"),
        code("from ipywidgets import IntSlider\nIntSlider()", FREE, "widget"),
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "print('same')",
    )
    run(page)
    options = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={HERE / 'tests/sanitize.cfg'}"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(page)]
    assert "6 passed" in subprocess.run(command, capture_output=True, text=True, cwd=course).stdout
    page.write_text(page.read_text(encoding="utf-8").replace('"same\\n"', '"other\\n"'), encoding="utf-8")
    large = save(course / "notebooks/02_large.ipynb", HOLD.format(300))
    run(large)
    (course / "small.py").write_text("from utils import peak\npeak.LIMIT = 250 * 10**6\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(course)])}
    command += [str(large), *"-p utils.peak -p small -n 2 --dist loadfile".split()]
    said = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=course, env=env).stdout
    assert "1 failed, 6 passed, 1 error" in said and "02_large.ipynb holds 0.4 GB at its peak" in said
    assert "2 pages, " in said and re.search(
        r"[34]\d\d MB +\S*02_large.ipynb\n +1\d\d MB +\S*01_first.ipynb", said
    )


def test_the_machinery_needs_no_torch():
    lines = "import sys; sys.modules['torch'] = None; from utils import pages; assert pages.made"
    assert subprocess.run([sys.executable, "-c", lines], cwd=HERE).returncode == 0


# ---- what pages take


def test_what_a_page_takes_is_noted_and_made_a_table(course, monkeypatch, capsys):
    (course / "data").mkdir()
    monkeypatch.setattr(pages, "machine", lambda: "a machine")
    known = {
        "notebooks/01_first.ipynb": {"seconds": 1, "peak": 1},
        "notebooks/gone.ipynb": {"seconds": 9, "peak": 9},
    }
    (course / "data/pages.json").write_text(json.dumps({"machine": "a machine", "pages": known}))
    save(course / "notebooks/01_first.ipynb", "1")
    started = "import subprocess, sys\n_ = subprocess.run([sys.executable, '-c', '''{}\nimport time; time.sleep(1)'''])"
    save(course / "notebooks/02_second.ipynb", HOLD.format(300), "del room", started.format(HOLD.format(500)))
    assert pages.main(["run", "--measure", "02"]) == 0
    rows = json.loads((course / "data/pages.json").read_text())["pages"]
    assert list(rows) == ["notebooks/01_first.ipynb", "notebooks/02_second.ipynb"]
    second = rows["notebooks/02_second.ipynb"]
    assert 500e6 < second["peak"] < 900e6 and 0.2 < second["seconds"] < 20
    table = pages.measured_table()
    assert f"| notebooks/02_second.ipynb | {second['seconds']:.1f} | {second['peak'] / 1e6:.0f} |" in table
    assert f"the largest holds {second['peak'] / 1e6:.0f} MB" in table and "a machine" in table
    monkeypatch.setattr(pages, "machine", lambda: "another machine")
    pages.note({"notebooks/01_first.ipynb": {"seconds": 2, "peak": 2}})
    assert list(json.loads((course / "data/pages.json").read_text())["pages"]) == ["notebooks/01_first.ipynb"]


def test_a_page_that_holds_too_much_is_refused(course, monkeypatch, capsys):
    monkeypatch.setattr(pages.peak, "LIMIT", 200e6)
    page = save(course / "notebooks/01_first.ipynb", HOLD.format(300))
    before = page.read_text()
    assert pages.main(["run", "01"]) == 1
    said = capsys.readouterr().out
    assert (
        "holds 0.4 GB at its peak: a page must run in 0 GB, as on Binder" in said
        and page.read_text() == before
    )


def test_every_page_that_was_measured_is_there_and_runs_in_the_memory_of_binder():
    place = HERE / "data" / "pages.json"
    if not place.exists():
        pytest.skip("no page was measured yet: python -m utils.pages run --measure")
    rows = json.loads(place.read_text(encoding="utf-8"))["pages"]
    assert rows and set(rows) <= {path.relative_to(HERE).as_posix() for path in PAGES}
    assert all(5e7 < row["peak"] <= pages.peak.LIMIT and row["seconds"] > 0 for row in rows.values())
