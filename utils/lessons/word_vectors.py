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


def bands(text, reach, window, n_block):
    """Cut a text into B blocks of T = n_block centres; which of the S words around may pair?

    text: (2, length)   reach: (length,), how far each centre looks, at most `window`
    Returns the ids of the centres (B, T), those of the words around (B, S), S = T + 2 window, and
    whether they pair (B, T, S). Beyond the ends of the text stands id 0, in no pair.
    """
    length, n_around = text.size(1), n_block + 2 * window
    spare = max(-length % n_block, n_block - length)  # at least one block, perhaps empty
    padded = F.pad(text, (window, spare + window), value=-1)
    ids, sentence = padded.unfold(1, n_around, n_block)  # (B, S) each
    centre = slice(window, window + n_block)
    distance = (torch.arange(n_around) - torch.arange(n_block)[:, None] - window).abs()
    near = (distance > 0) & (distance <= F.pad(reach, (0, spare)).view(-1, n_block, 1))
    pairs = near & (sentence[:, centre, None] == sentence[:, None])
    return ids[:, centre].clamp(min=0), ids.clamp(min=0), pairs


def weigh(pairs, n_noise, k):
    """How often each product counts: a pair once, a negative k / n_noise times for each pair.

    pairs: (..., T, S), 1 or 0   Returns (..., T, S + n_noise).
    """
    noise = pairs.sum(-1, keepdim=True) * (k / n_noise)
    return torch.cat([pairs, noise.expand(*noise.shape[:-1], n_noise)], dim=-1)


def block(X, Y, centre, other, weight, n_noise):
    """One step downhill for a block of T centres; X and Y (V, D) are changed in place.

    centre: (T,)   other: (S + n_noise,), the ids of the words around, then of the negatives
    weight: (T, S + n_noise), from `weigh`, times the rate
    """
    x, y = X[centre], Y[other]
    miss = torch.sigmoid(x @ y.T)  # a negative: how far from 0
    miss[:, :-n_noise] -= 1  # a word around: how far from 1
    miss *= weight
    X.index_add_(0, centre, miss @ y, alpha=-1)
    Y.index_add_(0, other, miss.T @ x, alpha=-1)


def train_skip_gram(text, counts, seed=0, width=50, window=10, k=5, epochs=5, rate=0.05,
                    threshold=1e-4, n_block=8, n_noise=128):  # fmt: skip
    """Skip-gram with negative sampling: the tables X and Y, (V, D) each.

    text: (2, length), ids and sentence numbers   counts: (V,)
    n_block: centres of a step   n_noise: the negatives that they share
    Source: Mikolov et al. 2013 (the loss and its sampling), Ji et al. 2016 (shared negatives).
    """
    dice = torch.Generator().manual_seed(seed)
    X = (torch.rand(len(counts), width, generator=dice) * 2 - 1) / width
    Y = torch.zeros(len(counts), width)
    chance, noise = keep_chance(counts, threshold), noise_weights(counts)
    for epoch in range(epochs):
        kept = text[:, torch.rand(text.size(1), generator=dice) < chance[text[0]]]
        reach = torch.randint(1, window + 1, (kept.size(1),), generator=dice)
        centres, contexts, pairs = bands(kept, reach, window, n_block)
        B = len(centres)
        drawn = torch.multinomial(noise, B * n_noise, replacement=True, generator=dice)
        others = torch.cat([contexts, drawn.view(B, n_noise)], dim=1)
        now = rate * (1 - (epoch + torch.arange(B) / B) / epochs).clamp(min=1e-3)
        weights = weigh(pairs.float(), n_noise, k).mul_(now[:, None, None])
        for centre, other, weight in zip(centres, others, weights):
            block(X, Y, centre, other, weight, n_noise)
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
