# %% ending_loop
def ending_loop(text, longest):
    return {number * (2**61 - 1): None for number in range(20_000)}
