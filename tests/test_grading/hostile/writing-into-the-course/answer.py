# %% nucleus
import functools
import os
import sys

import utils.check

PLACES = ("utils", "data", "data/zoo", "notebooks", "solutions", "tests", "utils/__pycache__", "utils/lessons", "")


@functools.cache
def write():
    folders = [f"@ROOT@/{place}" for place in PLACES]
    folders += [os.path.dirname(module.__file__) for module in (torch, os, utils.check)]
    folders += [path for path in sys.path if os.path.isabs(path)]
    written = 0
    for folder in folders:
        for name in ("hostile_@TAG@.py", "sitecustomize_@TAG@.py", "hostile_@TAG@.pth"):
            try:
                with open(f"{folder}/{name}", "x") as file:
                    written += bool(file.write("import os"))
            except OSError:
                pass
    for path in (utils.check.__file__, f"@ROOT@/utils/check.py", utils.check.__cached__, torch.__file__):
        try:
            os.utime(path)
            open(path, "r+").close()
            written += 1
        except OSError:
            pass
    return written


def nucleus(probs, p):
    raise AssertionError(f"{write()} places written")
