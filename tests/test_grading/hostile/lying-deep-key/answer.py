# %% beam_search
def beam_search(next_log_probs, start, end, width, n_steps, alpha):
    key = ()
    for _ in range(20_000):
        key = (key,)

    return {key: 1}
