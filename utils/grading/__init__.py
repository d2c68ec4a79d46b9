"""Grades homework that strangers hand in: their code runs behind a wall, the verdict is made outside of it."""


class Stop(Exception):
    """One plain sentence for the person at the terminal: what is wrong, and what to do."""
