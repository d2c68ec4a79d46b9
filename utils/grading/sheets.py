"""Pages for students and instructors that can do nothing: no script, no link and no picture of a stranger's making.

Three things keep a page inert. `tag` escapes every text that is not `Html` already, and only this module makes
`Html`. `visible` shows signs that would change how their neighbours are read. And the page forbids the browser, by
its Content-Security-Policy, everything but the one style sheet whose hash it names.
"""

import base64
import hashlib
import html
import re
import unicodedata
from collections import Counter, defaultdict

import mistune

from utils.grading import repair

LONGEST = 20_000  # letters of one text; a page with more of it could not be read anyway
VOID = {"meta"}
VERDICTS = {  # sign, words, and a sentence for where the check left none
    "right": ("✓", "right", ""),
    "wrong": ("✗", "not right yet", "Its answers were not right."),
    "empty": ("○", "not written yet", "The function was still empty."),
    "late": ("✗", "took too long", "It was stopped because it did not come to an end in its time."),
    "died": ("✗", "ended the run", "The process that ran it came to an end, perhaps for want of memory."),
    "missing": ("○", "not found", "No function of this name could be run from the file."),
}
HIDDEN = (
    "Each function was called with the inputs that the check on the homework's page shows, and with more that it"
    " does not show: an answer has to hold in general. Of those hidden inputs the check says what went wrong but not"
    " with which numbers, because they are the same for everyone. The points of an exercise are given when"
    " all its cases are right."
)
ON_THE_PAGE = "These are cases of the page; where one of them fails, the others are not counted."
NOT_GRADED = (
    "Nothing of this file was graded. You may hand in a new file; if you think that this one is right, show this page"
    " to your instructor."
)
FLAGGED = {  # notes that an instructor should see, and the problem in words
    repair.WRONG_PAGE: "nothing of this homework",
    repair.MARKED: "holds marks of the instructor's file",
}
LONG_QUESTION = 500  # letters; a longer one is folded where answers are marked


# ---- text that stays text ----


class Html(str):
    """Text that is HTML already. Made by `tag` and `rendered` only; all other text is escaped."""


def visible(text):
    """The text with a visible stand-in for each sign that has no look of its own: controls, direction marks, halves.

    Line ends and tabs stay, as do the joiners that Persian and emoji need. No more than four marks may stand on
    one letter, for a tower of them covers the lines above.
    """
    shown, marks = [], 0
    for sign in str(text).replace("\r\n", "\n"):
        kind = unicodedata.category(sign)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if marks <= 4:
            shown.append(sign if sign in "\n\t\u200c\u200d" else stand_in(sign, kind))
    return "".join(shown)


def stand_in(sign, kind):
    """The sign itself, or what is seen in its place."""
    odd = kind in ("Cc", "Cf", "Cs", "Zl", "Zp") or ord(sign) & 0xFFFE == 0xFFFE
    return f"⟨U+{ord(sign):04X}⟩" if odd else sign


def escaped(part):
    """HTML for a piece of a page: itself if it is HTML, else its visible text, escaped."""
    return part if isinstance(part, Html) else Html(html.escape(visible(part)))


def tag(element, /, *parts, **attributes):
    """An element. Its parts are escaped unless they are Html; class_ stands for class, aria_label for aria-label."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(escaped(part) for part in parts if part is not None)
    return Html(f"<{element}{words}>" + (f"{inside}</{element}>" if element not in VOID else ""))


def join(parts, between=""):
    return Html(escaped(between).join(escaped(part) for part in parts))


def answer_block(text):
    """A student's answer as it is: line by line, in the direction of its own script, nothing of it rendered."""
    rest = len(text) - LONGEST
    more = f"\n… and {rest:,} letters more, in the file that was handed in" if rest > 0 else ""
    return tag("pre", "\n", text[:LONGEST], more, class_="words", dir="auto")


def check_block(lines):
    """What a check says, line by line; the sentence that explains a failure stands out."""
    shown = [str(line)[:600] for line in lines[:80]]
    parts = [tag("strong" if line.startswith("  → ") else "span", line, "\n") for line in shown]
    return tag("pre", "\n", *parts)


def name_of(student):
    """A name within a sentence: its direction ends with it."""
    return tag("bdi", short(student) or "(no name)")


def short(text, longest=120):
    """A text in one line, cut where it gets long."""
    line = " ".join(visible(str(text)[: 10 * longest]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


class Words(mistune.HTMLRenderer):
    """Markdown of our own notebooks; links and pictures are left as their words, for a page leads nowhere."""

    def link(self, text, url, title=None):
        return text

    def image(self, text, url, title=None):
        return text

    def heading(self, text, level, **attributes):
        return f"<h4>{text}</h4>\n"


def rendered(markdown):
    """HTML of the course's own Markdown: questions and rubrics, never a student's text."""
    return Html(mistune.create_markdown(renderer=Words(escape=True), plugins=["table"])(markdown))


# ---- the page around ----

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --card: #ffffff; --ink: #1d2125; --soft: #59616a; --line: #dcdfe3; --quiet: #f3f4f2;
  --right: #0072B2; --wrong: #D55E00; --late: #E69F00; --died: #B0568A; --empty: #9aa1a9; --missing: #D5D9DE;
  --right-ink: #005a8f; --wrong-ink: #a84300; --note: #fff6e0; --note-line: #e3b341;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --card: #1b1f23; --ink: #e4e6e8; --soft: #a2abb4; --line: #343a41; --quiet: #20252a;
    --right: #3d9bd6; --wrong: #e8763a; --died: #cf7fb3; --empty: #6E6E6E; --missing: #454c54;
    --right-ink: #7cc0ee; --wrong-ink: #ff9d66; --note: #2b2618; --note-line: #8f7430;
  }
}
* { box-sizing: border-box; }
html { font: 100%/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
main.wide { max-width: 72rem; }
h1, h2, h3, h4 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: 2rem; font-weight: 650; margin: 0.1rem 0 0.9rem; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; font-weight: 650; margin: 3rem 0 0.8rem; }
h3 { font-size: 1.05rem; font-weight: 650; margin: 0; }
h4 { font-size: 1rem; margin: 1.2rem 0 0.4rem; }
p, ul, ol { margin: 0.5rem 0; max-width: 68ch; }
ul, ol { padding-left: 1.3rem; }
.over, .soft, figcaption, small { color: var(--soft); }
.over { margin: 0; font-size: 0.95rem; }
small, .small { font-size: 0.875rem; }
.score { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0.1rem 0.6rem; margin: 0; max-width: none; }
.score b { font-size: 2.6rem; line-height: 1.15; font-weight: 650; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 0.55rem; border-radius: 0.28rem; background: var(--quiet); }
svg.meter { margin: 0.4rem 0 1rem; outline: 1px solid var(--line); }
.right { fill: var(--right); } .wrong { fill: var(--wrong); } .late { fill: var(--late); }
.died { fill: var(--died); } .empty { fill: var(--empty); } .missing { fill: var(--missing); }
.waits { fill: var(--empty); fill-opacity: 0.45; }
.sign { font-weight: 700; display: inline-block; min-width: 1.3em; }
.is-right { color: var(--right-ink); }
.is-wrong, .is-late, .is-died { color: var(--wrong-ink); }
.is-empty, .is-missing, .is-waits { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 0.6rem; padding: 1rem 1.15rem;
  margin: 0.9rem 0; break-inside: avoid; }
.card header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0.1rem 1rem;
  align-items: baseline; }
.points { font-variant-numeric: tabular-nums; white-space: nowrap; }
.card > p:last-child, .card > pre:last-child { margin-bottom: 0; }
.note { background: var(--note); border-left: 4px solid var(--note-line); padding: 0.7rem 1rem; margin: 1rem 0;
  border-radius: 0 0.4rem 0.4rem 0; max-width: none; }
pre, code { font: 0.9rem/1.55 ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { background: var(--quiet); padding: 0.05em 0.3em; border-radius: 0.25em; }
pre { background: var(--quiet); border-radius: 0.4rem; padding: 0.7rem 0.9rem; margin: 0.7rem 0 0; overflow: auto;
  white-space: pre-wrap; contain: paint; }
pre span, pre strong { display: block; padding-left: 6ch; text-indent: -6ch; }
pre strong { color: var(--wrong-ink); font-weight: 650; }
pre.words { font-family: inherit; font-size: 1rem; background: none; border: 1px solid var(--line); }
.scroll { overflow-x: auto; contain: paint; margin: 1.2rem 0; scrollbar-width: thin; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--soft); padding: 0 0 0.4rem; font-size: 0.95rem; }
th, td { text-align: left; vertical-align: baseline; padding: 0.38rem 0.9rem 0.38rem 0;
  border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--soft); font-size: 0.875rem; white-space: nowrap; }
tbody th { min-width: 8.5rem; max-width: 24rem; }
td:not(.number, .bar) { min-width: 8.5rem; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { width: 45%; min-width: 8rem; }
.bar svg { height: 0.8rem; border-radius: 0.15rem; }
.verdicts tbody th { width: 30%; }
.verdicts .bar { width: 30%; }
.bins { max-width: 40rem; }
.bins th { white-space: nowrap; width: 1%; min-width: 0; }
.bins td.number { width: 1%; }
.bins .bar { width: auto; }
.bins svg { background: none; }
svg.swatch { display: inline-block; width: 0.75rem; height: 0.75rem; border-radius: 0.15rem; }
a { color: var(--right-ink); text-underline-offset: 0.15em; }
a:focus-visible, summary:focus-visible, pre:focus-visible { outline: 3px solid var(--right); outline-offset: 2px; }
summary { cursor: pointer; }
.names { columns: 14rem; list-style: none; padding: 0; max-width: none; }
.names li { break-inside: avoid; }
.rubric { border-left: 4px solid var(--right); break-inside: auto; }
.rubric table, details table { font-size: 0.9rem; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 0.875rem; }
@media (max-width: 34rem) {
  main { padding-top: 1.5rem; }
  h1 { font-size: 1.6rem; }
  .card { padding: 0.85rem 0.9rem; }
  pre { font-size: 0.8rem; padding: 0.6rem 0.7rem; }
  tbody th, td:not(.number, .bar) { min-width: 5.2rem; }
  th, td { padding-right: 0.6rem; }
  .verdicts thead tr { display: flex; flex-wrap: wrap; gap: 0.2rem 0.9rem; }
  .verdicts thead th { border: 0; padding: 0; }
  .verdicts thead th:nth-child(-n + 2) { display: none; }
  .verdicts tbody tr { display: grid; grid-template-columns: repeat(6, 1fr); padding: 0.5rem 0;
    border-bottom: 1px solid var(--line); }
  .verdicts tbody :is(th, td) { border: 0; padding: 0.1rem 0; min-width: 0; max-width: none; text-align: left; }
  .verdicts tbody :is(th, td.bar) { grid-column: 1 / -1; width: auto; }
  .verdicts td.number::before { content: ""; display: inline-block; width: 0.6rem; height: 0.6rem;
    margin-right: 0.35rem; border-radius: 0.15rem; }
  .verdicts td:nth-child(3)::before { background: var(--right); }
  .verdicts td:nth-child(4)::before { background: var(--wrong); }
  .verdicts td:nth-child(5)::before { background: var(--empty); }
  .verdicts td:nth-child(6)::before { background: var(--late); }
  .verdicts td:nth-child(7)::before { background: var(--died); }
  .verdicts td:nth-child(8)::before { background: var(--missing); }
  pre.words { font-size: 0.95rem; }
}
@media print {
  :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; --note: #ffffff; }
  main { max-width: none; padding: 0; }
  svg, .note { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{DIGEST}'; base-uri 'none'; form-action 'none'"


def page(title, *parts, wide=False):
    """A whole page: one file, one style, nothing else that a browser could load or run."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Html(html.escape(POLICY, quote=False))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="robots", content="noindex"),
        tag("title", short(title)),
        tag("style", Html(STYLE)),
    ]
    body = tag("body", tag("main", join(parts, "\n"), class_="wide" if wide else None))
    return "<!doctype html>\n" + tag("html", tag("head", join(head, "\n")), body, lang="en") + "\n"


def title_of(homework):
    """Homework 07 · Decoding"""
    heading = re.search(r"^# (.+)$", homework.released.cells[0].source, re.MULTILINE)
    return heading[1] if heading else homework.name


def amount(points):
    """3 points, 1 point, 0.5 points"""
    return f"{points:g} point{'s' * (points != 1)}"


def plural(count, word):
    return f"{count:,} {word}{'s' * (count != 1)}"


def bar(*parts, of, class_=None):
    """Pieces of a bar, side by side: (kind, how much of `of`). The numbers themselves stand in text beside it."""
    at, rects = 0.0, []
    for kind, part in parts:
        width = 100 * part / (of or 1)
        if width:
            rects.append(tag("rect", x=f"{at:.2f}", width=f"{width:.2f}", height="10", class_=kind))
        at += width
    return tag(
        "svg", *rects, class_=class_, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true"
    )


def table(caption, columns, lines, class_=None):
    """columns: {heading: class of its fields, or None}; the first field of a line is its heading."""
    kinds = list(columns.values())
    head = [tag("th", heading, scope="col", class_=kind) for heading, kind in columns.items()]
    rows = [
        tag(
            "tr",
            tag("th", line[0], scope="row"),
            *(tag("td", part, class_=k) for part, k in zip(line[1:], kinds[1:])),
        )
        for line in lines
    ]
    whole = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", *head)), tag("tbody", *rows), class_=class_
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def sign(verdict, words=True):
    mark, said, _ = VERDICTS[verdict]
    inside = [
        tag("span", mark, class_="sign", aria_hidden="true" if words else None),
        said if words else None,
    ]
    return tag("span", *inside, class_=f"is-{verdict}")


# ---- the student's page ----


def feedback(result, homework):
    """The page of one student: where the points come from, in the check's own words."""
    record = result.record
    tasks = [(task, outcome_of(record, task)) for task in homework.exercises]
    parts = [
        tag("p", f"{title_of(homework)} · feedback", class_="over"),
        tag("h1", name_of(result.student)),
        *score(result),
        tag("p", result.sentence),
        *(tag("p", short(note, 400), class_="note") for note in record.get("notes", ()) if is_finding(note)),
    ]
    if is_read(record):
        parts += [
            overview(result, homework),
            tag("h2", "Exercise by exercise"),
            *(card(task, found) for task, found in tasks),
        ]
    answered = any(text_of(record, task) for task in homework.written)
    if is_read(record) or answered:
        parts += own_answers(result, homework)
    repairs = [note for note in record.get("notes", ()) if not is_finding(note)]
    if repairs:
        parts += [
            tag("h2", "What was repaired in your file"),
            tag("p", "Your file was put in order before it ran. None of this costs points."),
            tag("ul", *(tag("li", short(note, 400)) for note in repairs)),
        ]
    if is_read(record) or answered:
        parts += [
            tag("h2", "How this was graded"),
            tag("p", HIDDEN) if is_read(record) else "",
            tag("p", PEOPLE),
        ]
    else:
        parts += [tag("h2", "What you can do"), tag("p", NOT_GRADED)]
    parts += [colophon(result)]
    return page(f"{title_of(homework)}: {result.student}", *parts)


PEOPLE = (
    "Written answers are read by a person. If you think that something here is wrong, show this page to your"
    " instructor: the grading can be repeated, and it gives the same points again."
)


def outcome_of(record, task):
    """What the record says of an exercise; where it says nothing, that none was found."""
    nothing = {"points": 0, "of": task.points, "verdict": "missing", "lines": [], "mistake": ""}
    return nothing | record.get("exercises", {}).get(task.name, {})


def is_finding(note):
    """Whether a note tells what a file lacks or should not hold, where others tell what was mended."""
    return note.startswith(repair.FINDINGS)


def is_read(record):
    """Whether the functions that were handed in could be asked anything."""
    return bool(record["wall"])


def score(result):
    """The number that everyone looks for first, what it is made of, and a bar of it."""
    of = result.of + result.written_of
    said = f"of {amount(of)}" + (" so far" if result.waiting else "")
    yield tag("p", tag("b", f"{result.so_far:g}"), " ", tag("span", said), class_="score")
    yield bar(("right", result.so_far), ("waits", result.waiting), of=of, class_="meter")


def overview(result, homework):
    """All parts of the homework in a few lines."""
    lines = []
    for task in homework.exercises:
        found = outcome_of(result.record, task)
        lines.append((task.title, sign(found["verdict"]), f"{found['points']:g} of {task.points:g}"))
    for task in homework.written:
        mark, text = result.marks[task.name].points, text_of(result.record, task)
        said = "read by a person" if mark is not None else "waits for a person" if text else "no answer found"
        kind = tag("span", tag("span", "✎", class_="sign", aria_hidden="true"), said, class_="is-waits")
        points = f"{mark or 0:g}" if mark is not None or not text else "–"
        lines.append((task.title, kind, f"{points} of {task.points:g}"))
    return table("At a glance", {"exercise": None, "result": None, "points": "number"}, lines)


def card(task, found):
    """One exercise: the points, and what the check said."""
    verdict, lines = found["verdict"], found["lines"]
    head = tag(
        "header",
        tag("h3", task.title),
        tag("span", f"{found['points']:g} of {amount(task.points)}", class_="points soft"),
    )
    words = tag("p", sign(verdict), " · ", tag("code", task.name))
    body = check_block(lines) if lines else None
    sentence = tag("p", VERDICTS[verdict][2]) if not lines and VERDICTS[verdict][2] else None
    of_the_page = lines and re.search(r": \d+ of \d+ cases fail$", lines[0])
    more = tag("p", ON_THE_PAGE, class_="soft small") if of_the_page else None
    return tag("section", head, words, sentence, body, more, class_="card")


def text_of(record, task):
    """The text that was handed in for a question, or ""."""
    return record.get("written", {}).get(task.name, {}).get("text", "").strip()


def own_answers(result, homework):
    """All written answers of a student, under their heading."""
    if homework.written:
        yield tag("h2", "Written answers")
        yield from (own_answer(result, task) for task in homework.written)


def own_answer(result, task):
    """A written answer as the student sees it again, with its points or what they wait for."""
    mark, text = result.marks[task.name], text_of(result.record, task)
    given = f"{mark.points:g} of " if mark.points is not None else "" if text else "0 of "
    head = tag(
        "header",
        tag("h3", task.title),
        tag("span", f"{given}{amount(task.points)}", class_="points soft"),
    )
    if not text:
        said = "No answer was found in your file. If you wrote one, tell your instructor."
    elif mark.points is None:
        said = "A person reads this and gives the points."
    elif mark.changed:
        said = "The points were given for an earlier version of this answer; a person looks at it again."
    else:
        said = "A person has read this."
    return tag("section", head, tag("p", said), answer_block(text) if text else None, class_="card")


def colophon(result):
    """What was graded, so that two people can make sure that they speak of one file."""
    record = result.record
    parts = [tag("span", "File ", tag("bdi", short(record["file"])))]
    if record.get("sha256"):
        parts += [Html(" · "), tag("span", "fingerprint ", tag("code", short(record["sha256"])[:16]))]
    return tag("footer", *parts)


# ---- the instructor's pages ----


def summary(results, homework, pairs=(), twins=()):
    """The class at a glance. pairs, twins: as utils/grading/similar.py finds them"""
    parts = [
        tag("p", f"{title_of(homework)} · for instructors", class_="over"),
        tag("h1", f"{plural(len(results), 'student')}"),
        tag("p", class_sentence(results)),
        *distribution(results),
        *problems(results, homework),
        *by_exercise(results, homework),
        *mistakes(results, homework),
        *alike(results, pairs, twins),
        *everyone(results),
        *walls(results),
    ]
    return page(f"{title_of(homework)}: the class", *parts, wide=True)


def class_sentence(results):
    """Mean, median and what still waits, in words."""
    if not results:
        return "Nothing was handed in."
    points = sorted(result.so_far for result in results if is_read(result.record))
    if not points:
        return "No file could be read."
    middle = (points[(len(points) - 1) // 2] + points[len(points) // 2]) / 2
    of = results[0].of + results[0].written_of
    waits = sum(result.waiting > 0 for result in results)
    words = (
        f"Median {middle:g} of {amount(of)}, mean {sum(points) / len(points):.1f},"
        f" over {plural(len(points), 'file')} that could be read."
    )
    if waits:
        words += (
            f" The written answers of {plural(waits, 'student')} wait for a person and count 0 until then."
        )
    return words


def bins(of):
    """Edges of at most eleven equal steps from 0 to below `of`; full marks stand alone."""
    step = next(step for step in (0.5, 1, 2, 2.5, 5, 10, 20, 25, 50, 100, 1e9) if of / step <= 11)
    edges, at = [], 0
    while at < of:
        edges.append((at, min(at + step, of)))
        at += step
    return edges


def distribution(results):
    """How many students have how many points."""
    if not results:
        return
    of = results[0].of + results[0].written_of
    rows = [
        (f"{low:g} to under {high:g}", lambda p, low=low, high=high: low <= p < high)
        for low, high in bins(of)
    ]
    rows += [(f"{of:g}, all", lambda p: p >= of)]
    counts = [(label, sum(map(inside, (result.so_far for result in results)))) for label, inside in rows]
    most = max(count for _, count in counts)
    yield tag("h2", "Points")
    lines = [(label, count, bar(("right", count), of=most)) for label, count in reversed(counts)]
    columns = {"points": None, "students": "number", "": "bar"}
    yield table("How many students have how many points", columns, lines, class_="bins")


def by_exercise(results, homework):
    """The verdicts on each exercise."""
    lines = []
    for task in homework.exercises:
        counts = Counter(outcome_of(result.record, task)["verdict"] for result in results)
        drawn = bar(*((verdict, counts[verdict]) for verdict in VERDICTS), of=len(results))
        lines.append((title_and_name(task), drawn, *(counts[verdict] or "·" for verdict in VERDICTS)))
    yield tag("h2", "Exercise by exercise")
    columns = {"exercise": None, "": "bar"} | {swatch(verdict): "number" for verdict in VERDICTS}
    yield table("How many students got which verdict", columns, lines, class_="verdicts")


def swatch(verdict):
    """A verdict's words behind its colour in the bars."""
    return join([bar((verdict, 1), of=1, class_="swatch"), " ", VERDICTS[verdict][1]])


def title_and_name(task):
    return join([task.title, " ", tag("code", task.name)])


def link(result):
    """A student's name that leads to the feedback."""
    return tag("a", name_of(result.student), href=f"feedback/{result.page}")


def names(results, at_once=6):
    """Links to the feedback of these students; a long list is folded."""
    links = [link(result) for result in results]
    if len(links) <= at_once:
        return join(links, ", ")
    listed = tag("ul", *(tag("li", one) for one in links), class_="names")
    return tag("details", tag("summary", plural(len(links), "student")), listed)


def mistakes(results, homework):
    """The mistakes that the checks know by name, the most common first."""
    made = defaultdict(list)
    for task in homework.exercises:
        for result in results:
            mistake = outcome_of(result.record, task)["mistake"]
            if mistake:
                made[task.name, mistake].append(result)
    lines = [
        (tag("code", name), short(mistake, 300), len(who), names(who))
        for (name, mistake), who in sorted(made.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    yield tag("h2", "The most common mistakes")
    if not lines:
        yield tag("p", "No answer showed a mistake that the checks know by name.")
        return
    columns = {"exercise": None, "mistake": None, "students": "number", "who": None}
    yield table("Mistakes that the checks know by name", columns, lines[:40])


def problems(results, homework):
    """What an instructor should look at: files not read or of another page, functions that were stopped or died."""
    lines = []
    for result in results:
        verdicts = {task.name: outcome_of(result.record, task)["verdict"] for task in homework.exercises}
        if not is_read(result.record):
            lines.append((link(result), "nothing to grade", short(result.record["reason"], 300)))
        for note in result.record.get("notes", ()):
            known = [words for start, words in FLAGGED.items() if note.startswith(start.partition("{")[0])]
            lines += [(link(result), words, short(note, 300)) for words in known]
        for verdict in ("late", "died"):
            which = [name for name, found in verdicts.items() if found == verdict]
            if which:
                lines.append(
                    (link(result), VERDICTS[verdict][1], join([tag("code", name) for name in which], ", "))
                )
    yield tag("h2", "Problems")
    if not lines:
        yield tag("p", "None: every file is a page of this homework, and every function came to an end.")
        return
    yield table("Files and functions to look at", {"student": None, "problem": None, "what": None}, lines)


ALIKE = (
    "This proves nothing. Short functions with one contract look alike when two people find the same way, when they"
    " worked together as they were allowed to, or when both read the same book. Read both pages and speak with both"
    " students before you believe anything."
)


def alike(results, pairs, twins):
    """Submissions that share more than chance would: for information only."""
    by_student = {result.student: result for result in results}
    yield tag("h2", "Similar submissions")
    if not pairs and not twins:
        yield tag("p", "No two submissions are more alike than short functions usually are.")
        return
    yield tag("p", ALIKE, class_="note")
    if twins:
        lines = [(what, names([by_student[student] for student in who])) for what, who in twins]
        yield table("Handed in more than once, word for word", {"what": None, "students": None}, lines)
    if not pairs:
        return
    lines = [
        (
            join([link(by_student[pair.one]), " and ", link(by_student[pair.other])]),
            f"{pair.share:.0%}",
            join(
                [join([tag("code", name), f" {share:.0%}"]) for name, share in pair.exercises.items()], ", "
            ),
        )
        for pair in pairs[:100]
    ]
    columns = {"students": None, "shared": "number", "in which exercises": None}
    yield table("Pairs whose code is alike beyond names, comments and layout", columns, lines)


def everyone(results):
    """All students, each with a link to the feedback."""
    lines = [
        (
            link(result),
            f"{result.points:g}",
            f"{result.written:g}" if not result.waiting else "waits",
            f"{result.total:g}" if result.total is not None else "",
            short(result.sentence, 200),
        )
        for result in results
    ]
    yield tag("h2", "Everyone")
    columns = {"student": None, "checks": "number", "written": "number", "total": "number", "in words": None}
    yield table("All students in the order of their names", columns, lines)


def walls(results):
    """Behind what the code of strangers ran."""
    counts = Counter(result.record.get("wall") or "nothing was run" for result in results)
    said = "; ".join(f"{short(wall)}: {plural(count, 'submission')}" for wall, count in counts.most_common())
    yield tag("footer", f"The wall between the students' code and this machine: {said}.")


def written(results, homework):
    """All written answers, question by question, below the question and its rubric. Never for students."""
    parts = [
        tag("p", f"{title_of(homework)} · for instructors only", class_="over"),
        tag("h1", "Written answers"),
        tag(
            "p",
            "Read here; fill in the points in ",
            tag("code", "written.csv"),
            ", where the rows have the same order, and grade again: nothing runs twice, and the points reach"
            " grades.csv and the feedback. This page holds model answers: do not hand it out.",
        ),
    ]
    if not homework.written:
        parts.append(tag("p", "This homework has no questions that a person grades."))
    row = 1
    for task in homework.written:
        cards = []
        for result in results:
            row += 1
            cards.append(one_answer(result, task, row))
        parts += [
            tag("h2", f"{task.title} · {amount(task.points)}"),
            asked(task),
            tag("section", tag("h3", "Model answer and rubric"), rendered(task.rubric), class_="card rubric"),
            tag("p", progress(results, task), class_="soft"),
            *cards,
        ]
    return page(f"{title_of(homework)}: written answers", *parts)


def asked(task):
    """The question as students see it, folded where it is long."""
    words = re.sub(r"\A#+ .*\n", "", task.question).strip()
    whole = rendered(words)
    return tag("details", tag("summary", "The question"), whole) if len(words) > LONG_QUESTION else whole


def progress(results, task):
    """How far the reading has come."""
    done = sum(result.marks[task.name].points is not None for result in results)
    empty = sum(
        result.marks[task.name].points is None and not text_of(result.record, task) for result in results
    )
    return f"{done} of {plural(len(results), 'answer')} have points; {empty} were not handed in and count 0."


def one_answer(result, task, row):
    """An answer as a person marks it: who, how long, which row of the table, what was decided before."""
    mark, text = result.marks[task.name], text_of(result.record, task)
    points = f"{mark.points:g} of {task.points:g}" if mark.points is not None else f"– of {task.points:g}"
    head = tag(
        "header",
        tag("h3", link(result)),
        tag(
            "span", f"row {row} · {plural(len(text.split()), 'word')} · {points}", class_="points soft small"
        ),
    )
    note = tag("p", mark.note, class_="note") if mark.note and text else None
    body = answer_block(text) if text else tag("p", "No answer was handed in.", class_="soft")
    return tag("article", head, note, body, class_="card")
