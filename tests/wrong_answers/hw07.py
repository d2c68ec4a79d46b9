"""Wrong answers to homework 07."""

import math

import torch

from utils.lessons import decoding as lesson

from . import wrong

# ---- resample(logits, temperature, keep, uniforms) ----


def first_above(cdf, uniforms):
    return (cdf > uniforms[:, None] * cdf[:, -1:]).int().argmax(dim=-1)


def resample(logits, temperature, keep, choose):
    """What all of these share: the kept logits, of which `choose` makes tokens at temperatures above 0."""
    kept = logits.masked_fill(~keep, -math.inf)
    return kept.argmax(dim=-1) if temperature == 0 else choose(kept)


def draw(kept, temperature, uniforms):
    return first_above((kept / temperature).softmax(dim=-1).cumsum(dim=-1), uniforms)


@wrong("resample", "multiplied by the temperature")
def multiplies_by_the_temperature(logits, temperature, keep, uniforms):
    return resample(logits, temperature, keep, lambda kept: draw(kept, 1 / temperature, uniforms))


@wrong("resample", "after the softmax")
def temperature_after_the_softmax(logits, temperature, keep, uniforms):
    def choose(kept):
        return first_above((kept.softmax(dim=-1) / temperature).cumsum(dim=-1), uniforms)

    return resample(logits, temperature, keep, choose)


@wrong("resample", "temperature 0")
def forgets_temperature_zero(logits, temperature, keep, uniforms):
    return draw(logits.masked_fill(~keep, -math.inf), temperature, uniforms)


@wrong("resample", "likeliest *kept* token")
def likeliest_of_all_at_temperature_zero(logits, temperature, keep, uniforms):
    if temperature == 0:
        return logits.argmax(dim=-1)
    return draw(logits.masked_fill(~keep, -math.inf), temperature, uniforms)


@wrong("resample", "renormalise")
def without_renormalising(logits, temperature, keep, uniforms):
    def choose(_):
        cdf = ((logits / temperature).softmax(dim=-1) * keep).cumsum(dim=-1)
        return (cdf > uniforms[:, None]).int().argmax(dim=-1)

    return resample(logits, temperature, keep, choose)


@wrong("resample", "≥")
def at_least_instead_of_above(logits, temperature, keep, uniforms):
    def choose(kept):
        cdf = (kept / temperature).softmax(dim=-1).cumsum(dim=-1)
        return (cdf >= uniforms[:, None]).int().argmax(dim=-1)

    return resample(logits, temperature, keep, choose)


@wrong("resample", "axis")
def softmax_over_the_batch(logits, temperature, keep, uniforms):
    def choose(kept):
        probs = (kept / temperature).softmax(dim=0).nan_to_num()
        return first_above(probs.cumsum(dim=-1), uniforms)

    return resample(logits, temperature, keep, choose)


@wrong("resample", "its own uniform number")
def one_uniform_for_all_rows(logits, temperature, keep, uniforms):
    shared = uniforms[:1].expand(len(logits))
    return resample(logits, temperature, keep, lambda kept: draw(kept, temperature, shared))


@wrong("resample", "logit 0")
def removed_tokens_get_logit_zero(logits, temperature, keep, uniforms):
    return resample(logits, temperature, keep, lambda _: draw(logits * keep, temperature, uniforms))


@wrong("resample", "before the softmax")
def removes_after_the_softmax(logits, temperature, keep, uniforms):
    def choose(_):
        probs = (logits / temperature).softmax(dim=-1) * keep
        return first_above((probs / probs.sum(dim=-1, keepdim=True)).cumsum(dim=-1), uniforms)

    return resample(logits, temperature, keep, choose)


# ---- nucleus(probs, p) ----


def keep_where(probs, keep):
    kept = probs * keep
    return kept / kept.sum(dim=-1, keepdim=True)


def keep_from(probs, least):
    return keep_where(probs, probs >= least)


def least_kept(probs, p, more=0, reached=torch.lt, dim=-1):
    """The smallest probability of the nucleus, with `more` tokens added to it."""
    ranked = probs.sort(dim=dim, descending=True).values
    count = reached(ranked.cumsum(dim=dim) - ranked, p).sum(dim=dim, keepdim=True) + more
    return ranked.gather(dim, (count - 1).clamp(0, probs.size(dim) - 1))


@wrong("nucleus", "one token too few")
def without_the_token_that_reaches_p(probs, p):
    return keep_from(probs, least_kept(probs, p, more=-1))


@wrong("nucleus", "one token too many")
def with_one_token_more(probs, p):
    return keep_from(probs, least_kept(probs, p, more=1))


@wrong("nucleus", "exactly p")
def goes_on_at_exactly_p(probs, p):
    return keep_from(probs, least_kept(probs, p, reached=torch.le))


@wrong("nucleus", "divide by what is left")
def nucleus_without_renormalising(probs, p):
    return probs * (probs >= least_kept(probs, p))


@wrong("nucleus", "only the first was kept")
def cuts_through_a_tie(probs, p):
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)
    ranked = ranked * (ranked.cumsum(dim=-1) - ranked < p)
    kept = torch.zeros_like(probs).scatter(-1, order, ranked)
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("nucleus", "only the last was kept")
def pasted_from_lesson_07(probs, p):
    return lesson.top_p(p)(probs.log()).softmax(dim=-1)


@wrong("nucleus", "in the order of the ids")
def leaves_them_sorted(probs, p):
    return keep_from(probs, least_kept(probs, p)).sort(dim=-1, descending=True).values


@wrong("nucleus", "wrong axis")
def nucleus_over_the_batch(probs, p):
    kept = probs * (probs >= least_kept(probs, p, dim=0))
    return kept / kept.sum(dim=0, keepdim=True)


@wrong("nucleus", "each row by its own sum")
def divides_by_the_sum_of_all_rows(probs, p):
    kept = probs * (probs >= least_kept(probs, p))
    return kept / kept.sum()


@wrong("nucleus", "from the least likely end")
def ranks_the_wrong_way(probs, p):
    ranked = probs.sort(dim=-1).values
    count = (ranked.cumsum(dim=-1) - ranked < p).sum(dim=-1, keepdim=True)
    kept = probs * (probs <= ranked.gather(-1, count - 1))
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("nucleus", "work on a copy")
def writes_into_its_argument(probs, p):
    probs[probs < least_kept(probs, p)] = 0
    return probs / probs.sum(dim=-1, keepdim=True)


@wrong("nucleus", "no place reaches p")
def counts_past_the_end(probs, p):
    ranked = probs.sort(dim=-1, descending=True).values
    too_few = (ranked.cumsum(dim=-1) < p).sum(dim=-1, keepdim=True)  # so many places do not reach p yet
    return keep_from(probs, ranked.gather(-1, too_few))


# ---- min_p(probs, ratio, at_least) ----


def at_least_th(probs, at_least):
    return probs.topk(at_least, dim=-1).values[:, -1:]


@wrong("min_p", "share of the largest")
def threshold_without_the_largest(probs, ratio, at_least):
    return keep_from(probs, at_least_th(probs, at_least).clamp(max=ratio))


@wrong("min_p", "exactly at the threshold")
def strictly_above_the_threshold(probs, ratio, at_least):
    largest = probs.max(dim=-1, keepdim=True).values
    kept = probs * ((probs > ratio * largest) | (probs >= at_least_th(probs, at_least)))
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("min_p", "largest of each row")
def largest_of_the_whole_batch(probs, ratio, at_least):
    return keep_from(probs, at_least_th(probs, at_least).clamp(max=(ratio * probs.max()).item()))


@wrong("min_p", "at least so many tokens")
def forgets_at_least_as_lesson_07_does(probs, ratio, at_least):
    return lesson.min_p(ratio)(probs.log()).softmax(dim=-1)


@wrong("min_p", "not a limit from above")
def keeps_at_most(probs, ratio, at_least):
    largest = probs.max(dim=-1, keepdim=True).values
    return keep_from(probs, torch.maximum(ratio * largest, at_least_th(probs, at_least)))


@wrong("min_p", "divide by what is left")
def min_p_without_renormalising(probs, ratio, at_least):
    largest = probs.max(dim=-1, keepdim=True).values
    return probs * (probs >= torch.minimum(ratio * largest, at_least_th(probs, at_least)))


@wrong("min_p", "one token more than `at_least`")
def at_least_and_one_more(probs, ratio, at_least):
    largest = probs.max(dim=-1, keepdim=True).values
    return keep_from(probs, torch.minimum(ratio * largest, at_least_th(probs, at_least + 1)))


def passing(probs, ratio):
    return probs >= ratio * probs.amax(dim=-1, keepdim=True)


def floor_by_place(probs, ratio, places):
    """Keep what passes the threshold, and the tokens at `places`, a mask that knows no ties."""
    floor = torch.zeros_like(probs, dtype=torch.bool).scatter(-1, places, True)
    return keep_where(probs, floor | passing(probs, ratio))


@wrong("min_p", "only the first of them")
def floor_as_topk_takes_it(probs, ratio, at_least):
    return floor_by_place(probs, ratio, probs.argsort(dim=-1, descending=True, stable=True)[:, :at_least])


@wrong("min_p", "only the last of them")
def floor_from_the_end_of_argsort(probs, ratio, at_least):
    return floor_by_place(probs, ratio, probs.argsort(dim=-1, stable=True)[:, -at_least:])


@wrong("min_p", "counted together")
def floor_for_all_rows_together(probs, ratio, at_least):
    keep = passing(probs, ratio)
    if keep.sum() < at_least:
        keep = keep | (probs >= at_least_th(probs, at_least))
    return keep_where(probs, keep)


# ---- typical(probs, width) ----


def entropy_of(probs):
    return torch.special.entr(probs).sum(dim=-1, keepdim=True)


def within(probs, distance, width):
    kept = probs * (distance <= distance.amin(dim=-1, keepdim=True).clamp(min=width))
    return kept / kept.sum(dim=-1, keepdim=True)


def around(probs, entropy, width):
    return within(probs, (-probs.log() - entropy).abs(), width)


@wrong("typical", "absolute value")
def forgets_the_absolute_value(probs, width):
    return within(probs, -probs.log() - entropy_of(probs), width)


@wrong("typical", "not the likeliest")
def falls_back_on_the_likeliest(probs, width):
    kept = probs * ((-probs.log() - entropy_of(probs)).abs() <= width)
    likeliest = probs * (probs == probs.amax(dim=-1, keepdim=True))
    kept = torch.where(kept.sum(dim=-1, keepdim=True) > 0, kept, likeliest)
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("typical", "everything was removed")
def may_remove_everything(probs, width):
    kept = probs * ((-probs.log() - entropy_of(probs)).abs() <= width)
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("typical", "plain mean")
def entropy_without_weights(probs, width):
    surprise = (-probs.log()).masked_fill(probs == 0, 0)
    return around(probs, surprise.sum(dim=-1, keepdim=True) / (probs > 0).sum(dim=-1, keepdim=True), width)


@wrong("typical", "0 · log 0")
def zero_times_infinity(probs, width):
    return around(probs, -(probs * probs.log()).sum(dim=-1, keepdim=True), width)


@wrong("typical", "odd tokens were kept")
def keeps_the_odd_ones(probs, width):
    distance = (-probs.log() - entropy_of(probs)).abs()
    kept = probs * (distance > distance.amin(dim=-1, keepdim=True).clamp(min=width))
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("typical", "bits")
def entropy_in_bits_surprise_in_nats(probs, width):
    return around(probs, entropy_of(probs) / math.log(2), width)


@wrong("typical", "not a mass")
def keeps_a_mass_as_lesson_07_does(probs, width):
    return lesson.typical(width)(probs.log()).softmax(dim=-1)


@wrong("typical", "entropy of each row")
def entropy_of_the_whole_batch(probs, width):
    return around(probs, torch.special.entr(probs).sum(), width)


@wrong("typical", "only one was kept")
def keeps_one_of_two_that_are_equally_close(probs, width):
    distance = (-probs.log() - entropy_of(probs)).abs()
    closest = torch.zeros_like(probs).scatter(-1, distance.argmin(dim=-1, keepdim=True), 1)
    kept = probs * ((distance <= width) | (closest > 0))
    return kept / kept.sum(dim=-1, keepdim=True)


@wrong("typical", "divide by what is left")
def typical_without_renormalising(probs, width):
    return probs * (around(probs, entropy_of(probs), width) > 0)


def band(probs, width):
    distance = (-probs.log() - entropy_of(probs)).abs()
    return distance <= width, distance == distance.amin(dim=-1, keepdim=True)


@wrong("typical", "no help")
def rescues_only_if_the_whole_batch_is_empty(probs, width):
    keep, closest = band(probs, width)
    if not keep.any():
        keep = closest
    return keep_where(probs, keep)


@wrong("typical", "not all rows")
def rescues_all_rows_if_one_is_empty(probs, width):
    keep, closest = band(probs, width)
    if not keep.any(dim=-1).all():
        keep = closest
    return keep_where(probs, keep)


# ---- beam_step(beams, next_log_probs, end, width) ----


def continuations(ids, score, next_log_probs):
    return [(ids + [token], score + log_prob) for token, log_prob in enumerate(next_log_probs(ids).tolist())]


def best(beams, width):
    return sorted(beams, key=lambda beam: -beam[1])[:width]


@wrong("beam_step", "does not go on")
def goes_on_after_the_end(beams, next_log_probs, end, width):
    return best([new for ids, score in beams for new in continuations(ids, score, next_log_probs)], width)


@wrong("beam_step", "finished beam is lost")
def loses_finished_beams(beams, next_log_probs, end, width):
    open_beams = [(ids, score) for ids, score in beams if ids[-1] != end]
    return best(
        [new for ids, score in open_beams for new in continuations(ids, score, next_log_probs)], width
    )


@wrong("beam_step", "score it had")
def forgets_the_score_so_far(beams, next_log_probs, end, width):
    candidates = [(ids, score) for ids, score in beams if ids[-1] == end]
    for ids, _ in beams:
        candidates += continuations(ids, 0.0, next_log_probs) if ids[-1] != end else []
    return best(candidates, width)


def stepped(beams, next_log_probs, end):
    """For each beam the list of what becomes of it."""
    return [
        [(ids, score)] if ids[-1] == end else continuations(ids, score, next_log_probs)
        for ids, score in beams
    ]


@wrong("beam_step", "in all, not `width` for each")
def width_for_each_beam(beams, next_log_probs, end, width):
    return best([new for group in stepped(beams, next_log_probs, end) for new in best(group, width)], 10**6)


@wrong("beam_step", "only the best continuation of each beam")
def one_child_for_each_beam(beams, next_log_probs, end, width):
    return best([best(group, 1)[0] for group in stepped(beams, next_log_probs, end)], width)


@wrong("beam_step", "least likely")
def worst_first(beams, next_log_probs, end, width):
    groups = stepped(beams, next_log_probs, end)
    return sorted([new for group in groups for new in group], key=lambda beam: beam[1])[:width]


@wrong("beam_step", "adding probabilities")
def adds_probabilities(beams, next_log_probs, end, width):
    candidates = [(ids, score) for ids, score in beams if ids[-1] == end]
    for ids, score in beams:
        if ids[-1] != end:
            candidates += continuations(ids, score, lambda ids: next_log_probs(ids).exp())
    return best(candidates, width)


@wrong("beam_step", "work on a copy")
def appends_to_the_same_list(beams, next_log_probs, end, width):
    candidates = []
    for ids, score in beams:
        if ids[-1] == end:
            candidates.append((ids, score))
            continue
        for token, log_prob in enumerate(next_log_probs(ids).tolist()):
            ids.append(token)
            candidates.append((ids, score + log_prob))
    return best(candidates, width)


# ---- beam_search(next_log_probs, start, end, width, n_steps, alpha) ----


def searched(
    next_log_probs, start, end, width, n_steps, stop=lambda beams: False, rescore=lambda beams: beams
):
    beams = [([start], 0.0)]
    for _ in range(n_steps):
        groups = stepped(beams, next_log_probs, end)
        beams = rescore(best([new for group in groups for new in group], width))
        if stop(beams):
            break
    return beams


def ranked_by(beams, length, penalty=lambda score, length: score / length):
    return sorted([(ids, penalty(score, length(ids))) for ids, score in beams], key=lambda beam: -beam[1])


def generated(ids):
    return len(ids) - 1


@wrong("beam_search", "start token is not generated")
def counts_the_start_token(next_log_probs, start, end, width, n_steps, alpha):
    return ranked_by(searched(next_log_probs, start, end, width, n_steps), lambda ids: len(ids) ** alpha)


@wrong("beam_search", "end token counts")
def leaves_out_the_end_token(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps)
    return ranked_by(beams, lambda ids: max(1, generated(ids) - (ids[-1] == end)) ** alpha)


@wrong("beam_search", "in every step")
def divides_in_every_step(next_log_probs, start, end, width, n_steps, alpha):
    def rescore(beams):
        return ranked_by(beams, lambda ids: generated(ids) ** alpha)

    return searched(next_log_probs, start, end, width, n_steps, rescore=rescore)


@wrong("beam_search", "multiplied by the length")
def multiplies_by_the_length(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps)
    return ranked_by(beams, lambda ids: generated(ids) ** -alpha)


@wrong("beam_search", "alpha is an exponent")
def alpha_as_a_factor(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps)
    return ranked_by(beams, lambda ids: alpha * generated(ids) if alpha else 1)


@wrong("beam_search", "no length penalty")
def without_length_penalty(next_log_probs, start, end, width, n_steps, alpha):
    return searched(next_log_probs, start, end, width, n_steps)


@wrong("beam_search", "sort again")
def in_the_order_of_the_search(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps)
    return [(ids, score / generated(ids) ** alpha) for ids, score in beams]


@wrong("beam_search", "first beam that ends")
def stops_at_the_first_end(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(
        next_log_probs, start, end, width, n_steps, lambda beams: any(b[0][-1] == end for b in beams)
    )
    return ranked_by(beams, lambda ids: generated(ids) ** alpha)


@wrong("beam_search", "one step too few")
def one_step_too_few(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps - 1)
    return ranked_by(beams, lambda ids: generated(ids) ** alpha)


@wrong("beam_search", "all beams, not only the best")
def returns_only_the_best(next_log_probs, start, end, width, n_steps, alpha):
    return ranked_by(
        searched(next_log_probs, start, end, width, n_steps), lambda ids: generated(ids) ** alpha
    )[:1]


@wrong("beam_search", "takes part as it is")
def drops_unfinished_texts(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps)
    return ranked_by([beam for beam in beams if beam[0][-1] == end], lambda ids: generated(ids) ** alpha)


@wrong("beam_search", "last token of an unfinished text")
def takes_the_last_token_for_the_end(next_log_probs, start, end, width, n_steps, alpha):
    beams = searched(next_log_probs, start, end, width, n_steps)
    return ranked_by(beams, lambda ids: max(1, generated(ids) - (ids[-1] != end)) ** alpha)


# ---- ending_loop(text, longest) ----


def copies_at_the_end(text, length, first=0):
    """How many copies of the last `length` tokens stand back to back at the end, none starting before `first`."""
    copies, start = 1, len(text) - 2 * length
    while start >= first and text[start : start + length] == text[-length:]:
        copies, start = copies + 1, start - length
    return copies


def most_copies(pairs):
    copies, length = max(pairs)
    return (length, copies) if copies > 1 else (0, 0)


@wrong("ending_loop", "anywhere in the text")
def copies_anywhere(text, longest):
    def count(phrase):
        return sum(text[at : at + len(phrase)] == phrase for at in range(len(text)))

    return most_copies((count(text[-length:]), length) for length in range(1, longest + 1))


@wrong("ending_loop", "is one of the copies")
def counts_the_repetitions_only(text, longest):
    length, copies = most_copies((copies_at_the_end(text, n), n) for n in range(1, longest + 1))
    return length, max(copies - 1, 0)


@wrong("ending_loop", "first the length")
def the_other_way_round(text, longest):
    return most_copies((copies_at_the_end(text, n), n) for n in range(1, longest + 1))[::-1]


@wrong("ending_loop", "the beginning was looked at")
def loops_at_the_beginning(text, longest):
    return most_copies((copies_at_the_end(text[::-1], n), n) for n in range(1, longest + 1))


@wrong("ending_loop", "very first token")
def misses_a_copy_at_the_first_token(text, longest):
    return most_copies((copies_at_the_end(text, n, first=1), n) for n in range(1, longest + 1))


@wrong("ending_loop", "stops one before")
def never_tries_the_longest(text, longest):
    return most_copies([(0, 0), *((copies_at_the_end(text, n), n) for n in range(1, longest))])


@wrong("ending_loop", "equally many copies the longest")
def takes_the_shortest_of_a_tie(text, longest):
    copies, length = max((copies_at_the_end(text, n), -n) for n in range(1, longest + 1))
    return (-length, copies) if copies > 1 else (0, 0)


@wrong("ending_loop", "most copies counts")
def takes_the_longest_that_is_repeated(text, longest):
    found = [(n, copies_at_the_end(text, n)) for n in range(1, longest + 1)]
    return max([(0, 0), *(pair for pair in found if pair[1] > 1)])


@wrong("ending_loop", "longer than `longest`")
def forgets_longest(text, longest):
    return most_copies((copies_at_the_end(text, n), n) for n in range(1, len(text) + 1))


@wrong("ending_loop", "one copy is no loop")
def calls_one_copy_a_loop(text, longest):
    return max((copies_at_the_end(text, n), n) for n in range(1, longest + 1))[::-1]


@wrong("ending_loop", "work on a copy")
def eats_its_text(text, longest):
    answer = most_copies((copies_at_the_end(text, n), n) for n in range(1, longest + 1))
    while text:
        text.pop()
    return answer
