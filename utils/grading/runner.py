"""Ask the functions of one submission behind a wall: bytes in, bytes out. Here nothing is judged."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from utils.grading import Stop, wall, wire

KEPT = threading.local()  # the walls of this thread: one for students, one for references
STANDING = set()  # all walls of this process
GRACE = 10  # seconds after which a keeper that does not answer is given up
PATIENCE = (
    3  # so much longer may something take by the clock than by the processor, on a machine with much to do
)
MOST = 2 * wire.LONGEST  # bytes of all replies to one question
LIMITS = {"seconds": 60.0, "memory": 2_000_000_000, "disk": 16_000_000}


def run(job):
    """Answer the questions of a job.

    job: the bytes of {"wall", "ground": [source …], "limits", "cells": [[label, source, exercise] …],
    "questions": [{"name", "seconds", "calls": [arguments …], "stand_ins": [name …], "n_cells"} …],
    "solutions": [source …]}
    Returns the bytes of {"wall": its layers in words, "answers": one for each question:
    {"troubles", "replies": [bytes …], "stuck", "end", "signal", "seconds", "peak"}}. Source of the frames: worker.py.
    """
    job = wire.unpack(job)
    job["wall"] = wall.choose(job["wall"])
    answers = []
    for question in job["questions"]:
        stuck = answers and answers[-1]["stuck"]  # more cells of the same page would not come further
        answers.append(answers[-1] if stuck else Question(job, question).answered())
    return wire.pack({"wall": wall.layers(job["wall"]), "answers": answers})


class Question:
    """One function and the calls to it."""

    def __init__(self, job, question):
        self.job, self.asked = job, question
        self.replies, self.troubles = [], b""

    def answered(self):
        """What came of it; a wall that breaks is built anew, for the next question."""
        parent, stuck = kept("students", self.job), False
        if self.asked["stand_ins"]:
            kept("references", self.job)  # built before any clock of the student's runs
        try:
            told = self.ask(parent)
            stuck = not self.troubles
        except (wire.Ended, wire.TooLate, wire.TooLong, wire.Damaged) as error:
            parent.close()
            told = {"end": type(error).__name__, "signal": 0, "seconds": 0.0, "peak": 0}
        finally:
            end_references()
        return {"troubles": self.troubles, "replies": self.replies, "stuck": stuck, **told}

    def ask(self, parent):
        """Send the page and its calls one by one; what the keeper tells at the end."""
        asked = {name: self.asked[name] for name in ("name", "seconds", "stand_ins")}
        cells = self.job["cells"][: self.asked["n_cells"]]
        parent.begin({"cells": cells, "trusted": False, **asked})
        frame, total = parent.receive(), 0
        if frame[:1] != b"X":
            self.troubles = frame[1:]
            for args in self.asked["calls"]:
                parent.send(wire.pack(args))
                frame = self.reply(parent)
                if frame[:1] == b"X":
                    return wire.unpack(frame[1:])
                self.replies.append(frame[1:])
                total += len(frame)
                if frame[:1] == b"L" or total > MOST:
                    break
            parent.send(b"end")
            frame = parent.receive()
        return wire.unpack(frame[1:]) | ({"end": "TooLong"} if frame[:1] == b"X" and total > MOST else {})

    def reply(self, parent):
        """The page's next answer; on the way there it may ask for what a stand-in needs."""
        while (frame := parent.receive())[:1] == b"Q":
            parent.send(self.reference(frame[1:]))
        return frame

    def reference(self, asked):
        """What the released solution of an earlier exercise answers, behind a wall of its own."""
        try:
            name, args = wire.unpack(asked)
            if name not in self.asked["stand_ins"]:
                return b"N"
            return kept("references", self.job).reference(name, args, self.job)
        except (wire.Ended, wire.TooLate, wire.Damaged, ValueError, TypeError):
            forget("references")
            return b"N"


# ---- a parent behind its wall ----


class Parent:
    """A worker's parent, started behind a wall."""

    def __init__(self, job):
        self.seconds = job["limits"]["seconds"]
        self.folder = new_folder() if job["wall"] != "bubblewrap" else None
        box = self.folder or wall.box()
        line = [sys.executable, "-P", "-s", "-m", "utils.grading.worker"]
        if job["wall"] == "bubblewrap":
            line = wall.bubblewrap(box, job["limits"]["disk"] * 4) + line
        self.process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=wall.ROOT if job["wall"] != "bubblewrap" else None,
            env=environment(box),
            start_new_session=True,
            bufsize=0,
        )
        self.pending, self.tidy = None, True
        STANDING.add(self)
        with contextlib.suppress(wire.Ended):
            start = {"ground": job["ground"], "wall": job["wall"], "box": box, "patience": PATIENCE}
            self.send(wire.pack(start | job["limits"]))
            if wire.receive(self.process.stdout.fileno(), until=time.monotonic() + 300) == b"ready":
                return
        self.process.kill()
        told = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        raise Stop(
            f"The homework's own cells do not run behind the wall: {told[-1] if told else 'no word why'}."
        )

    def send(self, frame):
        wire.send(self.process.stdin.fileno(), frame)

    def begin(self, question):
        """Open a page with this question."""
        self.tidy = False
        self.send(wire.pack(question))

    def is_tidy(self):
        """Whether it stands ready for a new page; what the last one left is taken away first."""
        with contextlib.suppress(wire.Ended, wire.TooLate, wire.TooLong):
            self.tidy = self.tidy or self.receive() == b"ready"
        return self.tidy

    def receive(self):
        until = time.monotonic() + PATIENCE * self.seconds + GRACE
        return wire.receive(self.process.stdout.fileno(), wire.LONGEST + 1000, until)

    def reference(self, name, args, job):
        """The frame with what a function of the solution answers; its page stays open for the next call."""
        if self.pending != name:
            cells = [["solution", source, ""] for source in job["solutions"]]
            asked = {"cells": cells, "name": name, "seconds": self.seconds, "stand_ins": [], "trusted": True}
            self.begin(asked)
            self.receive()
            self.pending = name
        self.send(wire.pack(args))
        frame = self.receive()
        if frame[:1] != b"V":
            self.pending = None
            return b"N"
        return frame

    def close(self):
        """End it and all below it."""
        STANDING.discard(self)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        if self.folder:
            remove(self.folder)


def new_folder():
    """An empty folder for pages; those of graders that were killed are taken away."""
    for left in Path(tempfile.gettempdir()).glob("homework-*-*"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(left.name.split("-")[1])
            if left.lstat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
                remove(str(left))
    return tempfile.mkdtemp(prefix=f"homework-{os.getpid()}-")


def remove(folder):
    """Take a folder away, by commands that no depth of folders stops."""
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"})


def environment(box):
    """All that the worker gets of our environment."""
    given = {
        "HOME": box,
        "TMPDIR": box,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(wall.ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return given | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def kept(role, job):
    """This thread's wall of that role for that homework, built if there is none that stands."""
    walls = KEPT.__dict__.setdefault("walls", {})
    key = hashlib.sha256(wire.pack([job["ground"], job["wall"], job["limits"]])).hexdigest()
    if role in walls and not (walls[role][0] == key and stands(walls[role][1])):
        forget(role)
    if role not in walls:
        walls[role] = key, started(job)
    return walls[role][1]


def started(job):
    """A new parent; one that does not start, for whatever moment's reason, has a second try."""
    with contextlib.suppress(Stop, OSError):
        return Parent(job)
    try:
        return Parent(job)
    except OSError as error:
        raise Stop(
            f"The wall cannot be built ({error}): give the command again when that is mended."
        ) from None


def stands(parent):
    """Whether a wall can be asked: a page is open behind it, or it is ready for one."""
    return parent.process.poll() is None and (parent.pending is not None or parent.is_tidy())


def end_references():
    """Close the page of references that a question has opened: each question has its own time."""
    parent = KEPT.__dict__.get("walls", {}).get("references", (None, None))[1]
    if parent and parent.pending is not None:
        try:
            parent.send(b"end")
            parent.receive()
            parent.pending = None
        except (wire.Ended, wire.TooLate, wire.TooLong):
            forget("references")


def forget(role):
    """Take down this thread's wall of that role."""
    walls = KEPT.__dict__.setdefault("walls", {})
    if role in walls:
        walls.pop(role)[1].close()


def close_all():
    """Take down all walls of this process; whoever still asks gets no answer."""
    for parent in list(STANDING):
        parent.close()
