"""Lesson 24: the writer begins as the masked model, learns from its own drafts, and mends them. Read from the page."""

import itertools
from types import SimpleNamespace

import definitions
import pytest
import torch
import transformers
from torch.nn import functional as F

from utils.lessons.bert import BERT, BertConfig

CONFIG = BertConfig(33, n_positions=16, n_layers=2, n_heads=2, d_model=8, d_ff=16, n_segments=0)


@pytest.fixture(scope="module")
def page():
    """The imports, functions, classes and plain constants of the page."""
    names = definitions.of_page("24_masked_seq2seq", also=constant)
    return SimpleNamespace(
        names=names, **{k: v for k, v in names.items() if k.isidentifier() and k[0] != "_"}
    )


def constant(node):
    """BLOT, CLS, SEP, FIRST = 0, 1, 2, 3 and the like: capitals on the left, no model on the right."""
    names = definitions.assigned(node)
    return all(name.isupper() for name in names) and {"BLOT", "SIGNS", "V", "LENGTHS", "PASSES"} & names


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def mlm():
    torch.manual_seed(0)
    model = BERT(CONFIG, "masked").eval()
    with torch.no_grad():  # weights of size 1, so that no part is too small to be seen
        for p in model.parameters():
            p.add_(torch.randn(p.shape) * 0.3)
    return model


@pytest.fixture
def ids():
    return torch.randint(3, 33, (3, 6), generator=draw())


# The country


def test_a_translation_is_the_letter_backwards_by_either_dictionary(page):
    country = page.Country(4)
    source, target, right = page.letters(country, 200, 5, draw(), blots=0)
    for d, start in enumerate((13, 23)):
        back = country.words[d].argsort()[right[d] - start].flip(1)
        assert torch.equal(back + 3, source)
    chosen = (target == right).all(-1)
    assert (chosen.sum(0) == 1).all() and 60 < chosen[0].sum() < 140


def test_the_best_reader_is_brute_force(page):
    country = page.Country(5)
    source = page.letters(country, 20, 3, draw(1), blots=0.5)[0]
    found = page.best_reader(country, source)
    for row, p in zip(source, found):
        expected = torch.zeros(3, 10)
        for words in itertools.product(range(10), repeat=3):
            if all(seen in (0, word + 3) for seen, word in zip(row.tolist(), words)):
                weight = country.follow[words[0], words[1]] * country.follow[words[1], words[2]]
                expected[range(3), words] += weight
        torch.testing.assert_close(p, expected / expected.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_one_pass_of_coins_is_pure_twice_in_two_to_the_n(page):
    everything = torch.tensor(list(itertools.product((True, False), repeat=5)))
    assert page.pure(everything).sum() == 2
    assert page.pure(page.join_majority(everything)).all()
    won = page.join_majority(everything[everything.sum(1) >= 3])
    assert won.all()


# Noise and losses


def test_half_of_the_tokens_are_corrupted_and_every_count_is_equally_likely(page):
    clean = torch.full((30_000, 5), 4)
    changed = (
        page.corrupt(clean, draw(), 1_000_003, 5) != clean
    )  # so many words that no draw hits the old one
    assert abs(changed.double().mean() - 0.5) < 0.01
    counts = changed.sum(1).bincount(minlength=6) / 30_000
    assert (counts - 1 / 6).abs().max() < 0.01


def test_a_share_of_zero_leaves_the_target_alone(page, monkeypatch, ids):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator=None: torch.zeros(*shape))
    assert torch.equal(page.corrupt(ids, draw(), 33, 3), ids)


def gradients(loss, model):
    model.zero_grad()
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def test_no_gradient_passes_the_drawn_draft(page, mlm, ids, monkeypatch):
    model, kept = page.loud(page.reuse(mlm)), []
    own = page.drawn

    def spy(logits, generator):
        kept.append(own(logits, generator))
        return kept[-1]

    monkeypatch.setitem(page.names, "drawn", spy)
    found = gradients(page.denoising_loss(model, ids, ids.flip(1), draw(3)), model)
    memory, target = model.encode(page.framed(ids)), ids.flip(1)
    noise = page.corrupt(target, draw(3), 33, 3)
    losses = [page.words_loss(page.rewrite(model, d, memory), target) for d in (noise, kept[0])]
    length = F.cross_entropy(model.length_logits(*memory), torch.full((3,), 6))
    expected = gradients(sum(losses) / 2 + 0.1 * length, model)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert not kept[0].is_floating_point()


@pytest.mark.parametrize("second, drafts", [("own draft", 2), ("other noise", 2), (None, 1)])
def test_the_loss_asks_as_often_as_its_name_says(page, mlm, ids, second, drafts, monkeypatch):
    asked, own = [], page.rewrite
    monkeypatch.setitem(page.names, "rewrite", lambda *a: asked.append(a[1]) or own(*a))
    page.denoising_loss(page.reuse(mlm), ids, ids, draw(), second)
    assert len(asked) == drafts


def test_blanks_are_asked_for_and_nothing_else(page, mlm, ids, monkeypatch):
    seen, own = [], page.rewrite
    monkeypatch.setitem(page.names, "rewrite", lambda *a: seen.append(a[1]) or own(*a))
    for seed in range(200):
        page.blanks_loss(page.reuse(mlm), ids, ids, draw(seed))
    blanks = torch.stack(seen) == 0
    assert ((torch.stack(seen) == ids) | blanks).all()
    counts = blanks.sum(-1).flatten().bincount(minlength=7)
    assert counts[0] == 0 and (counts[1:] - 100).abs().max() < 45  # 600 rows, six equally likely numbers


# The machine


def test_transformers_has_no_such_writer():
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    with pytest.raises(ValueError, match="decoder"):
        transformers.BertModel(transformers.BertConfig(**shape, vocab_size=33, add_cross_attention=True))


def test_the_writer_begins_as_the_masked_model(page, mlm, ids):
    model = page.reuse(mlm).eval()
    anything = [torch.randn(3, 4, 8) for _ in range(2)]
    assert torch.equal(model.decode(ids, anything), mlm(ids))
    assert torch.equal(model.encode(ids)[0][-1], mlm.hidden(ids))


def test_a_post_norm_look_would_not(page, mlm):
    block, x = page.NaiveBlock(CONFIG), torch.randn(2, 5, 8)
    block.load_state_dict(mlm.blocks[0].state_dict(), strict=False)
    page.silence(block)
    assert not torch.allclose(block(x, memory=x), mlm.blocks[0](x), atol=1e-2)


def test_the_order_of_the_source_matters_only_where_the_look_speaks(page, mlm, ids):
    model = page.reuse(mlm).eval()
    states = [model.encode(source) for source in (ids, ids.flip(1))]
    assert torch.equal(*(model.decode(ids, *memory) for memory in states))
    page.loud(model)
    assert not torch.allclose(*(model.decode(ids, *memory) for memory in states), atol=1e-3)


def test_fillings_and_the_order_of_the_batch_change_nothing(page, mlm, ids):
    model = page.loud(page.reuse(mlm))
    plain = model.decode(ids, *model.encode(ids))
    real = F.pad(torch.ones_like(ids, dtype=torch.bool), (0, 3))
    memory = model.encode(F.pad(ids, (0, 3), value=9), real)
    padded = model.decode(F.pad(ids, (0, 3), value=8), *memory, real=real)[:, :6]
    torch.testing.assert_close(padded, plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.length_logits(*memory), model.length_logits(*model.encode(ids)))
    turned = model.decode(ids[[2, 0, 1]], *model.encode(ids[[2, 0, 1]]))
    torch.testing.assert_close(turned, plain[[2, 0, 1]], atol=1e-5, rtol=1e-4)


def test_each_look_reads_the_states_of_its_own_depth(page, mlm, ids):
    model = page.loud(page.reuse(mlm))
    states, _ = model.encode(ids)
    before = model.decode(ids, states)
    for depth, matters in enumerate((True, True, False)):  # the last states are for the length head alone
        other = [*states[:depth], torch.randn_like(states[depth]), *states[depth + 1 :]]
        assert torch.allclose(model.decode(ids, other), before) != matters


def test_copied_looks_are_the_blocks_own(page, mlm):
    for block in page.reuse(mlm).writer.blocks:
        assert torch.equal(block.cross.qkv.weight, block.attention.qkv.weight)
        assert block.cross.out.weight.abs().max() == 0
    for block in page.reuse(mlm, copied=False).writer.blocks:
        assert not torch.equal(block.cross.qkv.weight, block.attention.qkv.weight)


# Writing


@pytest.mark.parametrize("n", [1, 5, 6, 8])
@pytest.mark.parametrize("passes", [1, 3, 4, 8])
def test_the_schedule_is_the_floor(page, n, passes):
    counts = page.n_blanks(n, passes)
    assert counts[0] == n and len(counts) == passes
    assert counts[1:] == [max(1, int(n * (1 - t / passes) + 1e-9)) for t in range(1, passes)]


@pytest.mark.parametrize("passes", [1, 2, 4, 6])
def test_mask_predict_blanks_as_many_as_scheduled_and_keeps_the_rest(page, mlm, ids, passes, monkeypatch):
    seen, own = [], page.rewrite
    monkeypatch.setitem(page.names, "rewrite", lambda *a: seen.append(a[1]) or own(*a))
    drafts = page.mask_predict(page.loud(page.reuse(mlm)), ids, 6, passes)
    assert drafts.shape == (passes + 1, 3, 6) and (drafts[0] == 0).all()
    for blanked, before, count in zip(seen, drafts, page.n_blanks(6, passes)):
        assert ((blanked == 0) | (blanked == before)).all()
        if count < 6:
            assert ((blanked == 0) & (before != 0)).sum(1).max() <= count <= (blanked == 0).sum(1).min()
        else:
            assert (blanked == 0).all()


def test_refine_takes_the_likeliest_word_everywhere_and_rests_at_a_fixed_point(page, mlm, ids):
    model = page.loud(page.reuse(mlm))
    drafts = page.refine(model, ids, 6, 30, draw(2))
    assert drafts.shape == (31, 3, 6) and drafts[0].min() >= 3
    memory = model.encode(page.framed(ids))
    for before, after in itertools.pairwise(drafts):
        assert torch.equal(page.rewrite(model, before, memory).argmax(-1), after)
    for row in drafts.unbind(1):
        same = (row[1:] == row[:-1]).all(1)
        assert same[int(same.int().argmax()) :].all() or not same.any()


# Text


@pytest.mark.parametrize("n", [6, 7])
def test_shaking_moves_neighbours_only(page, n):
    ids = torch.arange(n).expand(500, n)
    found = page.shake(ids, draw())
    assert torch.equal(found.sort(1).values, ids) and (found - ids).abs().max() == 1
    swapped = (found != ids)[:, : n // 2 * 2].double().mean()
    assert abs(swapped - 0.5) < 0.05 and (n % 2 == 0 or (found[:, -1] == n - 1).all())


def test_a_smaller_table_gives_the_same_logits(page, mlm):
    keep = torch.tensor([2, 0, 1, 30, 7, 9])
    small, ids = page.only(mlm, keep), torch.tensor([[1, 3, 5, 4, 2]])
    torch.testing.assert_close(small(ids), mlm(keep[ids])[..., keep], atol=1e-5, rtol=1e-4)


def test_training_begins_as_the_masked_model_and_is_the_same_twice(page, mlm, ids):
    def batch(step, generator):
        rows = torch.randint(3, (2,), generator=generator)
        return ids[rows], ids.flip(1)[rows]

    still = page.train(mlm, CONFIG, batch, page.denoising_loss, 0, 1, 0.0, 0.0)
    assert torch.equal(still.decode(ids, still.encode(ids)[0]), mlm(ids))
    one, two = (page.train(mlm, CONFIG, batch, page.denoising_loss, 0, 3, 1e-2, 1e-2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert any(block.cross.out.weight.abs().max() > 0 for block in one.writer.blocks)
