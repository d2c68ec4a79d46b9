"""The code of lesson 16_finetuning, for the pages after it.

Made from the cells tagged `export` of notebooks/16_finetuning.ipynb.
Never edit: change the page, then `make made`.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.sentence_embeddings import mean_pool, pad_right, token_batches


class Classifier(nn.Module):
    """An encoder and a head: the mean of the states over real tokens, then one linear map.

    body: lesson 11's SentenceEncoder; a copy is kept, so every classifier starts from the same
    seed: of the head's first weights, which are small
    """

    def __init__(self, body, n_classes, seed=0):
        super().__init__()
        self.body = deepcopy(body)
        self.head = nn.Linear(body.model.config.d_model, n_classes)
        draw = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.head.weight, std=0.02, generator=draw)
        nn.init.zeros_(self.head.bias)

    def inputs(self, texts):
        """A list of texts → what `forward` takes: ids (B, T), mask (B, T), True = real."""
        return pad_right(self.body.rows(texts), getattr(self.body.model.config, "pad", 0))

    def forward(self, ids, mask=None):
        """ids, mask: (B, T) → logits (B, C), one for each of C classes."""
        return self.head(mean_pool(self.body.model.hidden(ids, mask), mask))


@torch.no_grad()
def predict(model, texts, budget=1024):
    """A list of n texts → logits (n, C), computed in batches of like lengths."""
    lengths = [len(row) for row in model.body.rows(texts)]
    logits = torch.zeros(len(texts), model.head.out_features)
    for batch in token_batches(lengths, budget):
        logits[batch] = model(*model.inputs([texts[i] for i in batch]))
    return logits


def accuracy(model, rows):
    """The share of rows, each with a text and a label, that the model labels right."""
    labels = torch.tensor([row.label for row in rows])
    found = predict(model, [row.text for row in rows]).argmax(1)
    return (found == labels).float().mean().item()


def batches(n, size, steps, seed=0):
    """`steps` batches of row numbers out of n: shuffled anew after each round through all."""
    draw = torch.Generator().manual_seed(seed)
    size = min(size, n)
    rounds = -(-steps * size // n)  # rounded up
    order = torch.cat([torch.randperm(n, generator=draw) for _ in range(rounds)])
    return order.split(size)[:steps]


def slope(step, steps):
    """The share of the full rate at `step`: up in the first tenth, then straight down to 0."""
    rise = max(1, steps // 10)
    return min((step + 1) / rise, (steps - step) / (steps - rise + 1))


def update(optimizer, loss, clip=1.0):
    """One step down the slope of `loss`, its gradient at most `clip` long."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], clip)
    optimizer.step()


def finetune(model, rows, steps, rate, seed=0, batch=16, parameters=None, log=None):
    """Train `model` on rows with a text and a label; the stop button leaves a usable model.

    parameters: tensors, or AdamW's groups with a rate each; else all that want a gradient
    log: called as log(step, loss) after each step
    """
    parameters = parameters or [p for p in model.parameters() if p.requires_grad]
    groups = [dict(p) if isinstance(p, dict) else p for p in parameters]  # rates change
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.01, fused=True)
    tops = [group["lr"] for group in optimizer.param_groups]
    labels = torch.tensor([row.label for row in rows])
    model.train()
    try:
        for step, chosen in enumerate(batches(len(rows), batch, steps, seed)):
            logits = model(*model.inputs([rows[i].text for i in chosen]))
            loss = F.cross_entropy(logits, labels[chosen])
            for group, top in zip(optimizer.param_groups, tops):
                group["lr"] = top * slope(step, steps)
            update(optimizer, loss)
            if log:
                log(step, loss.item())
    except KeyboardInterrupt:
        print(f"Stopped in step {step + 1} of {steps}: the model is usable as it is.")
    finally:
        model.eval().zero_grad()  # gradients are as large as the model
    return model


OLD_TASKS = ("head", "pooler", "next")  # what a pretrained model has for its own task


def trainable(model, what):
    """Let "head", "last block" (and head) or "all" learn, no more; return what learns."""
    body = model.body.model
    whole = [part for name, part in body.named_children() if name not in OLD_TASKS]
    parts = {"head": [], "last block": [body.blocks[-1], body.norm], "all": whole}[what]
    learns = {id(p) for part in (model.head, *parts) for p in part.parameters()}
    for p in model.parameters():
        p.requires_grad_(id(p) in learns)
    return [p for p in model.parameters() if p.requires_grad]


@torch.no_grad()
def states_after(body, texts, n_blocks):
    """What the first `n_blocks` blocks of a body make of each text: {text: (T, D)}."""
    rows, states = body.rows(texts), {}
    for batch in token_batches([len(row) for row in rows], 1024):
        ids, mask = pad_right([rows[i] for i in batch])
        looks = None if mask is None else mask[:, None, None]
        x = body.model.inputs(ids)
        for block in body.model.blocks[:n_blocks]:
            x = block(x, mask=looks)
        states |= {texts[i]: kept[: len(rows[i])].clone() for i, kept in zip(batch, x)}
    return states


class Cached(nn.Module):
    """`model`, with what its first `n_frozen` blocks make of a text computed once and kept.

    Right as long as these blocks and the embeddings do not learn. Body, head: the model's.
    states: {text: (T, D)}, to be shared by classifiers over the same frozen blocks
    """

    def __init__(self, model, n_frozen, states=None):
        super().__init__()
        self.body, self.head, self.n_frozen = model.body, model.head, n_frozen
        self.states = {} if states is None else states

    def remember(self, texts):
        """Run the frozen blocks over the texts that are not known yet."""
        new = [text for text in dict.fromkeys(texts) if text not in self.states]
        self.states.update(states_after(self.body, new, self.n_frozen))

    def inputs(self, texts):
        """A list of texts → states before the upper blocks (B, T, D), mask (B, T)."""
        self.remember(texts)
        kept = [self.states[text] for text in texts]
        lengths = torch.tensor([len(states) for states in kept])
        mask = torch.arange(lengths.max()) < lengths[:, None]
        return nn.utils.rnn.pad_sequence(kept, True), mask

    def forward(self, x, mask):
        """x: (B, T, D), mask: (B, T) → logits (B, C)."""
        for block in self.body.model.blocks[self.n_frozen :]:
            x = block(x, mask=mask[:, None, None])
        return self.head(mean_pool(x, mask))


def layer_rates(model, rate, decay=0.8):
    """AdamW's groups: the head learns at `rate`, each floor below at `decay` of the one above.

    Source: Howard and Ruder 2018, section 3.2 ("discriminative fine-tuning").
    """
    body = model.body.model
    floors = [model.head, *reversed(body.blocks), body.inputs]  # from the roof down
    learning = [[p for p in floor.parameters() if p.requires_grad] for floor in floors]
    rates = [rate * decay**depth for depth in range(len(floors))]
    return [{"params": those, "lr": own} for those, own in zip(learning, rates) if those]
