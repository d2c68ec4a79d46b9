"""Lesson 12's GPT: its start, its mask, its cache, and the chat data that its page checks."""

import json
import math
from dataclasses import replace

import pytest
import torch

from utils import pages
from utils.lessons import gpt
from utils.lessons.gpt import GPT, GPTConfig, KVCache, visible

SHAPE = GPTConfig(vocab_size=53, n_positions=24, n_layers=2, n_heads=2, d_model=16)


def random_gpt(**changes):
    torch.manual_seed(0)
    model = GPT(replace(SHAPE, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("n_layers", [1, 4, 16])
def test_what_writes_into_the_stream_starts_smaller_by_the_root_of_its_number(n_layers):
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500, n_positions=64, n_layers=n_layers, n_heads=2, d_model=128))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == ("norm" in name and name.endswith("weight"))).all()
        else:
            writes = name.endswith(("out.weight", "down.weight"))
            expected = 0.02 / math.sqrt(2 * n_layers) if writes else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.05)


def test_the_head_is_the_embedding_unless_there_is_none():
    model, bare = GPT(SHAPE), GPT(SHAPE, head=None)
    assert model.head.weight is model.tokens.weight and bare.head is None
    assert bare(torch.ones(1, 3, dtype=torch.long)).shape == (1, 3, 16)


@pytest.mark.parametrize("T, start", [(5, 0), (1, 7), (1, 0)])
def test_no_mask_is_needed_for_plain_text_nor_for_one_query(T, start):
    assert visible(None, T, start) is None


def test_several_queries_behind_a_cache_are_causal():
    assert visible(None, 2, 3)[0, 0].tolist() == [[True] * 4 + [False], [True] * 5]


def test_nobody_looks_at_padding_but_padding_itself():
    mask = torch.tensor([[False, False, True, True], [True, True, True, False]])
    seen = visible(mask, 4, 0)[:, 0]
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    for row in range(2):
        for t in range(4):
            expected = causal[t] & mask[row]
            assert seen[row, t].tolist() == (expected if expected.any() else ~expected).tolist()


def test_a_mask_for_each_query_replaces_the_causal_rule():
    model, ids = random_gpt(), torch.randint(53, (2, 6))
    own = torch.eye(6, dtype=torch.bool).expand(2, 6, 6)
    with torch.no_grad():
        alone = torch.cat([model(ids[:, t : t + 1], positions=torch.tensor([t])) for t in range(6)], dim=1)
        torch.testing.assert_close(model(ids, own), alone, atol=1e-5, rtol=1e-5)


def test_later_tokens_change_nothing():
    model, ids = random_gpt(), torch.randint(53, (1, 9))
    x = model.tokens(ids).detach().requires_grad_()
    states = model.run(x, positions=None)
    for t in range(9):
        reached = torch.autograd.grad(states[0, t].square().sum(), x, retain_graph=True)[0][0].abs().sum(-1)
        assert (reached[t + 1 :] == 0).all() and (reached[: t + 1] > 0).all()


@pytest.mark.parametrize("cuts", [(20,), (1,) * 20, (7, 1, 1, 5, 6), (19, 1)])
def test_a_text_in_pieces_through_the_cache_is_the_text(cuts):
    model, ids = random_gpt(), torch.randint(53, (3, 20))
    cache, begin, found = model.new_cache(3, 20), 0, []
    with torch.no_grad():
        for n in cuts:
            found.append(model(ids[:, begin : begin + n], cache=cache))
            begin += n
            assert cache.length == begin
        torch.testing.assert_close(torch.cat(found, dim=1), model(ids), atol=1e-5, rtol=1e-5)


def test_a_full_cache_says_so_and_keeps_what_it_has():
    cache = KVCache(1, 2, 1, 4, 3)
    cache.append(0, *torch.ones(2, 2, 1, 3, 3))
    cache.length = 3
    with pytest.raises(ValueError, match="has 4 slots, 5 are needed"):
        cache.append(0, *torch.zeros(2, 2, 1, 2, 3))
    assert (cache.keys[0, :, :, :3] == 1).all()


def test_a_family_may_change_single_layers():
    changed = []

    class Other(GPT):
        def vary(self, block, layer):
            changed.append((block, layer))

    model = Other(SHAPE)
    assert changed == [(model.blocks[0], 0), (model.blocks[1], 1)]


# The page's own definitions


def test_the_loop_is_causal_attention():
    (attend_by_loop,) = pages.definitions("12_gpt", "attend_by_loop")
    q, k, v = torch.randn(3, 7, 5)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(attend_by_loop(q, k, v), expected, atol=1e-5, rtol=1e-4)


def test_the_page_counts_what_it_says():
    write, count = pages.definitions("12_gpt", "write", "count", given={"torch": torch})
    count.__globals__["write"] = write
    model, D = random_gpt(), 16
    for n in (1, 2, 9):
        for with_cache in (True, False):
            lengths = [(1, t) if with_cache else (t, t) for t in range(1, n + 1)]
            text, passes, products = count(model, n, with_cache)
            assert passes == sum(T for T, _ in lengths)
            assert products == 2 * sum(12 * T * D**2 + 2 * T * S * D for T, S in lengths)
            assert torch.equal(text, count(model, n, not with_cache)[0])
    assert not model.blocks[0]._forward_pre_hooks


def chat(*said):
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in said]})


GOOD = [
    chat(("user", "Hi"), ("assistant", "Hello.")),
    chat(("system", "Be short."), ("user", "Hi"), ("assistant", "Hello."), ("user", "a"), ("assistant", "b")),
]
BAD = {
    "no object": [GOOD[0][:-1], "[]", '"text"', "{}", '{"messages": 3}', '{"messages": [{"role": "user"}]}'],
    "is unknown": [chat(("bot", "Hi"), ("assistant", "Hello."))],
    "later than first": [chat(("user", "Hi"), ("system", "x"), ("assistant", "Hello."))],
    "the last word": [chat(("user", "Hi")), chat(), chat(("assistant", "a"), ("user", "b"))],
    "is empty": [chat(("user", ""), ("assistant", "Hello.")), chat(("user", "Hi"), ("assistant", 3))],
}


def test_good_lines_pass_and_each_mistake_has_its_own_sentence():
    (complaint,) = pages.definitions("12_gpt", "complaint", given={"json": json})
    assert [complaint(line) for line in GOOD] == [None, None]
    for said, lines in BAD.items():
        for line in lines:
            assert said in complaint(line), line


def test_only_the_assistant_is_learned():
    class Tokenizer:
        token_to_id = staticmethod(lambda name: {"u": 11, "a": 12, "s": 10}[name])

        def encode(self, text):
            return type("Encoded", (), {"ids": [20 + ord(letter) for letter in text]})

    roles = {"system": "s", "user": "u", "assistant": "a"}
    given = {"json": json, "torch": torch, "tokenizer": Tokenizer(), "ROLES": roles, "BOS": 1, "EOS": 2}
    (to_tokens,) = pages.definitions("12_gpt", "to_tokens", given=given)
    ids, targets = to_tokens(chat(("user", "xy"), ("assistant", "z")))
    x, y, z = (20 + ord(letter) for letter in "xyz")
    assert ids.tolist() == [1, 11, x, y, 2, 12, z]
    assert targets.tolist() == [-100] * 5 + [z, 2]


def test_the_module_is_what_the_families_build_on():
    assert gpt.GPT.published_classes["language"] == "GPT2LMHeadModel"
