"""Grade a folder of submissions: the verdict on every answer is made here, from plain data, outside of any wall."""

import builtins
import hashlib
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from utils.check import Answer, Cases, Odd, failed, judge, matches, one_line, plain, weigh
from utils.grading import Stop, intake, record, repair, report, wire
from utils.grading.homework import load
from utils.grading.runner import LIMITS, PATIENCE

RIGHT, WRONG, EMPTY, LATE, DIED, MISSING = "right", "wrong", "empty", "late", "died", "missing"


def grade(name, folder, out, executor, wall=None, limits=None, quiet=False):
    """Grade what is not yet graded and write the grades of all; the records, one for each student.

    folder: the downloads, see intake.py   executor: see executors.py   wall, limits: see wall.py and runner.py
    What would only be found wrong at the end, or would spoil the grades of another class, raises Stop before any run.
    """
    homework, limits, out = load(name), LIMITS | (limits or {}), Path(out)
    refuse_inside(out, Path(folder))
    submissions = intake.collect(folder, homework)
    refuse_other_pages(submissions, homework)
    with record.opened(out) as kept:
        refuse_other_grades(kept, homework, out)
        blanks = {one.student: blank(homework, one) for one in submissions}
        report.read_marks(out / "written.csv", list(blanks.values()), homework)
        done = {student: stamp(found) for student, found in kept.newest(homework).items()}
        waiting = [one for one in submissions if done.get(one.student) != stamp(blanks[one.student])]
        bar = tqdm(
            total=len(submissions), initial=len(submissions) - len(waiting), disable=quiet, unit="student"
        )
        with bar:
            for graded in all_graded(homework, waiting, executor, wall, limits):
                kept.append(graded)
                bar.update()
        newest = kept.newest(homework)
        records = [newest[student] for student in sorted(blanks)]
        report.write(records, homework, out)
    return records


def refuse_inside(out, folder):
    """The grades must not lie among the submissions: the next run would take them for some."""
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise Stop(f"{out} lies in the folder of submissions: name a folder beside it.")


def refuse_other_pages(submissions, homework):
    """A class in which nobody handed in a page of this homework has another homework."""
    pages = [one.data for one in submissions if one.data is not None]
    if len(pages) > 1 and not any(repair.worth(data, homework)[0] for data in pages):
        raise Stop(
            f"None of these {len(pages)} notebooks is {homework.name}: name the homework that they are."
        )


def refuse_other_grades(kept, homework, out):
    """A folder of grades is for one homework."""
    others = {one["homework"] for one in kept.found} - {homework.name}
    if others:
        raise Stop(f"{out} holds grades of {', '.join(sorted(others))}: name another folder with --out.")


def all_graded(homework, submissions, executor, wall, limits):
    """The records of these submissions as they come; each is worked at in a thread of its own."""
    job = lambda one: graded(homework, one, executor, wall, limits)
    with ThreadPoolExecutor(executor.at_once) as pool:
        waiting = {pool.submit(job, one) for one in submissions}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            pool.shutdown(cancel_futures=True)


def graded(homework, submission, executor, wall, limits):
    """The record of one submission. Whatever is wrong with it, there is one, and the others go on."""
    began, graded = time.monotonic(), blank(homework, submission)
    try:
        if submission.problem:
            raise repair.Unreadable(submission.problem)
        page = repair.repair(submission.data, homework)
        graded["notes"] += page.notes
        graded["code"] = {cell.exercise: cell.source for cell in page.cells if cell.exercise}
        for task in homework.written:
            graded["written"][task.name]["text"] = page.written.get(task.name, "")
        graded["exercises"], graded["wall"] = Verdicts(homework, page, executor, wall, limits).all()
        graded["reason"] = reason(homework, graded)
    except repair.Unreadable as unreadable:
        graded["reason"] = str(unreadable)
    except Stop:
        raise
    except Exception as error:  # ours, not the student's: one page less, not the class
        graded["reason"] = f"The grader failed here ({type(error).__name__}): grade this file by hand."
    return graded | {"seconds": round(time.monotonic() - began, 2)}


def blank(homework, submission):
    """The record of a submission before anything of it was graded."""
    nothing = {"points": 0, "verdict": MISSING, "lines": [], "mistake": ""}
    return {
        "student": submission.student,
        "file": submission.file,
        "sha256": hashlib.sha256(
            submission.data or submission.problem.encode("utf-8", "replace")
        ).hexdigest(),
        "homework": homework.name,
        "fingerprint": homework.fingerprint,
        "wall": "",
        "seconds": 0.0,
        "reason": "",
        "notes": list(submission.notes),
        "exercises": {task.name: nothing | {"of": task.points} for task in homework.exercises},
        "written": {task.name: {"of": task.points, "text": ""} for task in homework.written},
        "code": {},
    }


def stamp(found):
    """What a record must share with a submission for its grade to stand."""
    return found["sha256"], found["fingerprint"], found["file"]


def reason(homework, graded):
    """One sentence: the points, and what waits for a person."""
    parts = graded["exercises"].values()
    points, of = sum(part["points"] for part in parts), sum(part["of"] for part in parts)
    waits = sum(task.points for task in homework.written if graded["written"][task.name]["text"])
    waiting = f"; {waits:g} points of written answers wait for a person" if waits else ""
    return f"{points:g} of {of:g} points{waiting}."


# ---- one submission ----


@dataclass(frozen=True)
class Verdicts:
    """Asks a page the questions of a homework and judges what comes back."""

    homework: object
    page: object
    executor: object
    wall: object
    limits: dict

    def all(self):
        """({exercise: points, verdict, lines, mistake}, the wall in words)

        An exercise is asked where it stands, with the page run down to its last cell, as its check is on the page.
        Some are asked once more, with the whole page run: those that miss a name, which may stand further down; and
        those that call an earlier exercise that is not right, with the released solution behind its name, so that
        one mistake costs its points once.
        """
        exercises = self.homework.exercises
        found, words = self.asked([(exercise, (), self.down_to(exercise)) for exercise in exercises])
        wrong = {name for name, (part, _) in found.items() if part["verdict"] != RIGHT}
        again = [
            (exercise, tuple(wrong & {*exercise.uses}), len(self.page.cells))
            for exercise in exercises
            if exercise.name in wrong and (wrong & {*exercise.uses} or misses_a_name(found[exercise.name][1]))
        ]
        parts = {name: part for name, (part, _) in found.items()}
        for name, (part, _) in (self.asked(again)[0] if again else {}).items():
            uses = next(uses for exercise, uses, _ in again if exercise.name == name)
            if part["verdict"] == RIGHT and uses:
                part["lines"] = [f"{part['lines'][0]}, with a right {' and '.join(uses)} in place of yours"]
            parts[name] = part if part["verdict"] == RIGHT else parts[name]
        return parts, words

    def down_to(self, exercise):
        """How many of the page's cells stand down to the last one of an exercise; all where it has none."""
        own = [at for at, cell in enumerate(self.page.cells) if cell.exercise == exercise.name]
        return own[-1] + 1 if own else len(self.page.cells)

    def asked(self, questions):
        """Run these exercises, each with stand-ins for some earlier ones and down to some cell, and judge.

        Returns {exercise: (points, verdict, lines and mistake; the answers)} and the wall in words.
        """
        told = wire.unpack(self.executor.run(self.job(questions)))
        found = {
            exercise.name: self.judged(exercise, answer)
            for (exercise, _, _), answer in zip(questions, told["answers"])
        }
        return found, told["wall"]

    def job(self, questions):
        return wire.pack(
            {
                "wall": self.wall,
                "ground": list(self.homework.ground),
                "limits": self.limits,
                "cells": [[cell.label, cell.source, cell.exercise] for cell in self.page.cells],
                "questions": [
                    {
                        "name": exercise.name,
                        "seconds": PATIENCE * min(exercise.hidden.seconds, self.limits["seconds"]),
                        "calls": [case.args for case in exercise.hidden.cases],
                        "stand_ins": list(stand_ins),
                        "n_cells": n_cells,
                    }
                    for exercise, stand_ins, n_cells in questions
                ],
                "solutions": list(self.homework.solutions.values())
                if any(stand_ins for _, stand_ins, _ in questions)
                else [],
            }
        )

    def judged(self, exercise, told):
        """Points, verdict and the lines that say it: of the page's cases everything, of the others the kind only."""
        answers = [*map(read, told["replies"])]
        if told["end"] != "done" and len(answers) < len(exercise.hidden.cases):
            answers.append(no_answer(told, self.limits))
        n_public = len(exercise.public.cases)
        right, lines = weigh(exercise.public, answers[:n_public])
        mistake = named(exercise.public, answers)
        if right:
            right, lines = unseen(exercise, answers[n_public:])
        state = RIGHT if right else verdict(exercise, answers)
        trouble = troubles(told, exercise)
        if state == EMPTY and trouble:
            state, lines = WRONG, [f"✗ {exercise.name}: its cell does not run", f"  → {trouble}"]
        if state in (DIED, LATE) and not told["troubles"]:
            lines = [
                f"✗ {exercise.name}: the page itself does not run to its end",
                f"  → it {answers[-1].problem}",
            ]
        points = exercise.points if right else 0
        part = {"points": points, "of": exercise.points, "verdict": state, "lines": lines, "mistake": mistake}
        return part, answers


def misses_a_name(answers):
    return any(answer.error == "NameError" for answer in answers)


def read(reply):
    """The Answer that came as bytes from behind the wall; what is not of its form is an answer nobody gives."""
    try:
        value, problem, error, state, changed, printed = wire.unpack(reply)
        if not all(type(text) is str for text in (problem, error, state, printed)):
            raise wire.Damaged
        if state not in ("done", "empty", "late") or not all(
            type(at) is int and 0 <= at < 9 for at in changed
        ):
            raise wire.Damaged
        problem = "" if not problem and state == "done" else one_line(problem, 250) or "gives no answer"
        return Answer(plain(value), problem, one_line(error, 60), state, tuple(changed), printed[:2000])
    except (wire.Damaged, Odd, ValueError, TypeError, RecursionError):
        return Answer(problem="gives no answer that can be read")


def no_answer(told, limits):
    """Why a call brought nothing back, as an Answer."""
    late = told["end"] == "TooLate" or told["signal"] == 24 or told["seconds"] > limits["seconds"]
    if late:
        return Answer(
            problem=f"was stopped: no end within {limits['seconds']:g} s: a loop that never ends?",
            state="late",
        )
    why = {
        "TooLong": f"answers with more than {wire.LONGEST // 1_000_000} MB",
        "TooMuch": f"was stopped: it writes more than {limits['disk'] // 1_000_000} MB of files",
    }.get(told["end"], "ends the process, so that no answer comes back")
    return Answer(problem=why, state="died")


def verdict(exercise, answers):
    """What became of an exercise that is not right."""
    states = {answer.state for answer in answers}
    if answers and answers[0].state == "empty":
        return EMPTY
    return DIED if "died" in states else LATE if "late" in states else WRONG


def troubles(told, exercise):
    """What failed first when the cells of an exercise ran: "cell 9, line 3: SyntaxError: …"; "" if nothing did."""
    try:
        found = wire.unpack(told["troubles"]) if told["troubles"] else []
        return next((one_line(sentence, 250) for name, sentence in found if name == exercise.name), "")
    except (wire.Damaged, ValueError, TypeError, AttributeError):
        return ""


def named(cases, answers):
    """The words of the first mistake of the page's cases that an answer is sure to show; "" if there is none."""
    findings = (judge(case, answer, cases) for case, answer in zip(cases.cases, answers))
    return next((finding[0] for finding in findings if finding and finding[1]), "")


def unseen(exercise, answers):
    """The verdict on the cases that are not on the page, without a word of what they hold."""
    n_public, cases = len(exercise.public.cases), exercise.hidden
    cases = Cases(cases.call, cases.cases[n_public:], tolerance=cases.tolerance, seconds=cases.seconds)
    n_cases = n_public + len(cases.cases)
    failures = failed(cases, answers)
    if not failures and len(answers) == len(cases.cases):
        return True, [f"✓ {exercise.name}: {n_cases} of {n_cases} cases"]
    _, case, answer = failures[0] if failures else (None, None, Answer(problem="gives no answer"))
    n_wrong = max(1, len(failures)) + len(cases.cases) - len(answers)
    return False, [
        f"✗ {exercise.name}: right in the {n_public} cases of the page, wrong in {n_wrong} of {len(cases.cases)} "
        "others",
        f"  → {kind_of_failure(case, answer, cases)}",
    ]


def kind_of_failure(case, answer, cases):
    """A failure in words that tell nothing of the arguments, which a message of the student's could carry out."""
    mistakes = case.mistakes.items() if case else ()
    known = next((words for words, value in mistakes if matches(answer, value, cases.tolerance)), "")
    if known or answer.state in ("late", "died"):
        return known or f"{cases.name} {answer.problem}"
    if answer.error:
        is_builtin = isinstance(getattr(builtins, answer.error, None), type)
        return f"{cases.name} raises {answer.error if is_builtin else 'an exception'}"
    if answer.problem:
        return f"{cases.name} gives no answer of the kind that its docstring promises"
    return "the call changes its argument" if answer.changed else "the answer is not the one expected"
