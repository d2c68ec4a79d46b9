# %% nucleus
def nucleus(probs, p):
    return probs


del nucleus

# %% typical
class typical:
    """Not a function, but can be called."""

    def __new__(cls, *args):
        return object.__new__(cls)

# %% min_p
min_p = "nothing to call"
