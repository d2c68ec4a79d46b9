"""The code of lesson 01_tokens, for the pages after it.

Made from the cells tagged `export` of notebooks/01_tokens.ipynb.
Never edit: change the page, then `make made`.
"""

import math
import unicodedata
from collections import Counter, defaultdict
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise

import regex

SPLIT = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
ALPHABET = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]  # id → byte
ID_OF_BYTE = {byte: i for i, byte in enumerate(ALPHABET)}


def split_words(text):
    """Cut a text into words, each with the space before it; together they are the text again."""
    return SPLIT.findall(text)


def spell(word):
    """A word as the ids of its bytes, a list (T,)."""
    return [ID_OF_BYTE[byte] for byte in word.encode("utf-8", "surrogateescape")]  # explained below


def count_words(texts):
    """How often each word stands in the texts."""
    return Counter(word for text in texts for word in split_words(text))


def merge(ids, pair, new):
    """Replace the pair by the id `new` wherever it stands in ids (T,): a shorter list."""
    merged, at = [], 0
    while at < len(ids):
        found = at + 1 < len(ids) and (ids[at], ids[at + 1]) == pair
        merged.append(new if found else ids[at])
        at += 2 if found else 1
    return merged


def merge_and_tell(ids, pair, new):
    """Merge inside the list ids (T,) itself; tell (pair, +1 or -1) for each that comes or goes."""
    left, right = pair
    at = 0
    while at < len(ids) - 1:
        if ids[at] == left and ids[at + 1] == right:
            if at > 0:
                yield (ids[at - 1], left), -1
                yield (ids[at - 1], new), 1
            if at + 2 < len(ids):
                yield (right, ids[at + 2]), -1
                yield (new, ids[at + 2]), 1
            ids[at : at + 2] = [new]
        at += 1


class Neighbours:
    """The words of a text as ids, how often each pair stands in them, and in which words."""

    def __init__(self, word_counts):
        self.words = [spell(word) for word in word_counts]
        self.counts = list(word_counts.values())
        self.pairs, self.where = defaultdict(int), defaultdict(list)
        for at, ids in enumerate(self.words):
            for pair in pairwise(ids):
                self.pairs[pair] += self.counts[at]
                self.where[pair].append(at)

    def merge(self, pair, new):
        """Merge the pair in the words that hold it, correct all counts; returns the pairs that came."""
        came = set()
        for at in self.where.pop(pair):
            for changed, sign in merge_and_tell(self.words[at], pair, new):
                self.pairs[changed] += sign * self.counts[at]
                if sign > 0:
                    self.where[changed].append(at)
                    came.add(changed)
        del self.pairs[pair]
        return [pair for pair in came if self.pairs[pair] > 0]


def train_bpe(word_counts, n_merges):
    """The first n_merges merges, pairs of ids (left, right); merge number n makes id 256 + n.

    word_counts: {word: how often it occurs}; of equally frequent pairs the smaller ids win
    Source: Sennrich et al. 2016, algorithm 1, on bytes; counts are corrected, not taken again.
    """
    text = Neighbours(word_counts)
    heap = [(-times, pair) for pair, times in text.pairs.items()]
    heapify(heap)
    merges = []
    while heap and len(merges) < n_merges:
        times, pair = heappop(heap)
        if text.pairs[pair] == -times:
            for came in text.merge(pair, 256 + len(merges)):
                heappush(heap, (-text.pairs[came], came))
            merges.append(pair)
        elif text.pairs[pair] > 0:  # the entry was out of date
            heappush(heap, (-text.pairs[pair], pair))
    return merges


class BPE:
    """Byte-pair encoding: text → token ids and back. `tokens[i]` are the bytes of id i."""

    def __init__(self, merges):
        self.new_id = {pair: 256 + n for n, pair in enumerate(merges)}
        self.tokens = [bytes([byte]) for byte in ALPHABET]
        for left, right in merges:
            self.tokens.append(self.tokens[left] + self.tokens[right])
        self.encode_word = lru_cache(2**17)(self.encode_word)  # keep the last 131,072 cuts

    def encode_word(self, word):
        """The token ids of one word: of its pairs the one learnt first is merged, and so on."""
        ids = spell(word)
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda pair: self.new_id.get(pair, math.inf))
            if pair not in self.new_id:
                break
            ids = merge(ids, pair, self.new_id[pair])
        return tuple(ids)

    def encode(self, text):
        """The token ids of a text, a list (T,)."""
        return [i for word in split_words(text) for i in self.encode_word(word)]

    def decode(self, ids, errors="replace"):
        """The text of token ids; bytes that are no text become �, or what `errors` says."""
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", errors)


MARKS = r"\p{P}$+<=>^`|~"
CHINESE = (  # each of these letters is a word by itself
    r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df"
    r"\U0002a700-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f"
)
BERT_WORD = regex.compile(rf"[{MARKS}{CHINESE}]|[^\s{MARKS}{CHINESE}]+")
INVISIBLE = regex.compile(r"(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]|\ufffd")


def bert_words(text):
    """The words of a text as uncased BERT reads it: small letters, no accents, marks by themselves."""
    text = unicodedata.normalize("NFD", INVISIBLE.sub("", text))  # é becomes e and an accent
    text = regex.sub(r"\p{Mn}", "", text)
    small = "".join(map(str.lower, text))  # letter by letter: Σ at the end of a word is σ, not ς
    return BERT_WORD.findall(small)


def wordpiece(word, vocabulary, longest=100):
    """Cut a word into pieces, from the left always the longest that fits; ["[UNK]"] where none does.

    vocabulary: {piece: id}; inside a word pieces begin with ##. Source: Devlin et al. 2019.
    """
    if len(word) > longest:
        return ["[UNK]"]  # BERT gives up on words over 100 letters
    pieces, start, mark = [], 0, ""
    while start < len(word):
        fits = (end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary)
        if (end := next(fits, None)) is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start, mark = end, "##"
    return pieces


class WordPiece:
    """BERT's tokenizer, without its special tokens. vocabulary: all pieces, ordered by id."""

    def __init__(self, vocabulary):
        self.vocabulary = {piece: i for i, piece in enumerate(vocabulary)}

    def pieces(self, text):
        """The pieces of a text, a list."""
        return [piece for word in bert_words(text) for piece in wordpiece(word, self.vocabulary)]

    def encode(self, text):
        """The ids of a text's pieces, a list (T,)."""
        return [self.vocabulary[piece] for piece in self.pieces(text)]


def pieces_in(word, log_p, longest=16):
    """Every piece of up to `longest` bytes in a word: (start, end, log-probability), ordered by end."""
    ends = range(1, len(word) + 1)
    spans = [(start, end) for end in ends for start in range(max(0, end - longest), end)]
    known = [(start, end) for start, end in spans if word[start:end] in log_p]
    return [(start, end, log_p[word[start:end]]) for start, end in known]


def best_cut(word, log_p, longest=16):
    """The likeliest cut of a word (bytes) into pieces. log_p: {piece: log-probability}, with all bytes."""
    best = [(0.0, 0)] + [(-math.inf, 0)] * len(word)  # place → score, start of its last piece
    for start, end, score in pieces_in(word, log_p, longest):
        if best[start][0] + score > best[end][0]:
            best[end] = (best[start][0] + score, start)
    cut, end = [], len(word)
    while end > 0:
        start = best[end][1]
        cut.append(word[start:end])
        end = start
    return cut[::-1]


def log_add(a, b):
    """log(exp a + exp b), without leaving the logarithms."""
    low, high = sorted((a, b))
    return high + math.log1p(math.exp(low - high))


def expected_pieces(word, log_p):
    """How often each piece stands in a random cut of the word, {piece: times}, and log p(word)."""
    spans, n = pieces_in(word, log_p), len(word)
    before, behind = [0.0] + [-math.inf] * n, [-math.inf] * n + [0.0]  # cuts of word[:i], word[i:]
    for start, end, score in spans:
        before[end] = log_add(before[end], before[start] + score)
    for start, end, score in reversed(spans):
        behind[start] = log_add(behind[start], score + behind[end])
    expected = Counter()
    for start, end, score in spans:
        expected[word[start:end]] += math.exp(before[start] + score + behind[end] - before[n])
    return expected, before[n]


def em_step(word_counts, log_p):
    """One round: the new {piece: log-probability}, and log p(all words) by the old one."""
    totals, likelihood = Counter({bytes([byte]): 1e-6 for byte in range(256)}), 0.0  # no byte at 0
    for word, times in word_counts.items():
        expected, log_p_word = expected_pieces(word.encode("utf-8", "surrogateescape"), log_p)
        likelihood += times * log_p_word
        for piece, n in expected.items():
            totals[piece] += times * n
    whole = sum(totals.values())
    return {piece: math.log(n / whole) for piece, n in totals.items() if n > 0}, likelihood
