"""The attention of lesson 04 against torch's: outputs and every gradient, all masks, a memory, a cache."""

import math
import random
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import Attention, attend, causal_mask, sinusoids


class Causal(Attention):
    is_causal = True


class Unbiased(Attention):
    bias = False


class Notebook:
    """A cache in its plainest form: what each layer has seen so far."""

    def __init__(self):
        self.seen = {}

    def append(self, layer, k, v):
        if layer in self.seen:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self.seen[layer], (k, v)))
        self.seen[layer] = k, v
        return k, v


def shape(n_heads=3, d_model=12):
    return SimpleNamespace(n_heads=n_heads, d_model=d_model)


def sizes(seed):
    """B, H, T, S, K by chance."""
    return [random.Random(seed).randint(1, 9) for _ in range(5)]


def some_mask(kind, B, T, S):
    """A mask in which every query may look somewhere."""
    if kind == "none":
        return None
    if kind == "causal":
        return causal_mask(T, max(S, T))[:, -S:] if S >= T else torch.ones(T, S, dtype=torch.bool)
    if kind == "padding":
        return torch.arange(S) < torch.randint(1, S + 1, (B, 1, 1, 1))
    mask = torch.rand(B, 1, T, S) < 0.5
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "any"])
@pytest.mark.parametrize("seed", range(6))
def test_the_formula_is_torchs_with_every_gradient(kind, seed):
    B, H, T, S, K = sizes(seed)
    torch.manual_seed(seed)
    q, k, v = (torch.randn(B, H, n, K, requires_grad=True) for n in (T, S, S))
    mask = some_mask(kind, B, T, S)
    ours, weights = attend(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    factors = torch.randn(B, H, T, K)
    answers = [[a, *torch.autograd.grad((a * factors).sum(), [q, k, v])] for a in (ours, theirs)]
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T))
    if mask is not None:
        assert (weights.masked_select(~mask.expand_as(weights)) == 0).all()


def test_one_key_gets_everything_and_equal_keys_share():
    q, k, v = torch.randn(4, 3), torch.ones(2, 3), torch.tensor([[1.0, 0], [0, 1]])
    torch.testing.assert_close(attend(q, k[:1], v[:1])[0], v[:1].expand(4, 2))
    torch.testing.assert_close(attend(q, k, v)[1], torch.full((4, 2), 0.5))


def test_the_scores_are_divided_by_the_root_of_the_width():
    K = 16
    q, k = torch.ones(1, K), torch.stack([torch.ones(K), torch.zeros(K)])
    share = 1 / (1 + math.exp(-math.sqrt(K)))  # scores √K and 0
    assert attend(q, k, k)[1][0, 0].item() == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("T, S", [(1, 1), (4, 4), (1, 6), (3, 7)])
def test_a_causal_mask_lets_each_see_itself_and_all_before(T, S):
    mask = causal_mask(T, S)
    for t in range(T):
        assert mask[t].tolist() == [s <= S - T + t for s in range(S)]
    assert mask.dtype == torch.bool and (S > T or torch.equal(mask, causal_mask(T)))


def twin(layer):
    """torch's layer with our weights."""
    theirs = nn.MultiheadAttention(layer.out.in_features, layer.n_heads, bias=layer.bias, batch_first=True)
    ours, names = layer.state_dict(), {"in_proj_": "qkv.", "out_proj.": "out."}
    renamed = {
        theirs_: ours[next(new + theirs_.removeprefix(old) for old, new in names.items() if old in theirs_)]
        for theirs_ in theirs.state_dict()
    }
    theirs.load_state_dict(renamed)
    return theirs


@pytest.mark.parametrize("family", [Attention, Unbiased, Causal], ids=lambda family: family.__name__)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("use", ["itself", "causal", "padding", "memory"])
def test_the_layer_is_torchs_with_every_gradient(family, seed, use):
    B, H, T, S, K = sizes(seed)
    torch.manual_seed(seed)
    ours = family(shape(H, H * K))
    theirs = twin(ours)
    x, memory = (torch.randn(B, n, H * K, requires_grad=True) for n in (T, S))
    real = torch.arange(T) < torch.randint(1, T + 1, (B, 1))
    later = None if family is not Causal else ~causal_mask(T)
    pairs = {
        "itself": lambda: (ours(x), theirs(x, x, x, attn_mask=later)),
        "causal": lambda: (ours(x, causal_mask(T)), theirs(x, x, x, attn_mask=~causal_mask(T))),
        "padding": lambda: (ours(x, real[:, None, None]), theirs(x, x, x, key_padding_mask=~real)),
        "memory": lambda: (
            ours(x, torch.ones(T, S, dtype=torch.bool), memory),
            theirs(x, memory, memory),
        ),
    }
    mine, (torchs, _) = pairs[use]()
    factors = torch.randn_like(mine)
    inputs = [x, memory] if use == "memory" else [x]
    answers = [
        [a, *torch.autograd.grad((a * factors).sum(), [*inputs, *layer.parameters()])]
        for a, layer in ((mine, ours), (torchs, theirs))
    ]
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [[1] * 7, [3, 1, 3], [2, 5], [7]], ids=str)
def test_with_a_cache_a_text_may_come_in_pieces(steps):
    layer, x, cache = Causal(shape()), torch.randn(2, 7, 12), Notebook()
    pieces = [layer(piece, cache=cache, layer=3) for piece in x.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), layer(x), rtol=1e-5, atol=1e-5)
    assert list(cache.seen) == [3]


def test_a_causal_layer_does_not_see_what_comes_later():
    layer, x = Causal(shape()), torch.randn(1, 6, 12, requires_grad=True)
    for t in range(6):
        reach = torch.autograd.grad(layer(x)[0, t].sum(), x)[0][0].abs().sum(-1)
        assert (reach[: t + 1] > 0).all() and (reach[t + 1 :] == 0).all()


def test_the_way_for_bf16_says_the_same():
    layer, x = Causal(shape()).bfloat16(), torch.randn(2, 5, 12).bfloat16()
    with torch.no_grad():
        fused = layer(x)
    torch.testing.assert_close(layer(x), fused, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_without_places_a_shuffle_is_followed(seed):
    torch.manual_seed(seed)
    layer, x, order = Attention(shape()), torch.randn(2, 8, 12), torch.randperm(8)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], rtol=1e-5, atol=1e-5)
    placed = sinusoids(8, 12)
    assert (layer(x[:, order] + placed) - layer(x + placed)[:, order]).abs().max() > 1e-3


def test_what_stands_in_a_family_is_called():
    """`turn` gets the positions; a family with its own `mix` keeps the rest."""

    class Turned(Attention):
        def turn(self, q, k, positions):
            return q * positions[:, None], k

    layer, x = Turned(shape()), torch.randn(1, 4, 12)
    q, k, v = layer.project(x)
    expected = layer.join(attend(q * torch.arange(4.0)[:, None], k, v)[0])
    torch.testing.assert_close(layer(x, positions=torch.arange(4.0)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n, D", [(1, 2), (7, 6), (130, 46)])
def test_sinusoids_by_hand(n, D):
    waves = sinusoids(n, D)
    assert waves.shape == (n, D)
    for place in {0, n // 2, n - 1}:
        for j in range(D // 2):
            angle = place / 10_000 ** (2 * j / D)
            assert waves[place, j].item() == pytest.approx(math.sin(angle), abs=1e-4)
            assert waves[place, D // 2 + j].item() == pytest.approx(math.cos(angle), abs=1e-4)


def test_alike_places_depend_on_their_distance_alone():
    alike = sinusoids(40, 32) @ sinusoids(40, 32).T
    for distance in range(40):
        diagonal = alike.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
