"""An instructor sees the case at which an answer fails, though it stands on no page."""

import pytest

from utils import pages
from utils.grading import Stop, __main__, appeal, executors, wall
from utils.grading.homework import load


@pytest.mark.skipif(
    bool(wall.lacking("bubblewrap") and wall.lacking("landlock")), reason="no wall holds here"
)
def test_the_hidden_case_is_shown(tmp_path, capsys):
    homework = load("hw14")
    exercise = next(task for task in homework.exercises if task.name == "prefix_mask")
    shapes = [case.args for case in exercise.public.cases]
    nb = pages.read(homework.path)
    cell = next(cell for cell in nb.cells if pages.graded(cell).get("grade_id") == "prefix_mask")
    cell.source += f"""

right = prefix_mask


def prefix_mask(*args):
    return right(*args) if list(args) in {shapes!r} else right(*args)[:0]
"""
    (tmp_path / "ada.ipynb").write_text(pages.as_text(nb), encoding="utf-8")
    assert __main__.main(["appeal", "hw14", str(tmp_path / "ada.ipynb")]) == 0
    told = capsys.readouterr().out
    n_wrong = len(exercise.hidden.cases) - len(shapes)
    assert f"✗ prefix_mask: {n_wrong} of {len(exercise.hidden.cases)} cases fail" in told
    assert "expected" in told and told.count("✓") == len(homework.exercises) - 1


def test_what_is_no_notebook_is_said(tmp_path):
    (tmp_path / "page.ipynb").write_text("<!doctype html>")
    with executors.opened("local", 1, "none") as executor:
        for file in (tmp_path / "page.ipynb", tmp_path / "nowhere.ipynb"):
            with pytest.raises(Stop):
                appeal.appeal("hw14", file, executor)
