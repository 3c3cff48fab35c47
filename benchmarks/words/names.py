"""Family ``name``: name one or several animals, foods or countries under a condition on their letters.

"Name two animals that begin with s." A response is ``snake, sheep``; the order does not matter.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from benchmarks.words.lists import ANIMALS, COUNTRIES, FOODS
from entrobench import WRONG_FORMAT, DrawnProblem, Level, Verdict

_KINDS = {
    "animal": ("an animal", "animals", ANIMALS),
    "food": ("a food", "foods", FOODS),
    "country": ("a country", "countries", COUNTRIES),
}
_COUNTS = {1: "", 2: "two", 3: "three"}
#: Name of a condition -> how it is said of one and of several.
_CONDITIONS = {
    "begins": ("begins with {}", "begin with {}"),
    "ends": ("ends with {}", "end with {}"),
    "has": ("has the letter {}", "have the letter {}"),
    "lacks": ("has no letter {}", "have no letter {}"),
}
#: Right names that a problem has at least, and for each further name that it asks for.
_ENOUGH = 4
_ANSWER = re.compile(r"[a-z]+(?:, ?[a-z]+)*")


def _meets(name: str, condition: str, letter: str) -> bool:
    if condition in ("begins", "ends"):
        return name[0 if condition == "begins" else -1] == letter
    return (letter in name) == (condition == "has")


@cache
def _right(kind: str, conditions: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(sorted(n for n in _KINDS[kind][2] if all(_meets(n, *c) for c in conditions)))


def _said(kind: str, count: int, conditions: tuple[tuple[str, str], ...]) -> str:
    one, several, _ = _KINDS[kind]
    said = " and ".join(_CONDITIONS[name][count > 1].format(letter) for name, letter in conditions)
    return f"Name {one if count == 1 else f'{_COUNTS[count]} {several}'} that {said}."


class Names:
    """One name; ``stretch`` asks for two, ``hard`` for three, ``ood`` for one under two conditions."""

    name = "name"
    examples = (
        (_said("animal", 1, (("begins", "z"),)), "zebra"),
        (_said("food", 2, (("has", "z"),)), "pizza, hazelnut"),
    )

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        count = {"stretch": 2, "hard": 3}.get(level, 1)
        while True:
            kind = rng.choice(list(_KINDS))
            drawn = rng.sample(list(_CONDITIONS), 2 if level == "ood" else 1)
            conditions = tuple(sorted((name, rng.choice("abcdefghijklmnopqrstuvwxy")) for name in drawn))
            right = _right(kind, conditions)
            # a condition that nearly every name meets is none
            if not _ENOUGH * count <= len(right) <= 0.8 * len(_KINDS[kind][2]):
                continue
            meta = {"kind": kind, "count": count, "conditions": [list(c) for c in conditions]}
            answer = ", ".join(rng.sample(right, count))
            return DrawnProblem(_said(kind, count, conditions), meta, answer)

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        text = text.lower().removesuffix(".")
        if not _ANSWER.fullmatch(text):
            return WRONG_FORMAT
        names = [name.strip() for name in text.split(",")]
        right = _right(meta["kind"], tuple((c[0], c[1]) for c in meta["conditions"]))
        is_right = len(names) == meta["count"] == len(set(names)) and set(names) <= set(right)
        return Verdict("right" if is_right else "wrong", ", ".join(sorted(names)))

    def guess(self, rng: random.Random) -> str:
        return ", ".join(rng.sample(sorted(rng.choice(list(_KINDS.values()))[2]), rng.randint(1, 2)))
