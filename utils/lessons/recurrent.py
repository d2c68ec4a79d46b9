"""The code of lesson 03_recurrent_networks, for the pages after it.

Made from the cells tagged `export` of notebooks/03_recurrent_networks.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F


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
            memory = (x.new_zeros(len(x), self.d_model),) * self.n_memories  # (h,), or (h, c)
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
    """A memory c that is not squashed, and gates. Source: Hochreiter, Schmidhuber 1997; Gers et al. 2000."""

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


def update(model, loss, optimizer):
    """One step of training; the gradient's norm is clipped at 1, for recurrent gradients can also explode."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1)
    optimizer.step()
    return loss.item()


def train_on_text(model, ids, n_steps, n_rows=32, length=48):
    """Truncated back-propagation: row b of a window goes on where row b of the window before stopped."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, fused=True)
    rows = ids[: len(ids) // n_rows * n_rows].view(n_rows, -1)  # (B, len(ids) / B)
    memory, losses = None, []
    for start in range(0, n_steps * length, length):
        window = rows[:, start : start + length + 1]
        scores, memory = model(window[:, :-1], memory)
        memory = tuple(part.detach() for part in memory)
        loss = F.cross_entropy(scores.flatten(0, 1), window[:, 1:].flatten())
        losses.append(update(model, loss, optimizer))
    return losses


def reach(layer, x):
    """How much the last step changes with each input of x (B, T, D): gradient norms (T,), last input first.

    One random question is put to each last state: how much is there of a random direction?
    """
    layer = deepcopy(layer).double()  # a copy, for `double` changes the layer; float32 has no square of 1e-23
    x = x.detach().double().requires_grad_()
    last = layer(x)[0][:, -1]  # (B, D)
    question = torch.randn(last.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((last * F.normalize(question, dim=-1)).sum(), x)
    return gradient.square().sum(-1).mean(0).sqrt().flip(0)


def recall(n, distance, generator=None):
    """n texts of the recall task: a symbol 0…7, `distance` distractors 8…15, the mark 16.

    Returns ids (n, distance + 2), and the symbols (n,), which are to be named at the mark.
    """
    symbol = torch.randint(0, 8, (n, 1), generator=generator)
    distractors = torch.randint(8, 16, (n, distance), generator=generator)
    return torch.cat([symbol, distractors, torch.full((n, 1), 16)], dim=1), symbol[:, 0]


def teach(model, distances, n_steps, seed, look=None):
    """Train on recall, 32 texts a step, all of one of these distances; `look(model)` every 25 steps."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for step in range(n_steps):
        if look and step % 25 == 0:
            look(model)
        distance = distances[int(torch.randint(len(distances), (1,), generator=generator))]
        ids, symbols = recall(32, distance, generator)
        update(model, F.cross_entropy(model(ids)[0][:, -1], symbols), optimizer)
    return model


@torch.no_grad()
def share_right(model, distance):
    """How often the reader names the symbol, in 500 new texts."""
    ids, symbols = recall(500, distance, torch.Generator().manual_seed(distance))
    return (model(ids)[0][:, -1].argmax(-1) == symbols).float().mean().item()
