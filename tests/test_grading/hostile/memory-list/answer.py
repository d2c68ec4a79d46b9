# %% nucleus
def nucleus(probs, p):
    items = [0] * 1_000_000
    while True:
        items += items
