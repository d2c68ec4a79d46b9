# %% a sum
@SUM@

# %% calls
@CALLS@

# %% attributes
@ATTRIBUTES@

# %% signs
@SIGNS@

# %% functions in functions
@BLOCKS@

# %% resample
