"""Distillation: the soft loss is the closed form, its limit is squared error, and the student reads what it should."""

import math

import pytest
import torch
from torch.nn import functional as F

from utils.lessons.distillation import WordStudent, answers, centred_error, imitate, soft_loss

TEXTS = ["a good book", "a bad book", "Good! Good, good.", "bad", "what a bad bad book", "a good one"]
INDEX = {word: row for row, word in enumerate("a good bad book what".split())}


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(0)
    return [3 * torch.randn(7, 4, generator=draw, dtype=torch.double) for _ in range(2)]


def student(seed=0, width=8):
    draw = torch.Generator().manual_seed(5)
    return WordStudent(torch.randn(len(INDEX), 6, generator=draw), INDEX, width=width, seed=seed)


def gradient(loss, z, v, *settings):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(loss(z, v, *settings), z)[0]


@pytest.mark.parametrize("T", [0.5, 1.0, 2.0, 20.0])
def test_the_soft_loss_is_torchs_divergence_times_the_square_of_T(logits, T):
    z, v = logits
    expected = T**2 * F.kl_div((z / T).log_softmax(-1), (v / T).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(soft_loss(z, v, T), expected)


@pytest.mark.parametrize("T", [1.0, 3.0])
def test_its_gradient_is_T_times_the_difference_of_the_softened_rows(logits, T):
    z, v = logits
    expected = T * ((z / T).softmax(-1) - (v / T).softmax(-1)) / len(z)
    torch.testing.assert_close(gradient(soft_loss, z, v, T), expected)


def test_at_T_1_it_is_soft_cross_entropy_less_the_teachers_entropy(logits):
    z, v = logits
    entropy = -(v.softmax(-1) * v.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(soft_loss(z, v, 1.0), F.cross_entropy(z, v.softmax(-1)) - entropy)


@pytest.mark.parametrize("loss", [soft_loss, centred_error])
def test_nothing_is_learned_from_oneself_nor_from_a_shift_and_the_teacher_learns_nothing(logits, loss):
    z, v = logits
    shifts = torch.arange(7.0, dtype=torch.double)[:, None]
    assert loss(z, z + shifts).abs() < 1e-12
    torch.testing.assert_close(loss(z, v + shifts), loss(z, v))
    v.requires_grad_()
    loss(z.requires_grad_(), v).backward()
    assert v.grad is None and z.grad.abs().sum() > 0


def test_the_limit_of_a_hot_teacher_is_squared_error(logits):
    z, v = logits
    limit = gradient(centred_error, z, v)
    closed = ((z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))) / (4 * len(z))
    torch.testing.assert_close(limit, closed)
    apart = [((gradient(soft_loss, z, v, T) - limit).norm() / limit.norm()).item() for T in (100.0, 1000.0)]
    assert apart[1] < 0.01 and 8 < apart[0] / apart[1] < 12
    torch.testing.assert_close(soft_loss(z, v, 1e4), centred_error(z, v), rtol=1e-2, atol=0)


def test_a_student_answers_alike_alone_and_in_company():
    model = student()
    together = answers(model, TEXTS)
    alone = torch.cat([answers(model, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone)
    assert not together.requires_grad and together.shape == (len(TEXTS), 2)


def test_a_student_skips_what_it_has_no_vector_for_and_survives_a_text_of_nothing_else():
    model = student()
    torch.testing.assert_close(answers(model, ["a good book"]), answers(model, ["A zzz GOOD, qqq book?"]))
    assert answers(model, ["", "zzz qqq"]).isfinite().all()


def test_the_order_of_words_counts():
    good_first, bad_first = answers(student(), ["good a bad", "bad a good"])
    assert not torch.allclose(good_first, bad_first)


def test_seeds_make_filters_and_leave_the_vectors_and_torchs_dice_alone():
    vectors = torch.randn(len(INDEX), 6)
    kept, state = vectors.clone(), torch.get_rng_state()
    one, same, other = (WordStudent(vectors, INDEX, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.look.weight, same.look.weight)
    assert not torch.equal(one.look.weight, other.look.weight)
    imitate(one, TEXTS, torch.tensor([1, 0, 1, 0, 0, 1]), F.cross_entropy, steps=2, batch=3)
    assert torch.equal(vectors, kept) and not torch.equal(one.table.weight, kept)


@pytest.mark.parametrize("loss", [soft_loss, centred_error])
def test_a_student_comes_to_say_what_its_teacher_says(loss):
    teacher = answers(student(seed=7), TEXTS) * 5
    model = imitate(student(), TEXTS, teacher, loss, steps=200, rate=1e-2, batch=6)
    before, after = (centred_error(answers(one, TEXTS), teacher) for one in (student(), model))
    assert after < 0.02 * before


def test_training_is_the_same_twice_and_follows_the_seed():
    labels = torch.tensor([1, 0, 1, 0, 0, 1])
    runs = [
        answers(imitate(student(), TEXTS, labels, F.cross_entropy, steps=5, batch=2, seed=seed), TEXTS)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_the_stop_button_leaves_a_usable_student(capsys):
    seen = []

    def stop(step, value):
        seen.append(value)
        if step == 3:
            raise KeyboardInterrupt

    labels = torch.tensor([1, 0, 1, 0, 0, 1])
    model = imitate(student(), TEXTS, labels, F.cross_entropy, steps=50, batch=3, log=stop)
    assert len(seen) == 4 and all(map(math.isfinite, seen))
    assert "step 4 of 50" in capsys.readouterr().out
    assert answers(model, TEXTS).isfinite().all()
