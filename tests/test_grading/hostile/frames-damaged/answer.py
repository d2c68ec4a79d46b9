# %% nucleus
import os
import struct
from itertools import cycle

from utils.grading import wire


def framed(tree):
    return b"A" + struct.pack("<I", len(tree)) + tree


DAMAGED = cycle(
    [
        b"",
        b"A",
        b"A\xff\xff\xff\xff",
        b"A" + os.urandom(100),
        framed(b"9" * 1_000_000),
        framed(b"[" * 1_000_000),
        framed(b'{"a":' * 100_000),
        framed(b'[NaN, Infinity, -Infinity, 1e999, "", ""]'),
        framed(b'[{"array": ["<f8", [1000000000000]]}, "", "", "done", [], ""]'),
        framed(b'[{"array": ["<f8", [0, 1000000000000000000]]}, "", "", "done", [], ""]'),
        framed(b'[{"array": ["|O", [1]]}, "", "", "done", [], ""]') + bytes(8),
        framed(b'[{"array": [["<f8"], {"a": 1}]}, "", "", "done", [], ""]'),
        framed(b'[{"dict": [[{"dict": []}, 1]]}, "", "", "done", [], ""]'),
        framed(b'[{"dict": [1, 2, 3]}, "", "", "done", [], ""]'),
        framed(b'[{"bytes": 5}, "", "", "done", [], ""]'),
        framed(b'[{"table": {"a": 1, "b": 2}}, "", "", "done", [], ""]'),
        framed(b'{"a": 1, "a": 2}'),
        framed("[\"\ud800\", \"\", \"\", \"done\", [], \"\"]".encode("utf-8", "surrogatepass")),
        framed(b"\xff\xfe[\x001\x00]\x00"),
    ]
)


def nucleus(probs, p):
    wire.send(4, next(DAMAGED))
    return probs
