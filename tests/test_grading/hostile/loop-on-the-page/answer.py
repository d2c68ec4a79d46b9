# %% wait
endless = 7 ** (10**9)

# %% resample
