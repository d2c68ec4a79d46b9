# %% a warning from a library
import os

_ = os.write(2, b"a warning of a library\n")

# %% resample
