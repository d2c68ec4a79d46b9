"""Every family is transformers' own model: same weights in, same numbers out, through the folder format of both."""

import json
from dataclasses import dataclass, field

import pytest
import torch
import transformers

from utils import zoo

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


def gpt2_shape(rng):
    heads, width, layers = widths(rng)
    return {"vocab_size": 50, "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": 19}


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
    "gpt2": Family(
        transformers.GPT2Config,
        gpt2_shape,
        (transformers.GPT2LMHeadModel, transformers.GPT2Model),
        inputs=count,
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
    return theirs, rng


def opened(theirs, folder):
    """Their model written by transformers and opened by us."""
    theirs.save_pretrained(folder)
    return zoo.from_transformers(folder)


def paddings(family):
    """Masks (B, T), True = real: nothing padded, and rows of several lengths padded right and left."""
    T = family.length
    lengths = torch.tensor([T, T - 4, 3 * T // 11])
    right = torch.arange(T) < lengths[:, None]
    return [None, right, *([right.flip(1)] if family.left else [])]


def draw_input(family, theirs, real, rng):
    """What both models are given, under the name that theirs has for it: ids (B, T), or waves (B, N)."""
    if family.waves:
        return "input_values", torch.randn(real.shape, generator=rng) * real
    ids = torch.randint(3, theirs.config.vocab_size, real.shape, generator=rng)
    return "input_ids", ids.masked_fill(~real, theirs.config.pad_token_id or 0)


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
    """A list that fills with what each block of `model` returns."""
    seen = []
    for block in getattr(model, "watched", None) or model.blocks:
        block.register_forward_hook(lambda module, args, result: seen.append(result))
    return seen


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_random_model_gives_the_same_numbers(name, seed, tmp_path):
    family = FAMILIES[name]
    theirs, rng = draw(family, seed)
    model = opened(theirs, tmp_path)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())
    for mask in paddings(family):
        real = torch.ones(B, family.length, dtype=torch.bool) if mask is None else mask
        name, ids = draw_input(family, theirs, real, rng)
        more = family.inputs(ids, real) if family.inputs else {}
        seen = watch(model)
        with torch.no_grad():
            expected = theirs(**{name: ids}, attention_mask=real.long(), output_hidden_states=True, **more)
            found = model(ids, mask, **(family.ours(ids, real) if family.ours else {}))
        real = real_outputs(family, model, real)
        close(found[real], their_states(expected)[real], family.tolerance)
        for ours, other in zip(seen[:-1], expected.hidden_states[1:-1]):
            close(ours[real], other[real], family.tolerance)
        seen.clear()


def close(found, expected, tolerance):
    """Equal up to the rounding of float32: relative to the largest value, where that is above 1."""
    gap = (found - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert gap <= tolerance, f"apart by {gap:.1e}"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_random_model_has_the_same_gradient(name, tmp_path):
    family = FAMILIES[name]
    theirs, rng = draw(family, 0)
    model = opened(theirs, tmp_path)
    key, ids = draw_input(family, theirs, torch.ones(B, family.length, dtype=torch.bool), rng)
    wanted = their_states(theirs(**{key: ids}))
    factors = torch.randn(wanted.shape, generator=rng)
    (wanted * factors).mean().backward()
    (model(ids) * factors).mean().backward()
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
    key = next(key for key in ("hidden_act", "activation_function") if key in config)
    path.write_text(json.dumps(config | {key: "mish"}))
    with pytest.raises(zoo.ZooError, match=f"{key} is 'mish'"):
        zoo.from_transformers(tmp_path)
    path.write_text(json.dumps(config | {"architectures": ["ForSomethingElse"]}))
    with pytest.raises(zoo.ZooError, match="holds a ForSomethingElse"):
        zoo.from_transformers(tmp_path)


def sizes(widths, heads, layers, net, **more):
    return {
        "hidden_size": widths,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": net,
        **more,
    }


LARGE_EAR = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
COUNTS = {  # name: model_type, what the published config.json says beyond its class's defaults, parameters
    "HuBERT base": ("hubert", {}, 94_371_712),
    "HuBERT large": ("hubert", sizes(1024, 16, 24, 4096, **LARGE_EAR), 315_438_720),
    "HuBERT xlarge": ("hubert", sizes(1280, 16, 48, 5120, **LARGE_EAR), 962_497_408),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_counted_as_published(name):
    kind, settings, expected = COUNTS[name]
    config = transformers.AutoConfig.for_model(kind, **settings).to_dict()
    with torch.device("meta"):
        model = zoo.build(config, zoo.FAMILIES[kind])
    assert sum(p.numel() for p in model.parameters()) == expected
