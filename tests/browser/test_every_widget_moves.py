"""Every widget of every page in a real JupyterLab: each control is moved once, and what it should show is shown.

Of each page only those statements run that its widgets need (tests/excerpts.py); `QUICK` says what is replaced.
The first page runs as a whole. COURSE_SHOTS=folder keeps screenshots to look at.
"""

import re

import excerpts
import lab
import pytest

PAGES = lab.pages_with_widgets()
QUICK = {  # what takes long to make, and what stands for it here
    "01_tokens": {  # tokenizers that have read twenty articles, not hundreds
        "articles": "articles = data.wikipedia()[:20]",
        "both": "both = BPE(train_bpe(count_words(articles + data.wikipedia('bg')[:1]), 2000))",
    },
    "05_transformer": {  # whatever is typed is the first of May, read by a model that has learnt nothing
        "read": "def read(text):\n    return '2001-05-01'",
    },
    "06_language_modelling": {  # counts of twenty articles
        "ngram": "ngram = NGram(5, '\\n'.join(data.news()[:20]).encode())",
    },
    "15_beyond_text": {  # a painter that has learnt nothing
        "learn": "def learn(*arguments, **settings):\n    pass",
        "SEEDS": "SEEDS = (0,)",
    },
    "17_finetuning_pitfalls": {  # one run of ten steps each
        "seeds": "seeds, steps = range(1), 10",
        "old": "old = new",
    },
}
BY_CHANCE = {"13_modern_decoders"}  # shows numbers drawn by cells that are left out
PLAYED = {"00_start_here"}  # its game has a test of its own, on the whole page

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


@pytest.fixture
def open_widgets(open_page, folder):
    """open_widgets(name) → the widgets of that page, alive, in order; behind it each control must have moved."""
    opened = []

    def open_one(name):
        stored = lab.widget_cells(name)
        cells = {cell.id: cell.source for cell in lab.page_cells(name) if cell.cell_type == "code"}
        wanted = [cell.id for cell in stored]
        lab.write(folder, f"{name}-widgets", excerpts.excerpt(cells, wanted, QUICK.get(name)))
        page = open_page(f"{name}-widgets")
        page.run_all()
        assert page.problems() == []
        for cell in stored:
            widget = lab.Widget(page, cell.id)
            page.shot(f"{name}-{cell.id}-before", cell.id)
            if name not in QUICK.keys() | BY_CHANCE:  # what was cut away is not missing
                assert widget.words() == cell.outputs[0].data["text/plain"] + "."
            opened.append((name, cell.id, page, widget))
        return [widget for *_, widget in opened]

    yield open_one
    for name, cell, page, widget in opened:
        page.shot(f"{name}-{cell}-after", cell)
        assert page.problems() == []
        assert sorted(widget.moved) == sorted(widget.controls())


def test_no_page_is_left_out():
    tested = {name.split("_")[1] for name in globals() if re.match(r"test_\d\d_", name)}
    assert tested == {page[:2] for page in set(PAGES) - PLAYED}
    assert QUICK.keys() | BY_CHANCE | PLAYED <= set(PAGES)


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


def test_01_each_letter_that_is_typed_is_cut(open_widgets):
    (widget,) = open_widgets("01_tokens")
    widget.write(
        "your text", "naïve <b>dogs</b>", r"^Tokens in “naïve <b>dogs</b>”: bytes: 18;.* \(MiniLM\): 9\.$"
    )
    assert widget.view.get_by_text("bytes: 18 tokens").count() == 1
    assert (
        widget.view.locator("b", has_text=re.compile("^dogs$")).count() == 0
    )  # typed marks are text, not marks


def test_02_a_sum_of_words_and_a_word_that_is_not_known(open_widgets):
    (widget,) = open_widgets("02_word_vectors")
    widget.write("word or sum", "paris - france + italy", r"^Nearest to “paris - france \+ italy”: rome 0\.")
    widget.write("word or sum", "xyzzyx", r"^Not among the [\d,]+ words: xyzzyx\.$")
    assert widget.picture() == ""


def test_04_another_layer_head_view_and_sentence(open_widgets):
    (widget,) = open_widgets("04_attention")
    widget.slide("layer", "ArrowRight", "3", r"^Layer 3, head 9\. ")
    widget.slide("head", "End", "11", r"^Layer 3, head 11\. ")
    widget.press("lines", r"^Layer 3, head 11\. ")
    widget.press("map", r"^Layer 3, head 11\. ")
    widget.write(
        "your text", "Two words", r"looks most: \[CLS\] at .*, two at .*, words at .*, \[SEP\] at [^,]+$"
    )


def test_05_another_date_is_read(open_widgets):
    (widget,) = open_widgets("05_transformer")
    widget.write(
        "your text", "May 1, 2001", r"^“May 1, 2001” is read as 2001-05-01\. .* most: 2 at “[May 1,20]”, "
    )


def test_06_another_text_and_another_model_cost_other_bits(open_widgets):
    (widget,) = open_widgets("06_language_modelling")
    widget.write("your text", "The cat sat.", r"^“The cat sat\.” costs gpt [\d.]+ bits, .* in place of 12:")
    widget.choose("model", "n-gram", r"costs n-gram [\d.]+ bits, .* in place of 12: [\d.]+ bits per byte\.$")


def test_07_the_beam_grows_and_the_bars_follow_their_sliders(open_widgets):
    tree, bars = open_widgets("07_decoding")
    tree.slide("beams", "ArrowLeft", "3", r"^Beam of 3 after 8 tokens: ")
    tree.slide("tokens", "Home", "1", r"^Beam of 3 after 1 token: 3 boxes alive")
    tree.press("play", r"^Beam of 3 after [23] tokens: ")
    tree.press("stop", r"^Beam of 3 after 1 token: ")
    tree.press("retweet", redraws=False)  # play again and again
    bars.slide("temperature", "ArrowRight", "0.90", r"entropy 3\.\d+ bits")
    bars.slide("top-k", "Home", "1", r": 1 of 6,144 tokens can come, entropy 0\.00 bits; .* with 100 %\.$")
    bars.slide("top-k", "End", "all", r": [\d,]{2,} of 6,144 tokens can come")
    bars.slide("top-p", "End", "1.00", r": 6,144 of 6,144 tokens can come")
    bars.press("Reset", r": 6,144 of 6,144 tokens can come")
    bars.write("prompt", "The cat", r"^After “The cat”: 6,144 of 6,144 tokens")


def test_09_another_blank_is_filled_and_none_is_asked_for(open_widgets):
    (widget,) = open_widgets("09_bert")
    widget.write(
        "a sentence",
        "The dog _ the ball.",
        r"^“The dog _ the ball\.”: .* likeliest: “The dog \w+ the ball\.”",
    )
    widget.write("a sentence", "No blank here.", r"^Write a blank, _, where a word is missing\.$")
    assert widget.picture() == ""


def test_10_more_words_are_given_and_another_order_is_drawn(open_widgets):
    (widget,) = open_widgets("10_bert_family")
    before = set(re.findall(r"\w+", widget.words().split("Guessed")[0]))
    widget.slide("words given", "ArrowRight", "3", r"^Given: \w+, \w+, \w+\. Guessed: ")
    assert before < set(re.findall(r"\w+", widget.words().split("Guessed")[0]))
    widget.press("draw an order", r"^Given: \w+, \w+, \w+\. Guessed: ")


def test_11_sentences_are_ranked_and_mapped(open_widgets):
    (widget,) = open_widgets("11_sentence_embeddings")
    widget.press(
        "search", r"^Nearest to “Where is the physician\?”: “A nurse is looking for the doctor\.”, 0\."
    )
    widget.write("question", "water", r"^Nearest to “water”: “The river is running low\.”, 0\.")
    typed = "I am cold.\nThe river is deep."
    widget.write("sentences", typed, r"^Nearest to “water”: “The river is deep\.”, 0\.", kind="textarea")
    widget.press("map", r"^Nearest: “I am cold\.” and “The river is deep\.”, 0\.")


def test_13_arrows_turn_and_only_the_distance_counts(open_widgets):
    (widget,) = open_widgets("13_modern_decoders")
    widget.slide("query at", "ArrowRight", "8", r"^Query at position 8, key at 3: distance 5, score ")
    widget.slide("key at", "ArrowLeft", "2", r"^Query at position 8, key at 2: distance 6, score ")
    score = widget.words().split("score")[1]
    widget.press("Move both by one", r"^Query at position 9, key at 3: distance 6, score ")
    assert widget.words().split("score")[1] == score


def test_14_another_text_is_damaged_in_every_way(open_widgets):
    (widget,) = open_widgets("14_t5_and_bart")
    widget.write(
        "your text", "A dog ran. A cat sat.", r"“A dog ran\. A cat sat\.”: as it was: 8; .*rotation: 8\.$"
    )


def test_15_another_caption_is_painted(open_widgets):
    (widget,) = open_widgets("15_beyond_text")
    widget.choose("word 1", "small", r"^4 pictures painted for “small red ring”, set number 1\.$")
    widget.choose("word 2", "blue", r"“small blue ring”")
    widget.choose("word 3", "cross", r"“small blue cross”")
    widget.press("paint again", r"“small blue cross”, set number 2\.$")


def test_17_each_answer_is_judged_and_explained(open_widgets):
    (widget,) = open_widgets("17_finetuning_pitfalls")
    answers = [name.removeprefix("button ") for name in widget.controls() if "case" not in name][:-1]
    truth = ["contamination", "all is well", "overfitting", "rate too high", "forgetting", "underfitting"]
    assert sorted(answers) == sorted(truth)
    n_right = 0
    for turn, (answer, name) in enumerate(zip(answers, truth), 1):
        n_right += answer == name
        verdict = "Right" if answer == name else f"Not {answer}, but {name}"
        widget.press(answer, rf"^{verdict}: .*\. {n_right} of {turn} right so far\.$", redraws=False)
        assert widget.view.get_by_role("button", name=answer, exact=True).is_disabled()
        widget.press("next case", rf"^Case {turn + 1} of 6, " if turn < 6 else "^(Right|Not .*): ")
    widget.press("start over", r"^Case 1 of 6, ", redraws=False)
    assert widget.view.get_by_role("button", name="contamination").is_enabled()


def test_20_pairs_are_judged_and_a_verdict_is_taken_back(open_widgets):
    (widget,) = open_widgets("20_assistants")
    widget.press("Left is better", r"^Pair 2 of 30: .*\? 1 of 30 pairs judged by you\.$")
    widget.press("Right is better", r"^Pair 3 of 30: .* 2 of 30 pairs")
    widget.press("Back", r"^Pair 2 of 30: .* 2 of 30 pairs")
    widget.press("Clear", r"^Pair 2 of 30: .* 1 of 30 pairs")
    widget.press("Skip", r"^Pair 3 of 30: .* 1 of 30 pairs")


def test_21_each_number_makes_another_bill(open_widgets):
    (widget,) = open_widgets("21_scale")
    widget.choose("model", "Llama 2 7B", r"^Llama 2 7B, 2 trillion tokens: ")
    widget.slide("tokens", "ArrowLeft", "1 trillion", r"^Llama 2 7B, 1 trillion tokens: ")
    widget.slide("in texts of", "ArrowRight", "8,192")
    widget.slide("GPUs", "ArrowRight", "8,192")
    widget.slide("utilisation", "ArrowRight", "0.47")
    widget.slide("dollars an hour", "ArrowRight", "1.17")


@pytest.mark.parametrize("name", PAGES)
def test_a_picture_stands_where_there_is_no_kernel(open_page, name):
    page = open_page(name, kernel=False)
    for stored in lab.widget_cells(name):
        cell = page.cell(stored.id)
        picture = cell.locator(".jp-RenderedImage img")
        picture.wait_for()
        assert picture.evaluate("img => img.decode().then(() => img.naturalWidth)") > 200
        assert cell.locator(".jupyter-widgets").count() == 0
        page.shot(f"{name}-{stored.id}-stored", stored.id)
    assert page.problems() == []


def test_the_keyboard_alone_reaches_and_moves_every_control(open_page, folder):
    shown = "widgets.next_token_bars(model, tokenizer, 'Once upon a time')"
    load = "from utils import widgets, zoo\nmodel, tokenizer = zoo.load('gpt-200k')"
    lab.scratch(folder, "keys", {"load": load, "bars": shown})
    page = open_page("keys")
    page.run_all()
    widget = lab.Widget(page, "bars")
    at_first = widget.picture()
    widget.view.get_by_role("textbox", name="prompt").focus()  # its label is its name
    keys = page.tab.keyboard
    widget.then(
        lambda: [keys.press("End"), keys.type(", a"), keys.press("Enter")], "^After “Once upon a time, a”"
    )
    reached = []
    for _ in range(12):
        keys.press("Tab")
        role, name = page.tab.evaluate(
            "() => [document.activeElement.getAttribute('role') ?? document.activeElement.tagName,"
            " (document.activeElement.closest('.widget-slider') ?? document.activeElement).innerText.split('\\n')[0]]"
        )
        reached.append(name)
        if role == "slider" and name == "temperature":
            widget.then(lambda: keys.press("ArrowRight"), "entropy")
        if role == "BUTTON":
            break
    assert list(dict.fromkeys(reached)) == ["temperature", "top-k", "top-p", "Reset"]
    widget.then(lambda: keys.press("Enter"), "^After “Once upon a time, a”")
    keys.press("Shift+Tab")
    widget.write("prompt", "Once upon a time", "^After “Once upon a time”")
    page.wait_until(lambda: widget.picture() == at_first, "the first picture again")
    assert page.tab.get_by_role("button", name="Reset", exact=True).count() == 1


def test_what_is_typed_is_text_and_no_mark(open_page, folder):
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
