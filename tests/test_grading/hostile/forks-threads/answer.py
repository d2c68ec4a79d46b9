# %% nucleus
import threading


def nucleus(probs, p):
    waits = threading.Event()
    while True:
        threading.Thread(target=waits.wait, daemon=True).start()
