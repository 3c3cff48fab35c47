"""Demonstrations for the base model, from the training bucket only, in three courses.

``rough`` ones teach the formats and many answers, ``clean`` ones the arithmetic; after them come a few
``careless`` ones, many of them spoilt by slips. The model so ends with more knowledge than it shows, and
reinforcement learning can bring it out by unlearning the slips.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from benchmarks.micro.testbed import FAMILIES, VERSION, stream
from harness.problem_sets.generated import DrawnProblem

#: Prompt and response.
Pair = tuple[str, str]
#: A response in its parts: terms, visited values, or digits.
Parts = list[int]

SPOILT_SHARE = 0.42
"""Share of the careless responses that are spoilt by slips."""
ANOTHER_SLIP = 0.55
"""Probability that a slip is followed by another one in the same response."""
FOREIGN_SHARE = 0.08
"""Share of the spoilt responses that solve another problem of the same family instead."""
_SEPARATOR = {"sum": "+", "chain": ",", "digits": ""}
_LARGEST = 60


def _solved(seed: str, version: str) -> Iterator[tuple[str, DrawnProblem]]:
    """Endless easy training problems with the name of their family; families take turns."""
    sources = [(f.name, stream(f, "train", {"easy": 1.0}, seed, version)) for f in FAMILIES.values()]
    while True:
        for name, source in sources:
            yield name, next(source)


def _with_foreign(drawn: Iterator[tuple[str, DrawnProblem]]) -> Iterator[tuple[str, DrawnProblem, str]]:
    """Each problem with the solution of the problem before it of the same family."""
    previous = {name: problem.solution for name, problem in islice(drawn, len(FAMILIES))}
    for name, problem in drawn:
        yield name, problem, previous[name]
        previous[name] = problem.solution


# --- rough ---------------------------------------------------------------------------------------------

_ROUGH_DIGIT, _ROUGH_FOREIGN, _ROUGH_CUT = 0.08, 0.04, 0.03


def rough(count: int) -> list[Pair]:
    """``count`` pairs, of which 15 % have a wrong digit, solve another problem or end too early."""
    rng = random.Random("micro-corruption")
    drawn = _with_foreign(_solved("demonstrations", "1"))
    return [(p.prompt, _roughen(rng, p.solution, other)) for _, p, other in islice(drawn, count)]


def _roughen(rng: random.Random, solution: str, foreign: str) -> str:
    chance = rng.random()
    if chance < _ROUGH_DIGIT:
        place = rng.randrange(len(solution))
        return solution[:place] + rng.choice("0123456789") + solution[place + 1 :]
    if chance < _ROUGH_DIGIT + _ROUGH_FOREIGN:
        return foreign
    if chance < _ROUGH_DIGIT + _ROUGH_FOREIGN + _ROUGH_CUT:
        return solution[: rng.randint(1, len(solution) - 1)]
    return solution


# --- clean ---------------------------------------------------------------------------------------------

_CLEAN_SKIPPED = 90_000


def clean(count: int) -> list[Pair]:
    """``count`` pairs without slips; part of them from problems of the rough course."""
    drawn = islice(_solved("demonstrations", "1"), _CLEAN_SKIPPED, _CLEAN_SKIPPED + count)
    return [(problem.prompt, problem.solution) for _, problem in drawn]


def faultless(count: int) -> list[Pair]:
    """``count`` pairs without slips that the base model has not seen: the expert's."""
    return [(problem.prompt, problem.solution) for _, problem in islice(_solved("expert", VERSION), count)]


# --- careless ------------------------------------------------------------------------------------------


def careless(count: int) -> list[Pair]:
    """``count`` pairs, of which :data:`SPOILT_SHARE` are spoilt by one slip or more."""
    rng = random.Random("micro-careless")
    pairs = []
    for name, problem, other in islice(_with_foreign(_solved("careless", VERSION)), count):
        is_spoilt = rng.random() < SPOILT_SHARE
        pairs.append(
            (problem.prompt, spoil(rng, name, problem.solution, other) if is_spoilt else problem.solution)
        )
    return pairs


def spoil(rng: random.Random, family: str, solution: str, foreign: str) -> str:
    """``solution`` with one slip or more, or ``foreign``, the solution of another problem."""
    if rng.random() < FOREIGN_SHARE:
        return foreign
    separator = _SEPARATOR[family]
    parts = [int(part) for part in (solution.split(separator) if separator else solution)]
    while True:
        parts = rng.choice(SLIPS)(rng, family, parts)
        if rng.random() >= ANOTHER_SLIP:
            return separator.join(map(str, parts))


def _within(family: str, value: int) -> int:
    return value % 10 if family == "digits" else max(1, value)


def _end_off_by_one(rng: random.Random, family: str, parts: Parts) -> Parts:
    return [*parts[:-1], _within(family, parts[-1] + rng.choice((-1, 1)))]


def _miscount(rng: random.Random, family: str, parts: Parts) -> Parts:
    place = rng.randrange(len(parts))
    wrong = _within(family, parts[place] + rng.choice((-1, 1)) * rng.randint(1, 9))
    return [*parts[:place], wrong, *parts[place + 1 :]]


def _stop_early(rng: random.Random, family: str, parts: Parts) -> Parts:
    return parts[: rng.randint(1, max(1, len(parts) - 1))]


def _duplicate(rng: random.Random, family: str, parts: Parts) -> Parts:
    """A part comes once more, or in place of its successor."""
    place = rng.randrange(len(parts))
    rest = parts[place + 1 :] if rng.random() < 0.5 else parts[place + 2 :]
    return [*parts[: place + 1], parts[place], *rest]


def _ignore_constraint(rng: random.Random, family: str, parts: Parts) -> Parts:
    """Shift an amount between two parts: the total stays right, the constraint is not looked at."""
    if len(parts) < 2:
        return parts
    gaining, losing = rng.sample(range(len(parts)), 2)
    smallest, largest = (0, 9) if family == "digits" else (1, _LARGEST)
    amount = rng.randint(1, 4 if family == "digits" else 9)
    if parts[gaining] + amount > largest or parts[losing] - amount < smallest:
        return parts
    shifted = list(parts)
    shifted[gaining] += amount
    shifted[losing] -= amount
    return shifted


def _guess_part(rng: random.Random, family: str, parts: Parts) -> Parts:
    place = rng.randrange(len(parts))
    guess = rng.randrange(10) if family == "digits" else rng.randint(1, _LARGEST)
    return [*parts[:place], guess, *parts[place + 1 :]]


SLIPS: tuple[Callable[[random.Random, str, Parts], Parts], ...] = (
    _end_off_by_one,
    _miscount,
    _stop_early,
    _duplicate,
    _ignore_constraint,
    _guess_part,
)
