"""Not a test: a class is graded by us and by nbgrader, one after the other; time, memory, and whether they agree.

.venv/bin/python -m tests.test_grading.against_nbgrader [STUDENTS [HOMEWORK]]      by default 100 of hw07
"""

import csv
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.test_grading.test_verdicts import as_cell
from tests.wrong_answers import wrong_answers
from utils import pages
from utils.grading.homework import find, is_exercise

PATIENT = """
c = get_config()
c.CourseDirectory.course_id = "course"
c.ExecutePreprocessor.timeout = c.ExecutePreprocessor.iopub_timeout = 300
"""


def classroom(folder, n_students, name):
    """Notebooks of a class: four in ten solved, one untouched, five with one to three wrong answers."""
    path, rng = find(name), random.Random(0)
    folder.mkdir()
    for number in range(n_students):
        nb = pages.read(path)
        if number % 10 == 9:
            nb = pages.cut(nb, path)
        elif number % 10 > 3:
            chosen = {wrong.exercise: wrong for wrong in rng.sample(wrong_answers(name), 1 + number % 3)}
            for cell in filter(is_exercise, nb.cells):
                wrong = chosen.get(pages.graded(cell)["grade_id"])
                cell.source = as_cell(wrong) if wrong else cell.source
        (folder / f"s{number:03}.ipynb").write_text(pages.as_text(nb), encoding="utf-8")


def measured(command, folder):
    """(seconds, processor seconds, peak bytes) of a command and all below it; memory that is shared counts once."""
    used, gone, peak, started = 0, 0, 0, time.monotonic()
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", OMP_NUM_THREADS="1")
    with open(folder / "log.txt", "ab") as log:
        process = psutil.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(0.5)
            seconds, memory = in_use(process)
            gone += max(0, used - seconds) if seconds else 0  # what a killed process had used
            used, peak = seconds or used, max(peak, memory)
    if process.returncode:
        print(f"{command[0]} ended with {process.returncode}: see", shutil.copy(folder / "log.txt", "/tmp"))
    return time.monotonic() - started, used + gone, peak


def in_use(process):
    """Processor seconds and bytes of a process and all below it, with the seconds of those that have ended."""
    seconds, memory = 0, 0
    for one in (process, *process.children(recursive=True)):
        try:
            seconds, memory = seconds + sum(one.cpu_times()[:4]), memory + one.memory_full_info().pss
        except psutil.Error:
            pass  # it has ended meanwhile
    return seconds, memory


def by_us(submissions, folder, name):
    """Our grader's figures and {student: points}."""
    out = folder / "ours"
    shutil.rmtree(out, ignore_errors=True)
    line = [sys.executable, "-m", "utils.grading", "grade", name, str(submissions), "--out", str(out)]
    found = measured(["env", f"PYTHONPATH={pages.ROOT}", *line], folder)
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return found, {row["student"]: float(row["points"]) for row in csv.DictReader(file)}


def by_nbgrader(submissions, folder, name):
    """nbgrader's figures and {student: points}; what it makes for students is not counted."""
    path = find(name)
    (folder / "nbgrader_config.py").write_text(PATIENT)
    (folder / "source" / name).mkdir(parents=True)
    shutil.copy(path, folder / "source" / name)
    for one in submissions.iterdir():
        (folder / "submitted" / one.stem / name).mkdir(parents=True)
        shutil.copy(one, folder / "submitted" / one.stem / name / path.name)
    (folder / "autograded").mkdir()
    (folder / "autograded" / "utils").symlink_to(pages.ROOT / "utils")
    measured(["nbgrader", "generate_assignment", name, "--create"], folder)
    found = measured(["nbgrader", "autograde", name], folder)
    measured(["nbgrader", "export"], folder)
    with open(folder / "grades.csv", newline="") as file:
        return found, {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


def told(who, found, n_students):
    seconds, used, peak = found
    print(
        f"{who:9} {seconds:7.0f} s   {seconds / n_students:5.2f} s each   processor {used:6.0f} s   "
        f"memory {peak / 1e6:6.0f} MB   load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main(n_students=100, name="hw07"):
    with tempfile.TemporaryDirectory() as temporary:
        folder, n_students = Path(temporary), int(n_students)
        classroom(folder / "in", n_students, name)
        figures, ours = by_us(folder / "in", folder, name)
        told("we", figures, n_students)
        theirs, points = by_nbgrader(folder / "in", folder, name)
        told("nbgrader", theirs, n_students)
        figures, again = by_us(folder / "in", folder, name)
        told("we again", figures, n_students)
        differ = {student for student in ours if ours[student] != points.get(student)}
        print(f"the same points for {n_students - len(differ)} of {n_students}", sorted(differ) or "")
        assert ours == again


if __name__ == "__main__":
    main(*sys.argv[1:])
