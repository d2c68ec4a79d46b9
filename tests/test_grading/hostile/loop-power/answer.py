# %% nucleus
def nucleus(probs, p):
    return 7 ** (10**9)
