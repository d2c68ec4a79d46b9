"""The decoders against transformers: token for token, value for value, and law for law."""

import math
from collections import Counter
from functools import partial
from itertools import product

import pytest
import torch
from transformers.generation import logits_process as warpers

from utils import zoo
from utils.lessons import decoding
from utils.lessons.gpt import GPT, GPTConfig

EOS, PAD = 3, 1


def random_gpt(seed, vocab_size=60, eos=1.0, n_layers=2, d_model=32, sharp=6.0):
    """A GPT of random weights, sharp enough to have opinions; the row of eos is stretched by `eos`."""
    torch.manual_seed(seed)
    config = GPTConfig(vocab_size=vocab_size, n_positions=96, n_layers=n_layers, n_heads=2, d_model=d_model)
    model = GPT(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(sharp)
        model.tokens.weight[EOS] *= eos
    return model


def random_prompts(n, vocab_size, seed, longest=12):
    """n prompts of different lengths, padded on the left: ids and mask."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (n,), generator=g).tolist()
    return decoding.pad_left([torch.randint(5, vocab_size, (k,), generator=g).tolist() for k in lengths], PAD)


@pytest.fixture(scope="module")
def cases():
    """(model, its twin, prompts, mask), twice; their texts end early, late and never."""
    models = {5: random_gpt(5, eos=1.5), 4: random_gpt(4, eos=2.0)}
    return [(m, zoo.to_transformers(m), *random_prompts(50, 60, seed)) for seed, m in models.items()]


def settings(mask, n_new, **more):
    """The words of `generate` for what our functions call mask, n_new, eos and pad."""
    fixed = {"attention_mask": mask.long(), "pad_token_id": PAD, "eos_token_id": EOS, "max_new_tokens": n_new}
    return fixed | {"do_sample": False} | more


# ---- greedy and beam: token for token


def test_greedy_equals_generate(cases):
    ended = 0
    for model, twin, ids, mask in cases:
        ours = decoding.greedy(model, ids, 24, mask=mask, eos=EOS, pad=PAD)
        theirs = twin.generate(ids, **settings(mask, 24))
        assert torch.equal(ours, theirs)
        ended += int((ours == EOS).any(1).sum())
    assert 10 <= ended <= 90, "the prompts should show both: texts that end and texts that do not"


@pytest.mark.parametrize("n_beams", [2, 4, 8])
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_beam_search_equals_generate(cases, n_beams, early_stopping):
    ended = 0
    for (model, twin, ids, mask), length_penalty in product(cases, [0.0, 0.6, 1.0, 2.0]):
        how = {"length_penalty": length_penalty, "early_stopping": early_stopping}
        ours, scores = decoding.beam_search(model, ids, 16, n_beams, mask=mask, eos=EOS, pad=PAD, **how)
        how |= {"num_beams": n_beams, "num_return_sequences": n_beams, "output_scores": True}
        theirs = twin.generate(ids, **settings(mask, 16, return_dict_in_generate=True, **how))
        assert torch.equal(ours.flatten(0, 1), theirs.sequences)
        torch.testing.assert_close(scores.flatten(), theirs.sequences_scores)
        ended += float((ours == EOS).any(-1).float().mean()) / 8
    assert 0.05 < ended < 0.95


def test_beam_search_with_several_ends_and_processors_equals_generate(cases):
    model, twin, ids, mask = cases[1]
    ours, _ = decoding.beam_search(
        model, ids, 16, 4, mask=mask, eos=(EOS, 7, 9), pad=PAD, processors=[decoding.repetition_penalty(1.3)]
    )
    how = settings(mask, 16, num_beams=4, num_return_sequences=4, repetition_penalty=1.3)
    assert torch.equal(ours.flatten(0, 1), twin.generate(ids, **how | {"eos_token_id": [EOS, 7, 9]}))


def test_one_beam_is_greedy(cases):
    model, _, ids, mask = cases[0]
    beams, _ = decoding.beam_search(model, ids, 16, 1, mask=mask, eos=EOS, pad=PAD)
    assert torch.equal(beams[:, 0], decoding.greedy(model, ids, 16, mask=mask, eos=EOS, pad=PAD))


def test_beam_scores_are_log_probabilities_per_token(cases):
    model, _, ids, mask = cases[1]
    texts, scores = decoding.beam_search(model, ids[:1], 10, 4, mask=mask[:1], eos=EOS, pad=PAD)
    T = ids.size(1)
    for text, score in zip(texts[0], scores[0]):
        new = text[T:].tolist()
        n = new.index(EOS) + 1 if EOS in new else len(new)
        log_p = decoding.token_log_probs(
            model, text[None, : T + n], torch.cat([mask[0], torch.ones(n) > 0])[None]
        )
        assert score.item() == pytest.approx(log_p[0, T - 1 :].sum().item() / n, abs=1e-4)


def test_beam_history_leads_to_the_result():
    model = random_gpt(2)
    ids, history = torch.tensor([[5, 6, 7]]), []
    texts, scores = decoding.beam_search(model, ids, 6, 3, history=history)
    assert len(history) == 6 and history[-1]["ended"].all()
    assert history[-1]["scores"][0, 0].item() / 6 == pytest.approx(scores[0, 0].item(), abs=1e-5)
    place, path = 0, []
    for step, before in zip(reversed(history), [*reversed(history[:-1]), None]):
        path.append(int(step["tokens"][0, place]))
        beam = step["parents"][0, place]
        place = before and int(before["kept"][0, beam])
    assert path[::-1] == texts[0, 0, 3:].tolist()


def wrong_reorder(x, index):
    """Forgets to reorder: every beam keeps its own past."""
    return x.repeat(1, -(-index.size(1) // x.size(1)), 1)[:, : index.size(1)]


def test_a_beam_search_that_mixes_up_its_ancestors_is_caught(cases, monkeypatch):
    model, twin, ids, mask = cases[0]
    theirs = twin.generate(ids, **settings(mask, 16, num_beams=4))
    monkeypatch.setattr(decoding, "pick", wrong_reorder)
    ours, _ = decoding.beam_search(model, ids, 16, 4, mask=mask, eos=EOS, pad=PAD)
    assert ours[:, 0].shape != theirs.shape or not torch.equal(ours[:, 0], theirs)


# ---- the zoo's GPT: 50 prompts of real words, a full stop counts as an end

OPENINGS = ("Once upon a time", "The dog", "In the morning, Tom and his sister", "A river is", "She said")
MIDDLES = (
    "",
    " there was",
    " in the",
    ", who was very",
    " and the little",
    " saw a",
    " is",
    ' said, "I',
    " of the",
    ". But",
)


@pytest.fixture(scope="module")
def story_model():
    """The zoo's GPT, its twin, 50 prompts, their mask and the tokens that end a text."""
    model, tokenizer = zoo.load("gpt")
    prompts = [tokenizer.encode(first + second).ids for first, second in product(OPENINGS, MIDDLES)]
    ends = [tokenizer.token_to_id("<eos>"), tokenizer.token_to_id(".")]
    return model, zoo.to_transformers(model), *decoding.pad_left(prompts), ends


def test_greedy_of_the_zoo_model_equals_generate(story_model):
    model, twin, ids, mask, ends = story_model
    ours = decoding.greedy(model, ids, 24, mask=mask, eos=ends, pad=PAD)
    assert torch.equal(ours, twin.generate(ids, **settings(mask, 24) | {"eos_token_id": ends}))
    assert 10 <= int(torch.isin(ours[:, ids.size(1) :], torch.tensor(ends)).any(1).sum()) <= 50


@pytest.mark.parametrize("n_beams", [2, 4, 8])
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
def test_beam_search_of_the_zoo_model_equals_generate(story_model, n_beams, early_stopping, length_penalty):
    model, twin, ids, mask, ends = story_model
    how = {"length_penalty": length_penalty, "early_stopping": early_stopping}
    ours, scores = decoding.beam_search(model, ids, 12, n_beams, mask=mask, eos=ends, pad=PAD, **how)
    how |= {"num_beams": n_beams, "num_return_sequences": n_beams, "output_scores": True}
    how |= {"return_dict_in_generate": True, "eos_token_id": ends}
    theirs = twin.generate(ids, **settings(mask, 12) | how)
    assert torch.equal(ours.flatten(0, 1), theirs.sequences)
    torch.testing.assert_close(scores.flatten(), theirs.sequences_scores, rtol=1e-4, atol=1e-4)


# ---- processors: value for value


def odd_vectors(n, vocab_size, seed=0):
    """n rows of logits: plain, rounded to many ties, with -inf, with +inf, one-hot, constant, halves."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, vocab_size, generator=g) * 10 ** (2 * torch.rand(n, 1, generator=g) - 1)
    hit = torch.randint(vocab_size, (n,), generator=g)
    x[1::7] = x[1::7].round()
    x[2::7] = x[2::7].masked_fill(torch.rand(x[2::7].shape, generator=g) < 0.5, -math.inf)
    x[4::7] = -math.inf
    x[5::7] = 0.0
    x[6::7] = (2 * x[6::7]).round() / 2
    for first, value in ((2, 1.0), (3, math.inf), (4, 1.0)):
        rows = torch.arange(first, n, 7)
        x[rows, hit[rows]] = value
    return x, torch.randint(vocab_size, (n, 12), generator=g)


PAIRS = [
    *(
        (f"temperature {t}", decoding.temperature(t), warpers.TemperatureLogitsWarper(t))
        for t in (0.3, 1.0, 1.5)
    ),
    *((f"top-k {k}", decoding.top_k(k), warpers.TopKLogitsWarper(k)) for k in (1, 5, 50, 5000)),
    *((f"top-p {p}", decoding.top_p(p), warpers.TopPLogitsWarper(p)) for p in (0.1, 0.5, 0.9, 0.999, 1.0)),
    *(
        (f"top-p {p}, small head", decoding.top_p(p, 16), warpers.TopPLogitsWarper(p))
        for p in (0.1, 0.5, 0.9)
    ),
    *((f"min-p {p}", decoding.min_p(p), warpers.MinPLogitsWarper(p)) for p in (0.01, 0.1, 0.5, 1.0)),
    *((f"typical {p}", decoding.typical(p), warpers.TypicalLogitsWarper(p)) for p in (0.2, 0.5, 0.95)),
    *(
        (f"repetition {p}", decoding.repetition_penalty(p), warpers.RepetitionPenaltyLogitsProcessor(p))
        for p in (0.8, 1.2, 2.0)
    ),
]


@pytest.mark.parametrize("vocab_size", [40, 1000])
@pytest.mark.parametrize(("ours", "theirs"), [p[1:] for p in PAIRS], ids=[p[0] for p in PAIRS])
def test_processors_equal_transformers(ours, theirs, vocab_size):
    logits, ids = odd_vectors(500, vocab_size)
    before = logits.clone()
    got, expected = ours(logits, ids), theirs(ids, logits.clone())
    assert torch.equal(got.isneginf(), expected.isneginf())
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)  # the input was left alone


def test_top_p_takes_its_short_cut(monkeypatch):
    """On a peaked distribution no row is sorted in full; on a flat one all are."""
    sorted_rows, full = [], decoding.top_p_by_sorting
    monkeypatch.setattr(decoding, "top_p_by_sorting", lambda x, p: sorted_rows.append(len(x)) or full(x, p))
    g = torch.Generator().manual_seed(0)
    decoding.top_p(0.9)(5 * torch.randn(8, 6144, generator=g))
    assert not sorted_rows
    decoding.top_p(0.9)(0.1 * torch.randn(8, 6144, generator=g))
    assert sorted_rows == [8]


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_temperature_refuses(wrong):
    with pytest.raises(ValueError, match="greedy"):
        decoding.temperature(wrong)


# ---- sampling: the same text under the same seed, and the right law

RECIPES = {
    "plain": ([], {"top_k": 0}),
    "temperature": ([decoding.temperature(0.7)], {"top_k": 0, "temperature": 0.7}),
    "top-k": ([decoding.top_k(9)], {"top_k": 9}),
    "top-p": ([decoding.top_p(0.8)], {"top_k": 0, "top_p": 0.8}),
    "min-p": ([decoding.min_p(0.1)], {"top_k": 0, "min_p": 0.1}),
    "typical": ([decoding.typical(0.8)], {"top_k": 0, "typical_p": 0.8}),
    "all": (
        [decoding.repetition_penalty(1.5), decoding.temperature(0.8), decoding.top_k(9), decoding.top_p(0.9)],
        {"repetition_penalty": 1.5, "temperature": 0.8, "top_k": 9, "top_p": 0.9},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_sampling_equals_generate_under_the_same_seed(cases, name):
    (model, twin, ids, mask), (processors, words) = cases[1], RECIPES[name]
    torch.manual_seed(11)
    ours = decoding.sample(model, ids, 20, processors, mask=mask, eos=EOS, pad=PAD)
    torch.manual_seed(11)
    assert torch.equal(ours, twin.generate(ids, **settings(mask, 20, do_sample=True, **words)))


def chi_square(texts, expected):
    """p of the chi-square test that texts (N, T) follow `expected` {text: probability}; rare ones are pooled."""
    counts, n = Counter(map(tuple, texts.tolist())), len(texts)
    if any(expected.get(text, 0) == 0 for text in counts):
        return 0.0  # something came out that cannot
    common = [text for text, p in expected.items() if p * n >= 10]
    seen = [counts[text] for text in common] + [n - sum(counts[text] for text in common)]
    mean = [n * expected[text] for text in common] + [n - n * sum(expected[text] for text in common)]
    if mean[-1] < 10:  # too few to stand alone
        seen, mean = [*seen[:-2], seen[-2] + seen[-1]], [*mean[:-2], mean[-2] + mean[-1]]
    statistic = sum((a - b) ** 2 / b for a, b in zip(seen, mean))
    half = torch.tensor([(len(mean) - 1) / 2, statistic / 2], dtype=torch.float64)
    return torch.special.gammaincc(half[0], half[1]).item()


def exact_law(model, ids, n_new, processors):
    """{continuation: probability} by going through all of them, with no cache."""
    law = {(): 1.0}
    for _ in range(n_new):
        rows = torch.tensor([[*ids[0].tolist(), *text] for text in law])
        with torch.no_grad():
            probs = decoding.process(model(rows)[:, -1], rows, processors).softmax(-1).double()
        law = {
            (*text, token): p * q
            for (text, p), row in zip(law.items(), probs.tolist())
            for token, q in enumerate(row)
            if q > 0
        }
    return law


TOY = {"vocab_size": 6, "n_layers": 1, "d_model": 8, "sharp": 10.0}
PROMPT, DRAWS = torch.tensor([[2, 4]]), 100_000
LAWS = {
    "plain": [],
    "temperature, top-p": [decoding.temperature(1.3), decoding.top_p(0.85)],
    "penalty, top-k": [decoding.repetition_penalty(1.4), decoding.top_k(3)],
    "min-p": [decoding.min_p(0.2)],
    "typical": [decoding.typical(0.7)],
}


def drawn_by_sampling(model, draft, processors, seed, n_new=3):
    g = torch.Generator().manual_seed(seed)
    return decoding.sample(model, PROMPT.expand(DRAWS, -1), n_new, processors, g)[:, 2:]


def drawn_by_speculation(model, draft, processors, seed, n_new=3):
    g = torch.Generator().manual_seed(seed)
    ids = PROMPT.expand(DRAWS, -1)
    return decoding.speculative(model, draft, ids, n_new, 2, processors, generator=g)[:, 2:]


@pytest.fixture(scope="module")
def toys():
    return random_gpt(5, **TOY), random_gpt(6, **TOY)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("law", LAWS)
def test_sampling_follows_the_law(toys, law, seed):
    expected = exact_law(toys[0], PROMPT, 3, LAWS[law])
    assert sum(expected.values()) == pytest.approx(1, abs=1e-5) and len(expected) >= 20
    assert chi_square(drawn_by_sampling(*toys, LAWS[law], seed), expected) > 0.001


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("law", LAWS)
def test_speculative_decoding_follows_the_law_of_the_large_model(toys, law, seed):
    expected = exact_law(toys[0], PROMPT, 3, LAWS[law])
    assert chi_square(drawn_by_speculation(*toys, LAWS[law], seed), expected) > 0.001


def accept_too_much(p, q, drafted, generator=None):
    """A wrong rule: accept a drafted token with probability 1.03 p / q."""
    n, extra = right_verify(1.03 * p, q, drafted, generator)
    return n, extra


def redraw_from_p(p, q, drafted, generator=None):
    """A wrong rule: after a rejection draw from p itself, not from what q left out."""
    n, _ = right_verify(p, q, drafted, generator)
    at = p.gather(1, n[:, None, None].expand(-1, 1, p.size(-1))).squeeze(1)
    return n, torch.multinomial(at, 1, generator=generator).squeeze(1)


def accept_everything(p, q, drafted, generator=None):
    """A wrong rule: trust the draft."""
    return right_verify(q.new_ones(p.shape), q, drafted, generator)


right_verify = decoding.verify


@pytest.mark.parametrize("wrong", [redraw_from_p, accept_too_much, accept_everything])
def test_the_chi_square_has_power_against_wrong_speculation(toys, monkeypatch, wrong):
    monkeypatch.setattr(decoding, "verify", wrong)
    expected = exact_law(toys[0], PROMPT, 3, [])
    assert chi_square(drawn_by_speculation(*toys, [], 0), expected) < 0.001


@pytest.mark.parametrize("wrong", [[decoding.temperature(0.97)], [decoding.top_p(0.97)], [decoding.top_k(5)]])
def test_the_chi_square_has_power_against_a_sampler_slightly_off(toys, wrong):
    expected = exact_law(toys[0], PROMPT, 3, [])
    assert chi_square(drawn_by_sampling(*toys, wrong, 0), expected) < 0.001


# ---- speculative decoding, contrastive search: texts


def test_greedy_speculation_is_greedy(cases):
    (model, _, ids, mask), draft = cases[0], random_gpt(1, eos=1.5)
    expected = decoding.greedy(model, ids, 24, mask=mask, eos=EOS, pad=PAD)
    for n_draft in (1, 3, 6):
        counts = Counter()
        ours = decoding.speculative(
            model, draft, ids, 24, n_draft, [decoding.top_k(1)], mask=mask, eos=EOS, pad=PAD, counts=counts
        )
        assert torch.equal(ours, expected)
        assert counts["tokens"] >= counts["rounds"] > 0


def test_a_draft_that_is_the_model_itself_is_always_right():
    model, counts = random_gpt(0), Counter()
    ids, mask = random_prompts(8, 60, 0)
    decoding.speculative(model, model, ids, 20, 4, mask=mask, counts=counts)
    assert counts["tokens"] >= 4.99 * counts["rounds"]


def contrastive_by_definition(model, ids, n_new, k, alpha):
    """One text, no cache, equation 5 of Su et al. 2022 read aloud."""
    for _ in range(n_new):
        states = model.hidden(ids)[0]
        probs, tokens = model.head(states[-1]).softmax(-1).topk(k)
        scores = []
        for p, token in zip(probs, tokens):
            state = model.hidden(torch.cat([ids, token.view(1, 1)], dim=1))[0, -1]
            scores.append((1 - alpha) * p - alpha * torch.cosine_similarity(states, state[None]).max())
        ids = torch.cat([ids, tokens[torch.stack(scores).argmax()].view(1, 1)], dim=1)
    return ids


def test_contrastive_search_equals_its_definition():
    model = random_gpt(4)
    ids, mask = random_prompts(6, 60, 4)
    ours = decoding.contrastive_search(model, ids, 12, k=4, alpha=0.6, mask=mask)
    with torch.no_grad():
        for row, real, text in zip(ids, mask, ours):
            expected = contrastive_by_definition(model, row[real][None], 12, 4, 0.6)
            assert torch.equal(text[ids.size(1) - int(real.sum()) :], expected[0])
    plain = decoding.contrastive_search(model, ids, 12, alpha=0.0, mask=mask)
    assert torch.equal(plain, decoding.greedy(model, ids, 12, mask=mask))
    assert not torch.equal(plain, ours)


DECODERS = {
    "greedy": decoding.greedy,
    "top-k 1": partial(decoding.sample, processors=[decoding.top_k(1)]),
    "contrastive": decoding.contrastive_search,
    "beam": lambda *a, **s: decoding.beam_search(*a, **s)[0][:, 0],
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_row_does_not_depend_on_its_company(name):
    """Padding and the other rows change nothing, ends included."""
    model, (ids, mask) = random_gpt(0, eos=2.2), random_prompts(8, 60, 9)
    together = DECODERS[name](model, ids, 16, mask=mask, eos=EOS, pad=PAD)
    for row, real, text in zip(ids, mask, together):
        alone = DECODERS[name](model, row[real][None], 16, eos=EOS, pad=PAD)[0]
        text = text[ids.size(1) - int(real.sum()) :]
        assert torch.equal(text[: len(alone)], alone) and (text[len(alone) :] == PAD).all()


# ---- measures


def test_measures_on_small_texts():
    loop, plain = [1, 2, 3] * 4, list(range(12))
    assert decoding.repetition([plain]) == 0 and decoding.repetition([loop]) == pytest.approx(1 - 3 / 9)
    assert decoding.distinct_n([[1, 2, 1, 2]], 2) == pytest.approx(2 / 3)
    assert decoding.distinct_n([[1, 2], [1, 2]], 1) == pytest.approx(0.5)
    assert decoding.self_bleu([plain, plain]) == pytest.approx(1)
    assert decoding.self_bleu([plain, [x + 50 for x in plain]]) < 0.02


def test_bleu_by_hand():
    """Precisions 5/6, 3/5, 1/4, 0.1/3, no brevity penalty: worked out on paper."""
    text, reference = "the cat sat on the mat".split(), "the cat is on the mat".split()
    assert decoding.bleu(text, [reference]) == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 0.1 / 3) ** 0.25)
    short = decoding.bleu(text[:5], [text])
    assert short == pytest.approx(math.exp(1 - 6 / 5))


def test_zipf_of_a_perfect_law():
    text = [token for rank in range(1, 60) for token in [rank] * round(50_000 / rank)]
    assert decoding.zipf([text]) == pytest.approx(1, abs=0.01)
    assert decoding.zipf([list(range(50))]) == pytest.approx(0, abs=1e-9)


def test_token_log_probs_ignore_padding():
    model, (ids, mask) = random_gpt(0), random_prompts(5, 60, 3)
    log_p = decoding.token_log_probs(model, ids, mask)
    for row, real, got in zip(ids, mask, log_p):
        alone = decoding.token_log_probs(model, row[real][None])[0]
        torch.testing.assert_close(got[len(got) - len(alone) :], alone, rtol=1e-4, atol=1e-5)
        assert (got[: len(got) - len(alone)] == 0).all()
