"""The code of lesson 10_bert_family, for the pages after it.

Made from the cells tagged `export` of notebooks/10_bert_family.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import Heads
from utils.lessons.bert import (
    BERT,
    BertBlock,
    BertConfig,
    BertFeedForward,
    BertInputs,
    MaskedHead,
    initialise,
    mask_tokens,
)
from utils.lessons.transformer import Stack


@dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """The shape of a RoBERTa: one kind of segment; its table of places starts at pad + 1."""

    n_positions: int = 130
    norm_eps: float = 1e-5
    n_segments: int = 1


class RobertaInputs(BertInputs):
    """BERT's inputs, but the places are counted from pad + 1 and skip the padding."""

    def __init__(self, config):
        super().__init__(config)
        self.pad = config.pad

    def places(self, ids):
        real = (ids != self.pad).long()
        return real.cumsum(1) * real + self.pad


class RoBERTa(BERT):
    """BERT without pairs, with new masks every time. Source: Liu et al. 2019, section 4."""

    make_embeddings = RobertaInputs


@dataclass(frozen=True)
class AlbertConfig(BertConfig):
    """The shape of an ALBERT: d_embedding is E, the length of the vectors in its tables."""

    d_embedding: int = 64


class NarrowInputs(BertInputs):
    """Tables of short vectors and a matrix that lengthens them: V E + E D numbers, not V D."""

    always = True  # a matrix even where E = D

    def __init__(self, config):
        super().__init__(config)
        E, D = config.d_embedding, config.d_model
        self.project = nn.Linear(E, D) if self.always or E != D else nn.Identity()

    def size(self, config):
        return config.d_embedding

    def forward(self, ids, segments=None):
        """ids, segments: (B, T) → (B, T, D)"""
        return self.project(super().forward(ids, segments))


class AlbertFeedForward(BertFeedForward):
    bend = staticmethod(partial(F.gelu, approximate="tanh"))


class AlbertBlock(BertBlock):
    make_feed_forward = AlbertFeedForward


class AlbertHead(MaskedHead):
    bend = AlbertFeedForward.bend


class ALBERT(BERT):
    """BERT with one block, passed n_layers times, and short embeddings.

    Source: Lan et al. 2020, section 3.
    """

    make_block, make_embeddings, make_masked = AlbertBlock, NarrowInputs, AlbertHead

    def __init__(self, config, head=None):
        super().__init__(config, head)
        self.blocks = nn.ModuleList([self.blocks[0]] * config.n_layers)


def sentence_order_pairs(rows, generator, sep=4, cls=5):
    """Cut pieces of running text in two; swap the halves of about every second one.

    rows: (B, n) token ids   Returns, with h = n // 2, what `pretraining_loss` asks for:
    ids (B, 2 h + 3), [CLS] A [SEP] B [SEP]; segments (B, 2 h + 3), 0 up to the first [SEP],
    then 1; and in_order (B,), True where A does come first.
    Source: Lan et al. 2020, section 3.1.
    """
    B, h = len(rows), rows.size(1) // 2
    in_order = torch.rand(B, generator=generator, device=rows.device) < 0.5
    swapped = torch.cat([rows[:, h : 2 * h], rows[:, :h]], dim=1)
    rows = torch.where(in_order[:, None], rows[:, : 2 * h], swapped)
    start, end = rows.new_full((B, 1), cls), rows.new_full((B, 1), sep)
    ids = torch.cat([start, rows[:, :h], end, rows[:, h:], end], dim=1)
    segments = (torch.arange(2 * h + 3, device=rows.device) >= h + 2).long().expand(B, -1)
    return ids, segments, in_order


@dataclass(frozen=True)
class DistilBertConfig(BertConfig):
    """The shape of a DistilBERT: half the layers, no segments."""

    n_layers: int = 2
    n_segments: int = 0


class DistilBERT(BERT):
    """Half a BERT, taught by a whole one. Source: Sanh et al. 2019, section 3."""

    make_pooler = None


def start_from_teacher(teacher, n_layers=None):
    """A DistilBERT whose tables, head and blocks are copies of a BERT's that fills blanks.

    Of the L blocks it takes some evenly from the first to the last: of 12, 0 2 4 7 9 11, as in
    the released script. Segment 0, which a single text has, moves into the places.
    """
    c, L = teacher.config, teacher.config.n_layers
    n = n_layers or L // 2
    kept = "vocab_size", "n_positions", "n_heads", "d_model", "d_ff", "pad"
    config = DistilBertConfig(n_layers=n, **{k: getattr(c, k) for k in kept})
    student = DistilBERT(config, head="masked")
    taken = [round(i * (L - 1) / max(n - 1, 1)) for i in range(n)]
    parts = [(teacher.inputs, student.inputs), (teacher.head, student.head)]
    parts += [(teacher.blocks[layer], block) for layer, block in zip(taken, student.blocks)]
    for old, new in parts:
        new.load_state_dict(old.state_dict(), strict=False)  # only the segments are left over
    if hasattr(teacher.inputs, "segments"):
        student.inputs.positions.weight.data += teacher.inputs.segments.weight.data[0]
    return student


def distillation_loss(student, teacher, inputs, targets, T=2.0, weights=(5.0, 2.0, 1.0)):
    """5 x the teacher's softened guesses + 2 x the hidden tokens + 1 x the states' angle.

    inputs, targets: (B, T) as from `mask_tokens`. The first two are asked at the holes, the
    third at every token.
    Source: Sanh et al. 2019, section 3; the weights as in the released command.
    """
    asked = targets >= 0
    with torch.no_grad():
        wanted = teacher.hidden(inputs)
        guesses = (teacher.head(wanted[asked]).float() / T).softmax(-1)
    states = student.hidden(inputs)
    logits = student.head(states[asked]).float()  # (holes, V)
    soft = F.kl_div((logits / T).log_softmax(-1), guesses, reduction="sum") * T**2
    hard = F.cross_entropy(logits, targets[asked], reduction="sum")
    angle = 1 - F.cosine_similarity(states.float(), wanted.float(), dim=-1).mean()
    holes = asked.sum().clamp(min=1)
    return weights[0] * soft / holes + weights[1] * hard / holes + weights[2] * angle


@dataclass(frozen=True)
class ElectraConfig(BertConfig):
    """The shape of an ELECTRA's discriminator; that of its generator: `generator_config`."""

    d_embedding: int = 160


class ElectraInputs(NarrowInputs):
    always = False


class ReplacedHead(nn.Module):
    """States (B, T, D) → one logit for each token (B, T): above 0 it has been replaced."""

    def __init__(self, config):
        super().__init__()
        self.first = nn.Linear(config.d_model, config.d_model)
        self.last = nn.Linear(config.d_model, 1)

    def forward(self, states):
        return self.last(F.gelu(self.first(states))).squeeze(-1)


class ELECTRA(BERT):
    """BERT's encoder; its head fills holes ("masked") or finds false tokens ("replaced").

    Source: Clark et al. 2020, section 2.
    """

    make_embeddings, make_pooler = ElectraInputs, None

    def __init__(self, config, head=None):
        super().__init__(config, head)
        if head == "replaced":
            self.head = ReplacedHead(config)
            initialise(self.head)


def generator_config(config, d_model=48, n_heads=3):
    """The generator that goes with a discriminator: as deep, the same tables, but narrow."""
    return replace(config, d_model=d_model, n_heads=n_heads, d_ff=4 * d_model)


class ElectraPair(nn.Module):
    """Generator and discriminator, which share their tables of tokens and places.

    Source: Clark et al. 2020, section 3.2.
    """

    def __init__(self, config_generator=None, config_discriminator=None):
        super().__init__()
        self.config = config_discriminator or ElectraConfig()
        self.discriminator = ELECTRA(self.config, head="replaced")
        narrow = config_generator or generator_config(self.config)
        self.generator = ELECTRA(narrow, head="masked")
        tables, inputs = self.discriminator.inputs, self.generator.inputs
        inputs.tokens, inputs.positions = tables.tokens, tables.positions
        self.generator.head.weight = tables.tokens.weight


def corrupt(pair, ids, generator, rate=0.15, mask_id=3, mask=None):
    """Holes in ids (B, T), filled with what the pair's generator draws.

    Returns the filled text (B, T), which no gradient passes, and the generator's loss in nats.
    """
    _, targets = mask_tokens(ids, generator, pair.config.vocab_size, mask_id, rate)
    asked = targets >= 0
    states = pair.generator.hidden(ids.masked_fill(asked, mask_id), mask)
    logits = pair.generator.head(states[asked]).float()  # (holes, V)
    race = torch.empty_like(logits).exponential_(generator=generator)
    drawn = (logits.detach().softmax(-1) / race).argmax(-1)  # a sample from the softmax
    loss = F.cross_entropy(logits, ids[asked], reduction="sum") / asked.sum().clamp(min=1)
    return ids.masked_scatter(asked, drawn), loss


def electra_loss(model, ids, generator, rate=0.15, mask_id=3, weight=50.0, mask=None):
    """The generator's loss at the holes + 50 x the discriminator's at every token, in nats.

    model: an ElectraPair   ids: (B, T). A token drawn as it had been counts as original.
    Source: Clark et al. 2020, section 2.
    """
    filled, filling = corrupt(model, ids, generator, rate, mask_id, mask)
    verdicts = model.discriminator(filled, mask).float()  # (B, T)
    replaced = (filled != ids).float()
    return filling + weight * F.binary_cross_entropy_with_logits(verdicts, replaced)


def order_mask(order, n_given=0):
    """Who sees whom, (B, T, T), where order (B, T) names the position that is read 1st, 2nd, …

    The n_given first ones are the given text: they see each other. Each later one, and the
    query row at its position, sees the given ones and those read before it.
    """
    rank = (order.argsort(-1) + 1 - n_given).clamp(min=0)  # (B, T), 0 for the given ones
    return rank[:, None, :] < rank[:, :, None].clamp(min=1)


def distances(T, D, like):
    """The vectors of the distances T, …, 1 - T, (2 T, D): sines, then cosines (lesson 04)."""
    rates = 10_000 ** -(torch.arange(0, D, 2, device=like.device) / D)
    angles = torch.arange(T, -T, -1, device=like.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(like.dtype)


def shift(scores, rows=None):
    """Scores by distance, (B, H, N, 2 T), → scores by position, (B, H, N, T).

    A query's row holds the distances T … 1 - T; from position i, position j is i - j away.
    rows: None where the N = T rows are the positions 0 … T - 1, else their positions (B, N)
    """
    T = scores.size(-1) // 2
    if rows is None:  # the wanted numbers lie on a slant; rows one shorter set it upright
        return scores.flatten(2)[..., T:].unflatten(2, (T, 2 * T - 1))[..., :T]
    columns = T - rows[:, None, :, None] + torch.arange(T, device=rows.device)  # (B, 1, N, T)
    return scores.gather(-1, columns.expand(-1, scores.size(1), -1, -1))


class RelativeAttention(Heads):
    """Attention that scores what a token is, how far away, and whether of the same segment.

    Source: Dai et al. 2019, section 3.3; Yang et al. 2019, section 2.5.
    """

    bias = False

    def __init__(self, config):
        super().__init__(config)
        H, D = config.n_heads, config.d_model
        self.places = nn.Linear(D, D, bias=False)
        self.bias_content, self.bias_place, self.bias_segment = (
            nn.Parameter(torch.zeros(H, D // H)) for _ in range(3)
        )
        self.segments = nn.Parameter(torch.zeros(2, H, D // H))  # same segment, another


def scores(self, q, k, far, others, rows):
    """Scores (B, H, T + N, T) of q (B, H, T + N, K) and k (B, H, T, K); see `forward`."""
    T = k.size(2)
    r = self.places(far).unflatten(-1, (self.n_heads, -1)).permute(1, 2, 0)  # (H, K, 2 T)
    by_distance = (q + self.bias_place[:, None]) @ r
    by_place = shift(by_distance[:, :, :T])
    if rows is not None:
        by_place = torch.cat([by_place, shift(by_distance[:, :, T:], rows)], dim=2)
    scores = (q + self.bias_content[:, None]) @ k.mT + by_place
    if others is not None:
        by_segment = (q + self.bias_segment[:, None]) @ self.segments.permute(1, 2, 0)
        scores = scores + torch.where(others, by_segment[..., 1:], by_segment[..., :1])
    return scores / math.sqrt(q.size(-1))


def forward(self, x, far, mask=None, others=None, rows=None, layer=0):
    """x: (B, T + N, D), the text and N query rows at positions `rows` (B, N) → the same shape.

    far: (2 T, D) from `distances`   mask, others: (B, 1, T + N, T), True where a row may look,
    and where the two are of different segments
    """
    q, k, v = self.project(x, None if rows is None else x[:, : len(far) // 2])
    scores = self.scores(q, k, far, others, rows)
    if mask is None:
        return self.join(scores.softmax(-1) @ v)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return self.join(weights.masked_fill(~mask, 0) @ v)  # who sees no one gets nothing


RelativeAttention.scores, RelativeAttention.forward = scores, forward


@dataclass(frozen=True)
class XLNetConfig:
    """The shape of an XLNet; texts may be of any length."""

    vocab_size: int = 6144
    n_layers: int = 4
    n_heads: int = 5
    d_model: int = 160
    norm_eps: float = 1e-12
    d_ff: int = 640


class XLNetBlock(BertBlock):
    make_attention = RelativeAttention


class XLNet(Stack):
    """An encoder that reads in any order; head "language" for logits (Yang et al. 2019)."""

    make_block = XLNetBlock

    def __init__(self, config, head=None):
        super().__init__(config)
        self.kind, self.head = head, None
        if head:
            self.head = nn.Linear(config.d_model, config.vocab_size)
            self.head.weight = self.tokens.weight
        initialise(self)


def make_inputs(self, config):
    self.tokens = nn.Embedding(config.vocab_size, config.d_model)
    self.blank = nn.Parameter(torch.zeros(1, 1, config.d_model))  # a query row's start


def hidden(self, ids, mask=None, segments=None, sees=None, targets=None):
    """The states (B, T, D) of the text ids (B, T); with targets, of its query rows, (B, N, D).

    mask: (B, T), True = a real token   sees: (B, T, T), True where a position may look at
    another; each token always sees itself   targets: (B, N), the query rows' positions
    """
    (B, T), to = ids.shape, {"device": ids.device}
    x, at, looks, others = self.tokens(ids), torch.arange(T, **to).expand(B, T), None, None
    if sees is not None or mask is not None or targets is not None:
        sees = torch.ones(B, T, T, dtype=torch.bool, **to) if sees is None else sees
        sees = sees if mask is None else sees & mask[:, None]
        looks = sees | torch.eye(T, dtype=torch.bool, **to)
    if targets is not None:
        x = torch.cat([x, self.blank.expand(B, targets.size(1), -1)], dim=1)
        at = torch.cat([at, targets], dim=1)
        looks = torch.cat([looks, sees.gather(1, targets[..., None].expand(-1, -1, T))], dim=1)
    if segments is not None:
        others = (segments.gather(1, at)[..., None] != segments[:, None])[:, None]
    looks = None if looks is None else looks[:, None]
    how = {"far": distances(T, x.size(-1), x), "mask": looks}
    x = self.run(x, **how, others=others, rows=targets)
    return x if targets is None else x[:, T:]


def forward(self, ids, mask=None, segments=None, sees=None, targets=None):
    """ids: (B, T) → logits (B, T or N, V) with a head, else states; rest as in `hidden`."""
    states = self.hidden(ids, mask, segments, sees, targets)
    return self.head(states) if self.head else states


XLNet.make_inputs, XLNet.hidden, XLNet.forward = make_inputs, hidden, forward


def permutation_loss(model, ids, generator, share=6):
    """The nats that the last T // share tokens of ids (B, T) in a random order cost.

    Each is guessed from all that was read before it.
    Source: Yang et al. 2019, sections 2.3, 2.4; given tokens see each other as in their code.
    """
    B, T = ids.shape
    order = torch.rand(B, T, generator=generator, device=ids.device).argsort(-1)
    n_given = T - T // share
    targets = order[:, n_given:]
    logits = model(ids, sees=order_mask(order, n_given), targets=targets).float()  # (B, N, V)
    return F.cross_entropy(logits.flatten(0, 1), ids.gather(1, targets).flatten())


def renamed(text):
    """A table {their name: ours} from "theirs=ours theirs=ours …"."""
    return dict(pair.split("=") for pair in text.split())


TABLES = {old: new for old, new in BERT.published_names.items() if new.startswith("inputs.")}
HEADS = "head.", "next"
BODY = {old: new for old, new in BERT.published_names.items() if not new.startswith(HEADS)}


RoBERTa.model_type, RoBERTa.make_config = "roberta", RobertaConfig
RoBERTa.published_prefix = "roberta."
RoBERTa.published_classes = {None: "RobertaModel", "masked": "RobertaForMaskedLM"}
RoBERTa.published_names = BODY | renamed(
    "lm_head.dense=head.dense lm_head.layer_norm=head.norm lm_head.bias=head.bias"
)


ALBERT.model_type, ALBERT.make_config = "albert", AlbertConfig
ALBERT.published_prefix = "albert."
ALBERT.published_classes = {None: "AlbertModel", "masked": "AlbertForMaskedLM"}
ALBERT.published_classes["pretraining"] = "AlbertForPreTraining"
ALBERT.published_config = BERT.published_config | {"embedding_size": "d_embedding"}
ALBERT.published_settings = BERT.published_settings | {"hidden_act": "gelu_new"}
ALBERT.published_settings |= {"num_hidden_groups": 1, "inner_group_num": 1}
ALBERT.published_names = TABLES | renamed("""
    encoder.embedding_hidden_mapping_in=inputs.project
    encoder.albert_layer_groups.0.albert_layers=blocks
    attention.query=attention.q attention.key=attention.k attention.value=attention.v
    attention.dense=attention.out attention.LayerNorm=norm_1
    ffn=feed_forward.up ffn_output=feed_forward.down
    full_layer_layer_norm=norm_2 pooler=pooler.dense predictions.dense=head.dense
    predictions.LayerNorm=head.norm predictions.bias=head.bias
    sop_classifier.classifier=next""")


DistilBERT.model_type, DistilBERT.make_config = "distilbert", DistilBertConfig
DistilBERT.published_prefix = "distilbert."
DistilBERT.published_classes = {"masked": "DistilBertForMaskedLM", None: "DistilBertModel"}
DistilBERT.published_config = renamed("""
    vocab_size=vocab_size max_position_embeddings=n_positions n_layers=n_layers n_heads=n_heads
    dim=d_model hidden_dim=d_ff pad_token_id=pad""")
DistilBERT.published_optional = {"pad_token_id"}
DistilBERT.published_settings = {"activation": "gelu", "sinusoidal_pos_embds": False}
DistilBERT.published_settings |= {"dropout": 0.0, "attention_dropout": 0.0}
DistilBERT.published_names = TABLES | renamed("""
    transformer.layer=blocks attention.q_lin=attention.q attention.k_lin=attention.k
    attention.v_lin=attention.v attention.out_lin=attention.out sa_layer_norm=norm_1
    ffn.lin1=feed_forward.up ffn.lin2=feed_forward.down output_layer_norm=norm_2
    vocab_transform=head.dense vocab_layer_norm=head.norm vocab_projector=head""")

ELECTRA.model_type, ELECTRA.make_config = "electra", ElectraConfig
ELECTRA.published_prefix = "electra."
ELECTRA.published_classes = {"replaced": "ElectraForPreTraining"}
ELECTRA.published_classes |= {"masked": "ElectraForMaskedLM", None: "ElectraModel"}
ELECTRA.published_config = ALBERT.published_config
ELECTRA.published_names = BODY | renamed("""
    embeddings_project=inputs.project discriminator_predictions.dense=head.first
    discriminator_predictions.dense_prediction=head.last generator_predictions.dense=head.dense
    generator_predictions.LayerNorm=head.norm generator_lm_head=head""")


XLNet.model_type, XLNet.make_config = "xlnet", XLNetConfig
XLNet.published_prefix = "transformer."
XLNet.published_classes = {"language": "XLNetLMHeadModel", None: "XLNetModel"}
XLNet.published_config = renamed("""
    vocab_size=vocab_size n_layer=n_layers n_head=n_heads d_model=d_model d_inner=d_ff
    layer_norm_eps=norm_eps""")
XLNet.published_optional = {"layer_norm_eps"}
XLNet.published_settings = {"ff_activation": "gelu", "attn_type": "bi", "bi_data": False}
XLNet.published_settings |= {"dropout": 0.0, "clamp_len": -1, "same_length": False}
XLNet.published_names = renamed("""
    word_embedding=tokens mask_emb=blank layer=blocks
    rel_attn.q=attention.q rel_attn.k=attention.k rel_attn.v=attention.v
    rel_attn.o=attention.out rel_attn.r=attention.places
    rel_attn.r_w_bias=attention.bias_content rel_attn.r_r_bias=attention.bias_place
    rel_attn.r_s_bias=attention.bias_segment rel_attn.seg_embed=attention.segments
    rel_attn.layer_norm=norm_1 ff.layer_1=feed_forward.up ff.layer_2=feed_forward.down
    ff.layer_norm=norm_2 lm_loss=head""")
MATRICES = tuple(f".rel_attn.{letter}" for letter in "qkvor")


def from_published(self, state):
    """The file's matrices (D, H, K) as linear layers': (H K, D); that called o: (D, H K)."""
    found = {}
    for name, w in state.items():
        if name.endswith(MATRICES):
            w = w.flatten(1) if name.endswith(".o") else w.flatten(1).T
            name += ".weight"
        found[name] = w
    return found


def to_published(self, state):
    """The way back: matrices of linear layers as (D, H, K)."""
    found = {}
    for name, w in state.items():
        theirs = name.removesuffix(".weight")
        if theirs.endswith(MATRICES):
            w = w if theirs.endswith(".o") else w.T
            name, w = theirs, w.unflatten(1, (self.config.n_heads, -1)).contiguous()
        found[name] = w
    return found


XLNet.from_published, XLNet.to_published = from_published, to_published
