"""Hostile submissions: each gets the verdict it should, learns nothing, reaches nobody, and harms no one beside it.

All are graded in one batch by the command that instructors use, with honest ones between them. What they look for is
there: secrets in files, in the environment and in shared memory, listeners on ports and sockets, a record to forge.
Every run tries some of each class behind the first wall that holds here, COURSE_LONG=1 all of them behind each.

What no wall keeps from a submission: how long its calls take, which only the grader sees. What Landlock alone, without
bubblewrap, does not keep from it: whether a file is there whose path it guesses, its size and its date.
"""

import ast
import contextlib
import csv
import ctypes
import html.parser
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from utils import pages
from utils.grading import intake, wall
from utils.grading.homework import load

sys.path.insert(0, str(Path(__file__).resolve().parent))
import submissions  # noqa: E402

NAMES = submissions.names()
POINTS = {task.name: task.points for task in load(submissions.HOMEWORK).exercises}
CLASSES = set(
    "forged frames lying reading leaking network loop memory crash forks disk output reply compile kill raising "
    "writing state page file".split()
)
GREEDY = (  # harmless enough to be run without a wall, where each gets what it looks for
    "reading-solutions reading-tests reading-grader reading-submissions reading-shared-memory "
    "reading-temporary-folders network-tcp network-udp network-unix network-datagrams network-commands"
).split()
SOME = (
    5  # so many of each class are graded in every test run, at most one that waits for the clock; all if LONG
)
EACH = 9  # after so many hostile submissions comes an honest one
SECONDS = 4  # of the processor, for one exercise; by the clock three times as many
WALLS = [name for name in ("bubblewrap", "landlock") if not wall.lacking(name)]
LONG = os.environ.get("COURSE_LONG") == "1"
WALLS = WALLS if LONG else WALLS[:1]
needs_a_wall = pytest.mark.skipif(
    not WALLS, reason="no wall holds on this machine, so nothing is graded on it"
)


def waits(name):
    """Whether a submission runs into the clock."""
    verdicts = submissions.expected(name)["verdicts"].values()
    return any("late" in ([one] if isinstance(one, str) else one) for one in verdicts)


def some_of_each():
    """The first submissions of each class, and of those that wait for the clock one."""
    for kind in sorted(CLASSES):
        names = [name for name in NAMES if name.split("-")[0] == kind]
        yield from [name for name in names if not waits(name)][:SOME]
        yield from [name for name in names if waits(name)][:1]


TRIED = NAMES if LONG else list(some_of_each())


# ---- the form of the folders ----


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_says_what_it_tries_and_what_it_gets(name):
    found = submissions.expected(name)
    assert set(found) <= {"why", "verdicts", "points", "says", "reason", "never", "made"}
    assert found["why"].endswith(".") and set(found["verdicts"]) == set(POINTS)
    named = {
        verdict for one in found["verdicts"].values() for verdict in ([one] if isinstance(one, str) else one)
    }
    assert named <= {"right", "wrong", "empty", "late", "died", "missing"}
    right = [task for task, verdict in found["verdicts"].items() if verdict == "right"]
    assert found["points"] == sum(POINTS[task] for task in right)
    assert (submissions.HOSTILE / name / "answer.py").exists() or found["made"]
    made = found.get("made")
    assert not made or made in submissions.CHANGES or made in submissions.FILES


def test_all_classes_of_attacks_are_there():
    assert {name.split("-")[0] for name in NAMES} == CLASSES and len(NAMES) >= 200 and len(TRIED) >= 80


def test_answers_replace_what_they_name():
    """The solved homework with one cell replaced differs in that cell only."""
    before = submissions.solved()["cells"]
    after = submissions.merged(json.loads(json.dumps(submissions.solved())), "# %% nucleus\nx = 1\n")["cells"]
    assert [one["id"] for one, other in zip(before, after) if one != other] == ["nucleus"]
    sources = {cell["id"]: cell["source"] for cell in before}
    assert all(
        any(isinstance(node, ast.Return) for node in ast.walk(ast.parse(sources[name]))) for name in POINTS
    )


# ---- submissions that claim to be those of others ----


def packed(path, entries):
    submissions.zipped(path, entries)
    os.utime(path, (2e9, 2e9))  # later than all others


@pytest.mark.parametrize(
    "alice, mallory, inside",
    [
        ("alice.ipynb", "mallory.zip", "submitted/alice/hw07/hw07_decoding.ipynb"),
        ("submitted/alice/hw07/hw07.ipynb", "mallory.zip", "submitted/alice/hw07/hw07_decoding.ipynb"),
        ("alice_12_34_hw07.ipynb", "mallory_56_78_hw07.zip", "alice_12_99_hw07.ipynb"),
        ("alice_12_34_hw07.ipynb", "mallory.zip", "alice_12_99_hw07.ipynb"),
        ("alice_12_assignsubmission_file/a.ipynb", "mallory.zip", "alice_12_assignsubmission_file/b.ipynb"),
        ("submission_1/a.ipynb", "mallory.zip", "submission_1/b.ipynb"),
        ("submission_1/a.ipynb", "submission_2/b.zip", "submission_1/b.ipynb"),
    ],
)
def test_nobody_hands_in_for_another(tmp_path, alice, mallory, inside):
    """A zip whose entries carry the name of another student takes nothing from that one."""
    data = submissions.as_bytes(submissions.solved())
    for path in (tmp_path / alice, tmp_path / mallory):
        path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / alice).write_bytes(data)
    packed(tmp_path / mallory, [(inside, data.replace(b"cumsum", b"forged"))])
    found = [one for one in intake.collect(tmp_path, load(submissions.HOMEWORK)) if one.file == alice]
    assert len(found) == 1 and found[0].data == data


def test_a_list_of_students_counts_only_where_the_platform_puts_it(tmp_path):
    """A student's own list of who handed in what gives nobody's work to anybody else."""
    data = submissions.as_bytes(submissions.solved())
    names = "submission_{}:\n  :submitters:\n  - :name: {}\n    :sid: '{}'\n    :email: {}@example.org\n"
    forged = "".join(names.format(number, "Mallory", 7, "mallory") for number in (1, 2))
    true = names.format(1, "Alice", 1, "alice") + names.format(2, "Mallory", 7, "mallory")
    for path, text in (("", true), ("submission_2/", forged), ("submission_2/deeper/", forged)):
        (tmp_path / path).mkdir(exist_ok=True)
        (tmp_path / f"{path}submission_metadata.yml").write_text(text)
    (tmp_path / "submission_1").mkdir()
    (tmp_path / "submission_1" / "a.ipynb").write_bytes(data)
    (tmp_path / "submission_2" / "b.ipynb").write_bytes(data)
    packed(tmp_path / "submission_2" / "list.zip", [("submission_metadata.yml", forged)])
    found = {one.student: one.file for one in intake.collect(tmp_path, load(submissions.HOMEWORK))}
    assert found["Alice"] == "submission_1/a.ipynb" and found["Mallory"].startswith("submission_2/")


# ---- what the batch is surrounded by ----


class Listeners:
    """Servers on this machine that keep what reaches them and answer with a secret."""

    def __init__(self, folder, tag, secret):
        self.seen, self.open, self.secret = [], True, secret
        self.doors = {
            "tcp": self.listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": self.listen(socket.AF_INET, socket.SOCK_DGRAM, ("", 0)),
            "unix": self.listen(socket.AF_UNIX, socket.SOCK_STREAM, f"{folder}/door"),
            "unix datagrams": self.listen(socket.AF_UNIX, socket.SOCK_DGRAM, f"{folder}/door.datagrams"),
            "abstract": self.listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0door-{tag}"),
            "abstract datagrams": self.listen(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0door-{tag}.datagrams"),
        }
        for name, door in self.doors.items():
            threading.Thread(target=self.serve, args=(name, door), daemon=True).start()

    def listen(self, family, kind, address):
        door = socket.socket(family, kind)
        door.bind(address)
        door.settimeout(0.2)
        if kind == socket.SOCK_STREAM:
            door.listen()
        return door

    def port(self, name):
        return self.doors[name].getsockname()[1]

    def serve(self, name, door):
        while self.open:
            with contextlib.suppress(OSError):
                if door.type == socket.SOCK_STREAM:
                    guest, _ = door.accept()
                    self.seen.append(name)
                    with guest:
                        guest.sendall(self.secret)
                else:
                    data, sender = door.recvfrom(1000)
                    self.seen.append(name)
                    if sender:
                        door.sendto(self.secret, sender)

    def close(self):
        self.open = False
        time.sleep(0.5)
        for door in self.doors.values():
            door.close()


class Secrets:
    """Secrets laid out where a submission may look for them; none may appear in what the grader writes."""

    def __init__(self):
        self.made, self.paths, self.segment = [], [], -1

    def one(self):
        self.made.append(f"CANARY-{secrets.token_hex(12)}")
        return self.made[-1]

    def file(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"secret = {self.one()}\n")
        path.chmod(0o644)
        self.paths.append(path)

    def shared_memory(self, key):
        """A segment of System V shared memory that everybody may read."""
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        self.segment = libc.shmget(key, 4096, 0o1666)
        if self.segment >= 0:
            place = libc.shmat(self.segment, None, 0)
            ctypes.memmove(place, self.one().encode() + b"\0", 40)
            libc.shmdt(ctypes.c_void_p(place))

    def remove(self):
        for path in self.paths:
            path.unlink(missing_ok=True)
        if self.segment >= 0:
            ctypes.CDLL(None).shmctl(self.segment, 0, None)


class Watch:
    """All processes below one, and the most memory that they held together."""

    def __init__(self, pid):
        self.pid, self.seen, self.peak, self.running = pid, set(), 0, True
        threading.Thread(target=self.look, daemon=True).start()

    def look(self):
        while self.running:
            below = self.below()
            self.seen |= below
            self.peak = max(self.peak, sum(self.size(pid) for pid, _ in below))
            time.sleep(0.2)

    def below(self):
        """(pid, when it began) of the process and of all below it."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (told := process(entry)):
                parents[int(entry)] = told
        found, waiting = set(), [self.pid]
        while waiting:
            pid = waiting.pop()
            if pid in parents:
                found.add((pid, parents[pid][1]))
                waiting += [child for child, (parent, _) in parents.items() if parent == pid]
        return found

    def size(self, pid):
        """Bytes of memory of its own: what is shared with its parent counts there."""
        with contextlib.suppress(OSError, ValueError, StopIteration):
            with open(f"/proc/{pid}/status") as rows:
                return 1024 * int(next(row for row in rows if row.startswith("RssAnon")).split()[1])
        return 0

    def left(self):
        """Those that still run: a daemon that a submission has left behind may have another parent by now."""
        return [
            pid
            for pid, began in self.seen
            if (told := process(pid)) and told[1] == began and told[0] != os.getpid()
        ]


def process(pid):
    """(parent, when it began) of a process; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else (int(fields[1]), fields[19])
    except OSError:
        return None


def state_of(*folders):
    """{path: size and time of its last change} of all files in some folders; what Python compiles is left out."""
    found = {}
    for top in folders:
        for folder, inner, files in os.walk(top):
            if folder == str(
                pages.ROOT / ".venv"
            ):  # beside the packages, what tests of other pages write meanwhile
                inner[:] = ["lib"]
            passing = ".git", ".ruff_cache", ".pytest_cache", "__pycache__"
            inner[:] = [name for name in inner if name not in passing]
            for name in files:
                state = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = state.st_size, state.st_mtime_ns, state.st_mode
    return found


class Batch:
    """One run of the command over some submissions, and what was seen meanwhile."""

    def __init__(self, names, *options):
        self.tried = names
        self.top = Path(tempfile.mkdtemp(prefix="hostile-"))
        self.top.chmod(0o755)
        self.out, self.folder, self.home = self.top / "out", self.top / "class", self.top / "home"
        self.folder.mkdir()
        self.tag, self.secrets = secrets.token_hex(4), Secrets()
        self.daemon = f"dmn-{self.tag}"
        self.lay_out()
        self.listeners = Listeners(self.top, self.tag, self.secrets.one().encode())
        try:
            self.hand_in()
            self.run(*options)
        finally:
            self.listeners.close()
            self.secrets.remove()
        lines = (self.out / "record.jsonl").read_text().splitlines()
        self.records = [json.loads(line) for line in lines]

    def lay_out(self):
        for path in (
            ".netrc",
            ".ssh/id_ed25519",
            ".bash_history",
            ".git-credentials",
            ".cache/huggingface/token",
        ):
            self.secrets.file(self.home / path)
        for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
            if os.access(folder, os.W_OK):
                self.secrets.file(Path(folder) / f"secret-{self.tag}")
        self.secrets.file(self.folder / "class-list.txt")
        self.key = int(self.tag[:6], 16) + 1
        self.secrets.shared_memory(self.key)

    def hand_in(self):
        """Write the submissions: {the file as records name it: its name}."""
        places = {
            "ROOT": pages.ROOT,
            "CLASS": self.folder,
            "OUT": self.out,
            "HOME": self.home,
            "TCP": self.listeners.port("tcp"),
            "UDP": self.listeners.port("udp"),
            "UNIX": self.top / "door",
            "ABSTRACT": f"door-{self.tag}",
            "SHM": self.key,
            "TAG": self.tag,
            "DAEMON": self.daemon,
        }
        self.names, self.honest = {}, []
        for count, name in enumerate(self.tried):
            self.names[name] = submissions.write(name, self.folder, places)
            if count % EACH == 0:
                nb = json.loads(json.dumps(submissions.solved()))
                nb["metadata"]["course"] = {"note": self.secrets.one()}
                self.honest.append(f"{name}-then-honest")
                (self.folder / f"{self.honest[-1]}.ipynb").write_bytes(submissions.as_bytes(nb))

    def run(self, *options):
        before = state_of(pages.ROOT), state_of(self.folder, self.home)
        env = os.environ | {"HOME": str(self.home), "COURSE_SECRET": self.secrets.one()}
        env["MPLCONFIGDIR"] = str(self.top / "settings")
        line = [sys.executable, "-m", "utils.grading", "grade", submissions.HOMEWORK, str(self.folder)]
        line += ["--out", str(self.out), "--seconds", str(SECONDS), *options]
        began = time.monotonic()
        with open(self.top / "said", "wb") as said:
            grader = subprocess.Popen(line, cwd=pages.ROOT, env=env, stdout=said, stderr=said)
            watch = Watch(grader.pid)
            try:
                self.code = grader.wait(timeout=3600)
            finally:
                grader.kill()
                watch.running = False
        self.seconds, self.peak, self.said = (
            time.monotonic() - began,
            watch.peak,
            (self.top / "said").read_bytes(),
        )
        time.sleep(1)
        self.left = watch.left()
        self.before, self.after = before, (state_of(pages.ROOT), state_of(self.folder, self.home))

    def record(self, name):
        """The record of a submission, found by its file: a record gives odd letters and long names in its own way."""
        plain = lambda path: "".join(
            filter(str.isalnum, path.split("/")[0].encode("ascii", "ignore").decode())
        )
        path = plain(self.names[name].name)
        found = [one for one in self.records if plain(one["file"]) == path]
        found = found or [one for one in self.records if plain(one["file"])[:60] == path[:60]]
        assert len(found) == 1, (path, [one["file"] for one in found])
        return found[0]

    def written(self):
        """{path: bytes} of all that the grader wrote and said."""
        files = {path: path.read_bytes() for path in self.out.rglob("*") if path.is_file()}
        return files | {Path("said"): self.said}

    def remove(self):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(self.top)], stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module", params=WALLS or [None])
def batch(request):
    if request.param is None:
        pytest.skip("no wall holds on this machine, so nothing is graded on it")
    made = Batch(TRIED, "--wall", request.param)
    yield made
    made.remove()


# ---- what came of it ----


@pytest.mark.parametrize("name", TRIED)
def test_the_verdict_is_the_expected_one(batch, name):
    found, told = submissions.expected(name), batch.record(name)
    verdicts = {task: part["verdict"] for task, part in told["exercises"].items()}
    lines = {task: part["lines"] for task, part in told["exercises"].items()}
    unlike = {
        task: (verdict, found["verdicts"][task], lines[task][-1:])
        for task, verdict in verdicts.items()
        if verdict
        not in (
            [found["verdicts"][task]] if isinstance(found["verdicts"][task], str) else found["verdicts"][task]
        )
    }
    assert not unlike, told["reason"]
    for task, words in found.get("says", {}).items():
        assert any(words in line for line in lines[task]), lines[task]
    assert found.get("reason", "") in " ".join([told["reason"], *told["notes"]])
    gained = sum(part["points"] for part in told["exercises"].values())
    assert gained == sum(POINTS[task] for task, verdict in verdicts.items() if verdict == "right")
    if not any(isinstance(verdict, list) for verdict in found["verdicts"].values()):
        assert gained == found["points"]


def test_the_batch_comes_to_its_end(batch):
    assert batch.code == 0, batch.said[-2000:]
    assert b"Traceback" not in batch.said


def test_every_student_has_one_record_and_a_reason(batch):
    students = [one["student"] for one in batch.records]
    assert len(students) == len(set(students)) == len(TRIED) + len(batch.honest)
    assert all(one["reason"].endswith(".") and "grader failed" not in one["reason"] for one in batch.records)


def test_honest_submissions_between_them_lose_nothing(batch):
    told = {one["student"]: one for one in batch.records}
    lost = {
        name: told[name]["exercises"]
        for name in batch.honest
        if not told[name]["reason"].startswith("18 of 18")
    }
    assert len(batch.honest) >= 10 and not lost


def test_no_secret_gets_out(batch):
    for path, data in batch.written().items():
        assert not [secret for secret in batch.secrets.made if secret.encode() in data], path
        assert b"CANARY" not in data, path


@pytest.mark.parametrize("name", [name for name in TRIED if "never" in submissions.expected(name)])
def test_what_must_not_be_said_is_said_nowhere(batch, name):
    words = submissions.expected(name)["never"].encode()
    assert not [path for path, data in batch.written().items() if words in data]


def test_nobody_outside_was_reached(batch):
    assert batch.listeners.seen == []


def test_no_process_is_left(batch):
    names = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            names[entry] = Path(f"/proc/{entry}/comm").read_text().strip()
    assert not batch.left and batch.daemon not in names.values()


def test_no_file_is_changed_or_left(batch):
    for before, after in zip(batch.before, batch.after):
        assert {path: state for path, state in after.items() if before.get(path) != state} == {}
        assert set(before) <= set(after)
    for folder in (
        tempfile.gettempdir(),
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/run",
        pages.ROOT,
        pages.ROOT / "data",
    ):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        assert not [name for name in names if batch.tag in name], folder
    names = {path.relative_to(batch.out).parts[0] for path in batch.out.rglob("*")}
    assert names == set(
        "record.jsonl grades.csv grades.json written.csv written.html summary.html feedback".split()
    )


class Inert(html.parser.HTMLParser):
    """Notes all of a page that could run, load or send something."""

    def __init__(self):
        super().__init__()
        self.alive, self.policy = [], ""

    def handle_starttag(self, tag, attributes):
        if tag in (
            "script",
            "iframe",
            "frame",
            "object",
            "embed",
            "form",
            "input",
            "base",
            "link",
            "audio",
            "video",
        ):
            self.alive.append(tag)
        for name, value in attributes:
            if tag == "meta" and name == "http-equiv" and value.lower() == "content-security-policy":
                self.policy = dict(attributes)["content"]
            elif tag == "meta" and name == "http-equiv":
                self.alive.append((tag, value))
            if name.startswith("on") or name in ("srcdoc", "formaction", "ping"):
                self.alive.append((tag, name))
            address = (value or "").strip().lower()
            if name in ("src", "href", "xlink:href", "data", "action") and ":" in address.split("/")[0]:
                if not address.startswith("data:image/png"):
                    self.alive.append((tag, name, value))
            if name in ("src", "href") and address.startswith("//"):
                self.alive.append((tag, name, value))


def test_reports_are_inert(batch):
    found = [path for path in batch.out.rglob("*.html")]
    assert len(found) > len(batch.records)
    for path in found:
        page = Inert()
        page.feed(path.read_text(encoding="utf-8"))
        assert not page.alive, (path, page.alive)
        assert "default-src 'none'" in page.policy and "script-src" not in page.policy.replace(
            "script-src 'none'", ""
        )


def test_tables_hold_no_formulas(batch):
    for name in ("grades.csv", "written.csv"):
        with open(batch.out / name, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
        assert rows and not [
            field for row in rows for field in row if field.startswith(("=", "+", "@", "\t", "\r"))
        ]
        assert not [
            field for row in rows for field in row if field.startswith("-") and not field[1:].isdigit()
        ]


def test_time_and_memory_are_told(batch, capsys):
    with capsys.disabled():
        print(
            f"\n{len(batch.records)} submissions, {len(TRIED)} of them hostile, behind {batch.records[-1]['wall']}: "
            f"{batch.seconds:.0f} s, at most {batch.peak / 1e9:.1f} GB held by the grader and all below it"
        )
    assert batch.seconds > 0 and batch.peak > 0


# ---- the attacks are real ----


@needs_a_wall
@pytest.mark.skipif(
    not LONG, reason="that the attacks are real is tried each night, on a quiet machine: COURSE_LONG=1"
)
def test_without_a_wall_they_get_what_they_look_for():
    """What keeps these from it is the wall alone: not a mistake in how they look for it."""
    batch = Batch(GREEDY, "--unsafe")
    try:
        failed = []
        for name in GREEDY:
            says = submissions.expected(name).get("says", {})
            parts = {task: batch.record(name)["exercises"][task] for task in says}
            if any(says[task] in line for task, part in parts.items() for line in part["lines"]):
                failed.append((name, [part["lines"][-1] for part in parts.values()]))
        assert not failed
        assert {"tcp", "udp", "unix", "unix datagrams", "abstract"} <= set(batch.listeners.seen)
        assert b"CANARY" in b"".join(batch.written().values())
    finally:
        for pid in batch.left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        batch.remove()
