"""What the three problem families share: the longest response, digit helpers."""

from __future__ import annotations

import random

MAX_RESPONSE_TOKENS = 24
"""Upper bound of a valid response in tokens (characters), end token included."""


def pick_digits(rng: random.Random, low: int, high: int) -> str:
    """Between ``low`` and ``high`` different digits, ascending, as a string."""
    return "".join(sorted(rng.sample("0123456789", rng.randint(low, high))))
