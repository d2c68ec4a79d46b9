"""The code of lesson 25_hidden_state_optimisation, for the pages after it.

Made from the cells tagged `export` of notebooks/25_hidden_state_optimisation.ipynb.
Never edit: change the page, then `make made`.
"""

import math

import torch
from torch.nn import functional as F

from utils.lessons.likelihood_and_quality import interval


class Memory:
    """What a GPT remembers of its text, as one tensor that a gradient can reach.

    states: (2, L, B, H, S, K), the keys and the values of L layers
    """

    def __init__(self, states):
        self.states, self.length, self.fresh = states, states.size(4), []

    def append(self, layer, k, v):
        """Note k, v (B, H, T, K) of the block that is read; return all that it may look at."""
        self.fresh.append(torch.stack([k, v]))
        old_k, old_v = self.states[:, layer]
        return torch.cat([old_k, k], 2), torch.cat([old_v, v], 2)

    def grown(self):
        """The states, those of the block behind the old ones: (2, L, B, H, S + T, K)."""
        return torch.cat([self.states, torch.stack(self.fresh, 1)], 4)


def no_memory(model, B):
    """States of S = 0 positions for B documents."""
    cache = model.new_cache(B, 0)
    return torch.stack([cache.keys, cache.values])


class Adam:
    """Adam for states that grow: running means and a count of steps for each position.

    Source: Kingma and Ba 2015; separate counts for cached states: Yoshida and Gimpel 2021.
    """

    def __init__(self, rate, betas=(0.9, 0.999), eps=1e-8):
        self.rate, self.betas, self.eps, self.count = rate, betas, eps, None

    def __call__(self, states, slope):
        """states and their slope (2, L, B, H, S, K) → the states, one step lower."""
        if self.count is None:
            self.mean = self.square = slope[..., :0, :]
            self.count = slope.new_zeros(0)
        born = slope.size(4) - len(self.count)
        mean, square = (F.pad(m, (0, 0, 0, born)) for m in (self.mean, self.square))
        self.count = F.pad(self.count, (0, born)) + 1
        self.mean = torch.lerp(slope, mean, self.betas[0])  # 0.9 · mean + 0.1 · slope
        self.square = torch.lerp(slope.square(), square, self.betas[1])
        early = [1 - beta ** self.count[:, None] for beta in self.betas]  # (S, 1) each
        mean, square = self.mean / early[0], self.square / early[1]
        return states - self.rate * mean / (square.sqrt() + self.eps)


class SGD:
    """Plain descent, the control for Adam."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, states, slope):
        return states - self.rate * slope


def nats(logits, targets, temperature=1.0):
    """What each target cost, (B, T), from logits (B, T, V), divided by a temperature."""
    logits = (logits / temperature).transpose(1, 2)
    return F.cross_entropy(logits, targets, reduction="none")


def surprise(logits, targets):
    """The paper's objective: the cost of what came, summed, so that documents stay apart."""
    return nats(logits, targets).sum()


def read(model, ids, step=None, width=8, objective=surprise, whose=None, leak=False):
    """Read documents block by block; after each block, `step` changes what is remembered.

    ids: (B, T + 1)   step: None reads plainly; Adam(rate) or SGD(rate), new in each call
    whose: (B,), the document that lends each one its slope (None: its own), for a control
    leak: True scores a block after its own step, a mistake, to be shown
    Returns logits (B, T, V). Source: Yoshida and Gimpel 2021, sizes and steps are our choice.
    """
    states, told = no_memory(model, len(ids)), []
    for x, y in zip(ids[:, :-1].split(width, 1), ids[:, 1:].split(width, 1)):
        memory = Memory(states.detach().requires_grad_(step is not None))
        logits = model(x, cache=memory)
        if step is not None:
            (slope,) = torch.autograd.grad(objective(logits, y), memory.states)
            slope = slope if whose is None else slope[:, :, whose]
            with torch.no_grad():
                memory = Memory(step(memory.states, slope))
                again = model.hidden(x, cache=memory)
                logits = model.head(again) if leak else logits
        told.append(logits.detach())
        states = memory.grown()
    return torch.cat(told, 1)


def fit_temperature(logits, targets, low=0.5, high=4.0):
    """The temperature with the lowest mean cost, to 2 %, by cutting an interval by thirds."""
    while high / low > 1.02:
        third = (high / low) ** (1 / 3)
        one, two = (nats(logits, targets, low * third**n).mean() for n in (1, 2))
        low, high = (low, low * third**2) if one < two else (low * third, high)
    return math.sqrt(low * high)


def judged(logits, ids, dev):
    """Nats a token of each document after the first `dev`, whose texts fit the temperature."""
    targets = ids[:, 1:]
    temperature = fit_temperature(logits[:dev], targets[:dev])
    return nats(logits[dev:], targets[dev:], temperature).mean(1)


def plus_minus(differences, digits=3):
    """The mean of paired differences (N,) and half of its 95 % interval, for tables."""
    mean, half = interval(differences)
    return f"{mean:+.{digits}f} ± {half:.{digits}f}"
