"""What moves: the state is right without a browser, the view shows it, a picture stands in where nothing moves."""

import ast
import base64
import inspect
import io
import itertools
import math
import re

import matplotlib
import numpy

matplotlib.use("Agg")

import pytest
import torch
import toys
from PIL import Image
from tokenizers import Tokenizer, models

from utils import pages, show, widgets, zoo
from utils.lessons import decoding, scale, tokens
from utils.lessons.bert import BERT, BertConfig
from utils.lessons.gpt import GPTConfig
from utils.lessons.modern_decoders import LlamaConfig

EOS, LN2 = 2, math.log(2)
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def tokenizer():
    return toys.byte_tokenizer()


@pytest.fixture(scope="module")
def model():
    return toys.sure_gpt(1, n_positions=32)


@pytest.fixture
def game(model, tokenizer):
    return widgets.DecoderGame(model, tokenizer, "Once", n_tokens=4, n_choices=5)


def test_a_prompt_stands_behind_bos_where_there_is_one(tokenizer):
    assert widgets.prompt_ids(tokenizer, "ab").tolist() == [1, *tokenizer.encode("ab").ids]
    bare = Tokenizer(models.BPE({"a": 0}, []))
    assert widgets.prompt_ids(bare, "aa").tolist() == [0, 0]


@pytest.mark.parametrize(
    "p, text",
    [(1, "1 in 1.0"), (0.4, "1 in 2.5"), (1 / 5400, "1 in 5,400"), (1 / 2.5e7, "1 in 25.0 million")]
    + [(1e-9, "1 in 1.0 billion"), (1e-13, "1 in 10.0 trillion"), (1e-27, "1 in 10²⁷")],
)
def test_one_in(p, text):
    assert widgets.one_in(math.log(p)) == text


# The game's state


def test_the_text_costs_what_one_forward_pass_says(model, game):
    for rank in (0, 3, 1, 4):
        game.pick(game.choices()[rank][0])
    ids = torch.cat([game.start, torch.tensor(game.picks)])
    with torch.no_grad():
        log_p = model(ids[None, :-1])[0].log_softmax(-1).gather(-1, ids[1:, None])[-4:, 0]
    assert game.compute()["log_p"] == pytest.approx(float(log_p.sum()), abs=1e-4)
    assert [p for _, p in game.compute()["tokens"]] == pytest.approx(log_p.tolist(), abs=1e-4)


def test_greedy_is_the_lessons_greedy(model, game):
    ours = decoding.greedy(model, game.start[None], 4, eos=EOS)[0, len(game.start) :].tolist()
    assert game.greedy(4) == ours[: ours.index(EOS) + 1] if EOS in ours else ours
    second = game.choices()[1][0]
    ids = torch.cat([game.start, torch.tensor([second])])
    assert game.greedy(4, [second])[1:] == decoding.greedy(model, ids[None], 3)[0, len(ids) :].tolist()


def test_choices_are_the_likeliest_best_first(game):
    log_p = game.log_probs([])
    assert [token for token, _, _ in game.choices()] == log_p.topk(5).indices.tolist()
    assert [p for _, _, p in game.choices()] == log_p.topk(5).values.tolist()


def test_picking_greedys_tokens_is_a_draw(game):
    for token in game.greedy(3):
        game.pick(token)
    data = game.compute()
    assert data["same"] and not data["ahead"] and data["log_p"] == data["greedy_log_p"]


def test_ahead_means_likelier_and_the_best_of_all_texts_is(model, tokenizer):
    """Over all texts of two tokens: `ahead` exactly where a text beats greedy's; for some prompt one does."""
    beaten = 0
    for prompt in ("a", "b", "dog", "Once", "Q", "zz"):
        game = widgets.DecoderGame(model, tokenizer, prompt, n_tokens=2)
        first = game.log_probs([])
        rival = sum(game.step_log_probs(game.greedy(2)))
        for token in first.topk(6).indices.tolist():
            game.picks = [token, int(game.log_probs([token]).argmax())]
            data = game.compute()
            assert data["ahead"] == (data["log_p"] > rival + 1e-6)
            beaten += data["ahead"]
    assert beaten


def test_undo_and_restart_take_tokens_back(game):
    at_first = game.compute()
    for _ in range(3):
        game.pick(game.choices()[1][0])
    three = list(game.picks)
    game.undo()
    assert game.picks == three[:2]
    game.restart()
    assert game.compute() == at_first
    game.undo()
    assert game.picks == []


def test_the_game_ends_at_its_length_and_at_the_end_of_the_text(game):
    for _ in range(4):
        assert not game.over()
        game.pick(game.choices()[0][0])
    assert game.over() and game.compute()["choices"] == []
    game.pick(5)
    assert len(game.picks) == 4
    game.restart()
    game.pick(EOS)
    assert game.over()
    game.pick_by_chance()
    assert game.picks == [EOS]


def test_chance_picks_with_the_models_probabilities(game):
    p = game.log_probs([]).exp()
    top = int(p.argmax())
    n, hits = 2000, 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        game.restart()
        game.pick_by_chance(generator)
        hits += game.picks == [top]
    spread = (float(p[top]) * (1 - float(p[top])) / n) ** 0.5
    assert abs(hits / n - float(p[top])) < 4 * spread
    assert 0.02 < p[top] < 0.98


def test_no_distribution_is_computed_twice(game, model, monkeypatch):
    calls = []
    monkeypatch.setattr(widgets, "next_log_probs", lambda *a: calls.append(1) or torch.zeros(259))
    for _ in range(3):
        game.compute()
        game.pick(7)
        game.undo()
    assert len(calls) == 1


def test_a_text_longer_than_the_window_is_cut_on_the_left(model):
    ids = torch.arange(3, 60)
    long, last = widgets.next_log_probs(model, ids), widgets.next_log_probs(model, ids[-32:])
    torch.testing.assert_close(long, last)


# The game's view


def test_buttons_play_the_game(model, tokenizer):
    moving = widgets.decoder_game(model, tokenizer, "Once", n_tokens=3, n_choices=5)
    game, parts = moving.state, moving.parts
    assert [b.description for b in parts["picks"]] == [label for _, label, _ in game.choices()]
    assert parts["Undo"].disabled and not parts["By chance"].disabled
    wanted = game.choices()[2][0]
    parts["picks"][2].click()
    assert game.picks == [wanted]
    assert "After 1 of 3" in parts["score"].value
    assert [b.description for b in parts["picks"]] == [label for _, label, _ in game.choices()]
    parts["By chance"].click()
    parts["picks"][0].click()
    assert all(b.disabled for b in parts["picks"]) and parts["By chance"].disabled
    assert "The end." in parts["score"].value
    parts["Undo"].click()
    assert len(game.picks) == 2 and not parts["picks"][0].disabled
    parts["Start over"].click()
    assert game.picks == [] and "Pick a token" in parts["score"].value


def test_the_score_says_who_is_ahead():
    data = {"tokens": [("a", -1.0)], "log_p": -1.0, "greedy_log_p": -2.0, "greedy_text": "<b>", "over": False}
    assert "likelier than greedy's!" in widgets.score_html({**data, "ahead": True, "same": False}, 9)
    assert "Greedy's text is likelier" in widgets.score_html({**data, "ahead": False, "same": False}, 9)
    assert "wrote the same" in widgets.score_html({**data, "ahead": False, "same": True}, 9)
    assert "&lt;b&gt;" in widgets.score_html({**data, "ahead": False, "same": True}, 9)


def test_text_cannot_break_the_page():
    written = widgets.written_html("<script>", [("<b>", -1.0)])
    assert "<script>" not in written and "&lt;script&gt;" in written and "&lt;b&gt;" in written


# The next token under sliders


@pytest.mark.parametrize(
    "t, k, p", [(1.0, "all", 1.0), (0.5, "all", 1.0), (1.0, 5, 1.0), (1.5, 20, 0.6), (2, 3, 0.9)]
)
def test_sliders_do_what_the_lessons_processors_do(model, tokenizer, t, k, p):
    state = widgets.NextToken(model, tokenizer, "Once", n=6)
    state.temperature, state.k, state.p = t, k, p
    logits = state.logits[None]
    logits = decoding.temperature(t)(logits, None)
    logits = decoding.top_k(259 if k == "all" else k)(logits, None)
    expected = (decoding.top_p(p)(logits, None) if p < 1 else logits)[0].softmax(-1)
    data = state.compute()
    assert data["n_kept"] == int((expected > 0).sum())
    top = state.logits.topk(6).indices
    assert data["bars"]["after"][:-1] == pytest.approx(expected[top].tolist(), abs=1e-6)
    entropy = -sum(q * math.log2(q) for q in expected.tolist() if q)
    assert data["entropy"] == pytest.approx(entropy, abs=1e-3)


def test_settings_that_change_nothing_leave_the_distribution_alone(model, tokenizer):
    state = widgets.NextToken(model, tokenizer, "Once")
    assert state.processors() == []
    assert state.compute()["bars"]["before"] == state.compute()["bars"]["after"]


def test_moving_a_slider_redraws_and_reset_brings_it_back(model, tokenizer):
    moving = widgets.next_token_bars(model, tokenizer, "Once", n=6)
    state, parts = moving.state, moving.parts
    seen = {parts["image"].value}
    for name, value in (("temperature", 0.4), ("k", 3), ("p", 0.5)):
        parts[name].value = value
        assert getattr(state, name) == value
        assert parts["image"].value not in seen
        seen.add(parts["image"].value)
    assert state.compute()["n_kept"] <= 3
    parts["reset"].click()
    assert (state.temperature, state.k, state.p) == (1.0, "all", 1.0)
    assert parts["image"].value in seen
    parts["prompt"].value = "Dogs"
    assert state.prompt == "Dogs" and parts["image"].value not in seen


def test_pictures_have_words_and_quotes_cannot_break_them(model, tokenizer):
    moving = widgets.next_token_bars(model, tokenizer, 'say "<hi>"', n=3)
    value = moving.parts["image"].value
    assert 'alt="After “say &quot;&lt;hi&gt;&quot;”' in value
    start = value.index("base64,") + len("base64,")
    assert base64.b64decode(value[start : value.index('"', start)]).startswith(b"<?xml")


# The growing beam


def test_the_tree_follows_its_step_and_width(model, tokenizer):
    moving = widgets.beam_tree(model, tokenizer, "Once", n_new=4, n_beams=2)
    state, parts = moving.state, moving.parts
    whole = parts["image"].value
    parts["step"].value = 1
    assert state.compute()["step"] == 1 and len(state.compute()["states"]) == 4
    assert "after 1 token: " in parts["image"].value
    assert parts["image"].value != whole
    parts["beams"].value = 1
    assert state.compute()["counts"]["best"] == 1
    parts["beams"].value, parts["step"].value = 2, 4
    assert parts["image"].value == whole


def test_a_beam_of_one_is_greedy(model, tokenizer):
    state = widgets.BeamTree(model, tokenizer, "Once", n_new=4, n_beams=1)
    game = widgets.DecoderGame(model, tokenizer, "Once", n_tokens=4)
    assert show.best_ids(state.steps(), 4) == game.greedy(4)
    assert state.compute()["log_p"] == pytest.approx(sum(game.step_log_probs(game.greedy(4))), abs=1e-4)


def test_each_width_is_searched_once(model, tokenizer, monkeypatch):
    calls = []
    search = decoding.beam_search
    monkeypatch.setattr(decoding, "beam_search", lambda *a, **k: calls.append(1) or search(*a, **k))
    state = widgets.BeamTree(model, tokenizer, "Once", n_new=3, n_beams=2)
    for state.n_beams, state.step in itertools.product((2, 3), (1, 2, 3)):
        state.compute()
    assert len(calls) == 2


# One text, several tokenizers


@pytest.fixture
def cutters():
    """Two tokenizers: one cuts at spaces, the other into letters."""
    return {"words": str.split, "letters": list}


def test_each_tokenizer_cuts_the_text_that_is_typed(cutters):
    moving = widgets.tokenizations(cutters, "a bc")
    state, parts = moving.state, moving.parts
    assert state.compute() == {"words": ["a", "bc"], "letters": ["a", " ", "b", "c"]}
    before = parts["strips"].value
    parts["text"].value = "one two three"
    assert state.compute()["words"] == ["one", "two", "three"]
    assert parts["strips"].value != before and "words: 3 tokens" in parts["strips"].value
    assert "“one two three”: words: 3; letters: 13." in parts["note"].value
    parts["text"].value = ""
    assert state.compute() == {"words": [], "letters": []} and "letters: 0 tokens" in parts["strips"].value


def test_strips_hold_every_token_once_in_alternating_colours():
    strips = widgets.strips_html({"letters": list("abcde")})
    spans = re.findall(r"background:(rgb\([\d,]+\))[^>]*>([^<]*)</span>", strips)
    assert [label for _, label in spans] == list("abcde")
    assert all(one != other for (one, _), (other, _) in zip(spans, spans[1:]))


def test_typed_markup_is_text_and_what_is_pasted_has_an_end(cutters):
    moving = widgets.tokenizations(cutters, "<script> &")
    assert "<script>" not in moving.parts["strips"].value + moving.parts["note"].value
    moving.parts["text"].value = "x" * 100_000
    assert len(moving.state.compute()["letters"]) == widgets.Tokenizations.longest


def test_the_lessons_tokenizers_move_too():
    bpe = tokens.BPE(tokens.train_bpe({" dog": 3, " dogs": 2}, 3))
    cut = lambda text: [show.byte_label(bpe.tokens[i]) for i in bpe.encode(text)]
    assert widgets.tokenizations({"BPE": cut}, "a dog 🐶").state.compute()["BPE"][:2] == ["a", "␣dog"]


def test_tokenizers_without_widgets_are_a_picture_and_words(cutters, monkeypatch):
    bundle = widgets.tokenizations(cutters, "Once more")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW} and "Once more" in bundle["text/plain"]
    monkeypatch.setattr(widgets, "ipywidgets", None)
    assert set(widgets.tokenizations(cutters, "Once")._repr_mimebundle_()) == {"text/plain", "image/png"}


# Who looks at whom


def looks(text):
    """Words, and three layers of two heads: head 0 looks at itself, head 1 at the first word."""
    words = ["^", *text.split()]
    T = len(words)
    first = torch.eye(T)[:1].expand(T, T)
    return words, torch.stack([torch.stack([torch.eye(T), first])] * 3)


def test_the_viewer_shows_the_head_of_the_sentence_that_is_typed():
    moving = widgets.attention_viewer(looks, "a b", layer=1)
    state, parts = moving.state, moving.parts
    assert (parts["layer"].max, parts["head"].max) == (2, 1)
    assert state.compute()["tokens"] == ["^", "a", "b"] == state.compute()["favourites"]
    assert torch.equal(state.compute()["weights"], torch.eye(3))
    seen = {parts["image"].value}
    for name, value in (("head", 1), ("view", "lines"), ("text", "c d e"), ("layer", 2)):
        parts[name].value = value
        assert parts["image"].value not in seen  # the title names layer and head
        seen.add(parts["image"].value)
    assert state.compute()["favourites"] == ["^"] * 4 and state.layer == 2
    assert "Layer 2, head 1. Each one looks most: ^ at ^, c at ^" in parts["note"].value


def test_a_sentence_is_read_once_and_has_an_end():
    asked = []
    moving = widgets.attention_viewer(lambda text: asked.append(text) or looks(text), "a")
    for name, value in (("head", 1), ("layer", 1), ("text", "b " * 500), ("head", 0)):
        moving.parts[name].value = value
    assert asked == ["a", ("b " * 500)[: widgets.AttentionViewer.longest]]
    moving.parts["text"].value = ""
    assert moving.state.compute()["tokens"] == ["^"]


def test_words_of_the_viewer_cannot_break_the_page():
    moving = widgets.attention_viewer(looks, "<script> $x$ &")
    for view in ("map", "lines"):
        moving.parts["view"].value = view
        assert "<script>" not in moving.parts["image"].value + moving.parts["note"].value


@pytest.mark.parametrize("view", ["map", "lines"])
def test_the_viewer_without_widgets_is_a_picture_and_words(view, monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    bundle = widgets.attention_viewer(looks, "Once more", view=view)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "more at more" in bundle["text/plain"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")


def test_lines_are_drawn_where_there_is_weight():
    figure = show.arcs(torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.01, 0.99]]), ["a", "b"], ["x", "y", "z"])
    lines = [tuple(line.get_ydata()) for line in figure.axes[0].lines]
    assert lines == [(0, 0), (0, 1), (1, 2)]
    assert [line.get_alpha() for line in figure.axes[0].lines] == pytest.approx([0.9, 0.1, 0.99])


# In which order XLNet reads


def test_an_order_says_who_sees_whom():
    moving = widgets.reading_order("a b c d".split(), n_given=1)
    data = moving.state.compute()
    order, content, query = (data[name] for name in ("order", "content", "query"))
    assert sorted(order) == [0, 1, 2, 3] and data["ranks"][order[0]] == "given"
    assert not query[order[0]].any()
    for turn in range(4):
        assert set(content[order[turn]].nonzero().flatten().tolist()) == set(order[: turn + 1])
        assert turn == 0 or data["ranks"][order[turn]] == str(turn)
        assert turn == 0 or set(query[order[turn]].nonzero().flatten().tolist()) == set(order[:turn])
    words = [moving.state.words[i] for i in order]
    assert f"Given: {words[0]}. Guessed: {', then '.join(words[1:])}" in moving.parts["note"].value


def test_orders_are_drawn_and_words_are_given():
    moving = widgets.reading_order("a b c d e f".split())
    orders, images = set(), {moving.parts["image"].value}
    for _ in range(4):
        moving.parts["draw"].click()
        orders.add(tuple(moving.state.compute()["order"]))
        images.add(moving.parts["image"].value)
    assert len(orders) == 4 and len(images) == 5
    moving.parts["given"].value = 6
    assert moving.state.compute()["content"].all() and "Guessed: nothing" in moving.parts["note"].value


def test_the_order_without_widgets_is_a_picture_and_words(monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    bundle = widgets.reading_order(["<b>", "$x$"], n_given=0)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "Given: nothing" in bundle["text/plain"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")


# What each token costs


@pytest.fixture
def askable():
    """Two predictors: one asks 8 bits for each letter, the other 1 bit for each word, and both 2 for the end."""
    letters = lambda text: ([*text, "∎"], [8.0] * len(text) + [2.0])
    words = lambda text: ([*text.split(), "∎"], [1.0] * len(text.split()) + [2.0])
    return {"letters": letters, "words": words}


def test_the_sum_of_the_tokens_is_the_file(askable):
    moving = widgets.text_costs(askable, "a bc d")
    data = moving.state.compute()
    assert data["bits"] == 50 and data["bytes"] == 6 and data["rate"] == pytest.approx(50 / 6)
    assert "50.0 bits, a file of 7 bytes in place of 6" in moving.parts["note"].value
    moving.parts["model"].value = "words"
    assert moving.state.compute()["bits"] == 5 and "words" in moving.parts["note"].value
    moving.parts["text"].value = "é"
    assert moving.state.compute()["bytes"] == 2 and moving.state.compute()["bits"] == 3


def test_each_text_is_asked_once_and_the_longest_is_cut(askable):
    asked = []
    ask = lambda text: asked.append(text) or askable["letters"](text)
    moving = widgets.text_costs({"one": ask}, "ab")
    for _ in range(3):
        moving.state.compute()
    assert asked == ["ab"]
    moving.parts["text"].value = "x" * 10_000
    assert len(asked[-1]) == widgets.TextCosts.longest
    moving.parts["text"].value = ""
    assert moving.state.compute()["tokens"] == [("∎", 2.0)]


def test_costs_are_drawn_darker_where_dearer_and_nothing_breaks_out(askable):
    page = widgets.costs_html([("<script>", 0.0), ("&", 8.0), ('"', 40.0)])
    grounds = re.findall(r"background:rgb\((\d+),(\d+),(\d+)\)", page)
    light = [sum(map(int, ground)) for ground in grounds]
    assert len(light) == 3 and light == sorted(light, reverse=True) and light[0] > light[1] > light[2]
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_costs_without_widgets_are_a_picture_and_words(askable, monkeypatch):
    bundle = widgets.text_costs(askable, "Once more")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW} and "Once more" in bundle["text/plain"]
    monkeypatch.setattr(widgets, "ipywidgets", None)
    assert set(widgets.text_costs(askable, "Once")._repr_mimebundle_()) == {"text/plain", "image/png"}


# Neighbours of a word


@pytest.fixture(scope="module")
def word_table():
    """Five words in a plane whose sums are known: king - man + woman is queen."""
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(3)
    rows = {"man": (1, 0, 1), "woman": (0, 1, 1), "king": (1, 0, 3), "queen": (0, 1, 3), "it's": (-1, -1, 0)}
    vectors.add_vectors(list(rows), numpy.array(list(rows.values()), dtype="float32"))
    return vectors


def test_neighbours_are_gensims(word_table):
    data = widgets.Neighbours(word_table, "king", n=3).compute()
    theirs = word_table.most_similar("king", topn=3)
    assert data["words"] == [word for word, _ in theirs]
    assert data["cosines"] == pytest.approx([cosine for _, cosine in theirs], abs=1e-6)


@pytest.mark.parametrize(
    "query, terms",
    [("King", [(1, "king")]), ("king - man + woman", [(1, "king"), (-1, "man"), (1, "woman")])]
    + [("king−man+woman", [(1, "king"), (-1, "man"), (1, "woman")]), ("- it's", [(-1, "it's")])]
    + [("", []), ("+ - 3", []), ("a " * 99, [(1, "a")] * 8)],
)
def test_a_query_is_a_sum_of_words(word_table, query, terms):
    assert widgets.Neighbours(word_table, query).terms() == terms


def test_a_sum_leaves_its_own_words_out_and_is_gensims(word_table):
    data = widgets.Neighbours(word_table, "king - man + woman").compute()
    theirs = word_table.most_similar(positive=["king", "woman"], negative=["man"])
    assert data["words"][0] == "queen" == theirs[0][0] and len(data["words"]) == 2
    assert data["cosines"][0] == pytest.approx(theirs[0][1], abs=1e-6)


def test_typing_moves_the_bars_and_unknown_words_are_named(word_table):
    moving = widgets.neighbours(word_table, "king")
    before = moving.parts["image"].value
    moving.parts["query"].value = "woman"
    assert moving.state.compute()["words"][0] == "queen" and moving.parts["image"].value != before
    moving.parts["query"].value = "king - <b>unicorn"
    assert moving.parts["image"].value == "" and "unicorn" in moving.parts["note"].value
    assert "<b>" not in moving.parts["note"].value
    moving.parts["query"].value = " "
    assert "Type a word" in moving.parts["note"].value


def test_neighbours_without_widgets_are_a_picture_and_words(word_table, monkeypatch):
    bundle = widgets.neighbours(word_table, "king")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW} and "king" in bundle["text/plain"]
    monkeypatch.setattr(widgets, "ipywidgets", None)
    assert set(widgets.neighbours(word_table, "unicorn")._repr_mimebundle_()) == {"text/plain", "image/png"}


# Fill in the blank


@pytest.fixture(scope="module")
def filler():
    torch.manual_seed(0)
    shape = {"vocab_size": 6144, "n_positions": 16, "n_layers": 1, "n_heads": 2, "d_model": 8, "d_ff": 8}
    model = BERT(BertConfig(**shape), head="masked").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model, Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json"))


def test_the_blank_gets_what_the_head_says(filler):
    model, tokenizer = filler
    data = widgets.FillIn(*filler, "The _ barked.", n=4).compute()
    ids = torch.tensor([[5, *tokenizer.encode("The").ids, 3, *tokenizer.encode(" barked.").ids, 4]])
    p = model(ids)[0, ids[0] == 3][0].softmax(-1)
    best = p.topk(4)
    assert data["bars"]["tokens"][:4] == show.token_labels(tokenizer, best.indices)
    assert data["bars"]["before"][:4] == pytest.approx(best.values.tolist(), abs=1e-6)
    filled = ids.masked_fill(ids == 3, best.indices[0])
    assert data["filled"] == tokenizer.decode(filled[0, 1:-1].tolist()).strip()


@pytest.mark.parametrize("text", ["_", "_ _ and _", "ran " * 400 + "_", "", "no blank"])
def test_any_text_can_be_asked(filler, text):
    data = widgets.FillIn(*filler, text).compute()
    assert (data["bars"] is not None) == ("_" in text[:20])


def test_typing_fills_another_blank(filler):
    moving = widgets.fill_in(*filler, "The _ barked.")
    before = moving.parts["image"].value
    moving.parts["text"].value = "A _ <b>sang</b>."
    assert moving.parts["image"].value not in ("", before) and "<b>" not in moving.parts["note"].value
    moving.parts["text"].value = "no blank"
    assert moving.parts["image"].value == "" and "Write a blank" in moving.parts["note"].value
    assert set(moving._repr_mimebundle_()) == {"text/plain", "image/png", VIEW}


def test_a_filled_blank_without_widgets_is_a_picture_and_words(filler, monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    bundle = widgets.fill_in(*filler, "The _ barked.")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "The _ barked." in bundle["text/plain"]


# Where nothing can move

MAKERS = [widgets.decoder_game, widgets.next_token_bars, widgets.beam_tree]


@pytest.mark.parametrize("make", MAKERS)
def test_a_picture_and_words_stand_in(model, tokenizer, make):
    bundle = make(model, tokenizer, "Once")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "Once" in bundle["text/plain"]
    assert set(bundle[VIEW]) == {"version_major", "version_minor", "model_id"}


@pytest.mark.parametrize("make", MAKERS)
def test_pages_work_without_ipywidgets(model, tokenizer, make, monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    moving = make(model, tokenizer, "Once")
    assert set(moving._repr_mimebundle_()) == {"text/plain", "image/png"}
    assert moving.state.compute()


def test_only_what_ipywidgets_7_and_8_share_is_used():
    shared = {
        "Button",
        "Dropdown",
        "FloatSlider",
        "HBox",
        "HTML",
        "IntSlider",
        "Layout",
        "Play",
        "SelectionSlider",
        "Text",
        "Textarea",
        "ToggleButtons",
        "VBox",
    }
    tree = ast.parse(inspect.getsource(widgets))
    names = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    used = {node.attr for node in names if node.value.id == "ipywidgets"}
    assert "HTML" in used and used <= shared | {"jslink"}


# The stored pages: what stands where there is no kernel

MADE_HERE = {
    name
    for name, maker in vars(widgets).items()
    if inspect.isfunction(maker) and "Moving(" in inspect.getsource(maker)
}


def widget_cells():
    """(page, cell) for each code cell of the course that shows a widget or is tagged so."""
    for path in pages.all_pages():
        for cell in pages.code_cells(pages.read(path)):
            shows = set(re.findall(r"\bwidgets\.(\w+)\(", cell.source)) & MADE_HERE
            if shows or "widget" in pages.tags(cell) or "ipywidgets" in cell.source:
                yield pytest.param(cell, id=f"{path.stem}-{cell.id}")


def test_every_kind_of_widget_moves_on_some_page():
    on_pages = {
        name for param in widget_cells() for name in re.findall(r"\bwidgets\.(\w+)\(", param.values[0].source)
    }
    assert MADE_HERE <= on_pages | {"picture"} and len(MADE_HERE) > 10


@pytest.mark.parametrize("cell", list(widget_cells()))
def test_a_picture_and_its_words_are_stored_beside_every_widget(cell):
    assert {"widget", "nbval-ignore-output"} <= set(pages.tags(cell))
    (output,) = cell.outputs
    assert set(output.data) == {"image/png", "text/plain"}  # and no view that only a kernel could fill
    with Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))) as picture:
        shades = [high - low for low, high in picture.convert("RGB").getextrema()]
        assert min(picture.size) > 60 and max(shades) > 60  # something is drawn
    words = output.data["text/plain"]
    assert len(words.split()) > 5 and not re.search(
        r"<|object at|Box\(", words
    )  # in words, for those who cannot see


# What a model reads while it writes


def copies(text):
    """Writes the first three letters, and looks at each while it writes it."""
    return text[:3], torch.eye(len(text))[: min(3, len(text))]


def test_the_reading_follows_the_text_that_is_typed():
    moving = widgets.reading(copies, "abcd")
    state, parts = moving.state, moving.parts
    assert state.compute()["written"] == "abc" and state.compute()["favourites"] == list("abc")
    before = parts["image"].value
    parts["text"].value = "<b> é🐶"
    assert parts["image"].value != before and "&lt; at" in parts["note"].value
    assert "<b>" not in parts["note"].value
    parts["text"].value = ""
    assert state.compute()["text"] == " " and state.compute()["written"] == " "
    parts["text"].value = "x" * 1000
    assert len(state.compute()["text"]) == widgets.Reading.longest


def test_a_reading_without_widgets_is_a_picture_and_words(monkeypatch):
    bundle = widgets.reading(copies, "abcd")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW} and "read as abc" in bundle["text/plain"]
    monkeypatch.setattr(widgets, "ipywidgets", None)
    assert set(widgets.reading(copies, "abcd")._repr_mimebundle_()) == {"text/plain", "image/png"}


# Sentences and a question


def by_letters(sentences):
    """A vector of length 1 for each sentence: how often it has an a, a b, a c."""
    by_letters.read.extend(sentences)
    counts = torch.tensor([[s.count(letter) for letter in "abc"] for s in sentences], dtype=torch.float)
    return torch.nn.functional.normalize(counts, dim=-1)


@pytest.fixture
def sentence_map():
    by_letters.read = []
    return widgets.sentence_map(by_letters, "bbc\n  aaa \n\nab\naaa", "a")


def test_sentences_are_ranked_by_their_cosine_and_read_once(sentence_map):
    data = sentence_map.state.compute()
    assert data["sentences"] == ["aaa", "ab", "bbc"]
    assert data["cosines"] == pytest.approx([1, 2**-0.5, 0])
    assert data["map"][1][2] == pytest.approx(2 / 10**0.5) == data["map"][2][1]
    sentence_map.parts["query"].value = "c"
    assert sentence_map.state.compute()["sentences"][0] == "bbc"
    assert sorted(by_letters.read) == ["a", "aaa", "ab", "bbc", "c"]


def test_sentences_that_are_typed_move_the_picture_and_cannot_break_it(sentence_map):
    parts = sentence_map.parts
    before = parts["image"].value
    parts["view"].value = "map"
    assert parts["image"].value != before and "“ab” and “aaa”" in parts["note"].value
    parts["view"].value = "search"
    parts["text"].value = "<b>a\n" + "\n".join(f"c{i}" for i in range(99)) + "\n" + "b" * 999
    assert "&lt;b&gt;a" in parts["note"].value and "<b>" not in parts["note"].value
    assert len(sentence_map.state.compute()["sentences"]) == sentence_map.state.most
    parts["text"].value = " \n "
    assert parts["image"].value == "" and "Type a sentence" in parts["note"].value
    parts["text"].value, parts["query"].value = "b" * 999, ""
    assert sentence_map.state.compute()["sentences"] == ["b" * 200]
    parts["view"].value = "map"
    assert "One sentence" in parts["note"].value


def test_a_sentence_map_without_widgets_is_a_picture_and_words(sentence_map, monkeypatch):
    bundle = sentence_map._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW} and "“aaa”, 1.00" in bundle["text/plain"]
    monkeypatch.setattr(widgets, "ipywidgets", None)
    for view in ("search", "map"):
        moving = widgets.sentence_map(by_letters, "a\nb", "a", view)
        assert set(moving._repr_mimebundle_()) == {"text/plain", "image/png"}


# Positions as angles


def test_both_positions_may_grow_and_the_score_stays():
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    state = widgets.Rotary(q, k, m=7, n=3)
    first = state.compute()
    assert first["distance"] == 4 and first["score"] == pytest.approx(first["scores"][4], abs=1e-4)
    assert first["query"].shape == first["key"].shape == (4, 2)
    state.m, state.n = 27, 23
    assert state.compute()["score"] == pytest.approx(first["score"], abs=1e-4)
    state.m = 26
    assert abs(state.compute()["score"] - first["score"]) > 1e-2
    state.m = state.n = 0
    assert torch.equal(state.compute()["query"], q.view(2, 4).T)
    assert state.compute()["scores"][0] == pytest.approx(float(q @ k), abs=1e-5)


def test_the_sliders_turn_the_arrows():
    moving = widgets.rotary(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), m=2, n=2)
    parts, seen = moving.parts, moving.parts["image"].value
    assert "distance 0, score 1.00" in parts["note"].value
    parts["m"].value = 5
    assert parts["image"].value != seen and f"distance 3, score {math.cos(3):.2f}" in parts["note"].value
    parts["together"].click()
    assert (parts["m"].value, parts["n"].value) == (6, 3) and "distance 3" in parts["note"].value
    parts["m"].value = widgets.Rotary.furthest
    parts["together"].click()
    assert (parts["m"].value, parts["n"].value) == (widgets.Rotary.furthest, 3)


def test_rotary_without_widgets_is_a_picture_and_words(monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    bundle = widgets.rotary(*torch.ones(2, 8), m=1, n=1)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "score 8.00" in bundle["text/plain"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")


# A caption, painted


CHOICES = [["red", "blue"], ["ring", "cross"]]


def blot(caption, seed):
    """A picture (3, 4, 4) that depends on the words and on chance."""
    rng = numpy.random.default_rng([seed, *map(len, caption), caption[0] == "red"])
    return rng.uniform(-1, 1, (3, 4, 4))


def test_a_caption_is_painted_anew_with_each_word_and_each_wish():
    moving = widgets.caption_pictures(blot, CHOICES, ("red", "ring"), n=3)
    state, parts = moving.state, moving.parts
    first, shown = state.compute()["pictures"], parts["image"].value
    assert len(first) == 3 and state.compute()["caption"] == "red ring"
    parts["words"][1].value = "cross"
    assert state.compute()["caption"] == "red cross" and parts["image"].value != shown
    assert "red cross" in parts["note"].value
    parts["words"][1].value = "ring"
    assert all(map(numpy.array_equal, first, state.compute()["pictures"]))
    parts["again"].click()
    assert not any(map(numpy.array_equal, first, state.compute()["pictures"]))
    assert "set number 2" in parts["note"].value


def test_each_picture_is_painted_once():
    painted = []
    state = widgets.CaptionPictures(
        lambda *what: painted.append(what) or blot(*what), CHOICES, ("red", "ring")
    )
    state.compute(), state.compute()
    assert len(painted) == len(set(painted)) == state.n


@pytest.mark.parametrize("caption", [("red",), ("red", "square"), ("ring", "red"), ("red", "ring", "red")])
def test_a_caption_of_other_words_is_refused(caption):
    with pytest.raises(ValueError, match="one word from each"):
        widgets.CaptionPictures(blot, CHOICES, caption)


def test_a_painted_caption_without_widgets_is_a_picture_and_words(monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    bundle = widgets.caption_pictures(blot, CHOICES, ("red", "ring"))._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "red ring" in bundle["text/plain"]


# What a model costs


COST_SHAPES = {
    "GPT-2": GPTConfig(50_257, 1024, 12, 12, 768),
    "Llama 2 70B": LlamaConfig(32_000, 4096, 80, 64, 8192, 1e-5, 28_672, 8, tied=False),
}


@pytest.mark.parametrize(
    "number, words",
    [(2.5, "2.5"), (999, "999"), (1720320, "1.72 million"), (43_210, "43,210"), (68.98e9, "69 billion")]
    + [(2e12, "2 trillion"), (8.28e23, "8.3e+23")],
)
def test_large_numbers_are_said_in_words(number, words):
    assert widgets.in_words(number) == words


def test_the_bill_is_the_lessons_arithmetic():
    state = widgets.calculator(COST_SHAPES, "Llama 2 70B", gpus=6000, utilisation=0.46, price=2).state
    data = state.compute()
    n = 68_976_648_192
    assert data["parameters"] == n and data["file"] == 2 * n and data["training_memory"] == 16 * n
    assert data["rule"] == 6 * n * 2 * 10**12 and data["tokens_each"] == pytest.approx(29, rel=0.01)
    assert data["flops"] == 3 * scale.forward_flops(COST_SHAPES["Llama 2 70B"], 4096) * 2e12 / 4096
    assert data["hours"] == pytest.approx(data["flops"] / (312e12 * 0.46 * 3600))
    assert data["hours"] == pytest.approx(1_720_320, rel=0.01)  # what the model's card says
    assert data["days"] == pytest.approx(12, rel=0.02) and data["dollars"] == pytest.approx(2 * data["hours"])
    assert data["least_gpus"] == 14 and data["cache"] == 327_680 * 4096
    assert ("dollars", "3.44 million") in state.lines()


def test_moving_the_sliders_writes_another_bill():
    moving = widgets.calculator(COST_SHAPES, "Llama 2 70B")
    state, parts = moving.state, moving.parts
    shown, days = parts["image"].value, state.compute()["days"]
    parts["gpus"].value = 1024
    assert state.compute()["days"] == pytest.approx(days * 6000 / 1024) and parts["image"].value != shown
    dollars = state.compute()["dollars"]
    parts["price"].value = 2.32
    assert state.compute()["dollars"] == pytest.approx(2 * dollars)
    parts["utilisation"].value = 0.92
    assert state.compute()["dollars"] == pytest.approx(dollars)
    parts["tokens"].value = 10**12
    assert state.compute()["dollars"] == pytest.approx(dollars / 2)
    counted = state.compute()["flops"]
    parts["length"].value = 2**17
    assert state.compute()["flops"] > 2 * counted
    parts["name"].value = "GPT-2"
    assert state.compute()["parameters"] == 124_439_808 and "GPT-2" in parts["note"].value


def test_settings_between_the_marks_are_kept_and_unknown_models_refused():
    moving = widgets.calculator(COST_SHAPES, "GPT-2", tokens=3.3e9, gpus=3)
    assert moving.parts["tokens"].value == 3_300_000_000 and moving.parts["gpus"].value == 3
    with pytest.raises(ValueError, match="no 'GPT-9' among GPT-2, Llama 2 70B"):
        widgets.calculator(COST_SHAPES, "GPT-9")


def test_the_calculator_without_widgets_is_a_picture_and_words(monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    bundle = widgets.calculator(COST_SHAPES, "Llama 2 70B")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "2 trillion tokens" in bundle["text/plain"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")


# Which pitfall is it?


@pytest.fixture
def curves():
    sick = {"x": [0, 1, 2], "lines": {"training": [3, 2, 1], "held out <b>": torch.tensor([3, 2.0, 4])}}
    well = {"x": [0, 1], "lines": {"training": [3, 2], "held out": [3, 2]}}
    return [
        sick | {"pitfall": "overfitting", "why": "held out turns"},
        well | {"pitfall": "all is well", "why": "both fall"},
    ]


def test_an_answer_is_judged_once_and_only_then_explained(curves):
    state = widgets.WhichPitfall(curves)
    assert state.choices == ["all is well", "overfitting"]  # their order tells nothing
    assert state.compute()["right"] is None and state.compute()["why"] == ""
    state.answer("all is well")
    state.answer("overfitting")  # too late
    assert state.compute()["right"] is False and state.compute()["why"] == "held out turns"
    state.move()
    state.answer("all is well")
    assert state.compute()["right"] and state.compute()["score"] == 1
    state.move()
    assert state.compute()["case"] == 1 and state.compute()["said"] == "all is well"
    state.restart()
    assert state.compute()["right"] is None and state.compute()["score"] == 0
    with pytest.raises(ValueError, match="all is well, overfitting, not measles"):
        state.answer("measles")


def test_the_doctors_buttons_play_and_the_words_say_what_the_picture_shows(curves):
    moving = widgets.which_pitfall(curves)
    parts, before = moving.parts, moving.parts["image"].value
    assert [pick.description for pick in parts["picks"]] == moving.state.choices
    assert "training 3.00 → 1.00" in parts["note"].value and "overfitting" not in parts["note"].value
    assert "<b>" not in parts["note"].value
    parts["picks"][1].click()
    assert "Right: held out turns" in parts["note"].value and all(p.disabled for p in parts["picks"])
    parts["next"].click()
    assert parts["image"].value != before and not any(p.disabled for p in parts["picks"])
    parts["picks"][1].click()
    assert "Not overfitting, but all is well: both fall. 1 of 2 right" in parts["note"].value
    parts["start over"].click()
    assert moving.state.answers == {} and "Case 1 of 2" in parts["note"].value


def test_the_doctor_without_widgets_is_a_picture_and_words(curves, monkeypatch):
    bundle = widgets.which_pitfall(curves)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", VIEW} and "Case 1 of 2" in bundle["text/plain"]
    assert "overfitting" not in bundle["text/plain"]
    monkeypatch.setattr(widgets, "ipywidgets", None)
    assert set(widgets.which_pitfall(curves)._repr_mimebundle_()) == {"text/plain", "image/png"}


# The labelling table


ANSWERS = [
    ("Tell me of a fox.", "A <fox>.", "No."),
    ("And a hen?", "Hen!", "Hens. Two & more."),
    ("Bye", "b", "c"),
]


def test_clicks_count_and_stand_ins_fill_the_rest():
    table = widgets.labelling_table(ANSWERS, [0, 1, 1])
    state, parts = table.state, table.parts
    assert state.verdicts() == [0, 1, 1] and state.compute()["n_clicked"] == 0
    parts["Right is better"].click()
    assert state.at == 1 and state.verdicts() == [1, 1, 1]
    parts["Left is better"].click(), parts["Skip"].click()
    assert state.at == 2 and state.clicked == [1, 0, None] and state.verdicts() == [1, 0, 1]
    assert "2 of 3 pairs judged" in parts["note"].value


def test_a_verdict_can_be_seen_changed_and_taken_back():
    parts = (table := widgets.labelling_table(ANSWERS, [0, 1, 1])).parts
    parts["Right is better"].click(), parts["Back"].click(), parts["Back"].click()
    assert table.state.at == 0 and table.state.compute()["chosen"] == 1
    assert "3px" in parts["boxes"][1].value and "3px" not in parts["boxes"][0].value
    parts["Clear"].click()
    assert table.state.at == 0 and table.state.verdicts() == [0, 1, 1]
    parts["Left is better"].click()
    assert table.state.clicked == [0, None, None]


def test_answers_cannot_break_the_table_and_its_ends_hold():
    parts = (table := widgets.labelling_table(ANSWERS, [0, 1, 1])).parts
    assert "A &lt;fox&gt;." in parts["boxes"][0].value
    for _ in range(5):
        parts["Skip"].click()
    assert table.state.at == 2
    for _ in range(3):
        parts["Right is better"].click()
    assert table.state.clicked == [None, None, 1] and table.state.at == 2


@pytest.mark.parametrize("rows, verdicts", [(ANSWERS, [0, 1]), ([], [])])
def test_each_pair_needs_a_stand_in(rows, verdicts):
    with pytest.raises(ValueError, match="one verdict for each pair"):
        widgets.labelling_table(rows, verdicts)


def test_a_table_without_widgets_is_a_picture_and_words(monkeypatch):
    monkeypatch.setattr(widgets, "ipywidgets", None)
    table = widgets.labelling_table(ANSWERS, [0, 1, 1])
    bundle = table._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png"} and "Tell me of a fox." in bundle["text/plain"]
    assert table.state.verdicts() == [0, 1, 1]
