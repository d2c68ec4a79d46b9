"""The recurrent layers against torch's: outputs, last memory and every gradient; the reader; the recall task."""

import random

import pytest
import torch
from torch import nn

from utils.lessons.recurrent import (
    GRU,
    LSTM,
    RNN,
    Reader,
    reach,
    recall,
    share_right,
    tables,
    teach,
    to_torch,
)

FAMILIES = (RNN, LSTM, GRU)
SIZES = [
    tuple(random.Random(seed).randint(1, 24) for _ in range(4)) for seed in range(12)
]  # B, T, d_input, D
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


def for_torch(memory):
    """A memory of ours, a tuple of (B, D), as torch's layers take it."""
    h, *rest = (part[None] for part in memory)
    return (h, *rest) if rest else h


def parts(memory):
    """A memory of torch's as ours: a tuple of (B, D)."""
    return tuple(part[0] for part in (memory if isinstance(memory, tuple) else (memory,)))


@each_family
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "x".join(map(str, sizes)))
def test_equal_to_torch_with_every_gradient(family, sizes):
    B, T, d_input, D = sizes
    torch.manual_seed(sum(sizes))
    ours = family(d_input, D)
    theirs = to_torch(ours)
    x = torch.randn(B, T, d_input, requires_grad=True)
    start = tuple(torch.randn(B, D, requires_grad=True) for _ in range(ours.n_memories))
    mixture = torch.randn(B, T, D)
    answers = []
    for layer, memory in ((ours, start), (theirs, for_torch(start))):
        shown, last = layer(x, memory)
        last = last if layer is ours else parts(last)
        loss = (shown * mixture).sum() + sum(part.square().sum() for part in last)
        answers.append([shown, *last, *torch.autograd.grad(loss, [x, *start, *tables(layer)])])
    torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=1e-5)


@each_family
def test_no_memory_is_a_memory_of_zeros(family):
    layer, x = family(5, 7), torch.randn(2, 6, 5)
    zeros = (torch.zeros(2, 7),) * layer.n_memories
    torch.testing.assert_close(layer(x), layer(x, zeros), atol=0, rtol=0)


@each_family
def test_two_windows_are_one_text(family):
    layer, x = family(5, 7), torch.randn(2, 9, 5)
    first, memory = layer(x[:, :4])
    second, last = layer(x[:, 4:], memory)
    whole, expected = layer(x)
    torch.testing.assert_close((torch.cat([first, second], 1), last), (whole, expected), atol=1e-6, rtol=0)


@each_family
def test_a_step_sees_its_past_only(family):
    layer, x = family(5, 7), torch.randn(1, 8, 5, requires_grad=True)
    reach = torch.autograd.grad(layer(x)[0][0, 4].sum(), x)[0][0].abs().sum(-1)
    assert (reach[:5] > 0).all() and (reach[5:] == 0).all()


@each_family
def test_the_start_is_torchs(family):
    D = 64
    torch.manual_seed(0)
    for ours, theirs in zip(tables(family(D, D)), tables(getattr(nn, family.__name__)(D, D))):
        assert ours.shape == theirs.shape and ours.abs().max() <= D**-0.5
        assert abs(ours.std() / (3 * D) ** -0.5 - 1) < 0.2 and abs(theirs.std() / (3 * D) ** -0.5 - 1) < 0.2


def test_the_reader_answers_at_every_step():
    for layer in (LSTM(6, 6), nn.LSTM(6, 6, batch_first=True)):
        ids = torch.randint(11, (3, 5))
        assert Reader(layer, 11, 6)(ids)[0].shape == (3, 5, 11)
        assert Reader(layer, 11, 6, n_answers=4)(ids)[0].shape == (3, 5, 4)


def test_recall_asks_for_its_first_symbol():
    ids, symbols = recall(400, 30, torch.Generator().manual_seed(0))
    assert ids.shape == (400, 32) and torch.equal(ids[:, 0], symbols)
    assert symbols.unique().tolist() == [*range(8)] and ids[:, 1:-1].unique().tolist() == [*range(8, 16)]
    assert (ids[:, -1] == 16).all()
    again, _ = recall(400, 30, torch.Generator().manual_seed(0))
    assert torch.equal(ids, again)
    assert recall(2, 0)[0].shape == (2, 2)


def test_reach_ends_where_the_memory_does_and_leaves_the_layer_alone():
    layer, x = LSTM(4, 6), torch.randn(3, 9, 4)
    norms = reach(layer, x)
    assert norms.shape == (9,) and norms.dtype == torch.float64 and (norms > 0).all()
    assert torch.equal(norms, reach(layer, x))  # always the same question
    assert layer.read.weight.dtype == torch.float32 and layer.read.weight.grad is None
    forgetful = RNN(4, 6)
    torch.nn.init.zeros_(forgetful.carry.weight)
    assert torch.equal(reach(forgetful, x).nonzero().flatten(), torch.tensor([0]))


def test_teaching_is_repeatable_looks_every_25_steps_and_helps():
    seen, scores = [], []
    for _ in range(2):
        torch.manual_seed(0)
        model = Reader(nn.GRU(16, 16, batch_first=True), 17, 16, n_answers=8)
        scores.append(share_right(model, 1))
        scores.append(share_right(teach(model, [1], 100, seed=0, look=seen.append), 1))
    assert len(seen) == 2 * 4 and scores[:2] == scores[2:]
    assert scores[1] > scores[0] + 0.3
