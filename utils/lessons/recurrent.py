"""The code of lesson 03_recurrent_networks, for the pages after it.

Made from the cells tagged `export` of notebooks/03_recurrent_networks.ipynb.
Never edit: change the page, then `make made`.
"""

import math

import torch
from torch import nn


class Recurrent(nn.Module):
    """One layer that reads from left to right; a family says how a step changes the memory.

    n_sums      weighted sums that a step makes for each of its D units
    n_memories  vectors (B, D) that it hands on; the first one is shown to the outside
    """

    n_sums, n_memories = 1, 1

    def __init__(self, d_input, d_model):
        super().__init__()
        self.d_model = d_model
        self.read = nn.Linear(d_input, self.n_sums * d_model)
        self.carry = nn.Linear(d_model, self.n_sums * d_model)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(d_model), 1 / math.sqrt(d_model))

    def forward(self, x, memory=None):
        """x: (B, T, d_input) → what is shown at each step (B, T, D), and the memory after the last."""
        if memory is None:
            memory = (x.new_zeros(len(x), self.d_model),) * self.n_memories
        shown = []
        for sums in self.read(x).unbind(dim=1):  # (B, n_sums * D), once for each step
            memory = self.step(sums, memory)
            shown.append(memory[0])
        return torch.stack(shown, dim=1), memory


class RNN(Recurrent):
    """The new memory is a squashed sum. Source: Elman 1990."""

    def step(self, sums, memory):
        (h,) = memory
        return (torch.tanh(sums + self.carry(h)),)


class LSTM(Recurrent):
    """A memory c that is not squashed, and gates. Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000."""

    n_sums, n_memories = 4, 2

    def step(self, sums, memory):
        h, c = memory
        i, f, g, o = (sums + self.carry(h)).chunk(4, dim=-1)  # (B, D) each
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GRU(Recurrent):
    """What is not kept is replaced. Source: Cho et al. 2014, in torch's form."""

    n_sums = 3

    def step(self, sums, memory):
        (h,) = memory
        (r, z, n), (r_back, z_back, n_back) = (part.chunk(3, dim=-1) for part in (sums, self.carry(h)))
        z = (z + z_back).sigmoid()  # (B, D)
        proposal = (n + (r + r_back).sigmoid() * n_back).tanh()
        return ((1 - z) * proposal + z * h,)


def tables(layer):
    """The four tables of a layer in torch's order: read and carry weights, read and carry biases."""
    if isinstance(layer, Recurrent):
        return [layer.read.weight, layer.carry.weight, layer.read.bias, layer.carry.bias]
    return list(layer.parameters())


@torch.no_grad()
def to_torch(layer):
    """torch's own layer (nn.RNN, nn.LSTM or nn.GRU) with the weights of ours."""
    theirs = getattr(nn, type(layer).__name__)(layer.read.in_features, layer.d_model, batch_first=True)
    for table, ours in zip(tables(theirs), tables(layer)):
        table.copy_(ours)
    return theirs


class Reader(nn.Module):
    """Embedding, a layer that reads, and a head that scores every possible answer at each step."""

    def __init__(self, layer, n_symbols, d_model, n_answers=None):
        super().__init__()
        self.symbols = nn.Embedding(n_symbols, d_model)
        self.layer = layer
        self.head = nn.Linear(d_model, n_answers or n_symbols)

    def forward(self, ids, memory=None):
        """ids: (B, T) → scores (B, T, V), and the memory after the last step."""
        shown, memory = self.layer(self.symbols(ids), memory)
        return self.head(shown), memory


def recall(n, distance, generator=None):
    """n texts of the recall task: a symbol 0…7, `distance` distractors 8…15, the mark 16.

    Returns ids (n, distance + 2), and the symbols (n,), which are to be named at the mark.
    """
    symbol = torch.randint(0, 8, (n, 1), generator=generator)
    distractors = torch.randint(8, 16, (n, distance), generator=generator)
    return torch.cat([symbol, distractors, torch.full((n, 1), 16)], dim=1), symbol[:, 0]
