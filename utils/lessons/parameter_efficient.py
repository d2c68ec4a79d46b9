"""The code of lesson 18_parameter_efficient, for the pages after it.

Made from the cells tagged `export` of notebooks/18_parameter_efficient.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F


class LoRA(nn.Module):
    """A frozen linear layer and a detour of rank r beside it: W x + (alpha / r) B A x.

    base: maps (…, inputs) to (…, outputs)   a: (r, inputs), random   b: (outputs, r), zero
    Source: Hu et al. 2021, section 4.1; a starts as in their code.
    """

    def __init__(self, base, rank=4, alpha=8, generator=None):
        super().__init__()
        outputs, inputs = base.weight.shape
        self.base, self.scale = base, alpha / rank
        self.a = nn.Parameter(base.weight.new_empty(rank, inputs))
        self.b = nn.Parameter(base.weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5), generator=generator)

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.a), self.b * self.scale)

    @property
    def weight(self):
        """What the layer amounts to, (outputs, inputs): for all who look at its matrix."""
        return self.base.weight + self.scale * self.b @ self.a

    @property
    def bias(self):
        return self.base.bias


def wrap(model, where, make):
    """Freeze `model`, and put make(layer) in the place of every layer whose name is in `where`.

    Returns the parameters that came with it: all that learns now.
    """
    places = [name for name, _ in model.named_modules() if name.split(".")[-1] in where]
    if not places:
        raise ValueError(f"no layer of {type(model).__name__} is called {' or '.join(where)}")
    model.requires_grad_(False)
    for name in places:
        parent, _, last = name.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, last, make(getattr(holder, last)))
    return learned(model)


def learned(model):
    """The parameters that learn."""
    return [p for p in model.parameters() if p.requires_grad]


def add_lora(model, rank=4, alpha=8, where=("qkv",), seed=0):
    """LoRA on every layer of `model` that `where` names; the rest is frozen. Returns its a's and b's."""
    generator = torch.Generator().manual_seed(seed)
    return wrap(model, where, lambda layer: LoRA(layer, rank, alpha, generator))


@torch.no_grad()
def merge(model):
    """Add every detour to its matrix for good: `model` is an ordinary one again. Returns it."""
    for name, layer in reversed(list(model.named_modules())):  # the innermost first
        if isinstance(layer, LoRA):
            layer.base.weight += layer.scale * layer.b @ layer.a
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.base)
    return model


@contextmanager
def without_lora(model):
    """Within the block the detours are closed: the model computes what its base does."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoRA)]
    scales = [layer.scale for layer in layers]
    try:
        for layer in layers:
            layer.scale = 0.0
        yield model
    finally:
        for layer, scale in zip(layers, scales):
            layer.scale = scale


class Adapter(nn.Module):
    """A layer and, behind it, a bottleneck that adds to what it says: y + widen(gelu(narrow(y))).

    base: maps (…, inputs) to (…, D)   narrow: (m, D), random   widen: (D, m), zero
    Source: Houlsby et al. 2019, section 2.1; they start near zero, here it is zero.
    """

    def __init__(self, base, width=8, generator=None):
        super().__init__()
        D = base.weight.size(0)
        self.base, self.narrow, self.widen = base, nn.Linear(D, width), nn.Linear(width, D)
        nn.init.normal_(self.narrow.weight, std=D**-0.5, generator=generator)
        for zero in (self.narrow.bias, self.widen.weight, self.widen.bias):
            nn.init.zeros_(zero)

    def forward(self, x):
        y = self.base(x)
        return y + self.widen(F.gelu(self.narrow(y)))


def add_adapters(model, width=8, where=("out", "down"), seed=0):
    """An adapter behind every layer that `where` names; the rest is frozen. Returns what learns."""
    generator = torch.Generator().manual_seed(seed)
    return wrap(model, where, lambda layer: Adapter(layer, width, generator))


def only_biases(model):
    """Let nothing but the biases of `model` learn. Returns them."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("bias")
    return learned(model)


class PromptTable(nn.Module):
    """A table of embeddings that answers the first n ids of every text with its own n vectors."""

    def __init__(self, table, vectors):
        super().__init__()
        self.table, self.vectors = table, nn.Parameter(vectors)

    @property
    def weight(self):
        return self.table.weight

    def forward(self, ids):
        x = self.table(ids[:, len(self.vectors) :])  # (B, T, D)
        return torch.cat([self.vectors.expand(len(ids), -1, -1), x], dim=1)  # (B, n + T, D)


class Prompted(nn.Module):
    """A frozen model with n trained vectors in front of every text.

    vectors: (n, D), their start; by default those of n tokens drawn with `seed`
    Source: Lester et al. 2021, section 2; the start is theirs, too (section 3.2).
    """

    def __init__(self, model, n=10, seed=0, vectors=None):
        super().__init__()
        self.model, self.config = model.requires_grad_(False), model.config
        holder = getattr(model, "inputs", model)  # where this family keeps its table
        if vectors is None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randint(len(holder.tokens.weight), (n,), generator=generator)
            vectors = holder.tokens.weight[drawn].detach().clone()
        holder.tokens = PromptTable(holder.tokens, vectors)
        self.n = len(vectors)

    def hidden(self, ids, mask=None, **how):
        """The states (B, T, D) of the text alone; those of the prompt are cut off."""
        mask = None if mask is None else F.pad(mask, (self.n, 0), value=True)
        return self.model.hidden(F.pad(ids, (self.n, 0)), mask, **how)[:, self.n :]

    @property
    def head(self):
        return self.model.head

    def forward(self, ids, mask=None, **how):
        """ids (B, T) → what the model says, (B, T, V) or (B, T, D)."""
        states = self.hidden(ids, mask, **how)
        return self.head(states) if self.head else states


class Prefix(nn.Module):
    """A frozen decoder whose cache holds n trained keys and values in every layer.

    state: (L, 2, H, n, K); by default what the model itself makes of n tokens drawn with `seed`
    Source: Li and Liang 2021, section 4.2, without the net that makes the numbers there.
    """

    def __init__(self, model, n=10, seed=0, state=None):
        super().__init__()
        self.model, self.config, self.head = model.requires_grad_(False), model.config, model.head
        if state is None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randint(len(model.tokens.weight), (1, n), generator=generator)
            with torch.no_grad():
                model.hidden(drawn, cache=(cache := model.new_cache(1, n)))
            state = torch.stack([cache.keys[:, 0], cache.values[:, 0]], dim=1)
        self.state, self.length = nn.Parameter(state), state.size(3)

    def append(self, layer, k, v):
        """What a layer may look at, (B, H, n + T, K): the trained ones, then those of the text."""
        own = self.state[layer, :, None].expand(-1, len(k), -1, -1, -1)  # (2, B, H, n, K)
        return torch.cat([own[0], k], dim=2), torch.cat([own[1], v], dim=2)

    def hidden(self, ids, mask=None):
        """The states (B, T, D) of the text behind the prefix."""
        n = self.length = self.state.size(3)  # the model will count the text, too: begin anew
        mask = None if mask is None else F.pad(mask, (n, 0), value=True)
        return self.model.hidden(ids, mask, cache=self)

    def forward(self, ids, mask=None):
        """Logits (B, T, V), or states where there is no head."""
        states = self.hidden(ids, mask)
        return self.head(states) if self.head else states
