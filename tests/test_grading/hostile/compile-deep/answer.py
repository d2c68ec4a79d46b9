# %% deep, made when the notebook is built
@DEEP@

# %% resample
