"""The first page in a real JupyterLab: it runs, its game plays; and typed marks are text in every widget.

make test-browser            COURSE_SHOTS=folder keeps screenshots to look at
"""

import lab

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
    buttons.filter(has_text="Undo").click()
    cell.get_by_text("After 2 of 12 tokens").wait_for()
    buttons.filter(has_text="Start over").click()
    cell.get_by_text("Pick a token").wait_for()
    assert buttons.nth(0).inner_text() == first
    for name in ("look", "look-facts", "strip", "cross", "doctor", "map"):
        page.shot(f"00-{name}", name)


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
