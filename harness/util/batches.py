"""Values of one kind are worked on together: a call for each would take most of the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

_Value = TypeVar("_Value")
_Kind = TypeVar("_Kind", bound=Hashable)
_Found = TypeVar("_Found")


def kind_by_kind(
    values: Sequence[_Value],
    kind: Callable[[_Value], _Kind],
    of: Callable[[_Kind, Sequence[_Value]], Iterable[_Found]],
) -> list[_Found]:
    """What ``of`` gives for all values of each kind at once, in the order of ``values``."""
    kinds = [*map(kind, values)]
    if len(set(kinds)) == 1:
        return [*of(kinds[0], values)]
    places: dict[_Kind, list[int]] = {}
    for at, own in enumerate(kinds):
        places.setdefault(own, []).append(at)
    found: list[Any] = [None] * len(kinds)
    for own, ats in places.items():
        for at, one in zip(ats, of(own, [values[at] for at in ats]), strict=True):
            found[at] = one
    return found
