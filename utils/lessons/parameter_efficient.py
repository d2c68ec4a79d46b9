"""The code of lesson 18_parameter_efficient, for the pages after it.

Made from the cells tagged `export` of notebooks/18_parameter_efficient.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.finetuning import Cached, batches, slope, update
from utils.lessons.sentence_embeddings import mean_pool, pad_right


class LoRA(nn.Module):
    """A frozen linear layer and a detour of rank r beside it: W x + (alpha / r) B A x.

    base: maps (…, inputs) to (…, outputs)   a: (r, inputs), random   b: (outputs, r), zero
    Source: Hu et al. 2021, section 4.1; a starts as in their code.
    """

    def __init__(self, base, rank=4, alpha=8, generator=None):
        super().__init__()
        outputs, inputs = base.weight.shape
        self.base, self.scale = base, alpha / rank
        self.a = nn.Parameter(base.weight.new_empty(rank, inputs))
        self.b = nn.Parameter(base.weight.new_zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5), generator=generator)

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.a), self.b * self.scale)

    @property
    def weight(self):
        """What the layer amounts to, (outputs, inputs): for all who look at its matrix."""
        return self.base.weight + self.scale * self.b @ self.a

    @property
    def bias(self):
        return self.base.bias


def wrap(model, where, make):
    """Freeze `model`; put make(layer) in the place of each layer whose name is in `where`.

    Returns the parameters that came with it: all that learns now.
    """
    places = [name for name, _ in model.named_modules() if name.split(".")[-1] in where]
    if not places:
        raise ValueError(f"no layer of {type(model).__name__} is called {' or '.join(where)}")
    model.requires_grad_(False)
    for name in places:
        parent, _, last = name.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, last, make(getattr(holder, last)))
    return learned(model)


def learned(model):
    """The parameters that learn."""
    return [p for p in model.parameters() if p.requires_grad]


EVERYWHERE = "qkv", "out", "up", "down"  # the matrices of our blocks


def add_lora(model, rank=4, alpha=8, where=("qkv",), seed=0):
    """LoRA on every layer that `where` names; the rest is frozen. Returns its a's and b's."""
    generator = torch.Generator().manual_seed(seed)
    return wrap(model, where, lambda layer: LoRA(layer, rank, alpha, generator))


@torch.no_grad()
def merge(model):
    """Add every detour to its matrix for good; return `model`, now an ordinary one again."""
    for name, layer in reversed(list(model.named_modules())):  # the innermost first
        if isinstance(layer, LoRA):
            layer.base.weight += layer.scale * layer.b @ layer.a
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.base)
    return model


@contextmanager
def without_lora(model):
    """Within the block the detours are closed: the model computes what its base does."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoRA)]
    scales = [layer.scale for layer in layers]
    try:
        for layer in layers:
            layer.scale = 0.0
        yield model
    finally:
        for layer, scale in zip(layers, scales):
            layer.scale = scale


class Adapter(nn.Module):
    """A layer and a bottleneck behind it, which adds to what it says.

    The layer says y, both say y + widen(gelu(narrow(y))).
    base: maps (…, inputs) to (…, D)   narrow: (m, D), random   widen: (D, m), zero
    Source: Houlsby et al. 2019, section 2.1; they start near zero, here it is zero.
    """

    def __init__(self, base, width=8, generator=None):
        super().__init__()
        D = base.weight.size(0)
        self.base, self.narrow, self.widen = base, nn.Linear(D, width), nn.Linear(width, D)
        nn.init.normal_(self.narrow.weight, std=D**-0.5, generator=generator)
        for zero in (self.narrow.bias, self.widen.weight, self.widen.bias):
            nn.init.zeros_(zero)

    def forward(self, x):
        y = self.base(x)
        return y + self.widen(F.gelu(self.narrow(y)))


def add_adapters(model, width=8, where=("out", "down"), seed=0):
    """An adapter behind each layer `where` names, the rest frozen. Returns what learns."""
    generator = torch.Generator().manual_seed(seed)
    return wrap(model, where, lambda layer: Adapter(layer, width, generator))


def only_biases(model):
    """Let nothing but the biases of `model` learn. Returns them."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("bias")
    return learned(model)


def some_tokens(table, n, seed):
    """The ids of n tokens of an embedding table, drawn with `seed`: (n,)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(table.weight), (n,), generator=generator)


class PromptTable(nn.Module):
    """A table of embeddings that answers the first n ids of a text with its own vectors."""

    def __init__(self, table, vectors):
        super().__init__()
        self.table, self.vectors = table, nn.Parameter(vectors)

    @property
    def weight(self):
        return self.table.weight

    def forward(self, ids):
        x = self.table(ids[:, len(self.vectors) :])  # (B, T, D)
        return torch.cat([self.vectors.expand(len(ids), -1, -1), x], dim=1)  # (B, n + T, D)


class Prompted(nn.Module):
    """A frozen model with n trained vectors in front of every text.

    vectors: (n, D), their start; by default those of n tokens drawn with `seed`
    Source: Lester et al. 2021, section 2; the start is theirs, too (section 3.2).
    """

    def __init__(self, model, n=10, seed=0, vectors=None):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.config, self.head = model.config, model.head
        holder = getattr(model, "inputs", model)  # where this family keeps its table
        if vectors is None:
            drawn = some_tokens(holder.tokens, n, seed)
            vectors = holder.tokens.weight[drawn].detach().clone()
        holder.tokens = PromptTable(holder.tokens, vectors)
        self.n = len(vectors)

    def hidden(self, ids, mask=None, **how):
        """The states (B, T, D) of the text alone; those of the prompt are cut off."""
        mask = None if mask is None else F.pad(mask, (self.n, 0), value=True)
        return self.model.hidden(F.pad(ids, (self.n, 0)), mask, **how)[:, self.n :]

    def forward(self, ids, mask=None, **how):
        """ids (B, T) → what the model says, (B, T, V) or (B, T, D)."""
        states = self.hidden(ids, mask, **how)
        return self.head(states) if self.head else states


@torch.no_grad()
def kept_of(model, ids):
    """What a decoder keeps of one text, ids (1, n), in its cache: (L, 2, H, n, K)."""
    model.hidden(ids, cache=(cache := model.new_cache(*ids.shape)))
    return torch.stack([cache.keys[:, 0], cache.values[:, 0]], dim=1)


class Prefix(nn.Module):
    """A frozen decoder whose cache holds n trained keys and values in every layer.

    state: (L, 2, H, n, K); by default what the model keeps of n tokens drawn with `seed`
    Source: Li and Liang 2021, section 4.2, without the net that makes the numbers there.
    """

    def __init__(self, model, n=10, seed=0, state=None):
        super().__init__()
        self.model = model.requires_grad_(False)
        self.config, self.head = model.config, model.head
        if state is None:
            state = kept_of(model, some_tokens(model.tokens, n, seed)[None])
        self.state, self.length = nn.Parameter(state), state.size(3)

    def append(self, layer, k, v):
        """What a layer may look at, (B, H, n + T, K): the trained ones, then the text's."""
        own = self.state[layer, :, None].expand(-1, len(k), -1, -1, -1)  # (2, B, H, n, K)
        return torch.cat([own[0], k], dim=2), torch.cat([own[1], v], dim=2)

    def hidden(self, ids, mask=None):
        """The states (B, T, D) of the text behind the prefix."""
        n = self.length = self.state.size(3)  # the model will count the text, too: begin anew
        mask = None if mask is None else F.pad(mask, (n, 0), value=True)
        return self.model.hidden(ids, mask, cache=self)

    def forward(self, ids, mask=None):
        """Logits (B, T, V), or states where there is no head."""
        states = self.hidden(ids, mask)
        return self.head(states) if self.head else states


class Upper(Cached):
    """A classifier of frozen lower blocks; something may stand in front of the upper ones.

    prompt: (n, D), vectors that every text reads first   state: (blocks, 2, H, n, K), a prefix
    """

    append = Prefix.append

    def __init__(self, model, n_frozen, states=None, prompt=None, state=None):
        super().__init__(model, n_frozen, states)
        self.prompt = None if prompt is None else nn.Parameter(prompt)
        self.state = None if state is None else nn.Parameter(state)
        self.body.requires_grad_(False)

    def forward(self, x, mask):
        """x: (B, T, D), mask: (B, T) → logits (B, C)."""
        n = more = 0 if self.prompt is None else len(self.prompt)
        if self.prompt is not None:
            x = torch.cat([self.prompt.expand(len(x), -1, -1), x], dim=1)
        if self.state is not None:
            more += self.state.size(3)
        looks = F.pad(mask, (more, 0), value=True)[:, None, None]
        cache = None if self.state is None else self
        for layer, block in enumerate(self.upper()):
            x = block(x, mask=looks, layer=layer, cache=cache)
        return self.head(mean_pool(x[:, n:], mask))

    def upper(self):
        return self.body.model.blocks[self.n_frozen :]


def first_states(model, texts, n, seed):
    """What block n_frozen reads of the first word of n texts, drawn with `seed`: (n, D)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(texts), generator=generator)[:n].tolist()
    return model.inputs([texts[i] for i in drawn])[0][:, 1].clone()


@torch.no_grad()
def keys_and_values(blocks, x):
    """What each of `blocks` keeps of x (n, D): (blocks, 2, H, n, K)."""
    x, kept = x[None], []
    for block in blocks:
        kept.append(torch.cat(list(block.attention.project(x)[1:])))
        x = block(x)
    return torch.stack(kept)


def put_inside(part, method, size, seed):
    """Let `method` of one `size` learn inside a model, or a part of it, and no more."""
    if method == "LoRA":
        add_lora(part, size, 2 * size, EVERYWHERE, seed)
    if method == "adapters":
        add_adapters(part, size, seed=seed)
    if method == "BitFit":
        only_biases(part)
    if method == "all":
        part.requires_grad_(True)


def adapt_classifier(model, method, size, n_frozen, states, texts, seed=0):
    """An `Upper` on lesson 16's Classifier, in which `method` and the head learn."""
    upper = Upper(model, n_frozen, states)
    if method in ("prompt", "prefix"):
        x = first_states(upper, texts, size, seed)
        if method == "prompt":
            return Upper(model, n_frozen, states, prompt=x)
        return Upper(model, n_frozen, states, state=keys_and_values(upper.upper(), x))
    put_inside(upper.upper(), method, size, seed)  # the method "head" puts nothing there
    return upper


def adapt_decoder(model, method, size, seed=0):
    """A decoder in which `method` learns."""
    if method == "prompt":
        return Prompted(model, size, seed)
    if method == "prefix":
        return Prefix(model, size, seed)
    put_inside(model, method, size, seed)
    return model


def next_tokens(rows):
    """Rows of ids → inputs (B, T) and targets (B, T), -1 where a row has ended."""
    ids, mask = pad_right(rows)
    targets = ids if mask is None else ids.masked_fill(~mask, -1)
    return ids[:, :-1], targets[:, 1:]


def text_loss(model, rows):
    """Mean cross entropy of the next tokens of `rows`, in nats, and how many there are."""
    inputs, targets = next_tokens(rows)
    logits = model(inputs).flatten(0, 1)
    return F.cross_entropy(logits, targets.flatten(), ignore_index=-1), (targets >= 0).sum()


@torch.no_grad()
def nats(model, rows, batch=32):
    """The loss of a decoder on rows of ids, in nats for each token."""
    rows = sorted(rows, key=len)
    found = [text_loss(model, rows[i : i + batch]) for i in range(0, len(rows), batch)]
    return (sum(loss * n for loss, n in found) / sum(n for _, n in found)).item()


def tune(model, rows, steps, rate, seed=0, batch=8, log=None):
    """Let what learns in a decoder learn from rows of ids; the stop button leaves it usable.

    log: called as log(step, loss) after each step
    """
    optimizer = torch.optim.AdamW(learned(model), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: slope(step, steps))
    try:
        for step, chosen in enumerate(batches(len(rows), batch, steps, seed)):
            loss, _ = text_loss(model, [rows[i] for i in chosen])
            update(optimizer, loss)
            schedule.step()
            if log:
                log(step, loss.item())
    except KeyboardInterrupt:
        print(f"Stopped in step {step + 1} of {steps}: the model is usable as it is.")
    return model
