"""Finds code that is alike."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pair:
    one: str
    other: str
    share: float
    exercises: dict = field(default_factory=dict)


def pairs(records, homework):
    return []
