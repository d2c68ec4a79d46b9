"""On Gradescope: grade the one submission that lies there, and say the result in Gradescope's form.

python -m utils.grading.gradescope hw07     called by run_autograder; AUTOGRADER is the folder, /autograder by default
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from utils import course
from utils.grading.homework import Stop, load

NOTHING = "No notebook arrived: hand in the page with your answers, one file that ends in .ipynb."


def results(record, homework):
    """What results.json must hold for this record: a test for each exercise, a line for each written answer."""
    tests = [exercise_test(task, record["exercises"][task.name]) for task in homework.exercises]
    tests += [written_line(task, record["written"].get(task.name, {})) for task in homework.written]
    return {
        "score": earned(record),
        "output": "\n".join([record["reason"], *record["notes"]]),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def exercise_test(task, found):
    """One exercise, in the words of its check."""
    return {
        "name": task.title,
        "score": found["points"],
        "max_score": found["of"],
        "status": "passed" if found["points"] == found["of"] else "failed",
        "output": "\n".join(found["lines"]),
        "output_format": "text",
        "visibility": "visible",
    }


def written_line(task, found):
    """One written answer: no score, for a person gives it."""
    words = len(found.get("text", "").split())
    arrived = f"{words} words arrived." if words else "Nothing was written."
    return {
        "name": task.title,
        "output": f"A person reads this answer and gives up to {task.points:g} points. {arrived}",
        "output_format": "text",
        "visibility": "visible",
    }


def earned(record):
    """The points of a record that the grader gave."""
    return sum(part["points"] for part in record["exercises"].values())


def best(records):
    """Of several notebooks in one submission the one that earned most counts, and the student is told."""
    chosen = max(records, key=earned)
    if len(records) > 1:
        note = f"{len(records)} notebooks arrived; {chosen['file']}, which earned most, counts."
        chosen = chosen | {"notes": [note, *chosen["notes"]]}
    return chosen


def graded(name, folder):
    """The records of what lies in a folder, none where nothing does."""
    from utils.grading import executors
    from utils.grading.grade import grade

    if not any(path.is_file() for path in folder.rglob("*")):
        return []
    with tempfile.TemporaryDirectory() as out, executors.opened("local", 1) as executor:
        return grade(name, folder, out, executor, quiet=True)


def main(words):
    """Grade what lies in the submission's folder; the exit status, which Gradescope shows where no results came."""
    (name,) = words
    folder = Path(os.environ.get("AUTOGRADER", "/autograder"))
    try:
        records = graded(name, folder / "submission")
    except Stop as stop:  # of the machine, not of the submission: no score, so that nobody gets a zero for it
        print(stop, file=sys.stderr)
        return 2
    found = results(best(records), load(name)) if records else {"score": 0, "output": NOTHING}
    with course.atomic(folder / "results" / "results.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(found["output"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
