"""The code of lesson 12_gpt, for the pages after it.

Made from the cells tagged `export` of notebooks/12_gpt.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import causal_mask
from utils.lessons.transformer import Block, CausalAttention, FeedForward, Stack


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT-2; the defaults are the course's story model."""

    vocab_size: int = 6144
    n_positions: int = 512
    n_layers: int = 5
    n_heads: int = 5
    d_model: int = 320
    norm_eps: float = 1e-5


class KVCache:
    """The keys and values of every layer, written into memory that is reserved once.

    keys, values: (n_layers, B, H, S, K), of which the first `length` slots are filled
    """

    def __init__(self, n_layers, batch, n_heads, n_slots, d_head, dtype=torch.float32, device=None):
        shape = (n_layers, batch, n_heads, n_slots, d_head)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def append(self, layer, k, v):
        """Store k, v (B, H, T, K) in one layer; return all it holds, (B, H, S, K) each."""
        end = self.length + k.size(2)
        n_slots = self.keys.size(3)
        if end > n_slots:
            message = f"The cache has {n_slots} slots, {end} are needed: make it longer."
            raise ValueError(message)
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class GPTFeedForward(FeedForward):
    """The net of a block with GELU by its tanh formula.

    Source: Hendrycks and Gimpel 2016, section 2.
    """

    bend = staticmethod(partial(F.gelu, approximate="tanh"))


class GPTBlock(Block):
    """The pre-norm block of lesson 05, looking back only."""

    make_attention, make_feed_forward = CausalAttention, GPTFeedForward


def visible(mask, T, start, device=None):
    """The mask that attention wants, (B, 1, T, S), or None for plain causal attention.

    mask: None, (B, S) with True for real tokens, or (B, T, S) with True where a query may look
    T: queries in this call   start: slots that the cache holds already
    """
    if mask is None and (start == 0 or T == 1):
        return None
    if mask is None or mask.dim() == 2:
        causal = causal_mask(T, start + T, device)[None]
        mask = causal if mask is None else causal & mask[:, None, :]
        lost = ~mask.any(-1, keepdim=True)  # padding that asks may see no one: it sees all,
        mask = mask | lost  # lest softmax give no number, and nobody reads what it gets
    return mask[:, None]


class GPT(Stack):
    """GPT-2: learned positions, pre-norm blocks, a last norm, a tied head.

    Source: Radford et al. 2019, section 2.3.
    """

    make_block = GPTBlock

    def __init__(self, config, head="language"):
        super().__init__(config)
        self.kind = head  # "language", or None: states and no logits
        for layer, block in enumerate(self.blocks):
            self.vary(block, layer)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False) if head else None
        if head and getattr(config, "tied", True):
            self.head.weight = self.tokens.weight
        initialise(self)

    def make_inputs(self, config):
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.n_positions, config.d_model)

    def vary(self, block, layer):
        """Nothing here; a later family changes single layers in this place."""

    def enter(self, ids, positions):
        """What the first block reads, (B, T, D)."""
        return self.tokens(ids) + self.positions(positions)


def initialise(model):
    """GPT-2's start: normal(0, 0.02); what writes into the stream is divided by √(2 L)."""
    root = math.sqrt(2 * model.config.n_layers)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            writes = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            nn.init.normal_(parameter, std=0.02 / root if writes else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def hidden(self, ids, mask=None, positions=None, cache=None):
    """The states that the head reads, (B, T, D), for token ids (B, T).

    mask       (B, S), True = a real token, for all S places, those in the cache included; or
               (B, T, S), True where a query may look, which replaces the causal rule
    positions  (B, T) or (T,); the default counts the real tokens
    cache      a KVCache: what it holds stands before `ids`, and `ids` join it
    """
    T = ids.size(1)
    start = cache.length if cache is not None else 0
    if positions is None:
        positions = torch.arange(start, start + T, device=ids.device)
        if mask is not None and mask.dim() == 2:  # real tokens 0 0 1 1 1: positions 0 0 0 1 2
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -T:]
    mask = visible(mask, T, start, ids.device)
    x = self.enter(ids, positions)  # (B, T, D)
    x = self.run(x, mask=mask, positions=positions, cache=cache)
    if cache is not None:
        cache.length += T
    return x


GPT.hidden = hidden


def forward(self, ids, mask=None, positions=None, cache=None):
    """Logits (B, T, V) for ids (B, T), or states where there is no head; see `hidden`."""
    states = self.hidden(ids, mask, positions, cache)
    return self.head(states) if self.head else states


def new_cache(self, batch, n_slots):
    """An empty cache for `batch` sequences of up to `n_slots` tokens."""
    one = self.tokens.weight[None, :1]  # any state: a layer shows us the shape of its keys
    _, key, _ = self.blocks[0].attention.project(one)  # (1, H, 1, K)
    shape = (batch, key.size(1), n_slots, key.size(3))
    return KVCache(len(self.blocks), *shape, key.dtype, key.device)


GPT.forward, GPT.new_cache = forward, new_cache


GPT.model_type = "gpt2"
GPT.make_config = GPTConfig
GPT.published_config = {
    "vocab_size": "vocab_size",
    "n_positions": "n_positions",
    "n_layer": "n_layers",
    "n_head": "n_heads",
    "n_embd": "d_model",
    "layer_norm_epsilon": "norm_eps",
}
GPT.published_names = {
    "wte": "tokens",
    "wpe": "positions",
    "h": "blocks",
    "ln_1": "norm_1",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.out",
    "ln_2": "norm_2",
    "mlp.c_fc": "feed_forward.up",
    "mlp.c_proj": "feed_forward.down",
    "ln_f": "norm",
}
GPT.published_transposed = ("qkv.weight", "out.weight", "up.weight", "down.weight")


GPT.published_classes = {"language": "GPT2LMHeadModel", None: "GPT2Model"}
GPT.published_ignored = (".attn.bias", ".attn.masked_bias")
GPT.published_prefix = "transformer."
GPT.published_optional = {"layer_norm_epsilon"}
GPT.published_settings = {
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
