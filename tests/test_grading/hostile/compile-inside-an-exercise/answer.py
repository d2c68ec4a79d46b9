# %% ending_loop
def ending_loop(text, longest):
	if text:
        return "\ud800" + (
    for (in]: \x00
