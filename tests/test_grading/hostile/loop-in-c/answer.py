# %% nucleus
from collections import deque
from itertools import repeat


def nucleus(probs, p):
    return deque(repeat(0), maxlen=0)
