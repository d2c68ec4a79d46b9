"""Honest but odd notebooks go through the whole grader, and none loses a point."""

import pytest

from utils.grading import executors, grade, homework, runner, wall

from .odd import ODD, solved

HOMEWORK = "hw07"
pytestmark = pytest.mark.skipif(
    all(wall.lacking(name) for name in ("bubblewrap", "landlock")),
    reason="no wall holds on this machine, so nothing is graded on it",
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """{what happened to the page: its record}, all graded as one class."""
    folder, hw = tmp_path_factory.mktemp("odd"), homework.load(HOMEWORK)
    names = {f"student{number:02d}": name for number, name in enumerate(ODD)}
    (folder / "in").mkdir()
    for student, name in names.items():
        (folder / "in" / f"{student}.ipynb").write_bytes(ODD[name](solved(hw)))
    found = grade.grade(HOMEWORK, folder / "in", folder / "out", executors.Local(2), quiet=True)
    runner.close_all()
    assert len(found) == len(names) >= 20
    return {names[record["student"]]: record for record in found}


@pytest.mark.parametrize("name", ODD)
def test_none_loses_a_point(name, records):
    lost = {
        key: part["lines"] for key, part in records[name]["exercises"].items() if part["points"] < part["of"]
    }
    assert not lost and records[name]["reason"].startswith("18 of 18 points")


@pytest.mark.parametrize("name", ODD)
def test_the_written_answer_is_found(name, records):
    assert records[name]["written"]["which-number"]["text"]
