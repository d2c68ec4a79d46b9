# %% say much
for _ in range(100):
    print("nothing to say " * 70_000)

# %% resample
