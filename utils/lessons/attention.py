"""The code of lesson 04_attention, for the pages after it.

Made from the cells tagged `export` of notebooks/04_attention.ipynb.
Never edit: change the page, then `make made`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def attend(q, k, v, mask=None):
    """Mix the values by how well each query matches each key.

    q: (..., T, K)   k, v: (..., S, K)   mask: (..., T, S), True where a query may look
    Returns the mixture (..., T, K) and the weights (..., T, S); each row of weights sums to 1.
    Source: Vaswani et al. 2017, equation 1.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


def gradients(output, inputs):
    """How a fixed weighted sum of all outputs changes with each of the inputs."""
    factors = torch.linspace(-1, 1, output.numel()).view_as(output)
    return torch.autograd.grad((output * factors).sum(), inputs)


def causal_mask(T, S=None, device=None):
    """(T, S), True where the T last of S positions may look: at themselves and at all before them."""
    S = T if S is None else S
    return torch.ones(T, S, dtype=torch.bool, device=device).tril(S - T)


def additive(mask, dtype):
    """A mask as numbers to add to the scores: 0 where a query may look, minus infinity elsewhere."""
    return (
        mask.to(dtype)
        if mask.is_floating_point()
        else torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -math.inf)
    )


class Heads(nn.Module):
    """What every attention layer of H heads has: the matrices before and behind the formula."""

    bias = True  # a family may do without

    def __init__(self, config):
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=self.bias)
        self.out = nn.Linear(config.d_model, config.d_model, bias=self.bias)

    def project(self, x, memory=None):
        """Queries from x (B, T, D); keys and values from memory (B, S, D), or from x.

        Returns q (B, H, T, K), k and v (B, H, S, K).
        """
        if memory is None:
            qkv = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, H, K)
            return qkv.permute(2, 0, 3, 1, 4)  # q, k, v: (3, B, H, T, K)
        D = x.size(-1)
        to_q, to_kv = self.qkv.weight.split([D, 2 * D])
        bias_q, bias_kv = self.qkv.bias.split([D, 2 * D]) if self.bias else (None, None)
        q = F.linear(x, to_q, bias_q).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        kv = F.linear(memory, to_kv, bias_kv).unflatten(-1, (2, self.n_heads, -1))
        return q, *kv.permute(2, 0, 3, 1, 4)  # k, v: (2, B, H, S, K)

    def join(self, mixed):
        """The mixtures (B, H, T, K) of all heads side by side, and mixed once more: (B, T, D)."""
        return self.out(mixed.transpose(1, 2).flatten(2))


class Attention(Heads):
    """H heads that attend side by side, to the text itself or to a memory.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    is_causal = False  # what no mask means: see all, or only what is before
    scale = None  # of the scores; None: 1 / sqrt(K)

    def turn(self, q, k, positions):
        """Give queries and keys their positions; here they come with what the layer is fed."""
        return q, k

    def mix(self, q, k, v, mask):
        """The formula, in whichever form is the fastest here; the weights are not kept."""
        T, S = q.size(-2), k.size(-2)
        is_causal = mask is None and self.is_causal and T > 1
        if is_causal and T < S:  # what is in a cache stands before the queries
            mask, is_causal = causal_mask(T, S, q.device), False
        if q.requires_grad and q.dtype == torch.bfloat16 and not q.is_cuda:  # the kernel learns slowly
            mask = causal_mask(T, device=q.device) if is_causal else mask
            scores = q * (self.scale or q.size(-1) ** -0.5) @ k.transpose(-2, -1)
            return (scores if mask is None else scores + additive(mask, q.dtype)).softmax(-1) @ v
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=self.scale)

    def forward(self, x, mask=None, memory=None, positions=None, cache=None, layer=0):
        """x: (B, T, D) → (B, T, D).   mask: (T, S) or (B, 1, T, S), True where a query may look,
        or numbers that are added to the scores."""
        q, k, v = self.project(x, memory)
        q, k = self.turn(q, k, positions)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        return self.join(self.mix(q, k, v, mask))


def sinusoids(n, D):
    """Positions 0 … n - 1 as waves of D / 2 lengths, (n, D): sines first, then cosines.

    Source: Vaswani et al. 2017, section 3.5, where sines and cosines alternate.
    """
    rates = 10_000 ** -(torch.arange(0, D, 2) / D)  # (D / 2,)
    angles = torch.arange(n)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
