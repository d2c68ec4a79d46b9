"""Assistants: what is asked, every loss against its closed form, and what the shipped verdicts are."""

import math
from functools import partial
from itertools import combinations

import pytest
import torch
import toys
from torch.nn import functional as F

from utils import data, zoo
from utils.lessons import assistants as lesson
from utils.pages import definitions

SEVERAL = pytest.mark.parametrize("seed", range(4))
near = partial(torch.testing.assert_close, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def model():
    return toys.sure_gpt(1, n_positions=48).double()


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = zoo.load("gpt-200k")[1]
    tokenizer.encode_special_tokens = True
    return tokenizer


def some_chats(seed, n=5):
    dice = torch.Generator().manual_seed(seed)
    draw = lambda low, high: torch.randint(3, 250, (int(torch.randint(low, high, (), generator=dice)),))  # noqa: E731
    torch.manual_seed(seed)
    return [(draw(2, 9).tolist(), draw(1, 8).tolist()) for _ in range(n)]


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope_of(loss, *at):
    return torch.autograd.grad(loss(*at), at[0])[0]


# ---- the template and the mask


def test_a_chat_is_marked_and_comes_back(tokenizer):
    template = lesson.Template(tokenizer)
    prompt, answer = template.prompt("Tell me of a fox."), template.answer("A fox ran.")
    assert (
        prompt[:2] == [1, template.user] and prompt[-1] == template.assistant and answer[-1] == template.eos
    )
    assert template.text(answer) == "A fox ran." and template.text(answer[:-1]) == "A fox ran. …"
    assert template.answer("A fox ran. …") == answer[:-1]


@pytest.mark.parametrize("text", ["<extra_1>", "a <extra_0> b", "<eos><bos>", "<pad>"])
def test_no_user_can_write_a_mark(tokenizer, text):
    ids = lesson.Template(tokenizer).prompt(text)
    assert min(ids[2:-1]) > ids[-1] and tokenizer.decode(ids[2:-1]).strip() == text


@SEVERAL
def test_only_answers_are_asked(model, seed):
    chats = some_chats(seed)
    log_p, asked = lesson.answer_log_probs(model, chats)
    assert asked.sum(1).tolist() == [len(answer) for _, answer in chats]
    assert not log_p[~asked].any() and (log_p[asked] < 0).all()
    for row, (prompt, answer) in zip(log_p, chats):
        logits = model(torch.tensor([prompt + answer]))[0].log_softmax(-1)
        expected = [logits[len(prompt) + t - 1, token] for t, token in enumerate(answer)]
        near(row[len(prompt) - 1 : len(prompt) + len(answer) - 1], torch.stack(expected))


@SEVERAL
def test_the_loss_is_torchs_with_ignore_index(model, seed):
    chats = some_chats(seed)
    ids, asked = lesson.pad_chats(chats)
    targets = ids[:, 1:].masked_fill(~asked, -100)
    near(lesson.answer_loss(model, chats), F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), targets))
    (plainly,) = definitions(
        "20_assistants", "answer_loss_plainly", given={"mean": lambda x: sum(x) / len(x)}
    )
    assert lesson.answer_loss(model, chats).item() == pytest.approx(plainly(model, chats), abs=1e-5)


def test_the_rate_rises_falls_and_the_stop_button_leaves_a_model():
    weight, seen = torch.nn.Parameter(torch.zeros(2)), []

    def loss_of(rows):
        seen.append(rows)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return (weight - 1).square().sum()

    lesson.learn([weight], loss_of, list("abcdef"), 9, 2, 0.1, seed=0)
    assert len(seen) == 3 and weight.isfinite().all() and (weight > 0).all()


# ---- rewards


@SEVERAL
def test_pair_loss_in_closed_form(seed):
    better, worse = numbers(seed, 2, 6).requires_grad_()
    loss = lesson.pair_loss(better, worse)
    near(loss, (1 + (worse - better).exp()).log().mean())
    near(lesson.pair_loss(worse, worse), torch.tensor(math.log(2)).double())
    near(loss, lesson.pair_loss(better + 3, worse + 3))
    near(slope_of(lesson.pair_loss, better, worse), -(worse - better).sigmoid() / 6)
    near(loss - lesson.pair_loss(worse, better), (worse - better).mean())  # swapped: the margin's sign


def test_a_reward_sees_the_answer_alone_and_keeps_the_table(model):
    rm = lesson.RewardModel(model).float()
    chats = some_chats(3)
    assert not rm(chats).any()
    torch.nn.init.normal_(rm.score.weight)
    alone = torch.cat([rm([chat]) for chat in chats])
    near(rm(chats), alone)  # padding does not count
    states = rm.body.hidden(torch.tensor([sum(chats[0], [])]))[0, len(chats[0][0]) :]
    near(alone[:1], rm.score(states.mean(0)))
    rm(chats).sum().backward()
    assert rm.body.tokens.weight.grad is None and rm.body.blocks[0].attention.qkv.weight.grad.any()
    assert all(p.requires_grad for p in model.parameters()), "the model itself is left alone"


@pytest.mark.parametrize("n", range(1, 6))
def test_best_of_n_is_the_mean_over_all_choices(n):
    rewards, values = numbers(n, 2, 3, 5)
    for row, expected in enumerate(lesson.best_of_n(rewards, values, n)):
        best = [max(c, key=lambda i: rewards[row, i]) for c in combinations(range(5), n)]
        near(expected, values[row, best].mean())
    near(lesson.best_of_n_weights(5, n).sum(), torch.tensor(1.0).double())


@pytest.mark.parametrize(
    "answer, score",
    [('"Oh!" said the sad mouse, "come here."', 5), ("A mouse.", 0), ("A mouse, a hen, and it ran …", 0)]
    + [
        ("The bird sang and the bird flew on.", 0),
        ("It was as it is now.", 1),
        ('"I am so so ill, you see?"', 3),
    ],
)
def test_the_true_score_counts_points(answer, score):
    assert lesson.true_score("Tell me about a mouse.", answer) == score


# ---- DPO, GRPO, PPO


@SEVERAL
def test_dpo_in_closed_form(seed):
    better, worse = numbers(seed, 2, 5).requires_grad_()
    loss = partial(lesson.dpo_loss, beta=0.3)
    near(loss(worse, worse), torch.tensor(math.log(2)).double())
    near(slope_of(loss, better, worse), -0.3 * (-0.3 * (better - worse)).sigmoid() / 5)
    near(loss(better, worse), lesson.pair_loss(0.3 * better, 0.3 * worse))


def test_dpo_at_the_start_is_ln_2_and_blind_to_the_prompt(model):
    (strays,) = definitions("20_assistants", "strays")
    policy, chats = lesson.copy_to_train(model), some_chats(5)
    near(strays(policy, model, chats), torch.zeros(5).double())
    moved = torch.nn.functional.normalize(numbers(0, *model.positions.weight.shape), dim=-1)
    policy.positions.weight.data += 0.1 * moved
    log_p = lesson.answer_log_probs(policy, chats)[0].sum(1) - lesson.answer_log_probs(model, chats)[0].sum(1)
    near(strays(policy, model, chats), log_p)


@SEVERAL
def test_advantages_of_siblings(seed):
    rewards = numbers(seed, 3, 4)
    A = lesson.group_advantages(rewards)
    near(A.mean(-1), torch.zeros(3).double())
    torch.testing.assert_close(A.std(-1), torch.ones(3).double(), rtol=1e-3, atol=0)
    near(lesson.group_advantages(rewards + 5), A)
    assert not lesson.group_advantages(torch.full((2, 4), 1.5)).any()
    near(
        lesson.group_advantages(torch.eye(4)[:1].double() * 1e6),
        torch.tensor([[1.5, -0.5, -0.5, -0.5]]).double(),
    )


@SEVERAL
def test_grpo_at_the_first_update_is_the_plain_gradient(seed):
    log_p, A = -numbers(seed, 4, 3).abs().requires_grad_(), numbers(seed + 9, 4)
    log_p = log_p.detach().requires_grad_()
    asked = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 1], [1, 0, 0]]).bool()
    old = log_p.detach()
    pull = slope_of(lesson.grpo_loss, log_p, old, old, A, asked)
    near(pull, -A[:, None] * asked / asked.sum(1, keepdim=True) / 4)
    assert not slope_of(lesson.grpo_loss, log_p, old, old, torch.zeros(4).double(), asked).any()


@SEVERAL
def test_grpo_is_its_formula_with_leash_and_clip(seed):
    log_p, old, ref = -numbers(seed, 3, 4, 3).abs()
    A, asked = numbers(seed + 5, 4), torch.ones(4, 3).bool()
    total = 0
    for i in range(4):
        for t in range(3):
            ratio, d = math.exp(log_p[i, t] - old[i, t]), (ref[i, t] - log_p[i, t]).item()
            gain = min(ratio * A[i], min(max(ratio, 0.8), 1.2) * A[i]) - 0.04 * (math.exp(d) - 1 - d)
            total -= gain / 3 / 4
    near(lesson.grpo_loss(log_p, old, ref, A, asked, beta=0.04), total)


def test_the_clip_acts_only_beyond_its_edge():
    ratio = torch.tensor([0.5, 0.9, 1.0, 1.1, 1.5], dtype=torch.float64, requires_grad=True)
    for sign, flows in ((1.0, [1, 1, 1, 1, 0]), (-1.0, [0, 1, 1, 1, 1])):
        (pull,) = torch.autograd.grad(lesson.clipped(ratio, torch.full((5,), sign).double()).sum(), ratio)
        assert pull.tolist() == [sign * flow for flow in flows]


@SEVERAL
def test_k3_is_never_negative_and_right_on_average(seed):
    p, q = numbers(seed, 2, 6).softmax(-1)
    values = lesson.k3(p.log(), q.log())
    assert (values >= 0).all() and not lesson.k3(p.log(), p.log()).any()
    near((p * values).sum(), (p * (p / q).log()).sum())


@SEVERAL
@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_gae_is_its_double_sum(seed, lam):
    r, V = numbers(seed, 2, 3, 7)
    (plainly,) = definitions("20_assistants", "gae_plainly")
    near(lesson.gae(r, V, lam), torch.tensor([plainly(*row, lam) for row in zip(r, V)]).double())


def test_gae_does_not_look_behind_the_end():
    r, V = numbers(0, 2, 2, 5)
    asked = torch.tensor([[0, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    near(lesson.gae(r * asked, V * asked)[:1, 1:3], lesson.gae(r[:1, 1:3], V[:1, 1:3]))


# ---- the shipped verdicts


def test_preferences_are_what_the_datasheet_says():
    pairs = data.preferences()
    assert len(pairs) == 724 == len({(p.request, frozenset((p.one, p.other))) for p in pairs})
    assert (len(data.preferences("train")), len(data.preferences("test"))) == (601, 123)
    assert len(data.preferences("train", by="reader")) == 30 and not [
        p for p in pairs if p.better not in (0, 1)
    ]
    ruled = data.preferences(by="rule")
    gains = [lesson.true_score(p.request, p.other) - lesson.true_score(p.request, p.one) for p in ruled]
    assert all(gains)
    wrong = sum((gain > 0) != p.better for gain, p in zip(gains, ruled)) / len(ruled)
    assert 0.1 < wrong < 0.16
    expected = sum(1 / (1 + math.exp(1.5 * abs(gain))) for gain in gains) / len(gains)
    assert abs(wrong - expected) < 3 * math.sqrt(expected / len(gains))


def test_requests_of_preferences_are_prompts_of_their_splits():
    known = {split: {row.prompt for row in data.prompts(split)} for split in ("train", "dev")}
    assert {p.request for p in data.preferences("train")} <= known["train"]
    assert {p.request for p in data.preferences("test")} <= known["dev"]
