"""Word vectors: counts, PMI, Spearman, skip-gram's gradient and sampling, analogies; and the vectors of the zoo."""

import math
import random
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from utils import data, vectors, zoo
from utils.lessons import word_vectors
from utils.lessons.word_vectors import (
    analogy,
    bands,
    block,
    cooccurrence,
    interval,
    judge,
    keep_chance,
    nearest,
    noise_weights,
    number,
    pmi,
    positive,
    spearman,
    train_skip_gram,
    weigh,
    words,
)

SEEDS = range(12)


def small_text(seed, n_words=9, n_sentences=6):
    """A text (2, length) of short sentences, some of them of a single word."""
    dice = random.Random(seed)
    rows = [(dice.randrange(n_words), n) for n in range(n_sentences) for _ in range(dice.randint(1, 12))]
    return torch.tensor(rows).T


def pairs_by_loop(text, reach):
    """Every (place of the centre, place of the context) within reach[centre] and within a sentence."""
    ids, sentence = text.tolist()
    n = len(ids)
    near = ((i, j) for i in range(n) for j in range(n) if 0 < abs(i - j) <= reach[i])
    return [(i, j) for i, j in near if sentence[i] == sentence[j]]


def test_words_are_runs_of_letters():
    assert words("Don't stop: the 3rd DOG's 'tail'!") == ["don't", "stop", "the", "rd", "dog's", "tail"]
    assert words("") == words("42 — …") == []


def test_numbering_is_by_frequency_and_leaves_rare_words_out():
    vocabulary, counts, text = number([["b", "a", "b"], ["c"], ["a", "b"]], min_count=2)
    assert vocabulary == ["b", "a"] and counts.tolist() == [3, 2]
    assert text.tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 2, 2]]


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_are_those_of_a_loop(seed):
    text, window = small_text(seed), 1 + seed % 4
    table = cooccurrence(text, 9, window).to_dense()
    loop = Counter((int(text[0, i]), int(text[0, j])) for i, j in pairs_by_loop(text, [window] * 999))
    assert {(i, j): table[i, j].item() for i, j in table.nonzero().tolist()} == loop


@pytest.mark.parametrize("seed", SEEDS)
def test_pmi_is_the_formula(seed):
    table = cooccurrence(small_text(seed), 9, 3)
    dense, sparse = table.to_dense().double(), pmi(table).to_dense()
    share = dense / dense.sum()
    expected = (share / (share.sum(1)[:, None] * share.sum(0))).log()
    seen = dense > 0
    torch.testing.assert_close(sparse[seen].double(), expected[seen], atol=1e-5, rtol=1e-5)
    assert (sparse[~seen] == 0).all()
    assert torch.equal(positive(pmi(table)).to_dense(), sparse.clamp(min=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_spearman_is_scipys_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    for values in (rng.normal(size=(2, 50)), rng.integers(0, 4, (2, 50))):
        assert spearman(*torch.from_numpy(values)) == pytest.approx(spearmanr(*values).statistic, abs=1e-12)


def test_a_judge_asks_only_what_is_known():
    table, ids = torch.eye(3), {"a": 0, "b": 1, "c": 2}
    table[1, 0] = 1.0
    rated = [("a", "b", 9.0), ("a", "c", 1.0), ("b", "c", 2.0), ("a", "unknown", 5.0)]
    score, n = judge(table, ids, rated)
    assert n == 3 and score == pytest.approx(spearmanr([2**-0.5, 0, 0], [9, 1, 2]).statistic)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Pairs of normal numbers with a known rank correlation, 2,000 samples of 100."""
    rng, rho = np.random.default_rng(0), 0.5
    truth, inside = 6 / math.pi * math.asin(rho / 2), 0
    for _ in range(2000):
        x = rng.normal(size=100)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=100)
        low, high = interval(spearmanr(x, y).statistic, 100)
        inside += low <= truth <= high
    assert 0.93 < inside / 2000 < 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bands_hold_the_pairs_of_the_loop(seed):
    text, window, n_block = small_text(seed), 4, 1 + seed
    length = text.size(1)
    reach = torch.randint(1, window + 1, (length,), generator=torch.Generator().manual_seed(seed))
    centres, contexts, pairs = bands(text, reach, window, n_block)
    assert pairs.shape == (-(-length // n_block), n_block, n_block + 2 * window)
    found = [(b * n_block + i, b * n_block + j - window) for b, i, j in pairs.nonzero().tolist()]
    assert found == pairs_by_loop(text, reach.tolist())
    assert centres.flatten()[:length].equal(text[0])
    for b, _, j in pairs.nonzero().tolist():
        assert contexts[b, j] == text[0, b * n_block + j - window]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_block_is_one_step_down_the_gradient_of_its_loss(seed):
    """Autograd on the loss, pair by pair and with weighted noise, gives the same new tables."""
    dice, text, k, rate = torch.Generator().manual_seed(seed), small_text(seed), 3, 0.1
    reach = torch.randint(1, 4, (text.size(1),), generator=dice)
    noise = torch.randint(0, 9, (6,), generator=dice)
    X, Y = (torch.randn(9, 5, generator=dice, dtype=torch.float64).requires_grad_() for _ in range(2))
    centres, contexts, pairs = bands(text, reach, 3, n_block=8)
    b = seed % len(centres)
    loss = 0
    for i, j in pairs_by_loop(text, reach.tolist()):
        if 8 * b <= i < 8 * (b + 1):
            x, y = X[text[0, i]], Y[text[0, j]]
            loss = loss - F.logsigmoid(x @ y) - k / 6 * F.logsigmoid(-(Y[noise] @ x)).sum()
    for_X, for_Y = torch.autograd.grad(loss, (X, Y))
    new_X, new_Y = X.detach().clone(), Y.detach().clone()
    weight = rate * weigh(pairs[b].double(), 6, k)
    block(new_X, new_Y, centres[b], torch.cat([contexts[b], noise]), weight, n_noise=6)
    torch.testing.assert_close(new_X, X.detach() - rate * for_X, atol=1e-12, rtol=0)
    torch.testing.assert_close(new_Y, Y.detach() - rate * for_Y, atol=1e-12, rtol=0)


def test_sampling_follows_gensims_formulas():
    """The chance to be kept and the noise, against the numbers in gensim's own tables."""
    from gensim.models import Word2Vec

    dice = random.Random(0)
    sentences = [[f"w{min(int(dice.expovariate(0.3)), 20)}" for _ in range(50)] for _ in range(200)]
    model = Word2Vec(sentences, sg=1, min_count=1, sample=1e-2, negative=5, workers=1, seed=1, epochs=1)
    counts = torch.tensor([model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key])
    kept = [model.wv.get_vecattr(word, "sample_int") / 2**32 for word in model.wv.index_to_key]
    assert keep_chance(counts, 1e-2).tolist() == pytest.approx(kept, abs=1e-4)
    noise = noise_weights(counts).cumsum(0)
    theirs = torch.from_numpy(model.cum_table.astype("float64"))
    torch.testing.assert_close(noise / noise[-1], theirs / theirs[-1], atol=1e-6, rtol=0)


def two_worlds(seed):
    """Sentences about one of two topics; "x" and "y" stand in the first, "z" in the second."""
    dice = random.Random(seed)
    worlds = ([*"abcdef", "x", "y"], [*"ghijkl", "z"])
    return [dice.choices(worlds[n % 2], k=12) for n in range(600)]


@pytest.mark.parametrize("seed", range(3))
def test_training_puts_words_of_one_company_together(seed):
    vocabulary, counts, text = number(two_worlds(seed))
    settings = {"width": 16, "window": 5, "threshold": 1.0, "n_block": 8, "n_noise": 16}
    X, _ = train_skip_gram(text, counts, seed, **settings)
    ids = {word: i for i, word in enumerate(vocabulary)}
    x, y, z = (F.normalize(X[ids[word]], dim=0) for word in "xyz")
    assert x @ y > x @ z + 0.3
    assert torch.equal(X, train_skip_gram(text, counts, seed, **settings)[0])


def test_a_text_of_any_length_is_trained_to_its_end():
    counts = torch.tensor([5, 4, 3])
    for length in (1, 2, 63, 64, 65, 130):
        text = torch.stack([torch.arange(length) % 3, torch.zeros(length, dtype=torch.long)])
        X, Y = train_skip_gram(text, counts, epochs=1, width=4, threshold=1e9)
        assert X.isfinite().all() and Y.isfinite().all() and (Y.abs().sum() > 0) == (length > 1)


def test_nearest_and_analogy_are_gensims():
    from gensim.models import KeyedVectors

    rng = np.random.default_rng(0)
    names, rows = [f"w{i}" for i in range(40)], rng.normal(size=(40, 6)).astype("float32")
    theirs = KeyedVectors(6)
    theirs.add_vectors(names, rows)
    table = torch.from_numpy(rows)
    for i in range(40):
        found, cosines = nearest(table, table[i], 5, leave_out=[i])
        expected = theirs.most_similar(names[i], topn=5)
        assert [names[j] for j in found] == [word for word, _ in expected]
        assert cosines == pytest.approx([cosine for _, cosine in expected], abs=1e-6)
    questions = torch.from_numpy(np.stack([rng.permutation(40)[:3] for _ in range(600)]))
    for (a, b, c), found in zip(questions[:40].tolist(), analogy(table, questions).tolist()):
        expected = theirs.most_similar(positive=[names[b], names[c]], negative=[names[a]], topn=5)
        assert [names[j] for j in found] == [word for word, _ in expected]
    everyone = analogy(table, questions, leave_out=False)
    assert any(answer in question for question, (answer, *_) in zip(questions.tolist(), everyone.tolist()))


# ---- the zoo's vectors ----


@pytest.fixture(scope="module")
def shipped():
    found, tokenizer = zoo.load("word2vec")
    assert tokenizer is None
    return found


def test_the_zoos_vectors_are_keyed_vectors_of_ten_thousand_words(shipped):
    from gensim.models import KeyedVectors

    assert type(shipped) is KeyedVectors and len(shipped) == 10_000 and shipped.vector_size == 100
    counts = [shipped.get_vecattr(word, "count") for word in shipped.index_to_key]
    assert counts == sorted(counts, reverse=True) and counts[-1] >= 20
    assert np.isfinite(shipped.vectors).all() and np.linalg.norm(shipped.vectors, axis=1).min() > 0.1
    assert all(re.fullmatch(r"[a-z]+(?:'[a-z]+)?", word) for word in shipped.index_to_key)


def test_the_zoos_vectors_score_what_their_card_says(shipped):
    card = (zoo.FOLDER / "word2vec" / "card.md").read_text(encoding="utf-8")
    assert "Built with Llama" in card
    for name, (score, n) in vectors.measure(torch.from_numpy(shipped.vectors), shipped.key_to_index).items():
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {name} ")]
        assert f"| {n}" in row.replace(",", "") and f"{score:.2f}"[:3] in row
        assert score > 0.15


def test_rounding_to_sixteen_bits_loses_nothing_that_counts(tmp_path):
    from gensim.models import KeyedVectors

    rng = np.random.default_rng(0)
    full = KeyedVectors(20)
    full.add_vectors([f"w{i}" for i in range(300)], rng.normal(size=(300, 20)).astype("float32"))
    for i in range(300):
        full.set_vecattr(f"w{i}", "count", 1000 - i)
    vectors.save(full, tmp_path, n_words=250)
    again = vectors.load(tmp_path)
    assert again.index_to_key == full.index_to_key[:250] and again.get_vecattr("w7", "count") == 993
    cosines = F.cosine_similarity(torch.from_numpy(again.vectors), torch.from_numpy(full.vectors[:250]))
    assert cosines.min() > 1 - 1e-6
    vectors.save(again, tmp_path / "again")
    assert np.array_equal(vectors.load(tmp_path / "again").vectors, again.vectors)


@pytest.mark.parametrize("file", zoo.WORD_VECTORS["word2vec"])
def test_damaged_vectors_are_noticed(tmp_path, monkeypatch, file):
    monkeypatch.setattr(zoo, "FOLDER", shutil.copytree(zoo.FOLDER, tmp_path / "zoo"))
    path = zoo.FOLDER / "word2vec" / file
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(zoo.ZooError, match="does not match its checksum"):
        zoo.load("word2vec")
    path.unlink()
    with pytest.raises(zoo.ZooError, match="is missing"):
        zoo.load("word2vec")


def test_words_and_vectors_must_belong_together(tmp_path):
    shutil.copytree(zoo.FOLDER / "word2vec", tmp_path / "word2vec")
    with open(tmp_path / "word2vec" / "words.txt", "a", encoding="utf-8") as file:
        file.write("unicorn 1\n")
    with pytest.raises(zoo.ZooError, match="do not belong together"):
        vectors.load(tmp_path / "word2vec")


def test_training_reads_the_training_part_of_the_recipes_texts_alone(tmp_path):
    (tmp_path / "stories-simple.jsonl").write_text(
        '{"text": "The dog’s bone.\\nAlone\\nIt ran.", "split": "train"}\n{"text": "Kept back.", "split": "dev"}\n',
        encoding="utf-8",
    )
    (tmp_path / "stories-wider.txt").write_text("another source altogether", encoding="utf-8")
    (tmp_path / "other.txt").write_text("not in the recipe", encoding="utf-8")
    found = list(vectors.sentences(tmp_path))
    assert found == [["the", "dog's", "bone"], ["it", "ran"], ["another", "source", "altogether"]]


def test_the_lessons_module_is_the_pages():
    assert word_vectors.__doc__.startswith("The code of lesson 02_word_vectors")
    assert set(data.analogies()) >= {"family", "gram8-plural"}
