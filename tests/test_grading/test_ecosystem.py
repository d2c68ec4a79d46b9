"""The homework's sources are assignments of nbgrader's too: its three commands take them and grade as ours do."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from utils import pages

pytest.importorskip("nbgrader", reason="nbgrader is not installed here: `make test` installs it")

SOURCES = {path.stem.split("_")[0]: path for path in sorted((pages.ROOT / "solutions").glob("hw*.ipynb"))}
GENERATE = """
import sys
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

api = NbGraderAPI(CourseDirectory(root="."))
for name in sys.argv[1:]:
    done = api.generate_assignment(name, force=True, create=True)
    assert done["success"], done
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A course of nbgrader's with our sources, of which it has made its student versions."""
    folder = tmp_path_factory.mktemp("nbgrader")
    (folder / "nbgrader_config.py").write_text('get_config().CourseDirectory.course_id = "course"\n')
    for name, path in SOURCES.items():
        (folder / "source" / name).mkdir(parents=True)
        shutil.copy(path, folder / "source" / name)
    run(folder, sys.executable, "-c", GENERATE, *SOURCES)
    return folder


def run(folder, *command):
    """Run a command in the folder, with the tools of this Python first."""
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", COURSE_ONLINE="0")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def in_its_words(cell):
    """The source of a cell of ours as nbgrader says it: its own stub, its own empty answer."""
    ours = re.compile(r'^( *)raise NotImplementedError\("write \w+ here"\)$', re.MULTILINE)
    source = ours.sub(r"\1# YOUR CODE HERE\n\1raise NotImplementedError()", cell.source)
    return source.replace("*Your answer here.*", "YOUR ANSWER HERE")


@pytest.mark.parametrize("name", SOURCES)
def test_nbgrader_hands_out_the_page_that_we_hand_out(name, folder):
    path = SOURCES[name]
    theirs = pages.nbformat.read(folder / "release" / name / path.name, as_version=4)
    ours = pages.cut(pages.read(path), path)
    assert [cell.id for cell in theirs.cells] == [cell.id for cell in ours.cells]
    for their, our in zip(theirs.cells, ours.cells):
        assert their.source.rstrip() == in_its_words(our), our.id
        mark = {key: part for key, part in pages.graded(their).items() if key != "checksum"}
        assert mark == pages.graded(our)


def test_nbgrader_grades_what_students_hand_in_and_writes_feedback(folder):
    source, at = SOURCES["hw01"], "hw01_tokens.ipynb"
    handed_in = {
        "solved": source.read_bytes(),
        "ours": pages.student_text(source).encode(),
        "theirs": (folder / "release" / "hw01" / at).read_bytes(),
    }
    for student, data in handed_in.items():
        (folder / "submitted" / student / "hw01").mkdir(parents=True)
        (folder / "submitted" / student / "hw01" / at).write_bytes(data)
    (folder / "autograded").mkdir()
    (folder / "autograded" / "utils").symlink_to(
        pages.ROOT / "utils"
    )  # where the first cell of a page finds it
    for command in ("autograde", "generate_feedback"):
        run(folder, "nbgrader", command, "hw01")
    run(folder, "nbgrader", "export")
    with open(folder / "grades.csv", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file) if row["assignment"] == "hw01"}
    assert {student: float(row["score"]) for student, row in rows.items()} == {
        "solved": 18,
        "ours": 0,
        "theirs": 0,
    }
    assert {float(row["max_score"]) for row in rows.values()} == {20}
    for student in handed_in:
        assert (folder / "feedback" / student / "hw01" / "hw01_tokens.html").stat().st_size > 10_000
