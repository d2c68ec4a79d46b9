"""The code of lesson 14_t5_and_bart, for the pages after it.

Made from the cells tagged `export` of notebooks/14_t5_and_bart.ipynb.
Never edit: change the page, then `make made`.
"""

import math
import re
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import Attention, causal_mask
from utils.lessons.bert import BertFeedForward, initialise
from utils.lessons.gpt import KVCache
from utils.lessons.transformer import Block, Config, DecoderBlock, Stack, Transformer


def hide(ids, away, first_extra=7, eos=2):
    """Put one sentinel, <extra_0>, <extra_1>, …, where each span of ids (B, n) is taken away.

    away: (B, n), True for the tokens to take away, in every row as many and in as many spans
    Returns what is left, with <eos> after it.
    """
    starts = away & ~F.pad(away, (1, 0))[:, :-1]  # the first token of every span
    sentinels = first_extra - 1 + starts.cumsum(1)
    left = torch.where(starts, sentinels, ids)[starts | ~away].view(len(ids), -1)
    return F.pad(left, (0, 1), value=eos)


def split_lengths(B, total, parts, generator):
    """Cut `total` tokens into `parts` pieces of one token or more, all ways equally likely: (B, parts)."""
    order = torch.rand(B, total - 1, generator=generator, device=generator.device).argsort(1)
    cuts = order[:, : parts - 1].sort(1).values + 1  # places between two tokens, each used once
    return F.pad(F.pad(cuts, (1, 0), value=0), (0, 1), value=total).diff(dim=1)


def draw_spans(B, n, generator, rate=0.15, mean_length=3):
    """Which of n tokens fall into spans, (B, n): about `rate` of them, the first never.

    Source: Raffel et al. 2020, section 3.1.4; the lengths as in T5's code.
    """
    away = min(max(round(n * rate), 1), n - 1)
    spans = min(max(round(away / mean_length), 1), n - away)
    kept, taken = (split_lengths(B, total, spans, generator) for total in (n - away, away))
    ends = torch.stack([kept, taken], dim=-1).flatten(1).cumsum(1)  # kept, taken, kept, taken, …
    places = torch.arange(n, device=ends.device).expand(B, n).contiguous()
    return torch.searchsorted(ends, places, right=True) % 2 == 1


def corrupt_spans(ids, generator, first_extra=7, eos=2, rate=0.15, mean_length=3):
    """T5's task: the text with holes, and what was in the holes.

    ids: (B, n) → source (B, S) and target (B, T), the same lengths in every row
    Source: Raffel et al. 2020, section 3.1.4.
    """
    away = draw_spans(*ids.shape, generator, rate, mean_length)
    return hide(ids, away, first_extra, eos), hide(ids, ~away, first_extra, eos)


def drop_tokens(ids, keep, pad=0):
    """The tokens of ids (B, n) where `keep` is True, in order, moved to the left: (B, longest row)."""
    order = (~keep).long().argsort(dim=1, stable=True)[:, : keep.sum(1).max()]
    return ids.gather(1, order).masked_fill(~keep.gather(1, order), pad)


def token_masking(ids, generator, rate=0.3, mask=3):
    """A <mask> in place of each token that chance picks."""
    draw = {"generator": generator, "device": ids.device}
    return ids.masked_fill(torch.rand(ids.shape, **draw) < rate, mask)


def token_deletion(ids, generator, rate=0.3, pad=0):
    """Without the tokens that chance picks: the reader must also find out where something is missing."""
    draw = {"generator": generator, "device": ids.device}
    return drop_tokens(ids, torch.rand(ids.shape, **draw) >= rate, pad)


def text_infilling(ids, generator, rate=0.3, mean_length=3, mask=3, pad=0):
    """One <mask> for each of some spans, whose lengths are Poisson; a span of length 0 is only inserted.

    ids: (B, n) → (B, S), filled with `pad`. `rate` of the tokens go, on average.
    """
    B, n = ids.shape
    spans = max(round(rate * n / mean_length), 1)
    mean = torch.full((B, spans), float(mean_length), device=ids.device)
    lengths = torch.poisson(mean, generator).long()
    lengths = lengths * (lengths.cumsum(1) <= n)  # what the text cannot hold becomes 0
    slots = n - lengths.sum(1, keepdim=True) + spans  # (B, 1) tokens and masks of the new text
    places = torch.arange(n + spans, device=ids.device).expand(B, -1)
    keys = torch.rand(places.shape, generator=generator, device=ids.device) + 2.0 * (places >= slots)
    chosen = keys.argsort(1)[:, :spans]  # which slots are masks
    sizes = torch.ones_like(places).scatter(1, chosen, lengths)  # tokens that each slot takes
    is_mask = torch.zeros_like(places, dtype=torch.bool).scatter(1, chosen, True)
    starts = (sizes.cumsum(1) - sizes).clamp(max=n - 1)  # where each slot stands in ids
    source = ids.gather(1, starts).masked_fill(is_mask, mask)
    return source.masked_fill(places >= slots, pad)[:, : slots.max()]


def sentence_permutation(ids, generator, stops):
    """The sentences of ids (B, n) in random order; a sentence ends with a token of `stops`."""
    ends = torch.isin(ids, torch.tensor(stops, dtype=ids.dtype, device=ids.device))
    sentence = ends.long().cumsum(1) - ends.long()  # (B, n) 0 0 0 1 1 2 …
    rank = torch.rand(ids.shape, generator=generator, device=ids.device)
    rank = rank.gather(1, sentence)  # one random number for a whole sentence
    return ids.gather(1, rank.argsort(dim=1, stable=True))


def document_rotation(ids, generator):
    """The text begun at a token that chance picks, its beginning moved after its end."""
    B, n = ids.shape
    start = torch.randint(n, (B, 1), generator=generator, device=ids.device)
    return ids.gather(1, (torch.arange(n, device=ids.device) + start) % n)


def denoise(ids, generator, stops=(), rate=0.3, mean_length=3, mask=3, pad=0):
    """BART's final task: sentences permuted, then spans infilled; the target is `ids` itself.

    ids: (B, n) → source (B, S) and source_mask (B, S), True = a real token
    Source: Lewis et al. 2020, section 2.2.
    """
    source = sentence_permutation(ids, generator, stops)
    source = text_infilling(source, generator, rate, mean_length, mask, pad)[:, : ids.size(1)]
    return source, source != pad


def buckets(distance, both_ways, n_buckets=32, furthest=128):
    """The bucket of each distance, key minus query: near ones alone, far ones shared by their logarithm.

    both_ways: half of the buckets are for keys after the query; else such keys count as distance 0
    Source: Raffel et al. 2020, section 2.1.
    """
    first = torch.zeros_like(distance)
    if both_ways:
        n_buckets //= 2
        first = (distance > 0) * n_buckets  # keys after the query: the second half
    gap = distance.abs() if both_ways else (-distance).clamp(min=0)
    exact = n_buckets // 2
    steps = (gap.clamp(min=1).float() / exact).log() / math.log(furthest / exact)
    far = (exact + (steps * (n_buckets - exact)).long()).clamp(max=n_buckets - 1)
    return first + torch.where(gap < exact, gap, far)


@dataclass(frozen=True)
class T5Config(Config):
    """The shape of a T5; the defaults are the zoo's. `n_layers` are the encoder's."""

    vocab_size: int = 6144
    n_layers: int = 2
    n_decoder_layers: int | None = None  # None: as many as the encoder
    n_heads: int = 5
    d_model: int = 160
    d_head: int = 32
    d_ff: int = 640
    net: str = "relu"  # or "gated-gelu", as in T5 1.1
    n_buckets: int = 32
    furthest: int = 128
    scaled: bool = True  # the head divides its states by the root of D
    norm_eps: float = 1e-6
    start: int = 0  # what the decoder reads first


class T5Attention(Attention):
    """Heads of any width K, no biases, no division by the root of K (Raffel et al. 2020, section 2.1)."""

    scale = 1.0

    def __init__(self, config):
        nn.Module.__init__(self)
        self.n_heads, inner = config.n_heads, config.n_heads * config.d_head
        self.qkv = nn.Linear(config.d_model, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.d_model, bias=False)

    def project(self, x, memory=None):
        if memory is None:
            return super().project(x)
        apart = zip((x, memory, memory), self.qkv.weight.chunk(3), strict=True)
        return [F.linear(x, w).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x, w in apart]


class T5FeedForward(nn.Module):
    """ReLU's net without biases; in T5 1.1 a second matrix gates it, by GELU (Shazeer 2020)."""

    def __init__(self, config):
        super().__init__()
        D, M = config.d_model, config.d_ff
        self.gate = nn.Linear(D, M, bias=False) if config.net == "gated-gelu" else None
        self.up, self.down = nn.Linear(D, M, bias=False), nn.Linear(M, D, bias=False)

    def forward(self, x):
        if self.gate is None:
            return self.down(F.relu(self.up(x)))
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class T5Block(Block):
    """The pre-norm block of lesson 05 with T5's parts; its norm scales and does not centre."""

    make_attention, make_feed_forward, make_norm = T5Attention, T5FeedForward, nn.RMSNorm


class T5DecoderBlock(T5Block):
    """The same with a look into the memory."""

    make_cross = T5Attention


class T5Stack(Stack):
    """Blocks that share one table of biases: what a head adds to a score for the distance of the key."""

    make_block, looks_back = T5Block, False

    def make_inputs(self, config):
        self.distances = nn.Embedding(config.n_buckets, config.n_heads)

    def bias(self, T, S):
        """What is added to the scores of the last T of S queries, (1, H, T, S)."""
        places, c = torch.arange(S, device=self.distances.weight.device), self.config
        distance = places - places[S - T :, None]  # key minus query
        rows = buckets(distance, not self.looks_back, c.n_buckets, c.furthest)
        return self.distances(rows).permute(2, 0, 1)[None]

    def run(self, x, mask=None, cache=None, **how):
        T = x.size(1)
        S = T + (cache.length if cache is not None else 0)
        bias, mask = self.bias(T, S), causal_mask(T, S, x.device) if self.looks_back else mask
        bias = bias if mask is None else bias.masked_fill(~mask, -math.inf)
        return super().run(x, mask=bias, cache=cache, **how)


class T5Decoder(T5Stack):
    """The stack that writes: it looks back, and into the memory."""

    make_block, looks_back = T5DecoderBlock, True


class TiedHead(nn.Module):
    """States (B, T, D) → logits (B, T, V): times `scale`, times the embedding table, plus a bias if any."""

    def __init__(self, tokens, scale=1.0, bias=None):
        super().__init__()
        self.weight, self.scale = tokens.weight, scale
        self.register_buffer("bias", bias)  # BART stores one that is never learned, (1, V)

    def forward(self, states):
        return F.linear(states * self.scale, self.weight, None if self.bias is None else self.bias[0])


class Seq2Seq(Transformer):
    """Lesson 05's Transformer with other stacks, a head, and a cache for the one that writes.

    head: "language" for logits (B, T, V), None for the decoder's states (B, T, D)
    """

    def __init__(self, config, head="language"):
        nn.Module.__init__(self)
        self.config, self.kind = config, head
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder, self.decoder = self.make_encoder(config), self.make_decoder(self.writer(config))
        self.head = self.make_head(config) if head else None
        self.initialise()

    def writer(self, config):
        """The decoder's shape."""
        return replace(config, n_layers=config.n_decoder_layers or config.n_layers)

    def embed(self, ids):
        return self.tokens(ids)


def write(self, target, memory, looks=None, cache=None):
    """The decoder's states (B, T, D) for target (B, T); a KVCache holds what stands before, and grows."""
    states = self.decoder.run(self.embed(target), memory=memory, memory_mask=looks, cache=cache)
    if cache is not None:
        cache.length += target.size(1)
    return states


def decode(self, target, memory, looks=None, cache=None):
    """Logits (B, T, V) for the token after each of target (B, T); states where there is no head."""
    states = self.write(target, memory, looks, cache)
    return self.head(states) if self.head else states


def hidden(self, source, target, source_mask=None):
    """The states that the head reads, (B, T, D), for source (B, S) and target (B, T)."""
    return self.write(target, *self.encode(source, source_mask))


def forward(self, source, target, source_mask=None):
    """Logits (B, T, V), or states; source_mask (B, S), True = a real token."""
    return self.decode(target, *self.encode(source, source_mask))


Seq2Seq.write, Seq2Seq.decode, Seq2Seq.hidden, Seq2Seq.forward = write, decode, hidden, forward


def new_cache(self, batch, n_slots):
    """An empty cache for `batch` targets of up to `n_slots` tokens."""
    c, weight = self.decoder.config, self.tokens.weight
    K = getattr(c, "d_head", c.d_model // c.n_heads)
    return KVCache(c.n_layers, batch, c.n_heads, n_slots, K, weight.dtype, weight.device)


Seq2Seq.new_cache = new_cache


class T5(Seq2Seq):
    """T5: every task is text in, text out. Source: Raffel et al. 2020, section 2.1."""

    make_encoder, make_decoder = T5Stack, T5Decoder

    def make_head(self, config):
        return TiedHead(self.tokens, config.d_model**-0.5 if config.scaled else 1.0)

    def initialise(self):
        """T5's start: 1 over the root of what a matrix reads; queries smaller, as no score is divided."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif isinstance(module, T5Stack):
                nn.init.normal_(module.distances.weight, std=self.config.d_model**-0.5)
        for module in self.modules():
            if isinstance(module, T5Attention):
                module.qkv.weight.data.chunk(3)[0].mul_(self.config.d_head**-0.5)
        nn.init.normal_(self.tokens.weight, std=1.0)


def t5_from_published(self, state):
    """Their names made regular: the net is layer 2 of every block, its last matrix on the way up is `wi`."""
    state = {re.sub(r"^(encoder\.block\.\d+\.layer)\.1", r"\1.2", name): w for name, w in state.items()}
    return {name.replace(".wi_1.", ".wi."): w for name, w in state.items()}


def t5_to_published(self, state):
    """The same backwards."""
    state = {re.sub(r"^(encoder\.block\.\d+\.layer)\.2", r"\1.1", name): w for name, w in state.items()}
    up = ".wi." if self.config.net == "relu" else ".wi_1."
    return {name.replace(".wi.", up): w for name, w in state.items()}


T5.from_published, T5.to_published = t5_from_published, t5_to_published
T5.published_names = {
    "shared": "tokens", "block.0.layer.0.SelfAttention.relative_attention_bias": "distances",
    "block": "blocks", "final_layer_norm": "norm",
    **{f"layer.0.SelfAttention.{part}": f"attention.{part}" for part in "qkv"},
    **{f"layer.1.EncDecAttention.{part}": f"cross.{part}" for part in "qkv"},
    "layer.0.SelfAttention.o": "attention.out", "layer.1.EncDecAttention.o": "cross.out",
    "layer.0.layer_norm": "norm_1", "layer.1.layer_norm": "norm_cross", "layer.2.layer_norm": "norm_2",
    "layer.2.DenseReluDense.wi_0": "feed_forward.gate", "layer.2.DenseReluDense.wi": "feed_forward.up",
    "layer.2.DenseReluDense.wo": "feed_forward.down",
}  # fmt: skip
T5.published_ignored = ("EncDecAttention.relative_attention_bias.weight",)  # in old files; never used


T5.model_type, T5.make_config = "t5", T5Config
T5.published_classes = {"language": "T5ForConditionalGeneration", None: "T5Model"}
T5.published_config = {
    "vocab_size": "vocab_size", "num_layers": "n_layers", "num_decoder_layers": "n_decoder_layers",
    "num_heads": "n_heads", "d_model": "d_model", "d_kv": "d_head", "d_ff": "d_ff",
    "feed_forward_proj": "net", "relative_attention_num_buckets": "n_buckets",
    "relative_attention_max_distance": "furthest", "scale_decoder_outputs": "scaled",
    "layer_norm_epsilon": "norm_eps", "decoder_start_token_id": "start",
}  # fmt: skip
T5.published_optional = {
    "num_decoder_layers", "feed_forward_proj", "relative_attention_max_distance",
    "scale_decoder_outputs", "decoder_start_token_id",
}  # fmt: skip
T5.published_settings = {
    "feed_forward_proj": ("relu", "gated-gelu"), "tie_word_embeddings": True, "dropout_rate": 0.0
}  # fmt: skip


@dataclass(frozen=True)
class BartConfig(Config):
    """The shape of a BART; the defaults are the zoo's."""

    vocab_size: int = 6144
    n_positions: int = 128
    n_layers: int = 2
    n_heads: int = 5
    d_model: int = 160
    d_ff: int = 640
    n_decoder_layers: int = 2
    n_decoder_heads: int = 5
    d_decoder_ff: int = 640
    pad: int = 0
    start: int = 0


class BartBlock(Block):
    """The post-norm block of 2017 with the exact GELU."""

    make_feed_forward, norm_first = BertFeedForward, False


class BartDecoderBlock(DecoderBlock):
    """The same for the stack that writes."""

    make_feed_forward, norm_first = BertFeedForward, False


class BartStack(Stack):
    """A stack with its own learned positions, from row 2 on, and a norm before the first block."""

    make_block, unused = BartBlock, 2

    def make_inputs(self, config):
        self.positions = nn.Embedding(config.n_positions + self.unused, config.d_model)
        self.norm_inputs = nn.LayerNorm(config.d_model, eps=config.norm_eps)

    def run(self, x, cache=None, **how):
        first = self.unused + (cache.length if cache is not None else 0)
        places = torch.arange(first, first + x.size(1), device=x.device)
        return super().run(self.norm_inputs(x + self.positions(places)), cache=cache, **how)


class BartDecoder(BartStack):
    """The stack that writes."""

    make_block = BartDecoderBlock


class BART(Seq2Seq):
    """BART: a damaged text in, the whole text out. Source: Lewis et al. 2020, section 2."""

    make_encoder, make_decoder = BartStack, BartDecoder

    def writer(self, config):
        return replace(super().writer(config), n_heads=config.n_decoder_heads, d_ff=config.d_decoder_ff)

    def make_head(self, config):
        return TiedHead(self.tokens, bias=torch.zeros(1, config.vocab_size))

    def initialise(self):
        initialise(self)

    def from_published(self, state):
        """A bias that a file of the bare model does not hold is zero."""
        return {"final_logits_bias": torch.zeros(1, self.config.vocab_size), **state}

    def to_published(self, state):
        return state | ({"final_logits_bias": self.head.bias.detach().clone()} if self.head else {})


BART.model_type, BART.make_config, BART.published_prefix = "bart", BartConfig, "model."
BART.published_classes = {"language": "BartForConditionalGeneration", None: "BartModel"}
BART.published_config = {
    "vocab_size": "vocab_size", "max_position_embeddings": "n_positions", "d_model": "d_model",
    "encoder_layers": "n_layers", "encoder_attention_heads": "n_heads", "encoder_ffn_dim": "d_ff",
    "decoder_layers": "n_decoder_layers", "decoder_attention_heads": "n_decoder_heads",
    "decoder_ffn_dim": "d_decoder_ff", "pad_token_id": "pad", "decoder_start_token_id": "start",
}  # fmt: skip
BART.published_optional = {"pad_token_id", "decoder_start_token_id"}
BART.published_settings = {
    "activation_function": "gelu", "scale_embedding": False, "tie_word_embeddings": True, "dropout": 0.0
}  # fmt: skip
BART.published_names = {
    "shared": "tokens", "layers": "blocks", "embed_positions": "positions",
    "layernorm_embedding": "norm_inputs", "final_logits_bias": "head.bias",
    **{f"self_attn.{part}_proj": f"attention.{part}" for part in "qkv"},
    **{f"encoder_attn.{part}_proj": f"cross.{part}" for part in "qkv"},
    "self_attn.out_proj": "attention.out", "encoder_attn.out_proj": "cross.out",
    "self_attn_layer_norm": "norm_1", "encoder_attn_layer_norm": "norm_cross",
    "final_layer_norm": "norm_2", "fc1": "feed_forward.up", "fc2": "feed_forward.down",
}  # fmt: skip


def shift_right(target, start):
    """What the decoder reads: `start`, then the target (B, T) without its last token; below 0 means 0."""
    return F.pad(target[:, :-1], (1, 0), value=start).clamp(min=0)


def seq2seq_loss(model, source, target, source_mask=None, start=None):
    """Mean cross entropy in nats of target (B, T), given source (B, S); targets below 0 do not count."""
    asked, inputs = target >= 0, shift_right(target, model.config.start if start is None else start)
    states = model.hidden(source, inputs, source_mask)[asked]
    return F.cross_entropy(model.head(states).float(), target[asked])


@torch.no_grad()
def answer(model, source, n_new, source_mask=None, eos=2):
    """Up to n_new tokens for each source (B, S), always the likeliest: (B, n_new), 0 after `eos`."""
    memory, cache = model.encode(source, source_mask), model.new_cache(len(source), n_new)
    token, written = source.new_full((len(source), 1), model.config.start), []
    for _ in range(n_new):
        token = model.decode(token, *memory, cache=cache)[:, -1:].argmax(-1)
        written.append(token)
    text = torch.cat(written, dim=1)
    ended = (text == eos).cumsum(1) - (text == eos).long()
    return text.masked_fill(ended > 0, 0)
