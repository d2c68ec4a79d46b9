"""What crosses the wall: plain data comes back as it was, and no bytes make the reader do more than refuse."""

import math
import os
import random
import threading
import time

import numpy as np
import pytest

from utils.check import Table, same
from utils.grading import wire

VALUES = [
    None,
    True,
    -7,
    10**300,
    0.1,
    -math.inf,
    math.nan,
    "text with \ud800, \x00 and ö",
    b"\x00\xff",
    [],
    [1, [2.5, [None]]],
    {"a": [1], 3: {}, (1, "x"): 2.0},
    {"array": 1, "dict": 2, "tuple": 3},
    Table({(): [0.5, 0.5], (1, 2): [1.0, 0.0]}),
    np.arange(12.0).reshape(3, 4),
    np.arange(12).reshape(3, 4).T,
    np.array(True),
    np.zeros((0, 5), dtype=np.float32),
    np.array([1 + 2j]),
    [np.arange(3), {"x": np.arange(2.0)}, b"", np.float32([[math.inf]])],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_plain_data_comes_back_as_it_was(value):
    back = wire.unpack(wire.pack(value))
    assert same(back, value, 0) and type(back) is type(value)
    if isinstance(value, np.ndarray):
        assert back.dtype == value.dtype and back.flags.owndata and back.flags.writeable


def test_tuples_stay_tuples():
    assert wire.unpack(wire.pack([(1, "a"), ([],)])) == [(1, "a"), ([],)]


def test_what_is_not_plain_is_not_sent():
    for value in (object(), {1, 2}, np.array([None]), 1j):
        with pytest.raises((TypeError, wire.Damaged)):
            wire.unpack(wire.pack(value))


def test_damaged_bytes_are_refused_and_nothing_else_happens():
    chance = random.Random(0)
    frames = [wire.pack(VALUES), wire.pack(VALUES[-1]), wire.pack({"x": [np.arange(40), "text"]})]
    for _ in range(5000):
        frame = bytearray(chance.choice(frames))
        for _ in range(chance.randint(1, 4)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
        frame = frame[: chance.randint(0, len(frame))] if chance.random() < 0.3 else frame
        try:
            wire.unpack(bytes(frame))
        except wire.Damaged:
            pass


def tree(text):
    """A frame with this JSON and no arrays."""
    return len(text).to_bytes(4, "little") + text.encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"array": ["<f8", [1000000000000]]}',
        '{"array": ["<f8", [-1]]}',
        '{"array": ["<f8", [2.5]]}',
        '{"array": ["|O", [1]]}',
        '{"array": ["|V8", [1]]}',
        '{"array": ["<f8", [0, 99999999999999999999999]]}',
        '{"array": ["<f8", ' + str([0] * 40) + "]}",
        '{"dict": [[[], 1]]}',
        '{"dict": 5}',
        '{"bytes": "%%%"}',
        '{"pickle": "gASV"}',
        '{"a": 1, "b": 2}',
        "{}",
        "[" * 100_000,
        "9" * 5000,
        '{"table": {"table": {"tuple": 1}}}',
    ],
)
def test_what_nobody_packs_is_refused(text):
    with pytest.raises(wire.Damaged):
        wire.unpack(tree(text))


def test_no_number_of_lists_fills_the_memory():
    with pytest.raises(wire.Damaged, match="too long"):
        wire.unpack(tree("[" + "[]," * 2_000_000 + "[]]"))


def test_frames_keep_their_borders():
    reader, writer = os.pipe()
    threading.Thread(target=lambda: [wire.send(writer, bytes([n]) * n * 50_000) for n in range(4)]).start()
    for n in range(4):
        assert wire.receive(reader) == bytes([n]) * n * 50_000


def test_a_frame_may_be_too_long_too_late_or_cut_short():
    reader, writer = os.pipe()
    os.write(writer, (10**15).to_bytes(8, "little"))
    with pytest.raises(wire.TooLong):
        wire.receive(reader)
    with pytest.raises(wire.TooLate):
        wire.receive(reader, until=time.monotonic() + 0.05)
    os.write(writer, (9).to_bytes(8, "little") + b"12345")
    with pytest.raises(wire.TooLate):
        wire.receive(reader, until=time.monotonic() + 0.05)
    os.close(writer)
    with pytest.raises(wire.Ended):
        wire.receive(reader)
