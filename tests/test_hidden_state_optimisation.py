"""Lesson 25: what its code promises about memories, steps, readings, temperatures and intervals."""

import math

import pytest
import torch

from utils import zoo
from utils.lessons import hidden_state_optimisation as hso
from utils.lessons.gpt import GPT, GPTConfig

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def model():
    """A small GPT with shaken weights that nobody trains."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(53, n_positions=40, n_layers=3, n_heads=2, d_model=16)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def ids():
    return torch.randint(53, (4, 33), generator=torch.Generator().manual_seed(1))


def parts(model, ids, at=16, width=8):
    """The states after `at` tokens, and the next block with its targets."""
    memory = hso.Memory(hso.no_memory(model, len(ids)))
    model(ids[:, :at], cache=memory)
    return memory.grown(), ids[:, at : at + width], ids[:, at + 1 : at + 1 + width]


def slope_of(model, states, x, y, objective=hso.surprise):
    memory = hso.Memory(states.detach().requires_grad_())
    return torch.autograd.grad(objective(model(x, cache=memory), y), memory.states)[0]


@pytest.mark.parametrize("width", [1, 3, 8, 32])
def test_reading_in_blocks_is_the_plain_forward(model, ids, width):
    torch.testing.assert_close(hso.read(model, ids, width=width), model(ids[:, :-1]), **CLOSE)


@pytest.mark.parametrize("step", [hso.Adam, hso.SGD])
def test_a_step_of_size_zero_is_plain_reading_to_the_last_bit(model, ids, step):
    assert torch.equal(hso.read(model, ids, step(0.0)), hso.read(model, ids))


def test_logits_and_slopes_equal_transformers_own_cache(model, ids):
    from transformers import DynamicCache

    states, x, y = parts(model, ids)
    twin, leaf, cache = zoo.to_transformers(model), states.clone().requires_grad_(), DynamicCache()
    for layer in range(3):
        cache.update(leaf[0, layer], leaf[1, layer], layer)
    logits = twin(x, past_key_values=cache).logits
    torch.testing.assert_close(model(x, cache=hso.Memory(states)), logits.detach(), **CLOSE)
    theirs = torch.autograd.grad(hso.surprise(logits, y), leaf)[0]
    torch.testing.assert_close(slope_of(model, states, x, y), theirs, **CLOSE)


def test_a_small_step_lowers_the_cost_as_the_slope_says(model, ids):
    states, x, y = parts(model, ids)
    slope = slope_of(model, states, x, y)

    def cost(states):
        return hso.nats(model(x, cache=hso.Memory(states)).double(), y).sum().item()

    fall = cost(states) - cost(hso.SGD(0.01)(states, slope))
    assert abs(fall / (0.01 * slope.square().sum().item()) - 1) < 0.05


def test_slopes_of_all_keys_of_a_head_sum_to_zero(model, ids):
    """A common move of all keys moves all scores of a query alike."""
    states, x, y = parts(model, ids)
    fresh = []
    memory = hso.Memory(states.clone().requires_grad_())
    for block in model.blocks:
        block.attention.turn = lambda q, k, positions: (q, fresh.append(k.requires_grad_()) or k)
    try:
        logits = model(x, cache=memory)
    finally:
        for block in model.blocks:
            del block.attention.turn
    old, *new = torch.autograd.grad(hso.surprise(logits, y), (memory.states, *fresh))
    sums = old[0].sum(3) + torch.stack(new).sum(3)
    assert sums.abs().max() < 1e-4 * old[0].abs().max().clamp(min=1)


def test_no_look_ahead_unless_it_leaks(model, ids):
    changed = ids.clone()
    changed[:, 20] = (ids[:, 20] + 1) % 53
    for leak in (False, True):
        one, other = (hso.read(model, x, hso.Adam(0.05), leak=leak) for x in (ids, changed))
        assert torch.equal(one[:, :16], other[:, :16])
        assert torch.equal(one[:, 16:20], other[:, 16:20]) != leak
        assert not torch.equal(one[:, 20:], other[:, 20:])


def test_weights_stay_as_they_are(model, ids):
    before = [parameter.clone() for parameter in model.parameters()]
    hso.read(model, ids, hso.Adam(0.3))
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize("step", [lambda: hso.Adam(0.02), lambda: hso.SGD(0.05)])
def test_documents_do_not_meet(model, ids, step):
    alone = torch.cat([hso.read(model, row[None], step()) for row in ids])
    torch.testing.assert_close(alone, hso.read(model, ids, step()), atol=2e-3, rtol=2e-3)


def test_a_mean_over_the_batch_is_noticed(model, ids):
    def mean(logits, targets):
        return hso.nats(logits, targets).mean()

    alone = hso.read(model, ids[:1], hso.SGD(1.0), objective=mean)
    assert (alone - hso.read(model, ids, hso.SGD(1.0), objective=mean)[:1]).abs().max() > 1e-3


def test_a_lent_slope_is_the_other_documents(model, ids):
    """The same document four times: a lent slope changes nothing; four documents: it does."""
    same, turned = ids[:1].repeat(4, 1), torch.arange(4).roll(1)
    own, lent = (hso.read(model, same, hso.SGD(0.1), whose=whose) for whose in (None, turned))
    torch.testing.assert_close(own, lent, atol=1e-3, rtol=1e-3)
    own, lent = (hso.read(model, ids, hso.SGD(0.1), whose=whose) for whose in (None, turned))
    assert (own - lent).abs().max() > 1e-2


def test_adam_is_torchs_for_each_position_since_its_birth():
    torch.manual_seed(0)
    adam, states, theirs = hso.Adam(0.1), torch.zeros(2, 1, 1, 1, 0, 3), []
    for born in (1, 3, 2):
        start = torch.randn(2, 1, 1, 1, born, 3)
        leaf = torch.nn.Parameter(start.clone())
        theirs.append((leaf, torch.optim.Adam([leaf], lr=0.1)))
        states = torch.cat([states, start], 4)
        slope = torch.randn_like(states)
        states = adam(states, slope)
        for (leaf, optimizer), part in zip(theirs, slope.split([leaf.size(4) for leaf, _ in theirs], 4)):
            leaf.grad = part.clone()
            optimizer.step()
    torch.testing.assert_close(states, torch.cat([leaf.detach() for leaf, _ in theirs], 4), **CLOSE)
    assert adam.count.tolist() == [3, 2, 2, 2, 1, 1]


@pytest.mark.parametrize("times", [0.7, 1.0, 2.5])
def test_the_temperature_is_found(times):
    draw = torch.Generator().manual_seed(2)
    right = torch.randn(200, 60, 8, generator=draw)
    targets = torch.multinomial(right.softmax(-1).flatten(0, 1), 1, generator=draw).view(200, 60)
    found = hso.fit_temperature(times * right, targets)
    assert abs(found / times - 1) < 0.06
    best = hso.nats(times * right, targets, found).mean()
    assert all(hso.nats(times * right, targets, found * f).mean() >= best - 1e-5 for f in (0.9, 1.1))


def test_judged_fits_on_dev_and_judges_the_rest():
    logits, ids = torch.randn(10, 6, 5), torch.randint(5, (10, 7))
    one = hso.judged(logits, ids, 4)
    logits[4:, 3] = 0
    ids[4:, 4] = 1  # what stands in the test rows does not move the temperature
    other = hso.judged(logits, ids, 4)
    assert one.shape == (6,)
    temperature = hso.fit_temperature(logits[:4], ids[:4, 1:])
    torch.testing.assert_close(other, hso.nats(logits[4:], ids[4:, 1:], temperature).mean(1))


def test_noise_cannot_be_learned_but_a_leak_can(model):
    """Scored after its own step a reader beats the entropy of random symbols, which nobody can."""
    torch.manual_seed(0)
    noise = torch.randint(53, (24, 33), generator=torch.Generator().manual_seed(4))
    soft = GPT(GPTConfig(53, n_positions=40, n_layers=2, n_heads=2, d_model=32)).eval().requires_grad_(False)
    honest, leaked = (
        hso.nats(hso.read(soft, noise, hso.Adam(0.5), leak=leak), noise[:, 1:]).mean().item()
        for leak in (False, True)
    )
    assert honest > math.log(53) - 0.02 and leaked < honest - 0.003
