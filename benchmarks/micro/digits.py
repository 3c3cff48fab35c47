"""Family ``digits``: a digit string of given length and digit sum under a constraint.

``D6:25+37=`` asks for six digits with sum 25 that contain a 3 and a 7; ``D6:25-14=`` for six digits
without a 1 and a 4. Neighbouring digits must always differ.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from benchmarks.micro.family import pick_digits
from entrobench import WRONG_FORMAT, DrawnProblem, Level, Verdict

_DIGITS = re.compile(r"[0-9]+")


class Digits:
    """Up to three wanted or four unwanted digits; ``stretch`` has five wanted or six unwanted ones,
    ``hard`` one more, ``ood`` both kinds of constraint.
    """

    name = "digits"

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        fewest_wanted, most_wanted = {"stretch": (5, 5), "hard": (6, 6)}.get(level, (1, 3))
        unwanted_range = {"stretch": (6, 6), "hard": (7, 7)}.get(level, (1, 4))
        while True:
            length = rng.randint(6, 7) if level in ("stretch", "hard") else rng.randint(4, 7)
            has_unwanted = level == "ood" or rng.random() < 0.5
            unwanted = pick_digits(rng, *unwanted_range) if has_unwanted else ""
            allowed = [d for d in range(10) if str(d) not in unwanted]
            # A random sub-alphabet per problem spreads the digit sums over the whole range.
            alphabet = rng.sample(allowed, rng.randint(3, len(allowed)))
            row = [rng.choice(alphabet)]
            while len(row) < length:
                digit = rng.choice(alphabet)
                if digit != row[-1]:
                    row.append(digit)
            wanted = ""
            if level == "ood" or not has_unwanted:
                present = sorted(set(row))
                if len(present) < fewest_wanted:
                    continue
                count = rng.randint(fewest_wanted, min(most_wanted, len(present)))
                wanted = "".join(map(str, sorted(rng.sample(present, count))))
            meta = {"length": length, "total": sum(row), "wanted": wanted, "unwanted": unwanted}
            prompt = f"D{length}:{sum(row)}"
            prompt += f"+{wanted}" if wanted else ""
            prompt += f"-{unwanted}" if unwanted else ""
            return DrawnProblem(prompt + "=", meta, "".join(map(str, row)))

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        if not _DIGITS.fullmatch(text):
            return WRONG_FORMAT
        is_right = (
            len(text) == meta["length"]
            and sum(map(int, text)) == meta["total"]
            and set(meta["wanted"]) <= set(text)
            and not set(meta["unwanted"]) & set(text)
            and all(left != right for left, right in zip(text, text[1:], strict=False))
        )
        return Verdict("right" if is_right else "wrong", text)

    def guess(self, rng: random.Random) -> str:
        row = [rng.randrange(10)]
        length = rng.randint(4, 7)
        while len(row) < length:
            digit = rng.randrange(10)
            if digit != row[-1]:
                row.append(digit)
        return "".join(map(str, row))
