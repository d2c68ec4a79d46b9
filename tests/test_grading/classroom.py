"""A class of 90 that never was: records with every verdict, and names and texts that try to run something."""

import hashlib
import random

from utils.check import Cases
from utils.grading.homework import Exercise, Homework, Written
from utils.grading.similar import Pair

SCRIPTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[here](javascript:alert(1)) <a href='javascript:alert(1)' autofocus onfocus=alert(1)>here</a>",
    "</style></title></pre></textarea><script>alert(1)</script><style>@import 'http://127.0.0.1:9/x.css';",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
    "{{ 7 * 7 }} ${7 * 7} {% import os %} #{7 * 7} %(x)s {0.__class__}",
    "\x1b[31mred\x1b[0m \x1b]8;;http://127.0.0.1:9\x07link\x1b]8;;\x07",
    "\" onmouseover=\"alert(1)\" x='' style='position:fixed;inset:0'",
    "--><![CDATA[<script>alert(1)</script>]]><!--",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe><base href='http://127.0.0.1:9/'>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
    "abc\u202egnp.exe\u2066 \u200b\ufeff\U000e0041 \ud800 \udc9f \x00 \x7f \x85 \u2028 \uffff",
    "Z" + "\u0335\u0321\u0322" * 40 + "algo",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
]
NAMES = [
    *(
        "Ada Lovelace",
        "Émilie du Châtelet",
        "محمد بن موسى",
        "王小雲",
        "Νίκος Παπαδόπουλος",
        "O'Neill, Séan",
        "007",
    ),
    *(
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://127.0.0.1:9/?"&A1,"x")',
        "+1+1",
        "-2+3",
        "@SUM(1+1)",
        "\t=1+1",
    ),
    *(
        "\r=1+1",
        "＝1+1",
        "'=1+1",
        "a;=1+1",
        'say "hi",=1+1',
        "two\nlines",
        "\u200b=1+1",
        "\ufeff=1",
        "−1",
        "'007",
    ),
    *(
        "../../etc/passwd",
        "..\\..\\boot.ini",
        "CON",
        "nul.txt",
        "a" * 300,
        "ADA LOVELACE",
        "Ada-Lovelace",
        " ",
    ),
    *(
        "C:\\x",
        "a/b",
        "a\x00b",
        "a␀b",
        ".hidden",
        "name.",
        "ＡＤＡ",
        "ﬁ",
        "\ud800",
        "%2e%2e%2f",
        "1e5",
        "#REF!",
    ),
]


def cases(name):
    return Cases(f"{name}(x)", [])


def homework():
    """A homework with three exercises and two questions, without running any page."""
    names = {"mean": "1. The middle", "nucleus": "2. The nucleus", "search": "3. The search"}
    tasks = tuple(Exercise(name, title, 3, cases(name), cases(name)) for name, title in names.items())
    questions = (
        Written(
            "why",
            "4. Why?",
            2,
            "## 4. Why? · 2 points\n\nSay *why*, with **one** number.",
            "**Rubric.** One each.",
        ),
        Written("how", "5. How?", 0.5, "## 5. How?\n\n1. First\n2. Then `x < 1`", "Half a point."),
    )
    cell = type(
        "Cell", (), {"cell_type": "markdown", "source": "# Homework 99 · A test\n\nWords", "id": "title"}
    )
    released = type("Notebook", (), {"cells": [cell]})
    sources = {task.name: f"def {task.name}(x):\n    return x\n" for task in tasks}
    return Homework("hw99", None, released, tasks, questions, (), sources, "0123456789abcdef")


VERDICTS = {
    "right": (3, ["✓ {}: 29 of 29 cases"], ""),
    "wrong": (
        0,
        [
            *("✗ {}: 2 of 29 cases fail", "    p         0.6", "    probs     [[0.1, 0.2, 0.4, 0.3]]"),
            *("    yours     [[0, 0, 0.4, 0.3]]", "    expected  [[0, 0, 0.571, 0.429]]"),
            "  → {mistake}",
        ],
        "divide each row by its own sum, not by the sum of all rows",
    ),
    "empty": (0, ["○ {}: not written yet"], ""),
    "late": (
        0,
        ["✗ {}: 1 of 29 cases fail", "  → {} is still running after 10 s: a loop that never ends?"],
        "",
    ),
    "died": (0, ["✗ {}: the process ended (signal 9): too much memory?"], ""),
    "missing": (0, [], ""),
}
MISTAKES = [
    "divide each row by its own sum, not by the sum of all rows",
    "one token too many: the set should be the smallest that holds p",
    "the call changes its argument `probs`: work on a copy",
]


def record(student, verdicts, texts=("Because of 0.9.", "First, then."), homework=None, **other):
    """One record. verdicts: of the three exercises   texts: of the two written answers"""
    tasks = (homework or globals()["homework"]()).exercises
    exercises = {}
    for at, (task, verdict) in enumerate(zip(tasks, verdicts)):
        points, lines, mistake = VERDICTS[verdict]
        mistake = mistake and MISTAKES[at % len(MISTAKES)]
        exercises[task.name] = {
            "points": points,
            "of": 3,
            "verdict": verdict,
            "lines": [line.replace("{mistake}", mistake).replace("{}", task.name) for line in lines],
            "mistake": mistake,
        }
    got = sum(part["points"] for part in exercises.values())
    waits = "; 2.5 points of written answers wait for a person" if any(texts) else ""
    return {
        "student": student,
        "file": f"{student}.ipynb",
        "sha256": hashlib.sha256(student.encode("utf-8", "replace")).hexdigest(),
        "homework": "hw99",
        "fingerprint": "0123456789abcdef",
        "wall": "bubblewrap",
        "seconds": 1.25,
        "reason": f"{got} of 9 points{waits}.",
        "notes": ["The cells were put back in order."] if "late" in verdicts else [],
        "exercises": exercises,
        "written": {"why": {"of": 2, "text": texts[0]}, "how": {"of": 0.5, "text": texts[1]}},
        "code": {task.name: f"def {task.name}(x):\n    return x\n" for task in tasks},
    } | other


def unreadable(student, reason="The file is not a notebook: it begins with <!doctype html>."):
    nothing = ["missing"] * 3
    return record(student, nothing, ("", "")) | {"reason": reason, "code": {}, "written": {}, "wall": ""}


def class_of(count=90, seed=7):
    """`count` records: odd names first, hostile texts in every third, and files that were no notebooks."""
    rng = random.Random(seed)
    kinds, odds = list(VERDICTS), (12, 5, 2, 1, 1, 1)
    names = NAMES + SCRIPTS
    names += [f"Student {number:02}" for number in range(count - len(names))]
    found = []
    for number, name in enumerate(names):
        verdicts = rng.choices(kinds, odds, k=3)
        if number % 17 == 3:
            found.append(unreadable(name))
            continue
        texts = (
            ("", "")
            if number % 11 == 5
            else ("Because the mean is 0.9.\n\nIt is *so*.", "First this, then that.")
        )
        one = record(name, verdicts, texts)
        if number % 3 == 0:
            poison(one, SCRIPTS[number % len(SCRIPTS)])
        found.append(one)
    return found


def poison(one, vector):
    """Put a hostile text wherever a student's words can get."""
    one["file"] = f"{vector}/{one['file']}"
    one["notes"] = [vector, *one["notes"]]
    one["wall"] = "landlock"
    for part in one["exercises"].values():
        part["lines"] = [*part["lines"], f"    printed   {vector}", "  → raises ValueError: " + vector]
        part["mistake"] = part["mistake"] and f"{part['mistake']} {vector}"
    for part in one["written"].values():
        part["text"] = part["text"] and f"{part['text']}\n{vector}\n# {vector}"
    one["reason"] = f"{one['reason'].rstrip('.')} ({vector})."


PAIRS = [Pair(SCRIPTS[0], NAMES[0], 0.91, {"mean": 0.9, "nucleus": 0.93})]
