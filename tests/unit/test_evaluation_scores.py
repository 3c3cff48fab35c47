"""Scores from samples, against enumeration of all subsets."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation.samples import Sample
from harness.evaluation.scores import estimate, estimates, majority_values, summary
from harness.evaluation.table import lines, scored
from harness.problems.problem import Problem


def sample(problem: str, i: int, status: str, answer: str | None, **changes: Any) -> Sample:
    values: dict[str, Any] = {
        "text": "", "tokens": 10, "stop": "end", "second": status, "logp_sum": 0.0, "graded_by": "g",
    }  # fmt: skip
    return Sample(problem_id=problem, sample=i, status=status, canonical=answer, **values | changes)


def drawn(answers: list[str | None], gold: str) -> list[Sample]:
    statuses = ["unparsed" if a is None else "right" if a.lower() == gold else "wrong" for a in answers]
    return [sample("p", i, s, a) for i, (s, a) in enumerate(zip(statuses, answers, strict=True))]


def vote(answers: tuple[str | None, ...], gold: str) -> float:
    """The majority of one subset; ties are shared among those who tie."""
    counts = Counter(a for a in answers if a is not None)
    if not counts:
        return 0.0
    top = [a for a, c in counts.items() if c == max(counts.values())]
    return sum(a == gold for a in top) / len(top)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["x", "X", "y", "z", None]), min_size=2, max_size=7), st.data())
def test_pass_and_majority_are_means_over_all_subsets(answers: list[str | None], data: Any) -> None:
    """``X`` and ``x`` are both right: two writings of the one reference answer vote together."""
    k = data.draw(st.integers(1, len(answers)))
    found = summary(drawn(answers, "x"), [Problem("p", "", "x")])
    merged = [a if a is None else a.lower() for a in answers]
    subsets = list(combinations(merged, k))
    got = estimates(found, passes=[k], majorities=[k])
    assert got[f"pass@{k}"]["value"] == pytest.approx(sum("x" in s for s in subsets) / len(subsets))
    assert majority_values(found, k) == pytest.approx([sum(vote(s, "x") for s in subsets) / len(subsets)])
    assert got["pass@" + str(k)]["low"] is None  # one problem says nothing about others
    assert found["distinct"] == [len({a for a in merged if a is not None})]


def test_many_right_answers_stay_apart_where_there_is_no_reference() -> None:
    rows = [sample("p", 0, "right", "1+2"), sample("p", 1, "right", "2+1"), sample("p", 2, "wrong", "1+1")]
    found = summary(rows, [Problem("p", "")])
    assert found["distinct"] == [3] and found["distinct_correct"] == [2] and found["answers"] == ["+1 +1 -1"]
    assert summary(rows, [Problem("p", "", "3")])["answers"] == ["+2 -1"]


def test_an_answer_judged_both_ways_is_two_answers() -> None:
    """A timeout on one of two equal answers must not stop the count."""
    rows = [sample("p", 0, "right", "x"), sample("p", 1, "timeout", "x"), sample("p", 2, "unparsed", None)]
    found = summary(rows, [Problem("p", "", "x")])
    assert found["answers"] == ["+1 -1"] and majority_values(found, 2) == [pytest.approx((0.5 + 1 + 0) / 3)]


def test_rates_and_agreement() -> None:
    problems = [Problem("p", "", "1"), Problem("q", "", "2")]
    rows = [
        sample("q", 0, "right", "2", tokens=20, second="wrong"),
        sample("p", 0, "unparsed", None, stop="length"),
        sample("p", 1, "timeout", "5", second="wrong"), sample("q", 1, "right", "2", stop="stop"),
    ]  # fmt: skip
    found = summary(rows, problems)
    assert found["problem_ids"] == ["p", "q"] and found["correct"] == [0, 2] and found["n"] == 2
    assert (found["truncated"], found["unparsed"], found["timeout"]) == (0.25, 0.25, 0.25)
    assert found["mean_length"] == 12.5 and found["agreement"] == 0.75 and found["second_accuracy"] == 0.25
    alone = summary([sample("p", 0, "right", "1", second="")], [Problem("p", "")])
    assert alone["agreement"] is None and alone["second_accuracy"] is None


def test_intervals_are_over_problems() -> None:
    got = estimate([0.0, 1.0] * 20)
    assert got["value"] == 0.5 and got["low"] is not None and got["high"] is not None
    assert 0.3 < got["low"] < 0.4 and 0.6 < got["high"] < 0.7  # 0.5 +- 1.96 * 0.5 / sqrt(40)
    assert estimate([0.0] * 5) == {"value": 0.0, "low": None, "high": None}


def record(n: int = 4) -> dict[str, Any]:
    problems = [Problem("p", "", "1"), Problem("q", "", "2")]
    avg = [sample(p, i, "right" if i < 2 else "wrong", str(i < 2)) for p in "pq" for i in range(n)]
    some = [sample(p, i, "right" if p == "p" and i < 1 else "wrong", "a") for p in "pq" for i in range(n)]
    draws = {name: {**summary(rows, problems), "shortened": 0, "max_tokens": 9} for name, rows in
             (("avg", avg), ("pass", some))}  # fmt: skip
    single = [sample("p", 0, "right", "1"), sample("q", 0, "wrong", "1")]
    one = {**summary(single, problems), "shortened": 0, "max_tokens": 9}
    return {
        "model": {"label": "m"}, "engine": {"engine": "hf", "dtype": "float32"}, "request": ["benchmark=b,a"],
        "profile": {"label": "standard", "name": "standard", "grader": "g", "changes": {},
                    "template": {"name": "plain"}},
        "benchmarks": {"a": {"data": {"problems": 2}, "draws": draws},
                       "b": {"data": {"problems": 2}, "draws": {"greedy": one}}},
    }  # fmt: skip


def test_pass_at_one_and_pass_at_k_come_from_their_own_samples() -> None:
    found = scored(record()["benchmarks"]["a"])
    assert found["pass@1"]["value"] == 0.5  # of the first sampling
    assert found["pass@2"]["value"] == pytest.approx(0.25)  # of the second: 1 of 4 right on one problem
    assert found["maj@2"]["value"] == pytest.approx((1 + 4 * 0.5) / 6)
    assert set(found) == {"pass@1", "pass@2", "maj@2"}


def test_the_table_keeps_the_order_asked_for_and_names_changes() -> None:
    told = lines(record())
    assert told[0] == "m, profile standard (template plain, grader g), engine hf float32"
    head = next(i for i, line in enumerate(told) if line.split() == ["b", "a"])
    rows = {line[:18].strip(): line[18:].split() for line in told[head + 1 :]}
    assert rows["pass@1"][1] == "0.500" and rows["pass@2"] == ["0.250"] and rows["problems"] == ["2", "2"]
    changed = record()
    changed["profile"] |= {"label": "standard+changes", "changes": {"n": "4"}}
    assert "not profile standard as it is: n=4" in lines(changed)[1]
