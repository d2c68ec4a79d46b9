"""Wrong answers to homework 01."""

import codecs
import math
from collections import Counter

from . import wrong

# ---- best_pair(words, at_least) ----


def counted(words, times=lambda n: n, left_only=False):
    """How often each symbol and each pair of neighbours occurs."""
    symbols, pairs = Counter(), Counter()
    for word, n in words.items():
        parts = word.split()
        for part in parts[:-1] if left_only else parts:
            symbols[part] += times(n)
        for pair in zip(parts, parts[1:]):
            pairs[pair] += times(n)
    return symbols, pairs


def chosen(pairs, score, at_least):
    """The best of the pairs that occur often enough; of equal ones the first in the alphabet."""
    pair = min((pair for pair in pairs if pairs[pair] >= at_least), key=lambda pair: (-score(pair), pair))
    return (*pair, score(pair))


@wrong("best_pair", "as often as its number says")
def counts_each_word_once(words, at_least):
    symbols, pairs = counted(words, times=lambda n: 1)
    return chosen(pairs, lambda pair: pairs[pair] / (symbols[pair[0]] * symbols[pair[1]]), min(at_least, 1))


@wrong("best_pair", "what BPE would merge")
def most_frequent_as_bpe(words, at_least):
    _, pairs = counted(words)
    left, right, _ = chosen(pairs, lambda pair: pairs[pair], at_least)
    symbols, _ = counted(words)
    return left, right, pairs[left, right] / (symbols[left] * symbols[right])


@wrong("best_pair", "too seldom")
def forgets_at_least(words, at_least):
    symbols, pairs = counted(words)
    return chosen(pairs, lambda pair: pairs[pair] / (symbols[pair[0]] * symbols[pair[1]]), 0)


@wrong("best_pair", "exactly `at_least` times")
def more_often_than_at_least(words, at_least):
    symbols, pairs = counted(words)
    return chosen(pairs, lambda pair: pairs[pair] / (symbols[pair[0]] * symbols[pair[1]]), at_least + 1)


@wrong("best_pair", "not by their sum")
def divides_by_the_sum(words, at_least):
    symbols, pairs = counted(words)
    return chosen(pairs, lambda pair: pairs[pair] / (symbols[pair[0]] + symbols[pair[1]]), at_least)


@wrong("best_pair", "last of a word too")
def counts_only_symbols_with_a_right_neighbour(words, at_least):
    symbols, pairs = counted(words, left_only=True)
    return chosen(
        pairs, lambda pair: pairs[pair] / (max(1, symbols[pair[0]]) * max(1, symbols[pair[1]])), at_least
    )


@wrong("best_pair", "first in the alphabet")
def last_in_the_alphabet(words, at_least):
    symbols, pairs = counted(words)
    score = lambda pair: pairs[pair] / (symbols[pair[0]] * symbols[pair[1]])
    pair = max((pair for pair in pairs if pairs[pair] >= at_least), key=lambda pair: (score(pair), pair))
    return (*pair, score(pair))


@wrong("best_pair", "symbols, not letters")
def looks_at_letters(words, at_least):
    symbols, pairs = counted({" ".join(word.replace(" ", "")): n for word, n in words.items()})
    return chosen(pairs, lambda pair: pairs[pair] / (symbols[pair[0]] * symbols[pair[1]]), at_least)


# ---- careless_bpe(symbols, merges, p, uniforms) ----


def careless(
    symbols,
    merges,
    p,
    uniforms,
    *,
    draws=None,
    overlooked=None,
    first=None,
    every=False,
    stubborn=False,
    once=False,
):
    """The right answer, with a switch for each mistake."""
    rank = {tuple(line.split()): n for n, line in enumerate(merges)}
    overlooked = overlooked or (lambda uniform: uniform < p)
    luck, symbols, fixed = iter(uniforms), list(symbols), None
    while True:
        places = [at for at, pair in enumerate(zip(symbols, symbols[1:])) if pair in rank]
        if draws == "all":
            noticed = [at for at in range(len(symbols) - 1) if not overlooked(next(luck)) and at in places]
        elif once:
            kinds = {(symbols[at], symbols[at + 1]) for at in places}
            if fixed is None:
                fixed = {pair for pair in rank if pair in kinds and overlooked(next(luck))}
            noticed = [at for at in places if (symbols[at], symbols[at + 1]) not in fixed]
        else:
            noticed = [at for at in places if not overlooked(next(luck))]
        if not places or not noticed and not stubborn:
            return symbols
        if not noticed:
            continue
        best = min(noticed, key=first or (lambda at: (rank[symbols[at], symbols[at + 1]], at)))
        pair = (symbols[best], symbols[best + 1])
        for at in sorted(noticed if every else [best], reverse=True):
            if tuple(symbols[at : at + 2]) == pair:
                symbols[at : at + 2] = ["".join(pair)]


@wrong("careless_bpe", "p was not used")
def never_careless(symbols, merges, p, uniforms):
    return careless(symbols, merges, 0.0, uniforms)


@wrong("careless_bpe", "*below* p")
def overlooks_the_others(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, overlooked=lambda uniform: uniform >= p)


@wrong("careless_bpe", "exactly p")
def overlooks_at_exactly_p(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, overlooked=lambda uniform: uniform <= p)


@wrong("careless_bpe", "not every place")
def merges_every_place_at_once(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, every=True)


@wrong("careless_bpe", "learnt first, not the leftmost")
def takes_the_leftmost(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, first=lambda at: at)


@wrong("careless_bpe", "only for neighbours that may merge")
def draws_for_all_neighbours(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, draws="all")


@wrong("careless_bpe", "anew in each step")
def decides_once_for_all_steps(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, once=True)


@wrong("careless_bpe", "the word is done")
def tries_again_when_all_were_overlooked(symbols, merges, p, uniforms):
    return careless(symbols, merges, p, uniforms, stubborn=True)


@wrong("careless_bpe", "the leftmost of them")
def takes_the_rightmost_of_equals(symbols, merges, p, uniforms):
    rank = {tuple(line.split()): n for n, line in enumerate(merges)}
    luck, symbols = iter(uniforms), list(symbols)
    while True:
        places = [at for at, pair in enumerate(zip(symbols, symbols[1:])) if pair in rank]
        noticed = [at for at in places if next(luck) >= p]
        if not noticed:
            return symbols
        best = min(noticed, key=lambda at: (rank[symbols[at], symbols[at + 1]], -at))
        symbols[best : best + 2] = [symbols[best] + symbols[best + 1]]


@wrong("careless_bpe", "work on a copy")
def eats_its_symbols(symbols, merges, p, uniforms):
    symbols[:] = careless(symbols, merges, p, uniforms)
    return symbols


# ---- stream(pieces) ----


def streamed(tokens, bad=lambda byte: f"<0x{byte:02X}>", end=True, whole=False):
    """The right answer, with a switch for some mistakes."""
    printed, pending = [], b""
    for token in tokens:
        said, pending = "", pending + token
        while pending:
            try:
                said, pending = said + pending.decode(), b""
            except UnicodeDecodeError as error:
                said, pending = said + pending[: error.start].decode(), pending[error.start :]
                if error.reason == "unexpected end of data":
                    break
                n = len(pending) if whole else 1
                said, pending = said + "".join(map(bad, pending[:n])), pending[n:]
        printed.append(said)
    return printed + ["".join(map(bad, pending)) if end else ""]


@wrong("stream", "lie in two tokens")
def each_token_by_itself(tokens):
    return [*(token.decode(errors="replace") for token in tokens), ""]


@wrong("stream", "as soon as it is complete")
def everything_at_the_end(tokens):
    return [""] * len(tokens) + ["".join(streamed(tokens))]


@wrong("stream", "held back")
def waits_for_bytes_that_never_fit(tokens):
    printed, pending = [], b""
    for token in tokens:
        pending += token
        try:
            printed.append(pending.decode())
            pending = b""
        except UnicodeDecodeError:
            printed.append("")
    return printed + ["".join(f"<0x{byte:02X}>" for byte in pending)]


@wrong("stream", "drops bytes")
def drops_what_is_no_text(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    return [*(decoder.decode(token) for token in tokens), decoder.decode(b"", final=True)]


@wrong("stream", "not �")
def replaces_what_is_no_text(tokens):
    return streamed(tokens, bad=lambda byte: "\N{REPLACEMENT CHARACTER}")


@wrong("stream", "left over at the end")
def forgets_the_rest(tokens):
    return streamed(tokens, end=False)


@wrong("stream", "one item more")
def without_the_last_item(tokens):
    return streamed(tokens)[:-1]


@wrong("stream", "may begin a letter")
def gives_up_all_that_is_pending(tokens):
    return streamed(tokens, whole=True)


@wrong("stream", "capital")
def in_small_hex_digits(tokens):
    return streamed(tokens, bad=lambda byte: f"<0x{byte:02x}>")


@wrong("stream", "only what is new")
def prints_all_so_far(tokens):
    printed = streamed(tokens)
    return ["".join(printed[: n + 1]) for n in range(len(printed))]


# ---- fewest_pieces(word, vocabulary) ----


def fewest(
    word, vocabulary, mark=lambda start: "##" if start else "", better=min, tie=lambda piece: -len(piece)
):
    """The right answer, with a switch for each mistake: for each beginning the best (pieces) by their number."""
    best = {len(word): []}
    for start in range(len(word) - 1, -1, -1):
        ways = [
            [mark(start) + word[start:end], *best[end]]
            for end in range(start + 1, len(word) + 1)
            if mark(start) + word[start:end] in vocabulary and end in best
        ]
        if ways:
            best[start] = better(ways, key=lambda way: (len(way), [tie(piece) for piece in way]))
    return best.get(0, ["[UNK]"])


@wrong("fewest_pieces", "greed")
def greedy_as_in_the_lesson(word, vocabulary):
    from utils.lessons.tokens import wordpiece

    return wordpiece(word, vocabulary)


@wrong("fewest_pieces", "inside a word")
def looks_for_pieces_without_their_mark(word, vocabulary):
    return fewest(word, vocabulary, mark=lambda start: "")


@wrong("fewest_pieces", "keep their ##")
def returns_pieces_without_their_mark(word, vocabulary):
    return [piece.removeprefix("##") for piece in fewest(word, vocabulary)]


@wrong("fewest_pieces", "the longest first piece")
def takes_the_shortest_first_piece(word, vocabulary):
    return fewest(word, vocabulary, tie=len)


@wrong("fewest_pieces", "cannot be cut")
def leaves_impossible_words_empty(word, vocabulary):
    found = fewest(word, vocabulary)
    return [] if found == ["[UNK]"] else found


@wrong("fewest_pieces", "the most pieces")
def takes_the_most_pieces(word, vocabulary):
    return fewest(word, vocabulary, better=lambda ways, key: max(ways, key=lambda way: (len(way), way)))


@wrong("fewest_pieces", "from the right")
def greedy_from_the_right(word, vocabulary):
    cut, end = [], len(word)
    while end > 0:
        fits = (s for s in range(end) if ("##" if s else "") + word[s:end] in vocabulary)
        start = next(fits, None)
        if start is None:
            return ["[UNK]"]
        cut.insert(0, ("##" if start else "") + word[start:end])
        end = start
    return cut


@wrong("fewest_pieces", "part of the word is known")
def unknown_letters_one_by_one(word, vocabulary):
    found = fewest(word, vocabulary)
    if found != ["[UNK]"]:
        return found
    known = max((end for end in range(len(word)) if fewest(word[:end], vocabulary) != ["[UNK]"]), default=0)
    return [*(fewest(word[:known], vocabulary) if known else []), "[UNK]"]


# ---- draw_cut(word, p, uniforms) ----


def drawn(
    word, p, uniforms, *, add=lambda a, b: a + b, share=None, order=reversed, above=None, backwards=True
):
    """The right answer, with a switch for each mistake."""
    totals = [1.0] + [0.0] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(end):
            totals[end] = add(totals[end], totals[start] * p.get(word[start:end], 0.0))
    share = share or (lambda start, end: totals[start] * p[word[start:end]] / totals[end])
    above = above or (lambda running, uniform: running > uniform)
    cut, end, luck = [], len(word), iter(uniforms)
    while end > 0:
        uniform, running = next(luck), 0.0
        starts = [start for start in range(end) if word[start:end] in p]  # longest piece first
        for start in starts if order is reversed else starts[::-1]:
            running += share(start, end)
            if above(running, uniform):
                break
        cut.append(word[start:end])
        end = start
    return cut[::-1] if backwards else cut


@wrong("draw_cut", "the likeliest cut")
def the_likeliest_cut_as_viterbi(word, p, uniforms):
    from utils.lessons.tokens import best_cut

    log_p = {piece.encode(): math.log(value) for piece, value in p.items()}
    return [piece.decode() for piece in best_cut(word.encode(), log_p, 99)]


@wrong("draw_cut", "stands before it")
def forgets_what_stands_before(word, p, uniforms):
    def share(start, end):
        return p[word[start:end]] / sum(p.get(word[s:end], 0.0) for s in range(end))

    return drawn(word, p, uniforms, share=share)


@wrong("draw_cut", "divide by the total")
def forgets_to_divide(word, p, uniforms):
    totals = [1.0] + [0.0] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(end):
            totals[end] += totals[start] * p.get(word[start:end], 0.0)
    return drawn(word, p, uniforms, share=lambda start, end: totals[start] * p[word[start:end]])


@wrong("draw_cut", "from the left to the right")
def returns_it_backwards(word, p, uniforms):
    return drawn(word, p, uniforms, backwards=False)


@wrong("draw_cut", "longest piece first")
def shortest_piece_first(word, p, uniforms):
    return drawn(word, p, uniforms, order=None)


@wrong("draw_cut", "next uniform number")
def one_number_for_all_pieces(word, p, uniforms):
    return drawn(word, p, uniforms[:1] * 99)


@wrong("draw_cut", "all cuts add up")
def keeps_only_the_best_beginning(word, p, uniforms):
    totals = [1.0] + [0.0] * len(word)
    for end in range(1, len(word) + 1):
        totals[end] = max(totals[start] * p.get(word[start:end], 0.0) for start in range(end))

    def share(start, end):
        ways = {s: totals[s] * p[word[s:end]] for s in range(end) if word[s:end] in p}
        return ways[start] / sum(ways.values())

    return drawn(word, p, uniforms, share=share)


@wrong("draw_cut", "must *exceed*")
def at_least_instead_of_above(word, p, uniforms):
    return drawn(word, p, uniforms, above=lambda running, uniform: running >= uniform)


# ---- premium(counts, base) ----


def ratio_of_sums(counts, base, both=lambda a, b: a is not None and b is not None):
    return {
        language: sum(a for a, b in zip(row, counts[base]) if both(a, b))
        / sum(b for a, b in zip(row, counts[base]) if both(a, b))
        for language, row in counts.items()
    }


@wrong("premium", "mean of ratios")
def mean_of_ratios(counts, base):
    found = {}
    for language, row in counts.items():
        ratios = [a / b for a, b in zip(row, counts[base]) if a is not None and b is not None]
        found[language] = sum(ratios) / len(ratios)
    return found


@wrong("premium", "on both sides")
def counts_the_base_in_full(counts, base):
    totals = {language: sum(n for n in row if n is not None) for language, row in counts.items()}
    return {language: total / totals[base] for language, total in totals.items()}


@wrong("premium", "upside down")
def upside_down(counts, base):
    return {language: 1 / value for language, value in ratio_of_sums(counts, base).items()}


@wrong("premium", "the language named `base`")
def the_first_language_is_the_base(counts, base):
    return ratio_of_sums(counts, next(iter(counts)))


@wrong("premium", "compares itself")
def leaves_out_the_base(counts, base):
    return {language: value for language, value in ratio_of_sums(counts, base).items() if language != base}


@wrong("premium", "how many times")
def the_surcharge_only(counts, base):
    return {language: value - 1 for language, value in ratio_of_sums(counts, base).items()}


@wrong("premium", "missing in any language")
def only_sentences_that_all_have(counts, base):
    full = [at for at in range(len(counts[base])) if all(row[at] is not None for row in counts.values())]
    return {
        language: sum(row[at] for at in full) / sum(counts[base][at] for at in full)
        for language, row in counts.items()
    }
