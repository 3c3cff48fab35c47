"""What leads from a number to its run, for every run alike; derived here where older records do not say it.

A cell leads to commit, configuration hash, method-file hash, determinism and hardware of each of its runs,
to their seeds and the budget they used, to what tuning chose, and per set to the profile and the grader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.data.groups import Record

#: What every run names; a record that lacks one says so.
NAMED = ("commit", "config_hash", "method_hash", "determinism", "hardware")
UNKNOWN = "not recorded"
#: Sections of a record that are told in full; of the others the plain values are.
_TOLD = ("budget",)
_LEFT_OUT = ("method_card", "hyperparameters", "tuning_choice", "schema", "method", "role")


def run_facts(record: Record) -> dict[str, Any]:
    """The record's plain values, and by what each set was sampled and judged."""
    told: dict[str, Any] = dict.fromkeys(NAMED, UNKNOWN)
    told |= {key: record[key] for key in sorted(record) if _plain(record[key]) and key not in _LEFT_OUT}
    told |= {key: record[key] for key in _TOLD if record.get(key)}
    told |= used(record)
    told["evals"] = {
        name: {key: entry[key] for key in sorted(entry) if _plain(entry[key])} | judged_by(record, entry)
        for name, entry in sorted(record["evals"].items())
        if entry
    }
    return told


def used(record: Record) -> dict[str, Any]:
    """The settings that a run really had where tuning and a control both have a say, as far as it says so."""
    evaluation, rollout = _sampling(record)
    found = {
        "train.lr": (record.get("train") or {}).get("lr") if record["role"] != "base" else None,
        "rollout.temperature": rollout.get("temperature") if record["role"] != "base" else None,
        "eval.temperature": evaluation.get("temperature"),
        "eval.weights": evaluation.get("weights") if record["role"] != "base" else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def judged_by(record: Record, entry: Mapping[str, Any]) -> dict[str, str]:
    """Profile and grader of one evaluation.

    Sets that a profile evaluates have both in the record. Splits of the training problems are sampled by the
    run's own settings and judged by the verifier of their benchmark, which changes with its version only.
    """
    if "profile" in entry:
        return {"profile": str(entry["profile"]), "graded_by": str(entry.get("graded_by") or UNKNOWN)}
    evaluation, rollout = _sampling(record)
    parts = [f"n {entry['n']}"] if entry.get("n") else []
    if evaluation.get("temperature") is not None:
        parts.append(f"temperature {evaluation['temperature']:g}")
    if rollout.get("max_response_tokens"):
        parts.append(f"at most {rollout['max_response_tokens']} tokens")
    sampled = ", ".join(parts)
    return {
        "profile": f"the run's own sampling ({sampled})" if sampled else "the run's own sampling",
        "graded_by": f"{record['benchmark']} verifier",
    }


def _sampling(record: Record) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """How the run sampled in its evaluation and in training, as far as it says so."""
    settings = record.get("settings") or {}
    return settings.get("eval") or {}, settings.get("rollout") or {}


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value != ""
