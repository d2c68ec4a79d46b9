"""Lesson 08: exact mode search, the reader that feeds it, and the measures of typical and degenerate text."""

import itertools
import math

import pytest
import torch

from utils.lessons import decoding
from utils.lessons.gpt import GPT, GPTConfig
from utils.lessons.likelihood_and_quality import (
    Reader,
    consensus,
    fault,
    interval,
    mode_search,
    overlap,
    surprise,
    z_scores,
)

END = 3


def random_table(seed, V=4, shy=0.0):
    """next_log_probs with a random row for each prefix; `shy` makes ends rarer."""
    generator, rows = torch.Generator().manual_seed(seed), {}

    def next_log_probs(prefix):
        if prefix not in rows:
            logits = 1.5 * torch.randn(V, generator=generator, dtype=torch.float64)
            logits[END] -= shy
            rows[prefix] = logits.log_softmax(-1)
        return rows[prefix]

    return next_log_probs


def every_text(table, start, min_len, max_len, words=(0, 1, 2)):
    """{text: log p} by writing all of them down."""
    found = {}
    for n in range(min_len, max_len + 1):
        for text in itertools.product(words, repeat=n):
            text = (*text, END)
            found[text] = sum(table((*start, *text[:i]))[token].item() for i, token in enumerate(text))
    return found


def prefixes_above(table, start, log_p, max_len, words=(0, 1, 2)):
    """How many prefixes of at most max_len tokens, without an end, are likelier than log_p."""
    n, level = 0, [((), 0.0)]
    for _ in range(max_len + 1):
        level = [(prefix, p) for prefix, p in level if p > log_p]
        n += len(level)
        level = [((*q, w), p + table((*start, *q))[w].item()) for q, p in level for w in words]
    return n


@pytest.mark.parametrize("shy", [0.0, 2.0, 4.0])
def test_mode_search_is_brute_force_on_random_tables(shy):
    for seed in range(67):
        table, start = random_table(seed, shy=shy), (9, 7)
        texts = every_text(table, start, 0, 4)
        best = max(texts, key=texts.get)
        mode = mode_search(table, start, END, 4)
        assert mode.text == best and mode.finished
        assert mode.log_p == pytest.approx(texts[best], abs=1e-9)
        again = mode_search(table, start, END, 4, bound=mode.log_p)
        assert again.text is None and again.log_p == mode.log_p and again.finished
        assert again.n_read == prefixes_above(table, start, mode.log_p, 4) <= mode.n_read


@pytest.mark.parametrize("min_len, max_len", [(2, 2), (4, 4), (1, 3), (0, 0)])
def test_lengths_are_forced(min_len, max_len):
    for seed in range(20):
        table = random_table(seed)
        texts = every_text(table, (), min_len, max_len)
        mode = mode_search(table, (), END, max_len, min_len=min_len)
        assert mode.text == max(texts, key=texts.get) and mode.finished


def test_a_bound_just_below_the_mode_still_finds_it():
    table = random_table(5, shy=4.0)
    mode = mode_search(table, (), END, 4)
    again = mode_search(table, (), END, 4, bound=mode.log_p - 1e-9)
    assert again.text == mode.text and again.n_read <= mode.n_read


def test_a_spent_budget_is_said():
    table = random_table(1, shy=4.0)
    whole = mode_search(table, (), END, 5)
    for budget in range(1, whole.n_read + 1):
        part = mode_search(table, (), END, 5, budget=budget)
        assert part.n_read == budget and part.log_p <= whole.log_p
        assert not part.finished or part.log_p == whole.log_p
    assert not mode_search(table, (), END, 5, budget=1).finished and part.finished


def test_longer_bounds_every_longer_text():
    n_open = 0
    for seed in range(40):
        table = random_table(seed, shy=3.0)
        mode = mode_search(table, (), END, 2)
        best = max(every_text(table, (), 3, 5).values())
        assert best <= max(mode.longer, mode.log_p) + 1e-9
        n_open += mode.longer > mode.log_p
    assert 0 < n_open < 40


def test_words_that_cannot_come():
    def dead_end(prefix):
        return torch.tensor([0.0, -math.inf, -math.inf, -math.inf])

    mode = mode_search(dead_end, (), END, 5)
    assert mode.text is None and mode.finished and mode.n_read == 6 and mode.longer == 0.0


def test_the_model_is_left_as_it_was():
    row = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    before = row.clone()
    mode_search(lambda prefix: row, (), END, 3)
    assert torch.equal(row, before)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=12, n_positions=32, n_layers=2, n_heads=2, d_model=16)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model


def test_the_reader_goes_down_back_and_aside(model):
    reader, dice = Reader(model, 32), torch.Generator().manual_seed(0)
    prefix = (1,)
    for _ in range(60):
        keep = int(torch.randint(1, len(prefix) + 1, (), generator=dice))
        n_new = int(torch.randint(0, 4, (), generator=dice))
        prefix = (*prefix[:keep], *torch.randint(12, (n_new,), generator=dice).tolist())[:30]
        with torch.no_grad():
            right = model(torch.tensor([prefix]))[0, -1].log_softmax(-1)
        torch.testing.assert_close(reader(prefix), right, atol=1e-5, rtol=1e-5)


def test_search_on_a_model_is_brute_force(model):
    reader = Reader(model, 32)

    def plainly(prefix):
        with torch.no_grad():
            return model(torch.tensor([prefix]))[0, -1].log_softmax(-1)

    words = [token for token in range(12) if token != END]
    texts = every_text(plainly, (1, 5), 0, 2, words)
    mode = mode_search(reader, (1, 5), END, 2)
    assert mode.text == max(texts, key=texts.get)
    assert mode.log_p == pytest.approx(max(texts.values()), abs=1e-4)


def test_overlap():
    assert overlap([1, 2, 2], [2, 2, 1]) == 1 and overlap([1], [2]) == 0
    assert overlap([1, 2, 2], [2, 3]) == pytest.approx(2 * 1 / 5)
    assert overlap([], [1]) == 0 and overlap([], []) == 1


def test_faults():
    assert fault(()) == "empty" and fault([1, 2, 3]) is None
    assert fault([1, 2, 3, 4] * 5) == "repeats" and fault(list(range(40))) is None


def test_the_paired_interval_holds_what_it_says():
    draw = torch.Generator().manual_seed(3)
    held = 0
    for _ in range(400):
        mean, half = interval(torch.randn(50, generator=draw) + 0.3)
        held += abs(mean - 0.3) <= half
    assert 0.92 < held / 400 < 0.98
    mean, half = interval(torch.tensor([0.0, 1.0]))
    assert mean == 0.5 and abs(half - 1.96 * 0.5) < 1e-6


def test_interval():
    mean, half = interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5 and half == pytest.approx(1.96 * math.sqrt(5 / 3) / 2)


def test_consensus_is_the_highest_expected_utility():
    texts = [[1, 2, 3], [1, 2, 4], [1, 2, 3, 4], [9, 9, 9], []]
    assert consensus(texts) == 2
    assert consensus([[7], [5], [5]]) == 1
    assert consensus([[1], [2], [3]], utility=lambda a, b: a[0] * b[0]) == 2


def test_surprise_is_what_the_model_expects(model):
    ids = torch.randint(12, (3, 9), generator=torch.Generator().manual_seed(3))
    found, expected, variance = surprise(model, ids, 4)
    with torch.no_grad():
        p = model(ids)[:, 3:-1].softmax(-1).double()
    right = decoding.token_log_probs(model, ids)[:, 3:]
    torch.testing.assert_close(found, -right)
    torch.testing.assert_close(expected.double(), -(p * p.log()).sum(-1), atol=1e-4, rtol=1e-4)
    moment = (p * (-p.log() - expected.double()[..., None]).square()).sum(-1)
    torch.testing.assert_close(variance.double(), moment, atol=1e-3, rtol=1e-3)


def test_z_is_standard_for_sampled_text_and_low_for_greedy(model):
    ids = torch.full((600, 1), 1)
    never = 3

    def no_end(logits, ids=None):
        return logits.index_fill(-1, torch.tensor([never]), -math.inf)

    dice = torch.Generator().manual_seed(0)
    drawn = decoding.sample(model, ids, 24, [no_end], dice)
    z = z_scores(*surprise(model, drawn, 1, never=never))
    assert abs(z.mean()) < 0.15 and abs(z.std() - 1) < 0.12
    searched = decoding.greedy(model, ids[:4], 24, processors=[no_end])
    assert z_scores(*surprise(model, searched, 1, never=never)).max() < -2


def test_surprise_does_not_look_at_padding(model):
    rows = [[1, 5, 6, 7, 8, 2], [5, 4, 7, 6]]
    ids, mask = decoding.pad_left(rows)
    padded = surprise(model, ids, 4, mask)
    alone = surprise(model, torch.tensor([rows[1]]), 2)
    for together, single in zip(padded, alone):
        torch.testing.assert_close(together[1:], single, atol=1e-5, rtol=1e-5)
