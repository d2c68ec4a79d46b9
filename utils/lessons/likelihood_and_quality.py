"""The code of lesson 08_likelihood_and_quality, for the pages after it.

Made from the cells tagged `export` of notebooks/08_likelihood_and_quality.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from collections import Counter
from typing import NamedTuple

import torch

from utils.lessons.decoding import repetition


class Mode(NamedTuple):
    """What a mode search found; log-probabilities are floats, in nats."""

    text: tuple | None  # behind the start, the end included; None: nothing beats the bound
    log_p: float  # its log-probability, or the bound
    n_read: int  # prefixes that the model was asked about
    finished: bool  # True: no allowed text is likelier. False: the budget ran out first
    longer: float  # no text of more than max_len tokens is likelier than this


def mode_search(next_log_probs, start, eos, max_len, bound=-math.inf, min_len=0, budget=math.inf):
    """The likeliest text behind `start`: depth first, only prefixes likelier than the best.

    next_log_probs: from a prefix, a tuple of token ids that begins with `start`, to log p of
    what is next, (V,). A text is min_len to max_len tokens and then `eos`; log p counts the
    end, the length does not. With min_len = max_len = n this is the likeliest text of exactly
    n tokens: no end before, an end forced there (and its log p counts). bound: only texts
    likelier than this, say a beam's log p. budget: how many prefixes may be read.
    Returns a Mode. Exact because log p only falls from a prefix to what follows.
    Source: Stahlberg and Byrne 2019.
    """
    text, best, n_read, longer = None, bound, 0, -math.inf
    stack = [(0.0, ())]
    while stack and n_read < budget:
        log_p, prefix = stack.pop()
        if log_p <= best:
            continue
        n_read += 1
        log_ps = next_log_probs((*start, *prefix)) + log_p  # (V,)
        if len(prefix) >= min_len and log_ps[eos] > best:
            text, best = (*prefix, eos), log_ps[eos].item()
        log_ps[eos] = -math.inf
        if len(prefix) == max_len:
            longer = max(longer, log_ps.max().item())
            continue
        hopeful = (log_ps > best).nonzero().squeeze(1)
        scores, order = log_ps[hopeful].sort(stable=True)  # the likeliest last
        stack += zip(scores.tolist(), [(*prefix, token) for token in hopeful[order].tolist()])
    return Mode(text, best, n_read, all(log_p <= best for log_p, _ in stack), longer)


class Reader:
    """log p of every next token, (V,), after any prefix. The key-value cache is a stack.

    What a prefix shares with the one before it is not read again; going back sets
    `cache.length`.
    """

    def __init__(self, model, n_slots):
        self.model, self.cache, self.last = model, model.new_cache(1, n_slots), ()

    def logits(self, ids):
        """Let ids (1, T) join the cache; the logits (V,) of what follows them."""
        return self.model.head(self.model.hidden(ids, cache=self.cache)[:, -1])[0]

    @torch.no_grad()
    def __call__(self, prefix):
        n = min(len(prefix) - 1, len(self.last))
        n = next((i for i in range(n) if prefix[i] != self.last[i]), n)  # so many are shared
        self.cache.length, self.last = n, tuple(prefix)
        return self.logits(torch.tensor([prefix[n:]])).log_softmax(-1)


def overlap(text, other):
    """How much two lists of tokens share, in any order: F1, from 0 to 1 (both empty: 1)."""
    shared = (Counter(text) & Counter(other)).total()
    return 2 * shared / (len(text) + len(other)) if text or other else 1.0


def fault(text, limit=0.3):
    """What is plainly wrong with a text of tokens: "empty", "repeats", or None.

    It repeats if more than `limit` of its 4-grams stood in it before (lesson 07).
    """
    if not text:
        return "empty"
    return "repeats" if len(text) > 3 and repetition([text]) > limit else None


def interval(differences):
    """The mean of paired differences and its 95 % half-width (normal approximation)."""
    differences = torch.as_tensor(differences, dtype=torch.float64)
    return differences.mean().item(), 1.96 * differences.std().item() / math.sqrt(len(differences))


@torch.no_grad()
def surprise(model, ids, n_prompt, mask=None, never=None):
    """Surprise of each new token of ids (B, T), its expected mean and variance: (B, n) each.

    n_prompt: columns of the prompt. mask: (B, T). never: a token that could not come. In nats.
    """
    log_p = model(ids, mask=mask)[:, n_prompt - 1 : -1]
    if never is not None:
        log_p[..., never] = -math.inf
    log_p = log_p.log_softmax(-1)
    found = -log_p.gather(-1, ids[:, n_prompt:, None]).squeeze(-1)
    p, log_p = log_p.exp(), log_p.clamp(min=-1e4)  # 0 · log 0 = 0
    expected = -(p * log_p).sum(-1)
    return found, expected, (p * log_p.square()).sum(-1) - expected.square()


def z_scores(found, expected, variance):
    """How many standard deviations each text's surprise lies from the expected one, (B,)."""
    return (found - expected).sum(1) / variance.sum(1).sqrt()


def consensus(texts, utility=overlap):
    """The index of the text with the highest mean utility against all: minimum Bayes risk.

    texts: draws from a model, lists of tokens. Source: Eikema and Aziz 2020.
    """
    gains = [sum(utility(text, other) for other in texts) for text in texts]
    return max(range(len(texts)), key=gains.__getitem__)
