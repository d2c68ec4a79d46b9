"""The code of lesson 06_language_modelling, for the pages after it.

Made from the cells tagged `export` of notebooks/06_language_modelling.ipynb.
Never edit: change the page, then `make made`.
"""

import json
import math
from collections import defaultdict
from itertools import chain, repeat

import numpy as np
import torch

from utils.lessons.tokens import BPE

BITS, TOTAL = 64, 1 << 48  # the interval's ends have 64 bits; all shares together are TOTAL
HALF, QUARTER = 1 << (BITS - 1), 1 << (BITS - 2)


def running_sums(p):
    """Probabilities (V,) → shares of TOTAL, whole, at least 1, as running sums (V + 1,)."""
    shares = np.floor(p * (TOTAL - len(p))).astype(np.int64) + 1
    shares[p.argmax()] += TOTAL - shares.sum()
    return np.concatenate([[0], shares.cumsum()])


class Interval:
    """The whole numbers from low to high, narrowed alike by writer and reader."""

    def __init__(self):
        self.low, self.high = 0, 2 * HALF - 1

    def narrow(self, start, end):
        """Keep the share from start to end, of TOTAL; yields each digit that leaves.

        A digit is (bit, what is cut off below before doubling); an owed bit is None.
        """
        width = self.high - self.low + 1
        self.high = self.low + width * int(end) // TOTAL - 1
        self.low += width * int(start) // TOTAL
        while True:
            if self.high < HALF:
                bit, cut = 0, 0
            elif self.low >= HALF:
                bit, cut = 1, HALF
            elif QUARTER <= self.low and self.high < 3 * QUARTER:
                bit, cut = None, QUARTER
            else:
                return
            self.low, self.high = 2 * (self.low - cut), 2 * (self.high - cut) + 1
            yield bit, cut


def encode(symbols, predictor):
    """Symbols, one by one → bits, one by one, each as soon as it is settled."""
    interval, owed, end = Interval(), 0, predictor.alphabet.end
    predictor.begin()
    for symbol in chain(symbols, [end]):
        sums = running_sums(predictor.probabilities())
        for bit, _ in interval.narrow(sums[symbol], sums[symbol + 1]):
            if bit is None:
                owed += 1
            else:
                yield from chain([bit], repeat(1 - bit, owed))
                owed = 0
        if symbol != end:
            predictor.read(symbol)
    last = int(interval.low >= QUARTER)  # 01… or 10…: a quarter that is all inside
    yield from chain([last], repeat(1 - last, owed + 1))


def with_zeros(bits):
    """The bits, then as many zeros as a reader can need; who wants more has no whole file."""
    yield from chain(bits, repeat(0, BITS))
    raise ValueError("The file ends in the middle of the text: it was cut off or damaged.")


def decode(bits, predictor):
    """Bits, one by one → symbols, one by one, until the predictor's end."""
    bits, interval, value = with_zeros(bits), Interval(), 0
    predictor.begin()
    for _ in range(BITS):
        value = 2 * value + next(bits)
    while True:
        sums = running_sums(predictor.probabilities())
        width = interval.high - interval.low + 1
        place = ((value - interval.low + 1) * TOTAL - 1) // width  # of TOTAL
        symbol = int(np.searchsorted(sums, place, side="right")) - 1
        if symbol == predictor.alphabet.end:
            return
        for _, cut in interval.narrow(sums[symbol], sums[symbol + 1]):
            value = 2 * (value - cut) + next(bits)
        yield symbol
        predictor.read(symbol)


class ByteAlphabet:
    """Every byte is a symbol; one more symbol is the end."""

    size, end = 257, 256

    def split(self, data):
        """Bytes → symbols."""
        return data

    def spell(self, symbol):
        """A symbol → its bytes."""
        return bytes([symbol])


def to_bytes(bits):
    """Bits → bytes, one after the other; zeros fill the last one."""
    byte, n = 0, 0
    for bit in bits:
        byte, n = 2 * byte + bit, n + 1
        if n == 8:
            yield byte
            byte, n = 0, 0
    if n:
        yield byte << (8 - n)


def to_bits(data):
    """Bytes → bits, one after the other."""
    return (byte >> place & 1 for byte in data for place in range(7, -1, -1))


def compress(data, predictor):
    """Any bytes → a shorter file, if the predictor predicts them well."""
    return bytes(to_bytes(encode(predictor.alphabet.split(data), predictor)))


def decompress(file, predictor):
    """The file → the bytes it was made from; the predictor must be the one that made it."""
    return b"".join(map(predictor.alphabet.spell, decode(to_bits(file), predictor)))


def costs(data, predictor):
    """What the data cost: their symbols with the end, and -log2 p of each, in bits."""
    symbols, bits = [*predictor.alphabet.split(data), predictor.alphabet.end], []
    predictor.begin()
    for symbol in symbols:
        p = max(predictor.probabilities()[symbol], 2.0**-1074)  # smallest float: no log of 0
        bits.append(-math.log2(p))
        if symbol != predictor.alphabet.end:
            predictor.read(symbol)
    return symbols, bits


class NGram:
    """Counts what came after each context of up to `order` bytes.

    after: {context: {symbol: how often it came}}
    """

    alphabet = ByteAlphabet()

    def __init__(self, order, data=b""):
        self.order, self.after = order, defaultdict(dict)
        self.begin()
        for symbol in data:
            self.count(symbol)
            self.read(symbol)

    def begin(self):
        self.context = b""

    def count(self, symbol):
        for start in range(len(self.context) + 1):
            came = self.after[self.context[start:]]
            came[symbol] = came.get(symbol, 0) + 1

    def read(self, symbol):
        self.context = (self.context + bytes([symbol]))[-self.order :]


def probabilities(self):
    """p(next | context) of all symbols (V,), from the shortest context upwards.

    Source: Witten and Bell 1991, method C.
    """
    p = np.full(257, 1 / 257)
    for start in range(len(self.context), -1, -1):
        came = self.after.get(self.context[start:])
        if came is None:
            break
        events = sum(came.values()) + len(came)
        p *= len(came) / events
        p[list(came)] += np.fromiter(came.values(), float) / events
    return p


NGram.probabilities = probabilities


class AdaptiveNGram(NGram):
    """Begins every text with an empty table and counts while it reads."""

    def begin(self):
        super().begin()
        self.after.clear()

    def read(self, symbol):
        self.count(symbol)
        super().read(symbol)


class TokenAlphabet:
    """The tokens of a byte-level BPE (lesson 01), for any bytes; none of them is special.

    tokenizer: a `tokenizers.Tokenizer`; its ids from "!" on are the bytes, then the merges
    """

    def __init__(self, tokenizer):
        model = json.loads(tokenizer.to_str())["model"]
        self.first = model["vocab"]["!"]  # before it: the special tokens
        ids = {token: i - self.first for token, i in model["vocab"].items()}
        self.bpe = BPE([(ids[left], ids[right]) for left, right in model["merges"]])
        self.size = self.first + len(self.bpe.tokens)
        self.start, self.end = tokenizer.token_to_id("<bos>"), tokenizer.token_to_id("<eos>")

    def split(self, data):
        """Bytes → token ids."""
        text = data.decode("utf-8", "surrogateescape")
        return [self.first + i for i in self.bpe.encode(text)]

    def spell(self, token):
        """A token id → its bytes, none for a special token."""
        return self.bpe.tokens[token - self.first] if token >= self.first else b""


class GPTPredictor:
    """A GPT that reads token by token; a full window is opened again by half."""

    def __init__(self, model, alphabet):
        self.model, self.alphabet = model, alphabet

    def begin(self):
        self.window, self.cache = [], self.model.new_cache(1, self.model.config.n_positions)
        self.read(self.alphabet.start)

    @torch.inference_mode()
    def read(self, token):
        self.window.append(token)
        unread = [token]
        if len(self.window) > self.model.config.n_positions:
            self.window = unread = self.window[-self.model.config.n_positions // 2 :]
            self.cache.length = 0
        logits = self.model(torch.tensor([unread]), cache=self.cache)[0, -1]  # (V,)
        self.p = logits.double().softmax(-1).numpy()

    def probabilities(self):
        return self.p


class LSTMPredictor(GPTPredictor):
    """The zoo's LSTM: its memory takes the place of window and cache."""

    def begin(self):
        self.memory = None
        self.read(self.alphabet.start)

    @torch.inference_mode()
    def read(self, token):
        x = self.model.tokens(torch.tensor([[token]]))  # (1, 1, D)
        shown, self.memory = self.model.lstm(x, self.memory)
        self.p = self.model.head(shown)[0, -1].double().softmax(-1).numpy()
