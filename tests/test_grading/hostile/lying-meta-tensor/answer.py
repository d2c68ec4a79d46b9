# %% nucleus
def nucleus(probs, p):
    return probs.to("meta")
