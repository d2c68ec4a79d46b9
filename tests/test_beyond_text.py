"""Lesson 15: what holds for HuBERT beyond the proof of every family."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_zoo import Hub

from utils import zoo

ROOT = Path(__file__).resolve().parents[1]
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


PAGE = nbformat.read(ROOT / "notebooks" / "15_beyond_text.ipynb", 4)
ASKS = """
import tempfile
import torch, transformers
from torch.nn import functional as F
from utils import course, zoo
spoken = torch.randn(8000)
"""


def cells(tag):
    """The code cells of the page that carry this tag."""
    return [cell.source for cell in PAGE.cells if tag in cell.metadata.get("tags", [])]


class Shelf(Hub):
    """A hub with one model that has no other files than its config and its weights."""

    name = "facebook/hubert-base-ls960"

    def send(self, status, data, kind, body, more=()):
        super().send(status, data, kind, body, more and {"X-Error-Code": "EntryNotFound"})


def test_the_hub_cell_opens_what_the_hub_has(tmp_path):
    """The published model is narrower here; its form, its names and its file are those of the base model."""
    torch.manual_seed(0)
    narrow = transformers.HubertConfig(**SMALL | {"conv_dim": [8] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2]})
    narrow.conv_stride = [5, 2, 2, 2, 2, 2, 2]
    transformers.HubertModel(narrow).save_pretrained(tmp_path / "model")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("S", (Shelf,), {"folder": tmp_path / "model"}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "cache")}
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "COURSE_ONLINE"))} | place
    try:
        (cell,) = cells("hub")
        command = [sys.executable, "-W", "ignore", "-c", ASKS + cell]
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=120)
    finally:
        server.shutdown()
        server.server_close()
    assert "parameters, apart by" in done.stdout, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < 1e-5
