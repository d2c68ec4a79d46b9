"""Lesson 15: what holds for HuBERT beyond the proof of every family."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from utils import zoo

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "conv_dim": [8, 12],
    "conv_kernel": [7, 3],
    "conv_stride": [4, 2],
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


@pytest.fixture(params=[{}, LARGE], ids=["base", "large"])
def theirs(request):
    torch.manual_seed(0)
    return transformers.HubertModel(transformers.HubertConfig(**SMALL, **request.param)).eval()


def test_hidden_frames_are_replaced_as_in_transformers(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    model = zoo.from_transformers(tmp_path)
    wave = torch.randn(2, 300)
    hide = torch.rand(2, model.n_frames(300)) < 0.4
    with torch.no_grad():
        expected = theirs(input_values=wave, mask_time_indices=hide).last_hidden_state
        torch.testing.assert_close(model(wave, hide=hide), expected, rtol=1e-5, atol=1e-5)
        assert (model(wave) - expected).abs().max() > 1e-2


def test_the_older_names_of_a_normed_weight_are_read(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    new = zoo.from_transformers(tmp_path)
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {zoo.translate(name, older): weight for name, weight in load_file(path).items()}
    assert sum(name.endswith(("weight_g", "weight_v")) for name in state) == 2
    save_file(state, path)
    for ours, other in zip(zoo.from_transformers(tmp_path).parameters(), new.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_sound_beyond_the_mask_changes_nothing_within(theirs, tmp_path):
    """With layer norms; a group norm sees the whole wave, padding too, in the published model as in ours."""
    theirs.save_pretrained(tmp_path)
    model = zoo.from_transformers(tmp_path)
    if model.config.wave_norm == "group":
        pytest.skip("its first norm sees the padding")
    wave, mask = torch.randn(1, 300), torch.arange(300)[None] < 200
    n = model.n_frames(200)
    with torch.no_grad():
        padded, alone = model(wave, mask)[:, :n], model(wave[:, :200])
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)
