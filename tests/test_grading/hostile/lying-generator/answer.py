# %% beam_search
def beam_search(next_log_probs, start, end, width, n_steps, alpha):
    while True:
        yield [start], 0.0
