# %% nucleus
import time


def nucleus(probs, p):
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
