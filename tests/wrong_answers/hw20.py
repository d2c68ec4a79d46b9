"""Wrong answers to homework 20."""

import math

import torch
from torch.nn import functional as F

from . import wrong

# ---- ranking_loss(rewards) ----


def pair_costs(rewards):
    """-log sigma(r_i - r_j) for all i and j, (K, K)."""
    return -F.logsigmoid(rewards[:, None] - rewards[None])


def upper(table, diagonal=1):
    K = len(table)
    return table[torch.triu(torch.ones(K, K), diagonal).bool()]


@wrong("ranking_loss", "not only neighbours")
def neighbours_only(rewards):
    return -F.logsigmoid(rewards[:-1] - rewards[1:]).mean().item()


@wrong("ranking_loss", "not only those with the best")
def the_best_against_the_rest(rewards):
    return -F.logsigmoid(rewards[0] - rewards[1:]).mean().item()


@wrong("ranking_loss", "their mean, not their sum")
def the_sum(rewards):
    return upper(pair_costs(rewards)).sum().item()


@wrong("ranking_loss", "turned round")
def worst_first(rewards):
    return upper(pair_costs(rewards).T).mean().item()


@wrong("ranking_loss", "in one order only")
def both_orders(rewards):
    K = len(rewards)
    return (pair_costs(rewards).sum() - K * math.log(2)).item() / (K * (K - 1))


@wrong("ranking_loss", "against itself")
def also_against_itself(rewards):
    return upper(pair_costs(rewards), diagonal=0).mean().item()


@wrong("ranking_loss", "the number of answers")
def divides_by_the_answers(rewards):
    return upper(pair_costs(rewards)).sum().item() / len(rewards)


@wrong("ranking_loss", "the logarithm")
def without_the_logarithm(rewards):
    return upper((rewards[None] - rewards[:, None]).sigmoid()).mean().item()


@wrong("ranking_loss", "the minus")
def without_the_minus(rewards):
    return -upper(pair_costs(rewards)).mean().item()


# ---- smoothed_dpo(margins, beta, eps) ----


@wrong("smoothed_dpo", "plain DPO")
def ignores_eps(margins, beta, eps):
    return -F.logsigmoid(beta * margins)


@wrong("smoothed_dpo", "without beta")
def ignores_beta(margins, beta, eps):
    return -(1 - eps) * F.logsigmoid(margins) - eps * F.logsigmoid(-margins)


@wrong("smoothed_dpo", "wrong with the chance eps")
def eps_at_the_wrong_term(margins, beta, eps):
    return -eps * F.logsigmoid(beta * margins) - (1 - eps) * F.logsigmoid(-beta * margins)


@wrong("smoothed_dpo", "the losses, not the margin")
def smooths_the_margin(margins, beta, eps):
    return -F.logsigmoid((1 - 2 * eps) * beta * margins)


@wrong("smoothed_dpo", "inside the sigma")
def beta_outside(margins, beta, eps):
    return -beta * ((1 - eps) * F.logsigmoid(margins) + eps * F.logsigmoid(-margins))


@wrong("smoothed_dpo", "adds the second term")
def robust_dpo(margins, beta, eps):
    return (-(1 - eps) * F.logsigmoid(beta * margins) + eps * F.logsigmoid(-beta * margins)) / (1 - 2 * eps)


@wrong("smoothed_dpo", "keep the weight 1 - eps")
def second_term_on_top(margins, beta, eps):
    return -F.logsigmoid(beta * margins) - eps * F.logsigmoid(-beta * margins)


# ---- kl_estimates(log_p, log_q) ----


def means(*columns):
    return torch.stack([column.mean() for column in columns])


def k123(d):
    """d = log q - log p."""
    return -d, d.square() / 2, d.exp() - 1 - d


@wrong("kl_estimates", "drawn from p")
def the_other_direction(log_p, log_q):
    return means(*k123(log_p - log_q))


@wrong("kl_estimates", "half the square")
def k2_without_the_half(log_p, log_q):
    d = log_q - log_p
    return means(-d, d.square(), d.exp() - 1 - d)


@wrong("kl_estimates", "in k3 d is")
def k3_with_the_ratio_turned(log_p, log_q):
    d = log_q - log_p
    return means(-d, d.square() / 2, (-d).exp() - 1 + d)


@wrong("kl_estimates", "k3 is 0 where p = q")
def k3_without_the_one(log_p, log_q):
    d = log_q - log_p
    return means(-d, d.square() / 2, d.exp() - d)


@wrong("kl_estimates", "the means, not the sums")
def sums(log_p, log_q):
    return torch.stack([column.sum() for column in k123(log_q - log_p)])


@wrong("kl_estimates", "k1 may be negative")
def k1_never_negative(log_p, log_q):
    d = log_q - log_p
    return means(d.abs(), d.square() / 2, d.exp() - 1 - d)


@wrong("kl_estimates", "no weights")
def weighted_by_p(log_p, log_q):
    return means(*(log_p.exp() * k for k in k123(log_q - log_p)))


# ---- token_weights(rewards, lengths, room, kind) ----


def weights(rewards, lengths, room, kind, std=None, group=True, centre=True, dr_std=False, by=None):
    """What all of these share, with one thing wrong."""
    A = rewards - rewards.mean() if centre else rewards
    deviation = rewards.std() if std is None else std(rewards)
    if kind == "grpo" or dr_std:
        A = A / deviation if deviation > 0 else torch.zeros_like(A)
    by = by or {"grpo": lengths, "dr": room}
    return A / by[kind] / (len(rewards) if group else 1)


@wrong("token_weights", "with G - 1")
def population_deviation(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, std=lambda r: r.std(correction=0))


@wrong("token_weights", "a mean over the group")
def no_mean_over_the_group(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, group=False)


@wrong("token_weights", "subtract the group's mean")
def not_centred(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, centre=False)


@wrong("token_weights", "no standard deviation")
def dr_with_the_deviation(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, dr_std=True)


@wrong("token_weights", "by the same room")
def dr_by_its_own_length(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, by={"grpo": lengths, "dr": lengths})


@wrong("token_weights", "each answer by its own length")
def grpo_by_the_room(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, by={"grpo": room, "dr": room})


@wrong("token_weights", "all tokens of the group")
def by_all_tokens_of_the_group(rewards, lengths, room, kind):
    return weights(rewards, lengths, room, kind, by={"grpo": lengths.sum(), "dr": room})


@wrong("token_weights", "0 / 0")
def equal_rewards_divide_by_zero(rewards, lengths, room, kind):
    A = rewards - rewards.mean()
    return (A / rewards.std() / lengths if kind == "grpo" else A / room) / len(rewards)


# ---- gae_stream(rewards, values, ends, after, gamma, lam) ----


def stream(rewards, values, ends, after, gamma, lam, cut_value=True, cut_carry=True, gammas=(1, 1), own=False,
           plus_values=False):  # fmt: skip
    """GAE, with one thing wrong. gammas: the powers of gamma in delta and in the carry."""
    found, carry = torch.zeros_like(rewards), 0.0
    following = torch.cat([values[1:], torch.tensor([float(after)])])
    for t in reversed(range(len(rewards))):
        going = 0.0 if ends[t] else 1.0
        coming = values[t] if own else following[t]
        delta = rewards[t] + gamma ** gammas[0] * coming * (going if cut_value else 1) - values[t]
        carry = delta + gamma ** gammas[1] * lam * carry * (going if cut_carry else 1)
        found[t] = carry
    return found + values if plus_values else found


@wrong("gae_stream", "ends are not looked at")
def ignores_the_ends(*args):
    return stream(*args, cut_value=False, cut_carry=False)


@wrong("gae_stream", "value of the next answer")
def sees_the_next_answers_value(*args):
    return stream(*args, cut_value=False)


@wrong("gae_stream", "sum runs on")
def carries_over_the_end(*args):
    return stream(*args, cut_carry=False)


@wrong("gae_stream", "gamma is missing in delta")
def no_gamma_in_delta(*args):
    return stream(*args, gammas=(0, 1))


@wrong("gae_stream", "lam alone")
def no_gamma_in_the_sum(*args):
    return stream(*args, gammas=(1, 0))


@wrong("gae_stream", "`after` is not used")
def nothing_after_the_stream(rewards, values, ends, after, gamma, lam):
    return stream(rewards, values, ends, 0.0, gamma, lam)


@wrong("gae_stream", "of the next place")
def uses_its_own_value(*args):
    return stream(*args, own=True)


@wrong("gae_stream", "the critic's goals")
def returns_the_goals(*args):
    return stream(*args, plus_values=True)


# ---- best_of_n_kl(probs, rewards, n) ----


def best_law(probs, rewards, n):
    """The chances (N,) of each answer to be the best of n, and the probabilities in that order."""
    probs = probs[rewards.argsort()]
    below = probs.cumsum(0)
    return below**n - torch.cat([torch.zeros(1), below[:-1]]) ** n, probs


def kl(p, q):
    return (p * (p / q).log()).sum().item()


@wrong("best_of_n_kl", "only a bound")
def the_bound(probs, rewards, n):
    return math.log(n) - (n - 1) / n


@wrong("best_of_n_kl", "the other direction")
def the_reverse(probs, rewards, n):
    best, probs = best_law(probs, rewards, n)
    return kl(probs, best)


@wrong("best_of_n_kl", "sort by reward")
def as_they_stand(probs, rewards, n):
    return kl(*best_law(probs, torch.arange(len(probs)), n))


@wrong("best_of_n_kl", "the worst of n")
def the_worst(probs, rewards, n):
    return kl(*best_law(probs, -rewards, n))


@wrong("best_of_n_kl", "the likeliest, not the best")
def sharpened(probs, rewards, n):
    power = probs**n
    return kl(power / power.sum(), probs)


@wrong("best_of_n_kl", "to be among the n")
def among_the_n(probs, rewards, n):
    among = 1 - (1 - probs) ** n
    return kl(among / among.sum(), probs)


@wrong("best_of_n_kl", "in nats")
def in_bits(probs, rewards, n):
    return kl(*best_law(probs, rewards, n)) / math.log(2)
