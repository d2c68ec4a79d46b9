"""The code of lesson 26_conditional_beam_search, for the pages after it.

Made from the cells tagged `export` of notebooks/26_conditional_beam_search.ipynb.
Never edit: change the page, then `make made`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.decoding import NEVER, Beams, Finished, crop, is_end


def repeats(texts, tokens, n=3):
    """Does this token complete n tokens in a row that the text holds already?

    texts: (..., N)   tokens, candidates for the next place: (..., C) → (..., C), True or False
    """
    if texts.size(-1) < n:
        return torch.zeros_like(tokens, dtype=torch.bool)
    runs = texts.unfold(-1, n, 1)  # (..., N - n + 1, n)
    begun = (runs[..., :-1] == texts[..., None, 1 - n :]).all(-1)  # begins as the text ends
    ends = runs[..., None, :, -1] == tokens[..., None]  # (..., C, N - n + 1)
    return (begun[..., None, :] & ends).any(-1)


def stuck(texts):
    """Where a text (B, N) repeats three tokens in a row: (B, N), True at the third of them."""
    places = [repeats(texts[:, :t], texts[:, t : t + 1]) for t in range(texts.size(1))]
    return torch.cat(places, dim=1)


def offers(beams, n, eos=None, processors=()):
    """The n likeliest next tokens of each beam, all ends among them.

    Returns log p of the longer texts and the tokens, (B, W, n) each.
    """
    logits, norms = beams.logits(processors)
    ranks = logits
    if eos is not None:
        ranks = logits.index_fill(-1, torch.as_tensor(eos).view(-1), math.inf)
    tokens = ranks.topk(min(n, logits.size(-1))).indices
    return logits.gather(-1, tokens) - norms + beams.scores[..., None], tokens


@torch.no_grad()
def conditional_beam_search(
    model, ids, n_new, log_q, n_beams=4, n_candidates=64,
    mask=None, eos=None, pad=0, processors=(),
):  # fmt: skip
    """Keep the best S = log p + log q at every step: texts (B, W, T + n) and S (B, W).

    log_q(beams, tokens (B, W, C)) → (B, W, C): log of the chance of the wish, NEVER for none.
    S is NEVER where no text was found. ids, mask: (B, T), padded on the left.
    """
    n_ends = 0 if eos is None else torch.as_tensor(eos).numel()
    n_wide = max(2, 1 + n_ends) * n_beams
    beams = Beams(model, ids, mask, n_beams, n_new, pad)
    finished = Finished(beams, pad)
    for n in range(1, n_new + 1):
        log_p, tokens = offers(beams, max(n_candidates, n_wide + n_ends), eos, processors)
        S, best = (log_p + log_q(beams, tokens)).flatten(1).topk(n_wide)
        parents = best // tokens.size(-1)
        log_p, tokens = (x.flatten(1).gather(1, best) for x in (log_p, tokens))
        possible = S > NEVER / 2
        ended = is_end(tokens, eos) | (n == n_new)
        finished.add(beams.texts, parents, tokens, n - 1, S, ended & possible)
        log_p = log_p.where(possible, NEVER)  # what cannot become good stays out
        hope = log_p.masked_fill(ended, NEVER).amax(1, keepdim=True)
        if finished.close(hope, "never") or n == n_new:
            break
        kept = (S + NEVER * ended).topk(n_beams).indices
        beams.follow(*(x.gather(1, kept) for x in (parents, tokens, log_p)))
    prompts = ids[:, None].expand(-1, n_beams, -1)
    return torch.cat([prompts, crop(finished.texts, eos)], dim=-1), finished.scores


class Foresight(nn.Module):
    """From half a text and a candidate for its next token to the outcome of the whole text.

    M: its width   R: the number of outcomes
    """

    def __init__(self, model, n_outcomes, width=64):
        super().__init__()
        D = model.config.d_model
        self.norm = nn.LayerNorm(D, elementwise_affine=False)
        embeddings = self.norm(model.tokens.weight.detach())
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.state, self.token = nn.Linear(D, width), nn.Linear(D, width, bias=False)
        self.out = nn.Linear(width, n_outcomes)

    def words(self, tokens):
        """What the classifier reads of tokens (..., C): (..., C, M)."""
        return self.token(self.embeddings[tokens])

    def forward(self, hidden, words):
        """log q of each outcome, (..., C, R), for states (..., D) and words (..., C, M)."""
        mix = self.state(self.norm(hidden))[..., None, :] + words
        return self.out(F.gelu(mix)).log_softmax(-1)


def learn(q, hidden, tokens, fits, steps=400, rate=1e-3, seed=0, batch=256):
    """Train q on P prefixes: states (P, D), next tokens (P,), outcomes that agree (P, R)."""
    dice = torch.Generator().manual_seed(seed)
    adam = torch.optim.AdamW(q.parameters(), lr=rate, weight_decay=0.1)
    decay = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, steps)
    for _ in range(steps):
        rows = torch.randint(len(tokens), (batch,), generator=dice)
        log_q = q(hidden[rows], q.words(tokens[rows, None]))[:, 0]
        loss = -log_q.masked_fill(~fits[rows], NEVER).logsumexp(-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
    return q.eval()


def ask(q, outcomes):
    """A judge that asks q; outcomes(beams): which outcomes agree with the wish, a slice."""
    with torch.no_grad():
        words = q.words(torch.arange(len(q.embeddings)))  # all tokens, once

    def log_q(beams, tokens):
        hidden = beams.hidden.expand(*tokens.shape[:2], -1)
        return q(hidden, words[tokens])[..., outcomes(beams)].logsumexp(-1)

    return log_q


def waiting(event, n_outcomes):
    """How long until the next event? Which outcomes agree with what was seen.

    event: (B, T), True where it happens → (B, T, R); the last outcome: R - 1 tokens or more
    """
    T = event.size(1)
    places = torch.arange(T, device=event.device)
    later = places.where(event, 10 * T).flip(1).cummin(1).values.flip(1)  # the next event
    wait = (later - places).clamp(max=n_outcomes - 1)[..., None]
    edge = (T - places).clamp(max=n_outcomes - 1)[:, None]
    outcomes = torch.arange(n_outcomes, device=event.device)
    return torch.where((later < T)[..., None], outcomes == wait, outcomes >= edge)
