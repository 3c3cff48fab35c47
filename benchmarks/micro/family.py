"""What the three problem families share: the drawn problem, levels, digit helpers, parsing."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from entrobench import Verdict

Level = Literal["easy", "stretch", "hard", "ood"]
"""``easy``: the problems of the demonstrations; ``stretch``: more or larger constraints than demonstrated,
which training meets too; ``hard``: still more, and ``ood``: combined constraints, both for tests only.
Training, validation and the in-distribution test mix ``easy`` and ``stretch``."""

MAX_RESPONSE_TOKENS = 24
"""Upper bound of a valid response in tokens (characters), end token included."""

WRONG_FORMAT = Verdict("unparsed")


@dataclass(frozen=True)
class Drawn:
    """A solvable problem together with one solution of it.

    ``prompt`` is written in canonical order (digits ascending, operations in a fixed order), so two
    problems that are equal up to reordering have the same prompt: it doubles as the canonical key.
    """

    prompt: str
    meta: Mapping[str, Any]
    solution: str


class Family(Protocol):
    """One kind of problem: a generator, an exact verifier and a problem-independent guesser."""

    name: str

    def draw(self, rng: random.Random, level: Level) -> Drawn:
        """Draw a problem of ``level`` by drawing a solution first, so that it is always solvable."""

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        """Judge a stripped response of at most :data:`MAX_RESPONSE_TOKENS` characters."""

    def guess(self, rng: random.Random) -> str:
        """A well-formed answer drawn uniformly from the grammar without seeing a problem."""


def pick_digits(rng: random.Random, low: int, high: int) -> str:
    """Between ``low`` and ``high`` different digits, ascending, as a string."""
    return "".join(sorted(rng.sample("0123456789", rng.randint(low, high))))
