"""The code of lesson 15_beyond_text, for the pages after it.

Made from the cells tagged `export` of notebooks/15_beyond_text.ipynb.
Never edit: change the page, then `make made`.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.bert import BertBlock, initialise
from utils.lessons.transformer import Config, Stack


@dataclass(frozen=True)
class HuBERTConfig(Config):
    """The shape of a HuBERT; the defaults are those of the published base model."""

    vocab_size: int = 32  # letters, where there is a head that writes them
    n_layers: int = 12
    n_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    widths: tuple = (512,) * 7  # channels, kernels, strides of the layers that read the wave
    kernels: tuple = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple = (5, 2, 2, 2, 2, 2, 2)
    wave_bias: bool = False
    wave_norm: str = "group"  # "group": one norm, in the first layer; "layer": one in each
    input_norm: bool = True
    place_width: int = 128
    place_groups: int = 16
    norm_first: bool = False
    hides: float = 0.05  # above 0 there is a learned vector for what is hidden


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of x (B, C, N)."""

    def forward(self, x):
        return super().forward(x.mT).mT


class WaveLayer(nn.Module):
    """One convolution of the ear, a norm where this layer has one, and GELU."""

    def __init__(self, config, i):
        super().__init__()
        C, before = config.widths[i], config.widths[i - 1] if i else 1
        kernel, stride = config.kernels[i], config.strides[i]
        self.conv = nn.Conv1d(before, C, kernel, stride, bias=config.wave_bias)
        self.norm_1 = ChannelNorm(C) if config.wave_norm == "layer" else nn.Identity()
        if config.wave_norm == "group" and i == 0:
            self.norm_1 = nn.GroupNorm(C, C)  # each channel over its whole length

    def forward(self, x):
        return F.gelu(self.norm_1(self.conv(x)))


class WaveInputs(nn.Module):
    """A wave (B, N) becomes frames (B, T, D), as in Baevski et al. 2020, section 2."""

    def __init__(self, config):
        super().__init__()
        C = config.widths[-1]
        self.layers = nn.Sequential(*(WaveLayer(config, i) for i in range(len(config.widths))))
        self.norm = nn.LayerNorm(C, config.norm_eps) if config.input_norm else nn.Identity()
        self.project = nn.Linear(C, config.d_model)

    def forward(self, wave):
        return self.project(self.norm(self.layers(wave[:, None]).mT))


class Places(nn.Module):
    """Where am I? A wide convolution over the frames (B, T, D) says it, from what is around.

    Its weight is kept as a size for each tap and a direction (Salimans and Kingma 2016).
    """

    def __init__(self, config):
        super().__init__()
        D, width, self.groups = config.d_model, config.place_width, config.place_groups
        self.size = nn.Parameter(torch.ones(1, 1, width))
        self.direction = nn.Parameter(torch.randn(D, D // self.groups, width))
        self.bias = nn.Parameter(torch.zeros(D))

    def forward(self, x):
        weight = self.size * self.direction / self.direction.norm(dim=(0, 1), keepdim=True)
        half = weight.size(-1) // 2
        around = F.conv1d(x.mT, weight, self.bias, padding=half, groups=self.groups)
        return F.gelu(around[..., : x.size(1)]).mT


class HuBERTBlock(BertBlock):
    """BERT's block; the larger models have their norms first."""

    def __init__(self, config):
        super().__init__(config)
        self.norm_first = config.norm_first


class HuBERT(Stack):
    """HuBERT: an encoder of sound that learns to name what is hidden (Hsu et al. 2021).

    head: None for the bare encoder, "letters" for one that writes what it hears
    """

    make_block = HuBERTBlock

    def __init__(self, config, head=None):
        super().__init__(config)
        self.kind, self.norm = head, self.blocks[0].new_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size) if head else None
        initialise(self.blocks)

    def make_inputs(self, config):
        self.inputs, self.places = WaveInputs(config), Places(config)
        if config.hides:
            self.hidden_frame = nn.Parameter(torch.rand(config.d_model))

    def n_frames(self, n):
        """How many frames a wave of n samples (a number or a tensor) becomes."""
        for kernel, stride in zip(self.config.kernels, self.config.strides):
            n = (n - kernel) // stride + 1
        return n

    def forward(self, wave, mask=None, hide=None):
        """wave: (B, N) → logits (B, T, V) where there is a head, else states (B, T, D)."""
        states = self.hidden(wave, mask, hide)
        return self.head(states) if self.head else states


def run(self, x, **how):
    """Through all blocks; the norm stands behind pre-norm blocks and before post-norm ones."""
    x = x if self.config.norm_first else self.norm(x)
    for layer, block in enumerate(self.blocks):
        x = block(x, layer=layer, **how)
    return self.norm(x) if self.config.norm_first else x


def hidden(self, wave, mask=None, hide=None):
    """The states of the last layer, (B, T, D), for waves (B, N).

    mask: (B, N), True = real sound, padded on the right   hide: (B, T), True = a hidden frame
    """
    x, looks = self.inputs(wave), None
    if hide is not None:
        x = torch.where(hide[..., None], self.hidden_frame, x)
    if mask is not None:
        real = torch.arange(x.size(1), device=x.device) < self.n_frames(mask.sum(1))[:, None]
        x, looks = x * real[..., None], real[:, None, None]
    return self.run(x + self.places(x), mask=looks)


HuBERT.run, HuBERT.hidden = run, hidden


HuBERT.model_type, HuBERT.make_config = "hubert", HuBERTConfig
HuBERT.published_classes = {None: "HubertModel", "letters": "HubertForCTC"}
HuBERT.published_config = {
    "vocab_size": "vocab_size",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "hidden_size": "d_model",
    "intermediate_size": "d_ff",
    "layer_norm_eps": "norm_eps",
    "conv_dim": "widths",
    "conv_kernel": "kernels",
    "conv_stride": "strides",
    "conv_bias": "wave_bias",
    "feat_extract_norm": "wave_norm",
    "feat_proj_layer_norm": "input_norm",
    "num_conv_pos_embeddings": "place_width",
    "num_conv_pos_embedding_groups": "place_groups",
    "do_stable_layer_norm": "norm_first",
    "mask_time_prob": "hides",
}
HuBERT.published_optional = {"feat_proj_layer_norm", "mask_time_prob", "layer_norm_eps"}
HuBERT.published_settings = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "conv_pos_batch_norm": False,
}
HuBERT.published_prefix = "hubert."
HuBERT.published_names = {
    "feature_extractor.conv_layers": "inputs.layers",
    "feature_projection.layer_norm": "inputs.norm",
    "feature_projection.projection": "inputs.project",
    "encoder.pos_conv_embed.conv": "places",
    "weight_g": "size",  # as older files call it
    "weight_v": "direction",
    "parametrizations.weight.original0": "size",
    "parametrizations.weight.original1": "direction",
    "encoder.layer_norm": "norm",
    "encoder.layers": "blocks",
    "masked_spec_embed": "hidden_frame",
    "attention.q_proj": "attention.q",
    "attention.k_proj": "attention.k",
    "attention.v_proj": "attention.v",
    "attention.out_proj": "attention.out",
    "layer_norm": "norm_1",
    "feed_forward.intermediate_dense": "feed_forward.up",
    "feed_forward.output_dense": "feed_forward.down",
    "final_layer_norm": "norm_2",
    "lm_head": "head",
}
