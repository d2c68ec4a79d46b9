"""Lesson 17: its tools measure what they say. The definitions are read from the page itself."""

import itertools
import math
import random
import re
from types import SimpleNamespace

import definitions
import pytest
import torch
import toys

T, BOS, EOS = 12, 1, 2


@pytest.fixture(scope="module")
def page():
    """The imports, functions and classes of the page, around a model and a tokenizer small enough for a test."""
    model, tokenizer = toys.sure_gpt(0, 64), toys.byte_tokenizer()
    rows = torch.randint(3, 259, (48, T), generator=torch.Generator().manual_seed(0))
    given = {
        "base": model,
        "tokenizer": tokenizer,
        "bos": BOS,
        "eos": EOS,
        "T": T,
        "steps": 8,
    }
    given |= {
        "new": {"train": rows[:16], "test": rows[16:24]},
        "old": {"train": rows[24:40], "test": rows[40:]},
    }
    given["watched"] = ("training rows", "held-out rows", "old text")
    names = definitions.of_page("17_finetuning_pitfalls", given)
    return SimpleNamespace(names=names, **{k: v for k, v in names.items() if callable(v)})


# Underfitting


def test_the_loss_skips_what_was_filled_up(page):
    rows = page.token_rows(["abc", "a much longer text"])
    assert rows[0].tolist()[5:] == [-1] * (rows.size(1) - 5) and rows[0, 4] == EOS
    one = page.loss(page.names["base"], page.token_rows(["abc"]))
    padded = page.loss(page.names["base"], rows[:1])
    torch.testing.assert_close(one, padded)
    assert page.token_rows(["abcdef"], 3).tolist() == [[BOS, *page.names["tokenizer"].encode("ab").ids]]


def test_bits_per_byte_are_the_nats_of_all_tokens(page):
    texts, model = ["ab", "hello"], page.names["base"]
    nats = 0.0
    for text in texts:
        ids = torch.tensor([[BOS, *page.names["tokenizer"].encode(text).ids, EOS]])
        with torch.no_grad():
            log_p = model(ids[:, :-1]).log_softmax(-1)
        nats -= log_p.gather(-1, ids[:, 1:, None]).sum().item()
    assert page.bits_per_byte(texts) == pytest.approx(nats / math.log(2) / 7, rel=1e-4)


def test_ridge_is_the_textbooks(page):
    """(X'X + price I)^-1 X'y on centred columns, with more rows than columns and the other way round."""
    draw = torch.Generator().manual_seed(1)
    for n, d in ((20, 4), (5, 12)):
        x, y = torch.randn(n, d, generator=draw).double(), torch.arange(n) % 2
        centred, target = x - x.mean(0), 2.0 * y.double() - 1
        w = torch.linalg.solve(centred.T @ centred + 0.7 * torch.eye(d), centred.T @ (target - target.mean()))
        other = torch.randn(3, d, generator=draw).double()
        expected = (other - x.mean(0)) @ w + target.mean()
        torch.testing.assert_close(page.ridge(x, y, 0.7)(other), expected)


def test_swapped_words_lose_nothing(page):
    texts = ["The soup was cold.", "Cold soup, the best soup!", "It wasn't the soup."]
    assert page.swap_words(texts, 0, 1) == [text.lower() for text in texts]
    swapped = page.swap_words(texts, 1, 1)
    back = {}
    for text, other in zip(texts, swapped):
        pairs = list(zip(page.words(text), page.words(other), strict=True))
        assert all(back.setdefault(a, b) == b and a != b for a, b in pairs)  # the same everywhere
    assert sorted(back) == sorted(back.values())  # and one to one
    some = page.swap_words(texts, 0.5, 2)
    moved = {a for t, o in zip(texts, some) for a, b in zip(page.words(t), page.words(o)) if a != b}
    assert len(moved) == round(0.5 * len(back))


def test_a_bag_of_words_cannot_tell_swapped_texts_from_the_old_ones(page):
    rng = random.Random(0)
    texts = [" ".join(rng.choices([f"w{c}" for c in "abcdefghij"], k=6)) for _ in range(40)]
    labels = torch.tensor([i % 2 for i in range(40)])
    scores = []
    for share in (0, 0.5, 1):
        x = page.bag(page.swap_words(texts, share, 3))
        torch.testing.assert_close(x.norm(dim=1), torch.ones(40))
        scores.append(page.ridge(x[:30], labels[:30], 0.3)(x[30:]))
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2])


# Forgetting


def test_training_leaves_the_start_alone_and_can_be_repeated(page):
    model, rows = page.names["base"], page.names["new"]["train"]
    before = {name: p.clone() for name, p in model.named_parameters()}
    (one, log), (same, _), (other, _) = (
        page.adapt(model, rows, 8, 1e-2, seed, every=4) for seed in (0, 0, 1)
    )
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), same.parameters()))
    assert not all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))
    assert [row["step"] for row in log] == [0, 4, 8]
    assert log[-1]["training rows"] < log[0]["training rows"]


def test_the_stop_button_leaves_a_usable_model(page, capsys):
    def stop(model, step):
        if step == 2:
            raise KeyboardInterrupt
        return 0.0

    model, log = page.adapt(page.names["base"], page.names["new"]["train"], 8, 1e-2, 0, extra=stop, every=1)
    assert "usable" in capsys.readouterr().out and len(log) == 3
    assert page.loss(model, page.names["new"]["test"]).isfinite()


def test_a_pull_costs_nothing_at_the_start_and_its_slope_is_its_strength(page):
    base = page.names["base"]
    assert page.pull(0.5)(base, 0) == 0
    moved = page.deepcopy(base)
    with torch.no_grad():
        moved.norm.weight.add_(2.0)
    price = page.pull(0.5)(moved, 0)
    assert price.item() == pytest.approx(0.5 * 4 * moved.norm.weight.numel(), rel=1e-5)


def test_replay_reads_old_rows_only(page, monkeypatch):
    read = []
    monkeypatch.setitem(page.names, "loss", lambda model, rows: read.append(rows) or torch.tensor(1.0))
    extra = page.replay(0, share=0.5)
    assert [extra(None, step).item() for step in range(8)] == [0.5] * 8
    old = {tuple(row.tolist()) for row in page.names["old"]["train"]}
    assert all(len(rows) == 4 for rows in read)
    assert {tuple(row) for rows in read for row in rows.tolist()} <= old


def test_detours_change_nothing_at_first_and_are_a_low_rank_change_of_the_matrix(page):
    base, ids = page.names["base"], page.names["new"]["test"]
    model = page.with_detours(base, 3, seed=0)
    with torch.no_grad():
        assert torch.equal(model(ids), base(ids))
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        merged = page.deepcopy(base)
        for block, detoured in zip(merged.blocks, model.blocks):
            for part, name in itertools.product(("attention", "feed_forward"), ("qkv", "out", "up", "down")):
                linear = getattr(getattr(block, part), name, None)
                if linear is not None:
                    narrow = getattr(getattr(detoured, part), name)
                    linear.weight += narrow.b @ narrow.a
                    assert torch.linalg.matrix_rank(narrow.b @ narrow.a) == 3
        torch.testing.assert_close(model(ids), merged(ids), atol=1e-3, rtol=1e-3)
    trained, _ = page.adapt(model, ids, 2, 1e-2, 0)
    frozen = dict(model.named_parameters())
    for name, p in trained.named_parameters():
        assert torch.equal(p, frozen[name]) != bool(re.search(r"\.[ab]$", name)), name


def test_what_was_paid_is_read_off_between_two_looks(page):
    gain, lose = torch.tensor([0.0, 0.2, 0.4, 0.1]), torch.tensor([0.0, 1.0, 3.0, 9.0])
    assert page.paid(gain, lose, 0.3) == pytest.approx(2.0)
    assert page.paid(gain, lose, 0.1) == pytest.approx(0.5)
    assert math.isnan(page.paid(gain, lose, 0.5))


# Contamination


def test_p_values_are_those_of_all_splits(page):
    """Against every split of eight rows in two halves."""
    losses = torch.tensor([0.1, 0.2, 0.4, 0.3, 0.9, 1.0, 0.35, 1.2])
    public, secret = torch.tensor([0, 1, 2, 4]), torch.tensor([3, 5, 6, 7])

    def gap(half):
        rest = [i for i in range(8) if i not in half]
        return losses[rest].mean() - losses[list(half)].mean()

    splits = [gap(half) for half in itertools.combinations(range(8), 4)]
    exact = sum(bool(g >= gap(public.tolist()) - 1e-6) for g in splits) / len(splits)
    assert page.p_value(losses, public, secret, draws=4999) == pytest.approx(exact, abs=0.025)


def test_p_values_without_a_leak_are_even_and_with_one_small(page):
    draw, found = torch.Generator().manual_seed(0), []
    for _ in range(300):
        order = torch.randperm(40, generator=draw)
        found.append(page.p_value(torch.rand(40, generator=draw), order[:20], order[20:], draws=99))
    found = torch.tensor(found)
    assert abs(found.mean() - 0.5) < 0.05 and 0.02 < (found <= 0.05).float().mean() < 0.09
    losses = torch.rand(40, generator=draw)
    losses[:20] *= 0.2
    assert page.p_value(losses, torch.arange(20), torch.arange(20, 40)) == 0.001


def test_pieces_hold_every_text_once_and_shuffles_stay_inside(page):
    draw = torch.Generator().manual_seed(0)
    order = page.shuffled_within(20, 5, draw)
    assert sorted(order) == list(range(20)) and order != list(range(20))
    assert all(sorted(order[at : at + 5]) == list(range(at, at + 5)) for at in range(0, 20, 5))
    texts = [f"text {chr(97 + i)}." for i in range(20)]
    plain, shuffled = page.pieces(texts), page.pieces(texts, order)
    assert plain.shape == shuffled.shape and len(plain) == 4
    for one, other in zip(plain, shuffled):
        assert sorted(one.tolist()) == sorted(other.tolist())


def test_log_p_counts_real_tokens_only(page):
    rows = page.token_rows(["abc", "something longer"])
    with torch.no_grad():
        found = page.log_p(page.names["base"], rows)
        alone = page.log_p(page.names["base"], page.token_rows(["abc"]))
    torch.testing.assert_close(found[:1], alone, rtol=1e-4, atol=1e-3)
    nats = page.loss(page.names["base"], rows) * (rows[:, 1:] >= 0).sum()
    torch.testing.assert_close(-found.sum(), nats.detach(), rtol=1e-4, atol=1e-2)


def test_the_order_test_catches_a_reader_and_is_quiet_otherwise(page, monkeypatch):
    """A stand-in reads orders: it likes the published one, or it likes them all alike."""
    texts, first = [f"text {i}" for i in range(40)], list(range(40))
    monkeypatch.setitem(page.names, "pieces", lambda texts, order=None, n=5: order or first)

    def likes(order, how, seed=0):
        if how == "published":
            return torch.tensor([float(order[at : at + 5] == first[at : at + 5]) for at in range(0, 40, 5)])
        return torch.rand(8, generator=torch.Generator().manual_seed(hash(tuple(order)) % 2**31 + seed))

    monkeypatch.setitem(page.names, "log_p", lambda model, order: likes(order, *model))
    share, p = page.order_test(("published",), texts)
    assert share == pytest.approx(1, abs=0.02) and p <= 0.001
    quiet = torch.tensor([page.order_test(("random", seed), texts, seed)[1] for seed in range(200)])
    assert 0.4 < quiet.mean() < 0.65 and (quiet < 0.05).float().mean() < 0.1
