"""What leads from a number to its run, for every run alike; derived here where older records do not say it.

A cell leads to commit, configuration hash, method-file hash, determinism and hardware of each of its runs,
to their seeds and the budget they used, to what tuning chose, and per set to the profile and the grader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec

from harness.records.record import Evaluation, Record

#: What every run names; a record that lacks one says so.
NAMED = ("commit", "config_hash", "method_hash", "determinism", "hardware")
UNKNOWN = "not recorded"
_LEFT_OUT = ("method", "role")
_WORDS = frozenset({str, int, float, bool})


def run_facts(record: Record) -> dict[str, Any]:
    """The record's plain values, and by what each set was sampled and judged."""
    told: dict[str, Any] = dict.fromkeys(NAMED, UNKNOWN)
    told |= {key: value for key, value in _plain_values(record) if key not in _LEFT_OUT}
    if budget := msgspec.to_builtins(record.budget):
        told["budget"] = budget
    told |= used(record)
    told["evals"] = {
        name: dict(_plain_values(entry)) | judged_by(record, entry)
        for name, entry in sorted(record.evals.items())
    }
    return told


def used(record: Record) -> dict[str, Any]:
    """The settings that a run really had where tuning and a control both have a say, as far as it says so."""
    evaluation, rollout = record.settings.eval, record.settings.rollout
    found = {
        "train.lr": record.train.get("lr") if record.role != "base" else None,
        "rollout.temperature": rollout.get("temperature") if record.role != "base" else None,
        "eval.temperature": evaluation.get("temperature"),
        "eval.weights": evaluation.get("weights") if record.role != "base" else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def judged_by(record: Record, entry: Evaluation) -> dict[str, str]:
    """Profile and grader of one evaluation.

    Sets that a profile evaluates have both in the record. Splits of the training problems are sampled by the
    run's own settings and judged by the verifier of their benchmark, which changes with its version only.
    """
    if entry.profile is not None:
        return {"profile": entry.profile, "graded_by": entry.graded_by or UNKNOWN}
    evaluation, rollout = record.settings.eval, record.settings.rollout
    parts = [f"n {entry.n}"] if entry.n else []
    if evaluation.get("temperature") is not None:
        parts.append(f"temperature {evaluation['temperature']:g}")
    if rollout.get("max_response_tokens"):
        parts.append(f"at most {rollout['max_response_tokens']} tokens")
    sampled = ", ".join(parts)
    return {
        "profile": f"the run's own sampling ({sampled})" if sampled else "the run's own sampling",
        "graded_by": f"{record.benchmark} verifier",
    }


def _plain_values(part: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    """Name and value of what is said in a word or a number."""
    names, defaults, values_of = _fields(type(part))
    for name, default, value in zip(names, defaults, values_of(part), strict=True):
        if type(value) in _WORDS and value not in (default, ""):
            yield name, value


@cache
def _fields(
    of: type[msgspec.Struct],
) -> tuple[tuple[str, ...], tuple[Any, ...], Callable[[Any], tuple[Any, ...]]]:
    """Fields and defaults of a type, and what reads all its values; what is not said has its default."""
    fields = msgspec.structs.fields(of)
    names = tuple(field.name for field in fields)
    return names, tuple(field.default for field in fields), attrgetter(*names)
