"""What leads from a number to its run, for every run alike; derived here where older records do not say it.

A cell leads to commit, configuration hash, method-file hash, determinism and hardware of each of its runs,
to their seeds and the budget they used, to what tuning chose, and per set to the profile and the grader.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from operator import attrgetter
from types import UnionType
from typing import Any, get_args

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
    told |= _plain_values(record)
    if budget := msgspec.to_builtins(record.budget):
        told["budget"] = budget
    told |= used(record)
    told["evals"] = {
        name: _plain_values(entry) | judged_by(record, entry) for name, entry in sorted(record.evals.items())
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
    profile = _own_sampling(entry.n, evaluation.get("temperature"), rollout.get("max_response_tokens"))
    return {"profile": profile, "graded_by": f"{record.benchmark} verifier"}


@lru_cache(maxsize=256)
def _own_sampling(n: int, temperature: float | None, tokens: int | None) -> str:
    parts = [f"n {n}"] if n else []
    parts += [] if temperature is None else [f"temperature {temperature:g}"]
    parts += [f"at most {tokens} tokens"] if tokens else []
    return f"the run's own sampling ({', '.join(parts)})" if parts else "the run's own sampling"


def _plain_values(part: msgspec.Struct) -> dict[str, Any]:
    """By name what is said in a word or a number."""
    names, defaults, values_of = _fields(type(part))
    return {
        name: value
        for name, default, value in zip(names, defaults, values_of(part), strict=True)
        if value != default and value != "" and type(value) in _WORDS
    }


@cache
def _fields(
    of: type[msgspec.Struct],
) -> tuple[tuple[str, ...], tuple[Any, ...], Callable[[Any], tuple[Any, ...]]]:
    """Fields and defaults of a type that may hold a word or a number, and what reads their values."""
    fields = [
        field
        for field in msgspec.structs.fields(of)
        if field.name not in _LEFT_OUT and _may_be_said(field.type)
    ]
    names = tuple(field.name for field in fields)
    return names, tuple(field.default for field in fields), attrgetter(*names)


def _may_be_said(of: Any) -> bool:
    return not _WORDS.isdisjoint(get_args(of) if isinstance(of, UnionType) else (of,))
