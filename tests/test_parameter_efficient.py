"""Lesson 18: LoRA, adapters, BitFit, prompt and prefix tuning, on their own and against peft."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils import efficient, zoo
from utils.lessons import parameter_efficient as pe
from utils.lessons.attention import Heads
from utils.lessons.bert import BERT, BertConfig
from utils.lessons.finetuning import Classifier, finetune
from utils.lessons.gpt import GPT, GPTConfig

SHAPE = {"vocab_size": 40, "n_positions": 32, "n_layers": 2, "n_heads": 2, "d_model": 8}
EVERYWHERE = "qkv", "out", "up", "down"
GPT2_NAMES = ["c_attn", "c_proj", "c_fc"]
BERT_NAMES = ["attention.output.dense", "intermediate.dense", "output.dense"]
IDS = torch.tensor([[5, 9, 3, 7, 11, 2], [1, 4, 4, 8, 30, 6]])


def new_gpt():
    torch.manual_seed(0)
    model = GPT(GPTConfig(**SHAPE))
    with torch.no_grad():  # weights of size 1, so that no part is too small to be seen
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.2)
    return model.eval()


def new_bert():
    torch.manual_seed(0)
    model = BERT(BertConfig(**SHAPE, d_ff=16))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.2)
    return model.eval()


def stir(parameters):
    """Give what learns other values, as if it had learned."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in parameters:
            p.add_(torch.randn(p.shape, generator=draw) * 0.3)


def loss(found):
    """A sum with factors that no swap of places leaves alone."""
    return (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum()


def assert_same(found, expected, atol=1e-5):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol * other.abs().max().item(), rtol=0)


METHODS = {
    "LoRA": lambda model: pe.add_lora(model, 3, 6, EVERYWHERE),
    "adapters": lambda model: pe.add_adapters(model, 3),
    "BitFit": pe.only_biases,
}


@pytest.mark.parametrize("new", [new_gpt, new_bert])
@pytest.mark.parametrize("method", METHODS)
def test_step_0_is_the_base_and_training_moves_nothing_else(new, method):
    model = new()
    before, states = model.hidden(IDS), deepcopy(model.state_dict())
    learns = METHODS[method](model)
    assert torch.equal(model.hidden(IDS), before)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    assert sum(p.numel() for p in learns) + sum(p.numel() for p in frozen.values()) == sum(
        p.numel() for p in model.parameters()
    )
    optimizer = torch.optim.AdamW(learns, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model.hidden(IDS)).backward()
        optimizer.step()
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    assert not torch.allclose(model.hidden(IDS), before, atol=1e-2)
    if method != "BitFit":  # the base is all there, under longer names
        assert {tuple(p.shape) for p in frozen.values()} == {tuple(p.shape) for p in states.values()}


@pytest.mark.parametrize("where", [("qkv",), ("out", "up"), EVERYWHERE])
@pytest.mark.parametrize("rank, alpha", [(1, 1), (3, 6), (4, 2)])
def test_lora_is_pefts_on_gpt2(where, rank, alpha):
    from peft import LoraConfig, get_peft_model

    names = {"qkv": ["c_attn"], "out": ["attn.c_proj"], "up": ["c_fc"], "down": ["mlp.c_proj"]}
    targets = [name for part in where for name in names[part]]
    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, fan_in_fan_out=True)
    theirs = get_peft_model(zoo.to_transformers(new_gpt()), settings)
    ours = new_gpt()
    mine, yours = pe.add_lora(ours, rank, alpha, where), pe.learned(theirs)
    stir(mine)
    with torch.no_grad():
        for p, q in zip(mine, yours, strict=True):
            q.copy_(p)
    found, expected = ours(IDS), theirs(IDS).logits
    assert_same([found], [expected])
    assert_same(torch.autograd.grad(loss(found), mine), torch.autograd.grad(loss(expected), yours))


def test_lora_is_pefts_on_bert_with_padding():
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=2, lora_alpha=4, target_modules=BERT_NAMES)
    theirs = get_peft_model(zoo.to_transformers(new_bert()), settings)
    ours, mask = new_bert(), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    mine, yours = pe.add_lora(ours, 2, 4, ("out", "up", "down")), pe.learned(theirs)
    stir(mine)
    with torch.no_grad():
        for p, q in zip(mine, yours, strict=True):
            q.copy_(p)
    found = ours(IDS, mask)[mask]
    expected = theirs(IDS, attention_mask=mask.long()).last_hidden_state[mask]
    assert_same([found], [expected])
    assert_same(torch.autograd.grad(loss(found), mine), torch.autograd.grad(loss(expected), yours))


@pytest.mark.parametrize("new", [new_gpt, new_bert])
def test_merged_is_unmerged_and_without_is_the_base(new):
    model = new()
    base, names = model.hidden(IDS), set(model.state_dict())
    stir(pe.add_lora(model, 2, 6, ("qkv", "down")))
    stir(pe.add_lora(model, 3, 1, ("qkv",), seed=1))  # a second task on top of the first
    tuned = model.hidden(IDS)
    assert not torch.allclose(tuned, base, atol=1e-2)
    with pe.without_lora(model):
        torch.testing.assert_close(model.hidden(IDS), base, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.hidden(IDS), tuned, atol=0, rtol=0)
    assert pe.merge(model) is model
    assert set(model.state_dict()) == names and not pe.learned(model)
    torch.testing.assert_close(model.hidden(IDS), tuned, atol=1e-5, rtol=1e-5)


def test_detours_open_again_after_an_error():
    model = new_gpt()
    stir(pe.add_lora(model))
    tuned = model(IDS)
    with pytest.raises(RuntimeError, match="no"), pe.without_lora(model):
        raise RuntimeError("no")
    assert torch.equal(model(IDS), tuned)


def test_lora_reaches_those_who_look_at_the_matrix():
    """Attention to a memory cuts the fused matrix; it must see the detour, too."""
    torch.manual_seed(0)
    layer, x, memory = Heads(GPTConfig(**SHAPE)), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    base = layer.project(x, memory)
    stir(pe.add_lora(layer, 2, 4, ("qkv",)))
    q, k, v = layer.project(x, memory)
    torch.testing.assert_close(q, layer.project(x)[0])
    torch.testing.assert_close(k, layer.project(memory)[1])
    assert not torch.allclose(v, base[2], atol=1e-2)


def test_a_name_that_no_layer_has_is_refused():
    with pytest.raises(ValueError, match="no layer of GPT is called query or value"):
        pe.add_lora(new_gpt(), where=("query", "value"))


def test_counts_by_formula():
    L, D, m, r, n = 2, 8, 3, 2, 5
    count = lambda parameters: sum(p.numel() for p in parameters)
    sides = {"qkv": 4, "out": 2, "up": 5, "down": 5}
    for part, units in sides.items():
        assert count(pe.add_lora(new_gpt(), r, where=(part,))) == L * r * units * D
    assert count(pe.add_adapters(new_gpt(), m)) == L * 2 * (2 * D * m + m + D)
    assert count(pe.only_biases(new_gpt())) == L * 11 * D + D
    assert count(pe.learned(pe.Prompted(new_gpt(), n))) == n * D
    assert count(pe.learned(pe.Prefix(new_gpt(), n))) == 2 * L * n * D


def test_an_adapter_is_its_formula():
    layer = pe.Adapter(nn.Linear(4, 6), width=2)
    stir(layer.parameters())
    x = torch.randn(3, 4)
    y = F.linear(x, layer.base.weight, layer.base.bias)
    z = y @ layer.narrow.weight.T + layer.narrow.bias
    bent = z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    torch.testing.assert_close(layer(x), y + bent @ layer.widen.weight.T + layer.widen.bias)


def test_prompt_tuning_is_pefts():
    from peft import PromptTuningConfig, get_peft_model

    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    theirs = get_peft_model(zoo.to_transformers(new_gpt()), settings)
    ours = pe.Prompted(new_gpt(), 3)
    mine, yours = pe.learned(ours), pe.learned(theirs)
    stir(mine)
    with torch.no_grad():
        yours[0].copy_(mine[0])
    for mask in torch.ones(2, 6, dtype=torch.bool), torch.tensor([[True] * 6, [True] * 4 + [False] * 2]):
        found = ours(IDS, mask)[mask]
        expected = theirs(input_ids=IDS, attention_mask=mask.long()).logits[:, 3:][mask]
        assert_same([found], [expected])
        assert_same(torch.autograd.grad(loss(found), mine), torch.autograd.grad(loss(expected), yours))


def test_prefix_tuning_is_pefts():
    from peft import PrefixTuningConfig, get_peft_model

    settings = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    theirs = get_peft_model(zoo.to_transformers(new_gpt()), settings)
    ours = pe.Prefix(new_gpt(), 3)
    mine, yours = pe.learned(ours), pe.learned(theirs)
    in_rows = lambda state: state.permute(3, 0, 1, 2, 4).flatten(1)
    stir(mine)
    with torch.no_grad():
        yours[0].copy_(in_rows(mine[0]))
    for _ in range(2):  # the second text must not find the first in the cache
        found, expected = ours(IDS), theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
        assert_same([found], [expected])
    (ours_gradient,) = torch.autograd.grad(loss(found), mine)
    assert_same([in_rows(ours_gradient)], torch.autograd.grad(loss(expected), yours))


@pytest.mark.parametrize("new, say", [(new_gpt, "tokens"), (new_bert, "inputs.tokens")])
def test_vectors_of_words_are_these_words(new, say):
    words, model = torch.tensor([7, 3]), new()
    expected = model.hidden(torch.cat([words.expand(2, -1), IDS], dim=1))[:, 2:]
    vectors = model.get_submodule(say).weight[words].detach().clone()
    prompted = pe.Prompted(model, vectors=vectors)
    torch.testing.assert_close(prompted.hidden(IDS), expected)
    assert [tuple(p.shape) for p in pe.learned(prompted)] == [(2, 8)]


def test_a_prefix_of_words_is_these_words():
    """Its default start is what the model makes of tokens: then a prefix is a prompt."""
    draw = torch.Generator().manual_seed(4)
    words = torch.randint(40, (1, 3), generator=draw)
    expected = new_gpt()(torch.cat([words.expand(2, -1), IDS], dim=1))[:, 3:]
    torch.testing.assert_close(pe.Prefix(new_gpt(), 3, seed=4)(IDS), expected)


def small_classifier():
    """A Classifier on a tiny encoder that knows single letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    from utils.lessons.sentence_embeddings import SentenceEncoder

    return Classifier(SentenceEncoder(new_bert(), tokenizer), 2)


TEXTS = ["a b c", "d e", "f g h a b", "c"]


@pytest.mark.parametrize("method", ["head", "LoRA", "adapters", "BitFit", "prompt", "prefix", "all"])
def test_only_the_method_and_the_head_learn_above(method):
    from utils.data import Review

    base = small_classifier()
    model = pe.adapt_classifier(base, method, 2, 1, {}, TEXTS)
    learns = {id(p) for p in pe.learned(model)}
    assert {id(p) for p in model.head.parameters()} <= learns
    below = [*model.body.model.inputs.parameters(), *model.body.model.blocks[0].parameters()]
    assert not learns & {id(p) for p in below}
    if method not in ("prompt", "prefix"):
        torch.testing.assert_close(model(*model.inputs(TEXTS)), base(*base.inputs(TEXTS)))
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    rows = [Review(text, i % 2, "books", "plain", "train") for i, text in enumerate(TEXTS)]
    before = model(*model.inputs(TEXTS))
    finetune(model, rows, 3, 0.05)
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    assert not torch.allclose(model(*model.inputs(TEXTS)), before, atol=1e-3)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_what_stands_in_front_of_a_text_does_not_see_its_company(method):
    model = pe.adapt_classifier(small_classifier(), method, 2, 1, {}, TEXTS)
    together = model(*model.inputs(TEXTS))
    alone = torch.cat([model(*model.inputs([text])) for text in TEXTS])
    torch.testing.assert_close(together, alone)


def test_text_loss_counts_real_tokens_only():
    model, rows = new_gpt(), [[1, 5, 6, 2], [1, 7, 2]]
    each = [F.cross_entropy(model(torch.tensor([row]))[0, :-1], torch.tensor(row[1:])) for row in rows]
    mean = (each[0] * 3 + each[1] * 2) / 5
    loss, n = pe.text_loss(model, rows)
    assert n == 5
    torch.testing.assert_close(loss, mean)
    assert pe.nats(model, rows, batch=1) == pytest.approx(mean.item(), rel=1e-5)


def test_the_stop_button_leaves_a_usable_model(capsys):
    def press(step, loss):
        raise KeyboardInterrupt

    model = new_gpt()
    pe.add_lora(model)
    pe.tune(model, [[1, 5, 6, 2], [1, 7, 2]], 5, 0.1, log=press)
    assert "Stopped in step 1 of 5" in capsys.readouterr().out
    assert model(IDS).isfinite().all()


def test_the_table_is_whole_and_counts_by_formula():
    """Every training that `efficient` names is there with three seeds, and its count is the formula's."""
    table = {(row["model"], row["method"], row["size"], row["seed"]): row for row in efficient.read()}
    asked = {
        (model, *which, seed)
        for model, rates in efficient.RATES.items()
        for which in rates
        for seed in efficient.SEEDS
    }
    assert table.keys() == asked
    shapes = {"reviews": (2, 384, 770), "gpt-200k": (2, 28, 0), "gpt-1m": (3, 112, 0), "gpt": (5, 320, 0)}
    for (model, method, size, _), row in table.items():
        L, D, head = shapes[model]
        front = {"prompt": size * D, "prefix": 2 * L * size * D, "head": 0}
        inside = {"LoRA": L * size * 16 * D, "adapters": L * 2 * (2 * D * size + size + D)}
        known = front | inside
        if method in known:
            assert row["numbers"] == known[method] + head
        assert row["rate"] == efficient.RATES[model][method, size]
        assert (row["old after"] is None) == (model == "reviews")


def test_a_row_of_the_table_can_be_made_again():
    """LoRA of rank 1 in the smallest GPT: the same losses, but for another machine's rounding."""
    rate = efficient.RATES["gpt-200k"]["LoRA", 1]
    numbers, *found = efficient.text_run("gpt-200k", "LoRA", 1, rate, seed=0)
    names = "before", "after", "old before", "old after"
    row = next(r for r in efficient.read() if (r["model"], r["method"], r["size"]) == ("gpt-200k", "LoRA", 1))
    assert numbers == row["numbers"]
    assert found == pytest.approx([row[name] for name in names], abs=0.02)
