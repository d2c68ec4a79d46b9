"""Wrong answers to homework 14."""

import math

import torch

from . import wrong

# ---- longest_text(room, rate, mean_length) ----


def lengths(n, rate, mean_length, rounded=round):
    lost = max(rounded(n * rate), 1)
    spans = max(rounded(lost / mean_length), 1)
    return lost, spans, n - lost + spans + 1


def longest(room, fits):
    """The largest n of which `fits(n)` is at most the room."""
    return max(n for n in range(2, 3 * room) if fits(n) <= room)


@wrong("longest_text", "ends with <eos>")
def source_without_its_end(room, rate, mean_length):
    n = longest(room, lambda n: lengths(n, rate, mean_length)[2] - 1)
    lost, spans, _ = lengths(n, rate, mean_length)
    return [n, lost + spans + 1]


@wrong("longest_text", "a sentinel for each span")
def source_without_sentinels(room, rate, mean_length):
    n = longest(room, lambda n: n - lengths(n, rate, mean_length)[0] + 1)
    lost, spans, _ = lengths(n, rate, mean_length)
    return [n, lost + spans + 1]


@wrong("longest_text", "target ends with <eos> too")
def target_without_its_end(room, rate, mean_length):
    n = longest(room, lambda n: lengths(n, rate, mean_length)[2])
    return [n, sum(lengths(n, rate, mean_length)[:2])]


@wrong("longest_text", "target names each span")
def target_without_sentinels(room, rate, mean_length):
    n = longest(room, lambda n: lengths(n, rate, mean_length)[2])
    return [n, lengths(n, rate, mean_length)[0] + 1]


@wrong("longest_text", "first that does not fit")
def one_token_too_long(room, rate, mean_length):
    n = longest(room, lambda n: lengths(n, rate, mean_length)[2]) + 1
    lost, spans, _ = lengths(n, rate, mean_length)
    return [n, lost + spans + 1]


@wrong("longest_text", "longest of several")
def shortest_that_fills_the_room(room, rate, mean_length):
    most = lengths(longest(room, lambda n: lengths(n, rate, mean_length)[2]), rate, mean_length)[2]
    n = next(n for n in range(2, 3 * room) if lengths(n, rate, mean_length)[2] == most)
    lost, spans, _ = lengths(n, rate, mean_length)
    return [n, lost + spans + 1]


@wrong("longest_text", "are rounded, not cut")
def cuts_instead_of_rounding(room, rate, mean_length):
    n = longest(room, lambda n: lengths(n, rate, mean_length, int)[2])
    lost, spans, _ = lengths(n, rate, mean_length, int)
    return [n, lost + spans + 1]


@wrong("longest_text", "at least one token")
def no_span_at_all(room, rate, mean_length):
    def measure(n):
        lost = round(n * rate)
        spans = round(lost / mean_length)
        return lost, spans, n - lost + spans + 1

    n = longest(room, lambda n: measure(n)[2])
    return [n, sum(measure(n)[:2]) + 1]


# ---- bucket_starts(n_buckets, furthest) ----


def starts(n_buckets, furthest, up=math.ceil, spread=None, exact=None):
    exact = exact or n_buckets // 2
    spread = spread or (lambda share: exact * (furthest / exact) ** share)
    shares = [j / (n_buckets - exact) for j in range(n_buckets - exact)]
    return [*range(exact), *(up(round(spread(share), 9)) for share in shares)]


@wrong("bucket_starts", "equally wide")
def straight_line(n_buckets, furthest):
    exact = n_buckets // 2
    return starts(n_buckets, furthest, spread=lambda share: exact + (furthest - exact) * share)


@wrong("bucket_starts", "one too early")
def rounds_down(n_buckets, furthest):
    return starts(n_buckets, furthest, up=math.floor)


@wrong("bucket_starts", "to the nearest")
def rounds_to_the_nearest(n_buckets, furthest):
    return starts(n_buckets, furthest, up=round)


@wrong("bucket_starts", "where each bucket ends")
def last_distances(n_buckets, furthest):
    found = starts(n_buckets, furthest)
    return [start - 1 for start in found[1:]] + [furthest]


@wrong("bucket_starts", "half of the buckets")
def a_quarter_is_exact(n_buckets, furthest):
    return starts(n_buckets, furthest, exact=n_buckets // 4)


@wrong("bucket_starts", "the last bucket begins before")
def last_bucket_at_furthest(n_buckets, furthest):
    exact = n_buckets // 2
    ratio = furthest / exact
    far = [
        math.ceil(round(exact * ratio ** (j / (n_buckets - exact - 1)), 9)) for j in range(n_buckets - exact)
    ]
    return [*range(exact), *far]


@wrong("bucket_starts", "distances, not how many")
def widths(n_buckets, furthest):
    found = [*starts(n_buckets, furthest), furthest]
    return [after - start for start, after in zip(found, found[1:])]


# ---- fill_in(source, target, sentinels, eos) ----


def spans_of(target, sentinels, eos, first_wins=True, join=False, stop=True, before=None):
    """{sentinel: its words}, with one rule exchanged."""
    spans, span = {}, before if before is not None else []
    for token in target:
        if token == eos and stop:
            break
        if token in sentinels:
            if token in spans and join:
                span = spans[token]
            elif token in spans and first_wins:
                span = []
            else:
                span = spans[token] = []
        elif token != eos:
            span.append(token)
    return spans


def filled(source, spans, eos):
    return [t for token in source if token != eos for t in spans.get(token, [token])]


@wrong("fill_in", "after <eos>")
def reads_on_behind_the_end(source, target, sentinels, eos):
    return filled(source, spans_of(target, sentinels, eos, stop=False), eos)


@wrong("fill_in", "the first answer counts, here the last")
def last_answer_counts(source, target, sentinels, eos):
    return filled(source, spans_of(target, sentinels, eos, first_wins=False), eos)


@wrong("fill_in", "put together")
def joins_two_answers(source, target, sentinels, eos):
    return filled(source, spans_of(target, sentinels, eos, join=True), eos)


@wrong("fill_in", "stays as it is")
def forgets_unanswered_holes(source, target, sentinels, eos):
    spans = spans_of(target, sentinels, eos)
    return filled(source, {sentinel: spans.get(sentinel, []) for sentinel in sentinels}, eos)


@wrong("fill_in", "by its name, not by its turn")
def fills_in_order(source, target, sentinels, eos):
    answers = list(spans_of(target, sentinels, eos).values())
    holes = [token for token in source if token in sentinels]
    return filled(source, dict(zip(holes, answers)), eos)


@wrong("fill_in", "before the first sentinel")
def keeps_what_comes_first(source, target, sentinels, eos):
    before = []
    spans = spans_of(target, sentinels, eos, before=before)
    holes = [token for token in source if token in sentinels]
    if holes and before:
        spans[holes[0]] = before + spans.get(holes[0], [])
    return filled(source, spans, eos)


@wrong("fill_in", "the source's <eos>")
def keeps_the_end_of_the_source(source, target, sentinels, eos):
    spans = spans_of(target, sentinels, eos)
    return [t for token in source for t in spans.get(token, [token])]


@wrong("fill_in", "has no hole of that name")
def strangers_belong_to_the_span_before(source, target, sentinels, eos):
    return filled(source, spans_of(target, [t for t in sentinels if t in source], eos), eos)


# ---- prefix_mask(prefixes, lengths, width) ----


def places(prefixes, lengths, width):
    t = torch.arange(width)
    prefix, length = (torch.tensor(sizes)[:, None, None] for sizes in (prefixes, lengths))
    return t[None, :, None], t[None, None], prefix, length  # t: who looks, s: at what


@wrong("prefix_mask", "plain causal mask")
def causal_only(prefixes, lengths, width):
    t, s, _, length = places(prefixes, lengths, width)
    return (s <= t) & (t < length)


@wrong("prefix_mask", "read the answer")
def prefix_sees_the_answer(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return ((s <= t) | (t < prefix)) & (s < length) & (t < length)


@wrong("prefix_mask", "its own text so far")
def answer_sees_the_prefix_alone(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return (s < prefix) & (t < length)


@wrong("prefix_mask", "sees nothing")
def filling_looks(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return ((s <= t) | (s < prefix)) & (s < length)


@wrong("prefix_mask", "rows and columns")
def turned_over(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return ((t <= s) | (t < prefix)) & (t < length) & (s < length)


@wrong("prefix_mask", "one column too many")
def prefix_one_too_long(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return ((s <= t) | (s <= prefix)) & (s < length) & (t < length)


@wrong("prefix_mask", "each text has its own prefix")
def first_prefix_for_all(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return ((s <= t) | (s < prefix[0])) & (s < length) & (t < length)


@wrong("prefix_mask", "not itself")
def never_itself(prefixes, lengths, width):
    t, s, prefix, length = places(prefixes, lengths, width)
    return ((s < t) | (s < prefix)) & (s < length) & (t < length)


# ---- packed_mask(source, target) ----


def parts(source, target):
    """Who shares a text with whom, (B, T, S) and (B, T, T), and what is not later, (T, T)."""
    T = target.size(1)
    past = torch.ones(T, T, dtype=torch.bool).tril()
    mine = target[:, :, None]
    return mine == source[:, None], mine == target[:, None], past, mine > 0


@wrong("packed_mask", "filling is no text")
def filling_sees_filling(source, target):
    across, own, past, _ = parts(source, target)
    return torch.cat([across, own & past], dim=2)


@wrong("packed_mask", "later in the target")
def sees_later_words(source, target):
    across, own, _, real = parts(source, target)
    return torch.cat([across, own], dim=2) & real


@wrong("packed_mask", "whole source of its text")
def source_only_so_far(source, target):
    across, own, past, real = parts(source, target)
    early = torch.arange(source.size(1)) <= torch.arange(target.size(1))[:, None]
    return torch.cat([across & early, own & past], dim=2) & real


@wrong("packed_mask", "sources of other texts")
def reads_all_sources(source, target):
    across, own, past, real = parts(source, target)
    return torch.cat([(source > 0)[:, None].expand_as(across), own & past], dim=2) & real


@wrong("packed_mask", "other targets before it")
def reads_other_targets(source, target):
    across, own, past, real = parts(source, target)
    return torch.cat([across, past.expand_as(own) & (target > 0)[:, None]], dim=2) & real


@wrong("packed_mask", "first the source's columns")
def target_first(source, target):
    across, own, past, real = parts(source, target)
    return torch.cat([own & past, across], dim=2) & real


@wrong("packed_mask", "itself too")
def not_itself(source, target):
    across, own, past, real = parts(source, target)
    return torch.cat([across, own & past & ~torch.eye(len(past), dtype=torch.bool)], dim=2) & real
