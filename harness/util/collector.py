"""The garbage collector, out of the way while nothing becomes garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused(*, freeze: bool = False) -> Iterator[None]:
    """No collection inside: for imports and loading, whose hundreds of thousands of objects all stay.

    Args:
        freeze: the collector need not look through them later either, which it would do at once.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freeze:
            gc.freeze()
        if was_on:
            gc.enable()
