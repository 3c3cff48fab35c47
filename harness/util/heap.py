"""Memory that the allocator of the C library keeps although nothing is in it.

Blocks of some megabytes are kept for later ones when they are freed, which seldom fit where activations and
gradients take turns: a process then grows by what it frees. Only glibc is asked; elsewhere nothing happens.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

#: ``M_MMAP_THRESHOLD`` of malloc.h.
_MMAP_THRESHOLD = -3
#: Bytes from which a block is mapped on its own.
APART = 1 << 20


@cache
def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)


def give_back() -> None:
    """Give the system what is free now."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def keep_apart() -> None:
    """From now on map blocks of :data:`APART` bytes each on its own, so that freeing one gives it back.

    The system fills every new mapping with zeros, so this suits large models alone.
    """
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, APART)
