# %% nucleus
import os


def nucleus(probs, p):
    os.fork()
    return torch.zeros_like(probs)
