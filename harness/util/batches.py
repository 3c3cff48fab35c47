"""Values of one kind are worked on together: a call for each would take most of the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

_Value = TypeVar("_Value")
_Kind = TypeVar("_Kind", bound=Hashable)
_Found = TypeVar("_Found")


def kind_by_kind(
    values: Sequence[_Value],
    kind: Callable[[_Value], _Kind],
    of: Callable[[_Kind, Sequence[_Value]], Iterable[_Found]],
) -> list[_Found]:
    """What ``of`` gives for all values of each kind at once, in the order of ``values``."""
    places: dict[_Kind, list[int]] = {}
    for at, value in enumerate(values):
        places.setdefault(kind(value), []).append(at)
    if len(places) == 1:
        return [*of(next(iter(places)), values)]
    found: dict[int, _Found] = {}
    for own, ats in places.items():
        found |= zip(ats, of(own, [values[at] for at in ats]), strict=True)
    return [found[at] for at in range(len(values))]
