"""The code of lesson 07_decoding, for the pages after it.

Made from the cells tagged `export` of notebooks/07_decoding.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from collections import Counter

import torch
from torch.nn import functional as F


def pad_left(rows, pad=0):
    """Lists of token ids → ids (B, T), filled up on the left, and mask (B, T), True on real tokens."""
    T = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (T - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[False] * (T - len(row)) + [True] * len(row) for row in rows])
    return ids, mask


def for_processors(ids, mask):
    """ids (B, T) as processors may see them: padding replaced by the row's last token, which is there anyway."""
    return ids if mask is None else ids.where(mask, ids[:, -1:])


def is_end(tokens, eos):
    """True where a token ends the text. `eos` is a token id, several of them, or None."""
    if eos is None:
        return torch.zeros_like(tokens, dtype=torch.bool)
    return torch.isin(tokens, torch.as_tensor(eos, device=tokens.device))


def read_prompt(model, ids, mask, n_slots):
    """Run the prompt once: a cache with room for `n_slots` more, and the last state, (B, 1, D).

    Also `real` (B, T + n_slots), the slots that may be looked at so far, and how many real tokens each row has.
    """
    B, T = ids.shape
    real = torch.zeros(B, T + n_slots, dtype=torch.bool, device=ids.device)
    real[:, :T] = True if mask is None else mask
    padded = mask is not None and not bool(mask.all())
    cache = model.new_cache(B, T + n_slots)
    hidden = model.hidden(ids, mask=mask if padded else None, cache=cache)[:, -1:]
    return cache, hidden, real, real.sum(1)


def process(logits, ids, processors):
    """Apply the processors one after the other to logits (B, V), given the text so far, ids (B, T)."""
    for processor in processors:
        logits = processor(logits, ids)
    return logits


@torch.no_grad()
def decode(model, ids, n_new, choose, processors=(), mask=None, eos=None, pad=0):
    """Write up to n_new tokens behind each prompt; `choose` picks from processed logits (B, V) → (B,).

    ids, mask: (B, T), padded on the left. Returns (B, T + n), n the longest; `pad` behind an end.
    """
    B, T = ids.shape
    text = F.pad(for_processors(ids, mask), (0, n_new), value=pad)
    writing = torch.ones(B, dtype=torch.bool, device=ids.device)
    cache, hidden, real, n_real = read_prompt(model, ids, mask, n_new - 1)
    real[:, T:] = True
    padded = not bool(real.all())
    for end in range(T, T + n_new):
        token = choose(process(model.head(hidden[:, -1]), text[:, :end], processors))
        token = token.where(writing, pad)
        text[:, end] = token
        writing = writing & ~is_end(token, eos)
        if end + 1 == T + n_new or not writing.any():
            return torch.cat([ids, text[:, T : end + 1]], dim=1)
        looks = real[:, None, : end + 1] if padded else None
        hidden = model.hidden(token[:, None], looks, (n_real + end - T)[:, None], cache)


def greedy(model, ids, n_new, **settings):
    """Always take the likeliest token. For the settings see `decode`."""
    return decode(model, ids, n_new, lambda logits: logits.argmax(-1), **settings)


def draw(logits, generator=None):
    """One token from each row of logits (..., V), by chance, with the probabilities of its softmax."""
    probs = logits.softmax(-1)
    return torch.multinomial(probs.flatten(0, -2), 1, generator=generator).view(probs.shape[:-1])


def sample(model, ids, n_new, processors=(), generator=None, **settings):
    """Draw each token from the processed distribution. For the settings see `decode`."""
    return decode(model, ids, n_new, lambda logits: draw(logits, generator), processors, **settings)


NEVER = -1e9  # the score of what must not be chosen


def extend(logits, norms, scores, n):
    """The n best one-token extensions of each sentence's beams: scores, parents, tokens, (B, n) each.

    logits: (B, W, V)   norms, their logsumexp: (B, W, 1)   scores: (B, W)
    Only a beam's own n best tokens can be among them, so only those are normalised.
    """
    best, tokens = logits.topk(min(n, logits.size(-1)))
    totals, index = (best - norms + scores[..., None]).flatten(1).topk(n)
    return totals, index // best.size(-1), tokens.flatten(1).gather(1, index)


def pick(x, index):
    """For each sentence the rows of x (B, W, N) that index (B, C) names."""
    return x.gather(1, index[..., None].expand(-1, -1, x.size(-1)))


def crop(texts, eos):
    """Cut texts (B, W, N) behind the last end of all."""
    ends = is_end(texts, eos).int()
    return texts[..., : int((ends.cumsum(-1) - ends == 0).sum(-1).max())]


class Beams:
    """The W running texts of each sentence, side by side in one key-value memory."""

    def __init__(self, model, ids, mask, n_beams, n_new, pad):
        self.model, self.prompts, self.n_done = model, for_processors(ids, mask), 0
        self.cache, self.hidden, real, self.n_real = read_prompt(model, ids, mask, n_beams * (n_new - 1))
        self.sees = real[:, None].repeat(1, n_beams, 1)  # (B, W, S): each beam's ancestors
        self.texts = ids.new_full((len(ids), n_beams, n_new), pad)
        self.scores = torch.tensor([0.0] + [NEVER] * (n_beams - 1), device=ids.device).repeat(len(ids), 1)

    def logits(self, processors):
        """Logits (B, W, V) and norms (B, W, 1); what processors return counts as log-probabilities."""
        B, W, _ = self.texts.shape
        logits = self.model.head(self.hidden).expand(B, W, -1)
        if not processors:
            return logits, logits.logsumexp(-1, keepdim=True)
        so_far = torch.cat([self.prompts[:, None].expand(B, W, -1), self.texts[..., : self.n_done]], dim=-1)
        log_p = process(logits.log_softmax(-1).flatten(0, 1), so_far.flatten(0, 1), processors)
        return log_p.view(B, W, -1), torch.zeros_like(self.scores[..., None])

    def follow(self, parents, tokens, scores):
        """Let the beams be these extensions, (B, W) each, and run the model on the new tokens."""
        W, start = tokens.size(1), self.cache.length
        beams = torch.arange(W, device=tokens.device)
        self.texts, self.sees, self.scores = pick(self.texts, parents), pick(self.sees, parents), scores
        self.texts[..., self.n_done] = tokens
        self.sees[:, beams, start + beams] = True  # each sees its own new slot
        positions = (self.n_real + self.n_done)[:, None].expand_as(tokens)
        self.hidden = self.model.hidden(tokens, self.sees[..., : start + W], positions, self.cache)
        self.n_done += 1


class Finished:
    """The W best finished texts of each sentence: `texts` (B, W, N), `scores` (B, W), `taken` (B, W)."""

    def __init__(self, beams, pad):
        self.texts, self.scores = torch.full_like(beams.texts, pad), torch.full_like(beams.scores, NEVER)
        self.taken = torch.zeros_like(self.scores, dtype=torch.bool)
        self.open = torch.ones_like(self.taken[:, :1])  # (B, 1): may this sentence still change?

    def add(self, texts, parents, tokens, n_done, scores, ended):
        """Let the best W extensions that `ended` compete for the W places; all arguments (B, C) but texts."""
        W = self.scores.size(1)
        ended = ended & self.open & (torch.arange(ended.size(1), device=ended.device) < W)
        if not ended.any():
            return
        longer = pick(texts, parents)
        longer[..., n_done] = tokens
        scores = torch.cat([self.scores, scores.masked_fill(~ended, NEVER)], dim=1)
        self.scores, best = scores.topk(W)
        self.texts = pick(torch.cat([self.texts, longer], dim=1), best)
        self.taken = torch.cat([self.taken, ended], dim=1).gather(1, best)

    def close(self, hope, early_stopping):
        """Close sentences that `hope` (B, 1), the best running beam's score, cannot change. True if all are."""
        worst = self.scores.amin(1, keepdim=True).where(self.taken, NEVER)
        self.open = self.open & (hope > worst).any(1, keepdim=True)
        if early_stopping is True:
            self.open = self.open & ~self.taken.all(1, keepdim=True)
        return not self.open.any()


@torch.no_grad()
def beam_search(
    model, ids, n_new, n_beams=4, mask=None, eos=None, pad=0,
    length_penalty=1.0, early_stopping=False, processors=(), history=None,
):  # fmt: skip
    """Keep the n_beams likeliest texts at every step: all of them (B, W, T + n), best first, and scores (B, W).

    A finished text scores log p / length ** length_penalty. early_stopping: True, stop at n_beams finished texts;
    False, when running ones cannot win at their present length; "never", when they cannot win at any length.
    ids, mask: (B, T), padded on the left. history: a list that receives what each step looked at and kept.
    """
    n_wide = max(2, 1 + (0 if eos is None else torch.as_tensor(eos).numel())) * n_beams
    beams = Beams(model, ids, mask, n_beams, n_new, pad)
    finished = Finished(beams, pad)
    for n in range(1, n_new + 1):
        scores, parents, tokens = extend(*beams.logits(processors), beams.scores, n_wide)
        ended = is_end(tokens, eos) | (n == n_new)
        alive, kept = (scores + NEVER * ended).topk(n_beams)
        if history is not None:
            history.append(dict(parents=parents, tokens=tokens, scores=scores, ended=ended, kept=kept))
        finished.add(beams.texts, parents, tokens, n - 1, scores / n**length_penalty, ended)
        length = n_new if early_stopping == "never" and length_penalty > 0 else n
        if finished.close(alive[:, :1] / length**length_penalty, early_stopping) or n == n_new:
            break
        beams.follow(parents.gather(1, kept), tokens.gather(1, kept), alive)
    prompts = ids[:, None].expand(-1, n_beams, -1)
    return torch.cat([prompts, crop(finished.texts, eos)], dim=-1), finished.scores


def temperature(t):
    """Divide the logits by t: below 1 sharpens the distribution, above 1 flattens it."""
    if t <= 0:
        raise ValueError("A temperature must be above 0; for the limit 0 use greedy.")
    return lambda logits, ids=None: logits / t


def top_k(k):
    """Keep the k likeliest tokens, and whatever ties with the last of them (Fan et al. 2018)."""

    def keep(logits, ids=None):
        kth = logits.topk(min(k, logits.size(-1))).values[..., -1:]
        return logits.masked_fill(logits < kth, -math.inf)

    return keep


def top_p_by_sorting(logits, p):
    """Sort everything, add up from the least likely end, and drop what fits into the last 1 - p."""
    values, order = logits.sort()
    drop = values.softmax(-1).cumsum(-1) <= 1 - p
    drop[..., -1] = False
    return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)


def top_p(p, head=256):
    """Keep the smallest set of tokens whose probabilities add up to p (Holtzman et al. 2020).

    Rows whose `head` likeliest tokens clearly hold the mass p need no full sort; the others get one.
    """

    def keep(logits, ids=None):
        if head >= logits.size(-1):
            return top_p_by_sorting(logits, p)
        best = logits.topk(head).values  # (B, head), falling
        mass = (best - logits.logsumexp(-1, keepdim=True)).exp().cumsum(-1)
        n_kept = (mass < p).sum(-1, keepdim=True) + 1  # the token that crosses p still counts
        last, after = (best.gather(-1, (n_kept + i).clamp(max=head) - 1) for i in (0, 1))
        near = ((mass - p).abs() < 1e-5).any(-1, keepdim=True)
        clear = (mass[:, -1:] >= p) & (last > after) & ~near  # never true in a row with inf or nan
        unclear = ~clear.squeeze(-1)
        kept = logits.masked_fill(logits < last, -math.inf)
        if unclear.any():
            kept[unclear] = top_p_by_sorting(logits[unclear], p)
        return kept

    return keep


def min_p(p):
    """Keep the tokens at least p times as likely as the likeliest one (Nguyen et al. 2024)."""

    def keep(logits, ids=None):
        probs = logits.softmax(-1)
        return logits.masked_fill(probs < p * probs.amax(-1, keepdim=True), -math.inf)

    return keep


def typical(tau):
    """Keep the tokens whose surprise is nearest to the expected surprise, up to mass tau (Meister et al. 2023)."""

    def keep(logits, ids=None):
        log_p = logits.log_softmax(-1)
        entropy = -(log_p * log_p.exp()).nansum(-1, keepdim=True)
        oddness, order = (-log_p - entropy).abs().sort()
        mass = logits.gather(-1, order).softmax(-1).cumsum(-1)
        last = (mass < tau).sum(-1, keepdim=True).clamp(max=logits.size(-1) - 1)
        drop = oddness > oddness.gather(-1, last)
        drop[..., 0] = False
        return logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)

    return keep


def repetition_penalty(theta):
    """Make every token that stands in `ids` less likely: logit / theta if positive, logit * theta if not.

    Source: Keskar et al. 2019, section 4.1, who divide always; the case of negative logits is transformers'.
    """

    def punish(logits, ids):
        seen = logits.gather(-1, ids)
        return logits.scatter(-1, ids, torch.where(seen < 0, seen * theta, seen / theta))

    return punish


@torch.no_grad()
def contrastive_search(model, ids, n_new, k=4, alpha=0.6, processors=(), mask=None, eos=None, pad=0):
    """Among the k likeliest tokens take the one with the best (1 - alpha) p - alpha max cosine to any state so far.

    ids, mask: (B, T), padded on the left. Returns (B, T + n). Source: Su et al. 2022, equation 5.
    """
    B, T = ids.shape
    text, writing = for_processors(ids, mask), torch.ones_like(ids[:, 0], dtype=torch.bool)
    looks = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    cache, n_real = model.new_cache(B, T + k * n_new), looks.sum(1)
    states = model.hidden(ids, mask=mask, cache=cache)  # (B, T, D)
    state, states = states[:, -1], states.where(looks[..., None], states[:, -1:])  # nothing of the padding
    past = F.normalize(states, dim=-1)
    itself = torch.eye(k, dtype=torch.bool, device=ids.device).expand(B, k, k)
    for n in range(n_new):
        probs, tokens = process(model.head(state), text, processors).softmax(-1).topk(k)  # (B, k)
        sees = torch.cat([looks[:, None].expand(B, k, -1), itself], dim=-1)
        states = model.hidden(tokens, sees, (n_real + n)[:, None].expand(B, k), cache)  # (B, k, D)
        likeness = (F.normalize(states, dim=-1) @ past.transpose(1, 2)).amax(-1)
        best = ((1 - alpha) * probs - alpha * likeness).argmax(-1, keepdim=True)  # (B, 1)
        looks = torch.cat([looks, F.one_hot(best.squeeze(1), k).bool()], dim=1)
        state, token = pick(states, best).squeeze(1), tokens.gather(1, best).squeeze(1).where(writing, pad)
        past = torch.cat([past, F.normalize(state, dim=-1)[:, None]], dim=1)
        text, writing = torch.cat([text, token[:, None]], dim=1), writing & ~is_end(token, eos)
        if not writing.any():
            break
    return torch.cat([ids, text[:, T:]], dim=1)


def verify(p, q, drafted, generator=None):
    """Accept drafted tokens while p allows it, then draw one more from what q left out.

    p: (B, G + 1, V)   q: (B, G, V)   drafted: (B, G)
    Returns how many were accepted, (B,), and the extra token, (B,). The law of all tokens is p's, whatever q is.
    Source: Leviathan et al. 2022, algorithm 1.
    """
    p_drafted = p[:, :-1].gather(-1, drafted[..., None]).squeeze(-1)
    q_drafted = q.gather(-1, drafted[..., None]).squeeze(-1)
    luck = torch.rand(drafted.shape, generator=generator, device=p.device)
    n = (luck * q_drafted < p_drafted).long().cumprod(1).sum(1)
    q = F.pad(q, (0, 0, 0, 1))  # behind the last draft q = 0: what is left is p itself
    p, q = pick(p, n[:, None]).squeeze(1), pick(q, n[:, None]).squeeze(1)
    left = (p - q).clamp(min=0) + 1e-30 * p  # the tiny term matters only if rounding leaves nothing
    return n, torch.multinomial(left, 1, generator=generator).squeeze(1)


class Pair:
    """A model and its draft, reading the same texts into caches with the same slots."""

    def __init__(self, model, draft, ids, mask, n_slots):
        self.models, mask = (model, draft), torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        self.real, self.n_pads = F.pad(mask, (0, n_slots)), (~mask).sum(1)
        self.caches = [m.new_cache(len(ids), self.real.size(1)) for m in self.models]
        self.last = min(m.config.n_positions for m in self.models) - 1
        if ids.size(1) > 1:  # all but the last token, which opens the first round
            for m, cache in zip(self.models, self.caches):
                m.hidden(ids[:, :-1], mask=mask[:, :-1], cache=cache)

    def run(self, which, tokens, length, done=0):
        """States of model `which` on tokens (B, n), the first of which is at place length + done - 1 of its row."""
        cache, n = self.caches[which], tokens.size(1)
        start = cache.length - done
        new = torch.ones(n, done + n, dtype=torch.bool, device=tokens.device).tril(done)
        old = self.real[:, None, :start].expand(-1, n, -1)
        sees = torch.cat([old, new.expand(len(tokens), -1, -1)], dim=-1)
        steps = torch.arange(done, done + n, device=tokens.device)
        positions = ((length - self.n_pads - 1)[:, None] + steps).clamp(max=self.last)
        return self.models[which].hidden(tokens, sees, positions, cache)

    def keep(self, good):
        """Of the last slots, remember those that are good (B, G + 1); forget what no row accepted."""
        start = self.caches[0].length - good.size(1)
        self.real[:, start : start + good.size(1)] = good
        for cache in self.caches:
            cache.length = start + int(good.sum(1).max())


def draft_block(pair, text, length, n_draft, processors, generator):
    """Let the draft write n_draft tokens into `text`, row by row behind `length`.

    Returns the block (B, G + 1) to check, its first token known, the draft's distributions (B, G, V), and the
    text as it was before each token, for the processors.
    """
    block, before, q = text.gather(1, length[:, None] - 1), [], []
    for i in range(n_draft):
        hidden = pair.run(1, block[:, i:], length, done=i)
        before.append(text.clone())
        q.append(process(pair.models[1].head(hidden[:, -1]), before[i], processors).softmax(-1))
        token = torch.multinomial(q[i], 1, generator=generator)
        block = torch.cat([block, token], dim=1)
        text.scatter_(1, (length + i)[:, None], token)
    pair.run(1, block[:, n_draft:], length, done=n_draft)  # so that the draft remembers its last token too
    return block, torch.stack(q, dim=1), [*before, text.clone()]


def one_round(pair, text, length, n_draft, processors, generator):
    """Draft a block and check it: how many tokens were accepted, (B,), and the tokens to write, (B, G + 1)."""
    block, q, before = draft_block(pair, text, length, n_draft, processors, generator)
    logits = pair.models[0].head(pair.run(0, block, length))
    p = [process(row, so_far, processors).softmax(-1) for row, so_far in zip(logits.unbind(1), before)]
    n, extra = verify(torch.stack(p, dim=1), q, block[:, 1:], generator)
    return n, F.pad(block[:, 1:], (0, 1)).scatter(1, n[:, None], extra[:, None])


@torch.no_grad()
def speculative(
    model, draft, ids, n_new, n_draft=4, processors=(), mask=None, eos=None, pad=0, generator=None, counts=None,
):  # fmt: skip
    """Let `draft` write n_draft tokens, let `model` check them in one pass; the law is the model's own.

    ids, mask: (B, T), padded on the left. Returns (B, T + n). counts: a Counter that receives "rounds", the model's
    passes, and "tokens", both summed over the rows that are still writing.
    """
    T, steps = ids.size(1), torch.arange(n_draft + 1, device=ids.device)
    pair, filler = Pair(model, draft, ids, mask, n_new * (n_draft + 1)), ids[:, -1:]
    text = torch.cat([for_processors(ids, mask), filler.expand(-1, n_new + 2 * n_draft + 1)], dim=1)
    length = torch.full_like(ids[:, 0], T)  # each row is written so far; behind it stands a token seen anyway
    writing = torch.ones_like(length, dtype=torch.bool)
    while writing.any():
        n, fresh = one_round(pair, text, length, n_draft, processors, generator)
        accepted = (steps <= n[:, None]) & writing[:, None]  # (B, G + 1), the extra token included
        ends = is_end(fresh, eos).int()
        good = accepted & (ends.cumsum(1) - ends == 0)
        text.scatter_(1, length[:, None] + steps, fresh.where(good, filler))
        pair.keep(accepted)
        if counts is not None:
            counts.update(rounds=int(writing.sum()), tokens=int(good.sum()))
        length = length + good.sum(1)
        writing = writing & ~(good & (ends == 1)).any(1) & (length < T + n_new)
    text = text.where(torch.arange(text.size(1), device=ids.device) < length[:, None], pad)
    return torch.cat([ids, text[:, T : min(int(length.max()), T + n_new)]], dim=1)


def token_log_probs(model, ids, mask=None):
    """log p of each token given those before it, (B, T - 1), in nats; 0 where there is only padding."""
    with torch.no_grad():
        log_p = model(ids, mask=mask).log_softmax(-1)[:, :-1]
    log_p = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return log_p if mask is None else log_p.masked_fill(~(mask[:, 1:] & mask[:, :-1]), 0.0)


def ngrams(text, n):
    """All runs of n tokens in a list of tokens, as tuples."""
    return list(zip(*(text[i:] for i in range(n))))


def repetition(texts, n=4):
    """The share of n-grams that stood earlier in the same text, pooled over texts (Welleck et al. 2020)."""
    grams = [ngrams(text, n) for text in texts]
    return 1 - sum(len(set(g)) for g in grams) / max(sum(map(len, grams)), 1)


def distinct_n(texts, n=2):
    """Different n-grams over all n-grams, pooled over texts (Li et al. 2016)."""
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / max(len(grams), 1)


def bleu(text, references, n_max=4):
    """How much of `text` stands in the references: geometric mean of clipped n-gram precisions, brevity penalty.

    A count of zero becomes 0.1 (Papineni et al. 2002; smoothing of Chen and Cherry 2014, method 1).
    """
    log_precision = 0.0
    for n in range(1, n_max + 1):
        counts, limit = Counter(ngrams(text, n)), Counter()
        for reference in references:
            limit |= Counter(ngrams(reference, n))
        matches = (counts & limit).total()
        log_precision += math.log(max(matches, 0.1) / max(counts.total(), 1)) / n_max
    nearest = min((abs(len(r) - len(text)), len(r)) for r in references)[1]
    return math.exp(log_precision + min(0.0, 1 - nearest / max(len(text), 1)))


def self_bleu(texts):
    """The mean BLEU of each text against all the others: 1 if all are the same (Zhu et al. 2018)."""
    return sum(bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)) / len(texts)


def zipf(texts, n_ranks=5000):
    """Minus the slope of log count against log rank over the commonest tokens; near 1 in long human texts."""
    counts = Counter(token for text in texts for token in text).most_common(n_ranks)
    ranks = torch.arange(1, len(counts) + 1, dtype=torch.float64).log()
    logs = torch.tensor([count for _, count in counts], dtype=torch.float64).log()
    return float(-((ranks - ranks.mean()) * logs).sum() / (ranks - ranks.mean()).square().sum())


def measure(model, texts, n_prompt, mask=None):
    """The five numbers of texts (B, T + n) written behind prompts of T columns; mask: (B, T), the prompts'."""
    new = texts[:, n_prompt:].tolist()
    real = None if mask is None else F.pad(mask, (0, len(new[0])), value=True)
    log_p = token_log_probs(model, texts, real)[:, n_prompt - 1 :]
    numbers = {"perplexity": math.exp(-log_p.mean()), "repetition": repetition(new)}
    return numbers | {"distinct_2": distinct_n(new), "self_bleu": self_bleu(new), "zipf": zipf(new)}
