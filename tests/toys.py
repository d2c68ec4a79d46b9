"""A tokenizer and models small enough to be made in a test."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from utils.lessons.gpt import GPT, GPTConfig

SPECIALS = ["<pad>", "<bos>", "<eos>"]


def byte_tokenizer():
    """One token for each byte, behind the special ones."""
    tokens = SPECIALS + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def sure_gpt(seed, n_positions):
    """A random GPT for `byte_tokenizer` that is sure of itself: no near ties."""
    torch.manual_seed(seed)
    config = GPTConfig(vocab_size=259, n_positions=n_positions, n_layers=2, n_heads=2, d_model=16)
    model = GPT(config).eval()
    with torch.no_grad():
        model.tokens.weight.mul_(20)
    return model
