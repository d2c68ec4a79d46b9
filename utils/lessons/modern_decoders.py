"""The code of lesson 13_modern_decoders, for the pages after it.

Made from the cells tagged `export` of notebooks/13_modern_decoders.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import Attention, causal_mask
from utils.lessons.gpt import GPT, GPTConfig, KVCache
from utils.lessons.transformer import Block, CausalAttention, FeedForward


@dataclass(frozen=True)
class LlamaConfig(GPTConfig):
    """The shape of a LLaMA; the defaults are the zoo's."""

    n_positions: int = 2048
    n_layers: int = 4
    d_model: int = 160
    norm_eps: float = 1e-6
    d_ff: int = 432
    n_kv_heads: int | None = None  # heads of keys and values; None: as many as of queries
    d_head: int | None = None  # None: d_model / n_heads
    tied: bool = True
    rope_base: float = 10_000.0
    rope_scaling: dict | None = None


def rotate(x, cos, sin, in_pairs=False):
    """Turn each pair of numbers of x (..., T, K) by its angle; cos, sin: (..., T, K / 2).

    A pair is number i of the first half with number i of the second, or two neighbours (`in_pairs`).
    Source: Su et al. 2021, "RoFormer", section 3.2.2.
    """
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1) if in_pairs else x.chunk(2, dim=-1)
    turned = a * cos - b * sin, b * cos + a * sin
    return torch.stack(turned, -1).flatten(-2) if in_pairs else torch.cat(turned, -1)


def rates(K, base=10_000.0, scaling=None, device=None):
    """By how many radians each of the K / 2 pairs turns from one position to the next.

    scaling: Llama 3.1's rule: pairs that turn slowly turn `factor` times slower still.
    """
    rates = base ** -(torch.arange(0, K, 2, device=device) / K)
    if not scaling:
        return rates
    turns = scaling["original_max_position_embeddings"] * rates / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # 1: fast, as it was; 0: slow, divided
    return kept * rates + (1 - kept) * rates / scaling["factor"]


class GroupedAttention(CausalAttention):
    """Rotary attention in which several heads of queries share one head of keys and values.

    Source: Ainslie et al. 2023, section 2.2.
    """

    bias, in_pairs, rotary = False, False, True

    def __init__(self, config):
        nn.Module.__init__(self)
        H, G, K = head_counts(config)
        self.n_heads, self.shared, self.sizes = H, H // G, [H * K, G * K, G * K]
        self.qkv = nn.Linear(config.d_model, sum(self.sizes), bias=self.bias)
        self.out = nn.Linear(H * K, config.d_model, bias=self.bias)
        self.d_head = K

    def project(self, x, memory=None):
        """x (B, T, D) → q (B, H, T, K), k and v (B, G, T, K)."""
        parts = self.qkv(x).split(self.sizes, dim=-1)
        return [part.unflatten(-1, (-1, self.d_head)).transpose(1, 2) for part in parts]

    def turn(self, q, k, positions):
        """Turn queries and keys; positions: the cosines and sines of their places."""
        if not self.rotary:
            return q, k
        return rotate(q, *positions, self.in_pairs), rotate(k, *positions, self.in_pairs)

    def mix(self, q, k, v, mask):
        k, v = (x.repeat_interleave(self.shared, dim=1) for x in (k, v))
        return self.formula(q, k, v, self.narrow(mask, q.size(-2), k.size(-2), q.device))

    def formula(self, q, k, v, mask):
        return Attention.mix(self, q, k, v, mask)

    def narrow(self, mask, T, S, device=None):
        """Where a layer sees less than the mask allows, the smaller mask."""
        return mask


def head_counts(config):
    """H heads of queries, G of keys and values, and the width K of each."""
    H = config.n_heads
    return H, config.n_kv_heads or H, config.d_head or config.d_model // H


class GatedFeedForward(FeedForward):
    """SwiGLU: one half of the net says what, the other how much (Shazeer 2020)."""

    bend, bias = staticmethod(F.silu), False

    def __init__(self, config, width=None):
        nn.Module.__init__(self)
        D, M = config.d_model, width or config.d_ff
        self.gate, self.up = nn.Linear(D, M, bias=False), nn.Linear(D, M, bias=False)
        self.down = nn.Linear(M, D, bias=False)

    def forward(self, x):
        return self.down(self.bend(self.gate(x)) * self.up(x))


class LlamaBlock(Block):
    """A pre-norm block with RMS norm, rotary grouped attention and a gated net."""

    make_attention, make_feed_forward, make_norm = GroupedAttention, GatedFeedForward, nn.RMSNorm


class LLaMA(GPT):
    """LLaMA 1 to 3: GPT with RMS norm, rotary positions, gated nets and no biases.

    Source: Touvron et al. 2023, section 2.2.
    """

    make_block = LlamaBlock

    def make_inputs(self, config):
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)

    def make_head(self, config):
        super().make_head(config)
        if not config.tied:
            self.head.weight = nn.Parameter(torch.empty_like(self.tokens.weight))

    def enter(self, ids, positions):
        return self.tokens(ids)

    def run(self, x, positions, **how):
        """Positions (T,) or (B, T) become cosines and sines (…, 1, T, K / 2), once for all layers."""
        c = self.config
        turns = rates(head_counts(c)[2], c.rope_base, c.rope_scaling, x.device)
        angles = (positions[..., None] * turns).unsqueeze(-3)
        return super().run(x, positions=(angles.cos().to(x.dtype), angles.sin().to(x.dtype)), **how)

    def new_cache(self, batch, n_slots):
        """An empty cache for `batch` sequences of up to `n_slots` tokens, G heads each."""
        (_, G, K), weight = head_counts(self.config), self.tokens.weight
        return KVCache(self.config.n_layers, batch, G, n_slots, K, weight.dtype, weight.device)


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
LLaMA.published_optional = {
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "max_position_embeddings",
}
LLaMA.published_defaults = {"tie_word_embeddings": False}
LLaMA.published_settings = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
}
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


def modernise(config):
    """A config.json with its rotary settings under one key each, whatever the year it was written in."""
    rope = dict(config.get("rope_parameters") or {})
    config = {"rope_theta": rope.pop("rope_theta", None), "rope_scaling": rope or None} | {
        key: value for key, value in config.items() if value is not None
    }
    scaling = dict(config["rope_scaling"] or {})
    kind = scaling.setdefault("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"rope_scaling is of type {kind!r}, the course builds 'default' and 'llama3'")
    return config | {"rope_scaling": scaling if kind == "llama3" else None}


LLaMA.read_config = staticmethod(modernise)


class OlmoAttention(GroupedAttention):
    """Queries and keys are normed before they meet (OLMo 2, 2025, section 3)."""

    def __init__(self, config):
        super().__init__(config)
        self.q_norm = nn.RMSNorm(self.sizes[0], eps=config.norm_eps)
        self.k_norm = nn.RMSNorm(self.sizes[1], eps=config.norm_eps)

    def project(self, x, memory=None):
        q, k, v = self.qkv(x).split(self.sizes, dim=-1)
        parts = self.q_norm(q), self.k_norm(k), v
        return [part.unflatten(-1, (-1, self.d_head)).transpose(1, 2) for part in parts]


class OlmoBlock(LlamaBlock):
    """The norm stands behind each part, before the sum."""

    make_attention = OlmoAttention

    def add(self, x, norm, part, **how):
        return x + norm(part(x, **how))


class OLMo2(LLaMA):
    """OLMo 2: LLaMA with norms behind the parts and normed queries and keys."""

    make_block = OlmoBlock


OLMo2.model_type = "olmo2"
OLMo2.published_classes = {"language": "Olmo2ForCausalLM", None: "Olmo2Model"}
OLMo2.published_config = {key: ours for key, ours in LLaMA.published_config.items() if key != "head_dim"}
OLMo2.published_settings = {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0}
OLMo2.published_names = {
    **{theirs: ours for theirs, ours in LLaMA.published_names.items() if theirs != "input_layernorm"},
    "post_attention_layernorm": "norm_1",
    "post_feedforward_layernorm": "norm_2",
}


@dataclass(frozen=True)
class GemmaConfig(LlamaConfig):
    """The shape of a Gemma 2."""

    n_kv_heads: int = 5
    d_head: int = 32
    score_size: float = 32  # scores are divided by its root
    score_cap: float | None = None  # 50 in the published ones
    logit_cap: float | None = None  # 30 in the published ones
    window: int = 64
    layer_types: tuple | None = None  # None: "sliding_attention" and "full_attention" take turns


def soft_cap(x, cap):
    """x where it is small, never beyond ± cap."""
    return x if cap is None else cap * torch.tanh(x / cap)


class GemmaNorm(nn.RMSNorm):
    """RMS norm whose scale is 1 + weight, so that weight decay pulls the scale to 1."""

    def reset_parameters(self):
        nn.init.zeros_(self.weight)

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, 1 + self.weight, self.eps)


class GemmaAttention(GroupedAttention):
    """Grouped attention with capped scores, in some layers through a window."""

    window = None

    def __init__(self, config):
        super().__init__(config)
        self.scale, self.cap = config.score_size**-0.5, config.score_cap

    def formula(self, q, k, v, mask):
        if mask is None:
            mask = causal_mask(q.size(-2), k.size(-2), q.device)
        scores = soft_cap(q @ k.transpose(-2, -1) * self.scale, self.cap)
        return scores.masked_fill(~mask, -math.inf).softmax(-1) @ v

    def narrow(self, mask, T, S, device=None):
        """With a window, a query sees itself and the window - 1 slots before it."""
        if not self.window or S <= self.window:
            return mask
        slots = torch.arange(S, device=device)
        return both(mask, slots > slots[-T:, None] - self.window)


def both(mask, near):
    """True where the mask (None: the causal one) and `near` (…, T, S) allow it; a query that sees no one sees all."""
    mask = near & (causal_mask(*near.shape[-2:], near.device) if mask is None else mask)
    return mask | ~mask.any(-1, keepdim=True)


class GemmaFeedForward(GatedFeedForward):
    """GeGLU: the gate is a GELU (Shazeer 2020)."""

    bend = staticmethod(lambda x: F.gelu(x, approximate="tanh"))


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
    """Gemma 2: LLaMA with GeGLU, four norms, windows in every other layer and soft caps (Gemma Team 2024)."""

    make_block = GemmaBlock

    def vary(self, block, layer):
        kinds = self.config.layer_types
        if kinds[layer] == "sliding_attention" if kinds else layer % 2 == 0:
            block.attention.window = self.config.window

    def enter(self, ids, positions):
        return self.tokens(ids) * math.sqrt(self.config.d_model)

    def forward(self, ids, mask=None, positions=None, cache=None):
        """ids: (B, T) → logits (B, T, V), none beyond the cap, or states where there is no head."""
        out = super().forward(ids, mask, positions, cache)
        return soft_cap(out, self.config.logit_cap) if self.head else out


Gemma2.model_type, Gemma2.make_config = "gemma2", GemmaConfig
Gemma2.published_classes = {"language": "Gemma2ForCausalLM", None: "Gemma2Model"}
Gemma2.published_config = {
    **LLaMA.published_config,
    "query_pre_attn_scalar": "score_size",
    "attn_logit_softcapping": "score_cap",
    "final_logit_softcapping": "logit_cap",
    "sliding_window": "window",
    "layer_types": "layer_types",
}
Gemma2.published_optional = {"layer_types", "attn_logit_softcapping", "final_logit_softcapping"} | {
    *LLaMA.published_optional
} - {"num_key_value_heads", "head_dim"}
Gemma2.published_defaults = {
    "tie_word_embeddings": True,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
Gemma2.published_settings = {
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "use_bidirectional_attention": False,
}
Gemma2.published_names = {
    **{theirs: ours for theirs, ours in LLaMA.published_names.items() if ours != "norm_2"},
    "post_attention_layernorm": "after_1",
    "pre_feedforward_layernorm": "norm_2",
    "post_feedforward_layernorm": "after_2",
}


@dataclass(frozen=True)
class Llama4Config(LlamaConfig):
    """The shape of the text part of a Llama 4."""

    n_kv_heads: int = 5
    d_head: int = 32
    norm_eps: float = 1e-5
    tied: bool = False
    d_ff: int = 256  # of one expert, and of the net that every token uses
    d_ff_dense: int = 432  # of the net in a layer without experts
    n_experts: int = 4
    n_chosen: int = 1
    expert_layers: tuple | None = None  # None: all
    rotary_layers: tuple | None = None  # one 1 or 0 a layer; None: all but every fourth
    layer_types: tuple | None = None  # None: "chunked_attention" where rotary, else "full_attention"
    chunk: int = 8192
    qk_norm: bool = True
    tuned: bool = True  # queries of far tokens grow, in layers without positions
    tune_every: float = 8192
    tune_by: float = 0.1


class Experts(nn.Module):
    """A router sends each token to few of many nets; one net more is used by all.

    Source: the text model of Llama 4; the idea of a sparse layer: Shazeer et al. 2017.
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
        y = self.shared(tokens)
        for expert, (gate_up, down) in enumerate(zip(self.experts["gate_up"], self.experts["down"])):
            rows, place = (chosen == expert).nonzero(as_tuple=True)
            inputs = tokens[rows] * scores[rows, place, None].sigmoid()
            gate, up = (inputs @ gate_up).chunk(2, dim=-1)
            y = y.index_add(0, rows, (F.silu(gate) * up) @ down)
        return y.view_as(x)


class Llama4Attention(GroupedAttention):
    """Rotary layers see their own chunk of the text; the others see all of it and know no positions."""

    in_pairs, chunked = True, False

    def __init__(self, config):
        super().__init__(config)
        self.config = config

    def turn(self, q, k, positions):
        q, k = super().turn(q, k, positions)
        if self.config.qk_norm and self.rotary:
            q, k = (F.rms_norm(x, x.shape[-1:], eps=self.config.norm_eps) for x in (q, k))
        return q, k

    def formula(self, q, k, v, mask):
        c, T, S = self.config, q.size(-2), k.size(-2)
        if c.tuned and not self.rotary:
            slots = torch.arange(S - T, S, device=q.device)
            growth = 1 + c.tune_by * torch.log1p((slots + 1).div(c.tune_every).floor())
            q = q * growth[:, None].to(q.dtype)
        return super().formula(q, k, v, mask)

    def narrow(self, mask, T, S, device=None):
        """With chunks, a query sees the slots of its own chunk; the first chunk starts behind the padding."""
        if not self.chunked or S <= self.config.chunk:
            return mask
        first = 0 if mask is None else mask[..., -1:, :].int().argmax(-1, keepdim=True)  # (B, 1, 1, 1)
        chunks = (torch.arange(S, device=device) - first).div(self.config.chunk, rounding_mode="floor")
        if mask is None:
            chunks = chunks[None]
        return both(mask, chunks == chunks[..., -T:].transpose(-2, -1))


class Llama4Block(LlamaBlock):
    """LLaMA's block; its net may be one of experts."""

    make_attention, make_feed_forward = Llama4Attention, Experts


class Llama4(LLaMA):
    """The text model of Llama 4: experts, chunks, and some layers without positions."""

    make_block = Llama4Block

    def vary(self, block, layer):
        c = self.config
        rotary = c.rotary_layers[layer] if c.rotary_layers else (layer + 1) % 4
        block.attention.rotary = bool(rotary)
        block.attention.chunked = c.layer_types[layer] == "chunked_attention" if c.layer_types else rotary
        if c.expert_layers is not None and layer not in c.expert_layers:
            block.feed_forward = GatedFeedForward(c, c.d_ff_dense)


Llama4.model_type, Llama4.make_config = "llama4_text", Llama4Config
Llama4.published_classes = {"language": "Llama4ForCausalLM", None: "Llama4TextModel"}
Llama4.published_config = {
    **LLaMA.published_config,
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
Llama4.published_optional = {"layer_types", "no_rope_layers", "moe_layers"} | {*LLaMA.published_optional} - {
    "num_key_value_heads",
    "head_dim",
}
Llama4.published_settings = {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0}
Llama4.published_names = {
    **{theirs: ours for theirs, ours in LLaMA.published_names.items() if theirs != "mlp"},
    "gate_up_proj": "gate_up",
    "shared_expert": "shared",
}
