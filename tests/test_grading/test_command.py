"""The command that instructors give: a folder in, grades out; killed it goes on, where no wall holds it refuses."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from utils import pages
from utils.grading import homework, wall

LONG = os.environ.get("COURSE_LONG") == "1"
WALLS = [name for name in ("bubblewrap", "landlock") if not wall.lacking(name)]
needs_a_wall = pytest.mark.skipif(
    not WALLS, reason="no wall holds on this machine, so nothing is graded on it"
)


def command(*words):
    return [sys.executable, "-m", "utils.grading", "grade", *map(str, words)]


def graded(name, folder, out, *words, **settings):
    """Run the command; what it printed, once it came to its end."""
    return subprocess.run(
        command(name, folder, "--out", out, *words),
        capture_output=True,
        text=True,
        cwd=pages.ROOT,
        **settings,
    )


def grades(out):
    """{student: points}, from the table."""
    with open(Path(out) / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return {row["student"]: float(row["points"]) for row in csv.DictReader(file)}


def put(folder, student, name, solved=True):
    """A submission: the solved or the untouched page."""
    path = homework.find(name) if solved else pages.ROOT / "notebooks" / homework.find(name).name
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / f"{student}.ipynb")


# ---- grades ----


@needs_a_wall
@pytest.mark.parametrize("name", WALLS)
def test_each_wall_gives_the_same_grades(name, tmp_path):
    put(tmp_path / "in", "ada", "hw20")
    put(tmp_path / "in", "bob", "hw20", solved=False)
    done = graded("hw20", tmp_path / "in", tmp_path / "out", "--wall", name)
    words = {"bubblewrap": "bubblewrap", "landlock": "Landlock"}[name]
    assert done.returncode == 0 and f"behind {words}" in done.stdout, done.stderr
    assert grades(tmp_path / "out") == {"ada": 18, "bob": 0}


@needs_a_wall
def test_what_is_graded_is_not_graded_again_but_what_is_new_is(tmp_path):
    put(tmp_path / "in", "ada", "hw20")
    put(tmp_path / "in", "bob", "hw20", solved=False)
    lines = lambda: (tmp_path / "out" / "record.jsonl").read_text().splitlines()
    assert graded("hw20", tmp_path / "in", tmp_path / "out").returncode == 0 and len(lines()) == 2
    assert graded("hw20", tmp_path / "in", tmp_path / "out").returncode == 0 and len(lines()) == 2
    put(tmp_path / "in", "bob", "hw20")
    assert graded("hw20", tmp_path / "in", tmp_path / "out").returncode == 0 and len(lines()) == 3
    assert grades(tmp_path / "out") == {"ada": 18, "bob": 18}


# ---- killed ----


@needs_a_wall
def test_killed_at_random_moments_it_comes_to_the_same_grades(tmp_path):
    """50 kills with COURSE_LONG=1, else 5. Nobody is lost, nobody graded twice, no process stays."""
    for number in range(16):
        put(tmp_path / "in", f"student {number}", "hw20", solved=number % 3 > 0)
    began = time.monotonic()
    assert graded("hw20", tmp_path / "in", tmp_path / "whole").returncode == 0
    whole, chance, kills, wanted = time.monotonic() - began, random.Random(0), 0, 50 if LONG else 5
    while kills < wanted:
        out = tmp_path / f"after {kills} kills"
        kills += killed_on_the_way(
            tmp_path / "in", out, lambda: chance.uniform(0.1, 0.9) * whole, wanted - kills
        )
        assert grades(out) == grades(tmp_path / "whole")
        students = [json.loads(line)["student"] for line in (out / "record.jsonl").read_text().splitlines()]
        assert len(students) == len(set(students)) == 16
        assert not list(out.rglob("*.tmp*"))
    assert not running(str(tmp_path))


def killed_on_the_way(folder, out, moment, most):
    """Start the command and kill it after moment() seconds, again and again, until it ends; how often it was killed."""
    kills = 0
    while True:
        process = subprocess.Popen(
            command("hw20", folder, "--out", out),
            cwd=pages.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=moment() if kills < most else 600)
            assert process.returncode == 0
            return kills
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1


def running(word):
    """Processes of workers, after those that are about to end have had their second."""
    for _ in range(50):
        found = subprocess.run(
            ["pgrep", "-f", "utils.grading.worke[r]"], capture_output=True, text=True
        ).stdout
        if not found:
            return []
        time.sleep(0.1)
    return found.split()


# ---- where no wall holds ----

NO_LANDLOCK = """
import ctypes, os, sys
from utils.grading import wall
library = wall.seccomp()
rules = library.seccomp_init(0x7FFF0000)
library.seccomp_rule_add_array(rules, 0x00050000 | 38, 444, 0, None)
wall.give_up_privileges()
assert library.seccomp_load(rules) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@needs_a_wall
def test_without_a_wall_it_refuses_in_one_sentence(tmp_path):
    """A kernel without Landlock is imitated by a filter on its system call, a machine without bubblewrap by PATH."""
    put(tmp_path / "in", "ada", "hw20")
    (tmp_path / "bin").mkdir()
    env = os.environ | {"PATH": str(tmp_path / "bin")}
    run = lambda *words: subprocess.run(
        [
            sys.executable,
            "-c",
            NO_LANDLOCK,
            *command("hw20", tmp_path / "in", "--out", tmp_path / "out", *words)[1:],
        ],
        capture_output=True,
        text=True,
        env=env,
        cwd=pages.ROOT,
    )
    refused = run()
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr.count("\n") == 1 and refused.stderr.startswith("No wall holds on this machine")
    assert "bubblewrap is not installed" in refused.stderr and "--unsafe" in refused.stderr
    assert not (tmp_path / "out").exists()
    forced = run("--unsafe")
    assert forced.returncode == 0 and "no wall (--unsafe)" in forced.stdout, forced.stderr


@pytest.mark.parametrize(
    "words, says",
    [
        (("hw99", "{in}", "--out", "{out}"), "There is no homework 'hw99'; there are hw01, hw02"),
        (("hw20", "{in}/nothing", "--out", "{out}"), "nothing"),
        (("hw20", "{in}", "--out", "{out}", "--executor", "slurm://x"), "There is no executor 'slurm://x'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(words, says, tmp_path):
    put(tmp_path / "in", "ada", "hw20")
    words = [
        word.replace("{in}", str(tmp_path / "in")).replace("{out}", str(tmp_path / "out")) for word in words
    ]
    refused = subprocess.run(command(*words), capture_output=True, text=True, cwd=pages.ROOT)
    assert refused.returncode == 2 and says in refused.stderr and refused.stderr.count("\n") == 1, (
        refused.stderr
    )


# ---- as a plain user ----

PASSABLE = """
set -e
cd "$1"
mkdir "$2"; mount --bind "$3" "$2"
mount -t tmpfs -o mode=755 tmpfs "$4"
mkdir -p "$3"; mount --bind "$2" "$3"
shift 4
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"
"""


def as_a_plain_user(tmp_path):
    """The beginning of a command line that gives up root; where Python stands in root's own folder, it is shown."""
    if os.geteuid():
        return []
    home, python = Path("/root"), Path(sys.base_prefix).resolve()
    plain = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    if not python.is_relative_to(home):
        return plain
    folders = [str(pages.ROOT), str(tmp_path / "python"), str(python), str(home)]
    return ["unshare", "-m", "bash", "-c", PASSABLE, "bash", *folders]


@needs_a_wall
@pytest.mark.parametrize("name", WALLS)
def test_it_needs_no_root(name, tmp_path):
    put(tmp_path / "in", "ada", "hw20")
    (tmp_path / "out").mkdir()
    (tmp_path / "home").mkdir(mode=0o777)
    above = [path for path in tmp_path.parents if path.is_relative_to(tempfile.gettempdir())][:-1]
    for path in (tmp_path, tmp_path / "out", tmp_path / "home", *above):
        path.chmod(0o777)
    done = subprocess.run(
        [
            *as_a_plain_user(tmp_path),
            *command("hw20", tmp_path / "in", "--out", tmp_path / "out", "--wall", name),
        ],
        capture_output=True,
        text=True,
        cwd=pages.ROOT,
        env=os.environ | dict.fromkeys(("HOME", "MPLCONFIGDIR"), str(tmp_path / "home")),
    )
    assert done.returncode == 0, done.stderr
    assert grades(tmp_path / "out") == {"ada": 18}
    if not os.geteuid():
        assert (tmp_path / "out" / "grades.csv").stat().st_uid == 65534
