"""Lesson 23: the slot, what can reach what, and gradients across windows."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from utils.lessons.gpt import GPT, GPTConfig
from utils.lessons.recurrence import Recurrent, Slot, drop, keep, read, swap

SHAPE = GPTConfig(vocab_size=11, n_positions=6, n_layers=3, n_heads=2, d_model=16)
W = 6


def new_model(reads=-1, writes=-1):
    torch.manual_seed(0)
    model = Recurrent(SHAPE, reads, writes).eval()
    torch.nn.init.normal_(model.think[1].down.weight, std=0.1)  # as after some training
    return model


@pytest.fixture
def ids():
    return torch.randint(11, (4, 4 * W + 1), generator=torch.Generator().manual_seed(1))


def test_the_slot_is_one_column_more():
    q, k, v = torch.randn(3, 2, 2, W, 8)
    slot = Slot(1, *torch.randn(2, 2, 2, 1, 8))
    assert slot.append(0, k, v) == (k, v)
    keys, values = slot.append(1, k, v)
    ours = new_model().blocks[1].attention.mix(q, keys, values, mask=None)
    looks = torch.cat([torch.ones(W, 1), torch.ones(W, W).tril()], 1).bool()
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, keys, values, looks))


def test_without_a_summary_it_is_the_gpt(ids):
    model = new_model()
    gpt = GPT(SHAPE).eval()
    assert gpt.load_state_dict(model.state_dict(), strict=False).missing_keys == []
    logits, _ = model.window(ids[:, :W])
    assert torch.equal(logits, gpt(ids[:, :W]))
    apart = read(model, ids, W, drop)
    for i in range(4):
        found = gpt(ids[:, i * W : i * W + W]).transpose(1, 2)
        nats = F.cross_entropy(found, ids[:, i * W + 1 : i * W + W + 1], reduction="none")
        torch.testing.assert_close(apart[:, i * W : i * W + W], nats)


@pytest.mark.parametrize("d_model", [16, 48])
def test_the_net_has_as_many_numbers_as_said(d_model):
    model = Recurrent(GPTConfig(11, 6, 2, 2, d_model))
    assert sum(p.numel() for p in model.think.parameters()) == 8 * d_model**2 + 7 * d_model


@pytest.mark.parametrize("reads, writes", [(-1, -1), (2, 0), (0, 2)])
def test_what_reaches_what(ids, reads, writes):
    """Every token reaches every later window, nothing an earlier place."""
    model, inputs = new_model(reads, writes), []
    model.tokens.register_forward_hook(lambda *x: inputs.append(x[2].requires_grad_()))
    z, logits = None, []
    for i in range(3):
        found, z = model.window(ids[:1, i * W : i * W + W], z)
        logits += found[0].unbind()
    for t, out in enumerate(logits):
        slopes = torch.autograd.grad(out.square().sum(), inputs, retain_graph=True, materialize_grads=True)
        moved = torch.cat(slopes, 1)[0].abs().sum(-1) > 0
        expected = torch.tensor([s // W < t // W or (s // W == t // W and s <= t) for s in range(3 * W)])
        assert torch.equal(moved, expected)


def test_checkpoints_change_no_gradient(ids):
    model = new_model()

    class Frugal(Recurrent):
        def costs(self, ids, z=None):
            return checkpoint(super().costs, ids, z, use_reentrant=False)

    frugal = Frugal(SHAPE)
    frugal.load_state_dict(model.state_dict())
    for one in (model, frugal):
        read(one, ids, W).mean().backward()
    for p, q in zip(model.parameters(), frugal.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-6)


def test_a_cut_gives_the_net_no_gradient(ids):
    model = new_model()
    for hand_on in (drop, torch.detach):
        read(model, ids, W, hand_on).mean().backward()
        assert all(p.grad is None for p in model.think.parameters())
    read(model, ids, W, keep).mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.think.parameters())


def test_texts_of_a_batch_do_not_meet_unless_swapped(ids):
    model = new_model()
    together = read(model, ids, W)
    alone = torch.cat([read(model, row[None], W) for row in ids])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    swapped = read(model, ids, W, swap)
    assert torch.equal(swapped[:, :W], together[:, :W])
    assert not torch.allclose(swapped[:, W:], together[:, W:], atol=1e-4)


def test_a_fresh_summary_is_a_fading_mean():
    torch.manual_seed(0)
    model, states = Recurrent(SHAPE), torch.randn(3, 2, W, 16)
    z = None
    for window in states:
        z = model.summarise(window, z)
    means = states.mean(2)
    torch.testing.assert_close(z, means[0] / 4 + means[1] / 4 + means[2] / 2)
