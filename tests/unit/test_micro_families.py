"""The micro problem families: solvable draws, exact verifiers, canonical answers."""

from __future__ import annotations

import random
from itertools import product

import pytest

from benchmarks.micro.family import MAX_RESPONSE_TOKENS
from benchmarks.micro.testbed import FAMILIES, SPLITS, Micro
from harness.problems.problem import Problem

LEVELS = ("easy", "stretch", "hard", "ood")


def problem(family: str, **meta: object) -> Problem:
    return Problem("x", "", meta={"family": family, **meta})


@pytest.mark.parametrize(("family", "level"), product(FAMILIES, LEVELS))
def test_drawn_solutions_are_right_and_short(family: str, level: str) -> None:
    rng = random.Random(7)
    for _ in range(300):
        drawn = FAMILIES[family].draw(rng, level)  # type: ignore[arg-type]
        full = Problem("x", drawn.prompt, meta={"family": family, **drawn.meta})
        assert Micro().verify(full, drawn.solution).correct, drawn
        assert len(drawn.prompt) <= 17
        assert len(drawn.solution) + 1 <= MAX_RESPONSE_TOKENS


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_prompt_means_equal_problem(family: str) -> None:
    rng = random.Random(8)
    metas: dict[str, object] = {}
    for _ in range(3000):
        drawn = FAMILIES[family].draw(rng, "easy")
        assert metas.setdefault(drawn.prompt, drawn.meta) == drawn.meta
    assert len({repr(meta) for meta in metas.values()}) == len(metas)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_ood_combines_both_constraints(family: str) -> None:
    pairs = {
        "sum": ("forbidden", "required"),
        "chain": ("times", "forbidden"),
        "digits": ("wanted", "unwanted"),
    }
    first, second = pairs[family]
    rng = random.Random(9)
    for level in LEVELS:
        for _ in range(200):
            meta = FAMILIES[family].draw(rng, level).meta  # type: ignore[arg-type]
            assert bool(meta[first]) + bool(meta[second]) == (2 if level == "ood" else 1)


@pytest.mark.parametrize(
    ("text", "status", "canonical"),
    [
        ("60+12+20", "right", "12+20+60"),
        ("20+12+60", "right", "12+20+60"),
        ("12+20+61", "wrong", "12+20+61"),
        ("12+40+40", "wrong", "12+40+40"),
        ("12+80", "wrong", "12+80"),
        ("22+10+60", "wrong", "10+22+60"),
        ("12+27+53", "wrong", "12+27+53"),
        ("012+20+60", "unparsed", None),
        ("12+20+", "unparsed", None),
        ("12 +20+60", "unparsed", None),
        ("", "unparsed", None),
    ],
)
def test_sum_verifier(text: str, status: str, canonical: str | None) -> None:
    verdict = Micro().verify(problem("sum", total=92, terms=3, forbidden="37", required=12), text)
    assert (verdict.status, verdict.canonical) == (status, canonical)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("19,16,23,20,40", "right"),
        ("9,18,36,43,40", "right"),
        ("24,21,42,39,36,43,40", "right"),
        ("19,16,23,20,41", "wrong"),  # misses the target
        ("40", "wrong"),  # illegal step
        ("9,18,15,12,24,31,28,56", "wrong"),  # returns to the start
        ("19,38,35,42,51,48,45,52", "wrong"),  # contains a forbidden 5
        ("19,", "unparsed"),
        ("019,16", "unparsed"),
        ("٣,16", "unparsed"),
    ],
)
def test_chain_verifier(text: str, status: str) -> None:
    meta = {"start": 12, "target": 40, "plus": "79", "minus": "3", "times": 2, "forbidden": "5"}
    assert Micro().verify(problem("chain", **meta), text).status == status


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("37834", "right"),
        ("43783", "right"),
        ("38734", "right"),
        ("33874", "wrong"),  # equal neighbours
        ("37933", "wrong"),
        ("378340", "wrong"),
        ("34864", "wrong"),  # no 7
        ("37816", "wrong"),  # unwanted 1
        ("3783x", "unparsed"),
    ],
)
def test_digits_verifier(text: str, status: str) -> None:
    meta = {"length": 5, "total": 25, "wanted": "37", "unwanted": "1"}
    assert Micro().verify(problem("digits", **meta), text).status == status


def test_verify_never_raises() -> None:
    rng = random.Random(10)
    problems = Micro().problems("test_id")[:9]
    alphabet = "0123456789+-*/~@>:,=SCD \n<é٣\x00"
    for _ in range(2000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 40)))
        for each in problems:
            assert Micro().verify(each, text).status in ("right", "wrong", "unparsed")
    assert Micro().verify(problems[0], "1" * 10**6).status == "unparsed"


def test_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="test_ood"):
        Micro().problems("nonsense")
    assert set(Micro().splits()) == set(SPLITS)
