"""The coder gives back any bytes, its files are as long as the model says, and the n-gram model is the rule itself."""

import bz2
import gzip
import lzma
import math
import random
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch

from utils import data, pages, zoo
from utils.lessons import language_modelling as lm
from utils.lessons.gpt import GPT, GPTConfig

STUDY = "\n".join(data.news()[:60]).encode()
HOSTILE = [
    b"",
    b"a",
    b"\x00",
    b"\xff",
    b"\x00" * 5000,
    b"\xff" * 777,
    bytes(range(256)),
    bytes(range(255, -1, -1)) * 2,
    b"<eos>",
    b"<bos><eos><pad><extra_63>",
    "🙂".encode(),
    "🧑🏽‍🚀🇧🇬👩‍👩‍👧 🙂".encode() * 5,
    "é\u0301\u0301 ﷽ ‮abc".encode(),
    "Ωμέγα".encode("utf-16"),
    "中文字".encode("gb18030"),
    b"\xed\xa0\x80",
    b"\xc0\x80\xf8\x88",
    b"\xe2\x82",
    b"\n" * 300,
    b" " * 1000 + b"x",
    b"\r\n\t\x0b\x0c \xc2\xa0",
    b"ab" * 2000,
    b"a" * 999 + b"b",
    gzip.compress(b"twice packed " * 50, mtime=0),
    lzma.compress(b"twice packed " * 50),
    bz2.compress(b"twice packed " * 50),
    STUDY[:400].swapcase(),
    STUDY[:400][::-1],
]
HOSTILE += [random.Random(seed).randbytes(seed * seed) for seed in range(1, 25)]  # up to 576 bytes


def some_texts(n):
    """n ordinary texts of 0 to 300 bytes, cut anywhere, from news that no model here has studied."""
    news, dice = "\n".join(data.news()[60:]).encode(), random.Random(0)
    for _ in range(n):
        start = dice.randrange(len(news))
        yield news[start : start + dice.randrange(300)]


def is_faithful(text, predictor):
    """Back without loss, and within 1 % and 2 bytes of what the model asks for."""
    file, asked = lm.compress(text, predictor), sum(lm.costs(text, predictor)[1]) / 8
    assert lm.decompress(file, predictor) == text
    assert abs(len(file) - asked) <= 0.01 * asked + 2, (len(file), asked)
    return len(file)


@pytest.fixture(scope="module")
def ngram():
    return lm.NGram(3, STUDY)


@pytest.fixture(scope="module")
def alphabet():
    return lm.TokenAlphabet(zoo.load("gpt-200k")[1])


@pytest.fixture(scope="module")
def small(alphabet):
    return lm.GPTPredictor(zoo.load("gpt-200k")[0], alphabet)


# ---- without loss, and as long as the model says


def test_there_are_enough_texts():
    assert len(HOSTILE) >= 50 and len(set(HOSTILE)) == len(HOSTILE)


def test_hostile_bytes_come_back(ngram):
    for text in HOSTILE:
        is_faithful(text, lm.AdaptiveNGram(2))
        if len(text) <= 1000:
            is_faithful(text, ngram)


def test_hostile_bytes_come_back_from_a_gpt(small):
    for text in HOSTILE:
        if len(text) <= 200:
            is_faithful(text, small)


def test_texts_come_back(ngram):
    sizes = [is_faithful(text, ngram) for text in some_texts(150)]
    assert sum(sizes) < 0.45 * sum(map(len, some_texts(150)))


def test_texts_come_back_from_a_gpt(small):
    for text in some_texts(12):
        is_faithful(text, small)


def test_a_hundred_thousand_times_one_byte():
    assert is_faithful(b"a" * 100_000, lm.AdaptiveNGram(1)) < 20


@pytest.mark.parametrize("name", [name for name in zoo.members() if name in ("gpt", "gpt-1m", "lstm")])
def test_every_reader_of_the_zoo_codes(name, alphabet):
    kind = lm.LSTMPredictor if name == "lstm" else lm.GPTPredictor
    predictor = kind(zoo.load(name)[0], alphabet)
    for text in ("Once upon a time \x00 🙂".encode(), b"\xff<eos>"):
        is_faithful(text, predictor)


# ---- the coder


class Fixed:
    """The same probabilities always."""

    def __init__(self, p):
        self.p = np.array(p)
        self.alphabet = lm.ByteAlphabet()
        self.alphabet.end = len(p) - 1

    def begin(self): ...
    def read(self, symbol): ...

    def probabilities(self):
        return self.p


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_whole_and_sum_to_the_total(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(rng.integers(2, 6000), 10.0 ** rng.integers(-3, 2)))
    sums = lm.running_sums(p)
    shares = np.diff(sums)
    assert sums[0] == 0 and sums[-1] == lm.TOTAL and shares.min() >= 1
    assert np.abs(shares / lm.TOTAL - p).max() < 1e-8


@pytest.mark.parametrize("seed", range(30))
def test_any_shares_any_symbols(seed):
    """Also shares of nearly 0 and nearly 1, in favour of what comes and against it."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(rng.integers(2, 9), 10.0 ** rng.integers(-4, 2)))
    symbols = rng.integers(0, len(p) - 1, size=rng.integers(0, 400)).tolist()
    assert list(lm.decode(lm.encode(symbols, Fixed(p)), Fixed(p))) == symbols


def test_half_and_half_around_the_middle_owes_bits():
    """The middle symbol keeps the interval around one half: nothing is settled until the end, then all at once."""
    third = Fixed([0.25, 0.5, 0.25 - 1e-9, 1e-9])
    log = []

    def symbols():
        for n in range(200):
            log.append(n)
            yield 1

    bits = list(lm.encode(symbols(), third))
    assert len(log) == 200 and list(lm.decode(bits, third)) == [1] * 200
    assert 200 < len(bits) < 240


def test_bits_leave_while_symbols_come():
    taken = []

    def symbols():
        for n in range(100_000):
            taken.append(n)
            yield 7

    first = list(islice(lm.to_bytes(lm.encode(symbols(), Fixed(np.full(257, 1 / 257)))), 10))
    assert len(first) == 10 and len(taken) < 24


def test_bytes_are_read_as_they_come():
    file, taken = lm.compress(STUDY[:500], lm.NGram(1)), []

    def slowly():
        for byte in file:
            taken.append(byte)
            yield byte

    symbols = list(islice(lm.decode(lm.to_bits(slowly()), lm.NGram(1)), 10))
    assert bytes(symbols) == STUDY[:10] and len(taken) < 24


@pytest.mark.parametrize("seed", range(12))
def test_a_file_that_was_cut_never_runs_on_for_ever(seed, ngram):
    """It ends with an error or, by chance, with another text; what came before the cut is right."""
    file = lm.compress(STUDY[:600], ngram)
    cut, came = file[: seed * len(file) // 12], b""
    try:
        for symbol in lm.decode(lm.to_bits(cut), ngram):
            came += bytes([symbol])
    except ValueError as error:
        assert "cut off" in str(error)
    assert came != STUDY[:600] and came[: 4 * seed] == STUDY[: 4 * seed]


def test_coded_as_exactly_as_with_fractions():
    """The plain definition: within two bits of the exact interval's surprise."""
    narrow, shortest = pages.definitions(
        "06_language_modelling", "narrow", "shortest_number", given={"Fraction": Fraction, "math": math}
    )
    shares = {0: Fraction(1, 2), 1: Fraction(1, 4), 2: Fraction(1, 8), 3: Fraction(1, 8)}
    fixed = Fixed([float(share) for share in shares.values()])
    for seed in range(20):
        symbols = np.random.default_rng(seed).integers(0, 3, size=seed).tolist()
        exact = len(shortest(*narrow([*symbols, 3], shares)))
        assert abs(len(list(lm.encode(symbols, fixed))) - exact) <= 2


# ---- the n-gram model


(by_hand,) = pages.definitions("06_language_modelling", "by_hand", given={"Fraction": Fraction})


@pytest.mark.parametrize("seed", range(6))
def test_probabilities_are_the_rule(seed):
    dice = random.Random(seed)
    text = bytes(dice.choices(b"abcd", k=60))
    model = lm.NGram(3, text)
    for _ in range(5):
        context = bytes(dice.choices(b"abcde", k=dice.randrange(4)))
        model.begin()
        for symbol in context:
            model.read(symbol)
        exact = [by_hand(text, context, symbol, len(context)) for symbol in range(257)]
        assert sum(exact) == 1
        np.testing.assert_allclose(model.probabilities(), [float(p) for p in exact], rtol=1e-12)


def test_an_adaptive_model_knows_what_a_trained_one_does():
    text, learner = b"the cat sat on the mat", lm.AdaptiveNGram(2)
    learner.begin()
    for symbol in text:
        learner.read(symbol)
    assert learner.after == lm.NGram(2, text).after
    learner.begin()
    assert not learner.after and np.allclose(learner.probabilities(), 1 / 257)


# ---- tokens and neural predictors


def test_tokens_are_the_librarys(alphabet):
    tokenizer = zoo.load("gpt-200k")[1]
    for text in data.news()[:40]:
        assert alphabet.split(text.encode()) == tokenizer.encode(text).ids
    assert alphabet.size == tokenizer.get_vocab_size()


def test_any_bytes_are_tokens_and_no_special_ones(alphabet):
    for text in HOSTILE:
        tokens = alphabet.split(text)
        assert b"".join(map(alphabet.spell, tokens)) == text and min(tokens, default=99) >= alphabet.first


def test_a_long_text_slides_by_half_a_window(alphabet):
    torch.manual_seed(0)
    model = GPT(GPTConfig(alphabet.size, n_positions=16, n_layers=1, n_heads=2, d_model=8)).eval()
    predictor, lengths = lm.GPTPredictor(model, alphabet), []
    predictor.begin()
    tokens = alphabet.split(STUDY[:300])
    for n, token in enumerate(tokens):
        predictor.read(token)
        lengths.append(predictor.cache.length)
        seen = [alphabet.start, *tokens[: n + 1]][-predictor.cache.length :]
        with torch.no_grad():
            p = model(torch.tensor([seen]))[0, -1].double().softmax(-1)
        np.testing.assert_allclose(predictor.probabilities(), p, atol=1e-6)
    assert max(lengths) == 16 and min(lengths[16:]) == 8
    is_faithful(STUDY[:300], predictor)


def test_two_predictors_give_the_same_bits(small, alphabet):
    """A fresh one, later, with other passes in between: the probabilities are equal to the last bit."""
    other = lm.GPTPredictor(zoo.load("gpt-200k")[0], alphabet)
    file = lm.compress(STUDY[:600], small)
    lm.costs(b"something else", other)
    assert lm.decompress(file, other) == STUDY[:600]


def test_costs_are_the_models_loss(small, alphabet):
    tokens = alphabet.split(STUDY[:500])
    symbols, bits = lm.costs(STUDY[:500], small)
    ids = torch.tensor([[alphabet.start, *tokens, alphabet.end]])
    with torch.no_grad():
        log_p = small.model(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None])
    assert symbols == ids[0, 1:].tolist()
    assert sum(bits) == pytest.approx(-log_p.sum().item() / math.log(2), rel=1e-5)
