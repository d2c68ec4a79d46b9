"""Wrong answers to homework 06."""

import math
from heapq import heapify, heappop, heappush

import torch

from . import wrong

# ---- code_lengths(counts) ----


def tree(counts, pick=min, weigh=lambda a, b: a + b, deeper=1):
    """Huffman's tree with one part exchanged: which trees join, what the new one weighs, how much deeper they get."""
    trees = [(count, [symbol]) for symbol, count in enumerate(counts)]
    lengths = [0] * len(counts)
    while len(trees) > 1:
        pair = [trees.pop(trees.index(pick(trees))) for _ in range(2)]
        for symbol in pair[0][1] + pair[1][1]:
            lengths[symbol] += deeper
        trees.append((weigh(pair[0][0], pair[1][0]), pair[0][1] + pair[1][1]))
    return lengths


@wrong("code_lengths", "rounded up one by one")
def surprise_rounded_up(counts):
    return [math.ceil(math.log2(sum(counts) / count)) for count in counts]


@wrong("code_lengths", "all alike")
def all_alike(counts):
    return [math.ceil(math.log2(len(counts)))] * len(counts)


@wrong("code_lengths", "the two *lightest*")
def joins_the_heaviest(counts):
    return tree(counts, pick=max)


@wrong("code_lengths", "only the two trees that join")
def deepens_everybody(counts):
    n = len(counts) - 1
    return [n] * len(counts)


@wrong("code_lengths", "weighs as much as both")
def keeps_the_lighter_weight(counts):
    return tree(counts, weigh=min)


@wrong("code_lengths", "by rank")
def one_more_for_each_rank(counts):
    order = sorted(range(len(counts)), key=lambda symbol: -counts[symbol])
    lengths = [0] * len(counts)
    for rank, symbol in enumerate(order):
        lengths[symbol] = rank + 1
    return lengths


@wrong("code_lengths", "in the order of the symbols")
def sorted_by_length(counts):
    return sorted(tree(counts))


@wrong("code_lengths", "every symbol of the two trees")
def deepens_the_first_of_each(counts):
    trees = [(count, [symbol]) for symbol, count in enumerate(counts)]
    heapify(trees)
    lengths = [0] * len(counts)
    while len(trees) > 1:
        (a, left), (b, right) = heappop(trees), heappop(trees)
        lengths[left[0]] += 1
        lengths[right[0]] += 1
        heappush(trees, (a + b, left + right))
    return lengths


# ---- kneser_ney(text, context, symbol, discount) ----


def kn(text, context, symbol, d, taken=None, handed=None, below=None, unseen=None):
    """Kneser and Ney's rule with one part exchanged."""
    pairs = list(zip(text, text[1:]))
    kinds = set(pairs)
    lower = (
        below(text, pairs, kinds, symbol, context)
        if below
        else sum(b == symbol for _, b in kinds) / len(kinds)
    )
    after = [b for a, b in pairs if a == context]
    if not after:
        return unseen(lower) if unseen else lower
    count, K, C = after.count(symbol), len(set(after)), len(after)
    own = taken(count, C, d) if taken else max(count - d, 0) / C
    return own + (handed(K, C, d, count) if handed else d * K / C) * lower


@wrong("kneser_ney", "in how many contexts")
def plain_counts_below(text, context, symbol, discount):
    return kn(text, context, symbol, discount, below=lambda t, p, k, s, c: t.count(s) / len(t))


@wrong("kneser_ney", "among all *different* pairs")
def shares_of_the_alphabet(text, context, symbol, discount):
    below = lambda t, p, k, s, c: sum(b == s for _, b in k) / len(set(t))  # noqa: E731
    return kn(text, context, symbol, discount, below=below)


@wrong("kneser_ney", "is taken from the count")
def without_discount(text, context, symbol, discount):
    return kn(text, context, symbol, discount, taken=lambda n, C, d: n / C)


@wrong("kneser_ney", "below zero")
def counts_below_zero(text, context, symbol, discount):
    return kn(text, context, symbol, discount, taken=lambda n, C, d: (n - d) / C)


@wrong("kneser_ney", "from each *kind*")
def hands_down_one_discount(text, context, symbol, discount):
    return kn(text, context, symbol, discount, handed=lambda K, C, d, n: d / C)


@wrong("kneser_ney", "also when the pair was seen")
def backs_off_only_when_unseen(text, context, symbol, discount):
    return kn(text, context, symbol, discount, handed=lambda K, C, d, n: 0.0 if n else d * K / C)


@wrong("kneser_ney", "never came")
def zero_for_an_unseen_context(text, context, symbol, discount):
    return kn(text, context, symbol, discount, unseen=lambda lower: 0.0)


@wrong("kneser_ney", "what stands *before*")
def counts_what_follows(text, context, symbol, discount):
    below = lambda t, p, k, s, c: sum(a == s for a, _ in k) / len(k)  # noqa: E731
    return kn(text, context, symbol, discount, below=below)


@wrong("kneser_ney", "last symbol is no context")
def counts_the_last_symbol_as_context(text, context, symbol, discount):
    pairs = list(zip(text, text[1:]))
    kinds, after = set(pairs), [b for a, b in pairs if a == context]
    lower, C = sum(b == symbol for _, b in kinds) / len(kinds), text.count(context)
    if not after:
        return lower
    return max(after.count(symbol) - discount, 0) / C + discount * len(set(after)) / C * lower


# ---- mixture(first, second) ----


@wrong("mixture", "must not know what comes")
def peeks_at_the_present(first, second):
    a, b = first.cumsum(0), second.cumsum(0)
    return torch.logaddexp(a + first, b + second) - torch.logaddexp(a, b)


@wrong("mixture", "never learns")
def half_and_half(first, second):
    return torch.logaddexp(first, second) - math.log(2)


@wrong("mixture", "mean of the logarithms")
def mean_of_logs(first, second):
    return (first + second) / 2


@wrong("mixture", "only the step before")
def trusts_the_last_step(first, second):
    a, b = (torch.cat([torch.zeros(1), x[:-1]]) for x in (first, second))
    return torch.logaddexp(a + first, b + second) - torch.logaddexp(a, b)


@wrong("mixture", "weights underflow")
def multiplies_probabilities(first, second):
    weights, out = [0.5, 0.5], []
    for a, b in zip(first.exp().tolist(), second.exp().tolist()):
        total = weights[0] + weights[1]
        p = (weights[0] * a + weights[1] * b) / total if total else math.nan
        out.append(math.log(p) if p > 0 else math.nan)
        weights = [weights[0] * a, weights[1] * b]
    return torch.tensor(out)


@wrong("mixture", "probabilities underflow")
def leaves_the_logarithms(first, second):
    weights, out = torch.tensor([0.5, 0.5]), []
    for given in torch.stack([first, second], dim=1).exp():
        joint = weights * given
        out.append((joint.sum() / weights.sum()).log())
        weights = joint
    return torch.stack(out)


@wrong("mixture", "follows the leader")
def follows_the_leader(first, second):
    a, b = (torch.cat([torch.zeros(1), x[:-1].cumsum(0)]) for x in (first, second))
    return torch.where(a >= b, first, second)


@wrong("mixture", "takes the better of the two")
def better_of_the_two(first, second):
    return torch.maximum(first, second)


@wrong("mixture", "log p of the whole text so far")
def whole_text_so_far(first, second):
    return torch.logaddexp(first.cumsum(0), second.cumsum(0)) - math.log(2)


@wrong("mixture", "start with one half each")
def forgets_the_prior(first, second):
    return torch.cat([torch.zeros(1), mix(first, second)[1:]]) + torch.cat(
        [torch.logaddexp(first[:1], second[:1]), torch.zeros(len(first) - 1)]
    )


def mix(first, second):
    a, b = (torch.cat([torch.zeros(1), x[:-1].cumsum(0)]) for x in (first, second))
    return torch.logaddexp(a + first, b + second) - torch.logaddexp(a, b)


# ---- windows(n_tokens, length, stride) ----


def cut(n_tokens, length, stride):
    windows, scored = [], 0
    while scored < n_tokens:
        end = min(n_tokens, length if scored == 0 else scored + stride)
        windows.append([max(0, end - length), scored, end])
        scored = end
    return windows


@wrong("windows", "scored twice")
def scores_the_whole_window(n_tokens, length, stride):
    return [[start, start, end] for start, _, end in cut(n_tokens, length, stride)]


@wrong("windows", "end of the text")
def runs_over_the_end(n_tokens, length, stride):
    windows = cut(n_tokens, length, stride)
    start, first, _ = windows[-1]
    end = length if len(windows) == 1 else first + stride
    return [*windows[:-1], [max(0, end - length), first, end]]


@wrong("windows", "left over")
def drops_the_rest(n_tokens, length, stride):
    windows = cut(n_tokens, length, stride)
    full = [w for w in windows if w[2] - w[1] in (length, stride)]
    return full or windows[:0]


@wrong("windows", "first window scores all")
def first_window_scores_the_stride(n_tokens, length, stride):
    ends = range(stride, n_tokens + stride, stride)
    return [[max(0, min(e, n_tokens) - length), e - stride, min(e, n_tokens)] for e in ends]


@wrong("windows", "no context is given up")
def starts_where_it_scores(n_tokens, length, stride):
    return [[first, first, end] for _, first, end in cut(n_tokens, length, stride)]


@wrong("windows", "step back")
def last_window_is_short(n_tokens, length, stride):
    windows = cut(n_tokens, length, stride)
    return [[stride * n, first, end] for n, (_, first, end) in enumerate(windows)]


@wrong("windows", "steps of the whole length")
def steps_of_the_length(n_tokens, length, stride):
    return cut(n_tokens, length, length)


@wrong("windows", "longer than the model's")
def keeps_everything(n_tokens, length, stride):
    return [[0, first, end] for _, first, end in cut(n_tokens, length, stride)]


# ---- pack(symbols, counts) ----


def push(symbols, counts, x=1, step=None):
    total, sums = sum(counts), [sum(counts[:s]) for s in range(len(counts))]
    for s in symbols:
        if step:
            x = step(x, s, counts, sums, total)
        else:
            x = x // counts[s] * total + sums[s] + x % counts[s]
    return x


@wrong("pack", "from the last to the first")
def first_to_last(symbols, counts):
    return push(symbols, counts)


@wrong("pack", "start at 1")
def starts_at_zero(symbols, counts):
    return push(symbols[::-1], counts, x=0)


@wrong("pack", "where the symbol's share begins")
def without_the_start(symbols, counts):
    return push(symbols[::-1], counts, step=lambda x, s, f, c, m: x // f[s] * m + x % f[s])


@wrong("pack", "which of the symbol's places")
def without_the_remainder(symbols, counts):
    return push(symbols[::-1], counts, step=lambda x, s, f, c, m: x // f[s] * m + c[s])


@wrong("pack", "sums up to the symbol, without it")
def sums_with_the_symbol(symbols, counts):
    return push(symbols[::-1], counts, step=lambda x, s, f, c, m: x // f[s] * m + c[s] + f[s] + x % f[s])


@wrong("pack", "all counts together")
def times_the_number_of_symbols(symbols, counts):
    return push(symbols[::-1], counts, step=lambda x, s, f, c, m: x // f[s] * len(f) + c[s] + x % f[s])


@wrong("pack", "costs the same")
def base_of_the_total(symbols, counts):
    return push(symbols[::-1], counts, step=lambda x, s, f, c, m: x * m + c[s])


@wrong("pack", "the reader's step")
def takes_the_readers_step(symbols, counts):
    return push(symbols[::-1], counts, step=lambda x, s, f, c, m: x // m * f[s] + x % m - c[s])


@wrong("pack", "/ gives fractions")
def divides_with_a_fraction(symbols, counts):
    return int(push(symbols[::-1], counts, step=lambda x, s, f, c, m: x / f[s] * m + c[s] + x % f[s]))
