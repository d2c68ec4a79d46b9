"""Wrong answers to homework 02."""

import math

import torch

from . import wrong

# ---- weighted_counts(ids, n_words, window) ----


def counting(ids, n_words, window, weight=lambda d, window: 1 / d, both=True, first=1, last=0, add=True):
    """Pair by pair, with one part exchanged: the weight, the directions, the range of distances, the adding."""
    table = torch.zeros(n_words, n_words)
    for distance in range(first, window + 1 - last):
        for left in range(len(ids) - distance):
            i, j = int(ids[left]), int(ids[left + distance])
            for row, column in ((i, j), (j, i))[: 2 if both and distance else 1]:
                table[row, column] = weight(distance, window) + (table[row, column] if add else 0)
    return table


@wrong("weighted_counts", "counts 1/d, not 1")
def without_weights(ids, n_words, window):
    return counting(ids, n_words, window, weight=lambda d, window: 1.0)


@wrong("weighted_counts", "falls in a straight line")
def with_word2vecs_weights(ids, n_words, window):
    return counting(ids, n_words, window, weight=lambda d, window: (window - d + 1) / window)


@wrong("weighted_counts", "nearest pair stands at distance 1")
def one_too_far(ids, n_words, window):
    return counting(ids, n_words, window, weight=lambda d, window: 1 / (d + 1))


@wrong("weighted_counts", "both directions")
def to_the_right_only(ids, n_words, window):
    return counting(ids, n_words, window, both=False)


@wrong("weighted_counts", "accumulate")
def overwrites(ids, n_words, window):
    return counting(ids, n_words, window, add=False)


@wrong("weighted_counts", "it is included")
def window_too_short(ids, n_words, window):
    return counting(ids, n_words, window, last=1)


@wrong("weighted_counts", "no word is its own context")
def counts_itself(ids, n_words, window):
    return counting(ids, n_words, window, weight=lambda d, window: 1 / max(d, 1), first=0)


@wrong("weighted_counts", "not 1/d squared")
def squares_the_distance(ids, n_words, window):
    return counting(ids, n_words, window, weight=lambda d, window: 1 / d**2)


# ---- shifted_pmi(counts, k, power) ----


def pmi(counts, k, words=1.0, contexts=1.0, shift=None, clamp=True, total=None, log=torch.log):
    """The formula with one part exchanged."""
    pairs = counts / counts.sum()
    of_word, of_context = counts.sum(1) ** words, counts.sum(0) ** contexts
    of_context = of_context / (total if total is not None else of_context.sum())
    chance = (of_word / of_word.sum())[:, None] * of_context
    shifted = log(pairs / chance) - (math.log(k) if shift is None else shift)
    shifted = torch.where(counts > 0, shifted, torch.zeros(()))
    return shifted.clamp(min=0) if clamp else shifted


@wrong("shifted_pmi", "are not smoothed")
def without_smoothing(counts, k, power):
    return pmi(counts, k)


@wrong("shifted_pmi", "words keep their shares")
def smooths_both(counts, k, power):
    return pmi(counts, k, words=power, contexts=power)


@wrong("shifted_pmi", "here the words were smoothed")
def smooths_the_words(counts, k, power):
    return pmi(counts, k, words=power)


@wrong("shifted_pmi", "that of the powers")
def divides_by_the_old_sum(counts, k, power):
    return pmi(counts, k, contexts=power, total=counts.sum())


@wrong("shifted_pmi", "log k, not k")
def shifts_by_k(counts, k, power):
    return pmi(counts, k, contexts=power, shift=k)


@wrong("shifted_pmi", "shift goes down")
def shifts_upwards(counts, k, power):
    return pmi(counts, k, contexts=power, shift=-math.log(k))


@wrong("shifted_pmi", "negative values are left in")
def not_positive(counts, k, power):
    return pmi(counts, k, contexts=power, clamp=False)


@wrong("shifted_pmi", "natural")
def in_bits(counts, k, power):
    return pmi(counts, k, contexts=power, log=torch.log2, shift=math.log2(k))


@wrong("shifted_pmi", "not of the whole quotient")
def power_of_everything(counts, k, power):
    return pmi(counts, k, log=lambda quotient: power * quotient.log())


# ---- cbow_gradient(contexts, target, negatives) ----


def cbow(contexts, target, negatives, h=None, share=None, miss=1.0, alarm=0.0, lift=1.0, sign=1.0, y=None,
         mean=1.0):  # fmt: skip
    """The gradient with one part exchanged."""
    h = contexts.mean(0) if h is None else h
    miss, alarm = (h @ target).sigmoid() - miss, ((negatives @ h).sigmoid() - alarm) * mean
    for_h = sign * (miss * target + lift * (alarm @ negatives)) / (len(contexts) if share is None else share)
    y = h if y is None else y
    return for_h.expand_as(contexts).clone(), sign * miss * y, sign * alarm[:, None] * y


@wrong("cbow_gradient", "not their sum")
def sums_the_contexts(contexts, target, negatives):
    return cbow(contexts, target, negatives, h=contexts.sum(0), share=1)


@wrong("cbow_gradient", "one of S parts")
def hands_all_of_it_to_everyone(contexts, target, negatives):
    return cbow(contexts, target, negatives, share=1)


@wrong("cbow_gradient", "target should be likely")
def target_as_a_negative(contexts, target, negatives):
    return cbow(contexts, target, negatives, miss=0.0)


@wrong("cbow_gradient", "negatives change h, too")
def negatives_leave_h_alone(contexts, target, negatives):
    return cbow(contexts, target, negatives, lift=0.0)


@wrong("cbow_gradient", "points downhill")
def downhill(contexts, target, negatives):
    return cbow(contexts, target, negatives, sign=-1.0)


@wrong("cbow_gradient", "negatives should be unlikely")
def negatives_as_targets(contexts, target, negatives):
    return cbow(contexts, target, negatives, alarm=1.0)


@wrong("cbow_gradient", "not along a single context")
def along_the_first_context(contexts, target, negatives):
    return cbow(contexts, target, negatives, y=contexts[0])


@wrong("cbow_gradient", "not a mean")
def averages_the_negatives(contexts, target, negatives):
    return cbow(contexts, target, negatives, mean=1 / len(negatives))


# ---- glove_loss(X, Y, a, b, counts, largest, power) ----


def glove(X, Y, a, b, counts, largest, power, target=torch.log, cap=1.0, weight=None, error=torch.square):
    """The sum over seen pairs with one part exchanged."""
    seen = counts > 0
    guess = (X @ Y.T + a[:, None] + b)[seen]
    weights = (counts[seen] / largest).clamp(max=cap) ** power if weight is None else weight(counts[seen])
    return (weights * error(guess - target(counts[seen]))).sum()


@wrong("glove_loss", "compared with the logarithm")
def fits_the_counts(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power, target=lambda n: n)


@wrong("glove_loss", "never above 1")
def without_a_cap(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power, cap=math.inf)


@wrong("glove_loss", "raised to the power")
def without_the_power(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, 1.0)


@wrong("glove_loss", "where are the weights")
def every_pair_alike(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power, weight=torch.ones_like)


@wrong("glove_loss", "a belongs to the words")
def swaps_the_biases(X, Y, a, b, counts, largest, power):
    return glove(X, Y, b, a, counts, largest, power)


@wrong("glove_loss", "two biases")
def without_biases(X, Y, a, b, counts, largest, power):
    return glove(X, Y, 0 * a, 0 * b, counts, largest, power)


@wrong("glove_loss", "not their mean")
def averages_the_pairs(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power) / counts.numel()


@wrong("glove_loss", "squared")
def absolute_errors(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power, error=torch.abs)


@wrong("glove_loss", "not log(1 + n)")
def with_log1p(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power, target=torch.log1p)


@wrong("glove_loss", "do not clamp it")
def clamps_the_counts(X, Y, a, b, counts, largest, power):
    return glove(X, Y, a, b, counts, largest, power, target=lambda n: n.clamp(min=1).log())


# ---- three_cos_mul(vectors, a, b, c) ----


def multiplying(vectors, a, b, c, unit=True, shift=True, eps=0.001, combine=None, leave_out=True):
    """The scores with one part exchanged."""
    rows = vectors / vectors.norm(dim=-1, keepdim=True) if unit else vectors
    near = [rows @ rows[word] for word in (a, b, c)]
    near_a, near_b, near_c = ((cos + 1) / 2 for cos in near) if shift else near
    scores = combine(near_a, near_b, near_c) if combine else near_b * near_c / (near_a + eps)
    if leave_out:
        scores[[a, b, c]] = 0
    return scores


@wrong("three_cos_mul", "one unit long")
def without_unit_length(vectors, a, b, c):
    return multiplying(vectors, a, b, c, unit=False)


@wrong("three_cos_mul", "move each cosine to [0, 1]")
def bare_cosines(vectors, a, b, c):
    return multiplying(vectors, a, b, c, shift=False)


@wrong("three_cos_mul", "the sum of lesson 02")
def adds(vectors, a, b, c):
    return multiplying(vectors, a, b, c, combine=lambda x, y, z: y + z - x)


@wrong("three_cos_mul", "stands below the line")
def another_word_below(vectors, a, b, c):
    return multiplying(vectors, b, a, c)


@wrong("three_cos_mul", "are no answers")
def answers_the_question_with_itself(vectors, a, b, c):
    return multiplying(vectors, a, b, c, leave_out=False)


@wrong("three_cos_mul", "0.001 is missing")
def without_epsilon(vectors, a, b, c):
    return multiplying(vectors, a, b, c, eps=0.0)


@wrong("three_cos_mul", "c is missing")
def without_c(vectors, a, b, c):
    return multiplying(vectors, a, b, c, combine=lambda x, y, z: y / (x + 0.001))


@wrong("three_cos_mul", "a is missing")
def without_a(vectors, a, b, c):
    return multiplying(vectors, a, b, c, combine=lambda x, y, z: y * z)


# ---- align(source, target) ----


@wrong("align", "the other way round")
def the_other_way_round(source, target):
    U, _, W = torch.linalg.svd(target.T @ source)
    return U @ W


@wrong("align", "leave S out")
def keeps_the_stretch(source, target):
    return source.T @ target


@wrong("align", "least squares")
def least_squares(source, target):
    return torch.linalg.lstsq(source, target).solution


@wrong("align", "no mean is taken off")
def centres_first(source, target):
    U, _, W = torch.linalg.svd((source - source.mean(0)).T @ (target - target.mean(0)))
    return U @ W


@wrong("align", "their lengths stay")
def unit_lengths_first(source, target):
    source, target = (rows / rows.norm(dim=-1, keepdim=True) for rows in (source, target))
    U, _, W = torch.linalg.svd(source.T @ target)
    return U @ W


@wrong("align", "R only")
def returns_the_turned_source(source, target):
    U, _, W = torch.linalg.svd(source.T @ target)
    return source @ (U @ W)


@wrong("align", "a mirror is orthogonal")
def no_mirrors(source, target):
    U, _, W = torch.linalg.svd(source.T @ target)
    U[:, -1] *= torch.det(U @ W).sign()
    return U @ W
