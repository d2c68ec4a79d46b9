"""The code of lesson 05_transformer, for the pages after it.

Made from the cells tagged `export` of notebooks/05_transformer.ipynb.
Never edit: change the page, then `make made`.
"""

import math
from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from utils.lessons.attention import Attention, sinusoids


@dataclass(frozen=True)
class Config:
    """The shape of a Transformer; the defaults train on a laptop in half a minute."""

    vocab_size: int = 64
    n_positions: int = 64
    n_layers: int = 2
    n_heads: int = 4
    d_model: int = 64
    norm_eps: float = 1e-5


class FeedForward(nn.Module):
    """Each position thinks for itself: M = 4 D numbers wide, a bend, and back.

    Source: Vaswani et al. 2017, section 3.3.
    """

    bend, bias = staticmethod(F.relu), True  # static: a plain function, that gets no self

    def __init__(self, config):
        super().__init__()
        D, M = config.d_model, self.width(config)
        self.up, self.down = nn.Linear(D, M, bias=self.bias), nn.Linear(M, D, bias=self.bias)

    def width(self, config):
        return 4 * config.d_model

    def forward(self, x):
        return self.down(self.bend(self.up(x)))


class Block(nn.Module):
    """Look around, perhaps look into a memory, then think; each is added to what was there.

    Source: Vaswani et al. 2017, section 3.1; pre-norm as in Radford et al. 2019, section 2.3.
    """

    make_attention, make_cross, make_feed_forward = Attention, None, FeedForward
    make_norm, norm_first = nn.LayerNorm, True

    def __init__(self, config):
        super().__init__()
        self.norm_1, self.attention = self.new_norm(config), self.make_attention(config)
        if self.make_cross:
            self.norm_cross, self.cross = self.new_norm(config), self.make_cross(config)
        self.norm_2, self.feed_forward = self.new_norm(config), self.make_feed_forward(config)

    def new_norm(self, config):
        return self.make_norm(config.d_model, eps=config.norm_eps)

    def add(self, x, norm, part, **how):
        """x + what the part finds; the norm comes before the part, or after the sum (post-norm)."""
        return x + part(norm(x), **how) if self.norm_first else norm(x + part(x, **how))

    def forward(self, x, mask=None, memory=None, memory_mask=None, **how):
        """x: (B, T, D)   memory: (B, S, D)   masks: True where a query may look → (B, T, D)"""
        x = self.add(x, self.norm_1, self.attention, mask=mask, **how)
        if self.make_cross:
            x = self.add(x, self.norm_cross, self.cross, mask=memory_mask, memory=memory)
        return self.add(x, self.norm_2, self.feed_forward)


class CausalAttention(Attention):
    """Attention that sees only what is before it, where no mask says otherwise."""

    is_causal = True


class DecoderBlock(Block):
    """A block that writes: it looks back over its own text, and into a memory."""

    make_attention, make_cross = CausalAttention, Attention


class Stack(nn.Module):
    """Blocks on top of each other, and the norm that pre-norm blocks leave to the end."""

    make_block = Block

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.make_inputs(config)
        self.blocks = nn.ModuleList(self.make_block(config) for _ in range(config.n_layers))
        last = self.blocks[-1]
        self.norm = last.new_norm(config) if last.norm_first else nn.Identity()

    def make_inputs(self, config):
        """What stands before the blocks, where a family has it: embeddings of symbols, of places."""

    def run(self, x, **how):
        """x: (B, T, D) through all blocks; `how`: their masks, memory, positions, cache."""
        for layer, block in enumerate(self.blocks):
            x = block(x, layer=layer, **how)
        return self.norm(x)


class Decoder(Stack):
    """A stack that looks back over what it has written, and into a memory."""

    make_block = DecoderBlock


class Transformer(nn.Module):
    """An encoder reads, a decoder writes; one table of embeddings reads, writes and chooses.

    Source: Vaswani et al. 2017, sections 3.1 and 3.4, here with pre-norm blocks.
    """

    def __init__(self, config, encoder=Stack, decoder=Decoder):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder, self.decoder = encoder(config), decoder(config)
        places = sinusoids(config.n_positions, config.d_model)
        self.register_buffer("places", places, persistent=False)
        nn.init.normal_(self.tokens.weight, std=config.d_model**-0.5)

    def embed(self, ids):
        """ids (B, T) → meaning plus place, (B, T, D); the root keeps both of one size."""
        return self.tokens(ids) * math.sqrt(self.config.d_model) + self.places[: ids.size(1)]

    def encode(self, source, real=None):
        """What the encoder makes of `source` (B, S), True in `real` where it is no filling.

        Returns the memory (B, S, D) and who may look at it, (B, 1, 1, S) or None.
        """
        looks = None if real is None else real[:, None, None]
        return self.encoder.run(self.embed(source), mask=looks), looks

    def decode(self, target, memory, looks=None):
        """Logits (B, T, V) for the symbol after each position of `target` (B, T)."""
        states = self.decoder.run(self.embed(target), memory=memory, memory_mask=looks)
        return states @ self.tokens.weight.T

    def forward(self, source, target, real=None):
        """Logits (B, T, V) for the symbol after each position of `target`, given `source`."""
        return self.decode(target, *self.encode(source, real))
