"""What moves on a page. The state is a plain object with a `compute()`; the view on top of it is thin.

Each function returns a `Moving`: alive where there are a kernel and widgets, a picture elsewhere.
Only what ipywidgets 7.7 and 8 share is used.
"""

import base64
import html
import math
import re

import torch

from utils import show
from utils.lessons import decoding, modern_decoders, scale
from utils.lessons.bert import special, with_blanks
from utils.lessons.bert_family import order_mask
from utils.lessons.word_vectors import nearest

try:
    import ipywidgets
except ImportError:  # the pages still work: a picture stands in
    ipywidgets = None

LN2 = math.log(2)
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Moving:
    """A widget and the picture that stands in for it where nothing can move.

    state: what it is about, with `compute()`   figure: a function that draws it   parts: the controls by name
    """

    def __init__(self, state, figure, alt, view=None, parts=None):
        self.state, self.figure, self.alt, self.view, self.parts = state, figure, alt, view, parts or {}

    def _repr_mimebundle_(self, include=None, exclude=None):
        with show.apart():
            still = base64.b64encode(show.png(self.figure())).decode()
        bundle = {"text/plain": self.alt, "image/png": still}
        if self.view is not None:
            where = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
            bundle["application/vnd.jupyter.widget-view+json"] = where
        return bundle

    def __repr__(self):
        return self.alt


def picture(draw, alt):
    """HTML of the figure that `draw()` draws, sharp at any size, with words for those who cannot see it."""
    with show.apart():
        data = base64.b64encode(show.svg(draw()).encode()).decode()
    look = "max-width:100%;background:white;border-radius:6px"
    return f'<img style="{look}" alt="{html.escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}">'


def prompt_ids(tokenizer, prompt):
    """A prompt as token ids (T,): behind <bos> where there is one, as in training."""
    bos = tokenizer.token_to_id("<bos>")
    return torch.tensor(([] if bos is None else [bos]) + tokenizer.encode(prompt).ids)


@torch.no_grad()
def next_log_probs(model, ids):
    """log p(next token | ids) for every token, (V,), given ids (T,)."""
    window = getattr(model.config, "n_positions", len(ids))
    return model(ids[None, -window:])[0, -1].log_softmax(-1)


def slider(kind, label, **settings):
    """A slider with room for its label."""
    look = ipywidgets.Layout(width="430px")
    made = kind(description=label, layout=look, style={"description_width": "110px"}, **settings)
    return with_tip(made, label)


def with_tip(control, tip):
    """The control with words for the mouse that rests on its label, where ipywidgets 8 would say "null" without."""
    control.tooltip = tip
    return control


def button(label, tip, **layout):
    """A button; `tip` says what it does."""
    return ipywidgets.Button(description=label, tooltip=tip, layout=ipywidgets.Layout(**layout))


def text_box(text, label="your text", width=640, label_width=80, wait=True):
    """A line to type in, `width` pixels wide; where it does not `wait` for Enter, each letter counts."""
    return ipywidgets.Text(
        value=text,
        description=label,
        continuous_update=not wait,
        layout=ipywidgets.Layout(width=f"{width}px"),
        style={"description_width": f"{label_width}px"},
    )


def spoken(words):
    """Words below a view, which a screen reader says when they change."""
    return f'<div role="status" aria-live="polite">{html.escape(words)}.</div>'


def refresh(image, note, figure, words):
    """Draw the state anew, and say it in words."""
    said = words()
    image.value, note.value = picture(figure, said), spoken(said)


# Be the decoder ----------------------------------------------------------------------------------


def one_in(log_p):
    """A probability as "1 in 5,400": kinder to the eye than 0.000185."""
    odds = round(-log_p / math.log(10), 9)  # in powers of ten
    if odds < 6:
        return f"1 in {math.exp(-log_p):,.{1 if odds < 1 else 0}f}"
    names = {6: "million", 9: "billion", 12: "trillion"}
    thousands = 3 * int(odds // 3)
    if thousands in names:
        return f"1 in {10 ** (odds - thousands):.1f} {names[thousands]}"
    return "1 in 10" + f"{odds:.0f}".translate(RAISED)


class DecoderGame:
    """Someone picks the tokens, the model gives their probabilities, and greedy plays along."""

    def __init__(self, model, tokenizer, prompt, n_tokens=12, n_choices=8):
        self.model, self.tokenizer, self.prompt = model, tokenizer, prompt
        self.n_tokens, self.n_choices = n_tokens, n_choices
        self.start = prompt_ids(tokenizer, prompt)
        self.eos = tokenizer.token_to_id("<eos>")
        self.picks = []
        self.known = {}

    def log_probs(self, picks):
        """log p(next token | prompt and picks), (V,); each is computed once."""
        key = tuple(picks)
        if key not in self.known:
            ids = torch.cat([self.start, torch.tensor(picks, dtype=torch.long)])
            self.known[key] = next_log_probs(self.model, ids)
        return self.known[key]

    def step_log_probs(self, picks):
        """log p of each pick, given all before it; their sum is log p(picks | prompt), by the chain rule."""
        return [float(self.log_probs(picks[:i])[token]) for i, token in enumerate(picks)]

    def greedy(self, n, start=()):
        """The n tokens that begin with `start` and go on with the likeliest, always; fewer where that text ends."""
        picks = list(start)
        while len(picks) < n and not self.over(picks):
            picks.append(int(self.log_probs(picks).argmax()))
        return picks

    def over(self, picks=None):
        """The text has ended, or has its full length."""
        picks = self.picks if picks is None else picks
        return len(picks) >= self.n_tokens or (bool(picks) and picks[-1] == self.eos)

    def choices(self):
        """The likeliest next tokens, best first: (token id, label, log p)."""
        top = self.log_probs(self.picks).topk(self.n_choices)
        labels = show.token_labels(self.tokenizer, top.indices)
        return list(zip(top.indices.tolist(), labels, top.values.tolist()))

    def pick(self, token):
        """Write `token`, unless the game is over."""
        if not self.over():
            self.picks = [*self.picks, int(token)]

    def pick_by_chance(self, generator=None):
        """Let chance write a token, with the model's probabilities."""
        if not self.over():
            self.pick(torch.multinomial(self.log_probs(self.picks).exp(), 1, generator=generator))

    def undo(self):
        """Take the last token back."""
        self.picks = self.picks[:-1]

    def restart(self):
        """Take every token back."""
        self.picks = []

    def compute(self):
        """All that the view shows, as plain data."""
        steps = self.step_log_probs(self.picks)
        rival = self.greedy(len(self.picks))
        yours, its = sum(steps), sum(self.step_log_probs(rival))
        return {
            "tokens": list(zip(show.token_labels(self.tokenizer, self.picks), steps)),
            "text": self.tokenizer.decode(self.picks),
            "choices": [] if self.over() else self.choices(),
            "log_p": yours,
            "greedy_log_p": its,
            "greedy_text": self.tokenizer.decode(rival),
            "ahead": yours > its + 1e-6,
            "same": self.picks == rival,
            "over": self.over(),
        }


def written_html(prompt, tokens):
    """The text so far; each picked token on a ground that is the darker, the less likely it was."""
    parts = [f"<span>{html.escape(prompt)}</span>"]
    for label, log_p in tokens:
        ground = show.WARM(0.7 * min(-log_p / LN2 / 10, 1))
        red, green, blue = (round(255 * part) for part in ground[:3])
        look = f"background:rgb({red},{green},{blue});color:{show.readable(ground)};border-radius:4px"
        text, p = html.escape(label).replace("␣", " "), show.percent(math.exp(log_p))
        parts.append(f'<span style="{look}" title="{p}">{text}</span>')
    text = "&#8203;".join(parts)
    look = "font-size:16px;line-height:1.8;padding:6px 0;max-width:46em;white-space:normal"
    return f'<div role="status" aria-live="polite" style="{look}">{text}</div>'


def bar_html(p, best):
    """One bar with its percentage; the likeliest one carries greedy's name."""
    look = (
        f"display:inline-block;height:14px;width:{260 * p:.1f}px;background:{show.BLUE};vertical-align:middle"
    )
    rest = " &nbsp;<i>greedy's pick</i>" if best else ""
    return f'<span style="{look}"></span> {show.percent(p)}{rest}'


def score_html(data, n_tokens):
    """Whose text is likelier so far, in words."""
    n = len(data["tokens"])
    if not n:
        return f"Pick a token. The game ends after {n_tokens} tokens, or when the text does."
    yours = f"<b>Yours</b>: {one_in(data['log_p'])} ({-data['log_p'] / LN2:.1f} bits)"
    its = f"<b>Greedy's</b>: {one_in(data['greedy_log_p'])} ({-data['greedy_log_p'] / LN2:.1f} bits)"
    verdict = "You and greedy wrote the same." if data["same"] else "Greedy's text is likelier."
    if data["ahead"]:
        verdict = f"<b style='color:{show.GREEN}'>Yours is likelier than greedy's!</b>"
    end = " <b>The end.</b>" if data["over"] else ""
    rival = f"<br><i>Greedy would have written:</i> {html.escape(data['greedy_text'])}"
    return f"After {n} of {n_tokens} tokens. {yours} · {its}.<br>{verdict}{end}{rival}"


def decoder_game(model, tokenizer, prompt, n_tokens=12, n_choices=8):
    """Be the decoder: pick each next token yourself, and see how likely your text is beside greedy's."""
    game = DecoderGame(model, tokenizer, prompt, n_tokens, n_choices)

    def figure():
        shown = show.next_tokens(game.log_probs(game.picks), tokenizer, n_choices)
        return show.next_token_bars(shown["tokens"], shown["before"], title=f"{prompt} …")

    alt = f"Be the decoder: pick what comes after “{prompt}”. Run the cell to play."
    if ipywidgets is None:
        return Moving(game, figure, alt)
    written, score = ipywidgets.HTML(), ipywidgets.HTML()
    picks = [button("", "Write this token", width="150px", height="28px") for _ in range(n_choices)]
    bars = [ipywidgets.HTML() for _ in range(n_choices)]
    for pick in picks:
        pick.style.font_weight = "normal"
    actions = {
        "Undo": ("Take the last token back", game.undo),
        "By chance": ("Let chance pick, with the model's probabilities", game.pick_by_chance),
        "Start over": ("Take every token back", game.restart),
    }
    controls = [button(label, tip, width="120px") for label, (tip, _) in actions.items()]

    def redraw():
        data = game.compute()
        written.value = written_html(prompt, data["tokens"])
        score.value = score_html(data, n_tokens)
        for row, (pick, bar) in enumerate(zip(picks, bars)):
            token = data["choices"][row] if data["choices"] else None
            pick.disabled = token is None
            pick.description = token[1] if token else "–"
            bar.value = bar_html(math.exp(token[2]), row == 0) if token else ""
        controls[0].disabled = not game.picks
        controls[1].disabled = data["over"]

    def on_click(act):
        def clicked(_):
            act()
            redraw()

        return clicked

    for row, pick in enumerate(picks):
        pick.on_click(on_click(lambda row=row: game.pick(game.choices()[row][0])))
    for control, (_, act) in zip(controls, actions.values()):
        control.on_click(on_click(act))
    redraw()
    rows = [ipywidgets.HBox([pick, bar]) for pick, bar in zip(picks, bars)]
    view = ipywidgets.VBox([written, *rows, ipywidgets.HBox(controls), score])
    parts = {"written": written, "score": score, "picks": picks, **dict(zip(actions, controls))}
    return Moving(game, figure, alt, view, parts)


# The next token under sliders --------------------------------------------------------------------

ALL = "all"


class NextToken:
    """One prompt's next-token distribution, and what temperature, top-k and top-p make of it."""

    def __init__(self, model, tokenizer, prompt, n=12):
        self.model, self.tokenizer, self.n = model, tokenizer, n
        self.temperature, self.k, self.p = 1.0, ALL, 1.0
        self.ask(prompt)

    def ask(self, prompt):
        """Take another prompt."""
        self.prompt, self.ids = prompt, prompt_ids(self.tokenizer, prompt)
        self.logits = next_log_probs(self.model, self.ids)

    def processors(self):
        """What the settings stand for, in the order of `generate`; one that changes nothing is left out."""
        steps = [(self.temperature != 1, decoding.temperature, self.temperature)]
        steps += [(self.k != ALL, decoding.top_k, self.k), (self.p < 1, decoding.top_p, self.p)]
        return [make(value) for is_on, make, value in steps if is_on]

    def compute(self):
        """All that the view shows, as plain data: bars, how many tokens are left, entropy in bits."""
        processed = decoding.process(self.logits[None], self.ids[None], self.processors())[0]
        p = processed.softmax(-1)
        bars = show.next_tokens(self.logits, self.tokenizer, self.n, self.processors(), self.ids)
        entropy = abs(float((p * processed.log_softmax(-1)).nansum())) / LN2
        return {"bars": bars, "n_kept": int((p > 0).sum()), "entropy": entropy}


def next_token_bars(model, tokenizer, prompt, n=12, temperature=1.0, k=ALL, p=1.0):
    """Sliders for temperature, top-k and top-p, and what they leave of the next token's distribution."""
    state = NextToken(model, tokenizer, prompt, n)
    state.temperature, state.k, state.p = temperature, k, p

    def figure():
        return show.next_token_bars(**state.compute()["bars"], title=f"… {state.prompt[-32:]}")

    def words():
        data = state.compute()
        best = max(zip(data["bars"]["after"][:-1], data["bars"]["tokens"]))
        kept = f"{data['n_kept']:,} of {len(state.logits):,} tokens can come"
        likeliest = f"the likeliest is “{best[1]}” with {show.percent(best[0])}"
        return f"After “{state.prompt}”: {kept}, entropy {data['entropy']:.2f} bits; {likeliest}"

    if ipywidgets is None:
        return Moving(state, figure, words())
    ask = text_box(prompt, "prompt", width=560, label_width=110)
    counts = sorted({1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100} | ({k} - {ALL}))
    sliders = {
        "temperature": slider(
            ipywidgets.FloatSlider, "temperature", value=temperature, min=0.1, max=3.0, step=0.1
        ),
        "k": slider(ipywidgets.SelectionSlider, "top-k", value=k, options=[*counts, ALL]),
        "p": slider(ipywidgets.FloatSlider, "top-p", value=p, min=0.05, max=1.0, step=0.05),
    }
    reset = button("Reset", "Back to the model's own distribution", width="120px")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        for name, control in sliders.items():
            setattr(state, name, control.value)
        if ask.value != state.prompt:
            state.ask(ask.value)
        refresh(image, note, figure, words)

    def on_reset(_):
        for control, value in zip(sliders.values(), (1.0, ALL, 1.0)):
            control.value = value

    for control in (ask, *sliders.values()):
        control.observe(redraw, names="value")
    reset.on_click(on_reset)
    redraw()
    view = ipywidgets.VBox([ask, *sliders.values(), reset, image, note])
    return Moving(state, figure, words(), view, {"prompt": ask, "reset": reset, "image": image, **sliders})


# The growing beam --------------------------------------------------------------------------------


class BeamTree:
    """What a beam search looks at, kept and dropped, step by step."""

    def __init__(self, model, tokenizer, prompt, n_new=8, n_beams=4):
        self.model, self.tokenizer, self.prompt, self.n_new = model, tokenizer, prompt, n_new
        self.ids = prompt_ids(tokenizer, prompt)
        self.eos = tokenizer.token_to_id("<eos>")
        self.known = {}
        self.n_beams, self.step = n_beams, n_new

    def steps(self):
        """The candidates of every step at the present width; each width is searched once."""
        if self.n_beams not in self.known:
            history = []
            decoding.beam_search(
                self.model, self.ids[None], self.n_new, n_beams=self.n_beams, eos=self.eos, history=history
            )
            self.known[self.n_beams] = show.beam_nodes(history, self.tokenizer)
        return self.known[self.n_beams]

    def compute(self):
        """All that the view shows, as plain data, after `step` steps."""
        steps = self.steps()
        upto = max(1, min(self.step, len(steps)))
        t, rank = show.best_leaf(steps, upto)
        states = show.beam_states(steps, upto)
        counts = {state: sum(value == state for value in states.values()) for state in show.LOOKS}
        text = self.tokenizer.decode(show.best_ids(steps, upto))
        return {"step": upto, "states": states, "counts": counts, "text": text, "log_p": steps[t][rank].score}


def beam_tree(model, tokenizer, prompt, n_new=8, n_beams=4, most_beams=5):
    """Watch a beam search grow: a slider (or play) for the step, another for the width of the beam."""
    state = BeamTree(model, tokenizer, prompt, n_new, n_beams)

    def figure():
        return show.beam_tree(state.steps(), step=state.compute()["step"], prompt=prompt)

    def words():
        data = state.compute()
        alive, pruned = data["counts"]["best"] + data["counts"]["alive"], data["counts"]["pruned"]
        kept = f"{alive} boxes alive, {pruned} pruned"
        tokens = f"{data['step']} token{'s' * (data['step'] > 1)}"
        best = f"the best text so far: “{prompt}{data['text']}”, {one_in(data['log_p'])}"
        return f"Beam of {state.n_beams} after {tokens}: {kept}; {best}"

    if ipywidgets is None:
        return Moving(state, figure, words())
    width = slider(ipywidgets.IntSlider, "beams", value=n_beams, min=1, max=most_beams)
    step = slider(ipywidgets.IntSlider, "tokens", value=n_new, min=1, max=n_new)
    play = ipywidgets.Play(value=n_new, min=1, max=n_new, interval=900)
    ipywidgets.jslink((play, "value"), (step, "value"))
    image, note = ipywidgets.HTML(), ipywidgets.HTML()
    drawn = {}

    def redraw(_=None):
        state.n_beams, state.step = width.value, step.value
        here = (state.n_beams, state.step)
        if here not in drawn:
            drawn[here] = picture(figure, words())
        image.value = drawn[here]
        note.value = spoken(words())

    for control in (width, step):
        control.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([width, ipywidgets.HBox([step, play]), image, note])
    return Moving(state, figure, words(), view, {"beams": width, "step": step, "play": play, "image": image})


# What a model reads while it writes --------------------------------------------------------------


class Reading:
    """A text, what a model makes of it, and where it looks for each symbol that it writes."""

    longest = 48  # letters: a picture of more could not be read

    def __init__(self, looks, text):
        self.looks = looks
        self.ask(text)

    def ask(self, text):
        """Take another text; an empty one is read as a space."""
        self.text = text[: self.longest] or " "
        self.written, self.weights = self.looks(self.text)

    def compute(self):
        """All that the view shows, as plain data."""
        favourites = [self.text[int(row.argmax())] for row in self.weights]
        return {"text": self.text, "written": self.written, "weights": self.weights, "favourites": favourites}


def reading(looks, text):
    """Type a text and see what a model writes, and which letter it looks at for each symbol.

    looks: a function, text of S letters → the T symbols it writes, and its cross-attention weights (T, S)
    """
    state = Reading(looks, text)

    def figure():
        data = state.compute()
        title = f"Written ↓ while reading →: {data['written']}"
        return show.matrix(
            data["weights"], list(data["written"]), list(data["text"].replace(" ", "␣")), title
        )

    def words():
        data = state.compute()
        pairs = ", ".join(f"{a} at “{b}”" for a, b in zip(data["written"], data["favourites"]))
        return f"“{data['text']}” is read as {data['written']}. While it writes, it looks most: {pairs}"

    if ipywidgets is None:
        return Moving(state, figure, words())
    box = text_box(text, width=560)
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.ask(box.value)
        refresh(image, note, figure, words)

    box.observe(redraw, names="value")
    refresh(image, note, figure, words)
    view = ipywidgets.VBox([box, image, note])
    return Moving(state, figure, words(), view, {"text": box, "image": image, "note": note})


# One text, several tokenizers --------------------------------------------------------------------


class Tokenizations:
    """One text as several tokenizers cut it."""

    longest = 2000  # letters: what is pasted beyond them is left out

    def __init__(self, tokenizers, text):
        self.tokenizers, self.text = tokenizers, text

    def compute(self):
        """{name of the tokenizer: the tokens of the text as the eye reads them}"""
        return {name: cut(self.text[: self.longest]) for name, cut in self.tokenizers.items()}


def strips_html(cuts):
    """Each tokenizer's name and count, and the text in coloured pieces."""
    rows = []
    for name, labels in cuts.items():
        spans = []
        for turn, label in enumerate(labels):
            red, green, blue = (round(255 * part) for part in show.TINTS[turn % len(show.TINTS)])
            look = f"background:rgb({red},{green},{blue});color:{show.INK};border-radius:4px;padding:1px 2px"
            spans.append(f'<span style="{look}">{html.escape(label)}</span>')
        rows.append(f"<b>{html.escape(name)}: {len(labels)} tokens</b><br>{'&#8203;'.join(spans)}")
    look = "font-size:15px;line-height:1.9;max-width:52em;white-space:normal;overflow-wrap:anywhere"
    return f'<div style="{look}">{"<br>".join(rows)}</div>'


def tokenizations(tokenizers, text):
    """Type a text and see how several tokenizers cut it. tokenizers: {name: text → its tokens, readable}."""
    state = Tokenizations(tokenizers, text)

    def words():
        counts = "; ".join(f"{name}: {len(labels)}" for name, labels in state.compute().items())
        return f"Tokens in “{state.text[:60]}”: {counts}"

    def figure():
        return show.tokenizations(state.compute())

    if ipywidgets is None:
        return Moving(state, figure, words())
    box = text_box(text, wait=False)
    strips, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.text = box.value
        strips.value = strips_html(state.compute())
        note.value = spoken(words())

    box.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([box, strips, note])
    return Moving(state, figure, words(), view, {"text": box, "strips": strips, "note": note})


# Who looks at whom -------------------------------------------------------------------------------


class AttentionViewer:
    """One sentence, and where each head of a model looks in it."""

    longest = 120  # letters: a picture of more words could not be read

    def __init__(self, looks, text, layer=0, head=0):
        self.looks, self.layer, self.head = looks, layer, head
        self.ask(text)

    def ask(self, text):
        """Take another sentence; an empty one is a sentence of no words."""
        self.text = text
        self.tokens, self.weights = self.looks(text[: self.longest])  # T labels, (layers, heads, T, T)

    def compute(self):
        """All that the view shows, as plain data: tokens, this head's weights (T, T), each one's favourite."""
        weights = self.weights[self.layer][self.head]
        favourites = [self.tokens[int(row.argmax())] for row in weights]
        return {"tokens": self.tokens, "weights": weights, "favourites": favourites}


def attention_viewer(looks, text, layer=0, head=0, view="map"):
    """Type a sentence, choose layer and head, and see who looks at whom: as a heat "map" or as "lines".

    looks: a function, text → labels of its T tokens, and weights (layers, heads, T, T), row asks, column answers
    """
    state = AttentionViewer(looks, text, layer, head)
    state.view = view

    def title():
        return f"Layer {state.layer}, head {state.head}"

    def figure():
        data = state.compute()
        if state.view == "lines":
            return show.arcs(data["weights"], data["tokens"], title=title())
        return show.matrix(data["weights"], data["tokens"], data["tokens"], title())

    def words():
        data = state.compute()
        pairs = ", ".join(f"{a} at {b}" for a, b in zip(data["tokens"], data["favourites"]))
        return f"{title()}. Each one looks most: {pairs}"

    if ipywidgets is None:
        return Moving(state, figure, words())
    box = text_box(text, label_width=110)
    n_layers, n_heads = len(state.weights), len(state.weights[0])
    controls = {
        "layer": slider(ipywidgets.IntSlider, "layer", value=layer, min=0, max=n_layers - 1),
        "head": slider(ipywidgets.IntSlider, "head", value=head, min=0, max=n_heads - 1),
        "view": ipywidgets.ToggleButtons(value=view, options=["map", "lines"], description="show as"),
    }
    controls["view"].style.description_width = "110px"
    with_tip(controls["view"], "show as")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        for name, control in controls.items():
            setattr(state, name, control.value)
        if box.value != state.text:
            state.ask(box.value)
        refresh(image, note, figure, words)

    for control in (box, *controls.values()):
        control.observe(redraw, names="value")
    redraw()
    parts = {"text": box, **controls, "image": image, "note": note}
    return Moving(state, figure, words(), ipywidgets.VBox([box, *controls.values(), image, note]), parts)


# In which order XLNet reads --------------------------------------------------------------------------


class ReadingOrder:
    """Words, an order in which they are read, and how many of them are given."""

    def __init__(self, words, n_given, seed=0):
        self.words, self.n_given, self.seed = words, n_given, seed

    def compute(self):
        """All that the view shows, as plain data: order, who sees whom in both streams (T, T), each word's rank."""
        T, dice = len(self.words), torch.Generator().manual_seed(self.seed)
        order = torch.randperm(T, generator=dice)  # order 0 is the first one drawn
        ranks = ["given"] * T
        for turn, place in enumerate(order[self.n_given :].tolist()):
            ranks[place] = str(turn + 1)
        sees, asked = (
            order_mask(order[None], self.n_given)[0],
            torch.tensor([rank != "given" for rank in ranks]),
        )
        content, query = (
            sees | torch.eye(T, dtype=torch.bool),
            sees & asked[:, None],
        )  # what is given is not asked
        return {"order": order.tolist(), "content": content, "query": query, "ranks": ranks}


def reading_order(words, n_given=0, seed=0):
    """Draw an order, choose how many words are given, and see who may look at whom in XLNet's two streams."""
    state = ReadingOrder(list(words), n_given, seed)

    def figure():
        data = state.compute()
        title = "Who may look at whom?"
        return show.streams(state.words, data["content"], data["query"], data["ranks"], title)

    def said():
        order = state.compute()["order"]
        given = ", ".join(state.words[i] for i in sorted(order[: state.n_given])) or "nothing"
        guessed = ", then ".join(state.words[i] for i in order[state.n_given :]) or "nothing"
        return f"Given: {given}. Guessed: {guessed}"

    if ipywidgets is None:
        return Moving(state, figure, said())
    given = slider(ipywidgets.IntSlider, "words given", value=n_given, min=0, max=len(state.words))
    draw = button("draw an order", "another order of reading, by chance", width="160px")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(change=None):
        state.n_given = given.value
        refresh(image, note, figure, said)

    def another(_):
        state.seed += 1
        redraw()

    given.observe(redraw, names="value")
    draw.on_click(another)
    redraw()
    parts = {"given": given, "draw": draw, "image": image, "note": note}
    return Moving(state, figure, said(), ipywidgets.VBox([given, draw, image, note]), parts)


# What each token of a text costs ------------------------------------------------------------------


class TextCosts:
    """A text, and what each of its tokens costs one of several predictors, in bits."""

    longest = 400  # letters: what is pasted beyond them is left out

    def __init__(self, predictors, text):
        self.predictors, self.text, self.name = predictors, text, next(iter(predictors))
        self.known = {}

    def compute(self):
        """All that the view shows, as plain data; each text is asked once of each predictor."""
        text = self.text[: self.longest]
        if (self.name, text) not in self.known:
            labels, bits = self.predictors[self.name](text)
            self.known[self.name, text] = list(zip(labels, bits))
        tokens = self.known[self.name, text]
        total, n_bytes = sum(bits for _, bits in tokens), len(text.encode("utf-8", "surrogateescape"))
        return {"tokens": tokens, "bits": total, "bytes": n_bytes, "rate": total / max(1, n_bytes)}


def costs_html(tokens):
    """The text with the bits below each token; the darker the ground, the dearer, from 16 bits on the darkest."""
    spans = []
    for label, bits in tokens:
        ground = show.WARM(0.85 * min(bits / 16, 1))
        red, green, blue = (round(255 * part) for part in ground[:3])
        look = f"display:inline-block;background:rgb({red},{green},{blue});color:{show.readable(ground)}"
        look += ";border-radius:4px;padding:1px 4px;margin:1px;text-align:center;line-height:1.25"
        small = f'<br><span style="font-size:11px">{bits:.1f}</span>'
        spans.append(f'<span style="{look}" title="{bits:.2f} bits">{html.escape(label)}{small}</span>')
    return f'<div style="font-size:15px;max-width:52em">{"&#8203;".join(spans)}</div>'


def text_costs(predictors, text):
    """Type a text, see the bits that each token costs. predictors: {name: text → (labels of tokens, their bits)}."""
    state = TextCosts(predictors, text)

    def words():
        data = state.compute()
        size = f"{data['bits']:.1f} bits, a file of {math.ceil(data['bits'] / 8)} bytes in place of {data['bytes']}"
        return f"“{state.text[:60]}” costs {state.name} {size}: {data['rate']:.2f} bits per byte"

    def figure():
        data = state.compute()
        title = f"{state.name}: {data['bits']:.0f} bits for {data['bytes']} bytes"
        return show.token_strip(*zip(*data["tokens"]), title=title)

    if ipywidgets is None:
        return Moving(state, figure, words())
    box = text_box(text)
    who = ipywidgets.Dropdown(options=list(predictors), value=state.name, description="model")
    who.style.description_width = "80px"
    strip, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.text, state.name = box.value, who.value
        strip.value = costs_html(state.compute()["tokens"])
        note.value = spoken(words())

    box.observe(redraw, names="value")
    who.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([box, who, strip, note])
    return Moving(state, figure, words(), view, {"text": box, "model": who, "strip": strip, "note": note})


# Neighbours of a word, or of a sum of words ------------------------------------------------------


class Neighbours:
    """A word or a sum such as "king - man + woman", and the words nearest to it; its own words are left out."""

    longest = 8  # words of a sum

    def __init__(self, vectors, query, n=10):
        """vectors: gensim's KeyedVectors."""
        self.words, self.ids, self.n = vectors.index_to_key, vectors.key_to_index, n
        self.table = torch.nn.functional.normalize(torch.as_tensor(vectors.vectors), dim=-1)
        self.query = query

    def terms(self):
        """The query as [(+1 or -1, word), …]."""
        found = re.findall(r"([-+−]?)\s*([^\W\d_]+(?:'[^\W\d_]+)?)", self.query.lower())
        return [(-1 if sign in ("-", "−") else 1, word) for sign, word in found[: self.longest]]

    def compute(self):
        """All that the view shows, as plain data: words, cosines, and the words that are not known."""
        terms = self.terms()
        unknown = [word for _, word in terms if word not in self.ids]
        if unknown or not terms:
            return {"words": [], "cosines": [], "unknown": unknown}
        own = [self.ids[word] for _, word in terms]
        total = sum(sign * self.table[i] for (sign, _), i in zip(terms, own))
        found, cosines = nearest(self.table, total, min(self.n, len(self.words) - len(set(own))), own)
        return {"words": [self.words[i] for i in found], "cosines": cosines, "unknown": []}


def neighbours(vectors, query, n=10):
    """Type a word, or a sum of words, and see which words lie nearest. vectors: gensim's KeyedVectors."""
    state = Neighbours(vectors, query, n)

    def words():
        data, asked = state.compute(), state.query[:60]
        if data["unknown"]:
            return f"Not among the {len(state.words):,} words: {', '.join(data['unknown'])}"
        if not data["words"]:
            return "Type a word, or a sum such as king - man + woman"
        best = ", ".join(f"{word} {cosine:.2f}" for word, cosine in zip(data["words"][:3], data["cosines"]))
        return f"Nearest to “{asked}”: {best}"

    def figure():
        data = state.compute()
        return show.neighbour_bars(data["words"], data["cosines"], title=state.query[:60])

    if ipywidgets is None:
        return Moving(state, figure, words())
    box = text_box(query, "word or sum", width=430, label_width=110)
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.query = box.value
        image.value = picture(figure, words()) if state.compute()["words"] else ""
        note.value = spoken(words())

    box.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([box, image, note])
    return Moving(state, figure, words(), view, {"query": box, "image": image, "note": note})


# Positions as angles -----------------------------------------------------------------------------


class Rotary:
    """One query and one key, each turned to its position, and what their dot product makes of it."""

    furthest = 30

    def __init__(self, q, k, m, n):
        self.q, self.k, self.m, self.n = q.detach().float(), k.detach().float(), m, n

    def turned(self, x, positions):
        """x (K,) at each of `positions` (N,), (N, K)."""
        angles = torch.as_tensor(positions)[:, None] * modern_decoders.rates(len(x))
        return modern_decoders.rotate(x.expand(len(angles), -1), angles.cos(), angles.sin())

    def compute(self):
        """All that the view shows, as plain data: arrows (K / 2, 2), the score, and it for every distance."""
        q, k = self.turned(self.q, [self.m])[0], self.turned(self.k, [self.n])[0]
        far = self.furthest
        scores = self.turned(self.q, range(-far, far + 1)) @ self.k
        return {
            "query": q.view(2, -1).T,
            "key": k.view(2, -1).T,
            "score": float(q @ k),
            "distance": self.m - self.n,
            "scores": dict(zip(range(-far, far + 1), scores.tolist())),
        }


def rotary(q, k, m=0, n=0):
    """Sliders for the positions of a query and a key (K,): the arrows turn, and the score knows the distance."""
    state = Rotary(q, k, m, n)

    def figure():
        return show.rotary(**state.compute())

    def words():
        data = state.compute()
        where = f"Query at position {state.m}, key at {state.n}: distance {data['distance']}"
        return f"{where}, score {data['score']:.2f}"

    if ipywidgets is None:
        return Moving(state, figure, words())
    settings = {"min": 0, "max": state.furthest}
    sliders = {
        "m": slider(ipywidgets.IntSlider, "query at", value=m, **settings),
        "n": slider(ipywidgets.IntSlider, "key at", value=n, **settings),
    }
    together = button("Move both by one", "Both positions grow by one: the score stays", width="160px")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.m, state.n = sliders["m"].value, sliders["n"].value
        refresh(image, note, figure, words)

    def on_together(_):
        if max(state.m, state.n) < state.furthest:
            for control in sliders.values():
                control.value += 1

    for control in sliders.values():
        control.observe(redraw, names="value")
    together.on_click(on_together)
    redraw()
    view = ipywidgets.VBox([*sliders.values(), together, image, note])
    return Moving(
        state, figure, words(), view, {**sliders, "together": together, "image": image, "note": note}
    )


# Fill in the blank -------------------------------------------------------------------------------


class FillIn:
    """A text with blanks, written `_`, and a BERT's probabilities for the token in the first of them."""

    longest = 300  # letters: what is pasted beyond them is left out

    def __init__(self, model, tokenizer, text, n=10):
        self.model, self.tokenizer, self.n = model, tokenizer, n
        self.mask = special(tokenizer, "mask")
        self.text = text

    @torch.no_grad()
    def compute(self):
        """All that the view shows, as plain data: the bars (None without a blank), and the text with its best word."""
        text = self.text[: self.longest]
        ids = with_blanks(self.tokenizer, text)[:, : self.model.config.n_positions]
        holes = (ids[0] == self.mask).nonzero().flatten()
        if not len(holes):
            return {"bars": None, "filled": text}
        logits = self.model(ids)[0, holes]
        bars = show.next_tokens(logits[0], self.tokenizer, self.n)
        ids[0, holes] = logits.argmax(-1)
        return {"bars": bars, "filled": self.tokenizer.decode(ids[0, 1:-1].tolist()).strip()}


def fill_in(model, tokenizer, text, n=10):
    """Type a sentence with a blank, `_`, and see which tokens a BERT would put there."""
    state = FillIn(model, tokenizer, text, n)

    def words():
        data = state.compute()
        if data["bars"] is None:
            return "Write a blank, _, where a word is missing"
        found = zip(data["bars"]["tokens"][:3], data["bars"]["before"])
        best = ", ".join(f"{token.lstrip('␣')} {show.percent(p)}" for token, p in found)
        return f"“{state.text[: state.longest]}”: {best}. With the likeliest: “{data['filled']}”"

    def figure():
        bars = state.compute()["bars"]
        if bars is None:
            nothing = show.blank(6.4, 0.6)
            nothing.text(0, 0.4, words())
            return nothing
        return show.next_token_bars(bars["tokens"], bars["before"], title=state.text[:60])

    if ipywidgets is None:
        return Moving(state, figure, words())
    box = text_box(text, "a sentence", width=640, label_width=90)
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.text = box.value
        image.value = picture(figure, words()) if state.compute()["bars"] else ""
        note.value = spoken(words())

    box.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([box, image, note])
    return Moving(state, figure, words(), view, {"text": box, "image": image, "note": note})


# Which sentence means the same? -------------------------------------------------------------------


class SentenceMap:
    """A text of one's own, a sentence to a line, and a question: who is near the question, who is near whom."""

    longest, most = 200, 12  # letters of a sentence, and sentences

    def __init__(self, encode, text, query):
        """encode: a list of n sentences → vectors (n, D) of length 1."""
        self.encode, self.text, self.query, self.known = encode, text, query, {}

    def sentences(self):
        """The lines of the text that hold something, each once."""
        lines = (" ".join(line.split())[: self.longest] for line in self.text.splitlines())
        return list(dict.fromkeys(line for line in lines if line))[: self.most]

    def vectors(self, sentences):
        """(n, D); every sentence is read once."""
        new = [sentence for sentence in sentences if sentence not in self.known]
        if new:
            self.known.update(zip(new, self.encode(new)))
        return torch.stack([self.known[sentence] for sentence in sentences])

    def compute(self):
        """All that the view shows, as plain data: sentences, nearest first, their cosines, and the map (n, n)."""
        found, query = self.sentences(), self.query.strip()[: self.longest]
        if not found:
            return {"sentences": [], "cosines": [], "map": []}
        vectors = self.vectors(found)
        cosines = vectors @ self.vectors([query])[0] if query else torch.zeros(len(found))
        order = cosines.argsort(descending=True, stable=True) if query else torch.arange(len(found))
        table = (vectors[order] @ vectors[order].T).tolist()
        return {"sentences": [found[i] for i in order], "cosines": cosines[order].tolist(), "map": table}


def short(sentence, letters=44):
    """A sentence that fits beside a figure."""
    return sentence if len(sentence) <= letters else sentence[: letters - 1] + "…"


def sentence_map(encode, text, query, view="search"):
    """Type sentences and a question: "search" ranks the sentences, "map" shows how near any two of them are.

    encode: a list of n sentences → vectors (n, D) of length 1   text: one sentence to a line
    """
    state = SentenceMap(encode, text, query)
    state.view = view

    def words():
        data = state.compute()
        if not data["sentences"]:
            return "Type a sentence on each line"
        if state.view == "map":
            n = len(data["sentences"])
            near = max(((data["map"][i][j], i, j) for i in range(n) for j in range(i)), default=None)
            both = near and [short(data["sentences"][i]) for i in near[1:]]
            return f"Nearest: “{both[0]}” and “{both[1]}”, {near[0]:.2f}" if near else "One sentence only"
        best, cosine = short(data["sentences"][0]), data["cosines"][0]
        return f"Nearest to “{short(state.query)}”: “{best}”, {cosine:.2f}"

    def figure():
        data = state.compute()
        labels = [short(sentence) for sentence in data["sentences"]]
        if state.view == "map":
            numbers = [str(i + 1) for i in range(len(labels))]
            return show.matrix(data["map"], [f"{label}   {n}" for label, n in zip(labels, numbers)], numbers)
        return show.neighbour_bars(labels, data["cosines"], title=short(state.query, 60))

    if ipywidgets is None:
        return Moving(state, figure, words())
    lines = ipywidgets.Textarea(
        value=text,
        description="sentences",
        layout=ipywidgets.Layout(width="640px", height="130px"),
        style={"description_width": "80px"},
    )
    box = text_box(query, "question")
    how = ipywidgets.ToggleButtons(value=view, options=["search", "map"], description="show as")
    how.style.description_width = "80px"
    with_tip(how, "show as")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.text, state.query, state.view = lines.value, box.value, how.value
        image.value = picture(figure, words()) if state.sentences() else ""
        note.value = spoken(words())

    for control in (lines, box, how):
        control.observe(redraw, names="value")
    redraw()
    parts = {"text": lines, "query": box, "view": how, "image": image, "note": note}
    return Moving(state, figure, words(), ipywidgets.VBox([lines, box, how, image, note]), parts)


# A caption, painted ---------------------------------------------------------------------------------


class CaptionPictures:
    """A caption, chosen word by word, and pictures that a model paints for it; each is painted once."""

    def __init__(self, paint, choices, caption, n=4):
        self.paint, self.choices, self.n = paint, [list(words) for words in choices], n
        self.known, self.seed = {}, 0
        self.say(caption)

    def say(self, caption):
        """Take another caption: one word from each list."""
        if len(caption) != len(self.choices) or any(w not in c for w, c in zip(caption, self.choices)):
            raise ValueError(f"A caption takes one word from each of {self.choices}, not {tuple(caption)}.")
        self.caption = tuple(caption)

    def again(self):
        """Ask for other pictures of the same caption."""
        self.seed += self.n

    def compute(self):
        """All that the view shows: the caption's words and n pictures, (3, height, width) each."""
        for seed in range(self.seed, self.seed + self.n):
            if (self.caption, seed) not in self.known:
                self.known[self.caption, seed] = self.paint(self.caption, seed)
        pictures = [self.known[self.caption, self.seed + i] for i in range(self.n)]
        return {"caption": " ".join(self.caption), "pictures": pictures}


def caption_pictures(paint, choices, caption, n=4):
    """Choose a caption and see n pictures that a model paints for it; a button paints n others.

    paint: a function, (words, seed) → a picture (3, height, width), values from -1 to 1
    choices: for each place of the caption the words that may stand there
    """
    state = CaptionPictures(paint, choices, caption, n)

    def figure():
        data = state.compute()
        return show.pictures({data["caption"]: data["pictures"]})

    def words():
        return f"{n} pictures painted for “{' '.join(state.caption)}”, set number {state.seed // n + 1}"

    if ipywidgets is None:
        return Moving(state, figure, words())
    lists = [
        ipywidgets.Dropdown(
            options=options, value=word, description=f"word {i + 1}", layout=ipywidgets.Layout(width="180px")
        )
        for i, (options, word) in enumerate(zip(state.choices, state.caption))
    ]
    more = button("paint again", "the same caption, other pictures", width="130px")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        state.say([box.value for box in lists])
        refresh(image, note, figure, words)

    def again(_=None):
        state.again()
        refresh(image, note, figure, words)

    for box in lists:
        box.observe(redraw, names="value")
    more.on_click(again)
    refresh(image, note, figure, words)
    rows = [ipywidgets.HBox(lists[:3]), ipywidgets.HBox([*lists[3:], more]), image, note]
    parts = {"words": lists, "again": more, "image": image, "note": note}
    return Moving(state, figure, words(), ipywidgets.VBox(rows), parts)


# What a model costs ------------------------------------------------------------------------------


def in_words(number, digits=3):
    """A large number as people say it: 68.98e9 is "69 billion"."""
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if number >= size:
            return f"{number / size:,.{digits}g}{name}" if number < 1000 * size else f"{number:.1e}"
    return f"{number:,.{digits}g}" if number < 1000 else f"{number:,.0f}"


class Costs:
    """A shape, an amount of text, and what an hour of a GPU does and costs; all else is arithmetic."""

    peak, memory = 312e12, 80e9  # of an A100, FLOPs a second in bf16 and bytes

    def __init__(self, shapes, name, tokens, gpus, utilisation, price, length=4096):
        if name not in shapes:
            raise ValueError(f"There is no {name!r} among {', '.join(shapes)}.")
        self.shapes, self.name, self.tokens, self.gpus = shapes, name, tokens, gpus
        self.utilisation, self.price, self.length = utilisation, price, length

    def compute(self):
        """All that the view shows, as plain numbers."""
        config = self.shapes[self.name]
        n = sum(scale.parameters(config).values())
        flops = scale.training_flops(config, self.tokens, self.length)
        hours = flops / (self.peak * self.utilisation) / 3600
        return {
            "parameters": n,
            "tokens_each": self.tokens / n,
            "rule": 6 * n * self.tokens,
            "flops": flops,
            "hours": hours,
            "days": hours / self.gpus / 24,
            "dollars": hours * self.price,
            "file": 2 * n,
            "training_memory": scale.TRAINING_BYTES * n,
            "least_gpus": math.ceil(scale.TRAINING_BYTES * n / self.memory),
            "cache": scale.cache_bytes(config, self.length),
        }

    def lines(self):
        """The numbers as (what, how much) in words."""
        data = self.compute()
        return [
            ("parameters", in_words(data["parameters"])),
            ("tokens a parameter", in_words(data["tokens_each"])),
            ("6 N D", f"{data['rule']:.2e} FLOPs"),
            (f"counted, texts of {self.length:,}", f"{data['flops']:.2e} FLOPs"),
            ("GPU hours", in_words(data["hours"])),
            (f"days on {self.gpus:,} GPUs", in_words(data["days"])),
            ("dollars", in_words(data["dollars"])),
            ("file, 2 bytes each", f"{in_words(data['file'] / 1e9)} GB"),
            ("to train, 16 bytes each", f"{in_words(data['training_memory'] / 1e9)} GB"),
            ("GPUs that just hold that", f"{data['least_gpus']:,}"),
            (f"cache of {self.length:,} tokens", f"{in_words(data['cache'] / 1e9)} GB"),
        ]


AMOUNTS = [m * 10**e for e in range(6, 14) for m in (1, 2, 5)]
FLEETS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 6000, 8192, 16384]


def near(options, wanted):
    """The options, and `wanted` among them."""
    return sorted({*options, wanted})


def calculator(shapes, name, tokens=2e12, gpus=6000, utilisation=0.46, price=1.16, length=4096):
    """Choose a shape, an amount of text and some A100s: FLOPs, days, dollars and memory follow.

    shapes: {name: config of a GPT or a LLaMA}
    """
    state = Costs(shapes, name, int(tokens), gpus, utilisation, price, length)

    def figure():
        return show.bill(state.lines(), f"{state.name} on {in_words(state.tokens)} tokens")

    def words():
        data = state.compute()
        bill = f"{in_words(data['flops'])} FLOPs, {in_words(data['hours'])} GPU hours"
        return f"{state.name}, {in_words(state.tokens)} tokens: {bill}, {in_words(data['dollars'])} dollars"

    if ipywidgets is None:
        return Moving(state, figure, words())
    fleet = [(f"{n:,}", n) for n in near(FLEETS, gpus)]
    amounts = [(in_words(n), n) for n in near(AMOUNTS, int(tokens))]
    lengths = [(f"{2**k:,}", 2**k) for k in range(7, 18)]
    parts = {
        "name": slider(ipywidgets.Dropdown, "model", options=list(shapes), value=name),
        "tokens": slider(ipywidgets.SelectionSlider, "tokens", options=amounts, value=int(tokens)),
        "length": slider(ipywidgets.SelectionSlider, "in texts of", options=lengths, value=length),
        "gpus": slider(ipywidgets.SelectionSlider, "GPUs", options=fleet, value=gpus),
        "utilisation": slider(
            ipywidgets.FloatSlider, "utilisation", min=0.05, max=1, step=0.01, value=utilisation
        ),
        "price": slider(ipywidgets.FloatSlider, "dollars an hour", min=0.1, max=10, step=0.01, value=price),
    }
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(_=None):
        for part, control in parts.items():
            setattr(state, part, control.value)
        refresh(image, note, figure, words)

    for control in parts.values():
        control.observe(redraw, names="value")
    redraw()
    view = ipywidgets.VBox([*parts.values(), image, note])
    return Moving(state, figure, words(), view, {**parts, "image": image, "note": note})


# Which pitfall is it? -------------------------------------------------------------------------------


class WhichPitfall:
    """Learning curves without their name; someone looks at them and says what is wrong."""

    def __init__(self, cases):
        """cases: [{"x": (N,), "lines": {name: (N,)}, "pitfall": its name, "why": how one sees it}, …]"""
        self.cases = [{**case, "lines": dict(case["lines"])} for case in cases]
        self.choices = sorted({case["pitfall"] for case in self.cases})
        self.restart()

    def restart(self):
        """Forget all answers and show the first case."""
        self.at, self.answers = 0, {}

    def answer(self, choice):
        """Say what is wrong with the case that is shown; the first answer counts."""
        if choice not in self.choices:
            raise ValueError(f"The answers are {', '.join(self.choices)}, not {choice}.")
        self.answers.setdefault(self.at, choice)

    def move(self, steps=1):
        """Go on to another case; after the last comes the first."""
        self.at = (self.at + steps) % len(self.cases)

    def compute(self):
        """All that the view shows, as plain data; `right` is None until there is an answer, `why` is "" till then."""
        case, said = self.cases[self.at], self.answers.get(self.at)
        lines = {name: [float(y) for y in line] for name, line in case["lines"].items()}
        return {
            "case": self.at + 1,
            "x": [float(x) for x in case["x"]],
            "lines": lines,
            "said": said,
            "right": None if said is None else said == case["pitfall"],
            "why": "" if said is None else case["why"],
            "score": sum(said == self.cases[at]["pitfall"] for at, said in self.answers.items()),
        }


def which_pitfall(cases, xlabel="step", ylabel="nats per token"):
    """Look at curves, say which pitfall it is, and read how one sees it. cases: as WhichPitfall takes them."""
    state = WhichPitfall(cases)

    def figure():
        data = state.compute()
        title = f"Case {data['case']} of {len(state.cases)}: which pitfall is it?"
        return show.curves(data["x"], data["lines"], xlabel, ylabel, title)

    def words():
        data = state.compute()
        ends = ", ".join(f"{name} {line[0]:.2f} → {line[-1]:.2f}" for name, line in data["lines"].items())
        if data["right"] is None:
            return f"Case {data['case']} of {len(state.cases)}, from start to end: {ends}"
        verdict = "Right" if data["right"] else f"Not {data['said']}, but {state.cases[state.at]['pitfall']}"
        return f"{verdict}: {data['why']}. {data['score']} of {len(state.answers)} right so far"

    if ipywidgets is None:
        return Moving(state, figure, words())
    picks = [button(choice, f"this is {choice}", width="150px") for choice in state.choices]
    further = button("next case", "other curves", width="110px")
    anew = button("start over", "forget all answers", width="110px")
    image, note = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw():
        for pick in picks:
            pick.disabled = state.compute()["right"] is not None
        refresh(image, note, figure, words)

    def on_pick(pick):
        state.answer(pick.description)
        redraw()

    def on_move(_):
        state.move()
        redraw()

    def on_restart(_):
        state.restart()
        redraw()

    for pick in picks:
        pick.on_click(on_pick)
    further.on_click(on_move)
    anew.on_click(on_restart)
    redraw()
    half = (len(picks) + 1) // 2
    rows = [ipywidgets.HBox(picks[:half]), ipywidgets.HBox(picks[half:]), ipywidgets.HBox([further, anew])]
    parts = {"picks": picks, "next": further, "start over": anew, "image": image, "note": note}
    return Moving(state, figure, words(), ipywidgets.VBox([image, *rows, note]), parts)


# The labelling table -----------------------------------------------------------------------------


class Labels:
    """Verdicts on pairs of answers: 0, the left one is better, 1, the right one; a stand-in where nobody judged."""

    def __init__(self, rows, stand_in):
        """rows: [(request, left, right), …]   stand_in: a verdict for each row"""
        if len(rows) != len(stand_in) or not rows:
            raise ValueError(f"{len(rows)} pairs, {len(stand_in)} verdicts: give one verdict for each pair.")
        self.rows, self.stand_in = [tuple(row) for row in rows], [int(verdict) for verdict in stand_in]
        self.clicked, self.at = [None] * len(rows), 0

    def judge(self, verdict):
        """Note a verdict on the pair in view (0 left, 1 right, None take it back), and go on to the next pair."""
        self.clicked[self.at] = verdict
        self.go(1 if verdict is not None else 0)

    def go(self, steps):
        """Show another pair, `steps` further on; the first and the last are the ends."""
        self.at = min(max(self.at + steps, 0), len(self.rows) - 1)

    def verdicts(self):
        """One verdict for each pair: what was clicked, else the stand-in."""
        return [b if a is None else a for a, b in zip(self.clicked, self.stand_in)]

    def compute(self):
        """All that the view shows, as plain data."""
        request, left, right = self.rows[self.at]
        data = {"request": request, "left": left, "right": right, "chosen": self.clicked[self.at]}
        return data | {
            "at": self.at,
            "n": len(self.rows),
            "n_clicked": sum(v is not None for v in self.clicked),
        }


def answer_html(text, chosen):
    """One answer in a box; a bold frame if it was chosen."""
    look = f"border:{3 if chosen else 1}px solid {show.ORANGE if chosen else '#B9C0C8'};border-radius:8px;"
    look += "padding:8px 12px;width:330px;min-height:110px;line-height:1.5;font-size:15px;white-space:normal"
    return f'<div style="{look}">{html.escape(text)}</div>'


def labelling_table(rows, stand_in):
    """Say of each pair which answer is better; `state.verdicts()` has what was clicked, else the stand-ins.

    rows: [(request, left, right), …]   stand_in: 0 (left) or 1 (right) for each
    """
    state = Labels(rows, stand_in)

    def words():
        data = state.compute()
        done = f"{data['n_clicked']} of {data['n']} pairs judged by you"
        return f"Pair {data['at'] + 1} of {data['n']}: “{data['request']}” Which answer is better? {done}"

    def figure():
        data = state.compute()
        title = f"Pair {data['at'] + 1} of {data['n']}: which answer is better?"
        return show.two_answers(data["request"], (data["left"], data["right"]), data["chosen"], title)

    if ipywidgets is None:
        return Moving(state, figure, words())
    asked, note = ipywidgets.HTML(), ipywidgets.HTML()
    boxes = [ipywidgets.HTML(), ipywidgets.HTML()]
    actions = {
        "Left is better": ("Choose the left answer", lambda: state.judge(0)),
        "Right is better": ("Choose the right answer", lambda: state.judge(1)),
        "Back": ("Look at the pair before", lambda: state.go(-1)),
        "Skip": ("Go on without a verdict", lambda: state.go(1)),
        "Clear": ("Take this verdict back", lambda: state.judge(None)),
    }
    controls = [button(label, tip, width="130px") for label, (tip, _) in actions.items()]

    def redraw():
        data = state.compute()
        asked.value = f"<b>{html.escape(data['request'])}</b>"
        for i, (box, side) in enumerate(zip(boxes, ("left", "right"))):
            box.value = answer_html(data[side], data["chosen"] == i)
        note.value = spoken(words())

    def on_click(act):
        def clicked(_):
            act()
            redraw()

        return clicked

    for control, (_, act) in zip(controls, actions.values()):
        control.on_click(on_click(act))
    redraw()
    view = ipywidgets.VBox([asked, ipywidgets.HBox(boxes), ipywidgets.HBox(controls), note])
    parts = {"request": asked, "boxes": boxes, "note": note, **dict(zip(actions, controls))}
    return Moving(state, figure, words(), view, parts)
