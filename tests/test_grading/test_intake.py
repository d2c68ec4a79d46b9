"""Intake: every download layout gives each student exactly one submission, and no bad item stops the others."""

import io
import os
import random
import socket
import stat
import struct
import time
import tracemalloc
import unicodedata
import zipfile
import zlib

import pytest

from utils import pages
from utils.grading import intake
from utils.grading.homework import Stop, load
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


# Names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("Ana María Núñez", "Ana María Núñez"),
        (unicodedata.normalize("NFD", "Zoë"), "Zoë"),
        ("李 小龍", "李 小龍"),
        ("نور", "نور"),
        ("evil\u202egnp", "evilgnp"),
        ("two\nlines\tand\x07bell", "two lines and bell"),
        ("-rf", "-rf"),
        ("=cmd|' C calc'!A0", "=cmd|' C calc'!A0"),
        ("j.r.r. tolkien", "j.r.r. tolkien"),
        ("O'Neil; DROP", "O'Neil; DROP"),
        ("<script>alert(1)<", "<script>alert(1)<"),
        ("%s{0}$HOME`id`", "%s{0}$HOME`id`"),
        ("\u200f\u200e", "unnamed"),
        ("👩\u200d🎓 x" + "y" * 60, "👩\u200d🎓 x" + "y" * 60),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\ufffd"),
    ],
)
def test_any_name(name, student, homework, good, tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / f"{name}.ipynb").write_bytes(good)
    lay(tmp_path / "folders", {f"{name}/hw01.ipynb": good, "other/hw01.ipynb": good})
    assert list(got(tmp_path / "flat", homework)) == [student]
    assert student in got(tmp_path / "folders", homework)


def test_names_that_look_alike_stay_two_students(homework, good, tmp_path):
    files = {
        "a\nb.ipynb": good,
        "a b.ipynb": good,
        "doejane_1_10_hw.ipynb": good,
        "doejane_2_11_hw.ipynb": good,
    }
    assert list(got(lay(tmp_path, files), homework)) == ["a b", "a b [2]", "doejane (1)", "doejane (2)"]


def test_accents_composed_or_not_are_one_student(homework, good, tmp_path):
    files = {f"{unicodedata.normalize(form, 'Zoë')}/hw01.ipynb": good for form in ("NFC", "NFD")}
    found = got(lay(tmp_path, files | {"bob/hw01.ipynb": good}), homework)
    assert list(found) == ["bob", "Zoë"]


def test_names_in_zips_of_old_programs(homework, good, tmp_path):
    data = zipped({"Zoë/hw01.ipynb": good, "Bob/hw01.ipynb": good, "Eve\\hw01.ipynb": good})
    flags = [at for at in range(len(data)) if data[at : at + 4] in (b"PK\x01\x02", b"PK\x03\x04")]
    unmarked = bytearray(data)
    for at in flags:  # the mark that says "names are UTF-8" is taken out
        unmarked[at + (9 if data[at + 2] == 1 else 7)] &= ~8
    (tmp_path / "x.zip").write_bytes(unmarked)
    assert list(got(tmp_path, homework)) == ["Bob", "Eve", "Zoë"]


# One of several ------------------------------------------------------------------------------------------------


def test_the_newest_resubmission_counts(homework, good, tmp_path):
    last = good.replace(b"sinks", b"falls")
    names = [
        "doejane_1_30_hw01.ipynb",
        "doejane_1_31_hw01-1.ipynb",
        "doejane_1_32_hw01-10.ipynb",
        "doejane_1_33_hw01-9.ipynb",
    ]
    files = {name: (good, 2000 - at) for at, name in enumerate(names)} | {names[2]: (last, 1)}
    one = got(lay(tmp_path, files), homework)["doejane"]
    assert (
        one.data == last
        and one.file == names[2]
        and "4 notebooks" in one.notes[0]
        and "newest" in one.notes[0]
    )


def test_the_notebook_of_this_homework_counts(homework, good, empty, tmp_path):
    other = pages.as_text(load("hw07").released).encode()
    scratch = odd.as_bytes({"cells": [{"cell_type": "code", "source": "def best_pair(): pass"}]})
    files = {
        "alice/hw01.ipynb": (good, 1000),
        "alice/untouched.ipynb": (empty, 5000),
        "alice/hw07.ipynb": (other, 6000),
        "alice/scratch.ipynb": (scratch, 7000),
        "alice/broken.ipynb": (b"{", 8000),
        "alice/package.json": (b"{}", 9000),
        "bob/a.ipynb": (good, 1000),
        "bob/b.ipynb": (good + b"\n", 2000),
    }
    found = got(lay(tmp_path, files), homework)
    assert (
        found["alice"].file == "alice/hw01.ipynb"
        and "most answers to this homework" in found["alice"].notes[0]
    )
    assert found["bob"].file == "bob/b.ipynb" and "newest" in found["bob"].notes[0]


def test_copies_of_a_browser_are_the_same_student(homework, good, tmp_path):
    files = {"alice.ipynb": (good, 5), "alice (1).ipynb": (good + b" ", 9), "alice-Copy1.ipynb": (good, 7)}
    one = got(lay(tmp_path, files | {"alice.zip": zipped({"hw01.ipynb": good})}), homework)
    assert list(one) == ["alice"]


def test_other_endings_of_a_notebook(homework, good, tmp_path):
    found = got(lay(tmp_path, {"alice.ipynb.txt": good, "bob/hw01.json": good, "eve.IPYNB": good}), homework)
    assert all(one.data == good for one in found.values())
    assert [bool(one.notes) for one in found.values()] == [True, True, False]


def test_a_zip_for_each_student(homework, good, tmp_path):
    ours = {
        f"{name}.zip": zipped({"hw01/hw01.ipynb": good, "hw01/data.csv": b"1"}) for name in ("alice", "bob")
    }
    canvas = {"doejane_1_2_hw01.zip": zipped({"hw01.ipynb": good})}
    assert list(got(lay(tmp_path / "a", ours), homework)) == ["alice", "bob"]
    assert list(got(lay(tmp_path / "b", {"class.zip": zipped(ours | canvas)}), homework)) == [
        "alice",
        "bob",
        "doejane",
    ]
    nested = {"alice.zip": zipped({"inner.zip": zipped(ours)}), "bob.ipynb": good}
    found = got(lay(tmp_path / "c", nested), homework)
    assert "zip in a zip in a zip" in found["alice"].problem and found["bob"].data == good


def test_junk_is_skipped(homework, good, tmp_path):
    junk = [
        "__MACOSX/._alice.ipynb",
        "._alice.ipynb",
        ".DS_Store",
        ".ipynb_checkpoints/alice-checkpoint.ipynb",
    ]
    files = {"alice.ipynb": good, "bob.ipynb": good} | {name: b"junk" for name in junk}
    assert list(got(lay(tmp_path / "a", files), homework)) == ["alice", "bob"]
    assert list(got(lay(tmp_path / "b", {"x.zip": zipped(files)}), homework)) == ["alice", "bob"]


@pytest.mark.parametrize("ending", ["py", "pdf", "html", "docx"])
def test_no_notebook(ending, homework, good, tmp_path):
    files = {f"alice.{ending}": b"x", f"bob/report.{ending}": b"x", "carol.ipynb": good}
    found = got(lay(tmp_path, files), homework)
    assert list(found) == ["alice", "bob", "carol"]
    assert (
        found["alice"].problem
        == f"There is no notebook, only alice.{ending}: hand in the page itself, the .ipynb file."
    )
    assert found["bob"].problem and not found["carol"].problem


def test_empty_folder(homework, good, tmp_path):
    (tmp_path / "alice").mkdir()
    found = got(lay(tmp_path, {"bob/hw01.ipynb": good}), homework)
    assert "holds nothing" in found["alice"].problem and found["bob"].data
    (tmp_path / "bob" / "pictures").mkdir()
    assert got(tmp_path, homework)["bob"].notes == ()


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: lay(path, {"a.csv": b""})]
)
def test_nothing_to_grade(make, homework, tmp_path):
    make(tmp_path / "x")
    with pytest.raises(Stop, match=r"^There is no.*x.*\.$"):
        collect(tmp_path / "x", homework)


def test_one_notebook(homework, good, tmp_path):
    assert list(got(lay(tmp_path, {"alice.ipynb": good}) / "alice.ipynb", homework)) == ["alice"]


# Hostile items -------------------------------------------------------------------------------------------------

SECRET = b'{"cells": [], "secret": "canary"}'


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)


def hard_link(path):
    (path.parent.parent / "outside.ipynb").write_bytes(SECRET)
    os.link(path.parent.parent / "outside.ipynb", path)


def link_to_folder(path):
    (path.parent.parent / "home").mkdir()
    (path.parent.parent / "home" / "hw01.ipynb").write_bytes(SECRET)
    path.symlink_to(path.parent.parent / "home")


def unix_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the names of sockets are short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def link(path):
    (path.parent.parent / "outside.ipynb").write_bytes(SECRET)
    path.symlink_to(path.parent.parent / "outside.ipynb")


def deep(path):
    folder = path.with_suffix("")
    for _ in range(60):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "hw01.ipynb").write_bytes(SECRET)


def entry(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    return info


def overlapping(n=200):
    """A zip of a few kilobytes whose entries all share one body."""
    body = zlib.compress(bytes(500_000), 9)[2:-4]
    head = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, zlib.crc32(bytes(500_000)), len(body), 500_000, 1, 0
    )
    table = b"".join(
        struct.pack(
            "<4s6H3L5H2L",
            b"PK\1\2",
            20,
            20,
            0,
            8,
            0,
            33,
            zlib.crc32(bytes(500_000)),
            len(body),
            500_000,
            7,
            0,
            0,
            0,
            0,
            0,
            0,
        )
        + b"%d.ipynb" % (at % 10)
        for at in range(n)
    )
    local = head + b"a" + body
    return local + table + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, n, n, len(table), len(local), 0)


def locked(data):
    """The zip with the mark of a password on its entries."""
    data = bytearray(data)
    for at in range(len(data) - 4):
        if data[at : at + 4] in (b"PK\x01\x02", b"PK\x03\x04"):
            data[at + (8 if data[at + 2] == 1 else 6)] |= 1
    return bytes(data)


def many_entries():
    return zipped({f"{at}.ipynb": b"" for at in range(intake.MAX_ENTRIES + 1)}, zipfile.ZIP_STORED)


HOSTILE_FILES = {
    "a link": (link, "link"),
    "a link to a folder": (link_to_folder, "link"),
    "a dead link": (lambda path: path.symlink_to("/nowhere/at/all"), "link"),
    "a link to itself": (lambda path: path.symlink_to(path), "link"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "link"),
    "a hard link": (hard_link, "hard link"),
    "a pipe": (os.mkfifo, "no plain file"),
    "a socket": (unix_socket, "no plain file"),
    "three gigabytes": (sparse, "larger than 20 MB"),
    "sixty folders deep": (deep, "folders deep"),
}
HOSTILE_ZIPS = {
    "empty zip": (lambda: zipped({}), "empty zip"),
    "no zip": (lambda: b"not a zip at all", "no zip"),
    "half a zip": (lambda: zipped({"a.ipynb": SECRET})[:-40], "no zip"),
    "damaged entry": (lambda: zipped({"a.ipynb": SECRET}, 0).replace(b"canary", b"canarz"), "damaged"),
    "password": (lambda: locked(zipped({"a.ipynb": SECRET})), "password"),
    "odd packing": (lambda: zipped({"a.ipynb": SECRET}, zipfile.ZIP_BZIP2), "unusual way"),
    "climbs out": (lambda: zipped({"../../bob.ipynb": SECRET}), "leads out"),
    "climbs out, Windows": (lambda: zipped({"..\\..\\bob.ipynb": SECRET}), "leads out"),
    "from the root": (lambda: zipped({"/etc/bob.ipynb": SECRET}), "leads out"),
    "from a drive": (lambda: zipped({"C:/bob.ipynb": SECRET}), "leads out"),
    "link in a zip": (lambda: zipped({entry("a.ipynb", stat.S_IFLNK | 0o777): b"/etc/passwd"}), "link"),
    "pipe in a zip": (lambda: zipped({entry("a.ipynb", stat.S_IFIFO | 0o777): b""}), "no plain file"),
    "bomb": (lambda: zipped({"a.ipynb": bytes(18_000_000)}), "times its size"),
    "large bomb": (
        lambda: zipped({"a.ipynb": os.urandom(1_000_000) + bytes(30_000_000)}),
        "larger than 20 MB",
    ),
    "bomb in a zip in a zip": (
        lambda: zipped({"a.zip": zipped({"b.ipynb": bytes(18_000_000)})}),
        "times its size",
    ),
    "zip bomb of zips": (lambda: zipped({"a.zip": bytes(90_000_000)}), "times its size"),
    "many entries": (many_entries, "more than 20,000 entries"),
    "overlapping entries": (overlapping, "overlap"),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_files_are_told_and_stop_no_one(name, homework, good, tmp_path):
    make, words = HOSTILE_FILES[name]
    folder = lay(tmp_path / "in", {"bob.ipynb": good, "alice.ipynb": good})
    make(folder / "mallory.ipynb")
    start = time.process_time()
    found = got(folder, homework)
    assert time.process_time() - start < 5
    assert list(found) == ["alice", "bob", "mallory"]
    assert words in found["mallory"].problem and found["alice"].data == found["bob"].data == good


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
@pytest.mark.parametrize("nested", [False, True])
def test_hostile_zips_are_told_and_stop_no_one(name, nested, homework, good, tmp_path):
    make, words = HOSTILE_ZIPS[name]
    files = {"bob.ipynb": good, "alice.zip": zipped({"hw01.ipynb": good}), "mallory.zip": make()}
    lay(tmp_path, {"class.zip": zipped(files)} if nested else files)
    tracemalloc.start()
    start = time.process_time()
    try:
        found = got(tmp_path, homework)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 20 and peak < 150_000_000
    assert list(found) == ["alice", "bob", "mallory"]
    assert found["alice"].data == found["bob"].data == good and not found["mallory"].data
    assert words in found["mallory"].problem or "zip in a zip in a zip" in found["mallory"].problem * nested


def test_a_zip_that_holds_itself(homework, good, tmp_path):
    """The innermost zip stays closed, however many there are."""
    data = zipped({"hw01.ipynb": good})
    for _ in range(30):
        data = zipped({"again.zip": data})
    found = got(lay(tmp_path, {"mallory.zip": data, "bob.ipynb": good}), homework)
    assert "zip in a zip in a zip" in found["mallory"].problem and found["bob"].data == good


def test_bad_items_beside_a_good_one_are_noted(homework, good, tmp_path):
    folder = lay(tmp_path, {"alice/hw01.ipynb": good, "alice/x.zip": b"?", "bob/hw01.ipynb": good})
    (folder / "alice" / "other.ipynb").symlink_to("/etc/passwd")
    one = got(folder, homework)["alice"]
    assert one.data == good and len(one.notes) == 2 and "link" in one.notes[0] and "no zip" in one.notes[1]


def test_hard_links_within_the_folder_are_read(homework, good, tmp_path):
    folder = lay(tmp_path, {"alice/hw01.ipynb": good})
    (folder / "bob").mkdir()
    os.link(folder / "alice" / "hw01.ipynb", folder / "bob" / "hw01.ipynb")
    assert [one.data for one in got(folder, homework).values()] == [good, good]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(homework, good, tmp_path):
    folder = lay(tmp_path, {"alice.ipynb": good, "bob.ipynb": good, "eve/hw01.ipynb": good})
    (folder / "alice.ipynb").chmod(0)
    (folder / "eve").chmod(0)
    found = got(folder, homework)
    (folder / "eve").chmod(0o700)
    assert (
        "Permission" in found["alice"].problem and "Permission" in found["eve"].problem and found["bob"].data
    )


def test_all_notebooks_together_have_a_limit(homework, good, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "MAX_KEPT", len(good) + 10)
    found = got(lay(tmp_path, {"alice.ipynb": good, "bob.ipynb": good}), homework)
    assert found["alice"].data and "grade them in parts" in found["bob"].problem


@pytest.mark.parametrize("seed", range(40))
def test_damaged_zips_never_crash(seed, homework, good, tmp_path):
    """A class zip with random bytes changed: a list of submissions or one sentence, whatever the damage."""
    rng = random.Random(seed)
    data = bytearray(
        zipped({f"s{at}/hw01.ipynb": good for at in range(4)} | {"t.zip": zipped({"a.ipynb": good})})
    )
    for _ in range(rng.choice([1, 5, 50])):
        data[rng.choice([rng.randrange(len(data)), -rng.randrange(1, 400)])] = rng.randrange(256)
    lay(tmp_path, {"x.zip": bytes(data), "bob.ipynb": good})
    assert got(tmp_path, homework)["bob"].data == good
