"""Lesson 13's parts, each against its definition; the whole models are compared in test_families.py."""

import http.server
import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import test_zoo
import torch
from torch import nn
from transformers import LlamaConfig as TheirConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from utils import pages, pretrain, train, zoo
from utils.lessons import modern_decoders as modern
from utils.lessons.attention import causal_mask
from utils.lessons.gpt import GPT, GPTConfig
from utils.lessons.modern_decoders import Gemma2, GemmaConfig, LLaMA, Llama4, Llama4Config, LlamaConfig, OLMo2
from utils.lessons.transformer import CausalAttention

PAGE = "13_modern_decoders"
SMALL = LlamaConfig(vocab_size=97, n_layers=2, n_heads=4, d_model=24, d_ff=20)


def angles(n, K, **how):
    turned = torch.arange(n)[:, None] * modern.rates(K, **how)
    return turned.cos(), turned.sin()


# Rotary positions


@pytest.mark.parametrize("in_pairs", [False, True])
@pytest.mark.parametrize("K", [2, 6, 32])
def test_a_turn_keeps_lengths_and_scores_know_the_distance_alone(K, in_pairs):
    q, k = torch.randn(2, 1, K, dtype=torch.float64).expand(2, 40, K)
    turns = [x.double() for x in angles(40, K)]
    turned_q, turned_k = (modern.rotate(x, *turns, in_pairs) for x in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    scores = turned_q @ turned_k.T
    for distance in range(-39, 40):
        line = scores.diagonal(distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), atol=1e-4, rtol=0)
    assert scores[:, 0].std() > 1e-3
    torch.testing.assert_close(turned_q[0], q[0])  # position 0 does not turn


def test_halves_and_neighbours_differ_by_an_order():
    x, turns = torch.randn(5, 8), angles(5, 8)
    order = torch.cat([torch.arange(0, 8, 2), torch.arange(1, 8, 2)])
    in_pairs = modern.rotate(x, *turns, in_pairs=True)
    torch.testing.assert_close(modern.rotate(x[:, order], *turns), in_pairs[:, order])
    assert not torch.allclose(modern.rotate(x, *turns), in_pairs)


def test_the_loop_turns_alike():
    (turn_by_loop,) = pages.definitions(PAGE, "turn_by_loop", given={"cmath": __import__("cmath")})
    x, turns = torch.randn(9, 6), angles(9, 6, base=50.0)
    plain = [turn_by_loop(row, m, base=50.0) for m, row in enumerate(x.tolist())]
    torch.testing.assert_close(modern.rotate(x, *turns), torch.tensor(plain), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("base", [100.0, 10_000.0, 500_000.0])
def test_the_first_pair_turns_by_a_radian_and_each_next_one_slower(base):
    rates = modern.rates(16, base)
    assert rates[0] == 1 and (rates.diff() < 0).all() and len(rates) == 8
    assert rates[4] == pytest.approx(base**-0.5, rel=1e-5)


@pytest.mark.parametrize("original", [16, 64, 8192])
@pytest.mark.parametrize("K", [8, 64])
def test_llama_3_turns_slow_pairs_slower(K, original):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = original
    theirs = TheirConfig(head_dim=K, rope_parameters=scaling | {"rope_theta": 500.0})
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](theirs, "cpu")
    found = modern.rates(K, 500.0, scaling)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    plain = modern.rates(K, 500.0)
    assert (found <= plain * 1.0001).all() and (found >= plain / 8.0001).all()


def test_rotary_settings_are_read_in_the_form_of_any_year():
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 64}
    for old in ({"rope_type": "llama3"}, {"type": "llama3"}):
        config = {"rope_theta": 5e5, "rope_scaling": scaling | old}
        assert modern.read_rotary(config)["rope_scaling"] == scaling | {"rope_type": "llama3"}
    new = {"rope_parameters": scaling | {"rope_type": "llama3", "rope_theta": 5e5}}
    found = modern.read_rotary(new)
    assert found["rope_theta"] == 5e5 and found["rope_scaling"] == scaling | {"rope_type": "llama3"}
    for plain in (
        {},
        {"rope_theta": None, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default"}},
    ):
        found = modern.read_rotary(plain)
        assert found["rope_theta"] == 10_000.0 and found["rope_scaling"] is None


def test_a_scaling_that_is_not_built_is_refused(tmp_path):
    zoo.to_transformers(LLaMA(SMALL)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 2.0}
    path.write_text(json.dumps(config))
    with pytest.raises(zoo.ZooError, match="config.json: rope_scaling is of type 'yarn'"):
        zoo.from_transformers(tmp_path)


# Grouped queries


class Still(modern.GroupedAttention):
    """Does not turn, has biases: lesson 04's attention where every head has keys of its own."""

    bias, rotary = True, False


def test_with_as_many_heads_of_keys_it_is_plain_attention():
    ours, plain = Still(SMALL), CausalAttention(SMALL)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), plain(x))


@pytest.mark.parametrize("G", [1, 2, 4])
def test_a_group_shares_its_keys(G):
    (grouped_by_loop,) = pages.definitions(PAGE, "grouped_by_loop")
    layer = Still(replace(SMALL, n_kv_heads=G, d_head=10))
    q, k, v = layer.project(torch.randn(2, 7, 24))
    assert (q.shape, k.shape, v.shape) == ((2, 4, 7, 10), (2, G, 7, 10), (2, G, 7, 10))
    plain = torch.stack([grouped_by_loop(*one) for one in zip(q, k, v)])
    torch.testing.assert_close(layer.mix(q, k, v, None), plain, atol=1e-6, rtol=1e-4)


def test_the_cache_holds_the_shared_heads_only():
    model = LLaMA(replace(SMALL, n_heads=8, n_kv_heads=2, d_head=10))
    cache = model.new_cache(3, 5)
    assert cache.keys.shape == cache.values.shape == (2, 3, 2, 5, 10)
    model.bfloat16()
    assert model.new_cache(3, 5).keys.nbytes == cache.keys.nbytes // 2


# Norms and nets


def test_normed_queries_and_keys_do_not_care_for_the_size_of_states():
    layer = modern.OlmoAttention(SMALL)
    x = torch.randn(1, 6, 24)
    for part in (0, 1):
        torch.testing.assert_close(layer.project(x)[part], layer.project(50 * x)[part], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(layer.project(x)[2], layer.project(50 * x)[2])


def test_gemmas_norm_stretches_by_one_and_its_weight():
    norm = modern.GemmaNorm(8, eps=1e-6)
    assert (norm.weight == 0).all()
    nn.init.normal_(norm.weight)
    x = torch.randn(3, 8)
    plain = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + norm.weight)
    torch.testing.assert_close(norm(x), plain)


def test_the_gate_multiplies():
    (dot,) = pages.definitions(PAGE, "dot")
    (gated_by_loop,) = pages.definitions(PAGE, "gated_by_loop", given={"dot": dot, "math": math})
    net = modern.GatedFeedForward(SMALL, width=5)
    x = torch.randn(4, 24)
    weights = [matrix.weight.tolist() for matrix in (net.gate, net.up, net.down)]
    plain = torch.tensor([gated_by_loop(row, *weights) for row in x.tolist()])
    torch.testing.assert_close(net(x), plain, atol=1e-5, rtol=1e-4)
    nn.init.zeros_(net.gate.weight)
    assert (net(x) == 0).all()


# Caps, windows, chunks


@pytest.mark.parametrize("cap", [1.0, 30.0])
def test_a_soft_cap_is_x_where_x_is_small_and_never_beyond(cap):
    x = torch.linspace(-10 * cap, 10 * cap, 2001, dtype=torch.float64, requires_grad=True)
    capped = modern.soft_cap(x, cap)
    assert (capped.abs() <= cap).all() and (capped.diff() >= 0).all()
    small = torch.linspace(-0.01 * cap, 0.01 * cap, 9)
    torch.testing.assert_close(modern.soft_cap(small, cap), small, rtol=1e-4, atol=0)
    (slope,) = torch.autograd.grad(capped.sum(), x)
    torch.testing.assert_close(slope, 1 - (capped / cap).square())
    assert modern.soft_cap(x, None) is x


@pytest.mark.parametrize("T, S, window", [(6, 6, 3), (1, 6, 3), (2, 9, 1), (4, 4, 9)])
def test_a_window_is_the_last_places_itself_included(T, S, window):
    seen = modern.both(None, modern.in_window(T, S, window))
    for t in range(T):
        place = S - T + t
        assert seen[t].nonzero().flatten().tolist() == list(range(max(0, place - window + 1), place + 1))


def test_who_may_look_nowhere_may_look_everywhere():
    mask = causal_mask(3)[None, None] & torch.tensor([False, True, True])
    seen = modern.both(mask, modern.in_window(3, 3, 1))[0, 0]
    assert seen.tolist() == [[True, True, True], [False, True, False], [False, False, True]]


def reach(model, T=14):
    """Which input positions each output depends on, (T, T)."""
    x = torch.randn(1, T, model.config.d_model, requires_grad=True)
    states = model.run(x, torch.arange(T))
    rows = [torch.autograd.grad(states[0, t].square().sum(), x, retain_graph=True)[0][0] for t in range(T)]
    return torch.stack(rows).abs().sum(-1) > 0


def test_two_windows_reach_further_than_one():
    kinds = ("sliding_attention",) * 2
    config = GemmaConfig(97, 64, 2, 2, 16, d_ff=8, n_kv_heads=1, d_head=8, window=4)
    torch.manual_seed(0)
    distance = torch.arange(14)[:, None] - torch.arange(14)
    one = reach(Gemma2(replace(config, n_layers=1, layer_types=kinds), head=None))
    two = reach(Gemma2(replace(config, layer_types=kinds), head=None))
    full = reach(Gemma2(config, head=None))  # the second layer sees all
    assert torch.equal(one, (distance >= 0) & (distance < 4))
    assert torch.equal(two, (distance >= 0) & (distance < 7))
    assert torch.equal(full, distance >= 0)


def test_a_chunk_sees_itself_and_a_layer_without_positions_sees_all():
    config = Llama4Config(97, 64, 1, 2, 16, d_ff=8, n_kv_heads=1, d_head=8, n_experts=2, chunk=5)
    torch.manual_seed(0)
    place = torch.arange(14)
    chunked = reach(Llama4(config, head=None))
    assert torch.equal(chunked, (place[:, None] >= place) & (place[:, None] // 5 == place // 5))
    assert torch.equal(reach(Llama4(replace(config, rotary_layers=(0,)), head=None)), place[:, None] >= place)


# Experts


def experts(**changes):
    torch.manual_seed(0)
    config = replace(Llama4Config(97, 64, 1, 2, 16, d_ff=8, n_experts=4, n_chosen=2), **changes)
    layer = modern.Experts(config)
    for weights in layer.experts.values():
        nn.init.normal_(weights, std=0.3)
    return layer


def loop_of(layer, tokens):
    (by_loop,) = pages.definitions(PAGE, "experts_by_loop")
    nets = []
    for gate_up, down in zip(layer.experts["gate_up"], layer.experts["down"]):
        net = modern.GatedFeedForward(LlamaConfig(d_model=16), width=8)
        gate, up = gate_up.T.chunk(2)
        net.load_state_dict({"gate.weight": gate, "up.weight": up, "down.weight": down.T})
        nets.append(net)
    return by_loop(tokens, layer.router.weight, nets, layer.shared, layer.n_chosen)


@pytest.mark.parametrize("n_chosen", [1, 2, 4])
def test_experts_do_what_the_loop_says(n_chosen):
    layer, x = experts(n_chosen=n_chosen), torch.randn(2, 5, 16)
    plain = loop_of(layer, x.flatten(0, 1)).view_as(x)
    torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-4)


def test_an_expert_that_nobody_chose_learns_nothing():
    layer, x = experts(n_chosen=1), torch.randn(1, 2, 16)
    chosen = set(layer.router(x).argmax(-1).flatten().tolist())
    layer(x).square().sum().backward()
    for weights in layer.experts.values():
        assert {i for i in range(4) if weights.grad[i].abs().sum() > 0} == chosen
    assert (layer.router.weight.grad.abs().sum(1) > 0).nonzero().flatten().tolist() == sorted(chosen)


@pytest.mark.parametrize("expert_layers, dense", [(None, []), ((1,), [0]), ((), [0, 1])])
def test_some_layers_may_do_without_experts(expert_layers, dense):
    config = Llama4Config(97, 64, 2, 2, 16, d_ff=8, d_ff_dense=12, n_kv_heads=1, d_head=8)
    model = Llama4(replace(config, expert_layers=expert_layers))
    kinds = [isinstance(block.feed_forward, modern.Experts) for block in model.blocks]
    assert [i for i, sparse in enumerate(kinds) if not sparse] == dense
    for i in dense:
        assert model.blocks[i].feed_forward.up.weight.shape == (12, 16)
        assert model.blocks[i].feed_forward.up.weight.std() < 0.03  # started like all others


# The models


@pytest.mark.parametrize("make", [LLaMA, OLMo2, Gemma2, Llama4])
def test_it_learns_in_bf16_with_the_course_s_loss(make):
    torch.manual_seed(0)
    model = make(make.make_config(vocab_size=97, n_layers=2))
    log = train.fit(model, lambda step: torch.arange(64).view(2, 32).repeat(2, 1, 1), 8, rate=5e-3, warmup=2)
    assert all(math.isfinite(entry["loss"]) for entry in log) and log[-1]["loss"] < log[0]["loss"] - 0.2
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())


def test_a_head_of_its_own_starts_like_the_embedding():
    torch.manual_seed(0)
    tied, apart = LLaMA(SMALL), LLaMA(replace(SMALL, tied=False))
    assert tied.head.weight is tied.tokens.weight and apart.head.weight is not apart.tokens.weight
    assert apart.head.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_no_table_ends():
    model = LLaMA(replace(SMALL, n_positions=8)).eval()
    with torch.no_grad():
        assert model(torch.randint(97, (1, 40))).isfinite().all()


def test_positions_may_be_given_and_only_their_distances_count():
    model, ids = LLaMA(SMALL).eval(), torch.randint(97, (2, 9))
    with torch.no_grad():
        plain, moved = model(ids), model(ids, positions=torch.arange(100, 109))
        spread = model(ids, positions=2 * torch.arange(9).expand(2, 9))
    torch.testing.assert_close(plain, moved, atol=1e-5, rtol=1e-4)
    assert (plain - spread).abs().max() > 1e-5


def test_gemmas_logits_stay_below_their_cap():
    config = GemmaConfig(97, 64, 1, 2, 16, d_ff=8, n_kv_heads=1, d_head=8, logit_cap=2.0)
    model = Gemma2(config)
    with torch.no_grad():
        model.tokens.weight *= 1000
        assert 1.9 < model(torch.randint(97, (1, 9))).abs().max() <= 2


# Now with the published models: the cells tagged `hub`, against a hub on loopback

PUBLISHED = {  # the page, the name it opens, and a narrow model of that architecture
    "12_gpt": ("openai-community/gpt2", GPT(GPTConfig(6144, 64, 2, 2, 16))),
    PAGE: ("HuggingFaceTB/SmolLM2-135M", LLaMA(LlamaConfig(6144, 64, 2, 6, 24, d_ff=16, n_kv_heads=2))),
}
OLD = {"rope_theta": 100_000.0, "rope_scaling": None}  # as published files of 2024 say it


@pytest.mark.parametrize("page", PUBLISHED)
def test_the_page_opens_the_published_model(page, tmp_path):
    name, model = PUBLISHED[page]
    folder = tmp_path / "served"
    zoo.save(model, pretrain.get_tokenizer({}), folder, dtype=torch.float32)
    if page == PAGE:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | OLD))
    hub = type("TinyHub", (test_zoo.Hub,), {"folder": folder, "name": name})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    nb = pages.read(pages.ROOT / "notebooks" / f"{page}.ipynb")
    (cell,) = (cell.source for cell in nb.cells if "hub" in pages.tags(cell))
    code = f"import torch\nfrom utils import course, zoo\n{cell}\nprint(type(published).__name__)"
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | place | {"COURSE_ONLINE": "1"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=pages.ROOT, env=env, timeout=300
        )
    finally:
        server.shutdown()
        server.server_close()
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == type(model).__name__
