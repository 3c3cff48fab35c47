"""How many processes were started together. Imports no torch."""

from __future__ import annotations

import os


def launched_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))
