"""Lesson 26: the conditional beam against brute force, against the plain beam and against `generate`."""

import math
from types import SimpleNamespace

import definitions
import pytest
import torch
import toys
from torch.nn import functional as F

from utils import zoo
from utils.lessons import conditional_beam_search as lesson
from utils.lessons.decoding import NEVER, beam_search, pad_left, token_log_probs

EOS, PAD = 2, 0


@pytest.fixture(scope="module")
def page():
    """The imports and functions of the page; nothing of it is run."""
    names = definitions.of_page("26_conditional_beam_search")
    return SimpleNamespace(**{k: v for k, v in names.items() if callable(v)})


@pytest.fixture(scope="module")
def model():
    return toys.sure_gpt(3, 48)


def prompts(n=6):
    dice = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 7, (n,), generator=dice).tolist()
    return pad_left([[1, *torch.randint(3, 259, (k,), generator=dice).tolist()] for k in lengths], PAD)


def same(beams, tokens):
    return torch.full(tokens.shape, -1.5)


# On tables


@pytest.fixture(scope="module")
def languages(page):
    found = []
    for seed in range(200):
        table, good = page.random_language(1000 + seed, 4)
        good = good or {"a."}
        found.append((table, good, page.exact_q(table, good), page.likeliest(table, good)))
    return found


def test_a_language_is_one_and_its_q_adds_up(page, languages):
    for table, good, q, mode in languages[:20]:
        assert all(math.isclose(sum(row.values()), 1) for row in table.values())
        assert math.isclose(sum(math.exp(page.log_p(table, t + ".")) for t in table), 1)
        for text in ("", "a", "cb"):
            begun = [t for t in good if t.startswith(text)]
            mass = sum(math.exp(page.log_p(table, t)) for t in begun)
            assert math.isclose(q[text], mass / math.exp(page.log_p(table, text)), abs_tol=1e-12)
        assert mode in good and all(page.log_p(table, mode) >= page.log_p(table, t) for t in good)


def test_a_beam_with_room_for_all_finds_the_conditional_mode(page, languages):
    wrong = 0
    for table, _, q, mode in languages:
        assert page.beam_plainly(table, page.promise(q), 300)[0][1] == mode
        assert page.beam_plainly(table, page.not_lost(q), 300)[0][1] == mode
        wrong += page.beam_plainly(table, page.promise(q), 300, accumulate=True)[0][1] != mode
    assert wrong > 20


@pytest.mark.parametrize("width", [1, 2, 5])
def test_it_is_the_plain_beam_of_the_conditional_language(page, languages, width):
    for table, _, q, _ in languages[:60]:
        ours = page.beam_plainly(table, page.promise(q), width)
        theirs = page.beam_plainly(page.conditioned(table, q), page.nothing, width)
        assert [t for _, t in ours] == [t for _, t in theirs]
        for (score, _), (other, _) in zip(ours, theirs):
            assert math.isclose(score - math.log(q[""]), other, abs_tol=1e-9)


def test_looking_ahead_finds_more_than_the_rule(page, languages):
    def found(wish):
        best = [page.beam_plainly(table, wish(q), 1) for table, _, q, _ in languages]
        return sum(b[:1] != [] and b[0][1] == mode for b, (*_, mode) in zip(best, languages))

    assert found(page.promise) > found(page.not_lost) + 30


# Batched


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("eos", [None, EOS, (EOS, 40, 77, 130)])
def test_a_constant_judge_is_the_plain_beam_and_generate(model, width, eos):
    ids, mask = prompts()
    rules = {"length_penalty": 0.0, "early_stopping": "never"}
    ours, S = lesson.conditional_beam_search(model, ids, 12, same, width, mask=mask, eos=eos)
    plain, log_p = beam_search(model, ids, 12, width, mask=mask, eos=eos, **rules)
    assert torch.equal(ours, plain)
    torch.testing.assert_close(S + 1.5, log_p, rtol=1e-4, atol=1e-4)
    ends = {"eos_token_id": None if eos is None else list(torch.as_tensor(eos).view(-1).tolist())}
    how = ends | {
        "attention_mask": mask.long(),
        "max_new_tokens": 12,
        "pad_token_id": PAD,
        "do_sample": False,
    }
    twin = zoo.to_transformers(model)
    theirs = twin.generate(ids, num_beams=width, num_return_sequences=width, **how, **rules)
    assert torch.equal(ours.flatten(0, 1), theirs)


def test_the_ends_are_always_offered_and_nothing_twice(model):
    seen = []

    def look(beams, tokens):
        seen.append(tokens)
        return torch.zeros(tokens.shape)

    ids, mask = prompts()
    lesson.conditional_beam_search(model, ids, 4, look, 2, n_candidates=9, mask=mask, eos=(EOS, 40))
    for tokens in seen:
        assert (tokens == EOS).any(-1).all() and (tokens == 40).any(-1).all()
        assert all(len(set(row)) == len(row) for row in tokens.flatten(0, 1).tolist())


@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_rule_is_obeyed_and_the_score_is_log_p(model, n):
    def exactly(beams, tokens):
        return NEVER * ((tokens == EOS) != (beams.n_done + 1 == n))

    ids, mask = prompts()
    texts, S = lesson.conditional_beam_search(model, ids, n, exactly, 4, mask=mask, eos=EOS)
    new = texts[:, 0, ids.size(1) :]
    assert new.size(1) == n and (new[:, -1] == EOS).all() and not (new[:, :-1] == EOS).any()
    log_p = token_log_probs(model, texts[:, 0], F.pad(mask, (0, n), value=True))[:, ids.size(1) - 1 :].sum(1)
    torch.testing.assert_close(S[:, 0], log_p, rtol=1e-4, atol=1e-3)


def test_what_became_impossible_stays_out(model):
    """After one bad step a judge that forgets must not let a text back in."""

    def only_once(beams, tokens):
        bad = tokens % 2 == 1 if beams.n_done == 0 else torch.zeros_like(tokens, dtype=torch.bool)
        return NEVER * bad

    ids, mask = prompts()
    texts, S = lesson.conditional_beam_search(model, ids, 5, only_once, 8, n_candidates=12, mask=mask)
    real = S > NEVER / 2
    assert real[:, 0].all() and (texts[..., ids.size(1)][real] % 2 == 0).all()


def test_a_wish_that_cannot_come_true_finds_nothing(model):
    ids, mask = prompts()
    never = lambda beams, tokens: torch.full(tokens.shape, NEVER)
    _, S = lesson.conditional_beam_search(model, ids, 4, never, 3, mask=mask, eos=EOS)
    assert (S <= NEVER / 2).all()


def test_a_prompt_is_answered_alike_alone_and_in_company(model):
    torch.manual_seed(0)
    judge = lesson.ask(lesson.Foresight(model, 6).eval(), lambda beams: slice(beams.n_done % 5, 6))
    ids, mask = prompts()
    together, S = lesson.conditional_beam_search(model, ids, 6, judge, 3, mask=mask)
    for row, real, texts, scores in zip(ids, mask, together, S):
        alone, score = lesson.conditional_beam_search(model, row[real][None], 6, judge, 3)
        assert torch.equal(alone[0, :, real.sum() :], texts[:, ids.size(1) :])
        torch.testing.assert_close(score[0], scores, rtol=1e-4, atol=1e-3)


def test_log_q_enters_afresh(model):
    """The score of a text is its log p and the judge's last word, not the sum of all its words."""

    def moody(beams, tokens):
        return torch.full(tokens.shape, -1.0 - beams.n_done)

    ids, mask = prompts()
    texts, S = lesson.conditional_beam_search(model, ids, 5, moody, 2, mask=mask)
    plain, log_p = beam_search(model, ids, 5, 2, mask=mask, length_penalty=0.0)
    assert torch.equal(texts, plain)
    torch.testing.assert_close(S, log_p - 5, rtol=1e-4, atol=1e-3)


def test_the_accumulated_judge_adds_what_a_beam_was_told(model, page):
    ids, mask = prompts(2)
    moody = lambda beams, tokens: torch.full(tokens.shape, -1.0 - beams.n_done)
    _, S = lesson.conditional_beam_search(model, ids, 3, page.accumulated(moody), 2, mask=mask)
    _, log_p = beam_search(model, ids, 3, 2, mask=mask, length_penalty=0.0)
    torch.testing.assert_close(S, log_p - 6, rtol=1e-4, atol=1e-3)


# What the wishes see


def test_repeats_against_a_loop():
    texts = torch.randint(4, (40, 12), generator=torch.Generator().manual_seed(0))
    for n in (2, 3):
        for t in range(12):
            ours = lesson.repeats(texts[:, :t], torch.arange(4).expand(40, 4), n)
            for row, found in zip(texts[:, :t].tolist(), ours.tolist()):
                runs = {tuple(row[i : i + n]) for i in range(len(row) - n + 1)}
                assert found == [len(row) >= n - 1 and (*row[1 - n :], w) in runs for w in range(4)]


def test_stuck_marks_the_first_repetition():
    row = torch.tensor([[1, 2, 3, 4, 1, 2, 3, 5], [1, 1, 1, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8]])
    assert lesson.stuck(row).int().argmax(1).tolist() == [6, 3, 0] and not lesson.stuck(row)[2].any()


def test_waiting_against_a_loop():
    event = torch.rand(30, 9, generator=torch.Generator().manual_seed(0)) < 0.15
    fits = lesson.waiting(event, 6)
    for row, got in zip(event.tolist(), fits):
        for t in range(9):
            later = [s for s in range(t, 9) if row[s]]
            if later:
                right = [r == min(later[0] - t, 5) for r in range(6)]
            else:
                right = [r >= min(9 - t, 5) for r in range(6)]
            assert got[t].tolist() == right


def test_learning_sees_what_token_and_state_tell_and_no_more(model):
    dice = torch.Generator().manual_seed(0)
    hidden, tokens = torch.randn(3000, 16, generator=dice), torch.randint(3, 9, (3000,), generator=dice)
    right = F.one_hot((tokens + (hidden[:, 0] > 0)) % 3, 3).bool()

    def surprise(fits):
        torch.manual_seed(0)
        q = lesson.learn(lesson.Foresight(model, 3), hidden[:2000], tokens[:2000], fits[:2000], rate=1e-2)
        with torch.no_grad():
            log_q = q(hidden[2000:], q.words(tokens[2000:, None]))[:, 0]
        torch.testing.assert_close(log_q.exp().sum(-1), torch.ones(1000))
        return -log_q[right[2000:]].mean().item()

    assert surprise(right) < 0.4 < 0.9 < surprise(right[torch.randperm(3000, generator=dice)])


def test_a_set_of_outcomes_is_no_lie(model):
    """Where nothing was seen (all outcomes agree) the loss is 0 and nothing is learned but decay."""
    torch.manual_seed(0)
    q = lesson.Foresight(model, 4)
    log_q = q(torch.randn(5, 16), q.words(torch.arange(5)[:, None]))[:, 0]
    loss = -log_q.logsumexp(-1).mean()
    grads = torch.autograd.grad(loss, list(q.parameters()))
    assert loss.abs() < 1e-5 and all(grad.abs().max() < 1e-5 for grad in grads)


def test_asking_adds_the_outcomes_that_agree(model):
    torch.manual_seed(0)
    q = lesson.Foresight(model, 5).eval()
    beams = SimpleNamespace(hidden=torch.randn(2, 1, 16), n_done=1)
    tokens = torch.randint(0, 259, (2, 3, 7))
    got = lesson.ask(q, lambda beams: slice(beams.n_done, 4))(beams, tokens)
    full = q(beams.hidden.expand(2, 3, 16), q.words(tokens)).exp()[..., 1:4].sum(-1)
    torch.testing.assert_close(got.exp(), full)
