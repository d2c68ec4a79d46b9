"""The blocks of lesson 05: equal to torch with every gradient, masks, caches, parts that change, a clean exam."""

import ast
import collections
import datetime
import math
import random

import definitions
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import Attention, causal_mask
from utils.lessons.gpt import KVCache
from utils.lessons.transformer import (
    Block,
    CausalAttention,
    Config,
    Decoder,
    DecoderBlock,
    FeedForward,
    Stack,
    Transformer,
)

BLOCKS = {
    f"{make.__name__}, {'pre' if pre else 'post'}-norm": type("Variant", (make,), {"norm_first": pre})
    for make in (Block, DecoderBlock)
    for pre in (True, False)
}
each_block = pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)


@pytest.fixture(scope="module")
def page():
    """The definitions of the page: its functions, classes and constants, and nothing that runs long."""
    names = {"NAMES", "MONTHS", "SPELLINGS", "days", "known", "unseen"}

    def stays(node):
        return names & definitions.assigned(node) or "shuffle(days)" in ast.unparse(node)

    return definitions.of_page("05_transformer", also=stays)


def random_weights(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


# The blocks


@each_block
@pytest.mark.parametrize("sizes", [(2, 6, 9, 32, 4), (1, 1, 1, 8, 2), (3, 5, 2, 12, 1), (2, 7, 7, 24, 6)])
def test_blocks_equal_torch_with_every_gradient(page, make, sizes):
    B, T, S, D, H = sizes
    torch.manual_seed(sum(sizes))
    block = random_weights(make(Config(d_model=D, n_heads=H))).double()
    theirs, pairs = page["twin_of"](block, D, H)
    theirs = theirs.double()
    for ours, other in pairs:
        other.data = ours.data.clone()
    x, memory = (torch.randn(B, n, D, dtype=torch.float64, requires_grad=True) for n in (T, S))
    if make.make_cross:
        mine, torchs = block(x, memory=memory), theirs(x, memory, tgt_mask=~causal_mask(T))
    else:
        mine, torchs = block(x), theirs(x)
    torch.testing.assert_close(mine, torchs, rtol=1e-9, atol=1e-9)
    assert len(pairs) == len(list(block.parameters())) == len({id(ours) for ours, _ in pairs})
    inputs = [x, memory] if make.make_cross else [x]
    found = [page["gradients"](y, [*inputs, *weights]) for y, weights in zip((mine, torchs), zip(*pairs))]
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)


@each_block
def test_masks_hide_filling_from_every_part(make):
    block = random_weights(make(Config(d_model=16)))
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[..., 4:] = False
    if make.make_cross:
        ours = block(x, memory=memory, memory_mask=mask)
        torch.testing.assert_close(ours, block(x, memory=memory[:, :4]), rtol=1e-5, atol=1e-5)
    else:
        ours = block(memory, mask=mask)[:, :4]
        torch.testing.assert_close(ours, block(memory[:, :4]), rtol=1e-5, atol=1e-5)


def test_a_decoder_block_looks_back_only():
    block = random_weights(DecoderBlock(Config(d_model=16)))
    x, memory = torch.randn(1, 6, 16, requires_grad=True), torch.randn(1, 3, 16)
    for t in range(6):
        reach = torch.autograd.grad(block(x, memory=memory)[0, t].sum(), x)[0][0].abs().sum(-1)
        assert (reach[: t + 1] > 0).all() and (reach[t + 1 :] == 0).all()


def test_a_family_states_what_differs_and_no_more():
    class Net(FeedForward):
        bend, bias = staticmethod(F.silu), False

    class Family(Block):
        make_attention, make_feed_forward, make_norm = CausalAttention, Net, nn.RMSNorm

    stack = type("Family", (Stack,), {"make_block": Family})(Config(norm_eps=1e-3))
    assert isinstance(stack.norm, nn.RMSNorm) and stack.norm.eps == 1e-3
    block = stack.blocks[0]
    assert type(block.attention) is CausalAttention and block.feed_forward.up.bias is None
    x = torch.randn(3, 64)
    up, down = (part.weight.T for part in (block.feed_forward.up, block.feed_forward.down))
    torch.testing.assert_close(block.feed_forward(x), F.silu(x @ up) @ down)


def test_only_pre_norm_stacks_end_in_a_norm():
    for name, make in BLOCKS.items():
        stack = type("Made", (Stack,), {"make_block": make})(Config())
        assert isinstance(stack.norm, nn.LayerNorm if "pre" in name else nn.Identity)


# The whole machine


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1, 1), (6,), (2, 1, 3), (1, 5), (4, 2)])
def test_a_decoder_with_a_cache_writes_the_same_in_any_pieces(pieces):
    config = Config(d_model=16)
    decoder = random_weights(Decoder(config))
    x, memory = torch.randn(2, 6, 16), torch.randn(2, 9, 16)
    whole = decoder.run(x, memory=memory)
    cache, found = KVCache(config.n_layers, 2, config.n_heads, 6, 4), []
    for piece in x.split(pieces, dim=1):
        found.append(decoder.run(piece, memory=memory, cache=cache))
        cache.length += piece.size(1)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_one_pass_scores_what_steps_would():
    model = Transformer(Config()).double()
    source, target = torch.randint(64, (3, 8)), torch.randint(64, (3, 7))
    real = torch.arange(8) < torch.tensor([[8], [5], [1]])
    steps = [model(source, target[:, : t + 1], real)[:, -1:] for t in range(7)]
    torch.testing.assert_close(model(source, target, real), torch.cat(steps, dim=1), rtol=1e-9, atol=1e-9)


def test_filling_does_not_matter_and_encode_decode_are_forward():
    model = Transformer(Config()).double()
    source, target = torch.randint(64, (2, 8)), torch.randint(64, (2, 4))
    real = torch.ones(2, 8, dtype=torch.bool)
    real[1, 3:] = False
    logits = model(source, target, real)
    torch.testing.assert_close(logits[1:], model(source[1:, :3], target[1:]), rtol=1e-9, atol=1e-9)
    other = source.where(real, (source + 1) % 64)
    torch.testing.assert_close(model(other, target, real), logits, rtol=0, atol=0)
    torch.testing.assert_close(model.decode(target, *model.encode(source, real)), logits, rtol=0, atol=0)


def test_there_is_one_table_of_embeddings():
    state = Transformer(Config(vocab_size=50)).state_dict()
    assert [name for name, weight in state.items() if 50 in weight.shape] == ["tokens.weight"]


def test_the_embedding_feels_all_three_of_its_uses():
    model = Transformer(Config())
    source, target = torch.tensor([[3, 4]]), torch.tensor([[5, 6]])
    (gradient,) = torch.autograd.grad(model(source, target)[0, -1, 7], model.tokens.weight)
    touched = gradient.abs().sum(-1).nonzero().flatten().tolist()
    assert touched == [3, 4, 5, 6, 7]


# The task: nothing of the exam is known


def test_no_held_out_day_and_no_held_out_text_occurs_in_training(page):
    known, unseen, spell = page["known"], page["unseen"], page["spell"]
    assert len(known) == 71_000 and len(unseen) == 2_000 and not set(known) & set(unseen)
    held_out = {spell(date, style) for date in unseen for style in range(12)}
    assert not any(spell(date, style) in held_out for date in known for style in range(12))


def test_training_draws_known_days_only(page):
    rng = random.Random(3)
    source, real, target = page["dates"](page["known"], 2000, rng)
    known = {date.isoformat() for date in page["known"]}
    assert {bytes(row[1:].tolist()).decode() for row in target} <= known
    assert (target[:, 0] == 1).all() and torch.equal(source > 0, real)


def test_each_spelling_says_the_day(page):
    spell = page["spell"]
    date = datetime.date(1987, 3, 3)
    texts = [spell(date, style) for style in range(12)]
    assert texts == [
        "3 March 1987", "March 3, 1987", "March 3rd, 1987", "the 3rd of March 1987", "3 Mar 1987", "Mar 3 1987",
        "Mar. 3rd 1987", "Tuesday, 3 March 1987", "Tuesday the 3rd of March, 1987", "3.3.1987", "1987/03/03",
        "03-Mar-1987",
    ]  # fmt: skip
    assert [page["nth"](n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30)] == (
        "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 30th".split()
    )


def test_any_text_can_be_read(page):
    source, real = page["batch_of"](["Größe 🐶", "3 May 1999"])
    assert source.max() < 128 and source.shape == real.shape and real.sum(1).tolist() == [7, 10]


# What the page says of losses and rates


@pytest.mark.parametrize("smoothing, pays", [(0.0, 1.117), (0.1, 1.218)])
def test_who_knows_the_calendar_but_reads_nothing_pays_what_the_page_says(page, smoothing, pays):
    texts = [date.isoformat() for date in page["known"]]
    counts = collections.Counter(text[:n] for text in texts for n in range(11))
    total = 0
    for beginning, n in counts.items():
        if beginning:
            p = n / counts[beginning[:-1]]  # of this symbol, given those before it
            total -= n * math.log((1 - smoothing) * p + smoothing / 128)
    assert abs(total / len(texts) / 10 - pays) < 1e-3
    assert smoothing or abs(total / len(texts) - math.log(71_000)) < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_is_torchs(page, smoothing):
    logits, targets = torch.randn(30, 11, requires_grad=True), torch.randint(11, (30,))
    ours = page["smoothed_loss"](logits, targets, smoothing)
    theirs = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_the_schedule_climbs_then_falls(page):
    shares = [page["schedule"](step, 100, 10) for step in range(101)]
    assert shares[0] == 0.1 and shares[9] == shares[10] == 1 and abs(shares[100]) < 1e-9
    assert shares[:10] == sorted(shares[:10]) and shares[10:] == sorted(shares[10:], reverse=True)
    at_once = [page["schedule"](step, 100, 0) for step in range(101)]
    assert at_once[0] == 1 and at_once == sorted(at_once, reverse=True) and abs(at_once[100]) < 1e-9


def test_attention_of_the_base_is_the_lesson_before(page):
    assert issubclass(CausalAttention, Attention) and not Attention.is_causal and CausalAttention.is_causal
