"""The tokenizers against the library and against their definitions: merge for merge, id for id, byte for byte."""

import http.server
import json
import math
import os
import random
import re
import subprocess
import sys
import threading
import unicodedata
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from utils import bench, data, pages, zoo
from utils.lessons import tokens
from utils.lessons.tokens import BPE, WordPiece, best_cut, count_words, em_step, expected_pieces, train_bpe

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_zoo import Hub  # noqa: E402

HOSTILE = [
    "",
    " ",
    "\n\n  \n \t ",
    "a  b   c \u00a0\u2003 d\u0085e\u2028f",
    "don't DON'T don’t 'til we've'll 's 'S ' s",
    "x" * 3000,
    "ab" * 500 + "\u0301" * 50,
    "1234567890" * 20 + "٣٤٥ Ⅻ ½ ²",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 \U0001f1e9\U0001f1ea",
    "\x00\x01\x7f\ufeff\ufffd\ufffe\U0010ffff",
    "مرحبا بالعالم ‏‎ שלום",
    "ก็ไม่เป็นไร — कृपया धन्यवाद",
    "漢字カタカナひらがな한국어㋿豈",
    "Straße ﬁne Ǆungla İstanbul ΣΊΣΥΦΟΣ ς ẞ Å Å",
    "C++ <b>&amp;</b> $5.00 ~100% a_b `x` ^2 |y| [z] {w} \\n",
    "-" * 200 + "=" * 77 + "…" * 9,
]


@pytest.fixture(scope="module")
def articles():
    return data.wikipedia()


@pytest.fixture(scope="module")
def plain():
    """The definition on the page: count all pairs, merge, count again."""
    return pages.definitions("01_tokens", "count_pairs", "train_plainly")[1]


def library(texts, n_merges):
    """The library's byte-level BPE trained on texts, and its merges as pairs of ids."""
    twin = bench.library_bpe(texts, n_merges)
    return twin, list(map(tuple, bench.library_merges(twin)))


def some_texts(seed, n=30, letters="aaabbc  "):
    """Short texts of few letters: many ties, many pairs that overlap themselves."""
    dice = random.Random(seed)
    return ["".join(dice.choices(letters, k=dice.randrange(25))) for _ in range(n)]


# ---- words and bytes


def test_words_are_those_of_the_library_for_every_letter_of_unicode():
    """Each letter beside letters, digits, marks and spaces. (Code points that are no letters yet may differ.)"""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    for start in range(0, len(letters), 256):
        text = "".join(f"a{letter}1{letter} {letter}!\n" for letter in letters[start : start + 256])
        theirs = [text[begin:end] for _, (begin, end) in splitter.pre_tokenize_str(text)]
        assert tokens.split_words(text) == theirs, hex(ord(letters[start]))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_words_are_those_of_the_library_and_leave_nothing_out(text):
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs = [text[start:end] for _, (start, end) in splitter.pre_tokenize_str(text)]
    assert tokens.split_words(text) == theirs and "".join(theirs) == text


def test_the_ids_of_bytes_are_gpt2s():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    names.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in HOSTILE:
        assert [i for word in tokens.split_words(text) for i in tokens.spell(word)] == names.encode(text).ids
    assert sorted(tokens.ALPHABET) == list(range(256))
    assert tokens.spell("!~ ") == [0, 93, 220]


# ---- training


@pytest.mark.parametrize("seed", range(40))
def test_fast_plain_and_library_learn_the_same_merges_to_the_end(plain, seed):
    texts = some_texts(seed, letters=("aaabbc  ", "ab", "xyz. ")[seed % 3])
    words = count_words(texts)
    merges = train_bpe(words, 500)
    assert merges == plain(words, 500)
    assert merges == library(texts, 500)[1][: len(merges)]
    assert len(merges) < 500


def test_fast_and_plain_agree_on_real_words(plain):
    words = count_words(data.news()[:15])
    assert train_bpe(words, 150) == plain(words, 150)


@pytest.mark.parametrize("n_merges", [1, 700, 15_000])
def test_the_library_learns_the_same_merges_from_more_than_a_megabyte(articles, n_merges):
    texts = articles + data.wikipedia("bg") + HOSTILE
    twin, theirs = library(texts, n_merges)
    merges = train_bpe(count_words(texts), n_merges)
    assert merges == theirs
    bpe, some = BPE(merges), [*data.news(), *HOSTILE, *data.wikipedia("bg")]
    assert [bpe.encode(text) for text in some] == [encoding.ids for encoding in twin.encode_batch(some)]


@pytest.mark.parametrize("seed", range(6))
def test_the_ledgers_are_the_counts_taken_anew(seed):
    """After every merge `pairs` holds what a fresh count finds, and nothing of the pair that was merged."""
    count_pairs = pages.definitions("01_tokens", "count_pairs")[0]
    words = count_words(some_texts(seed, letters="aaab ") if seed else data.news()[:10])
    ledgers = tokens.Neighbours(words)
    for new, pair in enumerate(train_bpe(words, 60), 256):
        ledgers.merge(pair, new)
        anew = count_pairs(list(zip(ledgers.words, ledgers.counts)))
        assert pair not in ledgers.pairs
        assert {pair: times for pair, times in ledgers.pairs.items() if times} == anew
        assert all(ledgers.where[pair] for pair in anew)


def test_fewer_merges_are_the_beginning_of_more():
    words = count_words(data.news()[:50])
    assert train_bpe(words, 300)[:120] == train_bpe(words, 120)


def test_training_changes_nothing_that_it_is_given_and_empty_texts_teach_nothing():
    words = count_words(["a rose is a rose"])
    before = dict(words)
    train_bpe(words, 10)
    assert words == before
    assert train_bpe({}, 10) == train_bpe({"": 3, "a": 5}, 10) == train_bpe(words, 0) == []


def test_no_two_merges_make_the_same_token(articles):
    bpe = BPE(train_bpe(count_words(articles[:50]), 10_000))
    assert len(set(bpe.tokens)) == len(bpe.tokens) == 10_256


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_vocabulary_saves_less_each_time_and_rare_words_pay(articles, seed):
    """What the page claims of one draw holds for others."""
    order = random.Random(seed).sample(articles, len(articles))
    merges, held_out = train_bpe(count_words(order[20:]), 8192 - 256), " ".join(order[:20])
    lengths = [len(BPE(merges[: size - 256]).encode(held_out)) for size in (256, 512, 1024, 4096, 8192)]
    assert lengths[0] > 1.8 * lengths[1] and 1.3 * lengths[2] > lengths[1] > 1.15 * lengths[2]
    assert 1.2 * lengths[4] > lengths[3] > 1.08 * lengths[4]
    bpe, familiar, cost = BPE(merges), Counter(re.findall(r"\w+", " ".join(order[20:]))), []
    for low, high in ((0, 0), (1, 9), (10, 99), (100, math.inf)):
        words = [word for word in re.findall(r"\w+", held_out) if low <= familiar[word] <= high]
        cost.append(sum(len(bpe.encode(" " + word)) for word in words) / len(words))
    assert cost[0] > 1.3 * cost[1] > 1.3 * 1.5 * cost[2] and cost[2] > 1.05 * cost[3] and cost[3] < 1.02


# ---- there and back


@pytest.fixture(scope="module")
def bpe(articles):
    return BPE(train_bpe(count_words(articles[:30]), 4000))


def test_ten_thousand_random_byte_strings_come_back(bpe):
    dice = random.Random(1)
    for _ in range(10_000):
        blob = dice.randbytes(dice.randrange(60))
        text = blob.decode("utf-8", "surrogateescape")
        assert bpe.decode(bpe.encode(text), "surrogateescape").encode("utf-8", "surrogateescape") == blob


def test_letters_of_all_planes_come_back(bpe):
    dice = random.Random(2)
    seen = Counter()
    for _ in range(10_000):
        codes = [0x10000 * dice.randrange(17) + dice.randrange(0x10000) for _ in range(dice.randrange(30))]
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        assert bpe.decode(bpe.encode(text)) == text
        seen.update(code >> 16 for code in codes)
    assert len(seen) == 17 and min(seen.values()) > 5000


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_come_back(bpe, text):
    assert bpe.decode(bpe.encode(text)) == text


def test_half_a_letter_is_shown_as_such_and_ids_are_not_shared(bpe):
    ids = bpe.encode("犬")
    assert bpe.decode(ids[:-1]) == "\N{REPLACEMENT CHARACTER}"
    ids.append(0)
    assert bpe.encode("犬") == ids[:-1]


def test_the_story_tokenizer_is_one_of_ours():
    """The zoo's tokenizer has 71 special tokens in front; behind them its numbers are ours."""
    story = Tokenizer.from_file(str(zoo.FOLDER / "tokenizer.json"))
    its = json.loads(story.to_str())["model"]
    first = its["vocab"]["!"]
    ours = BPE([tuple(its["vocab"][part] - first for part in pair) for pair in its["merges"]])
    texts = [text for text in [*data.news()[:100], *HOSTILE] if "<" not in text]
    assert [[i + first for i in ours.encode(text)] for text in texts] == [
        story.encode(text).ids for text in texts
    ]


# ---- WordPiece


@pytest.fixture(scope="module")
def minilm():
    return WordPiece(data.minilm_vocabulary()), data.minilm_tokenizer()


def sentences(texts):
    return re.split(r"(?<=[.!?])\s", " ".join(texts))


def test_wordpiece_ids_are_minilms_on_a_thousand_sentences_and_more(minilm, articles):
    ours, theirs = minilm
    texts = sentences(data.news())[:1000] + sentences(articles)[:1000] + data.wikipedia("bg") + HOSTILE
    texts += ["x" * 100, "x" * 101, "A" * 99 + "é", "\u0301", "[MASK", "…"]
    encoded = theirs.encode_batch(texts, add_special_tokens=False)
    assert [ours.encode(text) for text in texts] == [encoding.ids for encoding in encoded]
    assert [ours.pieces(text) for text in texts] == [encoding.tokens for encoding in encoded]


def test_berts_words_are_the_librarys_for_every_letter_of_unicode_3_2(minilm):
    """The library knows an edition of Unicode of its own; four old letters have changed their kind since."""
    theirs, codes = minilm[1], range(0x110000)
    old = [chr(code) for code in codes if unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs")]
    old = [letter for letter in old if letter not in "\u166d\u1734\u1885\u1886"]
    for start in range(0, len(old), 128):
        text = "".join(f"a{letter}b {letter}\n" for letter in old[start : start + 128])
        words = theirs.pre_tokenizer.pre_tokenize_str(theirs.normalizer.normalize_str(text))
        assert tokens.bert_words(text) == [word for word, _ in words], hex(ord(old[start]))


def test_wordpiece_takes_the_longest_or_nothing():
    pieces = {piece: i for i, piece in enumerate(["a", "ab", "##b", "##bc", "##c", "abc##"])}
    assert tokens.wordpiece("abc", pieces) == ["ab", "##c"]
    assert tokens.wordpiece("abbc", pieces) == ["ab", "##bc"]
    assert tokens.wordpiece("ba", pieces) == ["[UNK]"]
    assert tokens.wordpiece("abx", pieces) == ["[UNK]"]
    assert tokens.wordpiece("abbb", pieces, longest=3) == ["[UNK]"]


# ---- Unigram


def some_pieces(bpe, seed):
    """The tokens of a BPE with random probabilities."""
    dice = random.Random(seed)
    weights = [dice.expovariate(1) for _ in bpe.tokens]
    return {token: math.log(weight / sum(weights)) for token, weight in zip(bpe.tokens, weights)}


@pytest.mark.parametrize("seed", range(3))
def test_unigram_cuts_are_the_librarys(bpe, articles, seed):
    log_p = some_pieces(bpe, seed)
    letter = dict(zip(tokens.ALPHABET, sorted(pre_tokenizers.ByteLevel.alphabet())))
    names = {token: "".join(letter[byte] for byte in token) for token in log_p}
    kudo = Tokenizer(models.Unigram([(names[token], score) for token, score in log_p.items()]))
    kudo.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for word in [*count_words(articles[30 + 10 * seed : 40 + 10 * seed]), *filter(None, HOSTILE)]:
        cut = [piece for part in tokens.split_words(word) for piece in best_cut(part.encode(), log_p, 99)]
        assert [names[piece] for piece in cut] == kudo.encode(word).tokens


def all_cuts(word):
    """Every cut: between two bytes there is a knife or there is none."""
    for knives in product((False, True), repeat=len(word) - 1):
        edges = [0, *(at for at, knife in enumerate(knives, 1) if knife), len(word)]
        yield tuple(word[start:end] for start, end in zip(edges, edges[1:]))


@pytest.mark.parametrize("seed", range(8))
def test_best_cut_and_expected_pieces_are_those_of_all_cuts(seed):
    dice = random.Random(seed)
    pieces = {bytes(dice.choices(b"ab", k=dice.randrange(1, 4))) for _ in range(6)} | {b"a", b"b"}
    log_p = {piece: math.log(dice.random()) for piece in pieces}
    for _ in range(10):
        word = bytes(dice.choices(b"ab", k=dice.randrange(1, 10)))
        cuts = [cut for cut in all_cuts(word) if all(piece in log_p for piece in cut)]
        p = {cut: math.exp(sum(log_p[piece] for piece in cut)) for cut in cuts}
        expected, total = expected_pieces(word, log_p)
        assert math.isclose(p[tuple(best_cut(word, log_p))], max(p.values()))
        assert math.isclose(total, math.log(sum(p.values())), abs_tol=1e-12)
        for piece in pieces:
            mean = sum(p[cut] * cut.count(piece) for cut in cuts) / sum(p.values())
            assert math.isclose(expected[piece], mean, abs_tol=1e-12)


def test_a_step_of_em_is_a_distribution_and_the_text_becomes_likelier(bpe):
    words, log_p, before = count_words(data.news()[:60]), some_pieces(bpe, 0), -math.inf
    for _ in range(4):
        log_p, likelihood = em_step(words, log_p)
        assert math.isclose(sum(map(math.exp, log_p.values())), 1)
        assert likelihood > before
        before = likelihood
    assert all(bytes([byte]) in log_p for byte in range(256))


def test_long_words_do_not_underflow(bpe):
    expected, total = expected_pieces(b"q" * 2000, some_pieces(bpe, 0))
    assert math.isfinite(total) and math.isclose(sum(len(p) * n for p, n in expected.items()), 2000)


# ---- the page's section for those with a network

CELL = """
import json, re
from utils import course, data, pages, show
from utils.lessons.tokens import *
news, sentence = data.news()[:20], "One sentence."
reader, per_word = pages.definitions("01_tokens", "reader", "per_word", given={"show": show})
cell = next(cell for cell in pages.read(pages.ROOT / "notebooks/01_tokens.ipynb").cells if cell.id == "hub")
exec(cell.source)
"""


def test_the_hub_cell_runs_against_a_hub(tmp_path):
    twin, _ = library(data.news()[20:60], 300)
    (tmp_path / "hub").mkdir()
    twin.save(str(tmp_path / "hub" / "tokenizer.json"))
    kind = type("GPT2Hub", (Hub,), {"folder": tmp_path / "hub", "name": "openai-community/gpt2"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k != "COURSE_ONLINE"}
    place = {"HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", CELL], cwd=pages.ROOT, env=kept | place, capture_output=True, text=True
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.stdout.startswith("300 merges, equal ids;"), done.stderr[-500:]
