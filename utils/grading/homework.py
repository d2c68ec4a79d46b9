"""What a homework asks for, read from its one source in solutions/: exercises, their cases, written answers."""

import contextlib
import functools
import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from utils import pages
from utils.check import Cases
from utils.grading import Stop

SOURCES = pages.ROOT / "solutions"


@dataclass(frozen=True)
class Exercise:
    """A function to write. public: the cases of the page; hidden: these and more; uses: earlier exercises it calls."""

    name: str
    title: str
    points: float
    public: Cases
    hidden: Cases
    uses: tuple = ()


@dataclass(frozen=True)
class Written:
    """A question that a person grades. rubric: the model answer and what each point is for."""

    name: str
    title: str
    points: float
    question: str
    rubric: str


@dataclass(frozen=True)
class Homework:
    """One homework, as the grader needs it.

    released: the notebook that students get   ground: sources of its cells without the checks
    solutions: {exercise: the source that solves it}   fingerprint: changes with all that a grade depends on
    """

    name: str
    path: Path
    released: object
    exercises: tuple
    written: tuple
    ground: tuple
    solutions: dict
    fingerprint: str

    @property
    def points(self):
        return sum(task.points for task in (*self.exercises, *self.written))


def find(name):
    """The source of a homework by the beginning of its name, as in "hw07"; Stop if it is not one."""
    sources = sorted(SOURCES.glob("hw*.ipynb"))
    found = [path for path in sources if path.stem == name or path.stem.split("_")[0] == name]
    if len(found) != 1:
        names = ", ".join(path.stem.split("_")[0] for path in sources)
        raise Stop(f"There is no homework {name!r}; there are {names}.")
    return found[0]


@functools.cache
def load(name):
    """The homework of this name. Its source is ours, so it is run here; students' code never is."""
    path = find(name)
    nb, released = pages.read(path), pages.cut(pages.read(path), path)
    found = exercises(nb)
    marked = [cell for cell in pages.code_cells(released) if pages.graded(cell)]
    return Homework(
        name=path.stem.split("_")[0],
        path=path,
        released=released,
        exercises=tuple(found),
        written=tuple(written(nb)),
        ground=tuple(cell.source for cell in marked if is_ground(cell)),
        solutions={pages.graded(cell)["grade_id"]: cell.source for cell in nb.cells if is_exercise(cell)},
        fingerprint=fingerprint(path),
    )


def is_exercise(cell):
    return cell.cell_type == "code" and bool(pages.graded(cell).get("solution"))


def is_ground(cell):
    """Set-up, models, stubs and the cases of the page: all that is marked but the checks."""
    return not pages.graded(cell).get("grade")


def exercises(nb):
    """Run the source without its payoffs and note what each check was given: first the page's cases, then all.

    A page may switch gradients off; they are as before when it has run.
    """
    import torch

    given, titles, points = {}, headings(nb), {}

    def note(function, cases):
        given.setdefault(cases.name, []).append(cases)
        return len(given[cases.name]) > 1  # the first call guards the payoff, the second is asserted

    names = {"__name__": "page"}
    with contextlib.redirect_stdout(io.StringIO()), torch.set_grad_enabled(True):
        for cell in nb.cells:
            mark = pages.graded(cell)
            if cell.cell_type == "code" and mark and cell.id != "model":
                names["check"] = note
                exec(compile(cell.source, f"<{cell.id}>", "exec"), names)
            if cell.cell_type == "code" and mark.get("grade"):
                points[next(reversed(given))] = mark["points"]
    written_down = [cell for cell in nb.cells if is_exercise(cell)]
    for at, cell in enumerate(written_down):
        name = pages.graded(cell)["grade_id"]
        earlier = [pages.graded(before)["grade_id"] for before in written_down[:at]]
        uses = tuple(other for other in earlier if re.search(rf"\b{other}\(", cell.source))
        public, hidden = given[name]
        yield Exercise(name, titles[cell.id], points[name], public, hidden, uses)


def headings(nb):
    """{cell id: the last heading above it, without points and minutes}."""
    found, last = {}, ""
    for cell in nb.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^## (.+)$", cell.source, re.MULTILINE)):
            last = match[1].split(" · ")[0].strip()
        found[cell.id] = last
    return found


def written(nb):
    """The questions that a person grades."""
    titles, question = headings(nb), ""
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        if not pages.is_answer(cell):
            question = cell.source
            continue
        mark = pages.graded(cell)
        yield Written(mark["grade_id"], titles[cell.id], mark["points"], question, cell.source)


def fingerprint(path):
    """Of the homework's source and of the code that grades: a grade made by others is made again."""
    digest = hashlib.sha256()
    for part in (path, pages.ROOT / "utils" / "check.py", *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]
