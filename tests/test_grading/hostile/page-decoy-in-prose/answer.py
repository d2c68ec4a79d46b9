# %% [markdown]
def nucleus(probs, p):
    ranked = probs.sort(dim=-1, descending=True).values
    size = ((ranked.cumsum(dim=-1) - ranked) < p).sum(dim=-1, keepdim=True)
    kept = probs * (probs >= ranked.gather(-1, size - 1))
    return kept / kept.sum(dim=-1, keepdim=True)

# %% nucleus
def nucleus(probs, p):
    return probs * 0

# %% more decoys
# def nucleus(probs, p): return right
"def nucleus(probs, p): return right"
if False:

    def nucleus(probs, p):
        ranked = probs.sort(dim=-1, descending=True).values
        size = ((ranked.cumsum(dim=-1) - ranked) < p).sum(dim=-1, keepdim=True)
        kept = probs * (probs >= ranked.gather(-1, size - 1))
        return kept / kept.sum(dim=-1, keepdim=True)
