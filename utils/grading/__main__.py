"""Graded homework, from handing it out to the grades.

python -m utils.grading grade hw07 FOLDER --out OUT     grade a folder of submissions
python -m utils.grading appeal hw07 FILE                one notebook, with the cases at which it fails
python -m utils.grading release hw07 --out DIR          the zip for students
python -m utils.grading gradescope hw07 --out DIR       the zip that grades on Gradescope
"""

import argparse
import sys

from utils import check, pages
from utils.grading import Stop, appeal, executors, grade, release, wall
from utils.grading.homework import load
from utils.grading.runner import LIMITS


def main(arguments=None):
    """The command line; the exit code is 2 where something is wrong that one sentence tells."""
    options = parser().parse_args(arguments)
    try:
        return options.do(options)
    except (Stop, pages.Refusal) as stop:
        print(stop, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. What is graded is kept: the same command goes on from there.", file=sys.stderr)
        return 130


def parser():
    made = argparse.ArgumentParser(prog="python -m utils.grading", description="Graded homework.")
    verbs = made.add_subparsers(required=True, metavar="VERB")
    one = verbs.add_parser("grade", help="grade a folder of submissions")
    one.add_argument("homework", help="as in hw07")
    one.add_argument("submissions", help="the folder or zip that the submissions were downloaded to")
    one.add_argument("--out", required=True, help="the folder for grades, feedback and the record")
    one.add_argument("--executor", default="local", help="local, or dask://host:port")
    one.add_argument("--jobs", type=int, help="submissions at once (default: one for each core)")
    one.add_argument(
        "--seconds", type=float, default=LIMITS["seconds"], help="for one exercise of one student"
    )
    one.add_argument(
        "--memory", type=float, default=LIMITS["memory"] / 1e9, help="GB, beyond what torch takes"
    )
    one.add_argument("--wall", choices=wall.NAMES[:2], help="the wall to use (default: the first that holds)")
    one.add_argument("--unsafe", action="store_true", help="no wall: submissions may do what you may do")
    one.set_defaults(do=do_grade)
    one = verbs.add_parser("appeal", help="show the cases at which one notebook fails, hidden ones too")
    one.add_argument("homework", help="as in hw07")
    one.add_argument("notebook", help="the file that was handed in")
    one.set_defaults(do=do_appeal)
    for name, make, help in (
        ("release", release.release, "make the zip for students"),
        ("gradescope", release.gradescope, "make the zip that grades on Gradescope"),
    ):
        one = verbs.add_parser(name, help=help)
        one.add_argument("homework", help="as in hw07")
        one.add_argument("--out", required=True, help="the folder for the zip")
        one.set_defaults(do=do_make, make=make)
    return made


def do_appeal(options):
    with executors.opened("local", 1) as executor:
        check.say(appeal.appeal(options.homework, options.notebook, executor))
    return 0


def do_make(options):
    print(options.make(load(options.homework), options.out))
    return 0


def do_grade(options):
    chosen = "none" if options.unsafe else options.wall
    limits = {"seconds": options.seconds, "memory": int(options.memory * 1e9)}
    with executors.opened(options.executor, options.jobs, chosen) as executor:
        records = grade.grade(
            options.homework, options.submissions, options.out, executor, wall=chosen, limits=limits
        )
    print(told(records, options.out))
    return 0


def told(records, out):
    """What came of it, and what is left to do, in one line."""
    walls = ", ".join(sorted({record["wall"] for record in records if record["wall"]})) or "nothing ran"
    unread = sum(not record["wall"] for record in records)
    waiting = sum(bool(part["text"]) for record in records for part in record["written"].values())
    parts = [f"{counted(len(records), 'student')}, behind {walls}: see grades.csv and summary.html in {out}"]
    parts += [f"{unread} could not be graded: summary.html says why"] * bool(unread)
    parts += [f"{counted(waiting, 'written answer')}: points go into written.csv"] * bool(waiting)
    return "; ".join(parts) + "."


def counted(number, what):
    return f"{number} {what}{'s' * (number != 1)}"


if __name__ == "__main__":
    sys.exit(main())
