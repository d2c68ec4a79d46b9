"""Wrong answers to homework 03."""

import math

import torch

from . import wrong

# ---- gru_step(x, h, read, carry) ----


def gru(x, h, read, carry, order=(0, 1, 2), look_back=None, mix=None):
    """The paper's GRU with one part exchanged: the order of the rows, the proposal's look back, the mixture."""
    from_x, from_h = ((part @ table.T).chunk(3, dim=-1) for part, table in ((x, read), (h, carry)))
    r, z = ((from_x[row] + from_h[row]).sigmoid() for row in order[:2])
    carry_n = carry[2 * h.size(-1) :]
    back = look_back(r, h, carry_n) if look_back else (r * h) @ carry_n.T
    n = (from_x[2] + back).tanh()
    return mix(r, z, n, h) if mix else (1 - z) * n + z * h


@wrong("gru_step", "before the weights")
def resets_after_the_weights(x, h, read, carry):
    return gru(x, h, read, carry, look_back=lambda r, h, carry_n: r * (h @ carry_n.T))


@wrong("gru_step", "no reset gate")
def without_reset(x, h, read, carry):
    return gru(x, h, read, carry, look_back=lambda r, h, carry_n: h @ carry_n.T)


@wrong("gru_step", "z is the share that stays")
def keeps_what_should_go(x, h, read, carry):
    return gru(x, h, read, carry, mix=lambda r, z, n, h: z * n + (1 - z) * h)


@wrong("gru_step", "rows of r come first")
def takes_z_for_r(x, h, read, carry):
    return gru(x, h, read, carry, order=(1, 0, 2))


@wrong("gru_step", "only for the proposal")
def resets_what_stays_too(x, h, read, carry):
    return gru(x, h, read, carry, mix=lambda r, z, n, h: (1 - z) * n + z * r * h)


@wrong("gru_step", "nothing is given up")
def adds_without_giving_up(x, h, read, carry):
    return gru(x, h, read, carry, mix=lambda r, z, n, h: n + z * h)


@wrong("gru_step", "tanh")
def squashes_the_proposal_with_a_sigmoid(x, h, read, carry):
    return gru(x, h, read, carry, mix=lambda r, z, n, h: (1 - z) * n.atanh().sigmoid() + z * h)


@wrong("gru_step", "transpose the table")
def weighs_the_weakened_memory_by_columns(x, h, read, carry):
    return gru(x, h, read, carry, look_back=lambda r, h, carry_n: (r * h) @ carry_n)


# ---- rnn_backward(h, carry, d_h) ----


def backward(h, carry, d_h, slope=None, hand_back=None, outer=None, begin=0, add=True, ask=None, steps=None):
    """The loop backwards in time with one part exchanged."""
    d_carry, d_next = torch.zeros_like(carry), torch.zeros_like(h[0])
    for t in steps or reversed(range(begin, len(d_h))):
        asked = ask(t) if ask else d_h[t]
        d_sum = (asked + d_next) * (slope(t) if slope else 1 - h[t + 1] ** 2)
        here = outer(d_sum, t) if outer else d_sum[:, None] * h[t]
        d_carry = d_carry + here if add else here
        d_next = hand_back(d_sum) if hand_back else d_sum @ carry
    return d_carry, d_next


@wrong("rnn_backward", "slope of tanh")
def forgets_the_slope(h, carry, d_h):
    return backward(h, carry, d_h, slope=lambda t: 1.0)


@wrong("rnn_backward", "slope at the *new* state")
def slope_at_the_old_state(h, carry, d_h):
    return backward(h, carry, d_h, slope=lambda t: 1 - h[t] ** 2)


@wrong("rnn_backward", "goes back through `carry` transposed")
def hands_back_the_wrong_way_round(h, carry, d_h):
    return backward(h, carry, d_h, hand_back=lambda d_sum: carry @ d_sum)


@wrong("rnn_backward", "entry [j, i] belongs to")
def transposes_the_gradient(h, carry, d_h):
    return backward(h, carry, d_h, outer=lambda d_sum, t: h[t][:, None] * d_sum)


@wrong("rnn_backward", "weighs the *old* state")
def pairs_with_the_new_state(h, carry, d_h):
    return backward(h, carry, d_h, outer=lambda d_sum, t: d_sum[:, None] * h[t + 1])


@wrong("rnn_backward", "add up what all steps")
def keeps_the_first_step_only(h, carry, d_h):
    return backward(h, carry, d_h, add=False)


@wrong("rnn_backward", "every row of `d_h`")
def asks_the_last_step_only(h, carry, d_h):
    return backward(h, carry, d_h, ask=lambda t: d_h[t] * (t + 1 == len(d_h)))


@wrong("rnn_backward", "handed back to the step before")
def each_step_for_itself(h, carry, d_h):
    d_carry, _ = backward(h, carry, d_h, hand_back=torch.zeros_like)
    return d_carry, (d_h[0] * (1 - h[1] ** 2)) @ carry


@wrong("rnn_backward", "backwards in time")
def forwards_in_time(h, carry, d_h):
    return backward(h, carry, d_h, steps=range(len(d_h)))


@wrong("rnn_backward", "first step counts too")
def stops_before_the_first_step(h, carry, d_h):
    return backward(h, carry, d_h, begin=1)


# ---- windows(ids, n_rows, length) ----


def in_rows(ids, n_rows):
    piece = (len(ids) - 1) // n_rows
    return (ids[at : at + n_rows * piece].view(n_rows, piece) for at in (0, 1))


def cut(inputs, targets, starts, length):
    return [(inputs[:, at : at + length], targets[:, at : at + length]) for at in starts]


def starts_of(inputs, length):
    return range(0, inputs.size(1) - length + 1, length)


@wrong("windows", "row b goes on where row b")
def batch_after_batch(ids, n_rows, length):
    size = n_rows * length
    starts = range(0, len(ids) - size, size)
    return [
        (ids[at : at + size].view(n_rows, length), ids[at + 1 : at + size + 1].view(n_rows, length))
        for at in starts
    ]


@wrong("windows", "deals the tokens out like cards")
def dealt_like_cards(ids, n_rows, length):
    piece = (len(ids) - 1) // n_rows
    inputs, targets = (ids[at : at + n_rows * piece].view(piece, n_rows).T for at in (0, 1))
    return cut(inputs, targets, starts_of(inputs, length), length)


@wrong("windows", "the *next* token")
def targets_are_the_inputs(ids, n_rows, length):
    inputs, _ = in_rows(ids, n_rows)
    return cut(inputs, inputs, starts_of(inputs, length), length)


@wrong("windows", "first token of the same window")
def rolls_within_the_window(ids, n_rows, length):
    inputs, _ = in_rows(ids, n_rows)
    return [(x, x.roll(-1, dims=1)) for x, _ in cut(inputs, inputs, starts_of(inputs, length), length)]


@wrong("windows", "overlap")
def moves_on_by_one(ids, n_rows, length):
    inputs, targets = in_rows(ids, n_rows)
    return cut(inputs, targets, range(inputs.size(1) - length + 1), length)


@wrong("windows", "a token is lost between two windows")
def skips_a_token(ids, n_rows, length):
    inputs, targets = in_rows(ids, n_rows)
    return cut(inputs, targets, range(0, inputs.size(1) - length + 1, length + 1), length)


@wrong("windows", "only whole windows")
def keeps_the_short_end(ids, n_rows, length):
    inputs, targets = in_rows(ids, n_rows)
    return cut(inputs, targets, range(0, inputs.size(1), length), length)


@wrong("windows", "last whole window")
def drops_the_last_window(ids, n_rows, length):
    inputs, targets = in_rows(ids, n_rows)
    return cut(inputs, targets, range(0, inputs.size(1) - length, length), length)


@wrong("windows", "the last target needs one token more")
def forgets_the_last_target(ids, n_rows, length):
    piece = len(ids) // n_rows
    inputs, targets = (ids[at : at + n_rows * piece].view(n_rows, piece) for at in (0, 1))
    return cut(inputs, targets, starts_of(inputs, length), length)


@wrong("windows", "not one in every row")
def shares_out_the_last_token_too(ids, n_rows, length):
    piece = len(ids) // n_rows
    rows = ids[: n_rows * piece].view(n_rows, piece)
    starts = range(0, piece - length, length)
    return [(rows[:, at : at + length], rows[:, at + 1 : at + length + 1]) for at in starts]


@wrong("windows", "not one tensor that holds both")
def one_tensor_for_a_pair(ids, n_rows, length):
    inputs, targets = in_rows(ids, n_rows)
    return [torch.stack(pair) for pair in cut(inputs, targets, starts_of(inputs, length), length)]


# ---- peephole_step(sums, c, peep) ----


def peephole(sums, c, peep, see=lambda c: c, rows=(0, 1, 2), late=None, show=torch.tanh, squash=torch.tanh):
    """The step with one part exchanged: what the holes see, whose weights are whose, what o looks at."""
    i, f, g, o = sums.chunk(4, dim=-1)
    peep_i, peep_f, peep_o = (peep[row] for row in rows)
    i, f = (i + peep_i * see(c)).sigmoid(), (f + peep_f * see(c)).sigmoid()
    new = f * c + i * squash(g)
    o = (o + peep_o * see(new if late is None else late(c, new))).sigmoid()
    return o * show(new), new


@wrong("peephole_step", "o looks at the *new* c")
def output_sees_the_old_cell(sums, c, peep):
    return peephole(sums, c, peep, late=lambda old, new: old)


@wrong("peephole_step", "o has no peephole")
def output_sees_nothing(sums, c, peep):
    return peephole(sums, c, peep, late=lambda old, new: 0 * new)


@wrong("peephole_step", "no peepholes at all")
def without_peepholes(sums, c, peep):
    return peephole(sums, c, 0 * peep)


@wrong("peephole_step", "c itself, not tanh(c)")
def sees_the_squashed_cell(sums, c, peep):
    return peephole(sums, c, peep, see=torch.tanh)


@wrong("peephole_step", "row 1 of `peep` is f's")
def exchanges_f_and_o(sums, c, peep):
    return peephole(sums, c, peep, rows=(0, 2, 1))


@wrong("peephole_step", "h = o · tanh(c)")
def shows_the_cell_as_it_is(sums, c, peep):
    return peephole(sums, c, peep, show=lambda c: c)


@wrong("peephole_step", "first h, then c")
def the_other_way_round(sums, c, peep):
    return peephole(sums, c, peep)[::-1]


@wrong("peephole_step", "before the sigmoid")
def peeps_after_the_sigmoid(sums, c, peep):
    i, f, g, o = sums.chunk(4, dim=-1)
    new = (f.sigmoid() + peep[1] * c) * c + (i.sigmoid() + peep[0] * c) * g.tanh()
    return (o.sigmoid() + peep[2] * new) * new.tanh(), new


@wrong("peephole_step", "g has no peephole")
def lets_g_peep_instead_of_i(sums, c, peep):
    i, f, g, o = sums.chunk(4, dim=-1)
    new = (f + peep[1] * c).sigmoid() * c + i.sigmoid() * (g + peep[0] * c).tanh()
    return (o + peep[2] * new).sigmoid() * new.tanh(), new


@wrong("peephole_step", "g is no gate")
def squashes_g_with_a_sigmoid(sums, c, peep):
    return peephole(sums, c, peep, squash=torch.sigmoid)


# ---- forget_bias(distances, share) ----


def logit(p):
    return (p / (1 - p)).log()


@wrong("forget_bias", "distance-th root")
def power_instead_of_root(distances, share):
    return logit(share**distances)


@wrong("forget_bias", "not the bias that makes it")
def returns_the_gate(distances, share):
    return torch.exp(math.log(share) / distances)


@wrong("forget_bias", "what is *left*")
def share_that_is_lost(distances, share):
    log_keep = math.log(1 - share) / distances
    return log_keep - (-torch.expm1(log_keep)).log()


@wrong("forget_bias", "sign")
def closes_instead_of_opening(distances, share):
    log_keep = math.log(share) / distances
    return (-torch.expm1(log_keep)).log() - log_keep


@wrong("forget_bias", "multiplied, not added up")
def loses_equal_amounts(distances, share):
    lost = (1 - share) / distances
    return (1 - lost).log() - lost.log()


@wrong("forget_bias", "the logarithm alone")
def logarithm_of_the_gate(distances, share):
    return math.log(share) / distances


@wrong("forget_bias", "rounds to 1")
def rounds_to_one(distances, share):
    return logit(share ** (1 / distances))


# ---- both_ways(x, lengths, keep) ----


def leaky(x, real, keep, order):
    """The memory at each place, read in this order; padding leaves it alone."""
    h, shown = torch.zeros_like(x[:, 0]), torch.zeros_like(x)
    for t in order:
        h = torch.where(real[:, t, None], keep * h + x[:, t], h)
        shown[:, t] = h
    return shown


def parts_of(x, lengths, keep):
    T = x.size(1)
    real = torch.arange(T) < lengths[:, None]
    return real, leaky(x, real, keep, range(T)), leaky(x, real, keep, reversed(range(T)))


def joined(real, *parts):
    return torch.cat(parts, dim=-1) * real[..., None]


@wrong("both_ways", "padding was read")
def backward_reads_the_padding(x, lengths, keep):
    real, forward, _ = parts_of(x, lengths, keep)
    everything = torch.ones_like(real)
    return joined(real, forward, leaky(x, everything, keep, reversed(range(x.size(1)))))


@wrong("both_ways", "turn it round again")
def backward_stays_turned_round(x, lengths, keep):
    real, forward, backward = parts_of(x, lengths, keep)
    turned = torch.zeros_like(backward)
    for row, length in enumerate(lengths.tolist()):
        turned[row, :length] = backward[row, :length].flip(0)
    return joined(real, forward, turned)


@wrong("both_ways", "zeros at the padding")
def goes_on_over_the_padding(x, lengths, keep):
    _, forward, backward = parts_of(x, lengths, keep)
    return torch.cat([forward, backward], dim=-1)


@wrong("both_ways", "forward half comes first")
def backward_half_first(x, lengths, keep):
    real, forward, backward = parts_of(x, lengths, keep)
    return joined(real, backward, forward)


@wrong("both_ways", "side by side, not added")
def adds_the_two(x, lengths, keep):
    real, forward, backward = parts_of(x, lengths, keep)
    return joined(real, forward + backward)


@wrong("both_ways", "includes the place itself")
def backward_leaves_out_the_place_itself(x, lengths, keep):
    real, forward, backward = parts_of(x, lengths, keep)
    return joined(real, forward, (backward - x) / keep)


@wrong("both_ways", "what is new is not shrunk")
def shrinks_what_is_new_too(x, lengths, keep):
    real, forward, backward = parts_of(x, lengths, keep)
    return joined(real, keep * forward, keep * backward)


@wrong("both_ways", "`lengths` is not used")
def ignores_the_lengths(x, lengths, keep):
    real, *parts = parts_of(x, torch.full_like(lengths, x.size(1)), keep)
    return joined(real, *parts)


@wrong("both_ways", "both halves are forward")
def forward_twice(x, lengths, keep):
    real, forward, _ = parts_of(x, lengths, keep)
    return joined(real, forward, forward)
