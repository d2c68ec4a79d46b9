"""Finetuning: what is frozen stays, what is remembered is right, every floor has its rate, and stop does no harm."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.nn import functional as F

from utils import data, zoo
from utils.lessons import finetuning
from utils.lessons.bert import BERT, BertConfig
from utils.lessons.finetuning import (
    Cached,
    Classifier,
    accuracy,
    batches,
    finetune,
    layer_rates,
    predict,
    slope,
    trainable,
)
from utils.lessons.sentence_embeddings import SentenceEncoder, mean_pool, pad_right

TINY = BertConfig(vocab_size=6144, n_positions=32, n_layers=3, n_heads=2, d_model=16, d_ff=24)


@pytest.fixture(scope="module")
def body():
    """A small random encoder with the zoo's tokenizer, a head for blanks and a pooler: parts of an old task."""
    torch.manual_seed(0)
    tokenizer = zoo.load("bert")[1]
    return SentenceEncoder(BERT(TINY, head="pretraining"), tokenizer, max_length=24)


@pytest.fixture(scope="module")
def rows():
    return data.reviews("books", "train", "plain")[:24]


def texts_of(rows):
    return [row.text for row in rows]


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model, before):
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def test_a_classifier_is_a_copy_with_a_head_of_its_seed(body):
    before = weights(body)
    one, same, other = (Classifier(body, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert one.head.weight.shape == (3, 16) and not one.head.bias.any()
    with torch.no_grad():
        for p in one.parameters():
            p.zero_()
    assert not moved(body, before)


def test_logits_are_the_head_of_the_mean_of_real_states(body, rows):
    model, texts = Classifier(body, 2), texts_of(rows[:6])
    logits = predict(model, texts)
    for row, text in zip(logits, texts, strict=True):
        states = body.model.hidden(torch.tensor(body.rows([text])))[0]
        expected = model.head.weight @ states.mean(0) + model.head.bias
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


def test_predictions_keep_the_order_of_the_texts_whatever_the_batches(body, rows):
    model, texts = Classifier(body, 2), texts_of(rows)
    whole = predict(model, texts)
    torch.testing.assert_close(predict(model, texts[::-1]).flip(0), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(predict(model, texts, budget=1), whole, atol=1e-5, rtol=0)
    assert predict(model, []).shape == (0, 2) and not whole.requires_grad


def test_accuracy_counts_what_is_right(body, rows):
    model = Classifier(body, 2)
    found = predict(model, texts_of(rows)).argmax(1).tolist()
    right = [SimpleNamespace(text=row.text, label=label) for row, label in zip(rows, found, strict=True)]
    assert accuracy(model, right) == 1
    assert (
        accuracy(model, [*right[:12], *(SimpleNamespace(text=r.text, label=1 - r.label) for r in right[:4])])
        == 0.75
    )


@pytest.mark.parametrize("n, size, steps", [(5, 2, 7), (16, 16, 3), (3, 8, 4), (24, 7, 11)])
def test_every_round_asks_every_row_once(n, size, steps):
    found = batches(n, size, steps, seed=1)
    assert len(found) == steps and all(len(batch) == min(size, n) for batch in found)
    order = torch.cat(found).tolist()
    for start in range(0, len(order) - n + 1, n):
        assert sorted(order[start : start + n]) == list(range(n))
    assert torch.equal(torch.cat(batches(n, size, steps, seed=1)), torch.tensor(order))
    assert torch.cat(batches(n, size, steps, seed=2)).tolist() != order


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 100])
def test_the_rate_climbs_stands_once_at_the_top_and_never_reaches_zero(steps):
    shares = [slope(step, steps) for step in range(steps)]
    top = shares.index(max(shares))
    assert max(shares) == 1 and top == max(1, steps // 10) - 1 and min(shares) > 0
    assert shares[: top + 1] == sorted(shares[: top + 1]) and shares[top:] == sorted(
        shares[top:], reverse=True
    )


COUNTS = {"head": 34, "last block": 34 + 1960, "all": None}


@pytest.mark.parametrize("what", COUNTS)
def test_only_what_may_learn_moves(body, rows, what):
    model = Classifier(body, 2)
    learning = trainable(model, what)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    before = weights(model)
    finetune(model, rows, steps=2, rate=1e-2, batch=8)
    changed = moved(model, before)
    assert changed <= names and {"head.weight", "head.bias"} <= changed
    floors = {name.split(".")[3] for name in changed if ".blocks." in name}
    assert floors == {"head": set(), "last block": {"2"}, "all": {"0", "1", "2"}}[what]
    assert not any(part in name for name in names for part in ("pooler", "next", "model.head"))
    expected = COUNTS[what]
    if what == "all":
        outside = sum(
            p.numel()
            for name, p in body.model.named_parameters()
            if name.split(".")[0] in ("head", "pooler", "next")
        )
        expected = 34 + sum(p.numel() for p in body.model.parameters()) - outside
    assert sum(p.numel() for p in learning) == expected


def test_who_learns_can_be_changed_back(body):
    model = Classifier(body, 2)
    trainable(model, "all")
    assert {id(p) for p in trainable(model, "head")} == {id(p) for p in model.head.parameters()}
    assert not any(p.requires_grad for p in model.body.parameters())


@pytest.mark.parametrize("n_frozen, what", [(2, "last block"), (3, "head")])
def test_remembered_states_give_the_same_logits_and_the_same_training(body, rows, n_frozen, what):
    plain, kept = Classifier(body, 2), Classifier(body, 2)
    trainable(plain, what), trainable(kept, what)
    memory = Cached(kept, n_frozen)
    torch.testing.assert_close(
        predict(memory, texts_of(rows)), predict(plain, texts_of(rows)), atol=1e-5, rtol=0
    )
    finetune(plain, rows, steps=5, rate=1e-3, batch=8)
    finetune(memory, rows, steps=5, rate=1e-3, batch=8)
    for one, other in zip(plain.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert memory.head is kept.head and set(memory.states) == set(texts_of(rows))


def test_a_text_is_read_once_and_memories_are_shared(body, rows, monkeypatch):
    states, asked = {}, Counter()
    first = Cached(Classifier(body, 2), 3, states)
    first.remember([rows[0].text, rows[0].text, rows[1].text])
    original = SentenceEncoder.rows

    def counted(self, texts):
        asked.update(texts)
        return original(self, texts)

    monkeypatch.setattr(SentenceEncoder, "rows", counted)
    Cached(Classifier(body, 2, seed=1), 3, states).inputs(texts_of(rows[:3]))
    assert asked == {rows[2].text: 1} and len(states) == 3
    x, mask = first.inputs(texts_of(rows[:3]))
    assert x.shape[:2] == mask.shape and mask.sum().item() == sum(len(s) for s in states.values())


def test_the_gradient_of_the_head_is_its_closed_form(body, rows):
    model = Classifier(body, 2)
    trainable(model, "head")
    ids, mask = model.inputs(texts_of(rows))
    vectors, labels = mean_pool(body.model.hidden(ids, mask), mask), torch.tensor([r.label for r in rows])
    logits = model(ids, mask)
    F.cross_entropy(logits, labels).backward()
    expected = (logits.softmax(1) - F.one_hot(labels, 2)).T @ vectors / len(rows)
    torch.testing.assert_close(model.head.weight.grad, expected, atol=1e-6, rtol=1e-4)


def test_a_long_trained_head_is_as_good_as_logistic_regression(body):
    """On vectors that no line separates, its loss comes within 0.01 nats of the least that scikit-learn finds."""
    many = data.reviews("books", "train", "plain")[:160]
    model, labels = Classifier(body, 2), torch.tensor([row.label for row in many])
    trainable(model, "head")
    kept = Cached(model, 3)
    loss = lambda: F.cross_entropy(predict(kept, texts_of(many)), labels).item()
    start = loss()
    finetune(kept, many, steps=300, rate=0.3, batch=160)
    ids, mask = pad_right(body.rows(texts_of(many)))
    with torch.no_grad():
        vectors = mean_pool(body.model.hidden(ids, mask), mask).numpy()
    library = LogisticRegression(C=1e4, max_iter=2000).fit(vectors, labels)
    least = log_loss(labels, library.predict_proba(vectors))
    assert start > least + 0.03 and least - 1e-3 < loss() < least + 0.01


def test_floors_learn_at_shares_of_the_rate_and_every_weight_once(body):
    model = Classifier(body, 2)
    learning = trainable(model, "all")
    groups = layer_rates(model, 1.0, 0.5)
    assert [group["lr"] for group in groups] == [1, 0.5, 0.25, 0.125, 0.0625]
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed)) and set(listed) == {id(p) for p in learning}
    assert groups[0]["params"][0] is model.head.weight
    trainable(model, "last block")
    assert [group["lr"] for group in layer_rates(model, 1.0, 0.5)] == [1, 0.5]


def test_the_first_step_moves_each_floor_by_its_rate(body, rows):
    model = Classifier(body, 2)
    trainable(model, "all")
    before = weights(model)
    finetune(model, rows, steps=1, rate=9, batch=8, parameters=layer_rates(model, 1e-3, 0.5))
    for floor, rate in (("head.weight", 1e-3), ("blocks.2.", 5e-4), ("blocks.0.", 1.25e-4)):
        names = [name for name in before if floor in name and "model.head" not in name]
        state = dict(model.named_parameters())
        far = max((state[name] - before[name] * (1 - 0.01 * rate)).abs().max().item() for name in names)
        assert abs(far / rate - 1) < 0.02


def test_groups_can_be_used_again_and_no_gradient_is_kept(body, rows):
    model = Classifier(body, 2)
    trainable(model, "last block")
    groups = layer_rates(model, 1e-3, 0.5)
    finetune(model, rows, 3, 1.0, batch=8, parameters=groups)
    assert [group["lr"] for group in groups] == [1e-3, 5e-4]
    assert all(p.grad is None for p in model.parameters())


def test_the_rate_of_every_group_follows_the_slope(body, rows, monkeypatch):
    model, seen = Classifier(body, 2), []
    trainable(model, "last block")
    step_of = finetuning.update

    def watched(optimizer, loss):
        seen.append([group["lr"] for group in optimizer.param_groups])
        step_of(optimizer, loss)

    monkeypatch.setattr(finetuning, "update", watched)
    finetune(model, rows, 20, 9, batch=8, parameters=layer_rates(model, 1.0, 0.5))
    assert seen == [[slope(step, 20), 0.5 * slope(step, 20)] for step in range(20)]


def test_stop_leaves_a_usable_model(body, rows, capsys):
    def press(step, loss):
        if step == 2:
            raise KeyboardInterrupt

    model = Classifier(body, 2)
    trainable(model, "all")
    assert finetune(model, rows, 50, 1e-3, log=press) is model
    assert capsys.readouterr().out == "Stopped in step 3 of 50: the model is usable as it is.\n"
    assert not model.training and predict(model, texts_of(rows)).isfinite().all()


def test_another_error_is_not_swallowed(body, rows):
    def fail(step, loss):
        raise ValueError("of the log")

    with pytest.raises(ValueError, match="of the log"):
        finetune(Classifier(body, 2), rows, 3, 1e-3, log=fail)


def test_training_is_logged_and_the_same_again(body, rows):
    logs = []
    for seed in (0, 0, 1):
        model, log = Classifier(body, 2), []
        finetune(
            model, rows, 12, 3e-3, seed, batch=8, log=lambda step, loss, log=log: log.append((step, loss))
        )
        logs.append(log)
    assert [step for step, _ in logs[0]] == list(range(12))
    assert logs[0] == logs[1] != logs[2]


def test_everything_learns_a_few_labels_by_heart(body, rows):
    model = Classifier(body, 2)
    trainable(model, "all")
    assert accuracy(finetune(model, rows[:8], 60, 3e-3, batch=8), rows[:8]) == 1


def test_clipping_bounds_the_gradient(body):
    model = Classifier(body, 2)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=1.0)
    before = model.head.weight.detach().clone()
    finetuning.update(optimizer, 1e4 * model.head.weight.sum(), clip=0.5)
    assert abs((model.head.weight - before).norm().item() - 0.5) < 1e-4
