# %% ending_loop
import random


def ending_loop(text, longest):
    if random.random() < 1 / 3:
        return (9, 9)
    best = (1, 0)
    for length in range(1, longest + 1):
        copies, start = 1, len(text) - 2 * length
        while start >= 0 and text[start : start + length] == text[-length:]:
            copies, start = copies + 1, start - length
        best = max(best, (copies, length))
    copies, length = best
    return (length, copies) if copies > 1 else (0, 0)
