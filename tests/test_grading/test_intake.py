"""Intake: every download layout gives each student exactly one submission, and no bad item stops the others."""

import io
import os
import zipfile

import pytest

from utils import pages
from utils.grading.homework import load
from utils.grading.intake import collect

from . import odd

HW = "hw01"


@pytest.fixture(scope="module")
def homework():
    return load(HW)


@pytest.fixture(scope="module")
def good(homework):
    """The bytes of a solved page."""
    return odd.as_bytes(odd.solved(homework))


@pytest.fixture(scope="module")
def empty(homework):
    """The bytes of the page as it was handed out."""
    return pages.as_text(homework.released).encode()


def lay(folder, files):
    """Write {path: bytes, or (bytes, moment of change)} below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data, moment = data if isinstance(data, tuple) else (data, None)
        path.write_bytes(data)
        if moment:
            os.utime(path, (moment, moment))
    return folder


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """A zip of {path, or ZipInfo: bytes} as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def got(folder, homework):
    """{student: submission}"""
    found = collect(folder, homework)
    assert [one.student for one in found] == sorted({one.student for one in found}, key=str.casefold)
    for one in found:
        assert (one.data is None) == bool(one.problem)
        assert "\n" not in one.student + one.file + one.problem + "".join(one.notes)
        assert all(note.endswith(".") for note in [one.problem or ".", *one.notes])
    return {one.student: one for one in found}


# Layouts -------------------------------------------------------------------------------------------------------

GRADESCOPE = """---
submission_101:
  :submitters:
  - :name: Zoë Ångström
    :sid: '7001'
    :email: zoe@example.org
  :created_at: 2026-01-01 10:00:00.000000000 Z
  :score: 3.0
  :results:
    :output: "submission_102:\\n  :submitters:\\n  - :name: Mallory"
submission_102:
  :submitters:
  - :name: Ann Lee
    :sid:
    :email: ann@example.org
  - :name: "Bo \\u4e2d"
    :email: bo@example.org
  :status: processed
submission_103:
  :submitters:
  - :name: !!python/object/apply:os.system ["touch OWNED"]
  :status: processed
"""

LAYOUTS = {
    "flat": ({"alice.ipynb": 1, "bob.ipynb": 1, "grades.csv": 0}, ["alice", "bob"]),
    "folders": ({"alice/hw01.ipynb": 1, "alice/data.csv": 0, "bob/my page.ipynb": 1}, ["alice", "bob"]),
    "nbgrader": (
        {
            "submitted/alice/hw01/hw01_tokens.ipynb": 1,
            "submitted/alice/hw01/timestamp.txt": 0,
            "submitted/bob/hw01/hw01_tokens.ipynb": 1,
        },
        ["alice", "bob"],
    ),
    "Canvas": (
        {
            "doejane_12345_67890_hw01_tokens-1.ipynb": 1,
            "lee-ng_LATE_22222_67891_my hw_1.ipynb": 1,
            "äöü_33333_67892_x.ipynb": 1,
        },
        ["doejane", "lee-ng", "äöü"],
    ),
    "Moodle": (
        {
            "Jane Doe_123456_assignsubmission_file_/x.ipynb": 1,
            "Jane Doe_123456_assignsubmission_onlinetext_/onlinetext.html": 0,
            "José d'Arc_9_assignsubmission_file_/deep/y.ipynb": 1,
        },
        ["Jane Doe", "José d'Arc"],
    ),
    "Moodle, flat": ({"Jane Doe_123456_assignsubmission_file_x_1_.ipynb": 1}, ["Jane Doe"]),
    "Gradescope": (
        {
            "assignment_5_export/submission_101/hw01.ipynb": 1,
            "assignment_5_export/submission_102/hw01.ipynb": 1,
            "assignment_5_export/submission_103/hw01.ipynb": 1,
            "assignment_5_export/submission_metadata.yml": GRADESCOPE.encode(),
        },
        ["Ann Lee", "Bo 中", "submission_103", "Zoë Ångström"],
    ),
    "Gradescope without its list": (
        {"submission_101/hw01.ipynb": 1, "submission_9/a.ipynb": 1},
        ["submission_101", "submission_9"],
    ),
    "in a folder of the homework's name": ({"hw01/alice.ipynb": 1}, ["alice"]),
    "in one outer folder": ({"download/alice/hw01.ipynb": 1, "download/bob/hw01.ipynb": 1}, ["alice", "bob"]),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("form", ["folder", "zip", "zip in a folder", "zip of a folder"])
def test_layouts(name, form, homework, good, tmp_path):
    files, students = LAYOUTS[name]
    files = {path: good if data == 1 else data or b"1,2\n" for path, data in files.items()}
    target = tmp_path
    if form == "folder":
        lay(tmp_path, files)
    elif form == "zip of a folder":
        lay(
            tmp_path,
            {"submissions.zip": zipped({f"submissions/{path}": data for path, data in files.items()})},
        )
    else:
        lay(tmp_path, {"all hw01.zip": zipped(files)})
        target = tmp_path / "all hw01.zip" if form == "zip" else tmp_path
    found = got(target, homework)
    assert list(found) == students
    assert all(one.data == good and one.notes == () for one in found.values())
    assert not (tmp_path / "OWNED").exists()
