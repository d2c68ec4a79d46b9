# %% leave, twice
import sys

sys.exit(0)
raise KeyboardInterrupt

# %% resample
