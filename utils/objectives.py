"""What each family of the zoo learns from rows of running text.

An objective is a function (model, batch, generator) → loss, as `utils.train.fit` wants it; a batch is (ids,) with
ids (B, T), or (ids, sight), where sight (B,) says how many tokens to each side may be seen. All that is drawn comes
from the generator.
"""

from functools import cache

import torch
from torch import nn

from utils.lessons import bert, bert_family, sentence_embeddings, t5_and_bart
from utils.train import ChunkedCrossEntropy, token_loss

VOCAB_SIZE, MASK, SEP, CLS, FIRST_EXTRA = 6144, 3, 4, 5, 7
PIECE = 4  # T5 begins with texts of so many times its sight


@cache
def stops():
    """The ids of the zoo's tokens that end a sentence: a stop, perhaps with a quotation mark behind it."""
    from tokenizers import Tokenizer

    from utils import zoo

    words = Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json")).get_vocab()
    return tuple(sorted(i for word, i in words.items() if word.strip("Ġ").rstrip("\"'") in (".", "!", "?")))


def near(ids, sight=None):
    """Who may look at whom, (B, T, T), where sight (B,) is short; None where it is not."""
    T = ids.size(1)
    if sight is None or sight[0] >= T:
        return None
    places = torch.arange(T, device=ids.device)
    return (places - places[:, None]).abs() <= sight[:, None, None]


def following(model, batch, generator):
    """GPT and LLaMA: each token from those before it."""
    return token_loss(model, batch[0][:, :-1], batch[0][:, 1:])


def blanks(model, batch, generator):
    """RoBERTa: masks drawn anew each time, no pairs (Liu et al. 2019, section 4)."""
    inputs, targets = bert.mask_tokens(batch[0], generator, VOCAB_SIZE, MASK)
    return bert.masked_loss(model, inputs, targets, near(*batch))


def paired(pairs):
    """Masks, and a question about two pieces of a text, which `pairs` makes."""

    def objective(model, batch, generator):
        ids, segments, label = pairs(batch[0][:, :-3], generator, SEP, CLS)
        inputs, targets = bert.mask_tokens(ids, generator, VOCAB_SIZE, MASK)
        return bert.pretraining_loss(model, inputs, segments, targets, label, near(ids, *batch[1:]))

    return objective


def replaced(model, batch, generator):
    """ELECTRA: a generator fills masks, a discriminator says what it has replaced (Clark et al. 2020)."""
    return bert_family.electra_loss(model, batch[0], generator, mask=near(*batch))


def permuted(model, batch, generator):
    """XLNet: the last sixth of a random order from all before it in that order (Yang et al. 2019)."""
    return bert_family.permutation_loss(model, *batch, generator)


def written(model, source, target, mask=None):
    """The loss of what an encoder-decoder writes, its logits never held all at once; targets below 0 do not count."""
    states = (
        model.hidden(source, t5_and_bart.shift_right(target, model.config.start), mask) * model.head.scale
    )
    return ChunkedCrossEntropy.apply(states.flatten(0, 1), model.head.weight, target.flatten(), 512)


def spans(model, batch, generator):
    """T5: what stood in the holes (Raffel et al. 2020, section 3.1.4); where sight is short, of shorter texts."""
    ids, *sight = batch
    if sight:
        ids = ids.reshape(-1, min(ids.size(1), PIECE * int(sight[0][0])))
    return written(model, *t5_and_bart.corrupt_spans(ids, generator))


def noise(model, batch, generator):
    """BART: the text before the noise (Lewis et al. 2020, section 2.2)."""
    (ids,) = batch
    source, mask = t5_and_bart.denoise(ids, generator, stops())
    return written(model, source, ids, mask)


class Pupil(nn.Module):
    """A student beside its teacher, which does not learn."""

    def __init__(self, teacher, n_layers=2):
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        self.student = bert_family.start_from_teacher(teacher, n_layers)
        self.config = self.student.config


def imitated(model, batch, generator):
    """DistilBERT: the teacher's guesses, the masks, the teacher's states (Sanh et al. 2019)."""
    inputs, targets = bert.mask_tokens(*batch, generator, VOCAB_SIZE, MASK)
    return bert_family.distillation_loss(model.student, model.teacher, inputs, targets)


def pairs(model, batch, generator):
    """Sentence-BERT: find your own partner among those of all others (Reimers and Gurevych 2019)."""
    encode = lambda ids, mask: sentence_embeddings.mean_pool(model.hidden(ids, mask).float(), mask)
    return sentence_embeddings.pair_loss(encode, batch[:2], batch[2:])


OBJECTIVES = {
    "pairs": pairs,
    "following": following,
    "blanks": blanks,
    "blanks and next sentences": paired(bert.next_sentence_pairs),
    "blanks and sentence order": paired(bert_family.sentence_order_pairs),
    "replaced tokens": replaced,
    "permuted": permuted,
    "spans": spans,
    "noise": noise,
    "imitation": imitated,
}
