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
