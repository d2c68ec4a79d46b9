"""The book: made of the stored pages alone, whole, asking no network, telling no secret; and the claims it collects."""

import html
import importlib.util
import json
import re
import shutil
import sys

import pytest

from utils import book, claims, course, pages, setup

ROOT = pages.ROOT
LESSONS = sum(book.lessons().values(), [])
HOMEWORK = book.homework()
INSTALLED = all(importlib.util.find_spec(name) for name in ("sphinx", "myst_nb", "sphinx_book_theme"))

# How many sentences that a course would tell each lesson measures, at least: its claims in the plan of the course.
CLAIMS = {
    **{
        "01": 2,
        "02": 2,
        "03": 3,
        "04": 4,
        "05": 3,
        "06": 2,
        "07": 3,
        "08": 5,
        "09": 4,
        "10": 5,
        "11": 2,
        "12": 3,
    },
    **{
        "13": 3,
        "14": 2,
        "15": 3,
        "16": 2,
        "17": 4,
        "18": 2,
        "19": 2,
        "20": 3,
        "21": 5,
        "22": 3,
        "23": 3,
        "24": 3,
    },
    **{"25": 4, "26": 3},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What Sphinx would read."""
    folder = tmp_path_factory.mktemp("source")
    book.write_source(folder)
    return folder


@pytest.fixture(scope="module")
def site(source, tmp_path_factory):
    """The built book, and what Sphinx warned of."""
    if not INSTALLED:
        pytest.skip("the book's packages are not installed: make book brings them")
    folder = tmp_path_factory.mktemp("book") / "site"
    assert book.build(folder, source) == []
    return folder


# Links and names


@pytest.mark.parametrize(
    "link, folder, leads",
    [
        ("notebooks/07_decoding.ipynb", "", "07_decoding.ipynb"),
        ("07_decoding.ipynb#beams", "notebooks", "07_decoding.ipynb#beams"),
        ("../notebooks/hw07_decoding.ipynb", "data", "hw07_decoding.ipynb"),
        ("data/families.md", "", "families.md"),
        ("../benchmarks.md#a", "data", "benchmarks.md#a"),
        ("LICENSE", "", f"{course.REPO}/blob/{course.TAG}/LICENSE"),
        (
            "../solutions/hw07_decoding.ipynb",
            "notebooks",
            f"{course.REPO}/blob/{course.TAG}/solutions/hw07_decoding.ipynb",
        ),
        ("#two-commands", "", "#two-commands"),
        ("https://example.org/07_decoding.ipynb", "", "https://example.org/07_decoding.ipynb"),
    ],
)
def test_a_link_leads_to_the_books_page_or_to_the_repository(link, folder, leads):
    assert book.address(link, folder) == leads


def test_lessons_and_homework_that_are_named_become_links():
    text = "As in lesson 07, see `hw07_decoding`; not `lesson 07`, not [lesson 07](x.md), not lesson 99."
    linked = book.named(text)
    assert linked.startswith(
        "As in [lesson 07](07_decoding.ipynb), see [`hw07_decoding`](hw07_decoding.ipynb);"
    )
    assert linked.endswith("not `lesson 07`, not [lesson 07](x.md), not lesson 99.")
    assert (
        book.named("## After lesson 07\n<summary>lesson 07</summary>")
        == "## After lesson 07\n<summary>lesson 07</summary>"
    )


def test_a_figure_is_described_by_what_its_code_says():
    def cell(source):
        return pages.nbformat.v4.new_code_cell(source)

    curves = 'title = "Saturation"\nshow.curves(x, {"a": y}, "width", "share", title, log="x")'
    assert book.described(cell(curves), "Break it") == "Figure: Saturation (share against width)"
    axes = 'axes.set_title(f"After {n} steps")\naxes.set_xlabel("time")'
    assert book.described(cell(axes), "Break it") == "Figure: After … steps (time)"
    assert book.described(cell("plt.plot(x)"), "Break it") == "Figure: Break it"
    picture = pages.nbformat.v4.new_output(
        "display_data", {"image/png": "aa", "text/plain": "Layer 2, head 9."}
    )
    widget = cell("widgets.viewer()")
    widget.outputs = [picture]
    assert book.described(widget, "Look") == "Layer 2, head 9."


# The claims


@pytest.mark.parametrize("name", LESSONS)
def test_a_claim_has_its_words_its_figures_and_its_margin(name):
    found = claims.claims_of(name)
    assert len(found) >= CLAIMS.get(name[:2], 1)
    for claim in found:
        assert claim.margin and "assert" in claim.margin, f"cell {claim.cell} asserts nothing"
        assert bool(claim.figures) != bool(claim.picture), f"cell {claim.cell} shows nothing"
        assert len(claim.words) > 20 and not re.match("#|<|>", claim.words), claim.cell


def test_a_margin_is_all_that_a_cell_asserts_with_what_stands_around_it():
    loop, call = (
        "for a in b:",
        "    assert a > 1  # in every seed\ntorch.testing.assert_close(\n    a,\n    b)",
    )
    assert claims.margin(f"x = 1\n{loop}\n    print(a)\n{call}") == f"{loop}\n{call}"
    assert claims.margin("print('no claim')") == ""


def cells(*sources):
    """Cells of a page: Markdown where a source begins with a space, else code that printed its own source."""
    made = []
    for text in sources:
        if text.startswith(" "):
            made.append(pages.nbformat.v4.new_markdown_cell(text.strip()))
        else:
            output = pages.nbformat.v4.new_output("stream", name="stdout", text=text)
            made.append(pages.nbformat.v4.new_code_cell(text, outputs=[output]))
    return made


def test_the_words_of_a_claim_are_those_behind_its_cell():
    fold = " <details><summary>What happened?</summary>\n\nIt fell.\n\nMore.\n\n</details>\n\nNext we ask."
    assert claims.words(cells(" # A\n\nBefore.", "cell", fold), 1) == "It fell."
    assert claims.words(cells(" Before.", "cell", "drawing", " It rose."), 1) == "It rose."
    assert (
        claims.words(cells(" Before.", "cell", " Does it last? Let us see.", "run", " It does."), 1)
        == "It does."
    )
    assert claims.words(cells(" Before.", "cell", " ## Another section\n\nElse."), 1) == "Before."
    assert claims.words(cells(" **One.** This.", "cell", " **Two.** That."), 1) == "**One.** This."


def test_the_claims_page_holds_every_claim_once(source):
    text = (source / "claims.md").read_text(encoding="utf-8")
    found = [claim for part in claims.all_claims().values() for of in part.values() for claim in of]
    assert f"{len(found)} claims" in text and f"{len(found)} claims" in (source / "index.md").read_text(
        "utf-8"
    )
    for claim in found:
        assert text.count(f'href="{claim.page}.html#cell-{claim.cell}"') == 1
        assert claim.margin in text and claim.figures in text


# The pages


def test_every_page_is_in_the_navigation_once(source):
    text = (source / "index.md").read_text(encoding="utf-8")
    for name in [*LESSONS, *HOMEWORK, *book.TABLES]:
        assert len(re.findall(rf"^{name}$", text, re.MULTILINE)) == 1
    assert "For maintainers" not in text and "course-map.png" in text and "img.shields" not in text
    assert [f":caption: {part}" in text for part in course.PAGES] == [True] * len(course.PAGES)


@pytest.mark.parametrize("name", [*LESSONS, *HOMEWORK])
def test_a_page_tells_its_time_where_to_open_it_and_describes_its_figures(source, name):
    stored = pages.read(ROOT / "notebooks" / f"{name}.ipynb")
    nb = pages.nbformat.read(source / f"{name}.ipynb", as_version=4)
    first, about = nb.cells[0].source, stored.metadata["course"]
    assert first.splitlines()[0] == stored.cells[0].source.splitlines()[0]
    assert f"{about['minutes']} minutes" in first and (f"{about.get('points')} points" in first) == (
        "points" in about
    )
    assert f"/{name}.ipynb" in first and first.count(course.REPO.removeprefix("https://github.com/")) == 2
    for before, after in zip(pages.code_cells(stored), pages.code_cells(nb)):
        folded = before.metadata.get("jupyter", {}).get("source_hidden") or before.source == course.BOOTSTRAP
        assert ("hide-input" in pages.tags(after)) == bool(folded)
        assert (before.source, before.outputs) == (after.source, after.outputs)
        if claims.picture(before):
            words = after.metadata["mystnb"]["image"]["alt"]
            assert len(words) > 8 and "<Figure" not in words and "None" not in words


def text_of(path):
    """All text of a file with single spaces: no tags, no pictures."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(part for part in pages.strings(json.loads(text)) if len(part) < 1000 or " " in part)
    elif path.suffix == ".html":
        text = html.unescape(re.sub(r"<[^>]*>", "", text))
    return pages.squeeze(text)


def standing_in(lines, text):
    """Those of the lines that stand somewhere in the text."""
    words = set(text.split())  # what stands between the first and the last space of a line are whole words
    return {line for line in lines if words.issuperset(line.split()[1:-1]) and line in text}


def told(folder):
    """The secret lines of the homework's sources that stand in a file of this folder but in no page of the course."""
    sources = [pages.read(path) for path in ROOT.glob("solutions/hw*.ipynb")]
    secret = {line for source in sources for _, lines in pages.secrets(source) for line in lines}
    secret -= standing_in(secret, " ".join(text_of(path) for path in ROOT.glob("notebooks/*.ipynb")))
    assert len(secret) > 500  # the sources have secrets to keep
    files = [path for path in folder.rglob("*") if path.suffix in (".html", ".ipynb", ".md", ".txt", ".json")]
    return standing_in(secret, " ".join(text_of(path) for path in [*files, *folder.glob("searchindex.js")]))


def test_the_source_tells_no_secret(source, tmp_path):
    assert not told(source)
    shutil.copy(ROOT / "solutions" / "hw07_decoding.ipynb", tmp_path)
    assert told(tmp_path)  # it would be seen


# The site


def test_each_fault_of_a_site_is_named(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="#here">1</a><a href="b.html#there">2</a><a href="c.html">3</a>'
        '<img src="x.png" alt="x"><img src="b.html"><script src="https://example.org/x.js"></script>'
        '<a href="https://example.org">4</a><a href="b.html">5</a>'
    )
    (tmp_path / "b.html").write_text("<p>B</p>")
    (tmp_path / "s.css").write_text("@import 'https://example.org/font.css'; a { background: url(x.svg) }")
    assert [*book.faults(tmp_path)] == [
        "a.html leads to b.html#there, and there is no such anchor.",
        "a.html leads to c.html, which is not there.",
        "a.html leads to x.png, which is not there.",
        "a.html loads https://example.org/x.js from the network.",
        "a.html shows b.html without a description.",
        "s.css loads https://example.org/font.css from the network.",
    ]


def test_the_book_is_whole_and_asks_no_network(site):
    assert [*book.faults(site)] == []
    there = {path.stem for path in site.glob("*.html")}
    assert {*LESSONS, *HOMEWORK, *book.TABLES, "index", "search"} <= there


def test_the_book_tells_no_secret(site):
    assert not told(site)


def test_formulas_are_mathml_and_folds_are_folds(site):
    text = (site / "26_conditional_beam_search.html").read_text(encoding="utf-8")
    assert text.count("<math") == 2 and "<munder>" in text and "$$" not in text and "MathJax" not in text
    text = (site / "hw07_decoding.html").read_text(encoding="utf-8")
    assert text.count("<summary>Hint") >= 18 and "<summary>The code</summary>" in text


def test_the_old_book_stays_where_a_folder_holds_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(book.Stop, match="holds something else"):
        book.main([str(tmp_path)])
    assert (tmp_path / "thesis.txt").exists()


def test_the_packages_are_brought_once_and_with_the_pins(monkeypatch):
    asked = []
    monkeypatch.setattr(setup, "pip", lambda python, words: asked.append(words) or (0, ""))
    setup.add(sys.executable, "book", "json, ast")
    assert asked == []
    setup.add(sys.executable, "book", "no_such_module")
    assert asked[0][:4] == ["install", "-q", "-c", "constraints.txt"]
    assert any(line.startswith("myst-nb") for line in asked[0])
    assert setup.steps("book", ["site"]) == [["-m", "utils.book", "site"]]


def test_the_workflow_pins_its_actions_and_may_do_no_more_than_publish():
    text = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", text)
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert set(re.findall(r"^ +([a-z-]+): write$", text, re.MULTILINE)) == {"pages", "id-token"}
    assert "permissions:\n  contents: read\n" in text and "make book" in text
