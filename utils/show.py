"""Figures: one palette, one style, legible at 80 dpi. Data first (plain functions), then the drawing of it.

Every drawing returns its matplotlib figure; on a page the cell ends with `plt.show()`.
"""

import contextlib
import functools
import io
import itertools
import re
import textwrap
import threading
import unicodedata
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Line

from utils import course

# The colours that Okabe and Ito chose so that they stay apart for every kind of colour vision.
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = "#0072B2", "#D55E00", "#009E73", "#B0568A", "#56B4E9", "#E69F00"
INK, GREY, PALE, PAPER = "#222222", "#6E6E6E", "#D5D9DE", "#FFFFFF"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1)), (0, (3, 2)))
WARM = LinearSegmentedColormap.from_list("one way", [PAPER, SKY, BLUE, "#002C47"])
BOTH = LinearSegmentedColormap.from_list("both ways", ["#7A2E00", ORANGE, PAPER, BLUE, "#002C47"])

STYLE = {
    "figure.dpi": 80,
    "savefig.dpi": 80,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E8EAED",
    "lines.linewidth": 2.2,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
}


def style():
    """Give every figure of this kernel the course's look."""
    plt.rcParams.update(STYLE)


def styled(draw):
    """Let a drawing function use the course's look whatever the kernel's settings are."""

    @functools.wraps(draw)
    def in_style(*args, **settings):
        with plt.rc_context(STYLE):
            return draw(*args, **settings)

    return in_style


class Apart(threading.local):
    """Does this thread draw figures that pyplot must not know of?"""

    on = False


APART, ONE_AT_A_TIME = Apart(), threading.RLock()


@contextlib.contextmanager
def apart():
    """Figures drawn in here belong to nobody else: one thread at a time, and no cell shows or closes them.

    Widgets need it: Lab runs their callbacks in a thread beside the one that runs the cells.
    """
    with ONE_AT_A_TIME:
        APART.on = True
        try:
            yield
        finally:
            APART.on = False


def blank(width, height):
    """An empty figure of this many inches: pyplot's, so that `plt.show()` finds it, but for `apart`."""
    return Figure(figsize=(width, height)) if APART.on else plt.figure(figsize=(width, height))


def blank_axes(width, height):
    """An empty figure of this many inches, and its axes."""
    figure = blank(width, height)
    return figure, figure.add_subplot()


def png(figure):
    """The figure as PNG bytes; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def svg(figure):
    """The figure as SVG text, sharp at any size; the figure is closed. Signs that no XML may hold are left out."""
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "course"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "", buffer.getvalue())


# Tokens ----------------------------------------------------------------------------------------------


def token_label(tokenizer, token_id):
    """A token as the eye reads it: `␣` a space in front, `⏎` a new line, its code where it is no text."""
    token = tokenizer.id_to_token(token_id)
    text = tokenizer.decode([token_id])
    text = ("␣" + text[1:] if text.startswith(" ") else text).replace("\n", "⏎").replace("\t", "⇥")
    return text if text.isprintable() and text and "\N{REPLACEMENT CHARACTER}" not in text else token


def token_labels(tokenizer, token_ids):
    """Each token of a list of ids as the eye can read it."""
    return [token_label(tokenizer, int(token_id)) for token_id in token_ids]


def byte_label(token):
    """A token given as bytes, as the eye reads it: `␣` a space, `⏎` a new line, hex where it is no text."""
    try:
        text = token.decode().replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
        if text.isprintable():
            return text
    except UnicodeDecodeError:
        pass
    return "␣ " * token.startswith(b" ") + token.removeprefix(b" ").hex(" ")


def percent(p):
    """A probability in words: 34 %, 3.4 %, 0.34 %, or less than the last of these."""
    if p > 0.9999 or p == 0:
        return f"{100 * p:.0f} %"
    if p < 0.0001:
        return "< 0.01 %"
    return f"{100 * p:.{0 if p >= 0.0995 else 1 if p >= 0.00995 else 2}f} %"


def next_tokens(logits, tokenizer, n=12, processors=(), ids=None):
    """The `n` likeliest next tokens, and one last row for all the others together.

    logits: (V,)   ids: (T,), the text so far   processors: functions f(logits, ids) -> logits, in order
    Returns a dict: tokens (labels), before and after (probabilities, each sums to 1), kept (possible after).
    """
    before, processed = logits.softmax(-1), logits[None]
    for process in processors:
        processed = process(processed, None if ids is None else ids[None])
    after = processed[0].softmax(-1)
    top = before.topk(min(n, len(before))).indices
    rest = torch.ones_like(before, dtype=torch.bool).index_fill(0, top, False)
    tokens = [*token_labels(tokenizer, top), f"{int(rest.sum()):,} others"]
    before, after = ([*p[top].tolist(), float(p[rest].sum())] for p in (before, after))
    return {"tokens": tokens, "before": before, "after": after, "kept": [p > 0 for p in after]}


@styled
def next_token_bars(tokens, before, after=None, kept=None, title="What comes next?"):
    """The next token's probabilities. With `after`: pale before, solid after, "cut" where not `kept`."""
    figure, axes = blank_axes(7.2, 0.34 * len(tokens) + 0.75)
    rows, compared = np.arange(len(tokens)), after is not None
    after = after if compared else before
    kept = [True] * len(tokens) if kept is None else kept
    colours = [GREY if token.endswith("others") else BLUE for token in tokens]
    if compared:
        axes.barh(rows, before, height=0.8, color=PALE)
    axes.barh(rows, after, height=0.46 if compared else 0.7, color=colours)
    reach = max(*before, *after)
    for row, (p, q, alive) in enumerate(zip(before, after, kept)):
        text = percent(q) if alive else "cut"
        axes.text(
            max(p, q) + 0.012 * reach, row, text, va="center", color=INK if alive else ORANGE, size=10.5
        )
    axes.set_yticks(rows, tokens, family=["DejaVu Sans Mono", "DejaVu Sans"])
    for label, alive in zip(axes.get_yticklabels(), kept):
        label.set_color(INK if alive else GREY)
    axes.set(ylim=(len(tokens) - 0.4, -0.6), xlim=(0, 1.16 * reach), xticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(left=False)
    axes.set_title(title)
    if compared:
        swatches = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (PALE, BLUE)]
        labels = ["as the model says", "after your settings"]
        axes.legend(swatches, labels, loc="upper right", bbox_to_anchor=(1, 0.0), ncols=2, fontsize=10)
    return figure


@styled
def neighbour_bars(words, cosines, title="Who is near?"):
    """Horizontal bars, the nearest on top: one word and its cosine each. Cosines below 0 show as no bar."""
    figure, axes = blank_axes(6.4, 0.32 * max(1, len(words)) + 0.7)
    places = range(len(words))
    axes.barh(places, [max(0, cosine) for cosine in cosines], color=BLUE, height=0.66)
    for place, cosine in zip(places, cosines):
        axes.text(max(0, cosine) + 0.01, place, f"{cosine:.2f}", va="center", fontsize=10.5)
    axes.set_yticks(places, words)
    axes.set(xlim=(0, 1.08), ylim=(max(1, len(words)) - 0.4, -0.6), xlabel="cosine")
    axes.tick_params(axis="y", length=0)
    axes.set_title(title)
    return figure


def flow(widths, room):
    """Where boxes of these widths stand when they run on like text: [(x, line)], none over `room`."""
    places, x, line = [], 0.0, 0
    for w in widths:
        if x and x + w > room:
            x, line = 0.0, line + 1
        places.append((x, line))
        x += w
    return places


@styled
def token_strip(tokens, values, unit="bits", title=None, room=8.4):
    """A text as running boxes, one for each token; the darker the box, the larger its value."""
    widths = [max(0.112 * len(token) + 0.2, 0.105 * len(unit) + 0.35) for token in tokens]
    places = flow(widths, room)
    n_lines = places[-1][1] + 1
    figure, axes = blank_axes(room, 0.58 * n_lines + (0.4 if title else 0))
    reach = max(values) or 1
    for token, value, w, (x, line) in zip(tokens, values, widths, places):
        colour = WARM(0.85 * value / reach)
        axes.add_patch(
            plt.Rectangle((x + 0.02, line + 0.04), w - 0.04, 0.92, facecolor=colour, edgecolor=PALE)
        )
        look = {"ha": "center", "va": "center", "color": readable(colour)}
        axes.text(x + w / 2, line + 0.36, token, size=11, **look)
        axes.text(x + w / 2, line + 0.75, f"{value:.1f} {unit}", size=8.5, **look)
    axes.set(xlim=(0, room), ylim=(n_lines, 0))
    axes.axis("off")
    if title:
        axes.set_title(title)
    return figure


def tint(colour, share=0.24):
    """A pale kin of a colour: this share of it, the rest is paper."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


TINTS = tuple(tint(colour) for colour in (BLUE, AMBER, GREEN, PURPLE))


@styled
def tokenizations(cuts, title=None, room=8.4):
    """One text as several tokenizers cut it: for each its name, its count, and the text as running boxes.

    cuts: {name of the tokenizer: labels of its tokens}
    """
    figure, axes = blank_axes(room, 1)
    top = 0.0
    for name, labels in cuts.items():
        axes.text(0.02, top + 0.3, f"{name}: {len(labels)} tokens", size=10.5, weight="bold", va="center")
        widths = [0.108 * width(label) + 0.14 for label in labels]
        places = flow(widths, room)
        for turn, (label, w, (x, line)) in enumerate(zip(labels, widths, places)):
            y = top + 0.58 + line
            colour = TINTS[turn % len(TINTS)]
            axes.add_patch(plt.Rectangle((x + 0.015, y), w - 0.03, 0.86, facecolor=colour))
            axes.text(x + w / 2, y + 0.43, label, size=10.5, ha="center", va="center")
        top += 1.0 + (places[-1][1] + 1 if places else 0)
    figure.set_size_inches(room, 0.36 * top + (0.4 if title else 0.05))
    axes.set(xlim=(0, room), ylim=(top, 0))
    axes.axis("off")
    if title:
        axes.set_title(title)
    return figure


def readable(colour):
    """White or ink, whichever can be read on `colour`."""
    light = sum(share * part**2.2 for share, part in zip((0.2126, 0.7152, 0.0722), to_rgb(colour)))
    return PAPER if light < 0.21 else INK  # where both have the same contrast, 4 to 1


# Sound and pictures ----------------------------------------------------------------------------------


def runs(labels):
    """A row of labels as [(label, start, end)], one for each run of equal ones."""
    labels = list(labels)
    starts = [i for i in range(len(labels)) if i == 0 or labels[i] != labels[i - 1]]
    return [(labels[a], a, b) for a, b in zip(starts, [*starts[1:], len(labels)])]


@styled
def spectrograms(tables, labels, titles, seconds=1.0, hertz=4000, floor=50):
    """Spectrograms (frequencies, ticks) in decibels, one below the other; above them what was said, one label a tick.

    What lies more than `floor` decibels below the loudest spot stays white; four neighbours share their loudest.
    """
    figure = blank(8.4, 1.2 + 1.35 * len(tables))
    rows = np.atleast_1d(figure.subplots(len(tables), 1, sharex=True))
    top = rows[0]
    for axes, table, title in zip(rows, tables, titles):
        table = np.asarray(table, dtype=float)
        height, length = (n - n % 2 for n in table.shape)
        table = table[:height, :length].reshape(height // 2, 2, length // 2, 2).max((1, 3))
        shown = 5 * ((table - table.max()).clip(-floor, 0) / 5).round()  # coarser: a small file
        place = {"origin": "lower", "aspect": "auto", "extent": (0, seconds, 0, hertz / 1000)}
        axes.imshow(shown, cmap=WARM, interpolation="nearest", **place)
        axes.set_ylabel("kHz")
        box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 2}
        axes.text(0.99, 0.93, title, transform=axes.transAxes, size=10, ha="right", va="top", bbox=box)
        for _, start, _ in runs(labels)[1:]:
            axes.axvline(start / len(labels) * seconds, color=GREY, linewidth=0.8, linestyle="-")
    for label, start, end in runs(labels):
        middle = (start + end) / 2 / len(labels)
        top.text(middle, 1.04, label, transform=top.transAxes, ha="center")
    rows[-1].set_xlabel("seconds")
    figure.tight_layout()
    return figure


@styled
def label_strips(rows, title=None):
    """Rows of labels over time, {name: (T,)}: each run of equal labels is a box, coloured by its label."""
    figure, axes = blank_axes(9.6, 0.9 + 0.5 * len(rows))
    for height, labels in enumerate(rows.values()):
        kinds = sorted(set(labels), key=str)
        for label, start, end in runs(labels):
            colour = tint(COLOURS[kinds.index(label) % len(COLOURS)], 0.35)
            axes.barh(-height, end - start, 0.86, start, color=colour, edgecolor=PAPER)
            if end - start > 1:
                axes.text((start + end) / 2, -height, label, ha="center", va="center", size=9)
    axes.set_yticks([-height for height in range(len(rows))], rows)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title)
    return figure


@styled
def pictures(rows, titles=None):
    """Pictures (3, height, width) with values from -1 to 1, in named rows: {name: [picture, …]}."""
    n = max(len(pictures) for pictures in rows.values())
    figure = blank(1.3 + 0.98 * n, 0.35 + (1.02 + 0.25 * bool(titles)) * len(rows))
    grid = figure.subplots(len(rows), n, squeeze=False)
    for line, (name, drawn) in zip(grid, rows.items()):
        for axes, picture in zip(line, drawn):
            picture = (np.asarray(picture, dtype=float).transpose(1, 2, 0) + 1) / 2
            axes.imshow(picture.clip(0, 1), interpolation="nearest")
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axes, title in zip(grid[0], titles or []):
        axes.set_title(title, fontsize=8, fontweight="normal", loc="center", pad=3)
    figure.tight_layout(pad=0.4)
    return figure


# Numbers ---------------------------------------------------------------------------------------------


@styled
def matrix(weights, rows=None, columns=None, title=None):
    """A matrix (T, S) as a heat map with its words at the edges; small ones carry their numbers, masks do not."""
    kind = np.asarray(weights).dtype.kind
    is_mask, places = kind == "b", 0 if kind in "iu" else 2  # whole numbers are counts
    weights = np.asarray(weights, dtype=float)
    T, S = weights.shape
    reach = np.abs(weights).max() or 1.0
    signed = weights.min() < 0
    longest = max(map(len, columns)) if columns else 0
    pitch = max(0.62, 0.115 * longest) if S <= 4 else 0.62  # inches from column to column
    figure, axes = blank_axes(min(2.2 + pitch * S, 11), min(1.3 + 0.48 * T, 10))
    image = axes.imshow(
        weights, cmap=BOTH if signed else WARM, vmin=-reach if signed else 0, vmax=reach, aspect="auto"
    )
    if weights.size <= 144 and not is_mask:
        for (row, column), value in np.ndenumerate(weights):
            colour = readable(image.cmap(image.norm(value)))
            axes.text(column, row, f"{value:.{places}f}", ha="center", va="center", size=10, color=colour)
    elif not is_mask:
        figure.colorbar(image, ax=axes, fraction=0.04)
    long = longest * 0.105 > pitch
    axes.set_xticks(
        range(S), columns or range(S), rotation=45 if long else 0, ha="left" if long else "center"
    )
    axes.set_yticks(range(T), rows or range(T))
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(is_mask)  # a mask may end in empty rows
    if title:
        axes.set_title(title)
    return figure


@styled
def rotary(query, key, score, distance, scores):
    """Pairs of a query and a key as arrows, each turned to its position; below, the score at every distance.

    query, key: (K / 2, 2)   scores: {distance: score}, of which `distance` has `score`
    """
    figure = blank(7.2, 4)
    room = figure.add_gridspec(2, len(query), height_ratios=[1, 1.3], hspace=0.35)
    longest = float(max(torch.as_tensor(x).norm(dim=-1).max() for x in (query, key)))
    for pair in range(len(query)):
        axes = figure.add_subplot(room[0, pair])
        axes.add_patch(Circle((0, 0), longest, fill=False, edgecolor=PALE))
        for (x, y), colour in ((query[pair], BLUE), (key[pair], ORANGE)):
            tip = (float(x), float(y))
            axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
        axes.set(
            xlim=(-1.05 * longest, 1.05 * longest), ylim=(-1.05 * longest, 1.05 * longest), aspect="equal"
        )
        axes.axis("off")
        axes.set_title(f"pair {pair + 1}", fontsize=10.5, fontweight="normal", loc="center", pad=2)
    axes = figure.add_subplot(room[1, :])
    axes.plot(list(scores), list(scores.values()), color=GREY)
    axes.plot([distance], [score], "o", color=GREEN, markersize=9)
    axes.set(xlabel="distance: query's position − key's", ylabel="score")
    axes.grid(True)
    figure.text(0.125, 0.97, "query", color=BLUE, fontweight="bold")
    figure.text(0.215, 0.97, "key", color=ORANGE, fontweight="bold")
    return figure


@styled
def streams(words, content, query, ranks, title=None):
    """XLNet's two streams as marks where a row may look.

    content, query: (T, T), True where the row of a word may look at another   ranks: T labels, when each is read
    """
    T = len(words)
    figure = blank(min(3.6 + 0.74 * T, 12), min(1.9 + 0.32 * T, 7))
    places = figure.subplots(1, 2)
    for axes, name, looks in zip(places, ("content rows", "query rows"), (content, query)):
        axes.imshow(looks, cmap=WARM, vmin=0, vmax=1.6, aspect="auto")
        axes.set_xticks(range(T), words, rotation=45, ha="left")
        axes.set_yticks(range(T), [f"{word}, {rank}" for word, rank in zip(words, ranks)])
        axes.set_xticks(np.arange(T + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(T + 1) - 0.5, minor=True)
        axes.grid(True, which="minor", color=PALE, linewidth=1)
        axes.tick_params(which="both", length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(name)
    places[1].tick_params(labelleft=False)
    if title:
        figure.suptitle(title, x=0.02, y=1.1, ha="left", weight="bold")
    return figure


@styled
def arcs(weights, rows, columns=None, title=None):
    """Who looks at whom: the words that ask on the left, those that answer on the right, weights (T, S) as lines."""
    weights, columns = np.asarray(weights, dtype=float), rows if columns is None else columns
    T, S = weights.shape
    figure, axes = blank_axes(6.4, min(0.9 + 0.3 * max(T, S), 11))
    for (row, column), weight in np.ndenumerate(weights):
        if weight >= 0.02:  # fainter lines could not be seen
            colour = COLOURS[row % len(COLOURS)]
            axes.plot([0, 1], [row, column], color=colour, alpha=min(weight, 1), linewidth=2.4, linestyle="-")
    for words, x, side in ((rows, -0.02, "right"), (columns, 1.02, "left")):
        for y, word in enumerate(words):
            axes.text(x, y, word, ha=side, va="center")
    axes.set(xlim=(-0.6, 1.6), ylim=(max(T, S) - 0.4, -1.6))
    axes.text(-0.02, -1, "asks", ha="right", va="center", color=GREY, style="italic")
    axes.text(1.02, -1, "answers", ha="left", va="center", color=GREY, style="italic")
    axes.axis("off")
    if title:
        axes.set_title(title)
    return figure


def middle_and_band(y):
    """A line's points: `y` (N,) as it is, or the mean, lowest and highest of several runs `y` (runs, N)."""
    y = np.asarray(y, dtype=float)
    return (y, None, None) if y.ndim == 1 else (y.mean(0), y.min(0), y.max(0))


@styled
def curves(x, lines, xlabel="", ylabel="", title=None, log=""):
    """Lines, each named at its end. Several runs become their mean and a band from lowest to highest.

    x: (N,)   lines: {name: (N,) or (runs, N)}   log: "", "x", "y" or "xy"
    """
    figure, axes = blank_axes(7.2, 4)
    ends = {}
    for name, y in lines.items():
        y, low, high = middle_and_band(y)
        (line,) = axes.plot(x, y)
        if low is not None:
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        ends[name] = (line.get_color(), y[-1])
    axes.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(True)
    for name, (colour, height) in zip(ends, spread(axes, list(ends.values()))):
        axes.annotate(
            name,
            (1, height),
            xytext=(8, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            color=colour,
        )
    if title:
        axes.set_title(title)
    return figure


@styled
def dots(rows, band=None, xlabel="", title=None):
    """One row of dots for each name, {name: (N,)}; `band` (low, high) is shaded behind them."""
    figure, axes = blank_axes(7.2, 0.34 * len(rows) + 0.9)
    if band:
        axes.axvspan(*band, color=PALE, alpha=0.5, linewidth=0, zorder=0)
    for row, (values, colour) in enumerate(zip(rows.values(), itertools.cycle(COLOURS))):
        values = np.asarray(values, dtype=float)
        axes.plot(values, np.full_like(values, row), "o", color=colour, alpha=0.5, markersize=5)
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    if title:
        axes.set_title(title)
    return figure


def spread(axes, ends, gap=0.075):
    """Heights (0 to 1) for the names of lines that end at `ends` [(colour, y)], moved apart to be read."""
    heights = [
        axes.transAxes.inverted().transform(axes.transData.transform((axes.get_xlim()[1], y)))[1]
        for _, y in ends
    ]
    order = np.argsort(heights)
    placed = np.array(heights)[order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    placed -= max(0, placed[-1] - 1) if len(placed) else 0
    for i in reversed(range(len(placed) - 1)):
        placed[i] = min(placed[i], placed[i + 1] - gap)
    return [(ends[i][0], float(placed[list(order).index(i)])) for i in range(len(ends))]


def cell_text(value, digits):
    """A cell of a table: floats to `digits` significant figures, whole numbers with thousands marked."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        text = f"{value:.{digits}g}"
        return f"{value:,.0f}" if "e+" in text else text
    return str(value)


def width(text):
    """How many columns `text` takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def table(rows, digits=3):
    """Rows as aligned text, ready to print: a list of dicts (their keys are the header) or of sequences.

    Columns that hold numbers only lean right; the result has no trailing spaces, so that it compares well.
    """
    header = list(rows[0]) if rows and isinstance(rows[0], dict) else None
    rows = [list(row.values()) if isinstance(row, dict) else list(row) for row in rows]
    texts = [[cell_text(value, digits) for value in row] for row in rows]
    right = [
        all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in column) for column in zip(*rows)
    ]
    every = [[str(name) for name in header], *texts] if header else texts
    widths = [max(map(width, column)) for column in zip(*every)]
    if header:
        every.insert(1, ["─" * w for w in widths])
    lines = []
    for row in every:
        cells = [
            " " * (w - width(c)) + c if r else c + " " * (w - width(c)) for c, w, r in zip(row, widths, right)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@styled
def bill(lines, title):
    """A bill: what stands on the left, how much on the right, one line each; lines: [(what, how much)]."""
    figure, axes = blank_axes(6.4, 0.34 * len(lines) + 0.6)
    for row, (what, amount) in enumerate(lines):
        y = len(lines) - row - 0.5
        axes.text(0, y, what, va="center")
        axes.text(1, y, amount, va="center", ha="right", weight="bold")
        axes.axhline(y - 0.5, color=PALE, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, len(lines)))
    axes.axis("off")
    axes.set_title(title)
    return figure


# Beam search -----------------------------------------------------------------------------------------


@dataclass
class Node:
    """One candidate that a beam search looked at."""

    token_id: int
    token: str  # as the eye reads it
    score: float  # summed log-probability of the text up to here
    parent: int  # its parent's place among the step before's candidates; -1 at the first step
    kept: bool  # it lives on
    ended: bool  # its text is finished


def beam_nodes(history, tokenizer, sentence=0):
    """What `beam_search` recorded, for one sentence: for each step its candidates, best first."""
    steps, alive = [], [-1]
    for step in history:
        columns = (step[key][sentence].tolist() for key in ("tokens", "scores", "parents", "ended"))
        kept = step["kept"][sentence].tolist()
        nodes = []
        for rank, (token, score, parent, ended) in enumerate(zip(*columns)):
            finished, grows = ended and rank < len(kept), rank in kept and not ended
            if score > -1e8:  # less stands in places for which there was no candidate
                label = token_label(tokenizer, token)
                nodes.append(Node(token, label, score, alive[parent], grows, finished))
        steps.append(nodes)
        alive = kept
        if not any(node.kept for node in nodes):
            break
    return steps


def best_leaf(steps, upto):
    """(step, rank) of the best text after `upto` steps, finished or growing, by log-probability per token."""
    leaves = [(t, r) for t, nodes in enumerate(steps[:upto]) for r, node in enumerate(nodes) if node.ended]
    leaves += [(upto - 1, r) for r, node in enumerate(steps[upto - 1]) if node.kept]
    return max(leaves, key=lambda leaf: steps[leaf[0]][leaf[1]].score / (leaf[0] + 1))


def ancestors(steps, leaf):
    """The set of (step, rank) on the way from the root to `leaf`."""
    step, rank = leaf
    path = set()
    while step >= 0:
        path.add((step, rank))
        step, rank = step - 1, steps[step][rank].parent
    return path


def beam_states(steps, upto):
    """{(step, rank): "best" | "alive" | "pruned" | "dropped"} after `upto` steps.

    best     on the way to the best text so far
    alive    on the way to a text that is finished or still growing
    pruned   was kept once, but nothing that grew from it is left
    dropped  looked at, never kept
    """
    live = [(upto - 1, r) for r, node in enumerate(steps[upto - 1]) if node.kept]
    live += [(t, r) for t, nodes in enumerate(steps[:upto]) for r, node in enumerate(nodes) if node.ended]
    alive = set().union(*(ancestors(steps, leaf) for leaf in live))
    best = ancestors(steps, best_leaf(steps, upto))
    states = {}
    for t, nodes in enumerate(steps[:upto]):
        for r, node in enumerate(nodes):
            here = (t, r)
            kept = node.kept or node.ended
            states[here] = (
                "best" if here in best else "alive" if here in alive else "pruned" if kept else "dropped"
            )
    return states


def best_ids(steps, upto):
    """The token ids of the best text after `upto` steps, in order."""
    return [steps[t][r].token_id for t, r in sorted(ancestors(steps, best_leaf(steps, upto)))]


HALF = 0.36  # of the width of a box, in steps
LOOKS = {  # state: (edge of the box, its fill, its text, width of its branch)
    "best": (ORANGE, "#FCE6D9", INK, 3.0),
    "alive": (BLUE, "#E3F0F8", INK, 2.0),
    "pruned": (GREY, "#F3F4F5", GREY, 1.2),
    "dropped": (PALE, PAPER, "#8A8F96", 0.8),
}


@styled
def beam_tree(history, tokenizer=None, step=None, sentence=0, prompt=""):
    """The tree of a beam search after `step` steps (default: all): best way, living beams, pruned ones.

    history: what `beam_search` recorded, or the steps that `beam_nodes` made of it
    """
    steps = history if history and isinstance(history[0], list) else beam_nodes(history, tokenizer, sentence)
    upto = len(steps) if step is None else min(step, len(steps))
    deep = max(map(len, steps))
    figure, axes = blank_axes(1.16 * len(steps) + 0.3, 0.5 * deep + 0.8)
    states = beam_states(steps, upto) if upto else {}
    for (t, rank), state in sorted(states.items(), key=lambda item: list(LOOKS)[::-1].index(item[1])):
        node, (edge, fill, ink, thick) = steps[t][rank], LOOKS[state]
        start = (-0.62, 0) if t == 0 else (t - 1 + HALF, node.parent)
        bend = [start, (t - 0.5, start[1]), (t - 0.5, rank), (t - HALF, rank)]
        line = Line(bend, [Line.MOVETO, Line.CURVE4, Line.CURVE4, Line.CURVE4])
        dashes = (0, (3, 2)) if state in ("pruned", "dropped") else "-"
        axes.add_patch(PathPatch(line, fill=False, edgecolor=edge, linewidth=thick, linestyle=dashes))
        box = {"boxstyle": "round,pad=0,rounding_size=0.12", "mutation_aspect": 2.0}
        corner = (t - HALF, rank - 0.36)
        box |= {"facecolor": fill, "edgecolor": edge, "linewidth": thick / 2 + 0.4}
        axes.add_patch(FancyBboxPatch(corner, 2 * HALF, 0.72, **box))
        label = node.token if len(node.token) <= 11 else node.token[:10] + "…"
        size = min(10.5, 76 / max(len(label), 1))
        axes.text(t, rank - 0.13, label, ha="center", va="center", size=size, color=ink)
        mark = f"{node.score:.1f}" + (" end" if node.ended else "")
        axes.text(t, rank + 0.21, mark, ha="center", va="center", size=8, color=ink)
    axes.set(xlim=(-0.68, len(steps) - 0.6), ylim=(deep - 0.35, -0.65))
    axes.set_yticks([])
    axes.set_xticks(range(len(steps)), [f"token {t + 1}" if t == 0 else t + 1 for t in range(len(steps))])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    names = {"best": "best so far", "alive": "alive", "pruned": "pruned", "dropped": "never kept"}
    handles = [plt.Line2D([], [], color=LOOKS[s][0], lw=LOOKS[s][3] + 1, label=names[s]) for s in LOOKS]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, -0.08), ncols=4, fontsize=10, handlelength=1.4
    )
    if prompt:
        axes.set_title(f"{prompt} …")
    return figure


# Two answers, side by side ---------------------------------------------------------------------------


@styled
def two_answers(request, answers, chosen=None, title=None):
    """A request and two answers to it, side by side; the one that is `chosen` (0 or 1) has a bold frame."""
    texts = [textwrap.fill(" ".join(answer.split()), 40) for answer in answers]
    asked = textwrap.fill(" ".join(request.split()), 84)
    n_lines, n_asked = max(text.count("\n") for text in texts) + 1, asked.count("\n") + 1
    figure, axes = blank_axes(8.4, 0.25 * (n_lines + n_asked) + 1.2)
    depth = n_asked + n_lines + 2.4
    axes.text(0.05, 0.1, asked, va="top", size=11.5, weight="bold")
    for i, (text, name) in enumerate(zip(texts, ("left", "right"))):
        edge, thick = (ORANGE, 3) if chosen == i else (PALE, 1.2)
        corner, shape = (0.05 + 4.2 * i, n_asked + 0.7), {"boxstyle": "round,pad=0,rounding_size=0.1"}
        shape |= {"facecolor": PAPER, "edgecolor": edge, "linewidth": thick, "mutation_aspect": 4}
        axes.add_patch(FancyBboxPatch(corner, 4.05, n_lines + 1.4, **shape))
        axes.text(
            corner[0] + 0.12, corner[1] + 0.25, name, va="top", size=9, color=edge if chosen == i else GREY
        )
        axes.text(corner[0] + 0.12, corner[1] + 1.15, text, va="top", size=10.5)
    axes.set(xlim=(0, 8.4), ylim=(depth, 0))
    axes.axis("off")
    if title:
        axes.set_title(title)
    return figure


# The families ----------------------------------------------------------------------------------------


@styled
def family_tree(rows):
    """Family × part, from `family_table.rows()`: coloured where a family differs from the first row.

    Pale where only a choice that it leaves open differs ("this or that").
    """
    parts = [name for name in rows[0] if name not in ("family", "page")]
    cells = [[row["family"], *(row[name] for name in parts)] for row in rows]
    texts = [[choices(cell, 13) for cell in line] for line in cells]
    header = [wrapped(name, 9) for name in ["", *parts]]
    widths = [
        max(len(line) for cell in column for line in cell.split("\n")) + 1.3 for column in zip(header, *texts)
    ]
    heights = [1 + max(cell.count("\n") for cell in line) for line in texts]
    lefts, tops = np.cumsum([0, *widths]), np.cumsum([0, *(h + 0.6 for h in heights)])
    figure = blank(0.073 * lefts[-1], 0.165 * (tops[-1] + 2.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, lefts[-1] + 0.1), ylim=(tops[-1] + 0.1, -2.5))
    axes.axis("off")
    for left, name in zip(lefts, header):
        axes.text(left + 0.6, -0.5, name, size=8.5, weight="bold", linespacing=1.05)
    for top, bottom, line, shown in zip(tops, tops[1:], cells, texts):
        for i, (cell, text) in enumerate(zip(line, shown)):
            same, usual = i == 0 or cell == cells[0][i], cell.split(" or ")[0] == cells[0][i]
            colour = PAPER if same else tint(BLUE, 0.12) if usual else tint(BLUE, 0.34)
            box = ((lefts[i], top), widths[i], bottom - top)
            axes.add_patch(plt.Rectangle(*box, facecolor=colour, edgecolor=PALE, linewidth=0.8))
            weight = "bold" if i == 0 else "normal"
            look = {"size": 8.2, "weight": weight, "va": "center_baseline", "linespacing": 1.1}
            axes.text(lefts[i] + 0.6, (top + bottom) / 2, text, **look)
    return figure


def choices(cell, columns):
    """A cell in lines of at most `columns` letters; each "or" begins a line."""
    return "\nor ".join(
        textwrap.fill(choice, columns, break_on_hyphens=False) for choice in cell.split(" or ")
    )


# The course ------------------------------------------------------------------------------------------

PARTS = dict(zip("ABCDEF", course.PAGES))
PART_COLOURS = dict(zip(PARTS, (BLUE, GREEN, ORANGE, "#8E4585", "#7A5C00", "#44546A")))


@dataclass(frozen=True)
class Lesson:
    """One page of the course as the map shows it: the pages it builds on, and its place (row, column)."""

    title: str
    needs: tuple
    place: tuple
    part: str
    question: str


MAP = {  # page → short title, numbers of the pages it builds on, its row and column on the map
    "00_start_here": ("Start here", "", 0, 0),
    "01_tokens": ("Tokens", "00", 0, 1),
    "02_word_vectors": ("Word vectors", "01", 0, 2),
    "03_recurrent_networks": ("Recurrent networks", "02", 0, 3),
    "04_attention": ("Attention", "03", 1, 0),
    "05_transformer": ("The Transformer", "04", 1, 1),
    "06_language_modelling": ("Language modelling", "05", 1, 2),
    "07_decoding": ("Decoding", "06", 2, 2),
    "08_likelihood_and_quality": ("Likelihood and quality", "07", 2, 3),
    "09_bert": ("BERT", "05", 3, 1),
    "10_bert_family": ("BERT's family", "09", 3, 0),
    "11_sentence_embeddings": ("Sentence embeddings", "09", 4, 1),
    "12_gpt": ("GPT", "07", 3, 2),
    "13_modern_decoders": ("Modern decoders", "12", 3, 3),
    "14_t5_and_bart": ("T5 and BART", "09", 4, 0),
    "15_beyond_text": ("Beyond text", "11", 4, 2),
    "16_finetuning": ("Finetuning", "11", 5, 1),
    "17_finetuning_pitfalls": ("Pitfalls", "16", 6, 0),
    "18_parameter_efficient": ("Parameter-efficient", "16", 5, 0),
    "19_distillation": ("Distillation", "16 12", 6, 1),
    "20_assistants": ("Assistants", "16 12", 5, 2),
    "21_scale": ("Scale", "12", 5, 3),
    "22_prompting": ("Prompting", "16 12", 6, 2),
    "23_recurrence": ("Recurrence, again", "12", 7, 2),
    "24_masked_seq2seq": ("Masked seq2seq", "14", 7, 0),
    "25_hidden_state_optimisation": ("Hidden-state optimisation", "22", 7, 1),
    "26_conditional_beam_search": ("Conditional beam search", "08", 7, 3),
}
COURSE = {
    name: Lesson(MAP[name][0], tuple(MAP[name][1].split()), MAP[name][2:], part, question)
    for part, pages in PARTS.items()
    for name, question in course.PAGES[pages].items()
}

# Ways on the map that are not just down, across, down: [(where it turns, the column it turns to), …].
# 4.5 is the middle of the gap below row 4; two ways in one gap keep apart by a little more or less.
WAYS = {
    ("08", "26"): [(2.5, 3.53), (6.5, 3)],
    ("12", "20"): [(3.5, 3), (4.5, 2)],
    ("12", "21"): [(3.5, 3)],
    ("12", "22"): [(3.5, 3), (4.5, 2.5), (5.68, 2.15)],
    ("12", "19"): [(3.5, 3), (4.5, 2.5), (5.68, 1.15)],
    ("12", "23"): [(3.5, 3), (4.5, 2.5), (6.5, 2)],
    ("14", "24"): [(4.5, -0.5), (6.5, 0)],
    ("16", "17"): [(5.32, 0)],
    ("16", "19"): [(5.32, 1)],
    ("16", "22"): [(5.32, 1.85)],
}


def existing_pages():
    """The lessons of the course that are written, or begun."""
    return [name for name in COURSE if course.standing(name) != "coming"]


def needs():
    """Every arrow of the map: (number of the page that is needed, number of the page that needs it)."""
    return [(before, name[:2]) for name, lesson in COURSE.items() for before in lesson.needs]


# The map's measures, in pixels at 80 dpi.
NODE_WIDTH, NODE_HEIGHT, PITCH, LEFT = 110, 62, 131, 158
ROW_TOPS = (14, 122, 216, 310, 408, 516, 614, 722)  # rows of one part stand closer than parts do


def middle(place):
    """The middle (x, y) of a place (row, column) of the map."""
    row, column = place
    return LEFT + PITCH * column, ROW_TOPS[row] + NODE_HEIGHT / 2


def way(before, after):
    """The corners (x, y) of the arrow between two pages of the map, given by number."""
    places = {name[:2]: lesson.place for name, lesson in COURSE.items()}
    (row, column), (last_row, last_column) = places[before], places[after]
    x, y = middle((row, column))
    if row == last_row:
        side = NODE_WIDTH / 2 * (1 if last_column > column else -1)
        return [(x + side, y), (middle((row, last_column))[0] - side, y)]
    corners = [(x, y + NODE_HEIGHT / 2)]
    for turn, column in WAYS.get((before, after), [(row + 0.5, last_column)]):
        above, below = ROW_TOPS[int(turn)] + NODE_HEIGHT, ROW_TOPS[int(turn) + 1]
        lane = above + (below - above) * (turn % 1)
        corners += [(corners[-1][0], lane), (LEFT + PITCH * column, lane)]
    return [*corners, (corners[-1][0], ROW_TOPS[last_row])]


def rounded(corners, radius=9):
    """A matplotlib path along `corners`, each corner cut round."""
    corners = [c for i, c in enumerate(corners) if i == 0 or c != corners[i - 1]]
    points, codes = [corners[0]], [Line.MOVETO]
    for before, here, after in zip(corners, corners[1:], corners[2:]):
        before, here, after = np.array(before), np.array(here), np.array(after)
        cut = [
            here + (p - here) / np.linalg.norm(p - here) * min(radius, np.linalg.norm(p - here) / 2)
            for p in (before, after)
        ]
        points += [cut[0], here, cut[1]]
        codes += [Line.LINETO, Line.CURVE3, Line.CURVE3]
    return Line([*points, corners[-1]], [*codes, Line.LINETO])


@styled
def course_map(existing=None):
    """The map of the course: arrows lead on from what is needed; pages that exist are filled."""
    existing = [name for name in COURSE if course.standing(name) == "here"] if existing is None else existing
    parts = {name[:2]: lesson.part for name, lesson in COURSE.items()}
    right, bottom = LEFT + PITCH * 3.5 + 14, ROW_TOPS[-1] + NODE_HEIGHT + 40
    figure = blank(right / 80, bottom / 80)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, right), ylim=(bottom, 0))
    axes.axis("off")
    for part, title in PARTS.items():
        tops = [ROW_TOPS[lesson.place[0]] for lesson in COURSE.values() if lesson.part == part]
        top, height, colour = min(tops) - 9, max(tops) - min(tops) + NODE_HEIGHT + 18, PART_COLOURS[part]
        shape = {"boxstyle": "round,pad=0,rounding_size=10", "linewidth": 0}
        axes.add_patch(FancyBboxPatch((4, top), right - 8, height, facecolor=colour, alpha=0.1, **shape))
        axes.text(12, top + 8, part, va="top", size=19, weight="bold", color=colour)
        axes.text(12, top + 32, wrapped(title, 12), va="top", size=9.8, color=colour, linespacing=1.15)
    for before in parts:
        colour = PART_COLOURS[parts[before]]
        arrows = [rounded(way(before, after)) for needed, after in needs() if needed == before]
        for arrow in arrows:  # a white edge lets one way pass over another
            axes.add_patch(PathPatch(arrow, fill=False, edgecolor=PAPER, linewidth=4.5, alpha=0.8))
        for arrow in arrows:
            axes.add_patch(PathPatch(arrow, fill=False, edgecolor=colour, linewidth=1.8))
            axes.add_patch(plt.Polygon(arrow_head(arrow), facecolor=colour, linewidth=0))
    for name, lesson in COURSE.items():
        draw_lesson(axes, name, lesson, name in existing)
    for x, exists, says in ((LEFT - 54, True, "here now"), (LEFT + 60, False, "to come")):
        edge, fill, _ = lesson_look(PART_COLOURS["F"], exists)
        axes.add_patch(
            FancyBboxPatch((x, bottom - 25), 22, 14, boxstyle="round,pad=0,rounding_size=4", fc=fill, ec=edge)
        )
        axes.text(x + 30, bottom - 17.5, says, va="center", size=11.5)
    axes.text(LEFT + 168, bottom - 17.5, "a → b:  b builds on a", va="center", size=11.5)
    return figure


def arrow_head(arrow):
    """The three corners of the head at the end of a path."""
    tip, tail = np.array(arrow.vertices[-1]), np.array(arrow.vertices[-2])
    along = (tip - tail) / np.linalg.norm(tip - tail)
    across = along[::-1] * (1, -1)
    return [tip, tip - 8 * along + 4.5 * across, tip - 8 * along - 4.5 * across]


def wrapped(text, columns):
    """`text` in lines of at most `columns` letters."""
    return "\n".join(textwrap.wrap(text, columns))


def lesson_look(colour, exists):
    """(edge, fill, ink) of a page on the map."""
    return (colour, colour, PAPER) if exists else ("#B9C0C8", PAPER, "#4A4F55")


def draw_lesson(axes, name, lesson, exists):
    """One page of the map: a box with its title, and its number on the box's upper left corner."""
    x, y = middle(lesson.place)
    edge, fill, ink = lesson_look(PART_COLOURS[lesson.part], exists)
    corner = (x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2)
    shape = {"boxstyle": "round,pad=0,rounding_size=9", "linewidth": 1.4}
    axes.add_patch(FancyBboxPatch(corner, NODE_WIDTH, NODE_HEIGHT, facecolor=fill, edgecolor=edge, **shape))
    axes.text(corner[0] + 9, corner[1] + 7, name[:2], va="top", size=11.5, weight="bold", color=ink)
    for i, line in enumerate(wrapped(lesson.title, 12).split("\n")):
        axes.text(corner[0] + 9, corner[1] + 36 + 15 * i, line, va="baseline", size=11, color=ink)
