"""What leaves the house: students' zips tell no secret, and Gradescope's zip grades in a copy of its machine."""

import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from utils import course, pages
from utils.grading import gradescope, release
from utils.grading.homework import Stop, load

NAMES = sorted(path.stem.split("_")[0] for path in (pages.ROOT / "solutions").glob("hw*.ipynb"))


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


# ---- the students' zip ----


@pytest.mark.parametrize("name", NAMES)
def test_students_get_the_page_and_no_secret(name, tmp_path):
    homework = load(name)
    files = contents(release.release(homework, tmp_path))
    assert sorted(files) == ["README.txt", homework.path.name]
    source = "\n".join(cell.source for cell in pages.read(homework.path).cells)
    marked = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", re.DOTALL)
    parts, in_the_open = marked.findall(source), pages.squeeze(marked.sub("", source))
    assert len(parts) == 2 * len(homework.exercises)
    told = pages.squeeze(" ".join(pages.strings(json.loads(files[homework.path.name]))) + files["README.txt"])
    for part in parts:
        lines = [pages.squeeze(line) for line in part.splitlines() if len(line.strip()) >= 16]
        secret = [line for line in lines if line not in in_the_open]
        assert secret and not [line for line in secret if line in told]
    for task in homework.written:
        assert pages.squeeze(task.rubric) not in told


def test_the_same_homework_makes_the_same_bytes(tmp_path):
    one, other = (release.release(load("hw07"), tmp_path / name) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {release.EPOCH}
        assert archive.namelist() == sorted(archive.namelist())


def test_a_secret_in_any_file_is_refused():
    homework = load("hw07")
    secret = next(line for _, lines in pages.secrets(pages.read(homework.path)) for line in lines)
    source, page = homework.path.read_bytes(), pages.as_text(homework.released).encode()
    for files in (
        {homework.path.name: source},
        {homework.path.name: page, "README.txt": f"Begin with {secret}".encode()},
        {homework.path.name: page, "hints.txt": f"{secret}\n".encode()},
    ):
        with pytest.raises(pages.Refusal, match="students would read"):
            release.refuse_leaks(files, homework)


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="name another folder"):
        release.release(load("hw07"), tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_the_page_and_the_text_beside_it_know_the_address(tmp_path, monkeypatch):
    homework, address = load("hw07"), "https://example.org/course.git"
    monkeypatch.setenv("COURSE_REPO", address)
    files = contents(release.release(homework, tmp_path))
    page = json.loads(files[homework.path.name])
    first = next("".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code")
    assert first == course.bootstrap(address) and address in first and "OWNER/REPO" not in str(files)
    assert f"git clone -b {course.TAG} --depth 1 {address} course" in files["README.txt"]
    assert homework.released.cells == pages.cut(pages.read(homework.path), homework.path).cells


def test_without_an_address_no_way_that_needs_one_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_REPO", raising=False)
    monkeypatch.setattr(course, "REPO", "https://github.com/OWNER/REPO")
    told = contents(release.release(load("hw07"), tmp_path))["README.txt"]
    assert "OWNER" not in told and "git clone" not in told and "Colab" not in told
    assert "make lab" in told and "your instructor gives you its address" in told


def test_an_address_that_breaks_the_first_cell_is_refused(tmp_path, monkeypatch):
    for address in ('x" + "', "https://a.org; rm -rf x", "--upload-pack=x", "a b"):
        monkeypatch.setenv("COURSE_REPO", address)
        with pytest.raises(Stop, match="COURSE_REPO"):
            release.release(load("hw07"), tmp_path)


def test_beside_a_clone_the_page_opens_without_a_network(tmp_path):
    files = contents(release.release(load("hw14"), tmp_path))
    (tmp_path / "course").symlink_to(pages.ROOT)
    cells = json.loads(files["hw14_t5_and_bart.ipynb"])["cells"]
    first, second = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][:2]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{second}\nimport utils; print(utils.__file__)"],
        cwd=tmp_path,
        env=env | {"COURSE_REPO": str(tmp_path / "nowhere"), "COURSE_ONLINE": "0"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(tmp_path / "course" / "utils" / "__init__.py"), done.stderr


# ---- Gradescope ----


def record_of(homework, wrong=""):
    """A record in which all exercises are right but one."""
    exercises = {}
    for task in homework.exercises:
        right = task.name != wrong
        lines = (
            [f"✓ {task.name}: 9 of 9 cases"] if right else [f"✗ {task.name}: 2 of 5 cases fail", "  → why"]
        )
        exercises[task.name] = {
            "points": task.points * right,
            "of": task.points,
            "verdict": "right" if right else "wrong",
            "lines": lines,
            "mistake": "",
        }
    written = {task.name: {"of": task.points, "text": "one two three"} for task in homework.written}
    return {
        "file": "a.ipynb",
        "reason": "15 of 18 points.",
        "notes": ["A cell was doubled."],
        "exercises": exercises,
        "written": written,
        "seconds": 1.5,
    }


def test_results_are_of_gradescopes_form():
    homework = load("hw07")
    found = gradescope.results(record_of(homework, "typical"), homework)
    assert found["score"] == 18 - next(task.points for task in homework.exercises if task.name == "typical")
    assert found["output"] == "15 of 18 points.\nA cell was doubled." and found["output_format"] == "text"
    graded, written = found["tests"][:-1], found["tests"][-1]
    assert [test["name"] for test in graded] == [task.title for task in homework.exercises]
    assert sum(test["max_score"] for test in graded) == 18
    assert [test["status"] for test in graded].count("failed") == 1
    assert {test["visibility"] for test in found["tests"]} == {"visible"}
    assert {test["output_format"] for test in found["tests"]} == {"text"}
    assert "score" not in written and "A person reads this answer" in written["output"]
    assert "3 words" in written["output"]
    json.dumps(found)


def test_of_two_notebooks_the_better_one_counts_and_the_student_is_told():
    homework = load("hw07")
    chosen = gradescope.best([record_of(homework, "typical"), record_of(homework) | {"file": "b.ipynb"}])
    assert chosen["file"] == "b.ipynb" and "2 notebooks arrived; b.ipynb" in chosen["notes"][0]


def test_the_zip_for_gradescope_holds_what_grades_and_nothing_else(tmp_path):
    path = release.gradescope(load("hw07"), tmp_path)
    with zipfile.ZipFile(path) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    assert path.read_bytes() == release.gradescope(load("hw07"), tmp_path / "again").read_bytes()
    assert [name for name in modes if name.startswith("solutions/")] == ["solutions/hw07_decoding.ipynb"]
    assert {name.split("/")[0] for name in modes} == {
        *("setup.sh", "run_autograder", "pyproject.toml", "constraints.txt"),
        *("utils", "data", "solutions"),
    }
    assert {name.split("/")[2] for name in modes if name.startswith("data/zoo/")} == {"gpt", "SHA256SUMS"}
    assert modes["run_autograder"] == 0o755


def unpacked(name, tmp_path):
    """The folder of a machine of Gradescope's, as its documentation describes it, with this homework's zip in it."""
    path = release.gradescope(load(name), tmp_path)
    machine = tmp_path / "autograder"
    for folder in ("source", "submission", "results"):
        (machine / folder).mkdir(parents=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(machine / "source")
    (machine / "run_autograder").write_bytes((machine / "source" / "run_autograder").read_bytes())
    (machine / "run_autograder").chmod(0o755)
    return machine


def test_the_machine_is_set_up_by_the_courses_own_set_up(tmp_path):
    machine = unpacked("hw14", tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("apt-get", "python3.12"):
        (tools / tool).write_text(f'#!/bin/sh\necho {tool} "$@" >> {tmp_path}/log\n')
        (tools / tool).chmod(0o755)
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "AUTOGRADER": str(machine)}
    subprocess.run(["bash", str(machine / "source" / "setup.sh")], env=env, check=True)
    log = (tmp_path / "log").read_text().splitlines()
    assert log[-1] == "python3.12 utils/setup.py in true"
    assert any("bubblewrap libseccomp2" in line for line in log)
    told = subprocess.run([sys.executable, "utils/setup.py", "help"], cwd=machine / "source", check=False)
    assert told.returncode == 0


def test_run_autograder_grades_one_submission_and_leaves_results(tmp_path):
    homework, machine = load("hw07"), unpacked("hw07", tmp_path)
    env = {
        "PATH": os.environ["PATH"],
        "AUTOGRADER": str(machine),
        "COURSE_PYTHON": sys.executable,
        "COURSE_STATE": str(tmp_path / "state"),
    }

    def graded():
        results = machine / "results" / "results.json"
        results.unlink(missing_ok=True)
        done = subprocess.run(
            [str(machine / "run_autograder")], env=env, cwd=machine, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(results.read_text())

    answers = pages.cut(pages.read(homework.path), homework.path)
    for cell in answers.cells:
        name = pages.graded(cell).get("grade_id")
        if name in homework.solutions and name != "typical":
            cell.source = homework.solutions[name]
        if name == "which-number":
            cell.source = "Self-BLEU falls with the temperature."
    (machine / "submission" / "my page (2).ipynb").write_text(pages.as_text(answers))
    found = graded()
    typical = next(test for test in found["tests"] if "○ typical: not written yet" in test["output"])
    assert found["score"] == 15 and typical["score"] == 0 and typical["status"] == "failed"
    assert [test["status"] for test in found["tests"][:-1]].count("passed") == 6
    assert "5 words arrived" in found["tests"][-1]["output"]
    (machine / "submission" / "my page (2).ipynb").unlink()
    nothing = graded()
    assert nothing["score"] == 0 and "notebook" in nothing["output"]
