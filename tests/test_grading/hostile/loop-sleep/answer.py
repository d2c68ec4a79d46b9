# %% nucleus
import time


def nucleus(probs, p):
    time.sleep(3e7)
