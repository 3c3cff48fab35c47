"""The problem set ``words``: splits apart, every problem solvable, verdicts exact, frozen."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.words import problems
from benchmarks.words.problems import FAMILIES, FROZEN_FILE, SPLITS, Words, frozen
from harness.problem_sets.generated import Level
from harness.problems.problem import Problem
from harness.util.environment import ROOT
from harness.util.errors import UserError
from tests.testbed.freeze import digests


def test_what_records_refer_to_is_frozen() -> None:
    assert frozen() == digests()["words"], (
        "raise VERSION (or VERIFIER_VERSION); python -m tests.testbed.freeze"
    )


@pytest.mark.parametrize("name", ["version", "verifier"])
def test_a_file_of_another_version_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is drawn: a run's identity asks for the file."""
    (tmp_path / "FROZEN").write_text(json.dumps(frozen() | {name: "7"}))
    monkeypatch.setattr(problems, "FROZEN_FILE", tmp_path / "FROZEN")
    with pytest.raises(UserError, match=f"has {name} 7 of words, and the problems here are of {name} 1"):
        Words().fingerprint()


def test_no_problem_is_in_two_buckets() -> None:
    words = Words()
    asked = {split: {p.meta["question"] for p in words.problems(split)} for split in SPLITS}
    for split, questions in asked.items():
        assert len(questions) == SPLITS[split][2] == words.size(split)
        assert {words.bucket_of(question) for question in questions} == {SPLITS[split][0]}
    assert not asked["train"] & asked["validation"] and not asked["train"] & asked["test_id"]
    shown = {question for family in FAMILIES.values() for question, _ in family.examples}
    assert not shown & set().union(*asked.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_drawn_solution_is_right(name: str) -> None:
    words, family = Words(), FAMILIES[name]
    for level in get_args(Level):
        for drawn in islice(words.stream(family, "train", {level: 1.0}, "solutions"), 150):
            problem = words.problem("x", name, drawn)
            assert words.verify(problem, f" {drawn.solution}\n").correct, drawn
            assert not words.verify(problem, drawn.solution + ", and more").correct


@pytest.mark.parametrize("name", FAMILIES)
def test_the_shown_examples_would_be_right(name: str) -> None:
    """Each is an answer of the form that its family reads."""
    for _, answer in FAMILIES[name].examples:
        assert FAMILIES[name].verify(next(iter(_metas(name))), answer).status != "unparsed"


def _metas(name: str) -> list[dict[str, object]]:
    return [dict(d.meta) for d in islice(Words.stream(FAMILIES[name], "train", {"easy": 1.0}, "metas"), 1)]


@pytest.mark.parametrize(
    ("family", "meta", "text", "status"),
    [
        ("name", {"kind": "animal", "count": 2, "conditions": [["begins", "s"]]}, "Snake, sheep.", "right"),
        ("name", {"kind": "animal", "count": 2, "conditions": [["begins", "s"]]}, "snake, snake", "wrong"),
        ("name", {"kind": "animal", "count": 1, "conditions": [["begins", "s"]]}, "snake, sheep", "wrong"),
        ("name", {"kind": "animal", "count": 1, "conditions": [["lacks", "a"]]}, "snake", "wrong"),
        ("name", {"kind": "animal", "count": 1, "conditions": [["begins", "s"]]}, "sofa", "wrong"),
        ("name", {"kind": "food", "count": 1, "conditions": [["ends", "e"]]}, "a apple", "unparsed"),
        ("rise", {"count": 3, "low": 30, "high": 50, "parity": "", "digit": ""}, "31, 40, 49", "right"),
        ("rise", {"count": 3, "low": 30, "high": 50, "parity": "", "digit": ""}, "30, 40, 49", "wrong"),
        ("rise", {"count": 3, "low": 30, "high": 50, "parity": "", "digit": ""}, "31, 31, 49", "wrong"),
        ("rise", {"count": 2, "low": 30, "high": 50, "parity": "even", "digit": ""}, "32, 41", "wrong"),
        ("rise", {"count": 2, "low": 30, "high": 50, "parity": "", "digit": "4"}, "32, 41", "wrong"),
        ("rise", {"count": 2, "low": 30, "high": 50, "parity": "", "digit": ""}, "32 and 41", "unparsed"),
        ("sum", {"count": 2, "low": 30, "high": 40, "digit": ""}, "12+23", "right"),
        ("sum", {"count": 2, "low": 30, "high": 40, "digit": ""}, "20 + 20", "wrong"),
        ("sum", {"count": 2, "low": 30, "high": 40, "digit": ""}, "10 + 30", "wrong"),
        ("sum", {"count": 2, "low": 30, "high": 40, "digit": ""}, "12 + 23 = 35", "unparsed"),
        ("sum", {"count": 2, "low": 30, "high": 40, "digit": "2"}, "12 + 23", "wrong"),
        ("sentence", {"count": 5, "words": ["river"]}, "The river is very deep.", "right"),
        ("sentence", {"count": 5, "words": ["river"]}, "The river is the river.", "wrong"),
        ("sentence", {"count": 5, "words": ["river"]}, "The rivers are very deep.", "wrong"),
        ("sentence", {"count": 5, "words": ["river"]}, "the river is very deep", "unparsed"),
        ("sentence", {"count": 5, "words": ["river"]}, "The river, it is deep.", "unparsed"),
    ],
)
def test_verdicts(family: str, meta: dict[str, object], text: str, status: str) -> None:
    assert Words().verify(Problem("x", "", meta={"family": family, **meta}), text).status == status


def test_a_long_response_is_no_answer() -> None:
    meta = {"family": "rise", "count": 40, "low": 1, "high": 100, "parity": "", "digit": ""}
    text = ", ".join(map(str, range(10, 50)))
    assert Words().verify(Problem("x", "", meta=meta), text).status == "unparsed"


def test_the_untrained_model_is_where_training_can_move_it() -> None:
    """And the page shows these figures."""
    calibration = json.loads((FROZEN_FILE.parent / "calibration.json").read_text())
    page = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    for split in ("validation", "test_id"):
        figures = calibration["base"][split]["all"]
        assert 0.05 <= figures["pass@1"] <= 0.25
        assert 0.50 <= figures["pass@32"] <= 0.90
        assert figures["max_tokens"] <= 32
        for family, own in calibration["base"][split].items():
            assert f"| `{split}` | {family} | {own['pass@1']:.3f} | {own['pass@32']:.3f} |" in page
