"""What goes wrong on students' machines, made to go wrong: each gets a sentence, nothing is half-written."""

import ast
import asyncio
import ctypes
import functools
import hashlib
import http.server
import importlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from utils import course, data, pages, setup, train

ROOT = course.root()


def in_child(job, *arguments, kill_when=None):
    """Run `job` in a process of its own; its result, or the error that it raised. None if it was killed."""
    inbox, outbox = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inbox)
        try:
            said = job(*arguments)
        except BaseException as error:
            said = error
        with open(outbox, "wb") as pipe:
            pickle.dump(said if not isinstance(said, Exception) else (type(said).__name__, str(said)), pipe)
        os._exit(0)
    os.close(outbox)
    if kill_when is not None:
        kill_when()
        os.kill(child, signal.SIGKILL)
    with open(inbox, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(said) if said and kill_when is None else None


def small_disk(folder, options):
    """Put a small disk at `folder` for this process alone; False where the system does not allow it."""
    if not sys.platform.startswith("linux"):
        return False
    libc, user = ctypes.CDLL(None, use_errno=True), os.getuid()
    new_mounts, new_user, private = 0x00020000, 0x10000000, 0x44000
    if libc.unshare(new_mounts | (new_user if user else 0)):
        return False
    if user:
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    libc.mount(None, b"/", None, private, None)
    return libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options.encode()) == 0


# 8, 10: a disk without room


def write_on_a_small_disk(folder, options, free, write):
    """What `write(folder)` says on a small disk with `free` bytes left, and the files that are there afterwards."""
    if not small_disk(folder, options):
        return "not allowed here", []
    (folder / "old.pt").write_bytes(b"old")
    if free is not None:
        room = os.statvfs(folder)
        (folder / "filler").write_bytes(b"x" * (room.f_bavail * room.f_frsize - free))
    try:
        write(folder)
        said = "written"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    return said, sorted(path.name for path in folder.iterdir())


def checkpoint(folder):
    train.save(folder, 7, nn.Linear(1000, 500), [], [])  # 2 MB


def model(folder):
    from safetensors.torch import save_file

    with course.atomic(folder / "old.pt") as path:
        save_file({"weight": torch.zeros(500_000)}, path)


def text(folder):
    with course.atomic(folder / "old.pt") as path:
        path.write_text("a" * 2_000_000, encoding="utf-8")


def from_the_net(folder, address):
    data.fetch("the digits", address, folder / "digits")


@pytest.mark.parametrize("free", [200_000, 1_800_000])
@pytest.mark.parametrize("write", [checkpoint, model, text])
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, write, free):
    said, files = in_child(write_on_a_small_disk, tmp_path, "size=8m", free, write)
    if said == "not allowed here":
        pytest.skip(said)
    assert said.startswith(f"OSError: [Errno 28] Not enough space in {tmp_path} (")
    assert said.endswith(
        "MB free): remove some files there, or set COURSE_STATE to a folder on another disk."
    )
    assert files == ["filler", "old.pt"]


def test_a_disk_without_room_for_one_more_file_is_named(tmp_path):
    said, files = in_child(write_on_a_small_disk, tmp_path, "size=8m,nr_inodes=2", None, text)
    if said == "not allowed here":
        pytest.skip(said)
    assert f"No more files fit into {tmp_path}: remove some there" in said and files == ["old.pt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch, step):
    (tmp_path / "old.pt").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(course.os, step, full)
    with pytest.raises(OSError, match="Not enough space in .*set COURSE_STATE to a folder on another disk"):
        text(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"] and (
        tmp_path / "old.pt"
    ).read_text() == "old"


def test_sixty_four_open_files_are_enough():
    code = "from utils import course, zoo; course.begin(); print(type(zoo.load('gpt-200k')[0]).__name__)"
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, preexec_fn=limit, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "GPT\n" and not done.stderr


# 9: folders of others


def as_plain_user(job, *arguments):
    """Run `job` as a user without rights."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    return job(*arguments)


@pytest.fixture
def public():
    """A folder that everybody may look into, and nobody else may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_of_somebody_else_is_named(public):
    name, said = in_child(as_plain_user, text, public)
    assert (
        name == "PermissionError"
        and f"{public} cannot be written by you: allow it, or set COURSE_STATE" in said
    )
    assert list(public.iterdir()) == []


def where_to_write(home):
    os.environ.update(HOME=str(home))
    os.environ.pop("XDG_CACHE_HOME", None), os.environ.pop("COURSE_STATE", None)
    course.state.cache_clear()
    sys.stderr = io.StringIO()
    return str(course.state()), sys.stderr.getvalue()


def test_a_home_that_cannot_be_written_is_passed_over_and_said(public):
    folder, said = in_child(as_plain_user, where_to_write, public)
    assert Path(folder).parent == Path(tempfile.gettempdir()) and Path(folder).name.startswith(setup.NAME)
    assert said == f"No cache folder can be written, so what the course writes goes to {folder}.\n"


# 1 to 4, 6, 7: downloads


CONTENT = random.Random(0).randbytes(300_000)


class Shelf(http.server.BaseHTTPRequestHandler):
    """Gives CONTENT in one of several bad ways; /once breaks the line the first time only."""

    broken = 0

    def do_GET(self):
        way, start = self.path[1:], 0
        if way.isdigit():
            return self.send_error(int(way))
        if way == "silent":
            return time.sleep(3)
        content = b"<html>Sign in</html>" if way == "html" else CONTENT
        if (wanted := self.headers.get("Range")) and way != "no-ranges":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if way == "slow":
            for at in range(0, len(content), 3000):
                self.wfile.write(content[at : at + 3000])
                time.sleep(0.02)
            return
        breaks = way == "always" or way in ("once", "no-ranges") and Shelf.broken == 0
        Shelf.broken += 1
        self.wfile.write(content[start:120_000] if breaks else content[start:])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def shelf():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("way", ["once", "no-ranges", "whole"])
def test_a_line_that_breaks_is_taken_up_where_it_broke(shelf, tmp_path, way):
    Shelf.broken = 0
    data.fetch("the digits", f"{shelf}/{way}", tmp_path / "digits")
    assert sha256(tmp_path / "digits") == hashlib.sha256(CONTENT).hexdigest() and files_of(tmp_path) == [
        "digits"
    ]
    assert Shelf.broken == (1 if way == "whole" else 2)


@pytest.mark.parametrize(
    "way, sentence",
    [
        ("always", "The download of the digits stopped at 40 %: run the cell again."),
        ("silent", "The digits could not be fetched from .*silent: timed out"),
        *(
            (str(code), f"could not be fetched from .*: {why}")
            for code, why in {
                403: "Forbidden",
                404: "Not Found",
                429: "Too Many Requests",
                503: "Service Unavailable",
            }.items()
        ),
    ],
)
def test_a_download_that_fails_says_how_and_leaves_nothing(shelf, tmp_path, way, sentence):
    began = time.monotonic()
    with pytest.raises(data.DataError, match=sentence) as error:
        data.fetch("the digits", f"{shelf}/{way}", tmp_path / "digits", seconds=0.5)
    assert files_of(tmp_path) == [] and time.monotonic() - began < 3 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/x", "http://no-such-host.invalid/x", "https://127.0.0.1:9/x"]
)
def test_nobody_there_says_so_soon(tmp_path, address):
    began = time.monotonic()
    with pytest.raises(data.DataError, match="The digits could not be fetched from"):
        data.fetch("the digits", address, tmp_path / "digits", seconds=2)
    assert files_of(tmp_path) == [] and time.monotonic() - began < 10


def test_a_certificate_that_nobody_trusts_is_said(tmp_path, shelf):
    with pytest.raises(data.DataError, match="could not be fetched from https.*SSL"):
        data.fetch("the digits", shelf.replace("http:", "https:") + "/whole", tmp_path / "digits", seconds=2)


def digits(takes=1):
    """An archive in the form of the spoken digits, with sounds of noise."""
    import wave

    archive, noise = io.BytesIO(), random.Random(0)
    with tarfile.open(fileobj=archive, mode="w:gz") as files:
        for digit in range(10):
            content = io.BytesIO()
            with wave.open(content, "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                sound.writeframes(noise.randbytes(4000))
            entry = tarfile.TarInfo(f"set/recordings/{digit}_ann_0.wav")
            entry.size = content.tell()
            content.seek(0)
            files.addfile(entry, content)
    return archive.getvalue()


def flipped(content):
    """The same with one bit turned over in its middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda content: content[:9000], lambda content: b"<html>Sign in</html>", lambda content: b""],
)
def test_a_kept_file_that_is_damaged_is_thrown_away_and_fetched_again(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(course, "state", lambda: tmp_path / "state")
    (tmp_path / "state").mkdir()
    (tmp_path / "there.tar.gz").write_bytes(digits())
    monkeypatch.setattr(data, "DIGITS", (tmp_path / "there.tar.gz").as_uri())
    (tmp_path / "state" / "spoken_digits_1.0.9.tar.gz").write_bytes(damage(digits()))
    with pytest.raises(data.DataError, match="came damaged and were thrown away: run the cell again"):
        data.spoken_digits()
    assert files_of(tmp_path / "state") == []
    assert len(data.spoken_digits()) == 10


def test_a_download_that_is_killed_leaves_no_file_and_the_next_is_whole(shelf, tmp_path):
    job = functools.partial(data.fetch, "the digits", f"{shelf}/slow", tmp_path / "digits")
    in_child(job, kill_when=lambda: time.sleep(0.5))
    left = files_of(tmp_path)
    assert "digits" not in left and all(name.endswith(".tmp") for name in left)
    old = time.time() - 7200
    for name in left:
        os.utime(tmp_path / name, (old, old))
    data.fetch("the digits", f"{shelf}/whole", tmp_path / "digits")
    assert (
        files_of(tmp_path) == ["digits"]
        and sha256(tmp_path / "digits") == hashlib.sha256(CONTENT).hexdigest()
    )


def test_two_kernels_that_fetch_the_same_file_both_get_it(shelf, tmp_path):
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            try:
                data.fetch("the digits", f"{shelf}/slow", tmp_path / "digits")
                os._exit(0 if (tmp_path / "digits").read_bytes() == CONTENT else 1)
            finally:
                os._exit(2)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert files_of(tmp_path) == ["digits"]


# 11, 12, 22, 23: training


def tiny(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3))


def save(folder, step, model):
    train.save(folder, step, model, [], [{"step": n + 1} for n in range(step)])


DAMAGES = {
    "another size": (lambda s: None, 5, r"holds 0\.bias as \(4,\), and the model has \(5,\)"),
    "not a number": (
        lambda s: s["model"]["1.weight"][0].fill_(float("nan")),
        4,
        "1.weight that are not numbers",
    ),
    "a part is missing": (lambda s: s["model"].pop("1.bias"), 4, "lacks 1.bias"),
    "a part too many": (lambda s: s["model"].update(extra=torch.ones(2)), 4, "also holds extra"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_checkpoint_of_another_run_is_refused_before_anything_is_filled(tmp_path, name):
    damage, width, sentence = DAMAGES[name]
    save(tmp_path, 3, tiny())
    path = tmp_path / "step-000003.pt"
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    model = tiny(seed=1, width=width)
    before = [p.detach().clone() for p in model.parameters()]
    said = f"step 3 in {tmp_path} .*{sentence}.*: give another folder"
    with pytest.raises(train.CheckpointError, match=said) as error:
        train.resume(tmp_path, model, [])
    assert "\n" not in str(error.value) and all(map(torch.equal, before, model.parameters()))


def test_a_checkpoint_of_an_older_form_is_passed_over(tmp_path, capsys):
    save(tmp_path, 3, tiny())
    torch.save({"model": tiny().state_dict()}, tmp_path / "step-000009.pt")
    assert train.resume(tmp_path, tiny(seed=1), [])[0] == 3
    assert "step-000009.pt cannot be read (KeyError): the one before it is used." in capsys.readouterr().out


def save_for_ever(folder, first):
    model = tiny()
    for step in range(first, 10**6):
        nn.init.constant_(model[0].weight, step)
        save(folder, step, model)


def test_fifty_kills_while_saving_leave_a_checkpoint_that_loads_each_time(tmp_path):
    rng, step, model = random.Random(0), 1, tiny()
    nn.init.constant_(model[0].weight, 1)
    save(tmp_path, 1, model)
    for _ in range(50):
        seen = step

        def when(seen=seen):
            """Some milliseconds after the first save, so somewhere in one of the next."""
            end = time.monotonic() + 20
            while max(tmp_path.glob("step-*.pt")).name <= f"step-{seen:06d}.pt" and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))

        in_child(save_for_ever, tmp_path, step + 1, kill_when=when)
        found = train.newest(tmp_path)
        assert found["step"] >= step and (found["model"]["0.weight"] == found["step"]).all()
        step = found["step"]
    assert step > 50


class Counted:
    """Batches of a small language model that stop, as the stop button does, before one step."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def __call__(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        ids = torch.randint(61, (4, 17), generator=torch.Generator().manual_seed(step))
        return ids[:, :-1], ids[:, 1:]


def language_model():
    from utils.lessons.gpt import GPT, GPTConfig

    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=61, n_positions=16, n_layers=1, n_heads=2, d_model=16))


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, capsys):
    whole = language_model()
    losses = [entry["loss"] for entry in train.fit(whole, Counted(), 12, warmup=2)]
    stopped = language_model()
    with pytest.raises(KeyboardInterrupt):
        train.fit(stopped, Counted(stop_at=7), 12, tmp_path, warmup=2, seconds=0)
    with torch.no_grad():  # the model in memory can be used
        assert stopped(torch.ones(1, 5, dtype=torch.int64)).isfinite().all()
    again = language_model()
    log = train.fit(again, Counted(), 12, tmp_path, warmup=2, seconds=0)
    assert [entry["loss"] for entry in log] == losses and [entry["step"] for entry in log] == [*range(1, 13)]
    assert all(map(torch.equal, whole.parameters(), again.parameters()))
    assert f"Going on after step 7 of 12, where the run in {tmp_path} stopped." in capsys.readouterr().out
    assert len(train.fit(stopped, Counted(), 3, warmup=2)) == 3  # and so can one without a folder


# 13, 15, 16: languages, line ends, clocks


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932"])
def test_a_terminal_that_cannot_print_a_letter_prints_another(tmp_path, encoding):
    code = """
        from utils import course; course.begin()
        from utils import data
        print(course.Report([course.Row("state", "✓ ☃ é", False, "→ 日本")]))
        print(len(data.reviews()), len(data.senses()), data.TRANSLATIONS["Thai"])
    """
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "TZ": "Asia/Kolkata",
    }
    env |= {"PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    script = tmp_path / "été.py"
    script.write_text(
        "import sys; sys.path.insert(0, " + ascii(str(ROOT)) + ")\n" + code.replace(" " * 8, ""), "utf-8"
    )
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True)
    assert done.returncode == 0 and b"3360 240" in done.stdout, done.stderr.decode("ascii", "replace")


def without_encoding(source):
    """The lines of this source that open a text file or a process in whatever encoding the machine has."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        words = [getattr(argument, "value", None) for argument in [*node.args, *given.values()]]
        binary = any(isinstance(word, str) and "b" in word and len(word) <= 3 for word in words)
        is_file = (
            isinstance(node.func, ast.Name) or getattr(getattr(node.func, "value", None), "id", "") == "io"
        )
        opens = name == "open" and is_file and not binary
        reads = name in ("read_text", "write_text") and len(node.args) < (2 if name == "write_text" else 1)
        runs = name in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & given.keys()
        if (opens or reads or runs) and "encoding" not in given:
            found.append(node.lineno)
    return found


def test_every_text_is_read_and_written_in_utf_8():
    planted = (
        'open("a")\nPath(p).read_text()\np.write_text(t)\nopen("b", "rb")\np.read_text(encoding="utf-8")\n'
    )
    assert without_encoding(planted + "subprocess.run(w, text=True)\ntarfile.open(p)") == [1, 2, 3, 6]
    files = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("utils/**/*.py")}
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*.ipynb")]:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        files[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    wrong = {path.name: lines for path, source in files.items() if (lines := without_encoding(source))}
    assert wrong == {}


def test_line_ends_of_windows_reach_no_file():
    archive = [
        "archive",
        "--format=tar",
        "HEAD",
        "utils",
        ":(glob)data/*.*",
        "data/zoo/gpt-200k",
        "constraints.txt",
    ]
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this copy of the course has no history")
    here, windows = (
        tarfile.open(
            fileobj=io.BytesIO(subprocess.run(["git", *words], cwd=ROOT, capture_output=True).stdout)
        )
        for words in (archive, settings + archive)
    )
    names = here.getnames()
    assert len(names) > 60 and windows.getnames() == names
    same = lambda name: here.extractfile(name).read() == windows.extractfile(name).read()
    assert [name for name in names if here.getmember(name).isfile() and not same(name)] == []


# 19, 21, 24: pages


def import_without(*absent):
    """What the widgets know of ipywidgets where some packages are absent."""
    sys.modules.update(dict.fromkeys(absent))
    del sys.modules["utils.widgets"]
    return importlib.import_module("utils.widgets").ipywidgets


def test_the_widgets_can_be_imported_where_no_widget_package_is():
    from utils import widgets

    assert widgets.ipywidgets is not None
    assert in_child(import_without, "ipywidgets", "anywidget") is None


def test_a_page_that_runs_twice_in_one_kernel_says_the_same():
    path = ROOT / "solutions" / "hw01_tokens.ipynb"
    nb = pages.read(path)
    free = [pages.FREE in pages.tags(cell) for cell in pages.code_cells(nb)]
    again = nbformat.from_dict({**nb, "cells": [dict(cell) for cell in nb.cells]})
    nb.cells += again.cells
    asyncio.run(pages.execute(nb, path, 120))
    cells = pages.code_cells(pages.normalise(nb))
    shown = [[{**out, "execution_count": 0} for out in cell.outputs] for cell in cells]
    half = len(cells) // 2
    assert half == len(free) and sum(free) < half
    different = [n for n in range(half) if not free[n] and shown[n] != shown[half + n]]
    assert different == []
