# %% leave early
import os

os._exit(0)

# %% resample
