"""A machine that is slow to build its walls takes no points from anybody."""

import time

import pytest

from utils import pages
from utils.grading import executors, grade, runner, wall
from utils.grading.homework import is_exercise, load

no_wall = pytest.mark.skipif(
    bool(wall.lacking("bubblewrap") and wall.lacking("landlock")), reason="no wall holds here"
)


@no_wall
def test_a_call_does_not_pay_for_the_wall_around_its_stand_in(tmp_path, monkeypatch):
    """`beam_search` is right and calls a wrong `beam_step`: its stand-in starts for longer than a call may last."""
    start, seconds = runner.Parent.__init__, 4

    def slow(self, job):
        start(self, job)
        time.sleep(seconds + 1)

    monkeypatch.setattr(runner.Parent, "__init__", slow)
    homework = load("hw07")
    nb = pages.read(homework.path)
    for cell in filter(is_exercise, nb.cells):
        if pages.graded(cell)["grade_id"] == "beam_step":
            cell.source += "\n\nright = beam_step\n\n\ndef beam_step(*args):\n    return right(*args)[:1]\n"
    (tmp_path / "ada.ipynb").write_text(pages.as_text(nb), encoding="utf-8")
    limits = {"seconds": seconds}
    with executors.opened("local", 1) as executor:
        (record,) = grade.grade(
            "hw07", tmp_path / "ada.ipynb", tmp_path / "out", executor, limits=limits, quiet=True
        )
    verdicts = {name: part["verdict"] for name, part in record["exercises"].items()}
    assert verdicts.pop("beam_step") == "wrong"
    assert set(verdicts.values()) == {"right"}, verdicts
