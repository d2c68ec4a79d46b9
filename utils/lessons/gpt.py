"""The code of lesson 12_gpt, for the pages after it.

Made from the cells tagged `export` of notebooks/12_gpt.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


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
        """Store k, v (B, H, T, K) behind what layer `layer` holds; return all it holds, (B, H, S, K) each."""
        end = self.length + k.size(2)
        if end > self.keys.size(3):
            raise ValueError(f"The cache has {self.keys.size(3)} slots, {end} are needed: make it longer.")
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


def attend(q, k, v, mask=None):
    """Mix the values by how well each query matches each key.

    q: (B, H, T, K)   k, v: (B, H, S, K)   mask: (B, 1, T, S), True where a query may look; None is plain causal
    In bf16 a processor learns faster with the formula written out than through the fused kernel.
    """
    if mask is None and q.dtype == torch.bfloat16 and q.requires_grad and not q.is_cuda:
        future = torch.full((q.size(2), q.size(2)), -math.inf, dtype=q.dtype).triu(1)
        return (q / math.sqrt(q.size(-1)) @ k.transpose(-2, -1) + future).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and q.size(2) > 1)


class Attention(nn.Module):
    """Causal self-attention with several heads; one matrix makes queries, keys and values at once."""

    def __init__(self, config):
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def forward(self, x, mask=None, cache=None, layer=0):
        """x: (B, T, D)   mask: (B, 1, T, S), True where a query may look; None is plain causal."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, K) each
        if cache is not None:
            k, v = cache.append(layer, k, v)
        return self.out(attend(q, k, v, mask).transpose(1, 2).reshape(B, T, D))


class FeedForward(nn.Module):
    """Each position thinks for itself: four times wider, a bend, and back."""

    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.d_model, 4 * config.d_model)
        self.down = nn.Linear(4 * config.d_model, config.d_model)

    def forward(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Look around, then think; each reads a normed copy (pre-norm) and is added to what was there."""

    def __init__(self, config):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(self, x, mask=None, cache=None, layer=0):
        x = x + self.attention(self.norm_1(x), mask, cache, layer)
        return x + self.feed_forward(self.norm_2(x))


def visible(mask, T, start, device=None):
    """The mask that attention wants, (B, 1, T, S), or None where plain causal attention is meant.

    mask: None, (B, S) with True for real tokens, or (B, T, S) with True where a query may look
    T: queries in this call   start: slots that the cache holds already
    """
    if mask is None and (start == 0 or T == 1):
        return None
    if mask is None or mask.dim() == 2:
        causal = torch.ones(1, T, start + T, dtype=torch.bool, device=device).tril(start)
        mask = causal if mask is None else causal & mask[:, None, :]
        lost = ~mask.any(-1, keepdim=True)  # a query that is padding itself sees no one; nobody reads it
        mask = mask | lost
    return mask[:, None]


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, a last norm, and a head that is the embedding itself.

    Source: Radford et al. 2019, section 2.3.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.n_positions, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        initialise(self)

    def forward(self, ids, mask=None, positions=None, cache=None):
        """ids: (B, T) → logits (B, T, V). For `mask`, `positions` and `cache` see `hidden`."""
        return self.head(self.hidden(ids, mask, positions, cache))


def initialise(model):
    """GPT-2's start: normal(0, 0.02); layers that write into the stream are divided by the root of their number."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            writes = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * model.config.n_layers) if writes else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def hidden(self, ids, mask=None, positions=None, cache=None):
    """The states that the head reads, (B, T, D), for token ids (B, T).

    mask       (B, S), True = a real token, over all S positions, those in the cache included; or
               (B, T, S), True where a query may look, which replaces the causal rule
    positions  (B, T) or (T,); the default counts the real tokens
    cache      a KVCache: what it holds stands before `ids`, and `ids` join it
    """
    T = ids.size(1)
    start = cache.length if cache is not None else 0
    if positions is None:
        positions = torch.arange(start, start + T, device=ids.device)
        if mask is not None and mask.dim() == 2:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -T:]
    mask = visible(mask, T, start, ids.device)
    x = self.tokens(ids) + self.positions(positions)  # (B, T, D)
    for layer, block in enumerate(self.blocks):
        x = block(x, mask, cache, layer)
    if cache is not None:
        cache.length += T
    return self.norm(x)


GPT.hidden = hidden


def new_cache(self, batch, n_slots):
    """An empty cache for `batch` sequences of up to `n_slots` tokens."""
    c, weight = self.config, self.tokens.weight
    return KVCache(c.n_layers, batch, c.n_heads, n_slots, c.d_model // c.n_heads, weight.dtype, weight.device)


GPT.new_cache = new_cache


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


GPT.published_prefix = "transformer."
GPT.published_optional = {"layer_norm_epsilon"}
GPT.published_settings = {
    "architectures": ["GPT2LMHeadModel"],
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
