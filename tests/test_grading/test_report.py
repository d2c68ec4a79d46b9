"""The report: right sums, nothing lost of what people filled in, and nothing that a student could bring to life."""

import csv
import io
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from utils.grading import Stop, repair, report, sheets, similar

from . import classroom
from .classroom import NAMES, SCRIPTS, class_of, record, unreadable

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOMEWORK = classroom.homework()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report of a class of 90 whose names and texts are hostile."""
    out, pairs = tmp_path_factory.mktemp("report"), similar.pairs
    similar.pairs = lambda records, homework: classroom.PAIRS
    try:
        report.write(class_of(), HOMEWORK, out)
    finally:
        similar.pairs = pairs
    return out


def rows(path, **how):
    """A table as a spreadsheet reads it."""
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), **how))


def row_of(path, student):
    return next(row for row in rows(path) if row["student"] == student)


def fill(path, points, line_end="\r\n", **how):
    """Fill in written.csv as a person does. points: {(student, question): what is typed}"""
    table = rows(path)
    for row in table:
        row["points"] = points.get((row["student"], row["question"]), row["points"])
    page = io.StringIO(newline="")
    writer = csv.DictWriter(page, table[0], **{"lineterminator": line_end} | how)
    writer.writeheader()
    writer.writerows(table)
    path.write_bytes(page.getvalue().encode("utf-8"))


def two(out, *records, marks=None):
    """Write the report of Ada (all right) and Bob (one right), or of the records given."""
    records = records or (record("Ada", ["right"] * 3), record("Bob", ["right", "wrong", "late"]))
    report.write(list(records), HOMEWORK, out, marks)
    return out


# ---- sums ----


def test_points_add_up_and_the_total_waits_for_people(tmp_path):
    ada, bob = rows(two(tmp_path) / "grades.csv")
    assert list(ada) == [
        *("student", "file", "points", "points_of", "written", "written_of", "total"),
        *("mean", "nucleus", "search", "why", "how", "verdict"),
    ]
    assert (ada["points"], ada["points_of"], ada["written"], ada["written_of"], ada["total"]) == (
        "9",
        "9",
        "",
        "2.5",
        "",
    )
    assert (bob["points"], bob["mean"], bob["nucleus"], bob["search"], bob["why"]) == ("3", "3", "0", "0", "")
    assert ada["verdict"] == "9 of 9 points; 2.5 points of written answers wait for a person."


def test_marks_reach_the_total_one_by_one(tmp_path):
    two(tmp_path)
    fill(tmp_path / "written.csv", {("Ada", "why"): "1.5"})
    ada = row_of(two(tmp_path) / "grades.csv", "Ada")
    assert (ada["written"], ada["total"], ada["why"], ada["how"]) == ("1.5", "", "1.5", "")
    assert "; 0.5 points of written answers wait for a person." in ada["verdict"]
    fill(tmp_path / "written.csv", {("Ada", "how"): "0"})
    ada = row_of(two(tmp_path) / "grades.csv", "Ada")
    assert (ada["written"], ada["total"], ada["why"], ada["how"]) == ("1.5", "10.5", "1.5", "0")
    assert "wait" not in ada["verdict"] and ada["verdict"].endswith("Written answers: 1.5 of 2.5.")
    assert row_of(tmp_path / "grades.csv", "Bob")["total"] == ""
    page = next(tmp_path.glob("feedback/ada-*")).read_text("utf-8")
    assert "<b>10.5</b>" in page and "A person has read this." in page and "so far" not in page


def test_an_answer_that_was_not_handed_in_waits_for_nobody(tmp_path):
    two(tmp_path, record("Ada", ["right"] * 3, ("", " \n")), record("Bob", ["right"] * 3, ("Yes.", "")))
    ada, bob = rows(tmp_path / "grades.csv")
    assert (ada["why"], ada["how"], ada["written"], ada["total"]) == ("0", "0", "0", "9")
    assert (bob["why"], bob["how"], bob["written"], bob["total"]) == ("", "0", "", "")
    assert row_of(tmp_path / "written.csv", "Ada")["note"] == report.UNANSWERED
    fill(tmp_path / "written.csv", {("Ada", "why"): "1"})
    two(tmp_path, record("Ada", ["right"] * 3, ("", "")))
    assert row_of(tmp_path / "grades.csv", "Ada")["total"] == "10"


def test_a_file_that_could_not_be_read_says_why_and_has_no_points(tmp_path):
    two(tmp_path, unreadable("Eve"), record("Ada", ["right"] * 3))
    eve = row_of(tmp_path / "grades.csv", "Eve")
    assert (eve["points"], eve["written"], eve["total"]) == ("0", "0", "0")
    assert eve["verdict"] == "The file is not a notebook: it begins with <!doctype html>."
    page = next(tmp_path.glob("feedback/eve-*")).read_text("utf-8")
    assert "it begins with &lt;!doctype html&gt;." in page and "Exercise by exercise" not in page
    assert sheets.NOT_GRADED in page and "How this was graded" not in page and sheets.PEOPLE not in page
    assert "nothing to grade" in (tmp_path / "summary.html").read_text("utf-8")


def test_a_page_without_any_function_still_has_its_written_answers(tmp_path):
    none = record("Ada", ["missing"] * 3)
    failed = none | {
        "student": "Bob",
        "wall": "",
        "reason": "The grader failed here: grade this file by hand.",
    }
    two(tmp_path, none, failed)
    for name, has_cards in (("ada", True), ("bob", False)):
        page = next(tmp_path.glob(f"feedback/{name}-*")).read_text("utf-8")
        assert ("Exercise by exercise" in page) == has_cards and "Because of 0.9." in page
    assert "2.5 points of written answers wait" in row_of(tmp_path / "grades.csv", "Bob")["verdict"]


def test_an_exercise_of_which_the_record_knows_nothing_is_missing(tmp_path):
    one = record("Ada", ["right"] * 3)
    del one["exercises"]["search"], one["written"]["how"]
    ada = rows(two(tmp_path, one) / "grades.csv")[0]
    assert (ada["points"], ada["search"], ada["how"]) == ("6", "0", "0")


def test_the_summary_counts(tmp_path):
    kinds = ["right", "wrong", "empty", "late", "died", "missing"]
    records = [
        record(f"S{at:02}", [kinds[at % 6], "wrong" if at < 9 else "right", "right"]) for at in range(12)
    ]
    page = (two(tmp_path, *records) / "summary.html").read_text("utf-8")
    table = Seen(page).tables["How many students got which verdict"]
    assert table[0] == ["exercise", "", *(words for _, words, _ in sheets.VERDICTS.values())]
    assert table[1] == ["1. The middle mean", "", "2", "2", "2", "2", "2", "2"]
    assert table[2] == ["2. The nucleus nucleus", "", "3", "9", "·", "·", "·", "·"]
    mistakes = Seen(page).tables["Mistakes that the checks know by name"]
    assert mistakes[1][:3] == ["nucleus", classroom.MISTAKES[1], "9"]
    assert mistakes[1][3].startswith("9 students") and "S08" in mistakes[1][3]
    assert mistakes[2] == ["mean", classroom.MISTAKES[0], "2", "S01, S07"]
    problems = Seen(page).tables["Files and functions to look at"]
    assert ["S03", "took too long", "mean"] in problems and ["S10", "ended the run", "mean"] in problems
    points = Seen(page).tables["How many students have how many points"]
    assert sum(int(row[1]) for row in points[1:]) == 12
    assert (
        "Median 3 of 11.5 points, mean 4.2, over 12 files that could be read." in page
        and "bubblewrap: 12 submissions" in page
    )


def test_median_and_mean_are_over_the_files_that_could_be_read(tmp_path):
    page = (two(tmp_path, record("Ada", ["right"] * 3), unreadable("Eve")) / "summary.html").read_text(
        "utf-8"
    )
    assert "Median 9 of 11.5 points, mean 9.0, over 1 file that could be read." in page
    page = (two(tmp_path, unreadable("Eve")) / "summary.html").read_text("utf-8")
    assert "No file could be read." in page and "Median" not in page


def test_what_a_file_lacks_or_should_not_hold_is_told(tmp_path):
    wrong, marked = repair.WRONG_PAGE.format("hw99"), repair.MARKED.format("### BEGIN SOLUTION", 3)
    notes = {"Ada": wrong, "Bob": marked, "Cem": "A cell was doubled."}
    two(tmp_path, *(record(name, ["empty"] * 3, notes=[note]) for name, note in notes.items()))
    lines = Seen((tmp_path / "summary.html").read_text("utf-8")).tables["Files and functions to look at"]
    assert lines[1:] == [
        ["Ada", "nothing of this homework", wrong],
        ["Bob", "holds marks of the instructor's file", marked],
    ]
    for name, note in notes.items():
        page = next(tmp_path.glob(f"feedback/{name.lower()}-*")).read_text("utf-8")
        assert "".join(Seen(page).text).count(note) == 1
        assert ("None of this costs points" in page) == (name == "Cem")


def test_a_count_of_failures_says_which_cases_it_counts(tmp_path):
    one = record("Ada", ["wrong", "right", "wrong"])
    one["exercises"]["search"]["lines"] = [
        "✗ search: right in the 3 cases of the page, wrong in 2 of 9 others"
    ]
    two(tmp_path, one)
    assert next(tmp_path.glob("feedback/*")).read_text("utf-8").count(sheets.ON_THE_PAGE) == 1


def test_the_rubric_stands_above_the_answers_and_a_long_question_is_folded(tmp_path):
    short, long = HOMEWORK.written
    long = replace(long, question="## 5. How?\n\n" + "Say how. " * 100)
    report.write([record("Ada", ["right"] * 3)], replace(HOMEWORK, written=(short, long)), tmp_path)
    page = (tmp_path / "written.html").read_text("utf-8")
    order = [
        "<em>why</em>",
        "Rubric.",
        "Because of 0.9.",
        "<details>",
        "Say how.",
        "</details>",
        "Half a point.",
    ]
    places = [page.index(words, page.index("<body>")) for words in [*order, "First, then."]]
    assert places == sorted(places) and page.count("<details>") == 1


def test_similar_pairs_come_with_a_warning_and_links(hostile):
    page = (hostile / "summary.html").read_text("utf-8")
    pair = Seen(page).tables["Pairs whose code is alike beyond names, comments and layout"][1]
    assert pair == [f"{SCRIPTS[0]} and {NAMES[0]}", "91%", "mean 90%, nucleus 93%"]
    assert sheets.ALIKE in page and "This proves nothing" in sheets.ALIKE
    twins = Seen(page).tables["Handed in more than once, word for word"]
    assert any(row[0] == "the same answer: 4. Why?" and "Émilie" in row[1] for row in twins)


def test_json_says_all_but_code_and_answers(tmp_path):
    records = [
        record("Ada", ["right", "wrong", "late"], ("Secret words.", "More.")),
        record("\ud800", ["right"] * 3),
    ]
    found = json.loads((two(tmp_path, *records) / "grades.json").read_text("ascii"))
    ada = found["students"][0]
    assert (found["homework"], found["points"]) == ("hw99", 11.5)
    assert ada["exercises"] == records[0]["exercises"] and ada["wall"] == "bubblewrap" and ada["points"] == 3
    assert ada["written"]["why"] == {"of": 2, "points": None, "changed": False} and ada["total"] is None
    assert "Secret" not in str(found) and "code" not in ada
    assert found["students"][1]["student"] == "\ud800"
    assert (tmp_path / ada["feedback"]).is_file()


def test_an_empty_class_gets_its_files_too(tmp_path):
    report.write([], HOMEWORK, tmp_path)
    assert rows(tmp_path / "grades.csv") == [] and "0 students" in (tmp_path / "summary.html").read_text(
        "utf-8"
    )


def test_a_homework_without_questions(tmp_path):
    report.write([record("Ada", ["right"] * 3, ("", ""))], replace(HOMEWORK, written=()), tmp_path)
    assert rows(tmp_path / "grades.csv")[0]["total"] == "9"
    assert "no questions" in (tmp_path / "written.html").read_text("utf-8")


# ---- points that people filled in ----


@pytest.mark.parametrize(
    "typed, points", [("0.5", "0.5"), ("0,5", "0.5"), (" 2 ", "2"), ("1.", "1"), (".5", "0.5"), ("2.0", "2")]
)
def test_points_as_people_write_them(tmp_path, typed, points):
    two(tmp_path)
    fill(tmp_path / "written.csv", {("Ada", "why"): typed})
    assert row_of(two(tmp_path) / "written.csv", "Ada")["points"] == points


@pytest.mark.parametrize(
    "typed", ["2.5", "-1", "1e0", "nan", "inf", "two", "1/2", "½", "3", "0x1", "٢", "1 2", "=1"]
)
def test_points_that_cannot_be_stop_in_one_sentence(tmp_path, typed):
    two(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    fill(tmp_path / "written.csv", {("Ada", "why"): typed})
    filled = (tmp_path / "written.csv").read_bytes()
    with pytest.raises(Stop, match=r"written\.csv, line 2: ") as stop:
        two(tmp_path)
    assert "\n" not in str(stop.value)
    before[tmp_path / "written.csv"] = filled
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize(
    "change", [("Ada", "Eva"), ("why", "where"), ("student", "name"), ("Ada,why", "Ada,why,2,1,5")]
)
def test_unknown_students_questions_and_columns_stop(tmp_path, change):
    two(tmp_path)
    fill(tmp_path / "written.csv", {("Ada", "why"): "1"})
    path = tmp_path / "written.csv"
    path.write_text(path.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(Stop, match=r"written\.csv") as stop:
        two(tmp_path)
    assert "\n" not in str(stop.value)


def test_all_lines_to_mend_are_told_at_once_as_they_stand(tmp_path):
    two(tmp_path)
    path = tmp_path / "written.csv"
    fill(path, {("Ada", "why"): "-1", ("Bob", "why"): "3", ("Ada", "how"): "half"})
    with pytest.raises(Stop) as stop:
        two(tmp_path)
    told = str(stop.value).splitlines()
    assert [re.search(r"line (\d)", line)[1] for line in told] == ["2", "3", "4"]
    assert (
        "line 2: '-1' is no number" in told[0] and "line 3: 3 is more than" in told[1] and "'half'" in told[2]
    )
    path.write_text("student,question,points\n" + "Ada,why,x\n" * 12)
    with pytest.raises(Stop) as stop:
        two(tmp_path)
    told = str(stop.value).splitlines()
    assert len(told) == 11 and told[-1] == f"… and 2 lines more of {path}."


def test_two_rows_of_one_answer_must_agree(tmp_path):
    two(tmp_path)
    path = tmp_path / "written.csv"
    path.write_text("student,question,points\nAda,why,1\nAda,why,1.0\n")
    assert report.read_marks(path, [record("Ada", ["right"] * 3)], HOMEWORK)["Ada", "why"].points == 1
    path.write_text("student,question,points\nAda,why,1\nAda,why,2\n")
    with pytest.raises(Stop, match="line 3: this answer has other points"):
        report.read_marks(path, [record("Ada", ["right"] * 3)], HOMEWORK)


@pytest.mark.parametrize(
    "how", [{"delimiter": ";"}, {"delimiter": "\t"}, {"quoting": csv.QUOTE_ALL}, {"line_end": "\n"}]
)
def test_tables_as_other_spreadsheets_save_them(tmp_path, how):
    names = ["Ada", "Émilie", "=1+1", "'=1+1", "a;=1+1", "007", "two\nlines", 'say "hi"', "－1"]
    records = [record(name, ["right"] * 3) for name in names]
    two(tmp_path, *records)
    labels = report.labels(records)
    fill(tmp_path / "written.csv", {(labels[name], "why"): "1,5" for name in names}, **how)
    marks = report.read_marks(tmp_path / "written.csv", records, HOMEWORK)
    assert {student for student, _ in marks} == set(names)
    assert {mark.points for (_, question), mark in marks.items() if question == "why"} == {1.5}
    assert {mark.points for (_, question), mark in marks.items() if question == "how"} == {None}


@pytest.mark.parametrize("code", ["utf-8", "utf-16", "cp1252"])
def test_tables_in_the_codes_that_excel_writes(tmp_path, code):
    path = tmp_path / "written.csv"
    path.write_bytes("student;question;of;points\r\nÉmilie;why;2;1,5\r\n7;how;;0,5\r\n;;;\r\n".encode(code))
    records = [record("Émilie", ["right"] * 3), record("007", ["right"] * 3)]
    marks = report.read_marks(path, records, HOMEWORK)
    assert {key: mark.points for key, mark in marks.items()} == {("Émilie", "why"): 1.5, ("007", "how"): 0.5}


def test_points_stay_when_a_student_hands_in_again_and_the_change_is_flagged(tmp_path):
    two(tmp_path)
    fill(tmp_path / "written.csv", {("Ada", "why"): "2", ("Ada", "how"): "0.5"})
    again = record("Ada", ["right"] * 3, ("A new answer.", "First, then."))
    for _ in range(3):  # the flag stays until a person takes it away
        why, how = [row for row in rows(two(tmp_path, again) / "written.csv") if row["student"] == "Ada"]
        assert (why["points"], why["note"], how["note"]) == ("2", report.CHANGED, "")
    assert row_of(tmp_path / "grades.csv", "Ada")["total"] == "11.5"
    assert "an earlier version" in next(tmp_path.glob("feedback/ada-*")).read_text("utf-8")
    assert json.loads((tmp_path / "grades.json").read_bytes())["students"][0]["written"]["why"]["changed"]
    path = tmp_path / "written.csv"
    path.write_bytes(path.read_bytes().replace(report.CHANGED.encode(), b""))
    assert row_of(two(tmp_path, again) / "written.csv", "Ada")["note"] == ""
    assert "an earlier version" not in next(tmp_path.glob("feedback/ada-*")).read_text("utf-8")


def test_the_flag_of_a_changed_answer_goes_when_the_points_are_changed(tmp_path):
    two(tmp_path)
    fill(tmp_path / "written.csv", {("Ada", "why"): "2"})
    again, third = (record("Ada", ["right"] * 3, (words, "")) for words in ("A new answer.", "A third one."))
    note = lambda: next(row["note"] for row in rows(tmp_path / "written.csv") if row["question"] == "why")
    for one in (again, third, third):
        two(tmp_path, one)
        assert note() == report.CHANGED
    fill(tmp_path / "written.csv", {("Ada", "why"): "1.5"})
    for _ in range(2):
        two(tmp_path, third)
        assert note() == "" and row_of(tmp_path / "grades.csv", "Ada")["total"] == "10.5"
    two(tmp_path, again)
    fill(tmp_path / "written.csv", {("Ada", "why"): "1"})
    two(tmp_path, third)  # the new points were for what stood there before
    assert note() == report.CHANGED
    fill(tmp_path / "written.csv", {("Ada", "why"): ""})
    two(tmp_path, third)
    assert note() == ""


def test_a_note_of_the_instructor_stays_as_it_is(tmp_path):
    two(tmp_path, record("Ada", ["right"] * 3, ("", "")), record("Bob", ["right"] * 3))
    path, own = tmp_path / "written.csv", {"Ada": "=ask her, soon", "Bob": "'see me'"}
    for student, note in own.items():
        table = rows(path)
        next(row for row in table if row["student"] == student)["note"] = note
        page = io.StringIO(newline="")
        writer = csv.DictWriter(page, table[0])
        writer.writeheader()
        writer.writerows(table)
        path.write_text(page.getvalue(), "utf-8", newline="")
        for _ in range(3):
            two(tmp_path, record("Ada", ["right"] * 3, ("", "")), record("Bob", ["right"] * 3))
    assert row_of(path, "Ada")["note"] == f"{report.UNANSWERED} =ask her, soon"
    assert row_of(path, "Bob")["note"] == "'see me'"


def test_points_survive_many_rewrites_for_the_strangest_names(tmp_path):
    records = class_of()
    report.write(records, HOMEWORK, tmp_path)
    labels = report.labels(records)
    fill(tmp_path / "written.csv", {(label, "why"): "1.5" for label in labels.values()})
    for _ in range(2):
        report.write(records, HOMEWORK, tmp_path)
    kept = [row for row in rows(tmp_path / "written.csv") if row["question"] == "why"]
    assert [row["points"] for row in kept] == ["1.5"] * 90
    assert {row["why"] for row in rows(tmp_path / "grades.csv")} == {"1.5"}
    assert len({row["student"] for row in kept}) == 90


def test_a_table_that_cannot_be_read_stops(tmp_path):
    (tmp_path / "written.csv").mkdir()
    with pytest.raises(Stop, match="written.csv cannot be read"):
        two(tmp_path)


def test_marks_may_be_given(tmp_path):
    two(tmp_path, marks={("Bob", "why"): report.Mark(1.0)})
    assert row_of(tmp_path / "grades.csv", "Bob")["why"] == "1"


# ---- tables that calculate nothing ----


def test_no_field_is_a_formula_however_the_table_is_cut(hostile):
    for name in ("grades.csv", "written.csv"):
        text = (hostile / name).read_bytes().decode("utf-8-sig")
        for cut in (",", ";", "\t"):
            for line in csv.reader(io.StringIO(text, newline=""), delimiter=cut):
                assert not [field for field in line if re.match(r"[\s\"]*[=+\-@＝＋－＠−]", field)], line
        assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069\ufeff]", text)


@pytest.mark.parametrize(
    "text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "−1", " =1", "'=1", "\u200b=1", "\t1"]
)
def test_what_begins_like_a_formula_gets_an_apostrophe_or_a_visible_sign(text):
    assert report.harmless(text)[0] in "'⟨"


def test_harmless_leaves_plain_names_alone():
    for name in (
        "Ada Lovelace",
        "Jean-Luc",
        "O'Neill, Séan",
        "王小雲",
        "محمد بن موسى",
        "a=b",
        "x@y.org",
        "3 of 9",
    ):
        assert report.harmless(name) == name


def test_the_table_opens_in_excel_and_in_programs(hostile):
    data = (hostile / "grades.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfstudent,file,") and data.count(b"\r\n") == 91
    assert all(None not in row and None not in row.values() for row in rows(hostile / "grades.csv"))
    assert len(rows(hostile / "grades.csv")) == 90 and len(rows(hostile / "written.csv")) == 180
    assert "Émilie du Châtelet" in {row["student"] for row in rows(hostile / "grades.csv")}


def test_names_that_look_the_same_are_told_apart():
    names = [
        "Ada",
        "ada",
        "00Ada",
        "a\x00b",
        "a⟨U+0000⟩b",
        "=1",
        "'=1",
        "\ud800",
        "⟨U+D800⟩",
        "",
        " ",
        "é",
        "e\u0301",
    ]
    found = report.labels([{"student": name} for name in names])
    assert len({report.loose(label) for label in found.values()}) == len(names)


# ---- names of files ----


def test_every_student_has_a_file_of_a_safe_name(hostile):
    names = [path.name for path in (hostile / "feedback").iterdir()]
    assert len(names) == 90 == len({name.lower() for name in names})
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{10}\.html", name) for name in names)
    assert max(map(len, names)) < 70
    written = {"feedback", "grades.csv", "grades.json", "written.csv", "written.html", "summary.html"}
    assert {path.name for path in hostile.iterdir()} == written
    assert report.slug("Ada") != report.slug("ADA") and report.slug("Ada") == report.slug("Ada")


# ---- pages that do nothing ----


class Seen(HTMLParser):
    """What a browser would find on a page: elements, attributes, text, tables by caption."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.attributes, self.text, self.tables, self.stack = [], [], [], {}, []
        self.caption, self.cell, self.ids = "", None, []
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append(name)
        self.attributes += [(name, key, value) for key, value in attributes]
        if name == "caption":
            self.caption, self.cell = "", None
        if name == "tr":
            self.tables.setdefault(self.caption, []).append([])
        if name in ("td", "th"):
            self.tables[self.caption][-1].append("")
        if name not in ("meta",):
            self.stack.append(name)

    def handle_endtag(self, name):
        assert self.stack and self.stack[-1] == name, f"{name} is closed where {self.stack[-3:]} is open"
        self.stack.pop()

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text.append(data)
        if "caption" in self.stack:
            self.caption += data
        elif "td" in self.stack or "th" in self.stack:
            cells = self.tables[self.caption][-1]
            cells[-1] = (cells[-1] + data).strip() if not data.endswith(" ") else cells[-1] + data


def pages_of(out):
    return sorted(out.rglob("*.html"))


OURS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "h3",
        "h4",
        "p",
        "ul",
        "ol",
        "li",
    ),
    *(
        "section",
        "article",
        "header",
        "footer",
        "div",
        "span",
        "b",
        "strong",
        "em",
        "code",
        "pre",
        "bdi",
        "a",
    ),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "rect", "details", "summary"),
}


def test_pages_hold_our_elements_only(hostile):
    for path in pages_of(hostile):
        page = path.read_text("utf-8")
        seen = Seen(page)
        assert set(seen.elements) <= OURS and seen.stack == [], path
        assert seen.elements.count("style") == seen.elements.count("title") == 1
        for name, key, value in seen.attributes:
            assert not key.startswith("on") and key not in (
                "style",
                "src",
                "srcdoc",
                "action",
                "formaction",
            ), (name, key)
            if key == "href":
                assert re.fullmatch(r"feedback/[a-z0-9-]+\.html", value), value
                assert (hostile / value).is_file() and path.parent == hostile
            if key == "http-equiv":
                assert value == "Content-Security-Policy"
        if path.parent != hostile:
            assert "a" not in seen.elements


def test_pages_forbid_all_but_their_own_style(hostile):
    for path in pages_of(hostile):
        page = path.read_text("utf-8")
        policy = dict((name, value) for tag, name, value in Seen(page).attributes if tag == "meta")["content"]
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
        assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
        assert page.index("Content-Security-Policy") < page.index("<style>")
        style = page.partition("<style>")[2].partition("</style>")[0]
        assert style == sheets.STYLE and "url(" not in style and "@import" not in style and "<" not in style


def test_words_of_our_own_pages_are_rendered_without_links():
    words = "## T\n\n*a* [b](javascript:c) ![d](http://e/f.png)\n\n| x |\n|---|\n| `y` |\n\n<script>z</script> <http://g>"
    seen = Seen(sheets.page("t", sheets.tag("caption", ""), sheets.rendered(words)))
    assert not {key for _, key, _ in seen.attributes} & {"href", "src"} and set(seen.elements) <= OURS
    assert {"em", "code", "table"} <= set(seen.elements) and "b d" in " ".join("".join(seen.text).split())


def test_no_sign_on_a_page_is_without_a_look(hostile):
    for path in pages_of(hostile):
        page = path.read_bytes().decode("utf-8", "strict")
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufffe\uffff]",
            page,
        )
        assert not re.search("[\u0300-\u036f]{5}", page)


def test_hostile_texts_are_there_to_be_read(tmp_path):
    for at, vector in enumerate(SCRIPTS):
        out = tmp_path / str(at)
        two(out, record("Ada", ["wrong"] * 3, (vector, "x"), notes=[vector], file=vector))
        page = Seen(next(out.glob("feedback/*")).read_text("utf-8"))
        assert "".join(page.text).count(sheets.visible(vector).replace("\u2028", "")) >= 2, vector
        assert sheets.visible(vector) in "".join(Seen((out / "written.html").read_text("utf-8")).text)


def test_feedback_holds_no_model_answer_and_no_other_student(hostile):
    for path in (hostile / "feedback").iterdir():
        assert "Rubric." not in path.read_text("utf-8")
    page = next((hostile / "feedback").glob("student-07-*")).read_text("utf-8")
    assert "Student 08" not in page and "similar" not in page.lower()
    assert "<strong>Rubric.</strong> One each." in (hostile / "written.html").read_text("utf-8")


def test_a_tower_of_marks_is_cut_and_a_long_answer_too(tmp_path):
    assert sheets.visible("Z" + "\u0335" * 100 + "a") == "Z" + "\u0335" * 4 + "a"
    two(tmp_path, record("Ada", ["right"] * 3, ("word " * 1_000_000, "x")))
    page = next(tmp_path.glob("feedback/*"))
    assert page.stat().st_size < 60_000 and "4,979,999 letters more" in page.read_text("utf-8")


def test_pages_are_told_to_people_who_hear_them(hostile):
    for path in pages_of(hostile):
        page = path.read_text("utf-8")
        seen = Seen(page)
        assert page.startswith('<!doctype html>\n<html lang="en">')
        assert seen.elements.count("h1") == 1 and seen.elements.count("caption") == seen.elements.count(
            "table"
        )
        assert seen.elements.count("th") > 0 or "table" not in seen.elements
        scopes = [value for name, key, value in seen.attributes if key == "scope"]
        assert len(scopes) == seen.elements.count("th")
        hidden = [value for name, key, value in seen.attributes if name == "svg" and key == "aria-hidden"]
        assert len(hidden) == seen.elements.count("svg")  # every bar's number stands in text beside it


def brightness(colour):
    """Relative luminance. Source: WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(scheme):
    blocks = re.findall(r":root \{(.*?)\}", sheets.STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]{6})", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]{6})", blocks[1]))
    for text in ("ink", "soft", "right-ink", "wrong-ink"):
        for ground in ("paper", "card", "quiet"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["ink"], colours["note"]) >= 4.5


def test_bars_have_the_colours_of_the_figures():
    from utils import show

    light = re.search(r":root \{(.*?)\}", sheets.STYLE, re.DOTALL)[1]
    colours = dict(re.findall(r"--(\w+): (#\w+)", light))
    assert [colours[name] for name in ("right", "wrong", "late", "died", "missing")] == [
        *(show.BLUE, show.ORANGE, show.AMBER, show.PURPLE, show.PALE)
    ]


# ---- all or nothing ----


def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch):
    two(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    write_bytes = Path.write_bytes

    def full(path, data):
        if "summary" in path.name:
            raise OSError(28, "No space left on device", str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        Stop, match=r"left as it was, summary\.html cannot be written: No space left on device"
    ):
        two(tmp_path, record("Ada", ["wrong"] * 3), record("New", ["right"] * 3))
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_table_that_a_spreadsheet_holds_open_stops_before_anything_changes(tmp_path, monkeypatch):
    two(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    exchange = os.replace

    def held(source, target):
        if Path(target).name == "written.csv":
            raise PermissionError(13, "Permission denied", str(source))
        return exchange(source, target)

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(Stop, match=r"written\.csv cannot be written: Permission denied"):
        two(tmp_path, record("Ada", ["wrong"] * 3))
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_the_same_records_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        report.write(class_of()[:: 1 if name == "one" else -1], HOMEWORK, tmp_path / name)
    for path in pages_of(tmp_path / "one") + [
        tmp_path / "one" / "grades.csv",
        tmp_path / "one" / "grades.json",
    ]:
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes()


# ---- in a real browser ----


CUT_OFF = """[...document.querySelectorAll("main *")].filter(part => part.closest("svg") === null &&
    (part.scrollHeight > part.clientHeight + 1 && getComputedStyle(part).overflowY !== "visible"
    || part.matches(".verdicts :is(th, td)") && part.getBoundingClientRect().right > innerWidth)).length"""


@pytest.mark.skipif(not (CHROMIUM and find_spec("playwright")), reason="needs playwright and a Chromium")
def test_nothing_happens_in_a_browser(hostile):
    from playwright.sync_api import sync_playwright

    happened, hosts = [], set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        tab.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
        tab.on("console", lambda message: happened.append(message.text))
        tab.on("pageerror", lambda error: happened.append(str(error)))
        tab.on("request", lambda request: hosts.add(request.url))
        tab.on("popup", lambda popup: happened.append(popup.url))
        for path in pages_of(hostile):
            tab.goto(path.as_uri())
            assert tab.evaluate("document.scripts.length + document.images.length + frames.length") == 0
            assert tab.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390, path
            assert tab.url == path.as_uri()
            assert not tab.evaluate(CUT_OFF), path
        browser.close()
    assert happened == []
    assert hosts == {path.as_uri() for path in pages_of(hostile)}


@pytest.mark.skipif(not (CHROMIUM and find_spec("playwright")), reason="needs playwright and a Chromium")
def test_a_long_rubric_is_seen_as_a_whole(tmp_path):
    from playwright.sync_api import sync_playwright

    tasks = tuple(replace(task, rubric="Half a point for words.\n\n" * 60) for task in HOMEWORK.written)
    report.write([record("Ada", ["right"] * 3)], replace(HOMEWORK, written=tasks), tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1100, "height": 800})
        tab.goto((tmp_path / "written.html").as_uri())
        assert tab.evaluate(CUT_OFF) == 0
        tab.evaluate(
            "Object.assign(document.querySelector('.rubric').style, {maxHeight: '90vh', overflow: 'auto'})"
        )
        assert tab.evaluate(CUT_OFF) == 1
        browser.close()


def test_the_policy_alone_stops_a_script_in_a_browser(tmp_path):
    """Should a text ever slip through unescaped, the browser must still refuse it; and the test above can fail."""
    if not (CHROMIUM and find_spec("playwright")):
        pytest.skip("needs playwright and a Chromium")
    from playwright.sync_api import sync_playwright

    live = sheets.Html("".join(SCRIPTS[:2]) + SCRIPTS[5] + "<p style='position:fixed'>x</p>")
    page = sheets.page("t", sheets.tag("div", live))
    free = re.sub(r"<meta http-equiv[^>]*>", "", page)
    dialogs = {"page": [], "free": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, text in (("page", page), ("free", free)):
            (tmp_path / f"{name}.html").write_text(text, "utf-8")
            tab = browser.new_page()
            tab.on(
                "dialog", lambda dialog, name=name: (dialogs[name].append(dialog.message), dialog.dismiss())
            )
            tab.goto((tmp_path / f"{name}.html").as_uri())
            tab.wait_for_timeout(300)
            if name == "page":
                assert tab.evaluate("getComputedStyle(document.querySelector('p')).position") == "static"
        browser.close()
    assert dialogs["page"] == [] and len(dialogs["free"]) >= 2


def test_names_of_the_class_are_all_there(hostile):
    text = "".join(Seen((hostile / "summary.html").read_text("utf-8")).text)
    for name in NAMES[:7]:
        assert name in text
