# %% typical
import os
import signal


def typical(probs, width):
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)
