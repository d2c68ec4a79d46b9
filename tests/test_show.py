"""Figures: the data behind them is right, the drawing shows that data, and it can be read."""

import itertools
import math
import threading
from xml.etree import ElementTree

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import toys
from matplotlib.colors import to_rgb

from utils import course, show
from utils.lessons import decoding


@pytest.fixture(scope="module")
def tokenizer():
    return toys.byte_tokenizer()


@pytest.fixture(scope="module")
def model():
    return toys.sure_gpt(0, n_positions=64)


def luminance(colour):
    """How light a colour is to the eye, 0 to 1 (WCAG 2)."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot(parts, (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# Colours


@pytest.mark.parametrize("colour", show.PART_COLOURS.values())
def test_white_titles_can_be_read_on_every_part_of_the_map(colour):
    assert contrast(show.PAPER, colour) >= 3.4


@pytest.mark.parametrize("colour_map", [show.WARM, show.BOTH])
def test_readable_picks_the_better_of_ink_and_paper(colour_map):
    for value in np.linspace(0, 1, 101):
        assert contrast(show.readable(colour_map(value)), colour_map(value)) > 3.9


def test_the_first_colours_stay_apart_without_red_or_without_green():
    """Viénot's simulation of the two common kinds of colour blindness; lines differ in their dashes too."""
    lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    colours = [np.array(to_rgb(c)) ** 2.2 for c in show.COLOURS[:3]]
    for kind in (protan, deutan):
        seen = [np.clip(np.linalg.inv(lms) @ kind @ lms @ c, 0, 1) ** (1 / 2.2) for c in colours]
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(one - other) > 0.2


def test_style_is_confined_to_the_figures_until_it_is_asked_for():
    with plt.rc_context({"font.size": 7.0}):
        show.png(show.matrix(np.eye(2)))
        assert plt.rcParams["font.size"] == 7.0
        show.style()
        assert plt.rcParams["font.size"] == show.STYLE["font.size"]


# Tokens


def test_token_labels_can_be_read(tokenizer):
    ids = [*tokenizer.encode(" a\n\t").ids, 2, tokenizer.encode("é").ids[0]]
    assert show.token_labels(tokenizer, ids)[:5] == ["␣", "a", "⏎", "⇥", "<eos>"]
    assert "\N{REPLACEMENT CHARACTER}" not in show.token_labels(tokenizer, ids)[5]


def test_bytes_can_be_read():
    read = [show.byte_label(token) for token in (b" dog", b"\n\t", b"\xf0\x9f", b" \xe2\x82", b"\x00", b"")]
    assert read == ["␣dog", "⏎⇥", "f0 9f", "␣ e2 82", "00", ""]


def test_every_token_of_every_tokenizer_has_its_box():
    cuts = {"letters": list("abcdefghij" * 12), "words": ["one", "␣two"], "nothing": []}
    figure = show.tokenizations(cuts, "A text")
    (axes,) = figure.axes
    said = [text.get_text() for text in axes.texts]
    assert said.count("a") == 12 and {"letters: 120 tokens", "words: 2 tokens", "nothing: 0 tokens"} < set(
        said
    )
    boxes = [patch.get_bbox() for patch in axes.patches]
    assert len(boxes) == 122 and len({(round(box.x0, 3), round(box.y0, 3)) for box in boxes}) == 122
    assert all(0 <= box.x0 and box.x1 <= axes.get_xlim()[1] + 1e-6 for box in boxes)
    assert max(box.y1 for box in boxes) <= axes.get_ylim()[0]
    plt.close(figure)


@pytest.mark.parametrize("colour", show.TINTS)
def test_tokens_can_be_read_on_their_tints(colour):
    assert contrast(show.INK, colour) > 9


@pytest.mark.parametrize(
    "p, text",
    [(1, "100 %"), (0.996, "100 %"), (0.34, "34 %"), (0.0995, "10 %"), (0.0123, "1.2 %"), (0.00123, "0.12 %")]
    + [(0.00002, "< 0.01 %"), (0, "0 %")],
)
def test_percent(p, text):
    assert show.percent(p) == text


def test_next_tokens_adds_up(tokenizer):
    logits = torch.randn(259, generator=torch.Generator().manual_seed(0))
    data = show.next_tokens(logits, tokenizer, 5, [decoding.temperature(0.5), decoding.top_k(3)])
    assert data["tokens"][-1] == "254 others" and len(data["tokens"]) == 6
    assert math.isclose(sum(data["before"]), 1, rel_tol=1e-5)
    assert math.isclose(sum(data["after"]), 1, rel_tol=1e-5)
    assert data["kept"] == [True] * 3 + [False] * 3
    assert data["before"][:5] == sorted(data["before"][:5], reverse=True)
    best = (logits / 0.5).topk(3).values.softmax(-1)
    torch.testing.assert_close(torch.tensor(data["after"][:3]), best)


def test_next_tokens_hands_the_text_to_processors(tokenizer):
    seen = []

    def spy(logits, ids):
        seen.append((tuple(logits.shape), ids.tolist()))
        return logits

    show.next_tokens(torch.zeros(259), tokenizer, 3, [spy], torch.tensor([1, 5]))
    assert seen == [((1, 259), [[1, 5]])]


def test_bars_show_the_numbers_they_are_given():
    figure = show.next_token_bars(
        ["a", "b", "7 others"], [0.5, 0.3, 0.2], [0.8, 0.2, 0.0], [True, True, False]
    )
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.3, 0.2, 0.8, 0.2, 0.0]
    assert [text.get_text() for text in axes.texts] == ["80 %", "20 %", "cut"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "7 others"]
    plt.close(figure)


def test_flow_breaks_lines_before_they_are_too_long():
    widths = [3, 3, 3, 5, 9, 1]
    places = show.flow(widths, 9)
    assert places == [(0, 0), (3, 0), (6, 0), (0, 1), (0, 2), (0, 3)]


# Numbers


def test_table_is_aligned_and_has_no_trailing_space():
    rows = [
        {"name": "東京", "n": 12345, "p": 0.123456, "ok": True},
        {"name": "b", "n": 3, "p": 1e6, "ok": None},
    ]
    assert show.table(rows).split("\n") == [
        "name       n          p  ok",
        "────  ──────  ─────────  ───",
        "東京  12,345      0.123  yes",
        "b          3  1,000,000  –",
    ]


def test_table_of_sequences_has_no_header():
    assert show.table([["a", 1], ["bb", 20]]) == "a    1\nbb  20"


def test_curves_draw_the_mean_and_the_band_of_several_runs():
    runs = np.array([[3.0, 2.0, 1.0], [5.0, 4.0, 3.0]])
    figure = show.curves([1, 2, 3], {"several": runs, "one": [1, 1, 1]}, "steps", "loss")
    axes = figure.axes[0]
    assert axes.lines[0].get_ydata().tolist() == [4, 3, 2]
    assert len(axes.collections) == 1
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == (1, 5)
    assert {text.get_text() for text in axes.texts} == {"several", "one"}
    plt.close(figure)


def test_dots_stand_in_the_row_of_their_name():
    figure = show.dots({"one": [1.0, 2.0], "two": torch.tensor([3.0])}, (0, 2), "nats", "Dots")
    axes = figure.axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2], [3]]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0, 0], [1]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first name on top
    plt.close(figure)


def test_names_at_the_ends_of_lines_do_not_cover_one_another():
    figure, axes = plt.subplots()
    axes.set(ylim=(0, 1))
    heights = [
        height for _, height in show.spread(axes, [("a", 0.99), ("b", 0.98), ("c", 0.985), ("d", 0.1)])
    ]
    assert all(abs(x - y) > 0.07 for x, y in itertools.combinations(heights, 2))
    assert heights[0] > heights[2] > heights[1] > heights[3] and max(heights) <= 1
    plt.close(figure)


def test_matrix_carries_its_numbers_and_a_signed_one_is_centred():
    figure = show.matrix([[0.5, -1.0], [0.25, 0.0]], ["a", "b"], ["c", "d"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.50", "-1.00", "0.25", "0.00"]
    assert figure.axes[0].images[0].get_clim() == (-1, 1)
    plt.close(figure)


def test_a_matrix_of_counts_carries_whole_numbers():
    figure = show.matrix(np.array([[3, 0], [12, 1]]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "0", "12", "1"]
    plt.close(figure)


def test_a_mask_has_a_frame_and_no_numbers():
    figure = show.matrix(np.tri(5, dtype=bool))
    (axes,) = figure.axes
    assert not axes.texts and all(spine.get_visible() for spine in axes.spines.values())
    plt.close(figure)
    figure = show.matrix(np.tri(5))
    assert not any(spine.get_visible() for spine in figure.axes[0].spines.values())
    plt.close(figure)


# Beam search


def a_step(parents, tokens, scores, ended, kept):
    """One step of a beam search's record, for a batch of one."""
    step = {"parents": parents, "tokens": tokens, "scores": scores, "ended": ended, "kept": kept}
    return {name: torch.tensor([value]) for name, value in step.items()}


@pytest.fixture
def history():
    """Two beams: `b` overtakes `a` in step 2, where `a` dies; one text ends in step 2, one in step 3."""
    a, b, c, d, end = 70, 71, 72, 73, 2
    no = [False] * 4
    return [
        a_step([0, 0, 0, 0], [a, b, c, d], [-1.0, -2.0, -3.0, -4.0], no, [0, 1]),
        a_step([1, 1, 1, 0], [a, end, b, c], [-2.5, -2.6, -2.7, -9.0], [False, True, False, False], [0, 2]),
        a_step([1, 0, 1, 0], [end, a, b, b], [-2.8, -5.0, -6.0, -7.0], [True] * 4, [1, 2]),
    ]


def test_beam_nodes_follow_parents_through_what_was_kept(history, tokenizer):
    steps = show.beam_nodes(history, tokenizer)
    assert [[node.parent for node in nodes] for nodes in steps] == [[-1] * 4, [1, 1, 1, 0], [2, 0, 2, 0]]
    assert [[node.kept for node in nodes] for nodes in steps][:2] == [
        [True, True, False, False],
        [True, False, True, False],
    ]
    assert [[node.ended for node in nodes] for nodes in steps][1:] == [
        [False, True, False, False],
        [True, True, False, False],
    ]


def test_beam_states_tell_the_living_from_the_dead(history, tokenizer):
    steps = show.beam_nodes(history, tokenizer)
    after_one, after_two, after_all = (show.beam_states(steps, upto) for upto in (1, 2, 3))
    assert list(after_one.values()) == ["best", "alive", "dropped", "dropped"]
    assert [after_two[0, r] for r in range(4)] == ["pruned", "best", "dropped", "dropped"]
    assert [after_two[1, r] for r in range(4)] == ["best", "alive", "alive", "dropped"]
    assert [after_all[2, r] for r in range(4)] == ["best", "alive", "dropped", "dropped"]
    assert show.best_ids(steps, 3) == [71, 71, 2]


def test_the_tree_agrees_with_beam_search(model, tokenizer):
    for seed, n_beams in itertools.product(range(6), (1, 2, 4)):
        ids = torch.randint(3, 259, (2, 4), generator=torch.Generator().manual_seed(seed))
        record = []
        found, scores = decoding.beam_search(model, ids, 6, n_beams=n_beams, eos=2, history=record)
        for sentence in range(2):
            steps = show.beam_nodes(record, tokenizer, sentence)
            best = show.best_ids(steps, len(steps))
            t, rank = show.best_leaf(steps, len(steps))
            assert found[sentence, 0, 4:].tolist()[: len(best)] == best
            assert math.isclose(steps[t][rank].score / (t + 1), float(scores[sentence, 0]), rel_tol=1e-4)


def test_the_tree_draws_a_box_for_every_candidate_so_far(history, tokenizer):
    for step, boxes in ((1, 4), (2, 8), (None, 12)):
        figure = show.beam_tree(history, tokenizer, step)
        assert sum(isinstance(patch, show.FancyBboxPatch) for patch in figure.axes[0].patches) == boxes
        plt.close(figure)


# Pictures


def drawings(history, tokenizer):
    yield show.next_token_bars(["a", "1 other"], [0.5, 0.5])
    yield show.token_strip(["Once", "␣upon"], [3.0, 0.1], title="Bits")
    yield show.matrix(np.eye(3))
    yield show.matrix(np.eye(20))
    yield show.curves([1, 2], {"a": [1, 2]}, log="y")
    yield show.beam_tree(history, tokenizer)
    yield show.course_map(["00_start_here"])


def test_pictures_are_small_the_same_every_time_and_closed(history, tokenizer):
    plt.close("all")
    first = [show.png(figure) for figure in drawings(history, tokenizer)]
    again = [show.png(figure) for figure in drawings(history, tokenizer)]
    assert first == again
    assert max(map(len, first)) < 100_000
    assert not plt.get_fignums()


def test_figures_drawn_apart_do_not_meet_those_of_a_cell(history, tokenizer):
    """Widgets draw in a thread of their own, while a cell draws, shows and closes figures in another."""
    with show.apart():
        alone = show.svg(show.beam_tree(history, tokenizer))
    drawn, stop = [], threading.Event()

    def draw():
        for _ in range(4):
            with show.apart():
                drawn.append(show.svg(show.beam_tree(history, tokenizer)))

    def cell():
        while not stop.is_set():
            figure, axes = plt.subplots(dpi=120)
            axes.plot([1, 2])
            for number in plt.get_fignums():  # what the inline backend does behind each cell
                plt.figure(number).canvas.draw()
            plt.close("all")

    threads = [threading.Thread(target=target) for target in (draw, draw, cell)]
    for thread in threads:
        thread.start()
    for thread in threads[:2]:
        thread.join()
    stop.set()
    threads[2].join()
    assert set(drawn) == {alone} and len(drawn) == 8
    assert not plt.get_fignums()


@pytest.mark.filterwarnings("ignore:Glyph")
def test_signs_that_no_xml_may_hold_do_not_break_a_picture():
    odd = "a\x01\x0b\x1f\ufffe -- b ]]> <c>"
    ElementTree.fromstring(show.svg(show.matrix(np.eye(1), [odd], ["x"], odd)))


def test_svg_is_the_same_every_time():
    assert len({show.svg(show.matrix(np.eye(2))) for _ in range(2)}) == 1


# The families


def test_the_family_tree_marks_what_differs_from_the_first_row():
    plain = {"family": "Transformer", "page": "05", "net": "relu", "biases": "yes"}
    rows = [plain, plain | {"family": "T5", "net": "relu or gated tanh-gelu", "biases": "no"}]
    axes = show.family_tree(rows).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        "",
        "net",
        "biases",
        "Transformer",
        "relu",
        "yes",
        "T5",
        "relu\nor gated\ntanh-gelu",
        "no",
    ]
    depth = [round(1 - luminance(patch.get_facecolor()[:3]), 2) for patch in axes.patches]
    assert depth[:4] == [0, 0, 0, 0] and 0 < depth[4] < depth[5]
    plt.close("all")


# The course


def test_the_map_holds_the_pages_of_the_course():
    assert list(show.COURSE) == [name for part in course.PAGES.values() for name in part] == list(show.MAP)
    assert [name[:2] for name in show.COURSE] == [f"{i:02}" for i in range(27)]


def test_a_page_needs_only_earlier_pages_and_all_grow_from_the_first():
    arrows = show.needs()
    assert all(before < after for before, after in arrows)
    assert {after for _, after in arrows} == {name[:2] for name in show.COURSE} - {"00"}
    assert set(show.WAYS) <= set(arrows)


def box(place):
    x, y = show.middle(place)
    return (
        x - show.NODE_WIDTH / 2,
        y - show.NODE_HEIGHT / 2,
        x + show.NODE_WIDTH / 2,
        y + show.NODE_HEIGHT / 2,
    )


def test_no_two_pages_stand_in_one_place():
    assert len({lesson.place for lesson in show.COURSE.values()}) == 27


@pytest.mark.parametrize("before, after", show.needs())
def test_an_arrow_runs_from_edge_to_edge_and_touches_no_other_page(before, after):
    boxes = {name[:2]: box(lesson.place) for name, lesson in show.COURSE.items()}
    corners = show.way(before, after)
    for point, page in ((corners[0], before), (corners[-1], after)):
        left, top, right, bottom = boxes[page]
        assert left <= point[0] <= right and top <= point[1] <= bottom
    for (x, y), (to_x, to_y) in itertools.pairwise(corners):
        assert x == to_x or y == to_y
        for left, top, right, bottom in boxes.values():
            inside_x = max(min(x, to_x), left) < min(max(x, to_x), right) or left < x == to_x < right
            inside_y = max(min(y, to_y), top) < min(max(y, to_y), bottom) or top < y == to_y < bottom
            assert not (inside_x and inside_y)


def test_titles_fit_their_boxes():
    figure = show.course_map(list(show.COURSE))
    figure.canvas.draw()
    boxes = [box(lesson.place) for lesson in show.COURSE.values()]
    invert = figure.axes[0].transData.inverted()
    for text in figure.axes[0].texts:
        extent = text.get_window_extent().transformed(invert)
        (left, right), (top, bottom) = sorted(extent.intervalx), sorted(extent.intervaly)
        inside = [b for b in boxes if b[0] < left < b[2] and b[1] < (top + bottom) / 2 < b[3]]
        assert all(right < b[2] - 2 and top > b[1] and bottom < b[3] for b in inside)
        assert inside or right < show.LEFT - show.NODE_WIDTH / 2 - 4 or top > show.ROW_TOPS[-1]
    plt.close(figure)


def test_pages_that_exist_are_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "root", lambda: tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "07_decoding.ipynb").write_text('{"metadata": {}}')
    assert show.existing_pages() == ["07_decoding"]
    figure = show.course_map()
    filled = [
        p
        for p in figure.axes[0].patches
        if isinstance(p, show.FancyBboxPatch) and p.get_width() == show.NODE_WIDTH
    ]
    assert len(filled) == 27
    assert sum(p.get_facecolor()[:3] != (1, 1, 1) for p in filled) == 1
    plt.close(figure)


# Sound and pictures


def test_runs_of_equal_labels():
    assert show.runs("aabccc") == [("a", 0, 2), ("b", 2, 3), ("c", 3, 6)]
    assert show.runs([]) == [] and show.runs([7]) == [(7, 0, 1)]


def test_spectrograms_carry_their_labels_and_stay_in_step():
    tables = np.random.default_rng(0).uniform(-80, 0, (2, 129, 20))
    figure = show.spectrograms(tables, ["a"] * 12 + ["b"] * 8, ["one", "two"])
    first, second = figure.axes
    assert [text.get_text() for text in first.texts] == ["one", "a", "b"]
    assert [text.get_position()[0] for text in first.texts[1:]] == [0.3, 0.8]
    shown = first.images[0].get_array()
    assert shown.shape == (64, 10) and shown.max() == 0 and shown.min() >= -50
    row, column = np.unravel_index(tables[0, :128].argmax(), (128, 20))
    assert shown[row // 2, column // 2] == 0
    assert first.get_xlim() == second.get_xlim() == (0, 1)
    plt.close(figure)


def test_label_strips_give_each_run_one_box():
    figure = show.label_strips({"phones": ["a", "a", "b"], "units": [3, 3, 3]})
    boxes = figure.axes[0].patches
    assert [(b.get_x(), b.get_width()) for b in boxes] == [(0, 2), (2, 1), (0, 3)]
    assert boxes[0].get_facecolor() != boxes[1].get_facecolor()
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", "3"]
    plt.close(figure)


def test_pictures_are_shown_as_they_are():
    dark, red = np.full((3, 4, 4), -1.0), np.full((3, 4, 4), -1.0)
    red[0] = 3.0  # too bright: as bright as can be
    figure = show.pictures({"one": [dark, red], "two": [red]}, ["left", "right"])
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert [tuple(map(float, picture[0, 0])) for picture in shown] == [(0, 0, 0), (1, 0, 0), (1, 0, 0)]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["left", "right"]
    plt.close(figure)
