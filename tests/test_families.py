"""Every family is transformers' own model: same weights in, same numbers out, through the folder format of both."""

import ast
import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
import transformers

from utils import family_table, zoo

SEEDS = range(20)
B, T = 3, 11


@dataclass(frozen=True)
class Family:
    """How to draw a small random model of transformers: `shape(rng)` gives the settings of its config class."""

    config: type
    shape: object
    classes: tuple
    left: bool = True  # padding on the left makes sense
    inputs: object = None  # (model, ids, mask) → keyword arguments for theirs, beyond ids and mask
    ours: object = None  # the same for ours
    pair: bool = False  # an encoder-decoder: it also takes a target
    tolerance: float = 1e-5
    length: int = T  # of one input
    waves: bool = False  # sound goes in: floats, fewer frames come out
    settings: dict = field(default_factory=dict)


def pick(rng, *choices):
    return choices[torch.randint(len(choices), (), generator=rng)]


def widths(rng):
    """Heads, width and layers, odd ones among them."""
    heads = pick(rng, 1, 2, 3, 4)
    return heads, heads * pick(rng, 4, 6, 10, 16), pick(rng, 1, 2, 3)


def bert_shape(rng):
    heads, width, layers = widths(rng)
    return {
        "vocab_size": pick(rng, 23, 50, 97),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": pick(rng, 7, 32, 4 * width),
        "max_position_embeddings": pick(rng, 16, 19),
        "pad_token_id": 0,
    }


def roberta_shape(rng):
    pad = pick(rng, 0, 1)
    return bert_shape(rng) | {
        "pad_token_id": pad,
        "type_vocab_size": pick(rng, 1, 2),
        "max_position_embeddings": T + pad + pick(rng, 1, 4),
    }


def albert_shape(rng):
    return bert_shape(rng) | {"embedding_size": pick(rng, 5, 8, 12)}


def electra_shape(rng):
    shape = bert_shape(rng)
    return shape | {"embedding_size": pick(rng, 5, 8, shape["hidden_size"])}


def distilbert_shape(rng):
    shape = bert_shape(rng)
    names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    names |= {"intermediate_size": "hidden_dim"}
    return {names.get(key, key): value for key, value in shape.items()}


def xlnet_shape(rng):
    heads, width, layers = widths(rng)
    d_inner = pick(rng, 7, 32, 4 * width)
    return {"vocab_size": 50, "d_model": width, "n_layer": layers, "n_head": heads, "d_inner": d_inner}


def gpt2_shape(rng):
    heads, width, layers = widths(rng)
    return {"vocab_size": 50, "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": 19}


def llama_shape(rng, odd_heads=True):
    groups, shared, layers = pick(rng, 1, 2, 3), pick(rng, 1, 2, 4), pick(rng, 1, 2, 3)
    heads = groups * shared
    return {
        "vocab_size": pick(rng, 23, 50, 97),
        "hidden_size": heads * pick(rng, 3, 4, 7),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": pick(rng, 7, 32, 45),
        "max_position_embeddings": 64,
        "tie_word_embeddings": pick(rng, True, False),
        "rms_norm_eps": pick(rng, 1e-5, 1e-6),
        "pad_token_id": 0,
    } | ({"head_dim": pick(rng, 2, 6, 8, 16)} if odd_heads else {})


def llama3_shape(rng):
    """With and without the way of Llama 3.1 to longer texts."""
    longer = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    rope = pick(rng, {"rope_type": "default", "rope_theta": pick(rng, 100.0, 10_000.0)}, longer)
    return llama_shape(rng) | {"rope_parameters": rope}


def olmo2_shape(rng):
    shape = llama_shape(rng, odd_heads=False)
    return shape | {"hidden_size": shape["num_attention_heads"] * pick(rng, 2, 6, 8)}


def gemma2_shape(rng):
    return llama_shape(rng) | {
        "sliding_window": pick(rng, 2, 4, 64),
        "query_pre_attn_scalar": pick(rng, 5, 16),
        "attn_logit_softcapping": pick(rng, None, 2.0, 50.0),
        "final_logit_softcapping": pick(rng, None, 3.0, 30.0),
    }


def llama4_shape(rng):
    shape = llama_shape(rng)
    experts = pick(rng, 2, 3, 5)
    return shape | {
        "intermediate_size_mlp": pick(rng, 9, 32),
        "num_local_experts": experts,
        "num_experts_per_tok": pick(rng, 1, min(2, experts)),
        "interleave_moe_layer_step": pick(rng, 1, 2),
        "no_rope_layer_interval": pick(rng, 2, 4),
        "attention_chunk_size": pick(rng, 3, 4, 64),
        "use_qk_norm": pick(rng, True, False),
        "attn_temperature_tuning": pick(rng, True, False),
        "floor_scale": 4,
    }


def t5_shape(rng):
    """Widths of heads that do not add up to the model's, other buckets, both nets, scaled heads and others."""
    heads, width, layers = widths(rng)
    return {
        "vocab_size": pick(rng, 23, 50, 97),
        "d_model": width + pick(rng, 0, 1, 5),
        "d_kv": pick(rng, 3, 4, 8),
        "d_ff": pick(rng, 7, 32, 64),
        "num_layers": layers,
        "num_decoder_layers": pick(rng, 1, 2, 3),
        "num_heads": heads,
        "relative_attention_num_buckets": pick(rng, 8, 12, 32),
        "relative_attention_max_distance": pick(rng, 9, 20, 128),
        "feed_forward_proj": pick(rng, "relu", "gated-gelu"),
        "scale_decoder_outputs": pick(rng, True, False),
        "decoder_start_token_id": 0,
    }


def bart_shape(rng):
    heads, width, layers = widths(rng)
    return {
        "vocab_size": pick(rng, 23, 50, 97),
        "d_model": width,
        "max_position_embeddings": pick(rng, 11, 16, 19),
        "encoder_layers": layers,
        "decoder_layers": pick(rng, 1, 2, 3),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": pick(rng, *[h for h in (1, 2, 3, 4) if width % h == 0]),
        "encoder_ffn_dim": pick(rng, 7, 32, 64),
        "decoder_ffn_dim": pick(rng, 9, 32, 64),
        "pad_token_id": pick(rng, 0, 1),
    }


def count(ids, mask):
    """GPT-2 in transformers counts the padding too unless it is told the places."""
    return {"position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)}


def hubert_shape(rng):
    heads, width, layers = widths(rng)
    n = pick(rng, 1, 2, 3)  # layers that read the wave
    return {
        "vocab_size": pick(rng, 5, 32),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": pick(rng, 7, 32, 4 * width),
        "conv_dim": [pick(rng, 4, 7, 12) for _ in range(n)],
        "conv_kernel": [pick(rng, 3, 4, 7) for _ in range(n)],
        "conv_stride": [pick(rng, 2, 3) for _ in range(n)],
        "conv_bias": pick(rng, True, False),
        "feat_extract_norm": pick(rng, "group", "layer"),
        "feat_proj_layer_norm": pick(rng, True, False),
        "do_stable_layer_norm": pick(rng, True, False),
        "num_conv_pos_embeddings": pick(rng, 2, 5, 16),
        "num_conv_pos_embedding_groups": pick(rng, 1, 2, width),
        "mask_time_prob": pick(rng, 0.0, 0.05),
    }


FAMILIES = {
    "bert": Family(
        transformers.BertConfig,
        bert_shape,
        (transformers.BertModel, transformers.BertForMaskedLM, transformers.BertForPreTraining),
    ),
    "roberta": Family(
        transformers.RobertaConfig,
        roberta_shape,
        (transformers.RobertaModel, transformers.RobertaForMaskedLM),
    ),
    "albert": Family(
        transformers.AlbertConfig,
        albert_shape,
        (transformers.AlbertModel, transformers.AlbertForMaskedLM, transformers.AlbertForPreTraining),
    ),
    "distilbert": Family(
        transformers.DistilBertConfig,
        distilbert_shape,
        (transformers.DistilBertModel, transformers.DistilBertForMaskedLM),
    ),
    "electra": Family(
        transformers.ElectraConfig,
        electra_shape,
        (transformers.ElectraModel, transformers.ElectraForPreTraining, transformers.ElectraForMaskedLM),
    ),
    "xlnet": Family(
        transformers.XLNetConfig,
        xlnet_shape,
        (transformers.XLNetLMHeadModel, transformers.XLNetModel),
    ),
    "gpt2": Family(
        transformers.GPT2Config,
        gpt2_shape,
        (transformers.GPT2LMHeadModel, transformers.GPT2Model),
        inputs=count,
    ),
    "llama": Family(
        transformers.LlamaConfig, llama3_shape, (transformers.LlamaForCausalLM, transformers.LlamaModel)
    ),
    "gemma2": Family(
        transformers.Gemma2Config, gemma2_shape, (transformers.Gemma2ForCausalLM, transformers.Gemma2Model)
    ),
    "olmo2": Family(
        transformers.Olmo2Config, olmo2_shape, (transformers.Olmo2ForCausalLM, transformers.Olmo2Model)
    ),
    "llama4_text": Family(
        transformers.Llama4TextConfig,
        llama4_shape,
        (transformers.Llama4ForCausalLM, transformers.Llama4TextModel),
    ),
    "t5": Family(
        transformers.T5Config,
        t5_shape,
        (transformers.T5ForConditionalGeneration, transformers.T5Model),
        pair=True,
    ),
    "bart": Family(
        transformers.BartConfig,
        bart_shape,
        (transformers.BartForConditionalGeneration, transformers.BartModel),
        pair=True,
    ),
    "hubert": Family(
        transformers.HubertConfig,
        hubert_shape,
        (transformers.HubertModel, transformers.HubertForCTC),
        left=False,
        length=211,
        waves=True,
    ),
}


def draw(family, seed):
    """A random small model of transformers, every weight drawn, norms and biases too."""
    rng = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    settings = dict(family.settings) | family.shape(rng)
    theirs = family.classes[seed % len(family.classes)](family.config(**settings)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            around = 1 if parameter.dim() == 1 and parameter.mean() == 1 else 0
            parameter.copy_(around + 0.2 * torch.randn(parameter.shape, generator=rng))
        if hasattr(theirs, "final_logits_bias"):  # stored, but not learned
            theirs.final_logits_bias.normal_(generator=rng)
    return theirs, rng


def opened(theirs, folder):
    """Their model written by transformers and opened by us."""
    theirs.save_pretrained(folder)
    return zoo.from_transformers(folder)


def paddings(left, length=T):
    """Masks (B, T), True = real: nothing padded, and rows of several lengths padded right and left."""
    lengths = torch.tensor([length, length - 4, 3 * length // 11])
    right = torch.arange(length) < lengths[:, None]
    return [None, right, *([right.flip(1)] if left else [])]


def target_of(ids):
    """What the decoder of an encoder-decoder is given in these tests: other tokens, another length."""
    return ids.flip(1)[:, : T - 2]


def theirs_on(family, theirs, ids, real, **more):
    """What their model returns."""
    if family.pair:
        more["decoder_input_ids"] = target_of(ids)
    more["input_values" if family.waves else "input_ids"] = ids
    return theirs(attention_mask=real.long(), **more)


def ours_on(family, model, ids, mask=None, **more):
    """What our model returns."""
    return model(ids, target_of(ids), mask, **more) if family.pair else model(ids, mask, **more)


def draw_input(family, theirs, real, rng):
    """What both models are given: ids (B, T), or waves (B, N)."""
    if family.waves:
        return torch.randn(real.shape, generator=rng) * real
    ids = torch.randint(3, theirs.config.vocab_size, real.shape, generator=rng)
    return ids.masked_fill(~real, theirs.config.pad_token_id or 0)


def real_outputs(family, model, real):
    """Which outputs (B, T) are to be compared: of sound, the frames that lie within it."""
    if not family.waves:
        return real
    return torch.arange(model.n_frames(real.size(1))) < model.n_frames(real.sum(1))[:, None]


def their_states(output):
    """Logits where they are, else the last states."""
    return (
        output.logits
        if "logits" in output
        else (output.prediction_logits if "prediction_logits" in output else output.last_hidden_state)
    )


def watch(model):
    """A list that fills with what each block of each stack of `model` returns, one list for each stack."""
    stacks = [model.encoder, model.decoder] if hasattr(model, "encoder") else [model]
    seen = [[] for _ in stacks]
    for stack, states in zip(stacks, seen):
        for block in dict.fromkeys(getattr(stack, "watched", None) or stack.blocks):  # one may stand for all
            block.register_forward_hook(lambda module, args, result, states=states: states.append(result))
    return seen


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_random_model_gives_the_same_numbers(name, seed, tmp_path):
    family = FAMILIES[name]
    theirs, rng = draw(family, seed)
    model = opened(theirs, tmp_path)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())
    for mask in paddings(family.left, family.length):
        real = torch.ones(B, family.length, dtype=torch.bool) if mask is None else mask
        ids = draw_input(family, theirs, real, rng)
        more = family.inputs(ids, real) if family.inputs else {}
        seen = watch(model)
        with torch.no_grad():
            expected = theirs_on(family, theirs, ids, real, output_hidden_states=True, **more)
            found = ours_on(family, model, ids, mask, **(family.ours(ids, real) if family.ours else {}))
        real = real_outputs(family, model, real)
        written = torch.ones_like(target_of(ids), dtype=torch.bool) if family.pair else real
        close(found[written], their_states(expected)[written], family.tolerance)
        states = [
            expected.get(f"{part}hidden_states")
            for part in (("encoder_", "decoder_") if family.pair else ("",))
        ]
        for ours, other, rows in zip(seen, states, (real, written)):
            assert len(ours) == len(other) - 1
            for one, their_one in zip(ours[:-1], other[1:-1]):
                close(one[rows], their_one[rows], family.tolerance)
            ours.clear()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name",
    [name for name, f in FAMILIES.items() if hasattr(zoo.FAMILIES[name], "new_cache") and not f.pair],
)
def test_a_decoder_with_a_cache_gives_the_same_numbers(name, seed, tmp_path):
    """A prompt, four single tokens and the rest at once, against transformers over the whole text."""
    family = FAMILIES[name]
    theirs, rng = draw(family, seed)
    model = opened(theirs, tmp_path)
    ids = torch.randint(3, theirs.config.vocab_size, (B, T), generator=rng)
    for mask in (None, paddings(left=True)[-1]):
        real = torch.ones(B, T, dtype=torch.bool) if mask is None else mask
        more = family.inputs(ids, real) if family.inputs else {}
        cache, steps, begin = model.new_cache(B, T), [], 0
        with torch.no_grad():
            for end in (4, 5, 6, 7, 8, T):
                seen = None if mask is None else mask[:, :end]
                steps.append(model(ids[:, begin:end], seen, cache=cache))
                begin = end
            expected = their_states(theirs(input_ids=ids, attention_mask=real.long(), **more))
        assert cache.length == T
        close(torch.cat(steps, dim=1)[real], expected[real], family.tolerance)


def close(found, expected, tolerance):
    """Equal up to the rounding of float32: relative to the largest value, where that is above 1."""
    gap = (found - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert gap <= tolerance, f"apart by {gap:.1e}"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_random_model_has_the_same_gradient(name, tmp_path):
    family = FAMILIES[name]
    theirs, rng = draw(family, 0)
    model = opened(theirs, tmp_path)
    ids = draw_input(family, theirs, torch.ones(B, family.length, dtype=torch.bool), rng)
    wanted = their_states(theirs_on(family, theirs, ids, torch.ones_like(ids)))
    factors = torch.randn(wanted.shape, generator=rng)
    (wanted * factors).mean().backward()
    (ours_on(family, model, ids) * factors).mean().backward()
    state, grads = {}, {}
    for parameter in theirs.parameters():  # their gradients, opened as if they were weights
        parameter.data = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    for name, grad in opened(theirs, tmp_path / "gradient").named_parameters():
        grads[name] = grad.detach()
    for name, parameter in model.named_parameters():
        state[name] = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        close(state[name], grads[name], 1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_head_goes_there_and_back(name, tmp_path):
    family = FAMILIES[name]
    for number, theirs in enumerate(family.classes):
        model = opened(draw(family, number)[0], tmp_path / theirs.__name__)
        twin = zoo.to_transformers(model)
        assert type(twin) is theirs
        for p, q in zip(opened(twin, tmp_path / "again").parameters(), model.parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_setting_that_is_not_built_is_refused(name, tmp_path):
    opened(draw(FAMILIES[name], 0)[0], tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    keys = (
        "hidden_act",
        "hidden_activation",
        "activation_function",
        "feed_forward_proj",
        "ff_activation",
        "activation",
    )
    key = next(key for key in keys if key in config)
    path.write_text(json.dumps(config | {key: "mish"}))
    with pytest.raises(zoo.ZooError, match=f"{key} is 'mish'"):
        zoo.from_transformers(tmp_path)
    path.write_text(json.dumps(config | {"architectures": ["ForSomethingElse"]}))
    with pytest.raises(zoo.ZooError, match="holds a ForSomethingElse"):
        zoo.from_transformers(tmp_path)


def sized(n_layers, n_heads, d_model, **more):
    """The fields of a config that every family has."""
    return {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, **more}


def bert_sized(n_layers, n_heads, d_model):
    return sized(n_layers, n_heads, d_model, d_ff=4 * d_model, vocab_size=30522, n_positions=512)


def gpt2_sized(n_layers, n_heads, d_model):
    return sized(n_layers, n_heads, d_model, vocab_size=50257, n_positions=1024)


def roberta_sized(n_layers, n_heads, d_model):
    return sized(n_layers, n_heads, d_model, d_ff=4 * d_model, vocab_size=50265, n_positions=514)


def albert_sized(n_layers, n_heads, d_model):
    sizes = sized(n_layers, n_heads, d_model, d_ff=4 * d_model, vocab_size=30000, n_positions=512)
    return sizes | {"d_embedding": 128}


def electra_sized(n_layers, n_heads, d_model, d_embedding):
    return bert_sized(n_layers, n_heads, d_model) | {"d_embedding": d_embedding}


def xlnet_sized(n_layers, n_heads, d_model):
    return sized(n_layers, n_heads, d_model, d_ff=4 * d_model, vocab_size=32000)


def llama_sized(n_layers, n_heads, d_model, d_ff, vocab_size=32_000, tied=False, **more):
    shape = {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "d_ff": d_ff}
    return shape | {"vocab_size": vocab_size, "tied": tied} | more


def gemma2_sized(n_layers, n_heads, d_model, d_ff, d_head):
    heads = {"n_kv_heads": n_heads // 2, "d_head": d_head}
    return llama_sized(n_layers, n_heads, d_model, d_ff, 256_000, True, **heads)


def t5_sized(n_layers, n_heads, d_model, d_ff, **more):
    return sized(n_layers, n_heads, d_model, vocab_size=32128, d_ff=d_ff, **({"d_head": 64} | more))


def bart_sized(n_layers, n_heads, d_model):
    decoder = {"n_decoder_layers": n_layers, "n_decoder_heads": n_heads, "d_decoder_ff": 4 * d_model}
    return sized(n_layers, n_heads, d_model, d_ff=4 * d_model, vocab_size=50265, n_positions=1024, **decoder)


def hubert_sized(n_layers, n_heads, d_model):
    ear = {"wave_bias": True, "wave_norm": "layer", "norm_first": True}  # of the two large ones
    return sized(n_layers, n_heads, d_model, d_ff=4 * d_model, **(ear if d_model > 768 else {}))


COUNTS = {  # name: (model_type, head, our config's fields, the parameters of the published model)
    "BERT-tiny": ("bert", None, bert_sized(2, 2, 128), 4_385_920),
    "BERT-mini": ("bert", None, bert_sized(4, 4, 256), 11_170_560),
    "BERT-small": ("bert", None, bert_sized(4, 8, 512), 28_763_648),
    "BERT-base": ("bert", None, bert_sized(12, 12, 768), 109_482_240),
    "BERT-base, masked": ("bert", "masked", bert_sized(12, 12, 768), 109_514_298),
    "BERT-base, pretraining": ("bert", "pretraining", bert_sized(12, 12, 768), 110_106_428),
    "BERT-large": ("bert", None, bert_sized(24, 16, 1024), 335_141_888),
    "BERT-large, pretraining": ("bert", "pretraining", bert_sized(24, 16, 1024), 336_226_108),
    "RoBERTa-base": ("roberta", None, roberta_sized(12, 12, 768), 124_645_632),
    "RoBERTa-large": ("roberta", None, roberta_sized(24, 16, 1024), 355_359_744),
    "RoBERTa-base, masked": ("roberta", "masked", roberta_sized(12, 12, 768), 124_697_433),
    "RoBERTa-large, masked": ("roberta", "masked", roberta_sized(24, 16, 1024), 355_412_057),
    "DistilRoBERTa": ("roberta", None, roberta_sized(6, 12, 768), 82_118_400),
    "DistilBERT": ("distilbert", None, bert_sized(6, 12, 768), 66_362_880),
    "DistilBERT, masked": ("distilbert", "masked", bert_sized(6, 12, 768), 66_985_530),
    "ALBERT-base": ("albert", None, albert_sized(12, 12, 768), 11_683_584),
    "ALBERT-large": ("albert", None, albert_sized(24, 16, 1024), 17_683_968),
    "ALBERT-xlarge": ("albert", None, albert_sized(24, 16, 2048), 58_724_864),
    "ALBERT-xxlarge": ("albert", None, albert_sized(12, 64, 4096), 222_595_584),
    "ALBERT-base, masked": ("albert", "masked", albert_sized(12, 12, 768), 11_221_680),
    "ELECTRA-small": ("electra", None, electra_sized(12, 4, 256, 128), 13_483_008),
    "ELECTRA-small, replaced": ("electra", "replaced", electra_sized(12, 4, 256, 128), 13_549_057),
    "ELECTRA-small, generator": ("electra", "masked", electra_sized(12, 4, 256, 128), 13_546_682),
    "ELECTRA-base": ("electra", None, electra_sized(12, 12, 768, 768), 108_891_648),
    "ELECTRA-base, replaced": ("electra", "replaced", electra_sized(12, 12, 768, 768), 109_483_009),
    "ELECTRA-base, generator": ("electra", "masked", electra_sized(12, 4, 256, 768), 33_740_602),
    "ELECTRA-large, generator": ("electra", "masked", electra_sized(24, 4, 256, 1024), 51_295_290),
    "ELECTRA-large, replaced": ("electra", "replaced", electra_sized(24, 16, 1024, 1024), 335_142_913),
    "XLNet-base": ("xlnet", None, xlnet_sized(12, 12, 768), 116_718_336),
    "XLNet-large": ("xlnet", None, xlnet_sized(24, 16, 1024), 360_268_800),
    "GPT-2": ("gpt2", "language", gpt2_sized(12, 12, 768), 124_439_808),
    "GPT-2 medium": ("gpt2", "language", gpt2_sized(24, 16, 1024), 354_823_168),
    "GPT-2 large": ("gpt2", "language", gpt2_sized(36, 20, 1280), 774_030_080),
    "GPT-2 XL": ("gpt2", "language", gpt2_sized(48, 25, 1600), 1_557_611_200),
    "DistilGPT-2": ("gpt2", "language", gpt2_sized(6, 12, 768), 81_912_576),
    "LLaMA 7B": ("llama", "language", llama_sized(32, 32, 4096, 11_008), 6_738_415_616),
    "LLaMA 13B": ("llama", "language", llama_sized(40, 40, 5120, 13_824), 13_015_864_320),
    "LLaMA 33B": ("llama", "language", llama_sized(60, 52, 6656, 17_920), 32_528_943_616),
    "LLaMA 65B": ("llama", "language", llama_sized(80, 64, 8192, 22_016), 65_285_660_672),
    "Llama 2 70B": ("llama", "language", llama_sized(80, 64, 8192, 28_672, n_kv_heads=8), 68_976_648_192),
    "Llama 3 8B": (
        "llama",
        "language",
        llama_sized(32, 32, 4096, 14_336, 128_256, n_kv_heads=8),
        8_030_261_248,
    ),
    "TinyLlama 1.1B": ("llama", "language", llama_sized(22, 32, 2048, 5632, n_kv_heads=4), 1_100_048_384),
    "Gemma 2 2B": ("gemma2", "language", gemma2_sized(26, 8, 2304, 9216, 256), 2_614_341_888),
    "Gemma 2 9B": ("gemma2", "language", gemma2_sized(42, 16, 3584, 14_336, 256), 9_241_705_984),
    "Gemma 2 27B": ("gemma2", "language", gemma2_sized(46, 32, 4608, 36_864, 128), 27_227_128_320),
    "OLMo 2 1B": ("olmo2", "language", llama_sized(16, 16, 2048, 8192, 100_352), 1_484_916_736),
    "OLMo 2 7B": ("olmo2", "language", llama_sized(32, 32, 4096, 11_008, 100_352), 7_298_617_344),
    "OLMo 2 13B": ("olmo2", "language", llama_sized(40, 40, 5120, 13_824, 100_352), 13_716_198_400),
    "T5-small": ("t5", "language", t5_sized(6, 8, 512, 2048), 60_506_624),
    "T5-base": ("t5", "language", t5_sized(12, 12, 768, 3072), 222_903_552),
    "T5-large": ("t5", "language", t5_sized(24, 16, 1024, 4096), 737_668_096),
    "T5-3B": ("t5", "language", t5_sized(24, 32, 1024, 16384, d_head=128), 2_851_598_336),
    "T5-11B": ("t5", "language", t5_sized(24, 128, 1024, 65536, d_head=128), 11_307_321_344),
    # as transformers 5 counts it, head and embedding tied; the published file also holds a head of 32128 × 512
    "T5 1.1 small": ("t5", "language", t5_sized(8, 6, 512, 1024, net="gated-gelu"), 60_511_616),
    "BART-base": ("bart", "language", bart_sized(6, 12, 768), 139_420_416),
    "BART-large": ("bart", "language", bart_sized(12, 16, 1024), 406_291_456),
    "HuBERT base": ("hubert", None, hubert_sized(12, 12, 768), 94_371_712),
    "HuBERT large": ("hubert", None, hubert_sized(24, 16, 1024), 315_438_720),
    "HuBERT xlarge": ("hubert", None, hubert_sized(48, 16, 1280), 962_497_408),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_model_has_as_many_parameters(name):
    """Counted on the meta device: shapes without numbers."""
    model_type, head, shape, expected = COUNTS[name]
    family = zoo.FAMILIES[model_type]
    with torch.device("meta"):
        model = family(family.make_config(**shape), head=head)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.pair])
def test_an_encoder_decoder_writes_with_a_cache_as_without(name, seed, tmp_path):
    """In pieces of several sizes; with padding on the left of the source."""
    theirs, rng = draw(FAMILIES[name], seed)
    model = opened(theirs, tmp_path)
    ids = torch.randint(3, theirs.config.vocab_size, (B, T), generator=rng)
    mask = paddings(left=True)[2]
    with torch.no_grad():
        expected = model(ids, ids, mask)
        memory, cache = model.encode(ids, mask), model.new_cache(B, T)
        pieces = [model.decode(piece, *memory, cache=cache) for piece in ids.split([1, 4, 1, T - 6], dim=1)]
    close(torch.cat(pieces, dim=1), expected, 1e-5)
    assert cache.length == T


def test_the_code_of_all_families_stays_short():
    """Every definition that a family or the sentence encoder needs, docstrings and tables of names included."""
    code = [piece for pieces in family_table.family_code().values() for piece in pieces]
    assert all(
        family_table.family_code()[family.__name__]
        for family in zoo.FAMILIES.values()
        if family is not zoo.LSTM
    )
    lines = Counter()
    for module, _, count in code:
        lines[module] += count
    assert lines.total() <= 1500, f"{lines.total()} lines: {dict(lines)}"
    functions = [f for _, node, _ in code for f in ast.walk(node) if isinstance(f, ast.FunctionDef)]
    long = {f.name: size for f in functions if (size := f.end_lineno - f.lineno + 1) > 40}
    assert functions and not long, f"over 40 lines: {long}"
