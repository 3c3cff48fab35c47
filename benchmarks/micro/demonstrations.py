"""Deliberately imperfect demonstrations for the base model, from the training bucket only.

A share of the responses is corrupted, so that the base policy makes the slips that reinforcement
learning can remove; all others are solutions drawn at random, so that it knows many answers.
"""

from __future__ import annotations

import random

from benchmarks.micro.testbed import FAMILIES, stream

SLIP_SHARE = 0.08
"""Responses with one character replaced by another digit."""
FOREIGN_SHARE = 0.04
"""Responses that solve another problem of the same family."""
CUT_SHARE = 0.03
"""Responses that end too early."""


def _corrupt(rng: random.Random, solution: str, foreign: str) -> str:
    chance = rng.random()
    if chance < SLIP_SHARE:
        place = rng.randrange(len(solution))
        return solution[:place] + rng.choice("0123456789") + solution[place + 1 :]
    if chance < SLIP_SHARE + FOREIGN_SHARE:
        return foreign
    if chance < SLIP_SHARE + FOREIGN_SHARE + CUT_SHARE:
        return solution[: rng.randint(1, len(solution) - 1)]
    return solution


def demonstrations(count: int) -> list[tuple[str, str]]:
    """``count`` pairs (prompt, response), families in turn; always the same list."""
    rng = random.Random("micro-corruption")
    streams = [stream(family, "train", {"easy": 1.0}, "demonstrations") for family in FAMILIES.values()]
    previous = [next(source).solution for source in streams]
    pairs = []
    for index in range(count):
        turn = index % len(streams)
        drawn = next(streams[turn])
        pairs.append((drawn.prompt, _corrupt(rng, drawn.solution, previous[turn])))
        previous[turn] = drawn.solution
    return pairs
