"""Records of older schemas, and what makes each one of today's.

Schema 1 to 2: sets without an evaluation are left out, probes say their tokens (the oldest had steps in their
place), and ``train.mirror`` is called ``train.tracking``. Nulls of schema 1 are not written any more.
"""

from __future__ import annotations

from typing import Any

import msgspec

from harness.records.record import Evaluation, Probe, Record, RunResult


class _Probe1(Probe, kw_only=True, frozen=True):
    generated_tokens: int | float | None = None  # type: ignore[assignment]


class RunResult1(RunResult, tag=1, kw_only=True, frozen=True):
    """``result.json`` of schema 1."""

    evals: dict[str, Evaluation | None]  # type: ignore[assignment]
    probe: list[_Probe1] = []  # type: ignore[assignment]


class Record1(Record, tag=1, kw_only=True, frozen=True):
    """A line of ``records.jsonl`` of schema 1."""

    tuned: bool = False
    evals: dict[str, Evaluation | None]  # type: ignore[assignment]
    probe: list[_Probe1] = []  # type: ignore[assignment]


def result_of_schema_2(old: RunResult1) -> RunResult:
    """Schema 1 to 2 of a run's result."""
    return RunResult(**_fields(old))


def record_of_schema_2(old: Record1) -> Record:
    """Schema 1 to 2 of a record."""
    return Record(**_fields(old))


def _fields(old: RunResult1 | Record1) -> dict[str, Any]:
    train = {("tracking" if key == "mirror" else key): value for key, value in old.train.items()}
    return msgspec.structs.asdict(old) | {
        "train": train,
        "evals": {name: entry for name, entry in old.evals.items() if entry is not None},
        "probe": [
            Probe(
                step=p.step,
                generated_tokens=p.step if p.generated_tokens is None else p.generated_tokens,
                entropy_nats=p.entropy_nats,
                entropy_seq_nats=p.entropy_seq_nats,
            )
            for p in old.probe
        ],
    }
