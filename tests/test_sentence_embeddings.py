"""Sentence embeddings: equal to sentence-transformers, padding never counts, and losses that are what they say."""

import http.server
import json
import lzma
import math
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling
from test_zoo import ROOT, Hub

from utils import cards, data, objectives, pretrain, zoo
from utils.lessons.bert import BERT, BertConfig
from utils.lessons.sentence_embeddings import (
    POOLS,
    PairClassifier,
    SentenceEncoder,
    in_batch_loss,
    pad_right,
    pair_loss,
    token_batches,
)

TINY = BertConfig(vocab_size=6144, n_positions=24, n_layers=2, n_heads=2, d_model=16, d_ff=24)


@pytest.fixture(scope="module")
def sentences():
    """500 real sentences of news."""
    found = (s for text in data.news() for s in re.split(r"(?<=[.!?])\s+", text) if len(s) > 15)
    return [next(found) for _ in range(500)]


@pytest.fixture(scope="module")
def minilm():
    return zoo.sentence_encoder("minilm")


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return SentenceEncoder(BERT(TINY).eval(), zoo.load("gpt-200k")[1])


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def test_minilm_is_equal_to_sentence_transformers(minilm, sentences):
    theirs = SentenceTransformer(str(data.minilm_folder()), device="cpu")
    wanted = theirs.encode(sentences, convert_to_tensor=True)
    close(minilm.encode(sentences), wanted)
    close(minilm.encode(sentences[:40], budget=100), wanted[:40])
    long = " ".join(sentences[:40])  # cut at 256 tokens by both
    close(minilm.encode([long]), theirs.encode([long], convert_to_tensor=True))


def test_minilm_states_are_equal_to_transformers(minilm, sentences):
    theirs, _ = zoo.minilm()
    for start in range(0, 500, 50):
        ids, mask = pad_right(minilm.rows(sentences[start : start + 50]))
        with torch.no_grad():
            ours, wanted = minilm.model(ids, mask), theirs(input_ids=ids, attention_mask=mask.long())
            pooled = minilm.model.pooler(ours)
        close(ours[mask], wanted.last_hidden_state[mask])
        close(pooled, wanted.pooler_output)


@pytest.mark.parametrize("name", POOLS)
def test_pools_are_equal_to_the_library_and_never_see_padding(name):
    rng = torch.Generator().manual_seed(0)
    states, lengths = torch.randn(4, 7, 5, generator=rng), torch.tensor([7, 3, 1, 5])
    mask = torch.arange(7) < lengths[:, None]
    features = {"token_embeddings": states, "attention_mask": mask.long()}
    close(POOLS[name](states, mask), Pooling(5, pooling_mode=name)(features)["sentence_embedding"])
    padded = states.masked_fill(~mask[..., None], 1e6)
    close(POOLS[name](padded, mask), POOLS[name](states, mask))
    for row, length in enumerate(lengths):
        close(POOLS[name](states[row : row + 1, :length]), POOLS[name](states, mask)[row : row + 1])


def test_neither_order_nor_company_changes_a_vector(tiny):
    texts = ["A dog.", "A cat sat on the old mat and slept.", "Rain!", "The boy ran home.", "", "Rain!"]
    alone = torch.cat([tiny.encode([text]) for text in texts])
    for budget in (1, 30, 2048):
        close(tiny.encode(texts, budget), alone)
        close(tiny.encode(texts[::-1], budget), alone.flip(0))
    close(alone.norm(dim=1), torch.ones(6))
    assert tiny.encode([]).shape == (0, 16)


def test_a_sentence_is_framed_and_cut(tiny, minilm):
    assert [(row[0], row[-1]) for row in tiny.rows(["A dog.", ""])] == [(5, 4), (5, 4)]
    (row,) = tiny.rows(["dog " * 50])
    assert len(row) == 24 and row[-1] == 4
    assert minilm.max_length == 256 and minilm.rows(["a"]) == [[101, 1037, 102]]


@pytest.mark.parametrize("budget", [1, 7, 64, 10_000])
def test_batches_hold_every_row_once_within_their_budget(budget):
    lengths = torch.randint(1, 40, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(token_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in token_batches(lengths, 256))
    assert padded < 1.1 * sum(lengths)


def test_in_batch_loss_is_the_library_s_and_has_its_limits():
    rng = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 6, 8, generator=rng)
    theirs = MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0)
    close(in_batch_loss(u, v), theirs.compute_loss_from_embeddings([u, v], None))
    same = u[:1].expand(6, -1)
    assert in_batch_loss(same, same).item() == pytest.approx(math.log(6), abs=1e-5)
    basis = torch.eye(6)
    assert in_batch_loss(basis, basis) < 1e-6 and in_batch_loss(basis, basis.roll(1, 0)) > 19
    close(in_batch_loss(3 * u, v / 5), in_batch_loss(u, v))
    strangers = torch.randn(3, 8, generator=rng)
    wanted = theirs.compute_loss_from_embeddings([u, v, torch.cat([strangers, strangers])], None)
    close(in_batch_loss(u, torch.cat([v, strangers, strangers])), wanted)


def test_pairs_are_learned_in_both_directions(tiny):
    first, second = (
        pad_right(tiny.rows(texts)) for texts in (["A dog.", "Rain fell."], ["The hound.", "Wet."])
    )
    u, v = tiny(*first), tiny(*second)
    close(pair_loss(tiny, first, second), (in_batch_loss(u, v) + in_batch_loss(v, u)) / 2)
    close(pair_loss(tiny, first, second), pair_loss(tiny, second, first))
    pair_loss(tiny, first, second).backward()
    assert tiny.model.inputs.tokens.weight.grad.abs().sum() > 0


def test_the_classifier_sees_both_vectors_and_their_distance():
    torch.manual_seed(0)
    judge, (u, v) = PairClassifier(4, 3), torch.randn(2, 5, 4)
    weight = judge.weigh.weight
    wanted = u @ weight[:, :4].T + v @ weight[:, 4:8].T + (u - v).abs() @ weight[:, 8:].T
    close(judge(u, v), wanted)


# ---- folders of sentence-transformers


@pytest.fixture
def folder(tmp_path):
    """A small model as sentence-transformers writes it down."""
    torch.manual_seed(0)
    zoo.save(BERT(TINY), zoo.load("gpt-200k")[1], tmp_path, dtype=torch.float32)
    for file in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(data.minilm_folder() / file, tmp_path / file)
    return tmp_path


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_says_how_it_pools(folder):
    assert zoo.read_modules(folder) == {"pool": "mean", "normalise": True, "max_length": 256}
    assert zoo.sentence_encoder(folder).max_length == 24
    change(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    assert zoo.read_modules(folder)["pool"] == "cls"
    (folder / "1_Pooling/config.json").write_text('{"embedding_dimension": 16, "pooling_mode": "max"}')
    assert zoo.read_modules(folder)["pool"] == "max"
    parts = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(parts[:2]))
    assert zoo.read_modules(folder)["normalise"] is False


DAMAGES = {
    "two poolings": ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pools by"),
    "an unknown pooling": ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pools by lasttoken"),
    "another module": (
        "modules.json",
        [{"type": "a.Transformer", "path": ""}, {"type": "a.Dense", "path": "d"}],
        "Dense",
    ),
    "not JSON": ("1_Pooling/config.json", "<html>", "is not JSON"),
    "missing": ("1_Pooling/config.json", None, "is missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_gets_one_sentence(folder, name):
    file, damage, sentence = DAMAGES[name]
    if damage is None:
        (folder / file).unlink()
    elif isinstance(damage, dict):
        change(folder / file, **damage)
    else:
        (folder / file).write_text(damage if isinstance(damage, str) else json.dumps(damage))
    with pytest.raises(zoo.ZooError, match=sentence) as error:
        zoo.sentence_encoder(folder)
    assert "\n" not in str(error.value)


class HubOfFolders(Hub):
    """A hub whose models have folders of their own."""

    name = "someone/sentences"

    def answer(self, body=True):
        path, start = self.path.split("?")[0], f"/{self.name}/resolve/{self.commit}/"
        files = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}
        if path.startswith(f"/api/models/{self.name}"):
            said = {"id": self.name, "sha": self.commit, "siblings": [{"rfilename": name} for name in files]}
            if "/tree/" in path:
                said = [
                    {"type": "file", "path": name, "size": p.stat().st_size, "oid": self.commit}
                    for name, p in files.items()
                ]
            return self.send(200, json.dumps(said).encode(), "application/json", body)
        if path.removeprefix(start) in files:
            content = files[path.removeprefix(start)].read_bytes()
            return self.send(200, content, "application/octet-stream", body)
        self.send(404, b"{}", "application/json", body, {"X-Error-Code": "EntryNotFound"})


READ = (
    "from utils import zoo\ne = zoo.sentence_encoder('someone/sentences')\n"
    "print(e.pool.__name__, e.normalise, e.max_length, e.encode(['A dog.']).tolist()[0][:4])"
)


@pytest.mark.parametrize("is_chain", [True, False])
def test_sentence_encoders_are_opened_from_the_hub(folder, tmp_path_factory, is_chain):
    change(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_max_tokens=True)
    if not is_chain:  # a plain encoder, such as bert-base-uncased
        (folder / "modules.json").unlink()
    here = zoo.sentence_encoder(folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("H", (HubOfFolders,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    settings |= {"HF_HOME": str(tmp_path_factory.mktemp("cache"))}
    settings |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=120
        )
    finally:
        server.shutdown()
        server.server_close()
    wanted = (
        f"{here.pool.__name__} {here.normalise} {here.max_length} {here.encode(['A dog.']).tolist()[0][:4]}"
    )
    assert done.stdout.strip() == wanted, done.stderr
    assert here.pool is POOLS["max" if is_chain else "mean"]


# ---- how the zoo's Sentence-BERT learns


@pytest.fixture
def corpus(tmp_path):
    """A folder with one row to train on and one held out of every file that is read, each sentence its own."""
    story = "{0} one is here now. {0} two is here now. {0} three is here now. {0} four is here now."
    rows = {
        "sts-open": {"sentence1": "{0} a", "sentence2": "{0} b", "score": 4.5},
        "paraphrase-tatoeba": {"sentence1": "{0} c", "sentence2": "{0} d"},
        "wikisplit": {"complex": "{0} e and f .", "simple": ["{0} e .", "{0} f ."]},
        "instruct": {"source": "snakes-summaries", "input": story, "output": "{0} is all of it. More of it."},
        "oewn-senses": {"lemma": "{0} g", "definition": "{0} h"},
        "stories-simple": {"text": story},
    }
    for name, row in rows.items():
        lines = [
            json.dumps(row | {"split": split}).replace("{0}", f"{name} {split}") for split in ("train", "dev")
        ]
        with lzma.open(tmp_path / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
            file.write("\n".join(lines))
    return tmp_path


def test_pairs_come_from_rows_that_may_be_trained_on(corpus):
    pairs = pretrain.sentence_pairs(corpus)
    assert list(pairs) == list(pretrain.PAIRS)
    assert {kind: len(rows) for kind, rows in pairs.items()} == dict.fromkeys(pairs, 1) | {"paraphrases": 2}
    assert " dev " not in str(pairs)
    assert pairs["splits"] == [("Wikisplit train e and f.", "Wikisplit train e. wikisplit train f.")]
    assert pairs["gists"][0][0].endswith("three is here now.")
    assert pairs["gists"][0][1] == "instruct train is all of it."
    assert [side.split()[2] for side in pairs["neighbours"][0]] == ["one", "two"]


def test_held_out_pairs_are_those_that_were_not_trained_on(corpus):
    held_out = pretrain.sentence_pairs(corpus, "dev")
    assert " train " not in str(held_out) and all(held_out.values())
    known = {pair for rows in pretrain.sentence_pairs(corpus).values() for pair in rows}
    assert not known & {pair for rows in held_out.values() for pair in rows}


class ByLetter:
    """Sentences that begin with the same letter are one and the same."""

    def encode(self, sentences):
        return torch.eye(256)[[ord(sentence[0]) for sentence in sentences]]


def test_a_card_counts_partners_that_are_nearest(corpus):
    kinds = dict.fromkeys(cards.SAME, [("a", "a1"), ("b", "b1"), ("c", "d1"), ("same", "same"), ("a", "a1")])
    assert cards.partners(ByLetter(), kinds) == dict.fromkeys(cards.SAME, (3, "66.7%"))
    assert cards.partners(ByLetter(), kinds, n=1)["gists"] == (1, "100.0%")


def test_shared_words_are_counted():
    table = cards.SharedWords().encode(["The dog, the cat.", "the DOG", "rain"])
    assert table.sum(1).tolist() == [3, 2, 1]
    assert (table[0] @ table[1], table[0] @ table[2]) == (2, 0)


def test_the_correlation_is_of_held_out_pairs_of_one_source(tmp_path):
    rows = [
        {"sentence1": a, "sentence2": b, "score": score, "source": source, "split": split}
        for a, b, score, source, split in [
            ("ax", "ay", 5, "images", "dev"),
            ("bx", "cy", 1, "images", "dev"),
            ("dx", "dy", 4, "images", "dev"),
            ("ax", "ay", 0, "headlines", "dev"),
            ("bx", "cy", 2, "headlines", "dev"),
            ("ax", "ay", 0, "images", "train"),
        ]
    ]
    with lzma.open(tmp_path / "sts-open.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    assert pretrain.sts_correlation(ByLetter(), tmp_path, "images") == pytest.approx(0.866, abs=1e-3)
    assert pretrain.sts_correlation(ByLetter(), tmp_path, "headlines") == pytest.approx(-1)
    assert pretrain.sts_correlation(ByLetter(), tmp_path) == pytest.approx(0.2887, abs=1e-3)


def test_batches_hold_one_kind_and_its_loss_is_the_lesson_s(corpus, tiny):
    tiny.normalise = False
    batches = pretrain.pair_batches(tiny, pretrain.sentence_pairs(corpus), batch=2)
    kinds = set()
    for step in range(12):
        ids, mask, others, real = batches(step)
        assert ids.shape == mask.shape and others.shape == real.shape and len(ids) == len(others) <= 2
        assert torch.equal(ids, batches(step)[0]) and mask.dtype == torch.bool and bool(mask[:, 0].all())
        kinds.add(tiny.tokenizer.decode(ids[0].tolist()).split()[0])
        close(objectives.pairs(tiny.model, batches(step), None), pair_loss(tiny, (ids, mask), (others, real)))
    assert len(kinds) > 3
