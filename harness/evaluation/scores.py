"""From samples to scores with intervals; nothing here draws or grades."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.evaluation.samples import Sample
from harness.problems.problem import Problem
from harness.statistics import Interval, bootstrap_interval, maj_at_k, pass_at_k

#: What all right answers vote for where a problem has a single reference answer.
_RIGHT = "\0right"


def summary(samples: Sequence[Sample], problems: Sequence[Problem]) -> dict[str, Any]:
    """Counts per problem in the order of ``problems``, and rates over all samples.

    ``answers`` keeps how often every answer to a problem was given, and if it is right: ``+40 -12 -1`` is
    the right one 40 times and two wrong ones. Right answers to a problem with one reference answer are one
    answer, however they are written; samples without an answer abstain.
    """
    by_problem: dict[str, list[Sample]] = {problem.id: [] for problem in problems}
    for sample in samples:
        by_problem[sample.problem_id].append(sample)
    answers = [_answers(by_problem[p.id], single=bool(p.answer)) for p in problems]
    total = len(samples)
    judged_twice = [s for s in samples if s.second]
    return {
        "n": min(map(len, by_problem.values())),
        "problem_ids": [p.id for p in problems],
        "correct": [sum(s.status == "right" for s in by_problem[p.id]) for p in problems],
        "answers": answers,
        "samples_sha256": digest((s.problem_id, s.sample, s.text) for s in samples),
        "distinct": [len(a.split()) for a in answers],
        "distinct_correct": [a.count("+") for a in answers],
        "mean_length": sum(s.tokens for s in samples) / total,
        "truncated": sum(s.stop == "length" for s in samples) / total,
        "unparsed": sum(s.status == "unparsed" for s in samples) / total,
        "timeout": sum(s.status == "timeout" for s in samples) / total,
        "agreement": (
            sum((s.second == "right") == (s.status == "right") for s in judged_twice) / len(judged_twice)
            if judged_twice else None
        ),
        "second_accuracy": (
            sum(s.second == "right" for s in judged_twice) / len(judged_twice) if judged_twice else None
        ),
    }  # fmt: skip


def digest(samples: Iterable[tuple[str, int, str]]) -> str:
    """A digest of ``(problem, sample, text)``, in whatever order, file format and version they are stored."""
    text = "\n".join(json.dumps([str(p), int(i), str(t)]) for p, i, t in sorted(samples))
    return hashlib.sha256(text.encode()).hexdigest()


def _answers(samples: Sequence[Sample], *, single: bool) -> str:
    """How often every distinct answer was given, most frequent first, with its sign."""
    keys, right = votes([s.status for s in samples], [s.canonical for s in samples], single=single)
    counts: dict[str, int] = {}
    for key in keys:
        if key is not None:
            counts[key] = counts.get(key, 0) + 1
    is_right = {key: ok for key, ok in zip(keys, right, strict=True) if key is not None}
    ordered = sorted(
        ((count, is_right[key]) for key, count in counts.items()), key=lambda a: (-a[0], not a[1])
    )
    return " ".join(f"{'+' if ok else '-'}{count}" for count, ok in ordered)


def votes(
    statuses: Sequence[str], canonicals: Sequence[str | None], *, single: bool
) -> tuple[list[str | None], list[bool]]:
    """What every sample votes for (None: it abstains) and whether that is right; equal votes are equal there.

    Args:
        single: the problem has one reference answer, so that all right samples vote for the same.
    """
    right = [status == "right" for status in statuses]
    both = {c for c, ok in zip(canonicals, right, strict=True) if ok} & {
        c for c, ok in zip(canonicals, right, strict=True) if not ok
    }
    keys: list[str | None] = []
    for canonical, ok in zip(canonicals, right, strict=True):
        if ok and (single or canonical is None):
            keys.append(_RIGHT)
        elif canonical in both and canonical is not None and not ok:  # e.g. the grader's time ran out
            keys.append(f"{canonical} (not right)")
        else:
            keys.append(canonical)
    return keys, right


def majority_values(summary: Mapping[str, Any], k: int) -> list[float]:
    """maj@k of every problem, averaged over all subsets of ``k`` samples."""
    values = []
    for answers in summary["answers"]:
        voted: list[str | None] = []
        right: list[bool] = []
        for number, answer in enumerate(answers.split()):
            count = int(answer[1:])
            voted += [str(number)] * count
            right += [answer[0] == "+"] * count
        silent = int(summary["n"]) - len(voted)
        voted += [None] * silent
        right += [False] * silent
        values.append(maj_at_k(voted, right, k).value)
    return values


def estimate(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over problems with its 95 % bootstrap interval over problems.

    None for a single problem, and where all problems have the same value: a bootstrap would claim certainty.
    """
    mean = sum(values) / len(values)
    if min(values) == max(values):
        return {"value": mean, "low": None, "high": None}
    interval: Interval = bootstrap_interval([values])
    return {"value": mean, "low": interval.low, "high": interval.high}


def estimates(
    summary: Mapping[str, Any], *, passes: Sequence[int], majorities: Sequence[int]
) -> dict[str, Any]:
    """``{"pass@8": {"value", "low", "high"}, "maj@8": …}`` for the ks asked for."""
    n, correct = int(summary["n"]), summary["correct"]
    found: dict[str, Any] = {}
    for k in passes:
        found[f"pass@{k}"] = estimate(pass_at_k(n, correct, k).tolist())
    for k in majorities:
        found[f"maj@{k}"] = estimate(majority_values(summary, k))
    return found
