"""Lesson 15: what holds for HuBERT beyond the proof of every family."""

import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import types
import wave
from pathlib import Path

import definitions
import nbformat
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_zoo import Hub

from utils import course, data, zoo

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
import sys
from test_beyond_text import page_names
from utils.lessons import beyond_text

globals().update(page_names(), HuBERT=beyond_text.HuBERT)
data.DIGITS = sys.argv[1]
runs, spoken = [(HuBERT(SMALL), None)], torch.randn(8000)
from utils import course
"""


def cells(tag):
    """The code cells of the page that carry this tag."""
    return [cell.source for cell in PAGE.cells if tag in cell.metadata.get("tags", [])]


class Shelf(Hub):
    """A hub with one model that has no other files than its config and its weights; and it has spoken digits."""

    name = "facebook/hubert-base-ls960"
    digits = b""

    def answer(self, body=True):
        if self.path == "/digits.tar.gz":
            return super().send(200, self.digits, "application/gzip", body)
        super().answer(body)

    def send(self, status, data, kind, body, more=()):
        super().send(status, data, kind, body, more and {"X-Error-Code": "EntryNotFound"})


def digits_file(people, takes=1, channels=1):
    """An archive as the digits come: WAV files of noises of many lengths, and something else beside them."""
    rng, archive = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as files:
        for name in (f"recordings/{d}_{p}_{t}.wav" for d in range(10) for p in people for t in range(takes)):
            content = io.BytesIO()
            with wave.open(content, "wb") as sound:
                sound.setparams((channels, 2, 8000, 0, "NONE", ""))
                sound.writeframes(
                    rng.integers(-9000, 9000, (rng.integers(1500, 9000), channels), "<i2").tobytes()
                )
            entry = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.9/{name}")
            entry.size = content.tell()
            content.seek(0)
            files.addfile(entry, content)
        files.addfile(tarfile.TarInfo("free-spoken-digit-dataset-1.0.9/README.md"), io.BytesIO())
    return archive.getvalue()


@pytest.fixture
def digits_at(tmp_path, monkeypatch):
    """Says what the digits' address holds; and the course writes to an empty folder."""
    monkeypatch.setattr(course, "state", lambda: tmp_path / "state")
    monkeypatch.setattr(data, "DIGITS", (tmp_path / "digits.tar.gz").as_uri())
    return (tmp_path / "digits.tar.gz").write_bytes


@pytest.mark.parametrize("channels", [1, 2])
def test_spoken_digits_are_fetched_once_and_read(digits_at, channels):
    digits_at(digits_file(["ann", "bob_2"], takes=2, channels=channels))
    said = data.spoken_digits(takes=range(1))
    assert sorted((digit, who) for digit, who, _ in said) == [
        (d, w) for d in range(10) for w in ("ann", "bob_2")
    ]
    assert all(x.ndim == 1 and x.dtype == np.float32 and 0.1 < abs(x).max() <= 1 for _, _, x in said)
    digits_at(b"gone")
    assert len(data.spoken_digits()) == 40


def test_spoken_digits_that_are_missing_or_damaged_get_a_sentence(digits_at, tmp_path):
    with pytest.raises(data.DataError, match="could not be fetched"):
        data.spoken_digits()
    digits_at(digits_file(["ann"])[:2000])
    with pytest.raises(data.DataError, match="run the cell again"):
        data.spoken_digits()
    digits_at(digits_file(["ann"]))
    assert len(data.spoken_digits()) == 10


def test_the_hub_cells_open_what_the_hub_has(tmp_path):
    """The published model is narrower here; its form, its names and its file are those of the base model."""
    torch.manual_seed(0)
    ear = {"conv_dim": [8] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
    narrow = transformers.HubertConfig(**SMALL | ear)
    transformers.HubertModel(narrow).save_pretrained(tmp_path / "model")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0),
        type("S", (Shelf,), {"folder": tmp_path / "model", "digits": digits_file(["ann", "bob", "cy"])}),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    place = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path / "cache"),
        "COURSE_STATE": str(tmp_path / "state"),
    }
    place["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "COURSE_ONLINE"))} | place
    try:
        code = "\n".join([ASKS, *cells("hub")])
        command = [sys.executable, "-W", "ignore", "-c", code, f"{address}/digits.tar.gz"]
        done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240)
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr[-2000:]
    parity, *ears = done.stdout.splitlines()
    assert "parameters, apart by" in parity and float(parity.split()[-1]) < 1e-5
    assert len(ears) == 3 and all(line.endswith("of 30 digits of unheard people") for line in ears)


def constant(node):
    """Names in capitals, and two in small letters, that the definitions of the page need."""
    names = definitions.assigned(node)
    return names and all(name.isupper() or name in ("steps", "shape") for name in names)


def page_names():
    return definitions.of_page("15_beyond_text", also=constant)


@pytest.fixture(scope="module")
def page():
    return types.SimpleNamespace(**page_names())


def test_spans_are_hidden_as_by_the_loop_to_the_last_frame(page):
    for share in (0.0, 0.08, 1.0):
        starts = torch.rand(5, 37) < share
        for length in (1, 2, 10, 50):
            assert torch.equal(page.hide_spans(starts, length), page.hide_plainly(starts, length))


def test_k_means_never_gets_worse_and_keeps_an_empty_heap(page):
    x = torch.randn(200, 3)
    centres, before = torch.cat([x[:5], torch.full((1, 3), 99.0)]), float("inf")
    for _ in range(8):
        far = torch.cdist(x, centres).amin(1).square().sum().item()
        assert far <= before + 1e-3
        before, centres = far, page.kmeans(x, centres, n_rounds=1)
    assert torch.equal(centres[5], torch.full((3,), 99.0))


def test_agreement_does_not_care_about_the_names_of_units(page):
    phones, units = torch.randint(13, (500,)), torch.randint(7, (500,))
    renamed = torch.randperm(7)[units]
    assert page.agreement(units, phones) == pytest.approx(page.agreement(renamed, phones))
    finer = phones * 2 + torch.randint(2, (500,))  # knows the phone, and more
    assert page.agreement(finer, phones) == pytest.approx((1, 1))
    alike = torch.zeros(500, dtype=torch.long)
    most = phones.bincount().max().item() / 500
    assert page.agreement(alike, phones) == pytest.approx((most, 0), abs=1e-9)


def test_the_namer_sees_directions_only(page):
    namer, states = page.Namer(8, 5), torch.randn(3, 8)
    logits = namer(states)
    torch.testing.assert_close(namer(7 * states), logits)
    assert logits.abs().max() <= 10 + 1e-4


def test_speech_is_as_long_as_its_labels_and_the_same_for_the_same_seed(page):
    def speak():
        rng = np.random.default_rng(3)
        return page.speak(page.sentence(page.lexicon(rng), rng), rng, **page.anybody(rng))

    wave, phones = speak()
    assert wave.shape == (page.RATE,) and len(phones) == page.RATE // page.TICK + 1
    assert wave.std().item() == pytest.approx(1, abs=1e-3) and torch.equal(wave, speak()[0])
    assert page.HuBERT(page.SMALL).n_frames(page.RATE) == page.mfcc(wave[None]).size(1) == 49


def test_the_clip_loss_is_the_same_both_ways_round(page):
    table = torch.randn(6, 6)
    torch.testing.assert_close(page.clip_loss(table), page.clip_loss(table.T))
    order = torch.randperm(6)
    torch.testing.assert_close(page.clip_loss(table), page.clip_loss(table[order][:, order]))


@pytest.mark.parametrize("s, t", [(0, 1), (0, 200), (57, 58), (10, 150), (199, 200)])
def test_a_step_back_keeps_the_marginal(page, s, t):
    """If x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, then x_s has ᾱ_s in the same places, for every eta."""
    a, b = page.ALPHA_BAR[s], page.ALPHA_BAR[t]
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    for eta in (0.0, 0.3, 1.0):
        from_x0, variance = page.step_back(one, b.sqrt() * one, s, t, eta)  # x_0 = 1, no noise
        from_noise, _ = page.step_back(zero, (1 - b).sqrt() * one, s, t, eta)  # x_0 = 0, noise 1
        torch.testing.assert_close(from_x0, a.sqrt() * one)
        torch.testing.assert_close(from_noise**2 + variance, (1 - a) * one, rtol=1e-6, atol=1e-9)


def test_noise_is_added_as_the_schedule_says(page):
    x, t = torch.full((20_000, 1), 2.0), torch.full((20_000,), 100)
    noisy, keep = page.with_noise(x, t, np.random.default_rng(0)), page.ALPHA_BAR[100].item()
    assert noisy.mean().item() == pytest.approx(2 * keep**0.5, abs=0.02)
    assert noisy.var().item() == pytest.approx(1 - keep, abs=0.02)
    assert page.ALPHA_BAR[0] == 1 and (page.ALPHA_BAR.diff() <= 0).all() and page.ALPHA_BAR[-1] < 1e-3


def test_guidance_of_weight_one_is_the_model_and_of_zero_the_model_without_caption(page):
    torch.manual_seed(0)
    painter = page.Painter(page.shape).eval()
    torch.nn.init.normal_(painter.nothing)
    x, t, z = torch.randn(2, 3, 16, 16), torch.tensor([5, 90]), torch.randn(2, page.E)
    with torch.no_grad():
        given, free = painter(x, t, z), painter(x, t, z, drop=torch.ones(2, dtype=torch.bool))
        torch.testing.assert_close(page.guided(painter, 1.0, z)(x, t), given)
        torch.testing.assert_close(page.guided(painter, 0.0, z)(x, t), free)
    assert (given - free).abs().max() > 1e-3


def test_a_dropped_caption_leaves_no_trace_in_the_prior(page):
    torch.manual_seed(0)
    prior, drop = page.Prior(page.shape).eval(), torch.ones(2, dtype=torch.bool)
    z, t, rng = torch.randn(2, page.E), torch.tensor([5, 90]), np.random.default_rng(0)
    (a, b), (y, w) = (page.captions(2, rng) for _ in range(2)), torch.randn(2, 2, page.E)
    with torch.no_grad():
        torch.testing.assert_close(prior(z, t, a, y, drop), prior(z, t, b, w, drop))
        assert (prior(z, t, a, y) - prior(z, t, b, y)).abs().max() > 1e-3


def test_pictures_show_what_their_captions_say(page):
    rng = np.random.default_rng(0)
    ids = page.captions(300, rng)
    assert ((ids - page.STARTS >= 0) & (ids - page.STARTS < torch.tensor(page.CHOICES))).all()
    pictures = page.draw(ids, rng)
    assert pictures.shape == (300, 3, 16, 16) and pictures.abs().max() <= 1
    ground = pictures[:, :, 0, 0]
    assert len({tuple(row) for row in ground.tolist()}) == 2  # dark and bright
    inked = (pictures - ground[..., None, None]).abs().amax(1) > 0.5
    rows = inked.any(2).sum(1)
    assert rows[ids[:, 0] == 1].min() > rows[ids[:, 0] == 0].max()
    hollow = ~inked[:, 8, 8]
    assert torch.equal(hollow, ids[:, 2] == page.VOCABULARY.index("ring"))
    for name, colour in page.COLOURS.items():
        where = (pictures - torch.tensor(colour)[:, None, None]).abs().amax(1) < 1e-5
        assert torch.equal(where.any((1, 2)), ids[:, 1] == page.VOCABULARY.index(name))
    torch.testing.assert_close(page.joined(page.patches(pictures)), pictures)
    assert len({page.say(row) for row in ids}) == 24
