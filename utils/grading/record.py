"""What was graded, line by line: appended, on disk before the next one begins, never changed."""

import contextlib
import json
import os
from pathlib import Path

from utils.grading import Stop


@contextlib.contextmanager
def opened(out):
    """The record in the folder `out`, for one grader at a time; Stop if another one is at work there."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = open(out / "record.jsonl", "ab+")
    except OSError as error:
        raise Stop(f"{out} cannot be written ({error.strerror}): name another folder with --out.") from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(f"Another grader is at work in {out}: wait for it, or name another --out.") from None
        yield Record(file)


class Record:
    """The records of one folder: `found` has those that were there, in order."""

    def __init__(self, file):
        self.file = file
        file.seek(0)
        lines = file.read().split(b"\n")
        file.truncate(sum(len(line) + 1 for line in lines[:-1]))  # a line that a kill cut short
        self.found = [record for record in map(parsed, lines[:-1]) if record]

    def append(self, record):
        """One more line, on disk when this returns."""
        self.file.write(json.dumps(record).encode("ascii") + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.found.append(record)

    def newest(self, homework):
        """{student: the last record of this homework}"""
        return {record["student"]: record for record in self.found if record["homework"] == homework.name}


def parsed(line):
    """The record of a line; None where there is none to read."""
    try:
        record = json.loads(line)
        return record if {"student", "homework", "sha256", "fingerprint"} <= record.keys() else None
    except (ValueError, AttributeError):
        return None
