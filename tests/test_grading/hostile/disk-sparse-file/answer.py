# %% nucleus
import numpy as np


def nucleus(probs, p):
    with open("sparse", "wb") as file:
        file.truncate(1 << 43)
    return np.memmap("sparse", mode="r+")
