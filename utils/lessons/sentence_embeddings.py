"""The code of lesson 11_sentence_embeddings, for the pages after it.

Made from the cells tagged `export` of notebooks/11_sentence_embeddings.ipynb.
Never edit: change the page, then `make made`.
"""

import torch
from torch import nn
from torch.nn import functional as F


def mean_pool(states, mask=None):
    """The mean of the real states: states (B, T, D), mask (B, T), True = real → (B, D)."""
    if mask is None:
        return states.mean(1)
    share = mask.float() / mask.sum(1, keepdim=True)  # (B, T), each row sums to 1
    return (share[:, None] @ states)[:, 0]


def max_pool(states, mask=None):
    """The largest value of each number over the real states: (B, T, D) → (B, D)."""
    if mask is not None:
        states = states.masked_fill(~mask[..., None], -torch.inf)
    return states.amax(1)


def cls_pool(states, mask=None):
    """The first state, which is that of [CLS]: (B, T, D) → (B, D)."""
    return states[:, 0]


POOLS = {"mean": mean_pool, "max": max_pool, "cls": cls_pool}


def pad_right(rows, pad=0):
    """Lists of ids → ids (B, T), filled up on the right, and mask (B, T), None if all real."""
    rows = [torch.as_tensor(row) for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    ids = nn.utils.rnn.pad_sequence(rows, True, pad)
    real = torch.arange(ids.size(1)) < lengths[:, None]
    return ids, None if real.all() else real


def token_batches(lengths, budget):
    """Rows of like length together: lists of row numbers, each `budget` tokens at most."""
    batch = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


FRAMES = ("[CLS]", "[SEP]"), ("<cls>", "<sep>"), ("<s>", "</s>")  # around a sentence


class PooledEncoder(nn.Module):
    """A sentence in, one vector out: an encoder of BERT's kind and a pooling.

    model: has `hidden(ids, mask)` → (B, T, D);   tokenizer: of the library `tokenizers`
    Source: Reimers and Gurevych 2019, section 3.
    """

    def __init__(self, model, tokenizer, pool="mean", normalise=True, max_length=None):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.pool, self.normalise = POOLS[pool], normalise
        places = model.config.n_positions
        self.max_length = min(max_length or places, places)
        known = ((tokenizer.token_to_id(a), tokenizer.token_to_id(b)) for a, b in FRAMES)
        self.frame = next(pair for pair in known if None not in pair)

    def rows(self, sentences):
        """Each sentence as ids between [CLS] and [SEP], cut to what the model can read."""
        (first, last), room = self.frame, self.max_length - 2
        found = self.tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        return [[first, *encoding.ids[:room], last] for encoding in found]

    def forward(self, ids, mask=None):
        """ids: (B, T), mask: (B, T), True = real → vectors (B, D)."""
        vectors = self.pool(self.model.hidden(ids, mask).float(), mask)
        return F.normalize(vectors, dim=-1) if self.normalise else vectors


class SentenceEncoder(PooledEncoder):
    """An encoder that is handed whole lists of sentences."""

    @torch.no_grad()
    def encode(self, sentences, budget=2048):
        """A list of n sentences → vectors (n, D), float32, in batches of like lengths."""
        rows = self.rows(sentences)
        vectors = torch.zeros(len(rows), self.model.config.d_model)
        for batch in token_batches([len(row) for row in rows], budget):
            pad = getattr(self.model.config, "pad", 0)
            vectors[batch] = self(*pad_right([rows[i] for i in batch], pad))
        return vectors


def in_batch_loss(u, v, scale=20):
    """Each u must find its own v among all v of the batch, in nats.

    u: (B, D)   v: (B or more, D), v[i] belongs to u[i], those behind the first B to nobody
    Source: Henderson et al. 2017, section 4.4; the scale as in sentence-transformers.
    """
    scores = scale * F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).T  # (B, B or more)
    return F.cross_entropy(scores, torch.arange(len(u), device=u.device))


def pair_loss(encode, one, other):
    """The loss of pairs, in both directions; one, other: (ids, mask), what `encode` takes."""
    u, v = encode(*one), encode(*other)
    return (in_batch_loss(u, v) + in_batch_loss(v, u)) / 2


class PairClassifier(nn.Module):
    """What are two sentences to each other? Logits (B, n) from W [u; v; |u - v|].

    Source: Reimers and Gurevych 2019, section 3.
    """

    def __init__(self, D, n_labels):
        super().__init__()
        self.weigh = nn.Linear(3 * D, n_labels, bias=False)

    def forward(self, u, v):
        return self.weigh(torch.cat([u, v, (u - v).abs()], dim=-1))
