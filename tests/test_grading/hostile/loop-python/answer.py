# %% nucleus
def nucleus(probs, p):
    while True:
        pass
