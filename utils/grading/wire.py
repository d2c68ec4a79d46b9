"""Plain data as bytes and back: numbers, texts, lists, dicts and arrays; nothing that could run."""

import json
import os
import select
import struct
import time

import numpy as np

from utils.check import Table

LONGEST = 16_000_000  # bytes of one frame: no honest answer of the course comes near
LONGEST_TREE = 4_000_000  # of these, what is not in arrays: Python needs some twenty times as much to hold it
MOST_KEYS = 10_000  # of one dict: keys that were chosen to collide take the square of their number
DTYPES = {np.dtype(kind).str for kind in "?bhilqBHILQefdFD"}


class Damaged(Exception):
    """The bytes are no plain data."""


# ---- plain data ↔ bytes ----


def pack(value):
    """The bytes of plain data: a line of JSON, then the numbers of each array in it."""
    arrays = []
    tree = json.dumps(to_tree(value, arrays)).encode("ascii")
    return b"".join([struct.pack("<I", len(tree)), tree, *arrays])


def to_tree(value, arrays):
    """What JSON can say of a value; the bytes of its arrays are put into `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value).tobytes())
        return {"array": [value.dtype.newbyteorder("<").str, list(value.shape)]}
    if isinstance(value, bytes):
        arrays.append(value)
        return {"bytes": len(value)}
    if isinstance(value, Table):
        return {"table": to_tree(value.rows, arrays)}
    if isinstance(value, tuple):
        return {"tuple": [to_tree(item, arrays) for item in value]}
    if isinstance(value, dict):
        pairs = [[to_tree(key, arrays), to_tree(item, arrays)] for key, item in value.items()]
        return {"dict": pairs}
    if isinstance(value, list):
        return [to_tree(item, arrays) for item in value]
    return value


def unpack(data):
    """The plain data that `pack` made these bytes of; Damaged if they are anything else."""
    try:
        (length,) = struct.unpack_from("<I", data)
        if length > LONGEST_TREE:
            raise Damaged("too long")
        rest = [memoryview(data)[4 + length :]]
        value = from_tree(json.loads(bytes(data[4 : 4 + length])), rest)
    except (ValueError, TypeError, KeyError, struct.error, RecursionError, OverflowError) as error:
        raise Damaged(str(error)) from None
    if rest[0]:
        raise Damaged("bytes are left over")
    return value


def from_tree(tree, rest):
    """The value of a tree; arrays take their bytes from rest[0], a view of what is left."""
    if isinstance(tree, list):
        return [from_tree(item, rest) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, inside),) = tree.items()
    if kind == "array":
        return take_array(*inside, rest)
    if kind == "bytes":
        return bytes(take(inside, rest))
    if kind == "table":
        return Table(from_tree(inside, rest))
    if kind == "tuple":
        return tuple(from_tree(item, rest) for item in inside)
    if kind == "dict":
        if len(inside) > MOST_KEYS:
            raise Damaged("too many keys")
        return {from_tree(key, rest): from_tree(item, rest) for key, item in inside}
    raise Damaged(f"no such kind: {kind[:20]}")


def take_array(dtype, shape, rest):
    """An array of its own out of the first bytes that are left; their number must be right."""
    if dtype not in DTYPES or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise Damaged("no array of numbers")
    size = np.dtype(dtype).itemsize
    for n in shape:
        size *= n
    return np.frombuffer(take(size, rest), dtype).reshape(shape).copy()


def take(size, rest):
    """The first so many bytes of what is left."""
    if type(size) is not int or not 0 <= size <= len(rest[0]):
        raise Damaged("too few bytes")
    piece, rest[0] = rest[0][:size], rest[0][size:]
    return piece


# ---- frames on a pipe ----


class Ended(Exception):
    """Nobody writes on the other side any more."""


class TooLong(Exception):
    """The frame is longer than what is taken."""


class TooLate(Exception):
    """The frame did not come in time."""


def send(fd, data):
    """Write one frame: its length, then its bytes; Ended if nobody reads."""
    view = memoryview(struct.pack("<Q", len(data)) + data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        raise Ended from None


def receive(fd, longest=LONGEST, until=None):
    """The bytes of the next frame. until: on the clock of time.monotonic; None waits for ever."""
    (length,) = struct.unpack("<Q", read(fd, 8, until))
    if length > longest:
        raise TooLong
    return read(fd, length, until)


def read(fd, length, until):
    """Exactly so many bytes."""
    data = bytearray()
    while len(data) < length:
        if until is not None and not select.select([fd], [], [], max(0, until - time.monotonic()))[0]:
            raise TooLate
        piece = os.read(fd, min(length - len(data), 1 << 20))
        if not piece:
            raise Ended
        data += piece
    return bytes(data)
