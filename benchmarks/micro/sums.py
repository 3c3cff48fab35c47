"""Family ``sum``: write a number as a sum of distinct positive integers under a constraint.

``S67/4~35=`` asks for four distinct positive integers with sum 67, none containing a digit 3 or 5;
``S67/4@12=`` for four of which one is 12. A response is ``20+1+...``; the order does not matter.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Mapping
from functools import cache
from typing import Any

from benchmarks.micro.family import pick_digits
from entrobench import WRONG_FORMAT, DrawnProblem, Level, Verdict

_TERMS = re.compile(r"[1-9][0-9]{0,2}(?:\+[1-9][0-9]{0,2})+")
_MAX_TERM = 50
_MAX_TOTAL = 79
_MAX_TOTAL_FOUR = 59
"""Four terms with a larger sum, and five terms, occur in hard problems only."""


@cache
def _allowed(forbidden: str) -> tuple[int, ...]:
    """Terms without a forbidden digit, ascending."""
    return tuple(n for n in range(1, _MAX_TERM + 1) if not set(str(n)) & set(forbidden))


class Sums:
    """Sums of distinct terms: up to three forbidden digits or a required term; ``stretch`` forbids five
    or six digits, ``hard`` has more or larger terms, ``ood`` both kinds of constraint.
    """

    name = "sum"

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        while True:
            count = rng.randint(4, 5) if level == "hard" else rng.randint(2, 4)
            has_forbidden = level in ("stretch", "ood") or rng.random() < 0.5
            has_required = level == "ood" or not has_forbidden
            forbidden = ""
            if has_forbidden:
                forbidden = pick_digits(rng, 5, 6) if level == "stretch" else pick_digits(rng, 1, 3)
            # A random ceiling per problem spreads the totals over the whole range.
            ceiling = rng.randint(count + 8, _MAX_TERM)
            allowed = _allowed(forbidden)
            pool = allowed[: bisect_right(allowed, ceiling)]
            if len(pool) < count:
                continue
            terms = rng.sample(pool, count)
            total = sum(terms)
            is_large = count == 5 or (count == 4 and total > _MAX_TOTAL_FOUR)
            if total > _MAX_TOTAL or is_large != (level == "hard"):
                continue
            required = rng.choice(terms) if has_required else 0
            meta = {"total": total, "terms": count, "forbidden": forbidden, "required": required}
            prompt = f"S{total}/{count}"
            prompt += f"~{forbidden}" if forbidden else ""
            prompt += f"@{required}" if required else ""
            return DrawnProblem(prompt + "=", meta, "+".join(map(str, terms)))

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        if not _TERMS.fullmatch(text):
            return WRONG_FORMAT
        terms = sorted(int(term) for term in text.split("+"))
        is_right = (
            sum(terms) == meta["total"]
            and len(terms) == meta["terms"]
            and len(set(terms)) == len(terms)
            and not set(text) & set(meta["forbidden"])
            and (not meta["required"] or meta["required"] in terms)
        )
        return Verdict("right" if is_right else "wrong", "+".join(map(str, terms)))

    def guess(self, rng: random.Random) -> str:
        return "+".join(map(str, rng.sample(range(1, _MAX_TERM + 1), rng.randint(2, 5))))
