"""The code of lesson 09_bert, for the pages after it.

Made from the cells tagged `export` of notebooks/09_bert.ipynb.
Never edit: change the page, then `make made`.
"""

import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.transformer import Block, Config, FeedForward, Stack


def mask_tokens(ids, generator, vocab_size, mask_id, rate=0.15, first=7, hide=0.8, swap=0.1):
    """Choose about `rate` of the tokens to be asked for, and hide most of them.

    ids: (B, T); those below `first` are special and never chosen
    Returns inputs (B, T): of the chosen, a share `hide` is the mask, `swap` any token, the
    rest as it was; and targets (B, T): what was there at the chosen places, -1 elsewhere.
    Source: Devlin et al. 2019, section 3.1.
    """
    draw = {"generator": generator, "device": ids.device}
    chosen = (torch.rand(ids.shape, **draw) < rate) & (ids >= first)
    fate = torch.rand(ids.shape, **draw)
    strangers = torch.randint(vocab_size, ids.shape, **draw)
    inputs = torch.where(chosen & (fate < hide + swap), strangers, ids)
    inputs = inputs.masked_fill(chosen & (fate < hide), mask_id)
    return inputs, ids.masked_fill(~chosen, -1)


def next_sentence_pairs(rows, generator, sep=4, cls=5):
    """Cut pieces of running text in two; half of the first parts keep their own second part.

    rows: (B, n) token ids, pieces of different texts, B > 1
    Returns ids (B, n + 3), [CLS] A [SEP] B [SEP]; segments (B, n + 3), 0 up to the first
    [SEP], then 1; and is_next (B,), True where B does follow A.
    Source: Devlin et al. 2019, section 3.1.
    """
    B, n = rows.shape
    draw = {"generator": generator, "device": rows.device}
    first, second = rows[:, : n // 2], rows[:, n // 2 :]
    is_next = torch.rand(B, **draw) < 0.5
    shift = torch.randint(1, B, (), **draw).item()  # whose second piece: never one's own
    second = torch.where(is_next[:, None], second, second.roll(shift, dims=0))
    start, end = rows.new_full((B, 1), cls), rows.new_full((B, 1), sep)
    ids = torch.cat([start, first, end, second, end], dim=1)
    segments = (torch.arange(n + 3, device=rows.device) >= n // 2 + 2).long().expand(B, -1)
    return ids, segments, is_next


@dataclass(frozen=True)
class BertConfig(Config):
    """The shape of a BERT; the defaults are the zoo's."""

    vocab_size: int = 6144
    n_positions: int = 128
    n_layers: int = 4
    n_heads: int = 5
    d_model: int = 160
    norm_eps: float = 1e-12
    d_ff: int = 640
    n_segments: int = 2
    pad: int = 0


class BertFeedForward(FeedForward):
    """The net of a block with the exact GELU (Hendrycks and Gimpel 2016)."""

    bend = staticmethod(F.gelu)

    def width(self, config):
        return config.d_ff


class BertBlock(Block):
    """A post-norm block that sees the whole text (Devlin et al. 2019, section 3)."""

    make_feed_forward, norm_first = BertFeedForward, False


class BertInputs(nn.Module):
    """Token, position and segment embeddings, their sum normed (Devlin et al. 2019)."""

    def __init__(self, config):
        super().__init__()
        D = self.size(config)
        self.tokens = nn.Embedding(config.vocab_size, D)
        self.positions = nn.Embedding(config.n_positions, D)
        if config.n_segments:
            self.segments = nn.Embedding(config.n_segments, D)
        self.norm = nn.LayerNorm(D, eps=config.norm_eps)

    def size(self, config):
        return config.d_model

    def places(self, ids):
        """Which row of the position table each of ids (B, T) gets; (T,) or (B, T)."""
        return torch.arange(ids.size(1), device=ids.device)

    def forward(self, ids, segments=None):
        """ids, segments: (B, T) → (B, T, D)"""
        x = self.tokens(ids) + self.positions(self.places(ids))
        if hasattr(self, "segments"):
            x = x + self.segments(torch.zeros_like(ids) if segments is None else segments)
        return self.norm(x)


class MaskedHead(nn.Module):
    """States (B, T, D) → logits (B, T, V): dense, GELU, norm, embeddings backwards."""

    bend = staticmethod(F.gelu)

    def __init__(self, config, tokens):
        super().__init__()
        width = tokens.weight.size(1)  # D, unless a descendant's table is narrower
        self.dense = nn.Linear(config.d_model, width)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.weight = tokens.weight

    def forward(self, states):
        return F.linear(self.norm(self.bend(self.dense(states))), self.weight, self.bias)


class Pooler(nn.Module):
    """The state of the first token through one layer and tanh, (B, D)."""

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)

    def forward(self, states):
        return self.dense(states[:, 0]).tanh()


def initialise(model, std=0.02):
    """BERT's start: every matrix and table normal(0, std), every bias 0, every norm 1."""
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            nn.init.normal_(parameter, std=std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


class BERT(Stack):
    """BERT: an encoder that fills blanks and judges pairs (Devlin et al. 2019, section 3).

    head: None (bare, with its pooler), "masked" (to fill blanks), "pretraining" (both tasks)
    """

    make_block, make_embeddings = BertBlock, BertInputs
    make_masked, make_pooler = MaskedHead, Pooler

    def __init__(self, config, head=None):
        super().__init__(config)
        self.kind, self.head, self.pooler, self.next = head, None, None, None
        if head in ("masked", "pretraining"):
            self.head = self.make_masked(config, self.inputs.tokens)
        if head in (None, "pretraining") and self.make_pooler:
            self.pooler = self.make_pooler(config)
        if head == "pretraining":
            self.next = nn.Linear(config.d_model, 2)
        initialise(self)

    def make_inputs(self, config):
        self.inputs = self.make_embeddings(config)

    def hidden(self, ids, mask=None, segments=None):
        """The states of the last layer, (B, T, D), for ids (B, T).

        mask: (B, T), True = a real token, or (B, T, T), True where a query may look
        """
        if mask is not None:
            mask = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
        return self.run(self.inputs(ids, segments), mask=mask)

    def forward(self, ids, mask=None, segments=None):
        """ids: (B, T) → logits (B, T, V) where there is a head, else states (B, T, D)."""
        states = self.hidden(ids, mask, segments)
        return self.head(states) if self.head else states


BERT.model_type, BERT.make_config = "bert", BertConfig
BERT.published_classes = {
    None: "BertModel",
    "masked": "BertForMaskedLM",
    "pretraining": "BertForPreTraining",
}
BERT.published_config = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "n_positions",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "hidden_size": "d_model",
    "intermediate_size": "d_ff",
    "type_vocab_size": "n_segments",
    "layer_norm_eps": "norm_eps",
    "pad_token_id": "pad",
}
BERT.published_optional = {"type_vocab_size", "layer_norm_eps", "pad_token_id"}
BERT.published_settings = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


BERT.published_prefix = "bert."
BERT.published_names = {
    "embeddings.word_embeddings": "inputs.tokens",
    "embeddings.position_embeddings": "inputs.positions",
    "embeddings.token_type_embeddings": "inputs.segments",
    "embeddings.LayerNorm": "inputs.norm",
    "encoder.layer": "blocks",
    "attention.self.query": "attention.q",
    "attention.self.key": "attention.k",
    "attention.self.value": "attention.v",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "norm_1",
    "intermediate.dense": "feed_forward.up",
    "output.dense": "feed_forward.down",
    "output.LayerNorm": "norm_2",
    "cls.predictions.transform.dense": "head.dense",
    "cls.predictions.transform.LayerNorm": "head.norm",
    "cls.predictions.bias": "head.bias",
    "cls.seq_relationship": "next",
}


@torch.no_grad()
def layers(model, ids, mask=None):
    """The states (L + 1, B, T, D) of a BERT: what goes in, and what each block makes of it."""
    x, looks = model.inputs(ids), None if mask is None else mask[:, None, None]
    states = [x]
    for block in model.blocks:
        states.append(block(states[-1], mask=looks))
    return torch.stack(states)


def filling_loss(model, states, targets):
    """Mean cross entropy of the asked tokens, in nats.

    states: (B, T, D)   targets: (B, T), -1 where nothing is asked
    """
    asked = targets >= 0
    logits = model.head(states[asked]).float()  # (asked places, V)
    return F.cross_entropy(logits, targets[asked], reduction="sum") / asked.sum().clamp(min=1)


def masked_loss(model, inputs, targets, mask=None, **how):
    """How badly `model` fills the blanks of inputs (B, T); `how`: what else `hidden` takes."""
    return filling_loss(model, model.hidden(inputs, mask, **how), targets)


def pretraining_loss(model, inputs, segments, targets, is_next, mask=None):
    """Both tasks of a BERT with head "pretraining": the blanks plus the pairs, in nats."""
    states = model.hidden(inputs, mask, segments=segments)
    verdicts = model.next(model.pooler(states)).float()  # (B, 2); column 0: B follows A
    return filling_loss(model, states, targets) + F.cross_entropy(verdicts, (~is_next).long())


def special(tokenizer, name):
    """The id of "cls", "sep" or "mask", however this vocabulary writes it: <mask> or [MASK]."""
    found = (tokenizer.token_to_id(form) for form in (f"<{name}>", f"[{name.upper()}]"))
    return next(i for i in found if i is not None)


def with_blanks(tokenizer, text):
    """A text as ids (1, T) between cls and sep; a run of `_` and the space before is a mask."""
    cls, sep, mask = (special(tokenizer, name) for name in ("cls", "sep", "mask"))
    ids = [cls]
    for n, part in enumerate(re.split(r"\s*_+", text)):
        ids += [mask] * (n > 0) + tokenizer.encode(part, add_special_tokens=False).ids
    return torch.tensor([[*ids, sep]])


def vectors_of(model, tokenizer, sentence, word):
    """What each layer makes of `word` in `sentence`, (L + 1, D); the mean of its pieces."""
    at = re.search(rf"\b{word}\b", sentence, re.IGNORECASE)
    text = tokenizer.encode(sentence, add_special_tokens=False)
    places = [i for i, (a, b) in enumerate(text.offsets, 1) if a < at.end() and b > at.start()]
    ids = [special(tokenizer, "cls"), *text.ids, special(tokenizer, "sep")]
    return layers(model, torch.tensor([ids]))[:, 0, places].mean(1)
