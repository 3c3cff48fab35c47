"""Decimal rounding of many numbers at once, to the bit what formatting each of them gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from harness.statistics.estimators import FloatArray

_Numbers = TypeVar("_Numbers", list[Any], dict[str, Any])
#: Powers of ten that float64 holds exactly: dividing a whole number by one rounds as reading its digits does.
_TENS = 10.0 ** np.arange(23)
#: How near to the middle of two roundings, in units of the last digit, a number is left to formatting.
_NEAR = 2e-3


def significant(number: float | None) -> float | None:
    """Six significant digits, of large numbers the whole part: equal whatever processor computed it."""
    if number is None:
        return None
    return _significant(number) if number else float(number)  # zero keeps its sign, which the cache would not


@lru_cache(maxsize=1 << 14)
def _significant(number: float) -> float:
    """The tables of a report repeat most of their numbers."""
    # nine first: halves such as 0.4203125 are common, and their last bits must not decide
    settled = float(f"{number:.9g}")
    return float(f"{settled:.6g}" if abs(settled) < 1e6 else f"{settled:.0f}")


def all_significant(numbers: ArrayLike) -> FloatArray:
    """:func:`significant` of every number, in the same shape."""
    values = np.asarray(numbers, dtype=np.float64)
    rounded, settled = _rounded(values, 6)
    for at in np.argwhere(~settled | (np.abs(values) > 999_999)):
        rounded[tuple(at)] = _significant(float(values[tuple(at)]))
    return rounded


class Rounded(Protocol):
    """Takes a list or an object, and gives it back; what is None in an object stays so."""

    def __call__(self, numbers: _Numbers, keys: Sequence[str] = (), /) -> _Numbers: ...


@contextmanager
def rounded_at_once() -> Iterator[Rounded]:
    """:func:`significant` of all numbers that are handed over inside, in place, at the end.

    Of an object these are the values of ``keys``, or all of them.
    """
    lists: list[list[Any]] = []
    objects: list[tuple[dict[str, Any], Sequence[str]]] = []
    values: list[Any] = []

    def rounded(numbers: _Numbers, keys: Sequence[str] = ()) -> _Numbers:
        if isinstance(numbers, list):
            lists.append(numbers)
        elif keys or None in numbers.values():
            known = [key for key in keys or numbers if numbers[key] is not None]
            objects.append((numbers, known))
            values.extend([numbers[key] for key in known])
        else:
            objects.append((numbers, [*numbers]))
            values.extend(numbers.values())
        return numbers

    yield rounded
    values.extend(chain.from_iterable(lists))
    found = iter(all_significant(np.array(values, np.float64)).tolist())
    for numbers, keys in objects:
        numbers.update(zip(keys, islice(found, len(keys)), strict=True))
    for own in lists:
        own[:] = islice(found, len(own))


def all_to_digits(numbers: ArrayLike, digits: int) -> FloatArray:
    """``float(f"{number:.{digits}g}")`` of every number, in the same shape; ``digits`` is 8 at most."""
    values = np.asarray(numbers, dtype=np.float64)
    rounded, settled = _rounded(values, digits)
    for at in np.argwhere(~settled):
        rounded[tuple(at)] = float(f"{values[tuple(at)]:.{digits}g}")
    return rounded


def _rounded(values: FloatArray, digits: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Rounded values, and where they are certain: not near a middle, and of a usual size or zero."""
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        places = digits - 1 - np.floor(np.log10(size))
        usual = (places >= 0) & (places < len(_TENS))
        scale = _TENS[np.where(usual, places, 0).astype(np.int64)]
        scaled = size * scale
        whole = np.rint(scaled)
        certain = usual & (np.abs(np.abs(scaled - whole) - 0.5) > _NEAR)
        certain &= (whole >= _TENS[digits - 1]) & (whole < _TENS[digits])
    rounded = np.copysign(whole / scale, values)
    zero = size == 0
    return np.where(zero, values, rounded), certain | zero
