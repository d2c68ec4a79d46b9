"""Lesson 14: nothing is lost in a corrupted text, and the noises do what their names say."""

import copy

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from utils import zoo
from utils.lessons import t5_and_bart as lesson

STOPS = (11, 12)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def texts(generator):
    return torch.randint(71, 6144, (64, 128), generator=generator)


def rebuilt(source, target):
    """The text of one row, from its source and its target, in plain Python."""
    spans, current = {}, None
    for token in target[:-1].tolist():
        if 7 <= token < 71:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [t for token in source[:-1].tolist() for t in spans.get(token, [token])]


@pytest.mark.parametrize("rate, mean_length", [(0.15, 3), (0.5, 3), (0.15, 10), (0.5, 32), (0.01, 3)])
def test_source_and_target_give_the_text_back(texts, generator, rate, mean_length):
    source, target = lesson.corrupt_spans(texts, generator, rate=rate, mean_length=mean_length)
    for text, *row in zip(texts, source, target):
        assert rebuilt(*row) == text.tolist()
        marks = [t for t in row[0].tolist() if 7 <= t < 71]
        assert marks == [t for t in row[1].tolist() if 7 <= t < 71] == list(range(7, 7 + len(marks)))
    assert (source[:, -1] == 2).all() and (target[:, -1] == 2).all()


@pytest.mark.parametrize("n", [2, 3, 5, 9, 64])
def test_short_texts_have_holes_too(n, generator):
    source, target = lesson.corrupt_spans(torch.arange(71, 71 + n).expand(7, -1), generator)
    assert all(rebuilt(*row) == list(range(71, 71 + n)) for row in zip(source, target))


def test_lengths_are_those_of_t5(generator):
    """512 and 114 for 568 tokens (Raffel et al. 2020); 85 tokens in 28 spans are away."""
    source, target = lesson.corrupt_spans(torch.full((2, 568), 100), generator)
    assert source.shape == (2, 512) and target.shape == (2, 114)
    assert ((target[0] >= 7) & (target[0] < 71)).sum() == 28 and (target[0] == 100).sum() == 85


def test_all_ways_to_cut_are_equally_likely(generator):
    lengths = lesson.split_lengths(60_000, 5, 3, generator)
    assert (lengths.sum(1) == 5).all() and (lengths >= 1).all()
    ways, counts = lengths.unique(dim=0, return_counts=True)
    assert len(ways) == 6 and (counts - 10_000).abs().max() < 400  # 4 standard deviations


DISTANCES = [-200, -128, -127, -64, -16, -9, -8, -7, -1, 0, 1, 7, 8, 9, 16, 64, 127, 128, 200]
BOTH_WAYS = [15, 15, 15, 14, 10, 8, 8, 7, 1, 0, 17, 23, 24, 24, 26, 30, 31, 31, 31]
BACKWARDS = [31, 31, 31, 26, 16, 9, 8, 7, 1] + 10 * [0]


def test_buckets():
    distance = torch.tensor(DISTANCES)
    assert lesson.buckets(distance, both_ways=True).tolist() == BOTH_WAYS
    assert lesson.buckets(distance, both_ways=False).tolist() == BACKWARDS


@pytest.mark.parametrize("n_buckets, furthest", [(32, 128), (8, 20), (64, 500)])
@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_those_of_transformers(both_ways, n_buckets, furthest):
    distance = torch.arange(-600, 601)
    theirs = T5Attention._relative_position_bucket(distance, both_ways, n_buckets, furthest)
    assert torch.equal(lesson.buckets(distance, both_ways, n_buckets, furthest), theirs)


def test_infilled_spans_have_a_mean_length_of_three(texts, generator):
    """Twelve masks or thirteen for 128 tokens; a third of the lengths' sum goes with each."""
    texts = texts.repeat(32, 1)
    source = lesson.text_infilling(texts, generator)
    masks, real = (source == 3).sum(1), (source != 0).sum(1)
    assert (masks == 13).all()
    gone = 128 - (real - masks)
    assert (gone.double().mean() / 13 - 3).abs() < 0.05  # 4 standard deviations
    assert gone.double().var() / 13 == pytest.approx(3, rel=0.15)  # of a Poisson: its mean
    for text, row in zip(texts[:50], source):
        left = iter(text.tolist())
        assert all(token in left for token in row.tolist() if token not in (0, 3))  # in order


def test_masking_and_deletion_touch_about_a_third(texts, generator):
    masked = lesson.token_masking(texts, generator)
    assert ((masked == texts) | (masked == 3)).all()
    assert (masked == 3).double().mean() == pytest.approx(0.3, abs=0.03)
    deleted = lesson.token_deletion(texts, generator)
    assert (deleted != 0).sum() / texts.numel() == pytest.approx(0.7, abs=0.03)
    for text, row in zip(texts, deleted):
        left, real = iter(text.tolist()), row[row != 0].tolist()
        assert all(token in left for token in real) and (row[len(real) :] == 0).all()


def test_permutation_keeps_sentences_whole(generator):
    text = torch.tensor([[71, 72, 11, 73, 11, 74, 75, 76, 12, 77]])
    seen = set()
    for row in lesson.sentence_permutation(text.repeat(500, 1), generator, STOPS).tolist():
        text_of = " ".join(map(str, row))
        assert all(piece in text_of for piece in ("71 72 11", "73 11", "74 75 76 12", "77"))
        seen.add(text_of)
    assert len(seen) == 24


def test_rotation_turns_the_text(generator):
    texts = torch.arange(71, 199).expand(64, -1)
    for text, row in zip(texts.tolist(), lesson.document_rotation(texts, generator).tolist()):
        start = text.index(row[0])
        assert row == text[start:] + text[:start]


def test_denoising_pads_on_the_right(texts, generator):
    source, real = lesson.denoise(texts, generator, STOPS)
    assert source.shape == real.shape and torch.equal(real, source != 0)
    assert (real.long().diff(dim=1) <= 0).all()


@pytest.mark.parametrize("family, shape", [(lesson.T5, lesson.T5Config), (lesson.BART, lesson.BartConfig)])
def test_a_copy_in_bf16_keeps_its_ties_and_learns(family, shape, texts, generator):
    torch.manual_seed(0)
    model = copy.deepcopy(family(shape(vocab_size=6144))).to(torch.bfloat16)
    assert model.head.weight is model.tokens.weight
    assert sum(p.numel() for p in model.parameters()) == 6144 * 160 + sum(
        p.numel() for name, p in model.named_parameters() if name != "tokens.weight"
    )
    source, target = lesson.corrupt_spans(texts[:4], generator)
    loss = lesson.seq2seq_loss(model, source, target)
    loss.backward()
    assert loss.item() == pytest.approx(9, abs=1) and all(p.grad is not None for p in model.parameters())


def test_targets_below_zero_do_not_count(texts, generator):
    torch.manual_seed(0)
    model = lesson.T5(lesson.T5Config(vocab_size=6144))
    source, target = lesson.corrupt_spans(texts[:2], generator)
    logits = model(source, lesson.shift_right(target, 0))
    expected = torch.nn.functional.cross_entropy(logits[:, :5].flatten(0, 1), target[:, :5].flatten())
    some = target.clone()
    some[:, 5:] = -1
    torch.testing.assert_close(lesson.seq2seq_loss(model, source, some), expected)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_zoo_would_store_and_open_it(name, tmp_path):
    from tokenizers import Tokenizer

    family = zoo.FAMILIES[name]
    model = family(family.make_config(vocab_size=100))
    tokenizer = Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json"))
    zoo.save(model, tokenizer, tmp_path, dtype=torch.float32)
    again = zoo.from_transformers(tmp_path)
    assert again.config == model.config
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
