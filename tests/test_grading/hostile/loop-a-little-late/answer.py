# %% nucleus
import time


def nucleus(probs, p):
    time.sleep(1)
    ranked = probs.sort(dim=-1, descending=True).values
    size = ((ranked.cumsum(dim=-1) - ranked) < p).sum(dim=-1, keepdim=True)
    kept = probs * (probs >= ranked.gather(-1, size - 1))
    return kept / kept.sum(dim=-1, keepdim=True)
