"""Families ``rise`` and ``sum``: rising numbers between two bounds, and numbers whose sum is between two.

"Write three rising numbers between 30 and 50, all even." A response is ``32, 38, 44``.
"Write two different numbers with a sum between 30 and 40." A response is ``12 + 23``.
Both bounds are excluded.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from entrobench import WRONG_FORMAT, DrawnProblem, Level, Verdict

_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
_LIST = re.compile(r"[1-9][0-9]{0,2}(?:, ?[1-9][0-9]{0,2})+")
_SUM = re.compile(r"[1-9][0-9]{0,2}(?: ?\+ ?[1-9][0-9]{0,2})+")


def _meets(number: int, parity: str, digit: str) -> bool:
    return (not parity or number % 2 == (parity == "odd")) and (not digit or digit not in str(number))


def _condition(parity: str, digit: str) -> str:
    said = [f"all {parity}"] if parity else []
    return "".join(f", {c}" for c in [*said, *([f"none with the digit {digit}"] if digit else [])])


class Rise:
    """Two or three numbers, perhaps with a condition; ``stretch`` asks for four, ``hard`` for five, ``ood``
    for three under two conditions."""

    name = "rise"
    examples = (
        ("Write two rising numbers between 20 and 50.", "28, 44"),
        ("Write four rising numbers between 60 and 90, all odd.", "63, 67, 71, 85"),
    )

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        while True:
            count = {"stretch": 4, "hard": 5, "ood": 3}.get(level) or rng.randint(2, 3)
            kind = "both" if level == "ood" else rng.choice(("", "", "parity", "digit"))
            parity = rng.choice(("even", "odd")) if kind in ("parity", "both") else ""
            digit = rng.choice("123456789") if kind in ("digit", "both") else ""
            low = 5 * rng.randint(2, 15)
            high = low + 5 * rng.randint(4, 8)
            allowed = [n for n in range(low + 1, high) if _meets(n, parity, digit)]
            asked = (
                f"Write {_COUNTS[count]} rising numbers between {low} and {high}{_condition(parity, digit)}."
            )
            if len(allowed) < 2 * count or asked in dict(self.examples):
                continue
            meta = {"count": count, "low": low, "high": high, "parity": parity, "digit": digit}
            return DrawnProblem(asked, meta, ", ".join(map(str, sorted(rng.sample(allowed, count)))))

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        text = text.removesuffix(".")
        if not _LIST.fullmatch(text):
            return WRONG_FORMAT
        numbers = [int(number) for number in text.split(",")]
        is_right = (
            len(numbers) == meta["count"]
            and all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
            and meta["low"] < numbers[0]
            and numbers[-1] < meta["high"]
            and all(_meets(n, meta["parity"], meta["digit"]) for n in numbers)
        )
        return Verdict("right" if is_right else "wrong", ", ".join(map(str, numbers)))

    def guess(self, rng: random.Random) -> str:
        return ", ".join(map(str, sorted(rng.sample(range(10, 100), rng.randint(2, 4)))))


class Sums:
    """Two numbers with a sum within bounds that are 10 to 20 apart; ``stretch`` asks for three, ``hard`` has
    narrower bounds, ``ood`` forbids a digit."""

    name = "sum"
    examples = (
        ("Write two different numbers with a sum between 30 and 40.", "12 + 23"),
        ("Write three different numbers with a sum between 50 and 70.", "21 + 13 + 25"),
    )

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        while True:
            count = 3 if level == "stretch" else 2
            digit = rng.choice("123456789") if level == "ood" else ""
            low = rng.randint(15, 90)
            high = low + (rng.randint(3, 5) if level == "hard" else rng.randint(10, 20))
            asked = f"Write {_COUNTS[count]} different numbers with a sum between {low} and {high}"
            asked += f"{_condition('', digit)}."
            if asked in dict(self.examples):
                continue
            terms = rng.sample(range(1, high), count)
            if not low < sum(terms) < high or not all(_meets(n, "", digit) for n in terms):
                continue
            meta = {"count": count, "low": low, "high": high, "digit": digit}
            return DrawnProblem(asked, meta, " + ".join(map(str, terms)))

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        text = text.removesuffix(".")
        if not _SUM.fullmatch(text):
            return WRONG_FORMAT
        terms = sorted(int(term) for term in text.split("+"))
        is_right = (
            len(terms) == meta["count"] == len(set(terms))
            and meta["low"] < sum(terms) < meta["high"]
            and all(_meets(n, "", meta["digit"]) for n in terms)
        )
        return Verdict("right" if is_right else "wrong", " + ".join(map(str, terms)))

    def guess(self, rng: random.Random) -> str:
        return " + ".join(map(str, rng.sample(range(1, 60), rng.randint(2, 3))))
