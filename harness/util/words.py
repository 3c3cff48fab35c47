"""Words for numbers of things, in what is said to a person."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """``1 run``, ``2 runs``: the number with the thing, whose plural is regular."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
