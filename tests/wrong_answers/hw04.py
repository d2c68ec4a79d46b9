"""Wrong answers to homework 04."""

import math

import torch
from torch.nn import functional as F

from . import wrong

# ---- add_block(q, k, v, highest, total, mixed) ----


def block(q, k, v, highest, total, mixed, scale=None, new=None, old=None, weigh=None, divide=None):
    """One more block with one part exchanged."""
    scores = q @ k.T / (scale or math.sqrt(q.size(-1)))
    new = torch.maximum(highest, scores.amax(-1)) if new is None else new(scores)
    old = total * (highest - new).exp() if old is None else old(new)
    here = (scores - new[:, None]).exp()
    total = old + here.sum(-1)
    kept = mixed * (old if weigh is None else weigh(new))[:, None]
    return new, total, (kept + here @ v) / (total[:, None] if divide is None else divide)


@wrong("add_block", "divided by the root of K")
def forgets_the_root(q, k, v, highest, total, mixed):
    return block(q, k, v, highest, total, mixed, scale=1)


@wrong("add_block", "the old sum was taken against the old maximum")
def keeps_the_old_sum(q, k, v, highest, total, mixed):
    return block(q, k, v, highest, total, mixed, old=lambda new: total)


@wrong("add_block", "multiply it by the old total")
def forgets_that_the_mixture_is_divided(q, k, v, highest, total, mixed):
    return block(q, k, v, highest, total, mixed, weigh=lambda new: (highest - new).exp())


@wrong("add_block", "divide by the new total")
def leaves_the_mixture_undivided(q, k, v, highest, total, mixed):
    return block(q, k, v, highest, total, mixed, divide=1)


@wrong("add_block", "may be an old one")
def maximum_of_this_block_only(q, k, v, highest, total, mixed):
    return block(q, k, v, highest, total, mixed, new=lambda scores: scores.amax(-1))


@wrong("add_block", "not all blocks alike")
def averages_the_blocks(q, k, v, highest, total, mixed):
    new, sums, _ = block(q, k, v, highest, total, mixed)
    return new, sums, (mixed + (q @ k.T / math.sqrt(q.size(-1))).softmax(-1) @ v) / 2


@wrong("add_block", "each query has its own maximum")
def one_maximum_for_all(q, k, v, highest, total, mixed):
    everyones = torch.maximum(highest.amax(), (q @ k.T / math.sqrt(q.size(-1))).amax())
    return block(q, k, v, highest, total, mixed, new=lambda scores: everyones.expand(len(q)))


@wrong("add_block", "what was seen before counts too")
def forgets_what_was_seen(q, k, v, highest, total, mixed):
    return block(q, k, v, torch.full_like(highest, -math.inf), 0 * total, 0 * mixed)


@wrong("add_block", "the old sum shrinks where the maximum rises")
def rescales_the_wrong_way_round(q, k, v, highest, total, mixed):
    return block(q, k, v, highest, total, mixed, old=lambda new: total * (new - highest).exp())


@wrong("add_block", "overflows")
def takes_exp_of_the_scores(q, k, v, highest, total, mixed):
    scores = q @ k.T / math.sqrt(q.size(-1))
    new = torch.maximum(highest, scores.amax(-1))
    old, here = total * highest.exp(), scores.exp()
    sums = old + here.sum(-1)
    return new, sums / new.exp(), (mixed * old[:, None] + here @ v) / sums[:, None]


# ---- window_mask(T, S, width, n_sinks) ----


def places(T, S):
    """Places of the T last of S queries, as a column, and of all keys, as a row."""
    return torch.arange(S - T, S)[:, None], torch.arange(S)[None]


@wrong("window_mask", "nobody may look at what comes later")
def looks_both_ways(T, S, width, n_sinks):
    t, s = places(T, S)
    return ((s - t).abs() < width) | ((s < n_sinks) & (s <= t))


@wrong("window_mask", "counts itself")
def one_place_too_many(T, S, width, n_sinks):
    t, s = places(T, S)
    return (s <= t) & ((t - s <= width) | (s < n_sinks))


@wrong("window_mask", "one place too few")
def one_place_too_few(T, S, width, n_sinks):
    t, s = places(T, S)
    return (s <= t) & ((t - s < width - 1) | (s < n_sinks))


@wrong("window_mask", "a sink that comes later")
def sinks_may_come_later(T, S, width, n_sinks):
    t, s = places(T, S)
    return ((s <= t) & (t - s < width)) | (s < n_sinks)


@wrong("window_mask", "the sinks are missing")
def without_sinks(T, S, width, n_sinks):
    t, s = places(T, S)
    return (s <= t) & (t - s < width)


@wrong("window_mask", "the *last* of S")
def the_first_of_the_places(T, S, width, n_sinks):
    t, s = torch.arange(T)[:, None], torch.arange(S)[None]
    return (s <= t) & ((t - s < width) | (s < n_sinks))


@wrong("window_mask", "True means *may look*")
def true_where_forbidden(T, S, width, n_sinks):
    t, s = places(T, S)
    return ~((s <= t) & ((t - s < width) | (s < n_sinks)))


@wrong("window_mask", "these windows do not slide")
def windows_stand_still(T, S, width, n_sinks):
    t, s = places(T, S)
    return (s <= t) & ((t // width == s // width) | (s < n_sinks))


@wrong("window_mask", "everything before")
def plainly_causal(T, S, width, n_sinks):
    t, s = places(T, S)
    return s <= t


@wrong("window_mask", "sinks are *keys*")
def sinks_as_queries(T, S, width, n_sinks):
    t, s = places(T, S)
    return (s <= t) & ((t - s < width) | (t < n_sinks))


# ---- alibi(q, k, v) ----


def sloped(q, k, v, slopes=None, scale=None, sign=-1, causal=True, before=False, after=None):
    """Attention with slopes, one part exchanged."""
    H, T = q.size(1), q.size(2)
    slopes = 2.0 ** (-8 * torch.arange(1, H + 1) / H) if slopes is None else slopes
    t = torch.arange(T)
    penalty = sign * slopes[:, None, None] * (t[:, None] - t)
    root = scale or math.sqrt(q.size(-1))
    scores = q @ k.transpose(-2, -1)
    if after is None:
        scores = (scores + penalty) / root if before else scores / root + penalty
    else:
        scores = after(scores / root, penalty)
    if causal:
        scores = scores.masked_fill(t > t[:, None], -math.inf)
    return scores.softmax(-1) @ v


@wrong("alibi", "after the division")
def penalty_before_the_division(q, k, v):
    return sloped(q, k, v, before=True)


@wrong("alibi", "subtract")
def likes_what_is_far(q, k, v):
    return sloped(q, k, v, sign=1)


@wrong("alibi", "nobody may look at what comes later")
def looks_ahead(q, k, v):
    return sloped(q, k, v, causal=False)


@wrong("alibi", "each head has its own slope")
def one_slope_for_all(q, k, v):
    return sloped(q, k, v, slopes=(2.0 ** (-8 / q.size(1))) * torch.ones(q.size(1)))


@wrong("alibi", "heads are counted from 1")
def counts_heads_from_0(q, k, v):
    H = q.size(1)
    return sloped(q, k, v, slopes=2.0 ** (-8 * torch.arange(H) / H))


@wrong("alibi", "the first head has the steepest slope")
def slopes_the_other_way_round(q, k, v):
    H = q.size(1)
    return sloped(q, k, v, slopes=2.0 ** (-8 * torch.arange(H, 0, -1) / H))


@wrong("alibi", "the root of K")
def without_the_root(q, k, v):
    return sloped(q, k, v, scale=1)


@wrong("alibi", "no slopes at all")
def without_slopes(q, k, v):
    return sloped(q, k, v, sign=0)


@wrong("alibi", "a power of 2")
def slopes_in_equal_steps(q, k, v):
    H = q.size(1)
    return sloped(q, k, v, slopes=torch.arange(H, 0, -1) / H)


@wrong("alibi", "added to the scores, not multiplied")
def multiplies_the_scores(q, k, v):
    return sloped(q, k, v, after=lambda scores, penalty: scores * (1 + penalty))


@wrong("alibi", "rows of weights must still sum to 1")
def fades_the_weights(q, k, v):
    H, T = q.size(1), q.size(2)
    slopes, t = 2.0 ** (-8 * torch.arange(1, H + 1) / H), torch.arange(T)
    scores = (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).masked_fill(t > t[:, None], -math.inf)
    return (scores.softmax(-1) * (-slopes[:, None, None] * (t[:, None] - t)).exp()) @ v


# ---- attend_backward(q, k, v, d_mixed) ----


def backward(q, k, v, d_mixed, through=None, d_v=None, root=None, turn=False):
    """The way back through attention with one part exchanged."""
    scale = math.sqrt(q.size(-1))
    scores = q @ k.T / scale
    weights = scores.softmax(-1)
    d_weights = d_mixed @ v.T
    d_scores = (
        weights * (d_weights - (weights * d_weights).sum(-1, keepdim=True))
        if through is None
        else through(weights, d_weights)
    )
    d_scores = d_scores / (scale if root is None else root)
    d_v = weights.T @ d_mixed if d_v is None else d_v(weights, scores)
    return (d_scores @ q, d_scores.T @ k, d_v) if turn else (d_scores @ k, d_scores.T @ q, d_v)


@wrong("attend_backward", "divides the gradient, too")
def forgets_the_root_on_the_way_back(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, root=1)


@wrong("attend_backward", "none grows alone")
def forgets_that_shares_compete(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, through=lambda w, d: w * d)


@wrong("attend_backward", "slope of a sigmoid")
def each_share_for_itself(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, through=lambda w, d: w * (1 - w) * d)


@wrong("attend_backward", "mean with the weights")
def subtracts_the_plain_mean(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, through=lambda w, d: w * (d - d.mean(-1, keepdim=True)))


@wrong("attend_backward", "the sum runs over the keys")
def sums_over_the_queries(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, through=lambda w, d: w * (d - (w * d).sum(0, keepdim=True)))


@wrong("attend_backward", "a value hears from all queries")
def values_the_wrong_way_round(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, d_v=lambda weights, scores: weights @ d_mixed)


@wrong("attend_backward", "a query's gradient is made of keys")
def exchanges_queries_and_keys(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, turn=True)


@wrong("attend_backward", "only once")
def divides_twice(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, root=q.size(-1))


@wrong("attend_backward", "not with the scores")
def values_by_scores(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, d_v=lambda weights, scores: scores.T @ d_mixed)


@wrong("attend_backward", "in the order q, k, v")
def in_another_order(q, k, v, d_mixed):
    d_q, d_k, d_v = backward(q, k, v, d_mixed)
    return d_k, d_q, d_v


@wrong("attend_backward", "never went through the softmax")
def skips_the_softmax(q, k, v, d_mixed):
    return backward(q, k, v, d_mixed, through=lambda w, d: d)


# ---- linear_step(q, k, v, memory, total) ----


def positive(x):
    return F.elu(x) + 1


def step(q, k, v, memory, total, of_q=positive, of_k=positive, write=None, late=True, norm=None):
    """One step with one part exchanged."""
    q, k = of_q(q), of_k(k)
    new, sums = (memory + torch.outer(k, v), total + k) if write is None else write(k, v)
    seen, by = (new, sums) if late else (memory, total)
    return q @ seen / (q @ by if norm is None else norm(q, by)), new, sums


@wrong("linear_step", "write first, then read")
def reads_before_it_writes(q, k, v, memory, total):
    return step(q, k, v, memory, total, late=False)


@wrong("linear_step", "go through φ")
def without_features(q, k, v, memory, total):
    return step(q, k, v, memory, total, of_q=lambda x: x, of_k=lambda x: x)


@wrong("linear_step", "the query goes through φ as well")
def only_the_key_is_made_positive(q, k, v, memory, total):
    return step(q, k, v, memory, total, of_q=lambda x: x)


@wrong("linear_step", "the key goes through φ as well")
def only_the_query_is_made_positive(q, k, v, memory, total):
    return step(q, k, v, memory, total, of_k=lambda x: x)


@wrong("linear_step", "plus 1")
def elu_alone(q, k, v, memory, total):
    return step(q, k, v, memory, total, of_q=F.elu, of_k=F.elu)


@wrong("linear_step", "e to the x")
def an_exponential(q, k, v, memory, total):
    return step(q, k, v, memory, total, of_q=torch.exp, of_k=torch.exp)


@wrong("linear_step", "divide the answer")
def without_division(q, k, v, memory, total):
    return step(q, k, v, memory, total, norm=lambda q, sums: 1)


@wrong("linear_step", "asks `total` too")
def divides_by_the_sum_of_the_total(q, k, v, memory, total):
    return step(q, k, v, memory, total, norm=lambda q, sums: sums.sum())


@wrong("linear_step", "entry [i, j]")
def memory_on_its_side(q, k, v, memory, total):
    return step(q, k, v, memory, total, write=lambda k, v: (memory + torch.outer(v, k), total + k))


@wrong("linear_step", "do not replace them")
def replaces_the_memory(q, k, v, memory, total):
    return step(q, k, v, memory, total, write=lambda k, v: (torch.outer(k, v), k))


@wrong("linear_step", "first the answer")
def memory_first(q, k, v, memory, total):
    answer, memory, total = step(q, k, v, memory, total)
    return memory, total, answer
