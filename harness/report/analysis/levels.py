"""The levels that a report's statistics are at."""

from __future__ import annotations

#: Of intervals; of what counts as beyond chance; of finding the difference that is named as detectable.
LEVEL, ALPHA, POWER = 0.95, 0.05, 0.8
#: Share of tokens with a changed gradient below which a row is the reference with its own settings.
INACTIVE = 0.01
