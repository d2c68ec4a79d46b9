"""For the hour of appeals: one submission, and of each exercise the case at which it fails, those off the page too."""

from dataclasses import replace
from pathlib import Path

from utils.grading import Stop
from utils.grading.grade import Verdicts
from utils.grading.homework import load
from utils.grading.repair import Unreadable, repair, worth
from utils.grading.runner import LIMITS


def appeal(name, file, executor, wall=None):
    """What the checks say of one notebook, as lines: all cases are treated like those of the page.

    The lines hold arguments and expected answers of hidden cases: they are for the instructor.
    """
    homework = load(name)
    told = replace(homework, exercises=tuple(replace(one, public=one.hidden) for one in homework.exercises))
    try:
        page = repair(Path(file).read_bytes(), homework)
    except Unreadable as unreadable:
        raise Stop(str(unreadable)) from None
    except OSError as error:
        raise Stop(f"{file} cannot be read ({error.strerror}): name one notebook.") from None
    if not worth(Path(file).read_bytes(), homework)[0]:
        raise Stop(f"{file} holds no exercise of {homework.name}: name the homework that it is.")
    found, _ = Verdicts(told, page, executor, wall, LIMITS).all()
    return [*page.notes, *(line for part in found.values() for line in part["lines"])]
