"""Writes what a graded class is told: tables for the instructor, a page of feedback for each student, all inert.

Everything that a student had a hand in (names, files, texts, print-outs) is text here: it is never run, never read
as HTML, and no spreadsheet takes it for a formula. The files, in the folder that the instructor names:

    grades.csv     one row for each student, for a spreadsheet or the gradebook: points of points_of by the checks,
                   written of written_of by people, and their total, which is empty while an answer waits
    grades.json    the same and what the checks said, for programs; neither code nor written answers
    written.csv    where the instructor fills in the points of written answers; the next run reads it
    written.html   all written answers, question by question, below the question and its rubric
    summary.html   the class at a glance
    feedback/      one page for each student

The tables are UTF-8 with a byte order mark, for without it Excel takes the letters of a name for those of its own
code page; LibreOffice, pandas and Google Sheets accept the mark. Their lines end as RFC 4180 says.
"""

import contextlib
import csv
import hashlib
import io
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from utils import course
from utils.grading import Stop, sheets, similar
from utils.grading.sheets import outcome_of, text_of, visible

WRITTEN = "student", "question", "of", "points", "answer", "note"
CHANGED = "The answer has changed since you gave these points: read it again, correct the points, and empty this note."
UNANSWERED = "No answer was handed in: it counts 0 unless you fill in points."
MOST_FAULTS = 10  # lines of written.csv that one message names
SIGNS = re.escape("=+-@＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋−")  # with what Unicode folds into the four, and the minus


# ---- what is known of each student ----


@dataclass(frozen=True)
class Mark:
    """What a person decided about one written answer. points: None while nothing is decided

    answer: a short hash of the answer as handed in, with the points while its note says that the answer has changed
    note: a sentence for the instructor, or ""
    """

    points: float | None = None
    answer: str = ""
    note: str = ""

    @property
    def changed(self):
        """Whether the points were given for an answer that was handed in before."""
        return self.note.startswith(CHANGED)


@dataclass(frozen=True)
class Result:
    """One student's record with what people added to it, and the names under which files speak of the student.

    label: the name as it stands in the tables   page: the file of the feedback   marks: {question: Mark}
    points, of: by the checks   written, written_of: by people, so far   waiting: points that no one decided on yet
    """

    record: dict
    label: str
    page: str
    points: float
    of: float
    written: float
    written_of: float
    waiting: float
    marks: dict

    @property
    def student(self):
        return self.record["student"]

    @property
    def so_far(self):
        return tidy(self.points + self.written)

    @property
    def total(self):
        """All points; None while written answers wait."""
        return None if self.waiting else self.so_far

    @property
    def marked(self):
        return any(mark.points is not None for mark in self.marks.values())

    @property
    def sentence(self):
        """How the grading ended, and how the written answers stand now."""
        words = re.sub(r"; [\d.]+ points? of written answers waits? for a person", "", self.record["reason"])
        if self.waiting:
            words = (
                f"{words.rstrip('. ')}; {sheets.amount(self.waiting)} of written answers wait for a person."
            )
        if self.marked:
            words += (
                f" Written answers{' so far' * bool(self.waiting)}: {self.written:g} of {self.written_of:g}."
            )
        return words


def results(records, homework, marks):
    """A Result for each record, sorted by student. marks: {(student, question): Mark}"""
    names = labels(records)
    return [
        result(record, homework, names[record["student"]], marks)
        for record in sorted(records, key=lambda record: record["student"])
    ]


def result(record, homework, label, marks):
    """The Result of one record. An answer that was not handed in waits for nobody: it counts 0."""
    own = {task.name: settled(record, task, marks) for task in homework.written}
    waits = [
        task.points for task in homework.written if own[task.name].points is None and text_of(record, task)
    ]
    return Result(
        record=record,
        label=label,
        page=f"{slug(record['student'])}.html",
        points=tidy(sum(outcome_of(record, task)["points"] for task in homework.exercises)),
        of=tidy(sum(task.points for task in homework.exercises)),
        written=tidy(sum(mark.points or 0 for mark in own.values())),
        written_of=tidy(sum(task.points for task in homework.written)),
        waiting=tidy(sum(waits)),
        marks=own,
    )


def settled(record, task, marks):
    """The mark of an answer as it is now: points stay when the answer changes, and the note says that it did.

    The note stays until it is emptied or the points become others, which the field `answer` tells.
    """
    text, mark = text_of(record, task), marks.get((record["student"], task.name), Mark())
    now = f"v-{short_hash(text)}"  # with its first letter, no spreadsheet takes it for a number
    note = mark.note.removeprefix(CHANGED).strip().removeprefix(UNANSWERED).strip()
    if mark.points is None:
        return Mark(None, now, note if text else f"{UNANSWERED} {note}".strip())
    seen, _, before = mark.answer.partition(" at ")
    points = f"{mark.points:g}"
    if seen not in ("", now) or mark.changed and before in ("", points):
        return Mark(mark.points, f"{now} at {points}", f"{CHANGED} {note}".strip())
    return Mark(mark.points, now, note)


def short_hash(text):
    """Ten letters that stand for a text, lone surrogates and all."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def tidy(points):
    """A sum of points without the dust of binary fractions."""
    return round(points, 6)


# ---- names that can do no harm ----


def slug(student):
    """A file's name for any student: plain small letters, and a hash that keeps two students apart."""
    plain = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-")
    return f"{plain or 'student'}-{short_hash(student)}"


def harmless(text):
    """The text as one field of a table: one line, every sign visible, and no spreadsheet takes it for a formula.

    What begins like a formula gets a leading ', and so does what would begin like one if the spreadsheet parted
    fields at another sign than the comma. What begins with ' gets one more, so that no two texts become one.
    Source: the signs of OWASP's page on CSV injection, and those that Unicode folds into them.
    """
    line = " ".join(visible(text[:2000]).split())
    line = re.sub(rf"([,;|\"]\s*)(?=[{SIGNS}])", r"\1'", line)
    return f"'{line}" if re.match(rf"[{SIGNS}']", line) or text[:1] in ("\t", "\r", "\n") else line


def labels(records):
    """{student: the name in the tables}; where two students would look the same, a hash tells them apart."""
    found, taken = {}, set()
    for student in sorted({record["student"] for record in records}):
        label = harmless(student) or "(no name)"
        while loose(label) in taken:
            label += f" ({short_hash(student)})"
        taken.add(loose(label))
        found[student] = label
    return found


def loose(label):
    """A name as it may look after a spreadsheet had it: without a leading ' and leading zeros, in any case."""
    return unicodedata.normalize("NFC", label).strip().lstrip("'").lstrip("0").casefold()


# ---- the points of written answers, filled in by hand ----


def read_marks(path, records, homework):
    """{(student, question): Mark} of all points in written.csv; Stop names each line to mend and the fix.

    Takes what spreadsheets make of the table: commas, semicolons or tabs, UTF-8 or the code page of Windows, 0.5 or
    0,5. A row without points may name whoever it likes.
    """
    if not path.exists():
        return {}
    students = {loose(label): student for student, label in labels(records).items()}
    of, found, faults = {task.name: task.points for task in homework.written}, {}, []
    for line, row in rows(path):
        try:
            student, question, mark = one_mark(row, students, of, f"{path}, line {line}")
            before = found.setdefault((student, question), mark)
            if None not in (before.points, mark.points) and before.points != mark.points:
                raise Stop(
                    f"{path}, line {line}: this answer has other points further up: leave one of the two rows."
                )
            found[student, question] = before if mark.points is None else mark
        except Stop as stop:
            faults.append(str(stop))
    if len(faults) > MOST_FAULTS:
        faults[MOST_FAULTS:] = [f"… and {sheets.plural(len(faults) - MOST_FAULTS, 'line')} more of {path}."]
    if faults:
        raise Stop("\n".join(faults))
    return found


def one_mark(row, students, of, where):
    """(student, question, Mark) of one row; Stop names the fix. students: {label: student}   of: {question: points}"""
    if row[None]:
        raise Stop(f'{where} has too many fields: write 0.5, or "0,5" in quotes.')
    student, question = students.get(loose(row["student"])), row["question"].strip()
    note = row.get("note", "").strip()
    if not row["points"].strip():
        return student, question, Mark(note=note)
    if student is None:
        raise Stop(
            f"{where}: no submission is by {shown(row['student'])}: correct the name, or empty its points."
        )
    if question not in of:
        names = " or ".join(of) or "none"
        raise Stop(f"{where}: there is no question {shown(question)}: it should be {names}.")
    return (
        student,
        question,
        Mark(number(row["points"], of[question], where), row.get("answer", "").strip(), note),
    )


def rows(path):
    """(line, {column: field, None: whether there are more}) for each row that is not empty.

    Stop where it is not the table that we wrote.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}. Close the program that has it open.") from None
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    columns = [name.strip().lower() for name in next(reader, [])]
    if not {"student", "question", "points"} <= set(columns):
        raise Stop(
            f"{path} has no columns student, question and points: restore its first line, or delete the file."
        )
    try:
        for row in reader:
            if any(part.strip() for part in row):
                more = any(part.strip() for part in row[len(columns) :])
                yield reader.line_num, dict.fromkeys(columns, "") | dict(zip(columns, row)) | {None: more}
    except csv.Error as error:
        raise Stop(
            f"{path}, line {reader.line_num} cannot be read as a table ({error}): mend that line."
        ) from None


def number(text, of, where):
    """Points as people write them, from 0 to `of`."""
    clean = "".join(text.split()).replace(",", ".")
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{0,6})?|\.[0-9]{1,6}", clean):
        raise Stop(f"{where}: {shown(text)} is no number of points: write one from 0 to {of:g}, as in 0.5.")
    if float(clean) > of:
        raise Stop(
            f"{where}: {clean} is more than the {sheets.amount(of)} of this question: write 0 to {of:g}."
        )
    return float(clean)


def shown(text):
    """A field of a table in a message: as it stands there, but short, and every sign visible."""
    return repr(sheets.short(text, 60))


# ---- the files ----


def write(records, homework, out, marks=None):
    """Write all files of the report into the folder `out`: all of them, or after a fault none.

    records: one for each student, as in record.jsonl   marks: as read_marks gives them; None reads out/written.csv
    Raises Stop where written.csv holds what cannot be, or where the folder cannot be written to.
    """
    out = Path(out)
    marks = read_marks(out / "written.csv", records, homework) if marks is None else marks
    found = results(records, homework, marks)
    alike = similar.pairs(records, homework), similar.twins(records, homework)
    texts = {f"feedback/{each.page}": sheets.feedback(each, homework) for each in found}
    texts["written.html"] = sheets.written(found, homework)
    texts["summary.html"] = sheets.summary(found, homework, *alike)
    texts["grades.json"] = as_json(found, homework)
    texts["grades.csv"] = table(grades_table(found, homework))
    texts["written.csv"] = table(written_table(found, homework))
    try:
        replace_all(out, texts)
    except OSError as error:
        while isinstance(
            error.__cause__, OSError
        ):  # course.atomic speaks of the folder, the first error of the file
            error = error.__cause__
        file = re.sub(r"^\.(.+)\.\d+\.tmp$", r"\1", Path(str(error.filename or out)).name)
        raise Stop(
            f"The report in {out} was left as it was, {file} cannot be written: {error.strerror}. Make room, or close"
            " the program that has it open, and run again."
        ) from None


def replace_all(out, texts):
    """Replace all files {name: text} once all are written; the last first, for a spreadsheet may hold those.

    What a run that was killed here had begun to write is taken away.
    """
    for begun in [*out.glob(".*.tmp"), *out.glob("feedback/.*.tmp")]:
        begun.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        for name, text in texts.items():
            stack.enter_context(course.atomic(out / name)).write_bytes(text.encode("utf-8", "replace"))


def table(lines):
    """Rows of numbers, None and texts that are harmless, as CSV for spreadsheets."""
    page = io.StringIO(newline="")
    page.write("\ufeff")
    csv.writer(page).writerows(
        [f"{part:g}" if isinstance(part, (int, float)) else part for part in line] for line in lines
    )
    return page.getvalue()


def grades_table(found, homework):
    """grades.csv: a field is empty where a person has not decided yet; what was not handed in counts 0."""
    exercises, questions = homework.exercises, homework.written
    yield [
        *("student", "file", "points", "points_of", "written", "written_of", "total"),
        *(task.name for task in (*exercises, *questions)),
        "verdict",
    ]
    for each in found:
        yield [
            *(each.label, harmless(each.record["file"]), each.points, each.of),
            *(each.written if each.marked or not each.waiting else None, each.written_of, each.total),
            *(outcome_of(each.record, task)["points"] for task in exercises),
            *(decided(each, task) for task in questions),
            harmless(each.sentence),
        ]


def decided(each, task):
    """The points of a written answer: a person's, 0 where none was handed in, None while it waits."""
    points = each.marks[task.name].points
    return 0 if points is None and not text_of(each.record, task) else points


def written_table(found, homework):
    """written.csv: question by question, in the order of written.html; points that were filled in stay."""
    yield WRITTEN
    for task in homework.written:
        for each in found:
            mark = each.marks[task.name]
            note = mark.note if mark.note.startswith("'") else harmless(mark.note)
            yield [each.label, task.name, task.points, mark.points, mark.answer, note]


def as_json(found, homework):
    """grades.json: the records without code and without the text of written answers, in letters all programs read."""
    rows = [
        {key: part for key, part in each.record.items() if key not in ("code", "written", "reason")}
        | {
            "reason": each.sentence,
            "feedback": f"feedback/{each.page}",
            "points": each.points,
            "of": each.of,
            "written": {
                task.name: {
                    "of": task.points,
                    "points": decided(each, task),
                    "changed": each.marks[task.name].changed,
                }
                for task in homework.written
            },
            "total": each.total,
        }
        for each in found
    ]
    return (
        json.dumps({"homework": homework.name, "points": homework.points, "students": rows}, indent=1) + "\n"
    )
