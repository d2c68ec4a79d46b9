"""For maintainers: what is made from pyproject.toml and from the pages that exist.

    python -m utils.house pins      write constraints.txt from the versions that are installed here
    python -m utils.house picture   draw README's picture anew, if it has changed; `make made` does this too
    python -m utils.house address   write every page's first cell anew, after REPO or TAG changed in utils/course.py

environment.yml, CITATION.cff and the marked parts of README.md and solutions/README.md are made by `make made`
(utils/pages.py asks `made` below).
"""

import base64
import json
import re
import sys
import tomllib
from functools import partial
from importlib import metadata
from urllib.parse import quote

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from utils import course, setup

ROOT = setup.ROOT
EXTRAS = "dev", "edit", "gpus", "grading", "browser", "book"


def made():
    """A maker for utils/pages.py: path → the function that returns its text."""
    return {
        "environment.yml": environment_yml,
        "CITATION.cff": citation,
        "README.md": readme,
        "solutions/README.md": for_instructors,
        "data/families.md": families,
        **({"data/pages.md": measured} if (ROOT / "data" / "pages.json").exists() else {}),
    }


# Versions ------------------------------------------------------------------------------------------


def python_versions():
    """The supported versions: 3.11, 3.12, 3.13."""
    low, high = setup.python_range()
    return [f"{low[0]}.{minor}" for minor in range(low[1], high[1])]


def environment_yml():
    """environment.yml for conda and Binder: conda brings Python, pip all the rest, with pyproject's ranges."""
    # Binder takes its newest known Python for a range, and Python 3.10 for ">=": so exactly one version.
    lines = [
        "# Made from pyproject.toml: never edit, `make made`.",
        "name: language-models",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={python_versions()[0]}",
        "  - pip",
        "  - pip:",
        f"      - --extra-index-url {setup.CPU_WHEELS}",
        *(f'      - "{line}"' for line in setup.requirements("dev")),
    ]
    return "\n".join(lines) + "\n"


def project():
    """What pyproject.toml says about the course."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def citation():
    """CITATION.cff: how to cite the course; its address is named as soon as there is one."""
    about, title = (
        project(),
        (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# "),
    )
    lines = [
        "# Made from pyproject.toml and README.md: never edit, `make made`.",
        "cff-version: 1.2.0",
        "message: If you use this course, please cite it as below.",
        "type: software",
        f'title: "{title}"',
        f'abstract: "{about["description"]}"',
        f'version: "{about["version"]}"',
        "license:",
        *(f"  - {name}" for name in about["license"].split(" AND ")),
        "authors:",
        f"  - name: 'The authors of \"{title}\"'",
    ]
    address = [] if "OWNER/REPO" in course.REPO else [f"repository-code: {course.REPO}"]
    return "\n".join(lines + address) + "\n"


def applies(requirement, extras=()):
    """Does this requirement hold on Linux, for any supported Python?"""
    if requirement.marker is None:
        return True
    linux = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}
    machine = {**default_environment(), **linux, "implementation_name": "cpython"}
    return any(
        requirement.marker.evaluate(
            {**machine, "python_version": v, "python_full_version": v + ".0", "extra": extra}
        )
        for v in python_versions()
        for extra in ["", *extras]
    )


def needs(name, extras=()):
    """The requirements of an installed package."""
    lines = metadata.distribution(name).requires or []
    return [r for r in map(Requirement, lines) if applies(r, extras)]


def tree(lines):
    """Every package that these requirement lines pull in: name → installed version, None where it is not installed."""
    found, todo = {}, [Requirement(line) for line in lines]
    asked = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in asked:
            continue
        asked.add((name, *sorted(requirement.extras)))
        try:
            found[name] = Version(metadata.version(name)).public
            todo += needs(name, requirement.extras)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def constraints():
    """constraints.txt: one version for each package of the whole tree, extras included."""
    found = tree(setup.requirements(*EXTRAS))
    absent = sorted(name for name, version in found.items() if version is None)
    if absent:
        raise setup.Stop(f"Not installed here, so not to be pinned: {', '.join(absent)}. Install them first.")
    head = "# Made by `python -m utils.house pins` in an environment that passed every test. Never edit."
    return "\n".join([head, *(f"{name}=={found[name]}" for name in sorted(found))]) + "\n"


# README: the buttons and the table of pages --------------------------------------------------------------------


def buttons(name):
    """Colab and Binder links of a page."""
    path = quote(f"notebooks/{name}.ipynb")
    owner = course.REPO.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner}/blob/{course.TAG}/{path}"
    binder = f"https://mybinder.org/v2/gh/{owner}/{course.TAG}?urlpath=lab/tree/{path}"
    return f"[Colab]({colab}) · [Binder]({binder})"


def page_row(name, question):
    """One line of the table; a page that is not there yet says so."""
    if course.standing(name) == "coming":
        return f"| {name} | {question} | coming | |"
    homework = [
        f"[{path.stem}](notebooks/{path.name})"
        for path in sorted((ROOT / "notebooks").glob(f"hw{name[:2]}_*"))
    ]
    begun = "begun · " if course.standing(name) == "begun" else ""
    return (
        f"| [{name}](notebooks/{name}.ipynb) | {question} | {begun}{buttons(name)} | {' '.join(homework)} |"
    )


def pages_table():
    """The course map as a table, from the pages that exist."""
    lines = []
    for part, pages in course.PAGES.items():
        lines += [f"**{part}**", "", "| page | its question | open in | homework |", "|---|---|---|---|"]
        lines += [page_row(name, question) for name, question in pages.items()] + [""]
    names = [name for pages in course.PAGES.values() for name in pages]
    here = sum(course.standing(name) == "here" for name in names)
    return "\n".join(
        [f"{here} of {len(names)} lessons are here; the others are *begun* or *coming*.", "", *lines[:-1]]
    )


def open_links():
    """The row of buttons under the title."""
    owner = course.REPO.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner}/blob/{course.TAG}/{setup.FIRST_PAGE}"
    binder = f"https://mybinder.org/v2/gh/{owner}/{course.TAG}?urlpath=lab/tree/{setup.FIRST_PAGE}"
    return "\n".join(
        [
            f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})",
            f"[![Launch Binder](https://mybinder.org/badge_logo.svg)]({binder})",
            "[![Open in Lab](https://img.shields.io/badge/JupyterLab-make%20lab-orange)](#two-commands)",
        ]
    )


def readme():
    """README.md with its made parts written anew."""
    return filled("README.md", {"open": open_links, "pages": pages_table})


def filled(name, parts):
    """A text of ours with its marked parts written anew: {name of the part: the function that makes it}."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for part, make in parts.items():
        pattern = rf"(<!-- made: {part} -->\n).*?(<!-- end -->)"
        text, count = re.subn(
            pattern, lambda m, make=make: m[1] + make() + "\n" + m[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise setup.Stop(f"{name} must have one place marked `<!-- made: {part} -->` … `<!-- end -->`.")
    return text


# solutions/README.md: the homework, and courses of several lengths ---------------------------------------------

PLANS = {  # weeks → what each of them holds
    6: (
        *("00 01 02 03 hw02", "04 05 hw04", "06 07 hw07"),
        *("09 11 12 hw09", "14 16 17 hw17", "18 20 22 hw20"),
    ),
    12: (
        *("00 01 02 hw01", "03 04 hw02", "05 06 hw03", "07 08 hw04", "09 10 hw06", "11 12 hw07"),
        *("13 14 hw09", "15 16 hw14", "17 18 hw17", "19 20 21", "22 23 24 hw20", "25 26 hw25"),
    ),
}


def for_instructors():
    """solutions/README.md with its made parts written anew."""
    plans = {f"{weeks} weeks": partial(plan_table, weeks) for weeks in PLANS}
    return filled("solutions/README.md", {"homework": homework_table, **plans})


def page_of(number):
    """A page's path and what it says of itself: "07" is a lesson, "hw07" the source of a homework."""
    folder = ROOT / ("solutions" if number.startswith("hw") else "notebooks")
    (path,) = folder.glob(f"{number}_*.ipynb")
    return path, json.loads(path.read_text(encoding="utf-8"))


def minutes(number):
    """How long a page takes a student."""
    return page_of(number)[1]["metadata"]["course"]["minutes"]


def homework_table():
    """One line for each homework: points that the grader gives and that a person gives, and minutes."""
    rows = [
        "| homework | exercises | points by the grader | points by you | minutes |",
        "|---|---|---|---|---|",
    ]
    for path in sorted((ROOT / "solutions").glob("hw*.ipynb")):
        page = page_of(path.stem.split("_")[0])[1]
        marks = [(cell["cell_type"], cell["metadata"].get("nbgrader", {})) for cell in page["cells"]]
        points = {
            kind: [mark["points"] for of, mark in marks if of == kind and mark.get("grade")]
            for kind, _ in marks
        }
        code, written = points["code"], points["markdown"]
        told = f"{len(code)} | {sum(code):g} | {sum(written):g} | {page['metadata']['course']['minutes']}"
        rows.append(f"| [{path.stem}]({path.name}) | {told} |")
    return "\n".join(rows)


def plan_table(weeks):
    """A course of so many weeks: lessons, homework, hours of each week and of all."""
    rows, total = [f"| week of {weeks} | lessons | homework | hours |", "|---|---|---|---|"], 0
    for week, numbers in enumerate(map(str.split, PLANS[weeks]), 1):
        lessons = [page_of(number)[0].stem for number in numbers if not number.startswith("hw")]
        homework = " ".join(number for number in numbers if number.startswith("hw"))
        taken = sum(map(minutes, numbers))
        total += taken
        rows.append(f"| {week} | {', '.join(lessons)} | {homework} | {taken / 60:.1f} |")
    return "\n".join([*rows, f"| all | | | {total / 60:.0f} |"])


def families():
    """The family tree as a table, from the classes."""
    from utils import family_table  # opens the zoo, which is slow to import

    return family_table.markdown()


def measured():
    """What each page takes, as a table."""
    from utils import pages

    return pages.measured_table()


PICTURE = ROOT / "data" / "course-map.png"


def picture():
    """README's picture, the map of the course with the pages that exist, as PNG bytes."""
    from utils import show

    return show.png(show.course_map())


def same_picture(one, other):
    """Do two PNGs look the same? Other builds of the font renderer may differ by a shade."""
    from utils import pages

    return pages.same_picture(base64.b64encode(one), base64.b64encode(other))


def draw():
    """Draw README's picture anew if it has changed."""
    drawn = picture()
    if not PICTURE.exists() or not same_picture(drawn, PICTURE.read_bytes()):
        with course.atomic(PICTURE) as temporary:
            temporary.write_bytes(drawn)
        print(f"{PICTURE.relative_to(ROOT)} is made anew")


def address():
    """Write BOOTSTRAP into every page that begins with an older form of it."""
    from utils import pages

    old = "import os, sys; sys.path"
    for path in pages.all_pages():
        pages.reword(path, lambda code: course.BOOTSTRAP if code.startswith(old) else code)


def main(words):
    """One of three verbs."""
    try:
        if words == ["pins"]:
            with course.atomic(ROOT / "constraints.txt") as temporary:
                temporary.write_text(constraints(), encoding="utf-8")
        elif words == ["picture"]:
            draw()
        elif words == ["address"]:
            address()
        else:
            print(__doc__)
        return 0
    except setup.Stop as stop:
        setup.say(str(stop))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
