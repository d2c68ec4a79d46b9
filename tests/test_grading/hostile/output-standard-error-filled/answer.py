# %% fill it
import os

os.set_blocking(2, False)
try:
    for _ in range(10_000):
        os.write(2, b"x" * 4096)
except OSError:
    pass
os.set_blocking(2, True)

# %% resample
