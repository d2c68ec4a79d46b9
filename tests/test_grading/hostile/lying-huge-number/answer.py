# %% ending_loop
def ending_loop(text, longest):
    return 1 << 100_000_000, -1
