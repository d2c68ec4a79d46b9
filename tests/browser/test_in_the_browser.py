"""Pages in a real JupyterLab: they run, their widgets move, their pictures stand in before anything has run.

pytest tests/browser            COURSE_SHOTS=folder keeps screenshots to look at
"""

import lab
import pytest

CELLS = {
    "load": "from utils import widgets, zoo\nmodel, tokenizer = zoo.load('gpt')",
    "bars": "widgets.next_token_bars(model, tokenizer, 'Once upon a time')",
    "tree": "widgets.beam_tree(model, tokenizer, 'Once upon a time', n_new=6)",
}
TYPED = {
    "toys": """import torch
from utils import widgets


def looks(text):
    words = ["^", *text.split()]
    T = len(words)
    return words, torch.stack([torch.eye(T), torch.ones(T, T) / T]).expand(2, 2, T, T)


def writes(text):
    return text[::-1], torch.eye(len(text)).flip(0)


def costs(text):
    return list(text), [8.0] * len(text)
""",
    "cut": "widgets.tokenizations({'letters': list, 'words': str.split}, 'one text')",
    "viewer": "widgets.attention_viewer(looks, 'one text')",
    "reading": "widgets.reading(writes, 'one text')",
    "costs": "widgets.text_costs({'letters': costs}, 'one text')",
}


@pytest.fixture(scope="module")
def widgets_page(folder):
    lab.scratch(folder, "scratch", CELLS)
    return "scratch"


def picture(cell):
    """The source of the picture that a widget shows."""
    return cell.locator(".jupyter-widgets img").get_attribute("src")


def move(page, cell, slider, key):
    """Press an arrow key on the slider with this label; return its readout."""
    row = cell.locator(".widget-slider").filter(has_text=slider)
    row.locator(".noUi-handle").focus()
    page.tab.keyboard.press(key)
    return row.locator(".widget-readout")


def test_the_first_page_plays(open_page):
    page = open_page("00_start_here")
    page.shot("00-top")
    page.run_all()
    assert page.problems() == []
    cell = page.cell("game")
    score = cell.locator(".jupyter-widgets", has_text="Pick a token").last
    score.wait_for()
    assert cell.locator("img").count() == 0  # alive: the picture that stands in is not shown
    page.shot("00-game-start", "game")
    buttons = cell.locator("button.jupyter-button")
    first = buttons.nth(0).inner_text()
    buttons.nth(0).focus()
    page.tab.keyboard.press("Enter")
    cell.get_by_text("After 1 of 12 tokens").wait_for()
    assert first.strip("␣") in cell.locator("[role=status]").first.inner_text()
    page.wait_until(lambda: buttons.nth(0).inner_text() != first, "new tokens to choose from")
    buttons.nth(1).click()
    cell.get_by_text("After 2 of 12 tokens").wait_for()
    buttons.filter(has_text="By chance").click()
    cell.get_by_text("After 3 of 12 tokens").wait_for()
    page.shot("00-game-played", "game")
    buttons.filter(has_text="Start over").click()
    cell.get_by_text("Pick a token").wait_for()
    assert buttons.nth(0).inner_text() == first
    for name in ("look", "look-facts", "strip", "cross", "doctor", "map"):
        page.shot(f"00-{name}", name)


def test_a_picture_stands_where_nothing_has_run(open_page):
    page = open_page("00_start_here")
    cell = page.cell("game")
    cell.locator(".jp-RenderedImage img").wait_for()
    assert page.problems() == []
    page.shot("00-game-stored", "game")


def test_sliders_redraw_the_bars(open_page, widgets_page):
    page = open_page(widgets_page)
    page.run_all()
    assert page.problems() == []
    cell = page.cell("bars")
    before = picture(cell)
    seen = {before}
    for slider, key, times, readout in (
        ("temperature", "ArrowRight", 1, "1.1"),
        ("top-k", "ArrowLeft", 1, "100"),
        ("top-p", "ArrowLeft", 4, "0.80"),
    ):
        for _ in range(times):
            text = move(page, cell, slider, key)
        page.wait_until(lambda t=text, r=readout: t.inner_text().startswith(r), f"{slider} at {readout}")
        page.wait_until(lambda: picture(cell) not in seen, f"a new picture after {slider}")
        page.tab.wait_for_timeout(1000)  # the last of several pictures
        seen.add(picture(cell))
    page.shot("bars-moved", "bars")
    assert "tokens can come" in cell.locator(".jupyter-widgets img").get_attribute("alt")
    cell.locator("button", has_text="Reset").click()
    page.wait_until(lambda: picture(cell) == before, "the first picture again")


def test_the_beam_grows(open_page, widgets_page):
    page = open_page(widgets_page)
    page.run_all()
    cell = page.cell("tree")
    whole = picture(cell)
    move(page, cell, "tokens", "Home")
    page.wait_until(lambda: picture(cell) != whole, "a smaller tree")
    page.shot("tree-small", "tree")
    small = picture(cell)
    cell.locator(".jupyter-widgets.widget-play button").first.click()
    page.wait_until(lambda: picture(cell) not in (small, whole), "a growing tree")
    page.wait_until(lambda: picture(cell) == whole, "the whole tree again")
    move(page, cell, "beams", "ArrowLeft")
    page.wait_until(lambda: picture(cell) != whole, "a narrower tree")
    page.shot("tree-narrow", "tree")


def test_what_is_typed_is_shown(open_page, folder):
    lab.scratch(folder, "typed", TYPED)
    page = open_page("typed")
    page.run_all()
    assert page.problems() == []
    for name in ("cut", "viewer", "reading", "costs"):
        cell = page.cell(name)
        view = cell.locator(".jupyter-widgets").first
        box = view.locator("input[type=text]").first
        before = view.inner_html()
        box.fill("another <b>text</b>")
        box.press("Enter")
        page.wait_until(lambda v=view, b=before: v.inner_html() != b, f"another text in {name}")
        assert cell.locator("b", has_text="text").count() == 0  # typed marks are text, not marks
        page.shot(f"typed-{name}", name)
    assert page.problems() == []


def test_the_viewer_goes_through_heads_and_views(open_page, folder):
    lab.scratch(folder, "typed", TYPED)
    page = open_page("typed")
    page.run_all()
    cell = page.cell("viewer")
    seen = {picture(cell)}
    for slider in ("layer", "head"):
        move(page, cell, slider, "ArrowRight")
        page.wait_until(lambda: picture(cell) not in seen, f"another {slider}")
        seen.add(picture(cell))
    cell.locator("button", has_text="lines").click()
    page.wait_until(lambda: picture(cell) not in seen, "lines in place of the map")
    page.shot("viewer-lines", "viewer")
