"""The course as a static site, made from the pages as they are stored: nothing is run, nothing is fetched.

    python -m utils.book [FOLDER]   build it (`make book`); default: COURSE_STATE/book, else book/ of the checkout

Sphinx with myst-nb and the book theme does the work, on a copy of the pages that `write_source` fits for the web:
buttons below the title, links between the lessons, descriptions for the figures, folded cells. This module is also
Sphinx's extension: formulas become MathML, which browsers draw themselves, and every code cell gets an anchor.
The start page is README.md; the claims come from utils/claims.py, the family table from data/families.md.
"""

import ast
import base64
import functools
import inspect
import os
import re
import shutil
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from utils import claims, course, house, pages
from utils.setup import Stop, say, state_folder, writable

ROOT = pages.ROOT
STYLE = Path(__file__).with_suffix(".css")
TITLE = "Language Models, Built and Measured"
TABLES = {"claims": None, "families": "data/families.md", "benchmarks": "benchmarks.md"}  # page → its source


@functools.cache
def lessons():
    """Part → the names of its finished lessons."""
    parts = {
        part: [name for name in names if course.standing(name) == "here"]
        for part, names in course.PAGES.items()
    }
    return {part: names for part, names in parts.items() if names}


@functools.cache
def homework():
    """The names of the students' homework pages, of finished lessons."""
    done = {name[:2] for names in lessons().values() for name in names}
    return [path.stem for path in sorted(ROOT.glob("notebooks/hw*.ipynb")) if path.stem[2:4] in done]


# Links -------------------------------------------------------------------------------------------------------


def address(link, folder=""):
    """Where a link of a file in `folder` leads in the book: to a page of it, else to the file in the repository."""
    path, mark, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", link):
        return link
    file = Path(os.path.normpath(Path(folder, path)))
    if file.parent.name == "notebooks" and file.stem in {*homework(), *sum(lessons().values(), [])}:
        return file.name + mark + anchor
    for name, source in TABLES.items():
        if file.as_posix() == source:
            return f"{name}.md{mark}{anchor}"
    return f"{course.REPO}/blob/{course.TAG}/{file.as_posix()}{mark}{anchor}"


def relinked(text, folder=""):
    """Markdown with its links, but not its pictures, led to where things are in the book."""
    return re.sub(r"(?<!!)(\[[^\]]*\]\()([^)\s]+)\)", lambda m: f"{m[1]}{address(m[2], folder)})", text)


def named(text):
    """Markdown in which "lesson 07" and `hw07_decoding` are links, where they are not in code, headings or HTML."""
    of_number = {name[:2]: name for names in lessons().values() for name in names}

    def link(match):
        if match["number"] in of_number:
            return f"[{match[0]}]({of_number[match['number']]}.ipynb)"
        if match["homework"] in homework():
            return f"[{match[0]}]({match['homework']}.ipynb)"
        return match[0]

    pattern = r"(?:`(?P<homework>hw\d\d_\w+)`)|`[^`]*`|\[[^\]]*\]\([^)]*\)|\b[Ll]esson (?P<number>\d\d)\b"
    lines = (line if re.match(r"[#<]", line) else re.sub(pattern, link, line) for line in text.split("\n"))
    return "\n".join(lines)


# Figures need words --------------------------------------------------------------------------------------------


def text_of(node, names):
    """A string constant, an f-string with … for its values, or a name that was given one; else nothing."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, names) or "…" for part in node.values)
    return ""


def labels_of(call, names):
    """What a call that draws says about its figure: title and axes, {word of the signature: text}."""
    name = ast.unparse(call.func).rpartition(".")[2]
    given = {word.arg: word.value for word in call.keywords if word.arg}
    if (
        name in ("set_title", "title", "suptitle", "set_xlabel", "set_ylabel", "xlabel", "ylabel")
        and call.args
    ):
        given[name.removeprefix("set_").removeprefix("sup")] = call.args[0]
    elif ast.unparse(call.func).startswith("show."):
        from utils import show

        drawn = getattr(show, name, None)
        known = inspect.signature(drawn).parameters if inspect.isfunction(drawn) else {}
        usual = {word: ast.Constant(parameter.default) for word, parameter in known.items()}
        given = usual | dict(zip(known, call.args)) | given
    told = {word: text_of(given[word], names) for word in ("title", "xlabel", "ylabel") if word in given}
    return {word: pages.squeeze(text) for word, text in told.items() if re.search(r"\w\w", text)}


def described(cell, section):
    """Words for a cell's figures: their titles and axes as its code states them, else the section they stand in."""
    told = [output.data["text/plain"] for output in cell.outputs if "image/png" in output.get("data", {})]
    told = [text for text in told if not text.startswith("<")]  # a widget's picture brings its own words
    if told:
        return told[0]
    nodes = [*ast.walk(ast.parse(cell.source))]
    names = {
        target.id: text_of(node.value, {})
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = [labels_of(node, names) for node in nodes if isinstance(node, ast.Call)]
    titles = list(dict.fromkeys(labels["title"] for labels in found if "title" in labels))
    axes = {word: labels[word] for labels in found for word in ("ylabel", "xlabel") if word in labels}
    of_what = f" ({' against '.join(axes.values())})" if axes else ""
    return f"Figure: {'; '.join(titles) or section}{of_what}"


# The pages of the book -------------------------------------------------------------------------------------------


def about(name, metadata):
    """The line below a page's title: its time, its points, where to open it."""
    sizes = [f"{metadata[what]} {what}" for what in ("minutes", "points") if what in metadata]
    links = f"[JupyterLab](index.md#two-commands) · {house.buttons(name)} · {{download}}`notebook <files/{name}.ipynb>`"
    return f"\n\n:::{{container}} about-page\n{' · '.join(sizes)} · open in {links}\n:::\n"


def page(name):
    """A stored page as the book shows it."""
    nb = pages.read(ROOT / "notebooks" / f"{name}.ipynb")
    metadata, section = nb.metadata.get("course", {}), ""
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            section = (re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) or [section])[-1]
            cell.source = named(relinked(cell.source, "notebooks"))
        if cell.cell_type == "code":
            fold = cell.metadata.get("jupyter", {}).get("source_hidden") or cell.source == course.BOOTSTRAP
            words = described(cell, section) if claims.picture(cell) else ""
            cell.metadata = nb.metadata.__class__(
                tags=[*pages.tags(cell), *(["hide-input"] if fold else [])],
                mystnb={"image": {"alt": words}} if words else {},
                anchor=f"cell-{cell.id}",
            )
        if number == 0:
            title, _, rest = cell.source.partition("\n")
            cell.source = title + about(name, metadata) + rest
    nb.metadata.pop("course", None)
    return pages.as_text(nb)


def section(text, title):
    """A Markdown text without one of its sections."""
    return re.sub(rf"^## {title}\n.*?(?=^## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL)


def contents(caption, names):
    """A part of the navigation."""
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])


def start(found):
    """The start page: README.md without what only a repository needs, the number of claims, the navigation."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = section(
        re.sub(r"<!-- made: open -->.*?<!-- end -->\n", "", text, flags=re.DOTALL), "For maintainers"
    )
    tables = (
        f"**At a glance:** [{count(found)} claims, each with its figures and its margin](claims.md) · "
        "[the families of models as one table](families.md) · [our code beside the libraries](benchmarks.md)\n\n"
    )
    text = relinked(text).replace("## Two commands", tables + "## Two commands", 1)
    parts = {**lessons(), "Homework": homework(), "At a glance": TABLES}
    return "\n".join([text, *(contents(part, names) for part, names in parts.items())])


def fenced(language, text):
    """A block of code, whatever backticks stand in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}\n"


def claim_text(claim, picture):
    """One claim as Markdown; `picture` is the path of its picture, where it has one."""
    shown = fenced("text", claim.figures) if claim.figures else f"![Figure: {claim.name}]({picture})\n"
    where = f'<a href="{claim.page}.html#cell-{claim.cell}">Lesson {claim.page[:2]}, cell {claim.cell}</a>'
    return "\n".join(
        [f"#### {claim.name}\n", named(claim.words) + "\n", shown]
        + [f'<p class="margin-of">What must hold, in {where}:</p>\n', fenced("python", claim.margin)]
    )


def count(found):
    """How many claims are in {part: {lesson: claims}}."""
    return sum(len(of_lesson) for of_part in found.values() for of_lesson in of_part.values())


def claims_page(found, folder):
    """All claims of the course, {part: {lesson: claims}}, as one page; their pictures go into `folder`."""
    lines = [
        "# The claims",
        f"{count(found)} claims of this course. Each comes from the cell of a page that measures it: the page's own "
        "words, the figures that it printed, and the margin that the cell asserts. If a margin does not hold when a "
        "page is run, the page stops, and the tests of the course fail. Where a page found that a claim does *not* "
        "hold, its words say so, and the assertion guards that finding.\n",
    ]
    for part, of_part in found.items():
        lines += [f"## {part}\n"]
        for name, of_lesson in of_part.items():
            lines += [f"### [{name[:2]} · {course.PAGES[part][name]}]({name}.ipynb)\n"]
            for claim in of_lesson:
                picture = f"figures/{name}-{claim.cell}.png"
                if not claim.figures:
                    (folder / picture).parent.mkdir(exist_ok=True)
                    (folder / picture).write_bytes(base64.b64decode(claim.picture))
                lines += [claim_text(claim, picture)]
    return "\n".join(lines)


def table(source):
    """A Markdown file of the course whose links lead into the book."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return named(
        relinked(re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL), Path(source).parent.as_posix())
    )


def write_source(folder):
    """Write what Sphinx reads into a folder: the start page, lessons, homework, tables, pictures, the style."""
    found = claims.all_claims()
    for name in [*sum(lessons().values(), []), *homework()]:
        (folder / f"{name}.ipynb").write_text(page(name), encoding="utf-8")
        (folder / "files").mkdir(exist_ok=True)
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder / "files")
    for name, source in TABLES.items():
        text = table(source) if source else claims_page(found, folder)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / "index.md").write_text(start(found), encoding="utf-8")
    (folder / "data").mkdir()
    shutil.copy(house.PICTURE, folder / "data")
    (folder / "_static").mkdir()
    shutil.copy(STYLE, folder / "_static")


# Sphinx ----------------------------------------------------------------------------------------------------------

SETTINGS = {
    "project": TITLE,
    "author": "",
    "language": "en",
    "extensions": ["myst_nb", "utils.book"],
    "exclude_patterns": ["files"],
    "html_theme": "sphinx_book_theme",
    "html_title": TITLE,
    "html_static_path": ["_static"],
    "html_css_files": [STYLE.name],
    "html_context": {"default_mode": "auto"},
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_math_renderer": "mathml",
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",
    "myst_enable_extensions": ["dollarmath", "colon_fence"],
    "myst_heading_anchors": 3,
    "html_theme_options": {
        "navbar_persistent": [],
        "show_toc_level": 2,
        "use_download_button": False,
        "use_fullscreen_button": False,
    },
}


def mathml(translator, node):
    """Write a formula as MathML."""
    from docutils import nodes
    from docutils.utils.math.latex2mathml import tex2mathml

    block = not isinstance(node, nodes.math)
    text = tex2mathml(node.astext().replace("…", r"\ldots "), as_block=block)
    translator.body.append(f'<div class="formula">{text}</div>' if block else text)
    raise nodes.SkipNode


def anchor_cells(app, tree):
    """Give each code cell its anchor."""
    from docutils import nodes

    for node in tree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            node["ids"].append(node["cell_metadata"]["anchor"])


def fold(translator, node):
    """Open the fold around a cell's code; its name is what one reads."""
    translator.body.append('<details class="hide above-input">\n<summary>The code</summary>\n')


def unfold(translator, node):
    """Close it."""
    translator.body.append("</details>\n")


def setup(app):
    """What Sphinx calls: this module as an extension."""
    from myst_nb.sphinx_ import HideCodeCellNode

    app.add_node(HideCodeCellNode, override=True, html=(fold, unfold))
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("doctree-read", anchor_cells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def build(site, source):
    """Build the site from its source; the warnings of Sphinx, one a line."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    with (
        docutils_namespace(),
        patch_docutils(),
        tempfile.TemporaryDirectory() as trees,
        open(os.devnull, "w", encoding="utf-8") as quiet,
    ):
        warnings = open(Path(trees) / "warnings", "w+", encoding="utf-8")
        app = Sphinx(
            source, None, site, trees, "html", SETTINGS, quiet, warnings, True, parallel=course.cores()
        )
        app.build(force_all=True)
        warnings.seek(0)
        found = warnings.read().replace(f"{source}/", "").splitlines()
        warnings.close()
    return found


# Is the site whole? ------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """A page's anchors, its links, what it loads, and its pictures without words."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads, self.silent = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag in ("a", "area") and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in (
            "canonical",
            "search",
            "next",
            "prev",
            "index",
            "author",
        ):
            self.loads.append(given.get("href", ""))
        elif tag in ("img", "script", "iframe", "source", "audio", "video") and given.get("src"):
            self.loads.append(given["src"])
        if tag == "img" and not (given.get("alt") or "").strip():
            self.silent.append(given.get("src", ""))


def faults(site):
    """A sentence for each link, anchor or file of the site that is not there, and for all that asks the network."""
    read = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.glob("*.html"))}
    for path, page in read.items():
        where = path.relative_to(site).as_posix()
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{where} loads {link} from the network."
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{where} leads to {link}, which is not there."
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].anchors:
                yield f"{where} leads to {link}, and there is no such anchor."
        for picture in page.silent:
            yield f"{where} shows {picture} without a description."
    for path in sorted(site.rglob("*.css")):
        for link in re.findall(
            r"(?:url\(|@import )\s*['\"]?(https?:[^'\")]+)", path.read_text(encoding="utf-8")
        ):
            yield f"{path.relative_to(site).as_posix()} loads {link} from the network."


def home():
    """Where the book is built if no folder is named."""
    here = ROOT if not os.environ.get("COURSE_STATE") and writable(ROOT) else state_folder()
    return here / "book"


def main(words):
    """Build the book and say where it is; 1 if anything in it is not whole. The old one stays until then."""
    began = time.perf_counter()
    site = Path(words[0]).absolute() if words else home()
    if site.exists() and any(site.iterdir()) and not (site / "searchindex.js").exists():
        raise Stop(f"{site} holds something else: name an empty folder.")
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.parent, prefix=".book-") as new:
        source, made = Path(new, "source"), Path(new, "site")
        source.mkdir()
        write_source(source)
        found = build(made, source)
        found += faults(made)
        shutil.rmtree(site, ignore_errors=True)
        made.rename(site)
    for sentence in found:
        say(sentence)
    many = len([*site.glob("*.html")])
    say(f"{many} pages in {time.perf_counter() - began:.0f} s: {site / 'index.html'}")
    return int(bool(found))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Stop, pages.Refusal) as stop:
        say(str(stop))
        sys.exit(1)
