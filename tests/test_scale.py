"""Scale: counts equal to torch's, fits that find what made the losses, a ladder that is what its table says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from utils import data, ladder, pretrain, zoo
from utils.lessons import scale
from utils.lessons.gpt import GPT, GPTConfig
from utils.lessons.modern_decoders import LLaMA, LlamaConfig

GPT_2 = GPTConfig(50_257, 1024, 12, 12, 768)
LLAMA = LlamaConfig(97, 64, n_layers=2, n_heads=4, d_model=48, d_ff=100, n_kv_heads=2, tied=False)
SHAPES = [
    (GPT, GPTConfig(97, 64, 2, 2, 32)),
    (GPT, GPTConfig(50, 16, 1, 4, 96)),
    (LLaMA, LLAMA),
    (LLaMA, replace(LLAMA, tied=True, n_kv_heads=None)),
    (LLaMA, replace(LLAMA, d_head=20, n_kv_heads=1, n_layers=3)),
]


def on_meta(family, config):
    with torch.device("meta"):
        return family(config)


# Counts


@pytest.mark.parametrize("family, config", SHAPES)
def test_parameters_are_those_of_the_model(family, config):
    model = on_meta(family, config)
    parts = scale.parameters(config)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    named = dict(model.named_parameters())
    tables = sum(p.numel() for name, p in named.items() if name.startswith(("tokens", "positions")))
    assert parts["tables"] == tables
    assert parts["vectors"] == sum(p.numel() for p in named.values() if p.dim() == 1)
    for part in "attention", "feed_forward", "head":
        assert parts[part] == sum(p.numel() for n, p in named.items() if part in n and p.dim() == 2)


@pytest.mark.parametrize(
    "config, published",
    [
        (GPT_2, 124_439_808),
        (replace(GPT_2, n_layers=24, n_heads=16, d_model=1024), 354_823_168),
        (replace(GPT_2, n_layers=48, n_heads=25, d_model=1600), 1_557_611_200),
        (LlamaConfig(32_000, 4096, 32, 32, 4096, 1e-5, 11_008, tied=False), 6_738_415_616),
        (LlamaConfig(32_000, 4096, 40, 40, 5120, 1e-5, 13_824, tied=False), 13_015_864_320),
        (LlamaConfig(32_000, 4096, 80, 64, 8192, 1e-5, 28_672, 8, tied=False), 68_976_648_192),
    ],
)
def test_published_models_have_their_published_size(config, published):
    assert sum(scale.parameters(config).values()) == published


def test_the_zoos_models_are_counted():
    for name in "gpt-200k", "llama":
        model, _ = zoo.load(name)
        assert sum(scale.parameters(model.config).values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("family, config", SHAPES)
@pytest.mark.parametrize("B, T", [(1, 16), (3, 7)])
def test_flops_are_those_that_torch_counts(family, config, B, T):
    model, ids = on_meta(family, config), torch.zeros(B, T, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as forward:
        model(ids)
    with FlopCounterMode(display=False) as both:
        model(ids).sum().backward()
    assert forward.get_total_flops() == B * scale.forward_flops(config, T)
    assert both.get_total_flops() == scale.training_flops(config, B * T, T)


@pytest.mark.parametrize("family, config", SHAPES)
def test_the_cache_takes_the_bytes_it_takes(family, config):
    cache = on_meta(family, config).new_cache(1, 9)
    bytes_ = sum(t.numel() * t.element_size() for t in (cache.keys, cache.values))
    assert bytes_ == scale.cache_bytes(config, 9, bytes_each=4) == 2 * scale.cache_bytes(config, 9)


# Fits


def test_a_line_finds_the_exponent_that_made_it():
    n = np.array([1e4, 1e5, 3e5, 1e6])
    slope, height = scale.line_fit(n, (8.8e13 / n) ** 0.076)
    assert slope == pytest.approx(-0.076) and math.exp(height) == pytest.approx(8.8e13**0.076)


def test_the_interval_is_the_middle_share():
    assert scale.interval(np.arange(101)) == pytest.approx((2.5, 97.5))
    assert scale.interval(np.arange(101), 0.5) == pytest.approx((25, 75))


def test_the_law_is_the_sum_of_its_terms():
    theta = np.array([math.log(1.5), math.log(0.5), math.log(2.0), 0.3, 0.7])
    n, tokens = np.array([0.1, 4.0]), np.array([3.0, 0.2])
    terms = np.stack([np.full(2, 1.5), 0.5 / n**0.3, 2 / tokens**0.7])
    value, shares = scale.log_law(theta, n, tokens)
    np.testing.assert_allclose(np.exp(value), terms.sum(0), rtol=1e-12)
    np.testing.assert_allclose(shares, terms / terms.sum(0), rtol=1e-12)


def test_the_misfit_is_hubers_and_its_gradient_is_right():
    theta, rng = np.array([0.4, -0.3, 0.2, 0.35, 0.5]), np.random.default_rng(0)
    n, tokens = rng.uniform(0.02, 2, (2, 12))
    loss = np.exp(scale.log_law(theta, n, tokens)[0] + np.linspace(-0.004, 0.004, 12))
    off = torch.linspace(0.004, -0.004, 12, dtype=torch.float64)
    wanted = torch.nn.functional.huber_loss(off, torch.zeros(12).double(), delta=1e-3, reduction="sum")
    value, gradient = scale.misfit(theta, n, tokens, loss)
    assert value == pytest.approx(wanted.item() / 1e-3)
    for i, step in enumerate(np.eye(5) * 1e-7):
        up, down = (scale.misfit(theta + s, n, tokens, loss)[0] for s in (step, -step))
        assert (up - down) / 2e-7 == pytest.approx(gradient[i], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("law", [(1.8, 0.5, 0.9, 0.35, 0.45), (0.8, 1.5, 0.5, 0.15, 0.8)])
def test_a_fit_finds_the_law_that_made_the_losses(law):
    truth = np.array([*np.log(law[:3]), *law[3:]])
    n, tokens = (a.flatten() for a in np.meshgrid(0.02 * 2.0 ** np.arange(8), [0.5, 1, 2, 4]))
    loss = np.exp(scale.log_law(truth, n, tokens)[0])
    np.testing.assert_allclose(scale.fit_law(n, tokens, loss), truth, atol=0.01)
    loss[5] *= 1.3  # one bad point moves nothing
    np.testing.assert_allclose(scale.fit_law(n, tokens, loss), truth, atol=0.02)


@pytest.mark.parametrize("law", [(1.8, 0.5, 0.9, 0.35, 0.45), (1.69, 406.4, 410.7, 0.34, 0.28)])
@pytest.mark.parametrize("product", [0.3, 30.0])
def test_the_best_size_is_the_best_size(law, product):
    theta = np.array([*np.log(law[:3]), *law[3:]])
    sizes = np.geomspace(1e-6, 1e6, 400_001)
    searched = sizes[scale.log_law(theta, sizes, product / sizes)[0].argmin()]
    assert scale.best_size(theta, product) == pytest.approx(searched, rel=1e-3)


def test_the_published_law_contradicts_its_own_rule_and_the_refit_does_not():
    advice = []
    for law in (1.69, 406.4, 410.7, 0.34, 0.28), (1.82, 482.0, 2085.0, 0.348, 0.366):
        best = scale.best_size([*np.log(law[:3]), *law[3:]], 5.76e23 / 6)
        advice.append(5.76e23 / 6 / best / best)
    assert advice == pytest.approx([93, 18], rel=0.02)


# The ladder


@pytest.fixture
def corpus(tmp_path):
    """A corpus of stories, each with a word of its own, of which some are held out."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [
        {
            "text": f"Once upon a time there was dog number {i}. " * 6,
            "split": "dev" if i % 5 == 4 else "train",
        }
        for i in range(400)
    ]
    path = folder / "stories-simple.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


@pytest.fixture
def small(monkeypatch):
    """Rungs that are trained in a moment."""
    monkeypatch.setattr(ladder, "SIZES", {"one": (1, 1, 8), "two": (1, 2, 16)})
    monkeypatch.setattr(ladder, "BATCH", 2)
    monkeypatch.setattr(ladder, "LENGTH", 16)
    monkeypatch.setattr(ladder, "HELD_OUT", 10)
    monkeypatch.setattr(ladder, "plan", lambda: [("one", 320, 0), ("two", 320, 0), ("one", 320, 1)])


def test_an_epoch_shows_every_window_once_in_the_seeds_own_order():
    ids = np.arange(40 * ladder.LENGTH + 1, dtype=np.uint16)
    seen = {}
    for seed in 0, 1, 0:
        batches = ladder.shuffled(ids, seed)
        firsts = [int(x) for step in range(40 // ladder.BATCH) for x in batches(step)[0][:, 0]]
        assert len(set(firsts)) == len(firsts)
        assert seen.setdefault(seed, firsts) == firsts
    assert seen[0] != seen[1]
    inputs, targets = ladder.shuffled(ids, 0)(0)
    assert inputs.shape == (ladder.BATCH, ladder.LENGTH) and torch.equal(inputs + 1, targets)


def test_what_is_held_out_is_never_trained_on(corpus, small):
    sources = pretrain.read_corpus(corpus, ladder.MIX)
    tokenizer = zoo.load("gpt-200k")[1]
    text = "".join(tokenizer.decode(row.tolist()) for row in ladder.held_out(sources, tokenizer))
    train, dev = (set("".join(sources["stories-simple"][part]).split()) for part in ("train", "dev"))
    numbers = {word for word in text.split() if word.endswith(".") and word[:-1].isdigit() and len(word) == 4}
    assert numbers & dev and not numbers & (train - dev)


def test_the_loss_is_the_mean_over_all_tokens():
    model, _ = zoo.load("gpt-200k")
    windows = torch.randint(6144, (5, 21), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(windows[:, :-1])
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert ladder.loss_on(model, windows, batch=2) == pytest.approx(wanted.item(), rel=1e-5)


def test_a_ladder_is_trained_once_and_goes_on_where_it_stood(corpus, small, tmp_path, monkeypatch):
    options = ["--corpus", str(corpus), "--state", str(tmp_path / "s"), "--table", str(tmp_path / "t.json")]
    ladder.main(options)
    table = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert [(row["size"], row["seed"]) for row in table["rows"]] == [("one", 0), ("two", 0), ("one", 1)]
    for row in table["rows"]:
        parts = scale.parameters(GPTConfig(**row["config"]))
        assert row["parameters"] == sum(parts.values())
        assert row["in_blocks"] == row["parameters"] - parts["tables"]
        assert 0 < row["loss"] < math.log(6144) + 0.5 and row["rate"] == ladder.rate_of(row["size"])
    assert table["rows"][0]["loss"] != table["rows"][2]["loss"]
    with monkeypatch.context() as patch:  # nothing is trained twice
        patch.setattr(ladder, "train_one", None)
        ladder.main(options)
    (tmp_path / "s" / "two-320-0-0.0379.json").unlink()
    ladder.main([*options, "--no-training"])
    left = json.loads((tmp_path / "t.json").read_text("utf-8"))["rows"]
    assert left == [table["rows"][0], table["rows"][2]]
    ladder.main([*options[:3], str(tmp_path / "s2"), *options[4:]])
    again = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert [row["loss"] for row in again["rows"]] == [row["loss"] for row in table["rows"]]


def test_the_shipped_table_is_what_the_plan_makes():
    runs = data.ladder()
    assert {(run["size"], run["tokens"], run["seed"]) for run in runs} <= set(ladder.plan())
    assert {run["size"] for run in runs} == set(ladder.SIZES) and len(ladder.SIZES) >= 8
    for run in runs:
        config = ladder.build(run["size"]).config
        assert GPTConfig(**run["config"]) == config
        parts = scale.parameters(config)
        assert run["parameters"] == sum(parts.values())
        assert run["in_blocks"] == run["parameters"] - parts["tables"]
        assert run["rate"] == ladder.rate_of(run["size"])
    seeds = {(run["size"], run["tokens"]) for run in runs if run["seed"]}
    assert len(seeds) >= 2
    sizes = [sum(scale.parameters(ladder.build(size).config).values()) for size in ladder.SIZES]
    assert sizes == sorted(sizes)
