"""The code of lesson 08_likelihood_and_quality, for the pages after it.

Made from the cells tagged `export` of notebooks/08_likelihood_and_quality.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from typing import NamedTuple

import torch


class Mode(NamedTuple):
    """What a mode search found; log-probabilities in nats, floats."""

    text: tuple | None  # the tokens behind the start, the end among them; None: nothing beats the bound
    log_p: float  # its log-probability, or the bound
    n_read: int  # prefixes that the model was asked about
    finished: bool  # True: no allowed text is likelier. False: the budget ran out first
    longer: float  # no text of more than max_len tokens can be likelier than this


def mode_search(next_log_probs, start, eos, max_len, bound=-math.inf, min_len=0, budget=math.inf):
    """The likeliest text behind `start`: depth first, leaving every prefix that is no likelier than the best text.

    next_log_probs: takes a prefix, a tuple of token ids that begins with `start`; gives log p of each next
    token, (V,). A text is min_len to max_len tokens and then `eos`, which counts in log p, not in the length.
    With min_len = max_len = n this is the likeliest text of exactly n tokens: no end before, an end there.
    Where log p after n tokens must not count the end, give next_log_probs that say log p = 0 for it.
    bound: only texts likelier than this count, for example a beam's log p. budget: the most prefixes to read.
    Returns a Mode. It is exact because log p only falls from a prefix to what follows it.
    Source: Stahlberg and Byrne 2019, algorithm 1.
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
        hopeful = hopeful[log_ps[hopeful].argsort(stable=True)]  # the likeliest last, to be taken first
        stack += [(p, (*prefix, token)) for p, token in zip(log_ps[hopeful].tolist(), hopeful.tolist())]
    return Mode(text, best, n_read, all(log_p <= best for log_p, _ in stack), longer)


class Reader:
    """log p of every next token, (V,), after any prefix. The key-value cache serves as a stack.

    What a prefix shares with the one before it is not read again; going back is setting `cache.length`.
    """

    def __init__(self, model, n_slots):
        self.model, self.cache, self.last = model, model.new_cache(1, n_slots), ()

    @torch.no_grad()
    def __call__(self, prefix):
        pairs = zip(prefix[:-1], self.last)
        n_shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(prefix) - 1, len(self.last)))
        self.cache.length, self.last = n_shared, tuple(prefix)
        state = self.model.hidden(torch.tensor([prefix[n_shared:]]), cache=self.cache)[:, -1]
        return self.model.head(state)[0].log_softmax(-1)
