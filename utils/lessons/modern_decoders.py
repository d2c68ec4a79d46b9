"""The code of lesson 13_modern_decoders, for the pages after it.

Made from the cells tagged `export` of notebooks/13_modern_decoders.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import causal_mask
from utils.lessons.gpt import GPT, GPTConfig, GPTFeedForward
from utils.lessons.transformer import Block, CausalAttention, FeedForward


class GatedFeedForward(FeedForward):
    """SwiGLU: one way up bends and says how much of the other passes (Shazeer 2020)."""

    bend, bias = staticmethod(F.silu), False

    def __init__(self, config, width=None):
        nn.Module.__init__(self)  # not the parent's: it has other matrices
        D, M = config.d_model, width or config.d_ff
        self.gate, self.up = nn.Linear(D, M, bias=False), nn.Linear(D, M, bias=False)
        self.down = nn.Linear(M, D, bias=False)

    def forward(self, x):
        return self.down(self.bend(self.gate(x)) * self.up(x))


def rotate(x, cos, sin, in_pairs=False):
    """Turn each pair of numbers of x (..., T, K) by its angle; cos, sin: (..., T, K / 2).

    A pair is number i of the first half and number i of the second, or two neighbours (`in_pairs`).
    Source: Su et al. 2021, section 3.2.2.
    """
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1) if in_pairs else x.chunk(2, dim=-1)
    turned = a * cos - b * sin, b * cos + a * sin
    return torch.stack(turned, -1).flatten(-2) if in_pairs else torch.cat(turned, -1)


def rates(K, base=10_000.0, scaling=None, device=None):
    """The angle (in radians) by which each of K / 2 pairs turns from one position to the next.

    scaling: the rule of Llama 3.1 for longer texts: slow pairs turn `factor` times slower still
    """
    rates = base ** -(torch.arange(0, K, 2, device=device) / K)
    if not scaling:
        return rates
    turns = scaling["original_max_position_embeddings"] * rates / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # 1: fast, stays as it is; 0: slow
    return kept * rates + (1 - kept) * rates / scaling["factor"]


@dataclass(frozen=True)
class LlamaConfig(GPTConfig):
    """The shape of a LLaMA; the defaults are the zoo's."""

    n_positions: int = 2048  # what it is meant for: nothing stops it from reading on
    n_layers: int = 4
    d_model: int = 160
    norm_eps: float = 1e-6
    d_ff: int = 432
    n_kv_heads: int | None = None  # G; None: as many as heads of queries
    d_head: int | None = None  # K; None: D / H
    tied: bool = True
    rope_base: float = 10_000.0
    rope_scaling: dict | None = None


def head_counts(config):
    """H heads of queries, G of keys and values, and the width K of each."""
    H = config.n_heads
    return H, config.n_kv_heads or H, config.d_head or config.d_model // H


def spread(x, n_heads):
    """x (B, G, S, K) → (B, n_heads, S, K): each head as often as it is shared."""
    shared = n_heads // x.size(1)
    return x.repeat_interleave(shared, dim=1) if shared > 1 else x


class GroupedAttention(CausalAttention):
    """Rotary attention; several heads of queries share a head of keys and values (Ainslie et al. 2023)."""

    bias, in_pairs, rotary = False, False, True

    def __init__(self, config):
        nn.Module.__init__(self)
        self.n_heads, G, self.d_head = head_counts(config)
        self.sizes = [self.n_heads * self.d_head, G * self.d_head, G * self.d_head]
        self.qkv = nn.Linear(config.d_model, sum(self.sizes), bias=self.bias)
        self.out = nn.Linear(self.sizes[0], config.d_model, bias=self.bias)

    def to_heads(self, *parts):
        """Each part (B, T, heads * K) → (B, heads, T, K)."""
        return [part.unflatten(-1, (-1, self.d_head)).transpose(1, 2) for part in parts]

    def project(self, x, memory=None):
        return self.to_heads(*self.qkv(x).split(self.sizes, dim=-1))

    def turn(self, q, k, positions):
        """positions: the cosines and sines of the angles, (..., 1, T, K / 2) each."""
        return [rotate(x, *positions, self.in_pairs) if self.rotary else x for x in (q, k)]

    def mix(self, q, k, v, mask):
        return super().mix(q, spread(k, self.n_heads), spread(v, self.n_heads), mask)


class LlamaBlock(Block):
    """A pre-norm block with RMS norm, rotary grouped attention and a gated net."""

    make_attention, make_feed_forward, make_norm = GroupedAttention, GatedFeedForward, nn.RMSNorm


class LLaMA(GPT):
    """LLaMA 1 to 3: GPT with other parts (Touvron et al. 2023, section 2.2)."""

    make_block = LlamaBlock

    def make_inputs(self, config):
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)

    def enter(self, ids, positions):
        return self.tokens(ids)

    def run(self, x, positions, **how):
        """positions: (T,) or (B, T); they become cosines and sines, (..., 1, T, K / 2)."""
        config = self.config
        turns = rates(head_counts(config)[2], config.rope_base, config.rope_scaling, x.device)
        angles = (positions[..., None] * turns).unsqueeze(-3)
        return super().run(x, positions=(angles.cos().to(x.dtype), angles.sin().to(x.dtype)), **how)


LLaMA.model_type, LLaMA.make_config = "llama", LlamaConfig
LLaMA.published_classes = {"language": "LlamaForCausalLM", None: "LlamaModel"}
LLaMA.published_config = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "n_positions",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "head_dim": "d_head",
    "hidden_size": "d_model",
    "intermediate_size": "d_ff",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tied",
    "rope_theta": "rope_base",
    "rope_scaling": "rope_scaling",
}
LLaMA.published_optional = set("num_key_value_heads head_dim rms_norm_eps rope_theta rope_scaling".split())
LLaMA.published_defaults = {"tie_word_embeddings": False}
LLaMA.published_settings = {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0}
LLaMA.published_ignored = (".rotary_emb.inv_freq",)
LLaMA.published_prefix, LLaMA.published_transposed = "model.", ()


LLaMA.published_names = {
    "embed_tokens": "tokens",
    "layers": "blocks",
    "self_attn": "attention",
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "out",
    "mlp": "feed_forward",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "input_layernorm": "norm_1",
    "post_attention_layernorm": "norm_2",
    "lm_head": "head",
}


def read_rotary(config):
    """A config.json with `rope_theta` and `rope_scaling`, whatever the year it was written in."""
    rope = dict(config.get("rope_parameters") or {})
    base = rope.pop("rope_theta", None) or config.get("rope_theta") or 10_000.0
    rope = dict(config.get("rope_scaling") or rope)
    kind = rope.setdefault("rope_type", rope.pop("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"rope_scaling is of type {kind!r}, the course builds 'default' and 'llama3'")
    return config | {"rope_theta": base, "rope_scaling": rope if kind == "llama3" else None}


LLaMA.read_config = staticmethod(read_rotary)


class OlmoAttention(GroupedAttention):
    """Queries and keys are normed, all heads at once, before they are turned."""

    def __init__(self, config):
        super().__init__(config)
        self.q_norm = nn.RMSNorm(self.sizes[0], eps=config.norm_eps)
        self.k_norm = nn.RMSNorm(self.sizes[1], eps=config.norm_eps)

    def project(self, x, memory=None):
        q, k, v = self.qkv(x).split(self.sizes, dim=-1)
        return self.to_heads(self.q_norm(q), self.k_norm(k), v)


class OlmoBlock(LlamaBlock):
    """The norm stands behind each part, before the sum."""

    make_attention = OlmoAttention

    def add(self, x, norm, part, **how):
        return x + norm(part(x, **how))


class OLMo2(LLaMA):
    """LLaMA with norms behind the parts, and normed queries and keys."""

    make_block = OlmoBlock


OLMo2.model_type = "olmo2"
OLMo2.published_classes = {"language": "Olmo2ForCausalLM", None: "Olmo2Model"}
OLMo2.published_config = {key: ours for key, ours in LLaMA.published_config.items() if ours != "d_head"}
OLMo2.published_names = {key: ours for key, ours in LLaMA.published_names.items() if ours != "norm_1"} | {
    "post_attention_layernorm": "norm_1",
    "post_feedforward_layernorm": "norm_2",
}


def soft_cap(x, cap):
    """x where it is small, never beyond ± cap; None: no cap."""
    return x if cap is None else cap * torch.tanh(x / cap)


def both(mask, near):
    """True where the mask (None: the causal one) and `near` (..., T, S) allow it.

    A query that may look nowhere is padding: it may look everywhere, nobody reads it.
    """
    mask = near & (causal_mask(*near.shape[-2:], near.device) if mask is None else mask)
    return mask | ~mask.any(-1, keepdim=True)


def in_window(T, S, window, device=None):
    """(T, S), True where a key is one of the `window` last that a query has read, itself included."""
    slots = torch.arange(S, device=device)
    return slots > slots[-T:, None] - window


@dataclass(frozen=True)
class GemmaConfig(LlamaConfig):
    """The shape of a Gemma 2."""

    n_kv_heads: int = 5
    d_head: int = 32
    score_size: float = 32  # scores are divided by its root
    score_cap: float | None = None  # 50 in the published ones
    logit_cap: float | None = None  # 30 there
    window: int = 64  # 4,096 there
    layer_types: tuple | None = None  # None: "sliding_attention", "full_attention", in turn


class GemmaAttention(GroupedAttention):
    """Grouped attention with capped scores, in some layers through a window."""

    window = None  # a layer that sees all

    def __init__(self, config):
        super().__init__(config)
        self.scale, self.cap = config.score_size**-0.5, config.score_cap

    def mix(self, q, k, v, mask):
        k, v = spread(k, self.n_heads), spread(v, self.n_heads)
        T, S = q.size(-2), k.size(-2)
        if self.window or mask is None:
            mask = both(mask, in_window(T, S, self.window or S, q.device))
        scores = soft_cap(q * self.scale @ k.transpose(-2, -1), self.cap)
        return scores.masked_fill(~mask, -math.inf).softmax(-1) @ v


class GemmaNorm(nn.RMSNorm):
    """RMS norm with the scale 1 + weight."""

    def reset_parameters(self):
        nn.init.zeros_(self.weight)

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, 1 + self.weight, self.eps)


class GemmaFeedForward(GatedFeedForward):
    """GeGLU: the gate bends by GELU, as GPT-2's net."""

    bend = staticmethod(GPTFeedForward.bend)


class GemmaBlock(LlamaBlock):
    """Four norms: before and behind each part."""

    make_attention, make_feed_forward, make_norm = GemmaAttention, GemmaFeedForward, GemmaNorm

    def __init__(self, config):
        super().__init__(config)
        self.after_1, self.after_2 = self.new_norm(config), self.new_norm(config)

    def add(self, x, norm, part, **how):
        after = self.after_1 if part is self.attention else self.after_2
        return x + after(part(norm(x), **how))


class Gemma2(LLaMA):
    """LLaMA with GeGLU, four norms, caps, and windows in every other layer (Gemma Team 2024)."""

    make_block = GemmaBlock

    def vary(self, block, layer):
        kinds = self.config.layer_types or ("sliding_attention", "full_attention") * (layer + 1)
        if kinds[layer] == "sliding_attention":
            block.attention.window = self.config.window

    def enter(self, ids, positions):
        return self.tokens(ids) * math.sqrt(self.config.d_model)

    def forward(self, ids, mask=None, positions=None, cache=None):
        """As GPT's; no logit is beyond the cap."""
        found = super().forward(ids, mask, positions, cache)
        return soft_cap(found, self.config.logit_cap) if self.head else found


Gemma2.model_type, Gemma2.make_config = "gemma2", GemmaConfig
Gemma2.published_classes = {"language": "Gemma2ForCausalLM", None: "Gemma2Model"}
Gemma2.published_config = LLaMA.published_config | {
    "query_pre_attn_scalar": "score_size",
    "attn_logit_softcapping": "score_cap",
    "final_logit_softcapping": "logit_cap",
    "sliding_window": "window",
    "layer_types": "layer_types",
}
Gemma2.published_defaults = {
    "tie_word_embeddings": True,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
Gemma2.published_optional = LLaMA.published_optional | {*Gemma2.published_defaults, "layer_types"}
Gemma2.published_settings = {
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "use_bidirectional_attention": False,
}
Gemma2.published_names = {key: ours for key, ours in LLaMA.published_names.items() if ours != "norm_2"} | {
    "post_attention_layernorm": "after_1",
    "pre_feedforward_layernorm": "norm_2",
    "post_feedforward_layernorm": "after_2",
}


class Experts(nn.Module):
    """A router sends each token to a few of E gated nets; one net more is used by all.

    Source: the text model of Llama 4; the idea: Shazeer et al. 2017, section 2.
    """

    def __init__(self, config):
        super().__init__()
        D, M, E = config.d_model, config.d_ff, config.n_experts
        self.router, self.shared = nn.Linear(D, E, bias=False), GatedFeedForward(config)
        shapes = {"gate_up": (E, D, 2 * M), "down": (E, M, D)}
        self.experts = nn.ParameterDict({name: torch.empty(shape) for name, shape in shapes.items()})
        self.n_chosen = config.n_chosen

    def forward(self, x):
        """x: (B, T, D) → (B, T, D)"""
        tokens = x.flatten(0, 1)  # (N, D)
        scores, chosen = self.router(tokens).topk(self.n_chosen, dim=-1)  # (N, n_chosen)
        out = self.shared(tokens)
        for expert, gate_up in enumerate(self.experts["gate_up"]):
            rows, place = (chosen == expert).nonzero(as_tuple=True)
            inputs = tokens[rows] * scores[rows, place, None].sigmoid()
            gate, up = (inputs @ gate_up).chunk(2, dim=-1)
            out = out.index_add(0, rows, F.silu(gate) * up @ self.experts["down"][expert])
        return out.view_as(x)


@dataclass(frozen=True)
class Llama4Config(LlamaConfig):
    """The shape of the text part of a Llama 4."""

    n_kv_heads: int = 5
    d_head: int = 32
    norm_eps: float = 1e-5
    d_ff: int = 256  # of one expert, and of the net that is shared
    d_ff_dense: int = 432  # of the net in a layer without experts
    n_experts: int = 4
    n_chosen: int = 1
    expert_layers: tuple | None = None  # None: all
    rotary_layers: tuple | None = None  # a 1 or 0 for each layer; None: all but every fourth
    layer_types: tuple | None = None  # None: "chunked_attention" where rotary, else "full_attention"
    chunk: int = 8192
    qk_norm: bool = True
    tuned: bool = True  # in layers without positions the queries of late tokens grow
    tune_every: float = 8192
    tune_by: float = 0.1


class Llama4Attention(GroupedAttention):
    """Rotary within a chunk of the text, or over all of it and without positions."""

    in_pairs, chunked = True, False

    def __init__(self, config):
        super().__init__(config)
        self.config = config

    def turn(self, q, k, positions):
        q, k = super().turn(q, k, positions)
        if self.config.qk_norm and self.rotary:
            q, k = (F.rms_norm(x, x.shape[-1:], eps=self.config.norm_eps) for x in (q, k))
        return q, k

    def mix(self, q, k, v, mask):
        c, T, S = self.config, q.size(-2), k.size(-2)
        slots = torch.arange(S, device=q.device)
        if c.tuned and not self.rotary:
            late = torch.log1p(((slots[-T:, None] + 1) / c.tune_every).floor())
            q = q * (1 + c.tune_by * late).to(q.dtype)
        if self.chunked and S > c.chunk:  # the first chunk starts behind the padding
            first = 0 if mask is None else mask[..., -1:, :].int().argmax(-1, keepdim=True)
            chunks = (slots[None] - first).div(c.chunk, rounding_mode="floor")  # (..., 1, S)
            mask = both(mask, chunks == chunks[..., -T:].transpose(-2, -1))
        return super().mix(q, k, v, mask)


class Llama4Block(LlamaBlock):
    """LLaMA's block with experts."""

    make_attention, make_feed_forward = Llama4Attention, Experts


class Llama4(LLaMA):
    """The text model of Llama 4 (Meta 2025): experts, chunks, and layers without positions."""

    make_block = Llama4Block

    def vary(self, block, layer):
        c = self.config
        rotary = bool(c.rotary_layers[layer] if c.rotary_layers else (layer + 1) % 4)
        kind = "chunked_attention" if rotary else "full_attention"
        block.attention.rotary = rotary
        block.attention.chunked = (c.layer_types[layer] if c.layer_types else kind) == "chunked_attention"
        if c.expert_layers is not None and layer not in c.expert_layers:
            block.feed_forward = GatedFeedForward(c, c.d_ff_dense)


Llama4.model_type, Llama4.make_config = "llama4_text", Llama4Config
Llama4.published_classes = {"language": "Llama4ForCausalLM", None: "Llama4TextModel"}
Llama4.published_config = LLaMA.published_config | {
    "intermediate_size_mlp": "d_ff_dense",
    "num_local_experts": "n_experts",
    "num_experts_per_tok": "n_chosen",
    "moe_layers": "expert_layers",
    "no_rope_layers": "rotary_layers",
    "layer_types": "layer_types",
    "attention_chunk_size": "chunk",
    "use_qk_norm": "qk_norm",
    "attn_temperature_tuning": "tuned",
    "floor_scale": "tune_every",
    "attn_scale": "tune_by",
}
Llama4.published_optional = LLaMA.published_optional | {"layer_types", "no_rope_layers", "moe_layers"}
Llama4.published_names = {key: ours for key, ours in LLaMA.published_names.items() if key != "mlp"} | {
    "gate_up_proj": "gate_up",
    "shared_expert": "shared",
}
