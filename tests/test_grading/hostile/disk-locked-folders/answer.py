# %% resample
import os


def resample(logits, temperature, keep, uniforms):
    if not os.path.exists("locked"):
        os.makedirs("locked/a/b/c")
        open("locked/a/b/file", "w").close()
        os.symlink("/", "root")
        os.symlink("@CLASS@", "class")
        os.symlink("missing", "nowhere")
        os.mkfifo("pipe")
        for folder in ("locked/a/b/c", "locked/a/b", "locked/a", "locked", "."):
            os.chmod(folder, 0)
    return keep
