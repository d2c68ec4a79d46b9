"""On a Dask cluster the grades are those of this machine; what a cluster lacks is said in one sentence."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from utils import pages
from utils.grading import Stop, executors, grade
from utils.grading.homework import load

distributed = pytest.importorskip("distributed", reason="Dask is not installed here: `make test` installs it")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler with two workers, each a process of its own with one thread."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


def address(cluster):
    return cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture(scope="module")
def submissions(tmp_path_factory):
    """Four students: all right, nothing written, two mistakes, and a file that is no notebook."""
    folder, homework = tmp_path_factory.mktemp("submissions"), load("hw14")
    released, mistaken = homework.released, pages.nbformat.from_dict(homework.released)
    for cell in mistaken.cells:
        name = pages.graded(cell).get("grade_id")
        cell.source = homework.solutions.get(name, cell.source)
        if name == "prefix_mask":
            cell.source = cell.source.replace("return", "while True:\n        pass\n    return", 1)
        if name == "fill_in":
            cell.source = cell.source.replace("return", "return []\n    return", 1)
    (folder / "ada.ipynb").write_text(homework.path.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "bob.ipynb").write_text(pages.as_text(released), encoding="utf-8")
    (folder / "cleo.ipynb").write_text(pages.as_text(mistaken), encoding="utf-8")
    (folder / "dora.ipynb").write_text("<!doctype html>", encoding="utf-8")
    return folder


def graded(folder, out, name):
    """What grades.json says of a class graded by this executor, but for the time that it took."""
    with executors.opened(name, jobs=2) as executor:
        grade.grade("hw14", folder, out, executor, limits={"seconds": 10}, quiet=True)
    told = json.loads((out / "grades.json").read_text(encoding="utf-8"))
    return [{key: part for key, part in one.items() if key != "seconds"} for one in told["students"]]


def test_two_workers_give_the_grades_that_this_machine_gives(cluster, submissions, tmp_path):
    here = graded(submissions, tmp_path / "here", "local")
    there = graded(submissions, tmp_path / "there", address(cluster))
    assert here == there
    points = {one["student"]: sum(part["points"] for part in one["exercises"].values()) for one in here}
    assert points["ada"] == 18 and points["bob"] == points["dora"] == 0 and 0 < points["cleo"] < 18
    assert {part["verdict"] for one in here for part in one["exercises"].values()} >= {
        *("right", "wrong", "empty", "late", "missing")
    }
    for name in ("grades.csv", "written.csv"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_both_workers_work(cluster):
    with executors.opened(address(cluster)) as executor:
        assert executor.at_once == 4
        assert len(executor.client.nthreads()) == 2


# ---- what may be missing ----


def refusal(name):
    with pytest.raises(Stop) as stop, executors.opened(name):
        pass
    return str(stop.value)


def test_another_name_is_no_executor():
    assert "there are local and dask://host:port" in refusal("ray://here")


def test_without_dask_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install -c constraints.txt" in refusal("dask://127.0.0.1:1")


@pytest.mark.parametrize("name", ["dask://127.0.0.1:1", "dask://no.such.machine.invalid:8786", "dask://"])
def test_a_scheduler_that_does_not_answer(name):
    told = refusal(name)
    assert told.startswith(f"No Dask scheduler answers at {name}") and "dask_scheduler" in told


@contextlib.contextmanager
def worker(scheduler, folder):
    """A worker that was started in this folder."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.scheduler_address]
    options = ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    process = subprocess.Popen([*command, *options], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        at = scheduler.scheduler_address
        with distributed.Client(at, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler():
    """A scheduler without any worker."""
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0", processes=True) as cluster:
        yield cluster


def test_no_workers(scheduler):
    assert "has no workers" in refusal(address(scheduler))


def test_a_worker_without_the_course(scheduler, tmp_path):
    with worker(scheduler, tmp_path):
        assert "lacks the course" in refusal(address(scheduler))


def test_a_worker_with_another_version_of_the_course(scheduler, tmp_path):
    shutil.copytree(pages.ROOT / "utils", tmp_path / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "utils" / "check.py", "a", encoding="utf-8") as file:
        file.write("# one line more\n")
    with worker(scheduler, tmp_path):
        assert "another version of the course" in refusal(address(scheduler))


def test_a_scheduler_without_the_course(tmp_path):
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    where = tmp_path / "scheduler.json"
    process = subprocess.Popen(
        [*command, "--scheduler-file", str(where)], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if where.exists() and where.read_text():
                break
            time.sleep(0.1)
        at = json.loads(where.read_text())["address"]
        with worker(SimpleNamespace(scheduler_address=at), pages.ROOT):
            assert "The scheduler lacks the course" in refusal(at.replace("tcp://", "dask://"))
    finally:
        process.kill()
        process.wait()


def test_an_accident_on_a_worker_costs_one_page_and_not_the_class(cluster):
    with executors.opened(address(cluster)) as executor, pytest.raises(executors.Accident):
        executor.run(b"no job at all")


def test_when_all_workers_are_gone_the_run_ends_with_a_sentence(scheduler, monkeypatch):
    monkeypatch.setattr(executors, "LOOK", 0.2)
    with worker(scheduler, pages.ROOT) as process, executors.opened(address(scheduler)) as executor:
        process.kill()
        with pytest.raises(Stop, match="no workers left"):
            executor.run(b"never answered")
