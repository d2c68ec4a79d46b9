# %% nucleus
import mmap
import tempfile

import numpy as np


def nucleus(probs, p):
    file = tempfile.TemporaryFile()
    file.truncate(1 << 16)
    view = np.frombuffer(mmap.mmap(file.fileno(), 1 << 16), dtype=np.float32)
    file.truncate(0)
    return view
