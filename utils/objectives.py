"""What each family of the zoo learns from rows of tokens, and one question that all of them can be asked.

An objective is a function (model, batch, generator) → loss, as `utils.train.fit` wants it; a batch is (ids,), rows of
running text (B, T). The common question is `fill_in`: one token of a text is gone, which was it?
"""

import torch

from utils.lessons import bert
from utils.train import token_loss

VOCAB_SIZE, EOS, MASK, SEP, CLS, FIRST_EXTRA = 6144, 2, 3, 4, 5, 7


def following(model, batch, generator):
    """GPT and LLaMA: each token from those before it."""
    (ids,) = batch
    return token_loss(model, ids[:, :-1], ids[:, 1:])


def blanks(model, batch, generator):
    """RoBERTa and ALBERT: masks drawn anew each time, no pairs (Liu et al. 2019, section 4)."""
    return bert.masked_loss(model, *bert.mask_tokens(*batch, generator, VOCAB_SIZE, MASK))


def blanks_and_pairs(model, batch, generator):
    """BERT: masks, and whether the second piece follows the first (Devlin et al. 2019, section 3.1)."""
    ids, segments, is_next = bert.next_sentence_pairs(batch[0][:, :-3], generator, SEP, CLS)
    inputs, targets = bert.mask_tokens(ids, generator, VOCAB_SIZE, MASK)
    return bert.pretraining_loss(model, inputs, segments, targets, is_next)
