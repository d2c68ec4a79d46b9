# %% nucleus
def nucleus(probs, p):
    return torch.zeros(1).expand(10**12)
