"""Family ``chain``: walk from a number to a target with the operations of the prompt.

``C12>40+79-3*2=`` asks for the values visited on a way from 12 to 40, where each step adds 7 or 9,
subtracts 3, or doubles: ``9,18,36,43,40``. ``C12>40+79-36~5=`` has no multiplication and forbids
every value that contains a digit 5. Values stay within 1..60, none is visited twice, at most seven steps.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from entrobench import WRONG_FORMAT, DrawnProblem, Level, Verdict

_VALUES = re.compile(r"[1-9][0-9]?(?:,[1-9][0-9]?)*")
_MAX_VALUE = 60
_MAX_EASY_VALUE = 50
_MAX_STEPS = 7


@cache
def _moves(plus: str, minus: str) -> tuple[int, ...]:
    return tuple(int(digit) for digit in plus) + tuple(-int(digit) for digit in minus)


def successors(meta: Mapping[str, Any], value: int, ceiling: int = _MAX_VALUE) -> list[int]:
    """Values one operation away from ``value``, within 1..``ceiling``, free of forbidden digits."""
    reached = [value + move for move in _moves(meta["plus"], meta["minus"])]
    if meta["times"]:
        reached.append(value * meta["times"])
    forbidden = meta["forbidden"]
    return [v for v in reached if 1 <= v <= ceiling and not (forbidden and forbidden in str(v))]


def is_within(meta: Mapping[str, Any], steps: int, ceiling: int = _MAX_VALUE) -> bool:
    """Whether the target can be reached in at most ``steps`` steps."""
    frontier = {meta["start"]}
    seen = set(frontier)
    for _ in range(steps):
        frontier = {v for value in frontier for v in successors(meta, value, ceiling)} - seen
        if meta["target"] in frontier:
            return True
        seen |= frontier
    return False


def legal_walk(
    rng: random.Random, meta: Mapping[str, Any], steps: int, ceiling: int = _MAX_VALUE
) -> list[int] | None:
    """A random walk of ``steps`` legal moves that ignores the target; ``None`` at a dead end."""
    value: int = meta["start"]
    path: list[int] = []
    for _ in range(steps):
        reached = set(successors(meta, value, ceiling))
        options = sorted(reached - {meta["start"], *path})
        if not options:
            return None
        value = rng.choice(options)
        path.append(value)
    return path


class Chains:
    """Walks of three to five steps with a multiplication or a forbidden digit; ``stretch`` climbs above
    50, ``hard`` needs at least five steps, ``ood`` has both kinds of constraint.
    """

    name = "chain"

    def draw(self, rng: random.Random, level: Level) -> DrawnProblem:
        ceiling = _MAX_VALUE if level == "stretch" else _MAX_EASY_VALUE
        while True:
            has_times = level == "ood" or rng.random() < 0.5
            numbers = rng.sample("23456789", 3 if has_times else 4)
            meta: dict[str, Any] = {
                "start": rng.randint(1, ceiling),
                "plus": "".join(sorted(numbers[:2])),
                "minus": "".join(sorted(numbers[2:])),
                "times": rng.randint(2, 3) if has_times else 0,
                "forbidden": str(rng.randrange(10)) if level == "ood" or not has_times else "",
            }
            steps = rng.randint(5, 7) if level == "hard" else rng.randint(3, 5)
            if meta["forbidden"] and meta["forbidden"] in str(meta["start"]):
                continue
            path = legal_walk(rng, meta, steps, ceiling)
            if path is None or (level == "stretch" and max(meta["start"], *path) <= _MAX_EASY_VALUE):
                continue
            meta["target"] = path[-1]
            # Near targets would be hit by chance; hard problems keep only the far ones.
            if is_within(meta, 2, ceiling) or (level == "hard" and is_within(meta, 4)):
                continue
            prompt = f"C{meta['start']}>{path[-1]}+{meta['plus']}-{meta['minus']}"
            prompt += f"*{meta['times']}" if meta["times"] else ""
            prompt += f"~{meta['forbidden']}" if meta["forbidden"] else ""
            return DrawnProblem(prompt + "=", meta, ",".join(map(str, path)))

    def verify(self, meta: Mapping[str, Any], text: str) -> Verdict:
        if not _VALUES.fullmatch(text):
            return WRONG_FORMAT
        path = [meta["start"], *map(int, text.split(","))]
        is_right = (
            path[-1] == meta["target"]
            and len(path) - 1 <= _MAX_STEPS
            and len(set(path)) == len(path)
            and all(b in successors(meta, a) for a, b in zip(path, path[1:], strict=False))
        )
        return Verdict("right" if is_right else "wrong", text)

    def guess(self, rng: random.Random) -> str:
        return ",".join(map(str, rng.sample(range(1, _MAX_VALUE + 1), rng.randint(3, _MAX_STEPS))))
