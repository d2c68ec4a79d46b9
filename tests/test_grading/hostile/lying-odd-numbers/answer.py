# %% nucleus
from itertools import cycle

import numpy as np

ODD = cycle(
    [
        lambda: torch.complex(torch.ones(1, 4), torch.ones(1, 4)),
        lambda: torch.quantize_per_tensor(torch.ones(1, 4), 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        lambda: np.array([None, [], {}, object()], dtype=object),
        lambda: np.zeros(4, dtype=[("a", "f4"), ("b", "O")]),
        lambda: np.array(["2026-01-01"] * 4, dtype="datetime64[D]"),
        lambda: np.array(["yes", "no"]),
        lambda: np.ma.masked_all((1, 4)),
        lambda: torch.zeros(1, 4, dtype=torch.float8_e4m3fn),
    ]
)


def nucleus(probs, p):
    return next(ODD)()
