"""The code of lesson 19_distillation, for the pages after it.

Made from the cells tagged `export` of notebooks/19_distillation.ipynb.
Never edit: change the page, then `make made`.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.finetuning import batches, slope, update
from utils.lessons.sentence_embeddings import mean_pool, pad_right


def soft_loss(z, v, T=2.0):
    """T² times the divergence from the teacher's softened labels to the student's, in nats.

    z: the student's logits (B, C)   v: the teacher's (B, C), which get no gradient
    Source: Hinton, Vinyals and Dean 2015, section 2.
    """
    log_q, log_p = (z / T).log_softmax(-1), (v.detach() / T).log_softmax(-1)
    return T**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def centred_error(z, v):
    """Squared error of centred logits (B, C): what `soft_loss` becomes for T → ∞."""
    gap = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True)).detach()
    return gap.square().sum(-1).mean() / (2 * z.size(-1))


class WordStudent(nn.Module):
    """Word vectors, filters over three words each, their mean, a head.

    vectors: (V, D), to start from   index: {word: row}; words without a row are skipped
    """

    def __init__(self, vectors, index, n_classes=2, width=64, seed=0):
        super().__init__()
        self.index, self.table = index, nn.Embedding.from_pretrained(vectors.clone(), False)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.look = nn.Conv1d(vectors.size(1), width, 3, padding=1)
            self.head = nn.Linear(width, n_classes)

    def inputs(self, texts):
        """A list of texts → ids (B, words), mask (B, words) or None, True = real."""
        words = [re.findall(r"[a-z]+|'[a-z]+", text.lower()) for text in texts]
        known = [[self.index[word] for word in row if word in self.index] for row in words]
        return pad_right([row or [0] for row in known])

    def forward(self, ids, mask=None):
        """ids, mask: (B, words) → logits (B, C)."""
        x = self.table(ids)  # (B, words, D)
        if mask is not None:
            x = x * mask[..., None]
        found = F.relu(self.look(x.transpose(1, 2))).transpose(1, 2)  # (B, words, width)
        return self.head(mean_pool(found, mask))


def imitate(student, texts, targets, loss, steps=200, rate=3e-3, batch=32, seed=0, log=None):
    """Train `student` on what `targets` say of `texts`; the stop button leaves it usable.

    targets: (n, …), one for each text   loss: called as loss(logits, targets)
    """
    optimizer = torch.optim.Adam(student.parameters(), lr=rate, fused=True)
    try:
        for step, chosen in enumerate(batches(len(texts), batch, steps, seed)):
            optimizer.param_groups[0]["lr"] = rate * slope(step, steps)
            logits = student(*student.inputs([texts[i] for i in chosen]))
            value = loss(logits, targets[chosen])
            update(optimizer, value)
            if log:
                log(step, value.item())
    except KeyboardInterrupt:
        print(f"Stopped in step {step + 1} of {steps}: the student is usable as it is.")
    return student


@torch.no_grad()
def answers(student, texts):
    """A list of n texts → the student's logits (n, C)."""
    return student(*student.inputs(texts))
