# %% beam_search
def beam_search(next_log_probs, start, end, width, n_steps, alpha):
    beams = [([start], 0.0)]
    for _ in range(60):
        beams = [beams, beams]
    return beams
