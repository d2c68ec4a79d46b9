"""The book in a real browser, from the disk, with the network refused: it shows, finds, folds, and all can use it.

pytest tests/browser/test_book_in_the_browser.py        COURSE_SHOTS=folder keeps screenshots to look at
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from utils import book
from utils.setup import state_folder

NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme")
SAMPLE = ("index", "04_attention", "07_decoding", "hw07_decoding", "claims", "families", "search")
WINDOWS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        pytest.skip("the book's packages are not installed: make book brings them")
    folder = tmp_path_factory.mktemp("book") / "site"
    assert book.main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def axe():
    """The text of axe-core, from npm, once."""
    folder = state_folder() / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    npm = shutil.which("npm")
    if not script.exists() and npm:
        folder.mkdir(exist_ok=True)
        subprocess.run(
            [npm, "install", "--silent", "--prefix", folder, "axe-core@4"], check=False, timeout=120
        )
    if not script.exists():
        pytest.skip("axe-core is not installed, and npm cannot bring it")
    return script.read_text(encoding="utf-8")


def reads_the_disk(asked):
    """Whether a page asks for a file as data: refused from the disk, so the search has no excerpts."""
    return asked.url.startswith("file:") and asked.resource_type in ("fetch", "xhr")


@pytest.fixture
def show(browser, site):
    """show(name, window, scheme) → the page, open; nothing may be asked of a network or go wrong."""
    contexts, wrong = [], []

    def note(text):
        if "from origin 'null'" not in text and "net::ERR_FAILED" not in text:  # what `reads_the_disk` knows
            wrong.append(text)

    def open_one(name, window="desk", scheme="light"):
        how = dict(viewport=WINDOWS[window], color_scheme=scheme, offline=True, reduced_motion="reduce")
        contexts.append(browser.new_context(**how))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(120_000)
        tab.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or note(asked.url))
        tab.on("requestfailed", lambda asked: reads_the_disk(asked) or note(asked.url))
        tab.on("console", lambda said: said.type == "error" and note(said.text))
        tab.goto((site / f"{name}.html").as_uri())
        return tab

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def shot(tab, name):
    if folder := os.environ.get("COURSE_SHOTS"):
        tab.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_every_page_opens_and_fits_a_phone(show, site):
    tab = show("index", "phone")
    for path in sorted(site.glob("*.html")):
        tab.goto(path.as_uri())
        width, window = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= window, path.name
        broken = "[...document.images].filter(it => it.complete && !it.naturalWidth).map(it => it.src)"
        assert tab.evaluate(broken) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", WINDOWS)
def test_pages_to_look_at(show, window, scheme):
    for name in SAMPLE:
        tab = show(name, window, scheme)
        assert tab.locator("html").get_attribute("data-theme") == scheme
        shot(tab, f"{name}-{window}-{scheme}")


def test_the_search_finds_a_lesson(show, site):
    tab = show("index")
    tab.goto((site / "search.html").as_uri() + "?q=nucleus")
    tab.locator("#search-results li a", has_text="Decoding").first.wait_for()


def test_a_hint_unfolds_and_hidden_code_is_folded(show):
    tab = show("hw07_decoding")
    hint = tab.locator("details", has=tab.locator("summary", has_text="Hint 1")).first
    inside = hint.locator("p").first
    assert not inside.is_visible()
    hint.locator("summary").click()
    assert inside.is_visible()
    code = tab.locator("details.hide").first
    assert not code.locator("pre").is_visible()
    code.locator("summary").press("Enter")
    assert code.locator("pre").is_visible()


def test_a_claim_leads_to_its_cell(show):
    tab = show("claims")
    tab.locator('a[href="04_attention.html#cell-b39abdca"]').click()
    tab.wait_for_url("**/04_attention.html#cell-b39abdca")
    assert (
        tab.locator("#cell-b39abdca").is_visible() and "assert" in tab.locator("#cell-b39abdca").inner_text()
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SAMPLE)
def test_axe_finds_nothing_serious(show, axe, name, scheme):
    tab = show(name, "desk", scheme)
    tab.evaluate(axe)
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"][:120] for node in fault["nodes"][:3]]) for fault in grave] == []
