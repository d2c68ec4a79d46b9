"""Wrong answers to homework 09."""

import math

import torch
from torch.nn import functional as F

from . import wrong

# ---- whole_words(tokens, luck, rate) ----


def is_special(token):
    return token.startswith("[") and token.endswith("]")


def words_of(tokens):
    """The places of each word's pieces; special tokens are no words."""
    found = []
    for place, token in enumerate(tokens):
        if is_special(token):
            continue
        if token.startswith("##"):
            found[-1].append(place)
        else:
            found.append([place])
    return found


def chosen_words(tokens, is_chosen):
    return [place for word in words_of(tokens) if is_chosen(word) for place in word]


@wrong("whole_words", "each piece went by its own luck")
def each_piece_by_itself(tokens, luck, rate):
    return [place for word in words_of(tokens) for place in word if luck[place] < rate]


@wrong("whole_words", "special tokens are never chosen")
def specials_too(tokens, luck, rate):
    specials = [place for place, token in enumerate(tokens) if is_special(token) and luck[place] < rate]
    return sorted(specials + chosen_words(tokens, lambda word: luck[word[0]] < rate))


@wrong("whole_words", "only its first piece")
def the_first_piece_only(tokens, luck, rate):
    return [word[0] for word in words_of(tokens) if luck[word[0]] < rate]


@wrong("whole_words", "smaller than the rate, not equal")
def at_most_the_rate(tokens, luck, rate):
    return chosen_words(tokens, lambda word: luck[word[0]] <= rate)


@wrong("whole_words", "the luck of the first piece decides")
def any_piece_decides(tokens, luck, rate):
    return chosen_words(tokens, lambda word: min(luck[place] for place in word) < rate)


@wrong("whole_words", "not at the number of the word")
def luck_by_the_number_of_the_word(tokens, luck, rate):
    return [place for n, word in enumerate(words_of(tokens)) if luck[n] < rate for place in word]


@wrong("whole_words", "three pieces or more")
def at_most_two_pieces(tokens, luck, rate):
    return [place for word in words_of(tokens) if luck[word[0]] < rate for place in word[:2]]


@wrong("whole_words", "of the words that are not chosen")
def the_others(tokens, luck, rate):
    return chosen_words(tokens, lambda word: luck[word[0]] >= rate)


# ---- draw_spans(T, budget, starts, uniforms, p, longest) ----


def geometric(u, p):
    return 1 + math.floor(math.log(1 - u) / math.log(1 - p))


def spans(T, budget, starts, uniforms, p, longest, draw=geometric, clip=True, cut=True, end=True,
          overlap="skip", touch=0):  # fmt: skip
    """What all of these share, with one thing wrong."""
    found, taken, left = [], set(), budget
    for start, u in zip(starts, uniforms):
        if left <= 0:
            break
        n = draw(u, p)
        n = min(n, longest) if clip else n
        n = min(n, T - start) if end else n
        if cut == "drop" and n > left:
            continue
        n = min(n, left) if cut else n
        if n < 1:
            continue
        places = set(range(start, start + n))
        around = set(range(start - touch, start + n + touch))
        if around & taken and overlap != "keep":
            if overlap == "stop":
                break
            continue
        found.append((start, n))
        taken |= places
        left -= n
    return found


@wrong("draw_spans", "at least one token")
def counts_from_zero(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, draw=lambda u, p: geometric(u, p) - 1)


@wrong("draw_spans", "longer than `longest`")
def no_longest(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, clip=False)


@wrong("draw_spans", "more than the budget")
def over_the_budget(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, cut=False)


@wrong("draw_spans", "cut to what is left, not dropped")
def drops_what_does_not_fit(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, cut="drop")


@wrong("draw_spans", "end of the text")
def past_the_end(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, end=False)


@wrong("draw_spans", "a token twice")
def overlapping(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, overlap="keep")


@wrong("draw_spans", "the next candidate")
def stops_at_the_first_overlap(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, overlap="stop")


@wrong("draw_spans", "may touch")
def keeps_a_distance(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, touch=1)


@wrong("draw_spans", "all lengths are equally likely")
def equally_likely_lengths(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, draw=lambda u, p: 1 + int(u * longest))


@wrong("draw_spans", "the chance to stop")
def stops_with_the_other_chance(T, budget, starts, uniforms, p, longest):
    return spans(T, budget, starts, uniforms, p, longest, draw=lambda u, p: geometric(u, 1 - p))


# ---- one_at_a_time(ids, words, mask_id) ----


def rows(ids, words, mask_id, hides, which=None):
    """One row for each token that is asked; hides(t) → True at the places that its row hides."""
    asked = (words >= 0).nonzero().flatten().tolist() if which is None else which
    return torch.stack([ids.masked_fill(hides(t), mask_id) for t in asked])


def itself_and_later_pieces(words):
    places = torch.arange(len(words))
    return lambda t: (words == words[t]) & (places >= t)


@wrong("one_at_a_time", "give it away")
def hides_one_piece_only(ids, words, mask_id):
    return rows(ids, words, mask_id, lambda t: torch.arange(len(ids)) == t)


@wrong("one_at_a_time", "earlier pieces")
def hides_the_whole_word(ids, words, mask_id):
    return rows(ids, words, mask_id, lambda t: words == words[t])


@wrong("one_at_a_time", "behind the word")
def hides_all_that_follows(ids, words, mask_id):
    return rows(ids, words, mask_id, lambda t: (torch.arange(len(ids)) >= t) & (words >= 0))


@wrong("one_at_a_time", "no row")
def rows_for_specials_too(ids, words, mask_id):
    hides = itself_and_later_pieces(torch.where(words < 0, -1 - torch.arange(len(ids)), words))
    return rows(ids, words, mask_id, hides, range(len(ids)))


@wrong("one_at_a_time", "one row for each token, not for each word")
def one_row_for_each_word(ids, words, mask_id):
    first = [words.tolist().index(word) for word in sorted(set(words[words >= 0].tolist()))]
    return rows(ids, words, mask_id, itself_and_later_pieces(words), first)


@wrong("one_at_a_time", "holes of the rows before")
def holes_pile_up(ids, words, mask_id):
    ids, found = ids.clone(), []
    for t in (words >= 0).nonzero().flatten().tolist():
        ids[itself_and_later_pieces(words)(t)] = mask_id
        found.append(ids.clone())
    return torch.stack(found)


@wrong("one_at_a_time", "everything *but*")
def hides_the_others(ids, words, mask_id):
    return rows(ids, words, mask_id, lambda t: ~itself_and_later_pieces(words)(t) & (words >= 0))


# ---- sentence_score(logits, ids, words) ----


def asked_places(words):
    return (words >= 0).nonzero().flatten()


def of_tokens(values, ids, words):
    """values (n, T, V) at the place and the token that each row is about: (n,)"""
    t = asked_places(words)
    return values[torch.arange(len(t)), t, ids[t]]


@wrong("sentence_score", "logits are no log-probabilities")
def adds_logits(logits, ids, words):
    return of_tokens(logits, ids, words).sum().item()


@wrong("sentence_score", "the mean")
def the_mean(logits, ids, words):
    return of_tokens(logits.log_softmax(-1), ids, words).mean().item()


@wrong("sentence_score", "without their logarithms")
def adds_probabilities(logits, ids, words):
    return of_tokens(logits.softmax(-1), ids, words).sum().item()


@wrong("sentence_score", "the wrong axis")
def softmax_over_the_places(logits, ids, words):
    return of_tokens(logits.log_softmax(1), ids, words).sum().item()


@wrong("sentence_score", "row i is not about place i")
def row_i_at_place_i(logits, ids, words):
    n = torch.arange(len(asked_places(words)))
    return logits.log_softmax(-1)[n, n, ids[n]].sum().item()


@wrong("sentence_score", "the minus")
def with_a_minus(logits, ids, words):
    return -of_tokens(logits.log_softmax(-1), ids, words).sum().item()


@wrong("sentence_score", "the likeliest token")
def scores_the_likeliest(logits, ids, words):
    t = asked_places(words)
    return logits.log_softmax(-1)[torch.arange(len(t)), t].amax(-1).sum().item()


@wrong("sentence_score", "of every place")
def scores_every_place_of_every_row(logits, ids, words):
    t = asked_places(words)
    return logits.log_softmax(-1)[:, t, ids[t]].sum().item()


# ---- neighbours_vote(vectors, senses, k) ----


def vote(near, senses, k, itself=False, tie="nearest"):
    """For each row of near (N, N) the sense that most of its k best have."""
    near = near.clone()
    if not itself:
        near.fill_diagonal_(-math.inf)
    found = []
    for row in near:
        best = senses[row.topk(k).indices].tolist()
        most = max(map(best.count, best))
        tied = [sense for sense in best if best.count(sense) == most]
        found.append({"nearest": tied[0], "smallest": min(tied), "largest": max(tied)}[tie])
    return torch.tensor(found)


def cosines(vectors):
    return F.normalize(vectors, dim=-1) @ F.normalize(vectors, dim=-1).T


@wrong("neighbours_vote", "no neighbour of itself")
def its_own_neighbour(vectors, senses, k):
    return vote(cosines(vectors), senses, k, itself=True)


@wrong("neighbours_vote", "a dot product")
def by_dot_product(vectors, senses, k):
    return vote(vectors @ vectors.T, senses, k)


@wrong("neighbours_vote", "the distance")
def by_distance(vectors, senses, k):
    return vote(-torch.cdist(vectors, vectors), senses, k)


@wrong("neighbours_vote", "only the nearest was asked")
def only_the_nearest(vectors, senses, k):
    return vote(cosines(vectors), senses, 1)


@wrong("neighbours_vote", "one neighbour too many")
def one_too_many(vectors, senses, k):
    return vote(cosines(vectors), senses, k + 1)


@wrong("neighbours_vote", "the smallest number")
def ties_to_the_smallest(vectors, senses, k):
    return vote(cosines(vectors), senses, k, tie="smallest")


@wrong("neighbours_vote", "the largest number")
def ties_to_the_largest(vectors, senses, k):
    return vote(cosines(vectors), senses, k, tie="largest")


@wrong("neighbours_vote", "farthest")
def the_farthest(vectors, senses, k):
    near = -cosines(vectors)
    return vote(near, senses, k)


# ---- without_word(vectors, words) ----


def minus_means(vectors, words, counts):
    """Subtract from each vector the mean of those that `counts` (N, N) says, where there are any."""
    counts = counts.float()
    means = counts @ vectors / counts.sum(1, keepdim=True).clamp(min=1)
    return vectors - means


def same_word(words):
    return words[:, None] == words


def others(words):
    return ~torch.eye(len(words), dtype=torch.bool)


@wrong("without_word", "the *other* uses")
def with_itself(vectors, words):
    return minus_means(vectors, words, same_word(words))


@wrong("without_word", "of all words")
def the_mean_of_everything(vectors, words):
    return vectors - vectors.mean(0)


@wrong("without_word", "of the other words")
def the_mean_of_other_words(vectors, words):
    return minus_means(vectors, words, ~same_word(words))


@wrong("without_word", "not their sum")
def the_sum(vectors, words):
    return vectors - (same_word(words) & others(words)).float() @ vectors


@wrong("without_word", "stands once")
def nothing_to_divide_by(vectors, words):
    counts = (same_word(words) & others(words)).float()
    return vectors - counts @ vectors / counts.sum(1, keepdim=True)


@wrong("without_word", "counts itself in the number")
def divides_by_all(vectors, words):
    counts = (same_word(words) & others(words)).float()
    return vectors - counts @ vectors / same_word(words).sum(1, keepdim=True)


@wrong("without_word", "a use that came before")
def only_what_came_before(vectors, words):
    return minus_means(vectors, words, same_word(words).float().tril(-1))


@wrong("without_word", "the other way round")
def the_mean_minus_the_vector(vectors, words):
    return -minus_means(vectors, words, same_word(words) & others(words))
