"""What leaves the house: the zip that students get, and the zip that grades one homework on Gradescope."""

import copy
import io
import os
import re
import zipfile
from pathlib import Path

from utils import course, pages
from utils.grading.homework import Stop

EPOCH = (1980, 1, 1, 0, 0, 0)  # what a zip says of a file without a time

READ_ME = """\
{title}

{page} holds the exercises. {ways}

Below each exercise stands its check; run it as often as you like. Before you hand in, restart the kernel, run all
cells and save. Then hand in the page: one file, under any name.
"""

THREE_WAYS = """Open it in one of three ways.

1. With the course on your machine. This needs no network.
   Put the page into the folder notebooks of the course and run there:  make lab
2. On Colab, at https://colab.research.google.com: choose "Upload" and take the page.
   Its first cell fetches the course.
3. In VS Code or in a Jupyter of your own. In the folder of the page:
   git clone -b {tag} --depth 1 {repo} course
   conda env create -f course/environment.yml
   Then open the page and choose the environment language-models."""

ONE_WAY = """Open it with the course on your machine; this needs no network.
Put the page into the folder notebooks of the course and run there:  make lab

If you do not have the course yet: your instructor gives you its address."""

SET_UP = """\
#!/bin/bash
# Gradescope runs this once, as root, when it builds the machine that grades.
set -euo pipefail
cd "${AUTOGRADER:-/autograder}/source"
apt-get update
apt-get install -y python3.12 python3.12-venv || apt-get install -y python3.11 python3.11-venv
apt-get install -y bubblewrap libseccomp2
"$(command -v python3.12 || command -v python3.11)" utils/setup.py in true
"""

RUN = """\
#!/bin/bash
# Gradescope runs this for each submission. The two variables are only there to try it elsewhere.
cd "${{AUTOGRADER:-/autograder}}/source"
exec "${{COURSE_PYTHON:-.venv/bin/python}}" -m utils.grading.gradescope {name}
"""


# A zip, the same bytes every time ----------------------------------------------------------------------------


def packed(files):
    """The bytes of a zip of {name: bytes}: sorted, not compressed, without times; names without a dot may run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, so that what may run may run
            entry.external_attr = (0o100644 if Path(name).suffix else 0o100755) << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def store(files, path):
    """Write the zip as a whole or not at all; returns its path."""
    try:
        with course.atomic(path) as temporary:
            temporary.write_bytes(packed(files))
    except OSError as error:
        raise Stop(f"{path} cannot be written ({error.strerror}): name another folder.") from None
    return Path(path)


# For students ------------------------------------------------------------------------------------------------


def release(homework, out):
    """Write OUT/hw07.zip for students: the page, and how to open it. A zip that would tell a solution is refused."""
    page = pages.as_text(addressed(homework.released))
    files = {homework.path.name: page.encode(), "README.txt": read_me(homework).encode()}
    refuse_leaks(files, homework)
    return store(files, Path(out) / f"{homework.name}.zip")


def address():
    """Where students find the course: COURSE_REPO or REPO of utils/course.py; "" while neither is known."""
    repo = os.environ.get("COURSE_REPO") or course.REPO
    if not re.fullmatch(r"[\w@~][\w@~%.,:/+-]*|/[\w@~%.,:/+-]+", repo):
        raise Stop(
            f"COURSE_REPO is {repo!r}, which git cannot be given: name the course's address, https://…."
        )
    return "" if "OWNER/REPO" in repo else repo


def addressed(released):
    """The students' page, whose first cell knows where the course is fetched from."""
    page, repo = copy.deepcopy(released), address()
    for cell in pages.code_cells(page):
        if repo and cell.source == course.BOOTSTRAP:
            cell.source = course.bootstrap(repo)
    return page


def read_me(homework):
    """What stands beside the page: the ways to open it, without those that need an address that nobody knows yet."""
    first, repo = homework.released.cells[0].source.splitlines()[0], address()
    ways = THREE_WAYS.format(tag=course.TAG, repo=repo) if repo else ONE_WAY
    return READ_ME.format(title=first.lstrip("# "), page=homework.path.name, ways=ways)


def refuse_leaks(files, homework):
    """Raise pages.Refusal if any of these files tells what the homework's source keeps secret."""
    source = pages.read(homework.path)
    for name, data in files.items():
        page = pages.nbformat.from_dict(homework.released)
        if name.endswith(".ipynb"):
            page = pages.nbformat.reads(data.decode(), as_version=4)
        else:
            page.metadata["beside"] = data.decode()  # judged like all that a page holds beside its cells
        pages.refuse_leak(source, page, homework.path)


# For Gradescope ----------------------------------------------------------------------------------------------


def gradescope(homework, out):
    """Write OUT/hw07-gradescope.zip: the grader, this homework's source, and the models and texts that it opens."""
    files = {pages.short(path): path.read_bytes() for path in parts(homework)}
    files["setup.sh"], files["run_autograder"] = SET_UP.encode(), RUN.format(name=homework.name).encode()
    return store(files, Path(out) / f"{homework.name}-gradescope.zip")


def parts(homework):
    """The files of the course that grade this homework, and no other homework's source."""
    data = pages.ROOT / "data"
    yield from (homework.path, pages.ROOT / "pyproject.toml", pages.ROOT / "constraints.txt")
    yield from (pages.ROOT / "utils").rglob("*.py")
    yield from (path for path in data.iterdir() if path.suffix in (".json", ".jsonl", ".tsv"))
    yield data / "zoo" / "SHA256SUMS"
    code = "\n".join(cell.source for cell in pages.code_cells(homework.released))
    for name in sorted(set(re.findall(r'zoo\.load\("([\w-]+)"', code))):
        yield from (data / "zoo" / name).glob("*.[jst]*")  # not the card
