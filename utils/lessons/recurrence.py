"""The code of lesson 23_recurrence, for the pages after it.

Made from the cells tagged `export` of notebooks/23_recurrence.ipynb.
Never edit: change the page, then `make made`.
"""

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.gpt import GPT, GPTFeedForward


class Slot:
    """Stands where a cache would: in one layer, one key and one value before all others."""

    def __init__(self, layer, key, value):
        self.layer, self.key, self.value = layer, key, value  # (B, H, 1, K) each

    def append(self, layer, k, v):
        """k, v (B, H, W, K) as they are; in its own layer with the slot, (B, H, 1 + W, K)."""
        if layer != self.layer:
            return k, v
        return torch.cat([self.key, k], 2), torch.cat([self.value, v], 2)


class Recurrent(GPT):
    """A GPT that reads window by window and hands a summary on.

    Source: Yoshida, Ettinger and Gimpel 2020, for the idea.
    """

    def __init__(self, config, reads=-1, writes=-1):
        super().__init__(config)
        layers = range(config.n_layers)
        self.reads, self.writes = layers[reads], layers[writes]
        self.think = nn.Sequential(nn.LayerNorm(config.d_model), GPTFeedForward(config))
        nn.init.zeros_(self.think[1].down.weight)
        nn.init.zeros_(self.think[1].down.bias)

    def slot(self, z):
        """The summary z (B, D) as key and value, made by the block that will see it."""
        block = self.blocks[self.writes]
        _, key, value = block.attention.project(block.norm_1(z[:, None]))
        return Slot(self.writes, key, value)

    def summarise(self, states, z):
        """States (B, W, D) of a window and the summary so far, (B, D) or None → the next."""
        mean = states.mean(1) if z is None else (states.mean(1) + z) / 2
        return mean + self.think(mean)


def window(self, ids, z=None):
    """One window: ids (B, W), the summary so far → logits (B, W, V), the next summary."""
    x = self.enter(ids, torch.arange(ids.size(1)))
    slot = None if z is None else self.slot(z)
    for layer, block in enumerate(self.blocks):
        if layer == self.reads:
            z = self.summarise(x, z)
        x = block(x, cache=slot, layer=layer)
    return self.head(self.norm(x)), z


def costs(self, ids, z=None):
    """What each of ids (B, W + 1) after the first costs, (B, W), and the next summary."""
    logits, z = self.window(ids[:, :-1], z)
    # float: training computes in 16 bits, too coarse for a cost
    return F.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none"), z


Recurrent.window, Recurrent.costs = window, costs


def keep(z):
    """Memory: the next window gets the summary."""
    return z


def drop(z):
    """The control: the next window gets none."""
    return None


def swap(z):
    """Every text gets the summary of another."""
    return z.roll(1, 0)


def read(model, ids, W, hand_on=keep):
    """What each token of ids (B, n W + 1) after the first costs, (B, n W), in windows of W."""
    z, found = None, []
    for begin in range(0, ids.size(1) - 1, W):
        nats, z = model.costs(ids[:, begin : begin + W + 1], z)
        z = hand_on(z)
        found.append(nats)
    return torch.cat(found, 1)
