# %% ending_loop
def ending_loop(text, longest):
    return ["\U0001f600" * 100_000_000, "\0" * 50_000_000]
