# %% nucleus
def nucleus(probs, p):
    while True:
        print("nothing to say " * 1000)
