"""Wrong answers to homework 25."""

import math

import torch

from utils.lessons.attention import attend, causal_mask

from . import wrong

# ---- moved(slopes, born, rate) ----


def walk(slopes, born, rate, own_count=True, correct=(1, 1), betas=(0.9, 0.999), **how):
    """Adam over a memory that grows, with one thing changed."""
    S = slopes.size(1)
    mean, square, count, total = (torch.zeros(S) for _ in range(4))
    for step, slope in enumerate(slopes):
        alive = torch.ones(S).bool() if how.get("unborn") else born <= step
        count = count + alive
        if how.get("forget"):
            mean, square = torch.zeros(S), torch.zeros(S)
        mean = torch.where(alive, betas[0] * mean + (1 - betas[0]) * slope, mean)
        square = torch.where(alive, betas[1] * square + (1 - betas[1]) * slope**2, square)
        n = count.clamp(min=1) if own_count else torch.full((S,), step + 1.0)
        up = mean / (1 - betas[0] ** n) if correct[0] else mean
        down = square / (1 - betas[1] ** n) if correct[1] else square
        root = down if how.get("no_root") else down.sqrt()
        stride = torch.where(alive, rate * up / (root + 1e-8), torch.zeros(S))
        total = -stride if how.get("last") else total - stride
    return total


@wrong("moved", "count of its own")
def one_count_for_all(slopes, born, rate):
    return walk(slopes, born, rate, own_count=False)


@wrong("moved", "start at 0: divide both")
def without_correction(slopes, born, rate):
    return walk(slopes, born, rate, correct=(0, 0))


@wrong("moved", "mean of the squares starts at 0, too")
def corrects_the_mean_only(slopes, born, rate):
    return walk(slopes, born, rate, correct=(1, 0))


@wrong("moved", "mean of the slopes starts at 0, too")
def corrects_the_squares_only(slopes, born, rate):
    return walk(slopes, born, rate, correct=(0, 1))


@wrong("moved", "before it is born")
def learns_before_birth(slopes, born, rate):
    return walk(slopes, born, rate, unborn=True)


@wrong("moved", "root of the mean square")
def without_the_root(slopes, born, rate):
    return walk(slopes, born, rate, no_root=True)


@wrong("moved", "against the slope")
def uphill(slopes, born, rate):
    return -walk(slopes, born, rate)


@wrong("moved", "betas are exchanged")
def betas_exchanged(slopes, born, rate):
    return walk(slopes, born, rate, betas=(0.999, 0.9))


@wrong("moved", "carried from step to step")
def forgets_at_every_step(slopes, born, rate):
    return walk(slopes, born, rate, forget=True)


@wrong("moved", "last step alone")
def the_last_step_only(slopes, born, rate):
    return walk(slopes, born, rate, last=True)


# ---- temperature(logits, targets) ----


def bisect(rises, low=0.25, high=4.0, rounds=40):
    """Narrow [low, high] in b to where `rises(b)` turns positive."""
    for _ in range(rounds):
        b = (low + high) / 2
        low, high = (low, b) if rises(b) else (b, high)
    return (low + high) / 2


def slope_in_b(logits, targets, b):
    at_target = logits.gather(1, targets[:, None])[:, 0]
    return ((logits * (b * logits).softmax(1)).sum(1) - at_target).mean()


@wrong("temperature", "1 / T, not T")
def gives_one_over_t(logits, targets):
    return bisect(lambda b: slope_in_b(logits, targets, b) > 0)


@wrong("temperature", "turned round")
def searches_the_wrong_half(logits, targets):
    return 1 / bisect(lambda b: slope_in_b(logits, targets, b) < 0)


@wrong("temperature", "probabilities change with T")
def probabilities_at_one(logits, targets):
    return 1 / bisect(lambda b: slope_in_b(logits, targets, 1.0) > 0)


@wrong("temperature", "not the plain mean of the logits")
def plain_mean_of_logits(logits, targets):
    at_target = logits.gather(1, targets[:, None])[:, 0]
    return 1 / bisect(lambda b: (b * logits.mean(1) - at_target).mean() > 0)


@wrong("temperature", "what came, not the likeliest")
def trusts_the_likeliest(logits, targets):
    return 1 / bisect(lambda b: slope_in_b(logits, logits.argmax(1), b) > 0)


@wrong("temperature", "one T for all")
def one_for_each_row(logits, targets):
    def best(z, t):
        return 1 / bisect(lambda b: slope_in_b(z, t, b) > 0)

    return sum(map(best, logits.split(1), targets.split(1))) / len(logits)


@wrong("temperature", "too few halvings")
def stops_early(logits, targets):
    return 1 / bisect(lambda b: slope_in_b(logits, targets, b) > 0, rounds=3)


@wrong("temperature", "over the symbols, not over the rows")
def softmax_over_rows(logits, targets):
    def rises(b):
        at_target = logits.gather(1, targets[:, None])[:, 0]
        return ((logits * (b * logits).softmax(0)).sum(1) - at_target).mean() > 0

    return 1 / bisect(rises)


@wrong("temperature", "below 1, too")
def only_softens(logits, targets):
    return max(1.0, 1 / bisect(lambda b: slope_in_b(logits, targets, b) > 0))


# ---- paired_gain(plain, adapted, documents) ----


def by_document(costs, documents):
    return torch.stack([costs[documents == d].mean() for d in documents.unique()])


def around(gain, half):
    return torch.stack([gain, gain - half, gain + half])


@wrong("paired_gain", "tokens of one document")
def tokens_as_if_independent(plain, adapted, documents):
    x = plain - adapted
    return around(x.mean(), 1.96 * x.std() / math.sqrt(len(x)))


@wrong("paired_gain", "pair first")
def unpaired(plain, adapted, documents):
    a, b = by_document(plain, documents), by_document(adapted, documents)
    return around(a.mean() - b.mean(), 1.96 * (a.var() / len(a) + b.var() / len(b)).sqrt())


@wrong("paired_gain", "root of the number")
def divides_by_n(plain, adapted, documents):
    x = by_document(plain - adapted, documents)
    return around(x.mean(), 1.96 * x.std() / len(x))


@wrong("paired_gain", "spread of single documents")
def without_the_root_of_n(plain, adapted, documents):
    x = by_document(plain - adapted, documents)
    return around(x.mean(), 1.96 * x.std())


@wrong("paired_gain", "n - 1")
def deviation_with_n(plain, adapted, documents):
    x = by_document(plain - adapted, documents)
    return around(x.mean(), 1.96 * x.std(correction=0) / math.sqrt(len(x)))


@wrong("paired_gain", "plain minus adapted")
def sign_turned(plain, adapted, documents):
    x = by_document(adapted - plain, documents)
    return around(x.mean(), 1.96 * x.std() / math.sqrt(len(x)))


@wrong("paired_gain", "long documents count for more")
def long_ones_count_more(plain, adapted, documents):
    x = by_document(plain - adapted, documents)
    return around((plain - adapted).mean(), 1.96 * x.std() / math.sqrt(len(x)))


@wrong("paired_gain", "1.96 of them")
def one_standard_error(plain, adapted, documents):
    x = by_document(plain - adapted, documents)
    return around(x.mean(), x.std() / math.sqrt(len(x)))


@wrong("paired_gain", "mean over a document's tokens, not their sum")
def sums_of_documents(plain, adapted, documents):
    x = torch.stack([(plain - adapted)[documents == d].sum() for d in documents.unique()])
    return around(x.mean(), 1.96 * x.std() / math.sqrt(len(x)))


@wrong("paired_gain", "half of it on either side")
def twice_as_wide(plain, adapted, documents):
    x = by_document(plain - adapted, documents)
    return around(x.mean(), 2 * 1.96 * x.std() / math.sqrt(len(x)))


# ---- lent(slope) ----


def size(slope, dims=(0, 1, 3, 4)):
    return slope.square().sum(dims, keepdim=True).sqrt()


@wrong("lent", "its own slope")
def keeps_its_own(slope):
    return slope.clone()


@wrong("lent", "bring it to the size")
def without_scaling(slope):
    return slope.roll(1, 2)


@wrong("lent", "upside down")
def scaled_the_wrong_way(slope):
    moved = slope.roll(1, 2)
    return moved * size(moved) / size(slope)


@wrong("lent", "the document before, not the one after")
def from_the_one_after(slope):
    moved = slope.roll(-1, 2)
    return moved * size(slope) / size(moved)


@wrong("lent", "one size for each document, not for each layer")
def a_size_for_each_layer(slope):
    moved = slope.roll(1, 2)
    return moved * size(slope, (0, 3, 4)) / size(moved, (0, 3, 4))


@wrong("lent", "keys and values together")
def keys_and_values_apart(slope):
    moved = slope.roll(1, 2)
    return moved * size(slope, (1, 3, 4)) / size(moved, (1, 3, 4))


@wrong("lent", "the root is missing")
def ratio_of_squares(slope):
    moved = slope.roll(1, 2)
    return moved * (size(slope) / size(moved)) ** 2


@wrong("lent", "size 1")
def all_of_size_one(slope):
    moved = slope.roll(1, 2)
    return moved / size(moved)


@wrong("lent", "exchange documents, not positions")
def rolls_positions(slope):
    moved = slope.roll(1, 3)
    return moved * size(slope) / size(moved)


@wrong("lent", "exchange documents, not layers")
def rolls_layers(slope):
    moved = slope.roll(1, 1)
    return moved * size(slope) / size(moved)


@wrong("lent", "own direction")
def own_direction_lent_size(slope):
    return slope * size(slope.roll(1, 2)) / size(slope)


@wrong("lent", "length over all its numbers")
def size_as_the_largest(slope):
    moved, most = slope.roll(1, 2), (0, 1, 3, 4)
    return moved * slope.abs().amax(most, keepdim=True) / moved.abs().amax(most, keepdim=True)


# ---- reread(x, old, changed, weights) ----


def block(x, memory, weights, residual=True, looks=causal_mask, swap=False, scale=1.0):
    """The keys and values of a block that is read over `memory`."""
    T, fresh = len(x), []
    for (w_q, w_k, w_v), (old_k, old_v) in zip(weights, memory):
        k, v = x @ w_k, x @ w_v
        fresh.append(torch.stack([v, k] if swap else [k, v]))
        keys, values = torch.cat([old_k, k]), torch.cat([old_v, v])
        mixed, _ = attend(x @ w_q * scale, keys, values, looks(T, len(keys)))
        x = x + mixed if residual else mixed
    return torch.stack(fresh)


@wrong("reread", "still fit the old memory")
def as_it_was_read_first(x, old, changed, weights):
    return block(x, old, weights)


@wrong("reread", "without x +")
def without_the_stream(x, old, changed, weights):
    return block(x, changed, weights, residual=False)


@wrong("reread", "tokens behind it")
def sees_the_future(x, old, changed, weights):
    return block(x, changed, weights, looks=lambda T, S: torch.ones(T, S).bool())


@wrong("reread", "the block itself")
def sees_the_memory_only(x, old, changed, weights):
    return block(x, changed, weights, looks=lambda T, S: (torch.arange(S) < S - T).repeat(T, 1))


@wrong("reread", "the memory, too")
def sees_the_block_only(x, old, changed, weights):
    return block(x, changed, weights, looks=lambda T, S: causal_mask(T, S) & (torch.arange(S) >= S - T))


@wrong("reread", "keys first, then values")
def values_first(x, old, changed, weights):
    return block(x, changed, weights, swap=True)


@wrong("reread", "root of D")
def without_the_scale(x, old, changed, weights):
    return block(x, changed, weights, scale=math.sqrt(x.size(1)))


@wrong("reread", "enters the first layer")
def feeds_x_to_every_layer(x, old, changed, weights):
    return torch.cat([block(x, memory[None], w[None]) for memory, w in zip(changed, weights)])


@wrong("reread", "new keys with old values")
def old_values(x, old, changed, weights):
    return block(x, torch.stack([changed[:, 0], old[:, 1]], 1), weights)


@wrong("reread", "new values with old keys")
def old_keys(x, old, changed, weights):
    return block(x, torch.stack([old[:, 0], changed[:, 1]], 1), weights)


@wrong("reread", "a memory of its own")
def the_last_memory_everywhere(x, old, changed, weights):
    return block(x, changed[-1:].expand_as(changed), weights)


# ---- look_ahead(plain, changed, tolerance) ----


def moves(plain, changed, tolerance):
    """(T, T): True where changing token t moved the cost of token s."""
    return (changed - plain).abs() > tolerance


def distances(T):
    """(T, T): t - s."""
    return torch.arange(T)[:, None] - torch.arange(T)


def farthest(table):
    return max(0, int(torch.where(table, distances(len(table)), 0).max()))


@wrong("look_ahead", "rows are the token that was changed")
def rows_and_columns_exchanged(plain, changed, tolerance):
    return farthest(moves(plain, changed, tolerance).T)


@wrong("look_ahead", "later tokens may move")
def counts_later_tokens(plain, changed, tolerance):
    table = moves(plain, changed, tolerance)
    return int(torch.where(table, distances(len(table)).abs(), 0).max())


@wrong("look_ahead", "distance, not the number of tokens")
def one_too_many(plain, changed, tolerance):
    found = farthest(moves(plain, changed, tolerance))
    return found + 1 if found else 0


@wrong("look_ahead", "the largest, not the smallest")
def the_smallest(plain, changed, tolerance):
    table = moves(plain, changed, tolerance)
    found = distances(len(table))[table & (distances(len(table)) > 0)]
    return int(found.min()) if len(found) else 0


@wrong("look_ahead", "rounding")
def without_tolerance(plain, changed, tolerance):
    return farthest(moves(plain, changed, 0.0))


@wrong("look_ahead", "a rise is a trace, too")
def falls_only(plain, changed, tolerance):
    return farthest(plain - changed > tolerance)


@wrong("look_ahead", "a fall is a trace, too")
def rises_only(plain, changed, tolerance):
    return farthest(changed - plain > tolerance)


@wrong("look_ahead", "how far, not how often")
def counts_pairs(plain, changed, tolerance):
    table = moves(plain, changed, tolerance)
    return int((table & (distances(len(table)) > 0)).sum())


@wrong("look_ahead", "the neighbour is not enough")
def neighbours_only(plain, changed, tolerance):
    return int(moves(plain, changed, tolerance).diagonal(-1).any())


@wrong("look_ahead", "the first token, too")
def skips_the_first_token(plain, changed, tolerance):
    return farthest(moves(plain, changed, tolerance)[1:, 1:])
