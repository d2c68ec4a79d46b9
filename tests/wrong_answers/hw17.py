"""Wrong answers to homework 17."""

import math

import torch

from . import wrong

# ---- stop_at(losses, patience, margin) ----


def stopped(losses, patience, margin, better=lambda loss, best, margin: loss < best - margin, late=0):
    """The look to keep and how many were read, with another idea of what is better."""
    best, kept = math.inf, 0
    for look, loss in enumerate(losses):
        if better(loss, best, margin):
            best, kept = loss, look
        elif look - kept >= patience + late:
            return kept, look + 1
    return kept, len(losses)


@wrong("stop_at", "one look too late")
def one_look_too_late(losses, patience, margin):
    return stopped(losses, patience, margin, late=1)


@wrong("stop_at", "one look too early")
def one_look_too_early(losses, patience, margin):
    return stopped(losses, patience, margin, late=-1)


@wrong("stop_at", "lower by less than the margin")
def without_margin(losses, patience, margin):
    return stopped(losses, patience, 0)


@wrong("stop_at", "looks *in a row*")
def counts_all_bad_looks(losses, patience, margin):
    best, kept, bad = math.inf, 0, 0
    for look, loss in enumerate(losses):
        if loss < best - margin:
            best, kept = loss, look
        else:
            bad += 1
            if bad == patience:
                return kept, look + 1
    return kept, len(losses)


@wrong("stop_at", "not with the one before")
def better_than_the_look_before(losses, patience, margin):
    kept = 0
    for look in range(1, len(losses)):
        if losses[look] < losses[look - 1] - margin:
            kept = look
        elif look - kept >= patience:
            return kept, look + 1
    return kept, len(losses)


@wrong("stop_at", "not to the last")
def keeps_the_last_look(losses, patience, margin):
    read = stopped(losses, patience, margin)[1]
    return read - 1, read


@wrong("stop_at", "is not known when it stops")
def looks_into_the_future(losses, patience, margin):
    return losses.index(min(losses)), stopped(losses, patience, margin)[1]


@wrong("stop_at", "counted from 0")
def counts_looks_from_one(losses, patience, margin):
    kept, read = stopped(losses, patience, margin)
    return kept + 1, read


@wrong("stop_at", "not the lowest that was read")
def the_lowest_of_those_read(losses, patience, margin):
    read = stopped(losses, patience, margin)[1]
    return losses.index(min(losses[:read])), read


@wrong("stop_at", "not the number of the last")
def number_of_the_last_look(losses, patience, margin):
    kept, read = stopped(losses, patience, margin)
    return kept, read - 1


@wrong("stop_at", "by exactly the margin")
def at_least_the_margin(losses, patience, margin):
    return stopped(losses, patience, margin, lambda loss, best, margin: loss <= best - margin)


@wrong("stop_at", "nan is no improvement")
def nan_is_better(losses, patience, margin):
    return stopped(losses, patience, margin, lambda loss, best, margin: not loss >= best - margin)


# ---- replay_batches(n_new, n_old, size, percent, steps) ----


def mixed(n_new, n_old, size, percent, steps, due=None, restart_new=False, restart_old=False, full=False,
          wrap_new=True, wrap_old=True):  # fmt: skip
    """The schedule with one thing wrong; due: (step, old so far) → old rows of this batch."""
    due = due or (lambda step, old: step * size * percent // 100 - old)
    found, new, old = [], 0, 0
    for step in range(1, steps + 1):
        n = due(step, old)
        fresh, first = 0 if restart_new else new, 0 if restart_old else old
        new_rows = [fresh + i for i in range(size if full else size - n)]
        old_rows = [first + i for i in range(n)]
        found.append(
            (
                [row % n_new for row in new_rows] if wrap_new else new_rows,
                [row % n_old for row in old_rows] if wrap_old else old_rows,
            )
        )
        new, old = new + len(new_rows), old + n
    return found


@wrong("replay_batches", "rounding down in each batch")
def rounds_down_each_batch(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, lambda step, old: size * percent // 100)


@wrong("replay_batches", "not up in each batch")
def rounds_up_each_batch(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, lambda step, old: -(-size * percent // 100))


@wrong("replay_batches", "a batch keeps its size")
def adds_old_rows_on_top(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, full=True)


@wrong("replay_batches", "begins at old row 0")
def the_same_old_rows_again(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, restart_old=True)


@wrong("replay_batches", "begins at new row 0")
def the_same_new_rows_again(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, restart_new=True)


@wrong("replay_batches", "these are the new ones")
def a_share_of_new_rows(n_new, n_old, size, percent, steps):
    rows = mixed(n_old, n_new, size, percent, steps)
    return [(new, old) for old, new in rows]


@wrong("replay_batches", "first the new row numbers")
def old_rows_first(n_new, n_old, size, percent, steps):
    return [(old, new) for new, old in mixed(n_new, n_old, size, percent, steps)]


@wrong("replay_batches", "not to the nearest")
def rounds_to_the_nearest(n_new, n_old, size, percent, steps):
    return mixed(
        n_new, n_old, size, percent, steps, lambda step, old: (step * size * percent + 50) // 100 - old
    )


@wrong("replay_batches", "only so many old rows")
def runs_out_of_old_rows(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, wrap_old=False)


@wrong("replay_batches", "only so many new rows")
def runs_out_of_new_rows(n_new, n_old, size, percent, steps):
    return mixed(n_new, n_old, size, percent, steps, wrap_new=False)


# ---- pull_back(weights, start, strength, fresh) ----


def known(name, weights, start):
    return name in start and start[name].shape == weights[name].shape


def pulled(weights, start, strength, fresh):
    """{name: (distance, strength)}, as it should be."""
    return {
        name: (w - start[name], strength) if known(name, weights, start) else (w, fresh)
        for name, w in weights.items()
    }


def priced(parts, price=lambda d: d.square().sum().item() / 2, slope=lambda d, s: s * d):
    """Penalty and slopes of {name: (distance, strength)}."""
    return sum(s * price(d) for d, s in parts.values()), {n: slope(d, s) for n, (d, s) in parts.items()}


@wrong("pull_back", "has a half in it")
def without_the_half(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, fresh), lambda d: d.square().sum().item())


@wrong("pull_back", "not half of it")
def half_a_slope(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, fresh), slope=lambda d, s: s / 2 * d)


@wrong("pull_back", "weight decay")
def weight_decay(weights, start, strength, fresh):
    return priced({n: (w, strength if known(n, weights, start) else fresh) for n, w in weights.items()})


@wrong("pull_back", "new parts are pulled too")
def leaves_new_parts_alone(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, 0.0))


@wrong("pull_back", "a strength of their own")
def one_strength_for_all(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, strength))


@wrong("pull_back", "this is a mean")
def mean_of_squares(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, fresh), lambda d: d.square().mean().item() / 2)


@wrong("pull_back", "points uphill")
def slopes_downhill(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, fresh), slope=lambda d, s: -s * d)


@wrong("pull_back", "do not take their sizes")
def sizes_instead_of_squares(weights, start, strength, fresh):
    return priced(pulled(weights, start, strength, fresh), lambda d: d.abs().sum().item() / 2)


@wrong("pull_back", "the new ones too")
def no_slopes_for_new_parts(weights, start, strength, fresh):
    penalty, slopes = priced(pulled(weights, start, strength, fresh))
    return penalty, {name: slope for name, slope in slopes.items() if name in start}


@wrong("pull_back", "stretched and subtracted")
def subtracts_other_shapes(weights, start, strength, fresh):
    return priced({n: (w - start[n], strength) if n in start else (w, fresh) for n, w in weights.items()})


@wrong("pull_back", "no reason to leave a weight alone")
def leaves_other_shapes_alone(weights, start, strength, fresh):
    parts = pulled(weights, start, strength, fresh)
    for name in weights:
        if name in start and not known(name, weights, start):
            parts[name] = (torch.zeros_like(weights[name]), fresh)
    return priced(parts)


# ---- forgetting(before, after, control) ----


def billed(before, after, control, log=torch.log, mean=lambda table: table.mean(0), base=None, sure=None):
    """(K, 3) with one thing wrong."""
    start, end, equal = log(before), log(after), log(control)
    base = start if base is None else base(start, end, equal)
    last = (end - equal).amin(0) if sure is None else sure(start, end, equal)
    return torch.stack([mean(end - base), mean(equal - start), last], dim=1)


@wrong("forgetting", "take their logarithms first")
def differences_of_perplexities(before, after, control):
    return billed(before, after, control, log=lambda table: table)


@wrong("forgetting", "take the natural logarithm")
def in_doublings(before, after, control):
    return billed(before, after, control, log=torch.log2)


@wrong("forgetting", "not the logarithm of the mean")
def logarithm_of_the_mean(before, after, control):
    sure = (after.log() - control.log()).amin(0)
    columns = [after.mean(0).log() - before.log(), control.mean(0).log() - before.log(), sure]
    return torch.stack(columns, dim=1)


@wrong("forgetting", "not the smallest against the smallest")
def smallest_against_smallest(before, after, control):
    return billed(before, after, control, sure=lambda start, end, equal: end.amin(0) - equal.amin(0))


@wrong("forgetting", "smallest difference, not the mean")
def the_mean_difference(before, after, control):
    return billed(before, after, control, sure=lambda start, end, equal: (end - equal).mean(0))


@wrong("forgetting", "not the other way round")
def control_less_after(before, after, control):
    return billed(before, after, control, sure=lambda start, end, equal: (equal - end).amin(0))


@wrong("forgetting", "not from the control")
def lost_since_the_control(before, after, control):
    return billed(before, after, control, base=lambda start, end, equal: equal)


@wrong("forgetting", "not the largest")
def the_largest_difference(before, after, control):
    return billed(before, after, control, sure=lambda start, end, equal: (end - equal).amax(0))


@wrong("forgetting", "this is turned")
def rows_for_columns(before, after, control):
    return billed(before, after, control).T


# ---- overlap(text, corpus, n) ----


def runs(words, n, key=tuple):
    return [key(words[i : i + n]) for i in range(len(words) - n + 1)]


def found(text, corpus, n, key=tuple):
    """The starts of the text's runs that the corpus has."""
    there = {run for words in corpus for run in runs(words, n, key)}
    return [i for i, run in enumerate(runs(text, n, key)) if run in there]


def covered(starts, n):
    return {place for start in starts for place in range(start, start + n)}


@wrong("overlap", "not of runs")
def share_of_runs(text, corpus, n):
    return len(found(text, corpus, n)) / max(1, len(runs(text, n)))


@wrong("overlap", "share of *different* runs")
def share_of_different_runs(text, corpus, n):
    own = set(runs(text, n))
    return len(own & {run for words in corpus for run in runs(words, n)}) / max(1, len(own))


@wrong("overlap", "not the first only")
def first_words_only(text, corpus, n):
    return len(found(text, corpus, n)) / max(1, len(text))


@wrong("overlap", "covered once")
def counts_words_twice(text, corpus, n):
    return n * len(found(text, corpus, n)) / max(1, len(text))


@wrong("overlap", "over the border")
def one_long_corpus(text, corpus, n):
    return len(covered(found(text, [sum(corpus, [])], n), n)) / max(1, len(text))


@wrong("overlap", "the order of the words")
def runs_in_any_order(text, corpus, n):
    return len(covered(found(text, corpus, n, lambda run: tuple(sorted(run))), n)) / max(1, len(text))


@wrong("overlap", "the last run was forgotten")
def forgets_the_last_run(text, corpus, n):
    starts = [i for i in found(text, corpus, n) if i < len(text) - n]
    return len(covered(starts, n)) / max(1, len(text))


@wrong("overlap", "single words are no runs")
def single_words(text, corpus, n):
    return len(found(text, corpus, 1)) / max(1, len(text)) if len(text) >= n else 0.0


@wrong("overlap", "not of the corpus's")
def share_of_the_corpus(text, corpus, n):
    return len(covered(found(text, corpus, n), n)) / max(1, sum(map(len, corpus)))


@wrong("overlap", "*not* covered")
def share_not_covered(text, corpus, n):
    return 1 - len(covered(found(text, corpus, n), n)) / max(1, len(text))


@wrong("overlap", "fewer than n words has no runs")
def short_texts_as_a_whole(text, corpus, n):
    n = min(n, max(1, len(text)))
    return len(covered(found(text, corpus, n), n)) / max(1, len(text))


# ---- diagnose(train, held, old, control, margin) ----


def sick(curves, train):
    return not all(math.isfinite(loss) for losses in curves for loss in losses) or train[-1] > train[0]


def examined(train, held, old, control, margin, diverged=None, under=None, over=None, forgets=None):
    """The right doctor, with another idea of one illness: each given by True or False."""
    if sick((train, held, old, control), train) if diverged is None else diverged:
        return ["diverged"]
    signs = {
        "underfitting": train[0] - train[-1] <= margin if under is None else under,
        "overfitting": held[-1] - min(held) > margin if over is None else over,
        "forgetting": old[-1] - control[-1] > margin if forgets is None else forgets,
    }
    return [name for name, sign in signs.items() if sign] or ["healthy"]


@wrong("diagnose", "not the first only")
def only_the_first(*curves):
    return examined(*curves)[:1]


@wrong("diagnose", "in the order of the docstring")
def the_other_way_round(*curves):
    return examined(*curves)[::-1]


@wrong("diagnose", "the lowest held-out look, not the first")
def held_out_against_its_start(train, held, old, control, margin):
    return examined(train, held, old, control, margin, over=held[-1] - held[0] > margin)


@wrong("diagnose", "it must rise again")
def held_out_above_training(train, held, old, control, margin):
    return examined(train, held, old, control, margin, over=held[-1] - train[-1] > margin)


@wrong("diagnose", "not with its start")
def old_against_its_start(train, held, old, control, margin):
    return examined(train, held, old, control, margin, forgets=old[-1] - old[0] > margin)


@wrong("diagnose", "nothing applies is healthy")
def says_nothing_of_the_healthy(*curves):
    return [name for name in examined(*curves) if name != "healthy"]


@wrong("diagnose", "a rise in between does not")
def any_rise_is_divergence(train, held, old, control, margin):
    rises = sick((train, held, old, control), train) or any(b > a for a, b in zip(train, train[1:]))
    return examined(train, held, old, control, margin, diverged=rises)


@wrong("diagnose", "not its highest look")
def highest_old_loss(train, held, old, control, margin):
    return examined(train, held, old, control, margin, forgets=max(old) - control[-1] > margin)


@wrong("diagnose", "equal to the margin is noise")
def at_least_the_margin_apart(train, held, old, control, margin):
    over, forgets = held[-1] - min(held) >= margin, old[-1] - control[-1] >= margin
    return examined(train, held, old, control, margin, over=over, forgets=forgets)


@wrong("diagnose", "nan in all four curves")
def only_training_may_be_nan(train, held, old, control, margin):
    return examined(train, held, old, control, margin, diverged=sick((train,), train))


@wrong("diagnose", "that name only")
def goes_on_after_divergence(train, held, old, control, margin):
    if not sick((train, held, old, control), train):
        return examined(train, held, old, control, margin)
    rest = examined(train, held, old, control, margin, diverged=False)
    return ["diverged", *[name for name in rest if name != "healthy"]]


@wrong("diagnose", "ends above its start has diverged")
def only_nan_is_divergence(train, held, old, control, margin):
    finite = all(math.isfinite(loss) for losses in (train, held, old, control) for loss in losses)
    return examined(train, held, old, control, margin, diverged=not finite)


@wrong("diagnose", "by no more than the margin is none")
def falls_by_the_margin(train, held, old, control, margin):
    return examined(train, held, old, control, margin, under=train[0] - train[-1] < margin)
