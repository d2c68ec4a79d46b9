"""The code of lesson 02_word_vectors, for the pages after it.

Made from the cells tagged `export` of notebooks/02_word_vectors.ipynb.
Never edit: change the page, then `make made`.
"""

import math
import re
from collections import Counter
from functools import partial

import torch
from torch.nn import functional as F

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def words(text):
    """The words of a text in small letters; numbers and punctuation are left out."""
    return WORD.findall(text.lower())


def number(sentences, min_count=5):
    """Give each word that comes at least `min_count` times an id, the most frequent first.

    sentences: lists of words. Returns the vocabulary (V words), its counts (V,), and the text as
    two rows (2, length): the ids, and the number of the sentence that each stands in.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    vocabulary = [word for word, count in counts.most_common() if count >= min_count]
    ids = {word: i for i, word in enumerate(vocabulary)}
    rows = [(ids[w], n) for n, sentence in enumerate(sentences) for w in sentence if w in ids]
    return vocabulary, torch.tensor([counts[w] for w in vocabulary]), torch.tensor(rows).T


sparse = partial(torch.sparse_coo_tensor, check_invariants=True)  # places, values, shape


def cooccurrence(text, n_words, window):
    """How often each (word, context) pair stands at most `window` places apart: sparse (V, V).

    text: (2, length), ids and sentence numbers; a pair never reaches into another sentence
    """
    ids, sentence = text
    found = []
    for distance in range(1, window + 1):
        together = sentence[distance:] == sentence[:-distance]
        left, right = ids[:-distance][together], ids[distance:][together]
        found += [torch.stack([left, right]), torch.stack([right, left])]
    places = torch.cat(found, dim=1)
    return sparse(places, torch.ones(places.size(1)), (n_words, n_words)).coalesce()


def pmi(table):
    """The PMI of every pair that was seen, in the same sparse form (V, V)."""
    word, context = table.indices()
    n, total = table.values(), table.values().sum()
    zeros = torch.zeros(len(table))
    of_word, of_context = (zeros.index_add(0, row, n) for row in (word, context))
    values = (n * total / (of_word[word] * of_context[context])).log()
    return sparse(table.indices(), values, table.shape).coalesce()


def positive(table):
    """A sparse table with 0 for whatever is below it."""
    values = table.values().clamp(min=0)
    return sparse(table.indices(), values, table.shape).coalesce()


def nearest(vectors, query, n=8, leave_out=()):
    """The n rows of `vectors` (V, D) with the largest cosine to `query` (D,): ids and cosines."""
    cosines = F.normalize(vectors, dim=-1) @ F.normalize(query, dim=-1)
    cosines[list(leave_out)] = -math.inf
    found = cosines.topk(n)
    return found.indices.tolist(), found.values.tolist()


def ranks(values):
    """The rank of each value, from 1; equal values share the mean of their ranks: (N,)."""
    values = torch.as_tensor(values, dtype=torch.float64)
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    return below + (equal.double() + 1) / 2


def spearman(one, other):
    """Spearman's rank correlation of two lists of numbers: the correlation of their ranks."""
    one, other = (ranks(values) - ranks(values).mean() for values in (one, other))
    return ((one @ other) / (one.norm() * other.norm())).item()


def judge(vectors, ids, rated):
    """Spearman's correlation of cosines with people's ratings, and how many pairs could be asked.

    vectors: (V, D)   ids: {word: its row}   rated: a list of (word, word, rating)
    """
    known = [row for row in rated if row[0] in ids and row[1] in ids]
    a, b = (F.normalize(vectors[[ids[row[i]] for row in known]], dim=-1) for i in (0, 1))
    return spearman((a * b).sum(-1), [rating for *_, rating in known]), len(known)


def interval(correlation, n):
    """An interval made in this way holds the true correlation in about 95 of 100 samples of n pairs.

    Source: Fisher's z with the variance of Bonett and Wright (2000).
    """
    half = 1.96 * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    return tuple(math.tanh(math.atanh(correlation) + sign * half) for sign in (-1, 1))


def keep_chance(counts, threshold=1e-4):
    """The probability with which each word of the vocabulary is kept, (V,)."""
    share = counts / counts.sum()
    return ((threshold / share).sqrt() + threshold / share).clamp(max=1)


def noise_weights(counts, power=0.75):
    """How often each word is drawn as a negative, up to a factor, (V,)."""
    return counts.double() ** power


def band(text, first, last, reach, window):
    """Which words may pair: (T, S), True for centre `first + i` and context `low + j`; and low.

    text: (2, length)   reach: (length,), how far each centre looks, at most `window`
    """
    low, high = max(0, first - window), min(text.size(1), last + window)
    centre, context = torch.arange(first, last)[:, None], torch.arange(low, high)
    distance = (centre - context).abs()
    near = (distance > 0) & (distance <= reach[first:last, None])
    return near & (text[1, first:last, None] == text[1, low:high]), low


def block(X, Y, text, first, last, reach, negatives, k, rate, window):
    """One step downhill for the centres first … last - 1; X and Y (V, D) are changed in place.

    negatives: (n_noise,), the ids that were drawn from the noise for this block
    """
    pairs, low = band(text, first, last, reach, window)
    centre, context = text[0, first:last], text[0, low : low + pairs.size(1)]
    x, y, y_noise, pairs = X[centre], Y[context], Y[negatives], pairs.to(X.dtype)
    miss = (torch.sigmoid(x @ y.T) - 1) * pairs * rate  # (T, S)
    weight = pairs.sum(1, keepdim=True) * (k / len(negatives) * rate)
    alarm = torch.sigmoid(x @ y_noise.T) * weight  # (T, n_noise)
    X.index_add_(0, centre, miss @ y + alarm @ y_noise, alpha=-1)
    Y.index_add_(0, context, miss.T @ x, alpha=-1)
    Y.index_add_(0, negatives, alarm.T @ x, alpha=-1)


def train_skip_gram(text, counts, seed=0, width=50, window=10, k=5, epochs=5, rate=0.05,
                    threshold=1e-4, n_block=64, n_noise=128):  # fmt: skip
    """Skip-gram with negative sampling: the tables X and Y, (V, D) each.

    text: (2, length), ids and sentence numbers   counts: (V,)
    n_block: centres of a step; a vocabulary of few words needs short blocks
    Source: Mikolov et al. 2013 (the loss and its sampling), Ji et al. 2016 (shared negatives).
    """
    dice = torch.Generator().manual_seed(seed)
    X = (torch.rand(len(counts), width, generator=dice) * 2 - 1) / width
    Y = torch.zeros(len(counts), width)
    chance, noise = keep_chance(counts, threshold), noise_weights(counts)
    for epoch in range(epochs):
        kept = text[:, torch.rand(text.size(1), generator=dice) < chance[text[0]]]
        length = kept.size(1)
        reach = torch.randint(1, window + 1, (length,), generator=dice)
        n_blocks = -(-length // n_block)
        drawn = torch.multinomial(noise, n_blocks * n_noise, replacement=True, generator=dice)
        for b, negatives in enumerate(drawn.view(n_blocks, n_noise)):
            now = rate * max(1 - (epoch + b / n_blocks) / epochs, 1e-3)
            last = min(length, (b + 1) * n_block)
            block(X, Y, kept, b * n_block, last, reach, negatives, k, now, window)
    return X, Y


def analogy(vectors, questions, leave_out=True):
    """The best five answers to "a is to b as c is to …?" by the cosine to b - a + c: ids (N, 5).

    vectors: (V, D)   questions: (N, 3), the ids of a, b, c   leave_out: never answer a, b or c
    Source: Mikolov et al. 2013; the name 3CosAdd is Levy and Goldberg's (2014).
    """
    unit = F.normalize(vectors, dim=-1)
    best = []
    for part in questions.split(512):
        a, b, c = unit[part].unbind(dim=1)
        cosines = F.normalize(b - a + c, dim=-1) @ unit.T  # (N, V)
        if leave_out:
            cosines.scatter_(1, part, -math.inf)
        best.append(cosines.topk(5).indices)
    return torch.cat(best)
