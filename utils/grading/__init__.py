"""Grades homework that strangers hand in: their code runs behind a wall, the verdict is made outside of it."""
