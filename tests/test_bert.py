"""BERT: the masks by the rule, the pairs, the losses, published weights, and the page's own measurements."""

import copy
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from torch.nn import functional as F

from utils import data, pages, zoo
from utils.lessons import bert
from utils.lessons.bert import (
    BERT,
    BertConfig,
    filling_loss,
    mask_tokens,
    masked_loss,
    next_sentence_pairs,
    pretraining_loss,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_zoo import Hub  # noqa: E402

V, MASK = 6144, 3
SMALL = BertConfig(vocab_size=60, n_positions=40, n_layers=2, n_heads=2, d_model=16, d_ff=24)


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def within(count, of, share, sigmas=3):
    """Is a count of independent throws within so many standard deviations of its share?"""
    return abs(int(count) - share * int(of)) <= sigmas * (share * (1 - share) * int(of)) ** 0.5


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = BERT(SMALL, head="pretraining")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


# ---- blanks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hide, swap", [(0.8, 0.1), (0.5, 0.3), (1.0, 0.0), (0.0, 0.0)])
def test_masks_follow_the_rule(seed, hide, swap):
    ids = torch.randint(7, V, (400, 500), generator=dice(seed))
    inputs, targets = mask_tokens(ids, dice(seed + 10), V, MASK, hide=hide, swap=swap)
    asked = targets >= 0
    assert within(asked.sum(), ids.numel(), 0.15)
    masked, kept = inputs[asked] == MASK, inputs[asked] == ids[asked]
    n = asked.sum()
    assert within(masked.sum(), n, hide + swap / V) and within(kept.sum(), n, 1 - hide - swap + swap / V)
    assert torch.equal(inputs[~asked], ids[~asked])


def test_targets_are_what_stood_there_and_unchanged_tokens_are_asked():
    ids = torch.randint(7, V, (100, 200), generator=dice())
    inputs, targets = mask_tokens(ids, dice(1), V, MASK)
    asked = targets >= 0
    assert torch.equal(targets[asked], ids[asked]) and set(targets[~asked].tolist()) == {-1}
    assert (asked & (inputs == ids)).sum() > 100  # as they were, and asked all the same
    assert not torch.equal(mask_tokens(ids, dice(2), V, MASK)[1], targets)  # another epoch, other holes
    again = mask_tokens(ids, dice(1), V, MASK)
    assert torch.equal(again[0], inputs) and torch.equal(again[1], targets)


@pytest.mark.parametrize("first", [7, 999])
def test_special_tokens_are_never_masked(first):
    ids = torch.randint(0, 2 * first, (200, 100), generator=dice())
    before = ids.clone()
    inputs, targets = mask_tokens(ids, dice(1), V, MASK, rate=0.9, first=first)
    assert torch.equal(inputs[ids < first], ids[ids < first]) and (targets[ids < first] == -1).all()
    assert torch.equal(ids, before) and within((targets >= 0).sum(), (ids >= first).sum(), 0.9)


def test_strangers_come_from_the_whole_vocabulary_alike():
    ids = torch.full((500, 400), 10)
    inputs, targets = mask_tokens(ids, dice(), 50, MASK, rate=1.0, hide=0.0, swap=1.0)
    counts = inputs.flatten().bincount(minlength=50)
    chi_square = ((counts - counts.sum() / 50) ** 2 / (counts.sum() / 50)).sum()
    assert chi_square < 85 and (targets == 10).all()  # 49 degrees of freedom: beyond 85 once in 1,000


@pytest.mark.parametrize("rate, asked", [(0.0, 0), (1.0, 300)])
def test_none_or_all_are_asked(rate, asked):
    ids = torch.randint(7, V, (10, 30), generator=dice())
    assert (mask_tokens(ids, dice(), V, MASK, rate=rate)[1] >= 0).sum() == asked


# ---- pairs


@pytest.mark.parametrize("B, n", [(2, 2), (5, 9), (16, 125), (400, 6)])
def test_pairs_are_packed_and_strangers_are_strangers(B, n):
    rows = 100 * torch.arange(1, B + 1)[:, None] + torch.arange(n) % 100
    ids, segments, is_next = next_sentence_pairs(rows, dice(B))
    cut = n // 2
    assert ids.shape == segments.shape == (B, n + 3) and is_next.dtype == torch.bool
    assert (ids[:, 0] == 5).all() and (ids[:, cut + 1] == 4).all() and (ids[:, -1] == 4).all()
    assert (segments[:, : cut + 2] == 0).all() and (segments[:, cut + 2 :] == 1).all()
    assert torch.equal(ids[:, 1 : cut + 1], rows[:, :cut])
    second = ids[:, cut + 2 : -1]
    assert torch.equal((second == rows[:, cut:]).all(1), is_next)
    whose = second[:, 0] // 100
    assert torch.equal(second % 100, (rows[:, cut:]) % 100) and ((whose >= 1) & (whose <= B)).all()


def test_half_of_the_pairs_are_true():
    rows = torch.randint(7, V, (2000, 8), generator=dice())
    assert within(next_sentence_pairs(rows, dice(1))[2].sum(), 2000, 0.5)


def test_one_row_alone_has_no_stranger():
    with pytest.raises(RuntimeError):
        next_sentence_pairs(torch.ones(1, 8, dtype=torch.long), dice())


# ---- losses


def batch(seed=0):
    rows = torch.randint(7, 60, (6, 21), generator=dice(seed))
    ids, segments, is_next = next_sentence_pairs(rows, dice(seed))
    return *mask_tokens(ids, dice(seed), 60, MASK, rate=0.3), segments, is_next


def test_the_loss_is_transformers_own(model):
    inputs, targets, segments, is_next = batch()
    twin = zoo.to_transformers(model)
    labels = targets.masked_fill(targets < 0, -100)
    theirs = twin(
        input_ids=inputs, token_type_ids=segments, labels=labels, next_sentence_label=(~is_next).long()
    )
    torch.testing.assert_close(pretraining_loss(model, inputs, segments, targets, is_next), theirs.loss)
    blanks = twin(input_ids=inputs, token_type_ids=segments).prediction_logits.flatten(0, 1)
    wanted = F.cross_entropy(blanks, targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(masked_loss(model, inputs, targets, segments=segments), wanted)


def test_only_asked_places_pass_the_head(model):
    inputs, targets, segments, _ = batch()
    seen = []
    hook = model.head.register_forward_hook(lambda head, args, result: seen.append(args[0].shape))
    masked_loss(model, inputs, targets, segments=segments)
    hook.remove()
    assert seen == [((targets >= 0).sum(), SMALL.d_model)]


def test_padding_changes_no_loss(model):
    inputs, targets, segments, is_next = batch()
    longer = [F.pad(ids, (0, 5), value=value) for ids, value in ((inputs, 0), (targets, -1), (segments, 0))]
    real = F.pad(torch.ones_like(inputs, dtype=torch.bool), (0, 5))
    inputs_2, targets_2, segments_2 = longer
    torch.testing.assert_close(
        pretraining_loss(model, inputs_2, segments_2, targets_2, is_next, mask=real),
        pretraining_loss(model, inputs, segments, targets, is_next),
    )


def test_nothing_asked_costs_nothing(model):
    states = torch.randn(2, 5, SMALL.d_model, requires_grad=True)
    loss = filling_loss(model, states, torch.full((2, 5), -1))
    loss.backward()
    assert loss == 0 and not states.grad.any()


def test_a_bf16_copy_computes_the_same_losses_and_every_gradient():
    torch.manual_seed(0)
    model = BERT(SMALL, head="pretraining")
    low = copy.deepcopy(model).to(torch.bfloat16)
    assert low.head.weight is low.inputs.tokens.weight
    inputs, targets, segments, is_next = batch()
    losses = [pretraining_loss(m, inputs, segments, targets, is_next) for m in (model, low)]
    losses[1].backward()
    assert losses[1].dtype == torch.float32 and abs(losses[0] - losses[1]) < 0.02
    assert all(p.grad is not None for p in low.parameters())


# ---- the model


def test_every_state_depends_on_both_sides(model):
    x = model.inputs(torch.randint(7, 60, (1, 9))).detach().requires_grad_()
    model.run(x)[0, 4].sum().backward()
    assert (x.grad[0].abs().amax(-1) > 0).all()


def test_the_start_is_berts():
    model = BERT(BertConfig(), head="pretraining")
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            luck = 0.02 / parameter.numel() ** 0.5  # the standard error of the mean
            assert abs(parameter.std() - 0.02) < 4 * luck and abs(parameter.mean()) < 5 * luck, name
        else:
            assert (parameter == (1 if "norm" in name and name.endswith("weight") else 0)).all(), name


@pytest.fixture(scope="module")
def sentences():
    """500 sentences of real news."""
    found = [line for text in data.news() for line in text.split(". ") if len(line) > 30]
    return found[:500]


def test_minilm_in_our_class_is_transformers_and_sentence_transformers(sentences):
    from sentence_transformers import SentenceTransformer

    ours, pieces = zoo.from_transformers(data.minilm_folder()), data.minilm_tokenizer()
    theirs, _ = zoo.minilm()
    pieces.enable_padding()
    pieces.enable_truncation(256)
    assert len(sentences) == 500
    vectors = []
    for start in range(0, 500, 50):
        part = pieces.encode_batch(sentences[start : start + 50])
        ids, real = (torch.tensor([getattr(row, what) for row in part]) for what in ("ids", "attention_mask"))
        with torch.no_grad():
            states = bert.layers(ours, ids, real.bool())
            wanted = theirs(ids, attention_mask=real, output_hidden_states=True).hidden_states
        for mine, other in zip(states, wanted, strict=True):
            assert (mine - other)[real.bool()].abs().max() < 1e-5
        weights = real[..., None].float()
        vectors.append(F.normalize((states[-1] * weights).sum(1) / weights.sum(1), dim=-1))
    encoder = SentenceTransformer(str(data.minilm_folder()), device="cpu")
    assert (torch.cat(vectors) - encoder.encode(sentences, convert_to_tensor=True)).abs().max() < 1e-5


# ---- words in their sentences


@pytest.fixture(scope="module")
def small_tokenizer():
    return Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json"))


def test_special_tokens_are_found_in_both_spellings(small_tokenizer):
    assert [bert.special(small_tokenizer, name) for name in ("mask", "sep", "cls")] == [3, 4, 5]
    assert [bert.special(data.minilm_tokenizer(), name) for name in ("cls", "sep", "mask")] == [101, 102, 103]


@pytest.mark.parametrize(
    "text", ["The _ barked.", "The ____ barked.", "_ barked _.", "_", "no blank", "__ _"]
)
def test_blanks_become_masks(small_tokenizer, text):
    ids = bert.with_blanks(small_tokenizer, text)[0].tolist()
    assert ids[0] == 5 and ids[-1] == 4
    blanks = [word for word in text.replace(".", "").split() if set(word) == {"_"}]
    assert ids.count(3) == len(blanks)
    words = [small_tokenizer.decode([token]) for token in ids if token > 70]
    assert "".join(words).split() == text.replace("_", "").replace(" .", ".").split()


def test_a_word_is_found_at_its_place_and_its_pieces_are_averaged(small_tokenizer):
    torch.manual_seed(0)
    model = BERT(BertConfig(n_layers=2)).eval()
    sentence = "A Crane saw another bird."  # its tokens: two pieces and a capital
    text = small_tokenizer.encode(sentence)
    places = [i for i, (a, b) in enumerate(text.offsets, 1) if a < 7 and b > 2]
    states = bert.layers(model, torch.tensor([[5, *text.ids, 4]]))
    found = bert.vectors_of(model, small_tokenizer, sentence, "crane")
    assert len(places) > 1 and found.shape == (3, 160)
    torch.testing.assert_close(found, states[:, 0, places].mean(1))
    torch.testing.assert_close(states[-1], model(torch.tensor([[5, *text.ids, 4]])))


# ---- what the page measures with


def test_every_sense_has_five_sentences_with_the_word_in_it_once():
    senses = data.senses()
    assert len(senses) == 240 == len(set(senses))
    groups = [senses[i : i + 5] for i in range(0, 240, 5)]
    assert all(len({(word, sense) for word, sense, _ in group}) == 1 for group in groups)
    for one, other in zip(groups[::2], groups[1::2]):
        assert one[0][0] == other[0][0] and one[0][1] != other[0][1]
    assert [group[0][1] for group in groups[:28:2]] == ["animal"] * 14
    for word, _, sentence in senses:
        assert [w.strip(".,").lower() for w in sentence.split()].count(word) == 1, sentence


@pytest.fixture(scope="module")
def measures():
    names = "parts", "shuffled", "probe", "common_direction"
    return dict(zip(names, pages.definitions("09_bert", *names)))


def drawn(seed, word=3.0, sense=1.0, use=1.0, D=200):
    """Uses (24, 2, 5, 1, D) with known standard deviations."""
    g = dice(seed)
    sizes = ((24, 1, 1, 1, D), word), ((24, 2, 1, 1, D), sense), ((24, 2, 5, 1, D), use)
    return sum(scale * torch.randn(size, generator=g) for size, scale in sizes)


@pytest.mark.parametrize("word, sense, use", [(3, 1, 1), (1, 0, 1), (0, 0, 1), (1, 2, 3)])
def test_parts_finds_the_variances_that_were_put_in(measures, word, sense, use):
    true = torch.tensor([word, sense, use]) ** 2
    found = torch.stack([measures["parts"](drawn(seed, word, sense, use))[:, 0] for seed in range(8)])
    torch.testing.assert_close(found.mean(0), true / true.sum(), atol=0.03, rtol=0)
    assert measures["parts"](measures["shuffled"](drawn(0, word, sense, use), 0))[1, 0] < 0.1


def test_the_probe_tells_what_is_there_and_nothing_else(measures):
    assert measures["probe"](drawn(0, sense=2.0), 0) > 0.99
    blind = torch.stack([measures["probe"](drawn(seed, sense=0.0), seed) for seed in range(8)])
    assert abs(blind.mean() - 0.5) < 0.05


def test_a_direction_is_found_only_where_words_share_it(measures):
    shared = drawn(0, sense=0.0)
    shared[:, 0] += 0.5
    assert measures["common_direction"](shared) > 0.95
    alone = torch.stack([measures["common_direction"](drawn(seed)) for seed in range(8)])
    assert abs(alone.mean() - 0.5) < 0.15
    tossed = torch.stack([measures["common_direction"](shared, seed) for seed in range(8)])
    assert tossed.mean() < 0.8


# ---- the page's section for those with a network

CELL = """
import re, torch
from functools import partial
from matplotlib import pyplot as plt
from torch.nn import functional as F
from utils import course, data, pages, show, zoo
from utils.lessons.bert import *
from utils.lessons.bert import special, vectors_of, with_blanks, layers
word2vec, _ = zoo.load("word2vec")
senses, words, NAMES = data.senses(), sorted({w for w, _, _ in data.senses()}), ("word", "sense", "use")
source = {cell.id: cell.source for cell in pages.read(pages.ROOT / "notebooks/09_bert.ipynb").cells}
names = "panels", "compare", "static", "ask", "read_all", "parts", "probe"
exec(next(cell for cell in source.values() if cell.startswith("swung =")))
globals().update(zip(names, pages.definitions("09_bert", *names, given=globals())))
exec(next(cell for cell in source.values() if cell.startswith("if course.online():")))
print("opened", type(base).__name__, sum(p.numel() for p in base.parameters()))
"""


@pytest.fixture
def published(tmp_path):
    """A folder as the hub has it: random weights, the oldest names ("gamma", "beta"), BERT's own vocabulary."""
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    folder = tmp_path / "hub"
    twin = transformers.BertForPreTraining(transformers.BertConfig(vocab_size=30522, **shape))
    twin.config.architectures = ["BertForMaskedLM"]
    twin.config.save_pretrained(folder)
    state = {}
    for name, weight in twin.state_dict().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        state[name] = weight.clone().contiguous()
    from safetensors.torch import save_file

    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    data.minilm_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def test_the_hub_cell_runs_against_a_hub(published, tmp_path):
    kind = type("BertHub", (Hub,), {"folder": published, "name": "google-bert/bert-base-uncased"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k != "COURSE_ONLINE"}
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", CELL],
            cwd=pages.ROOT,
            env=kept | place | {"MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert "opened BERT" in done.stdout and "senses told:" in done.stdout, done.stderr[-800:]
