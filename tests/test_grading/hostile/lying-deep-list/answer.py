# %% beam_search
def beam_search(next_log_probs, start, end, width, n_steps, alpha):
    beams = []
    for _ in range(20_000):
        beams = [beams]
    return beams
