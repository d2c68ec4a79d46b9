# %% all of it
much = [0] * 1_000_000
while True:
    much += much

# %% give it back
del much

# %% resample
