# %% nucleus
def nucleus(probs, p):
    return torch.where(torch.arange(probs.size(-1)) % 2 == 0, math.nan, math.inf).expand_as(probs)
