"""``entrobench verify RECORD``: grade the samples behind a record again and say whether its numbers hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.run.verify import HOLDS, records_at, samples_folder, verify_record
from harness.util.errors import UserError, unknown

_OPTIONS = ("run", "samples", "runs_dir")


def verify(record: str, options: Sequence[str]) -> int:
    """Print a line per run and evaluation set; returns 0 when every number holds, 1 otherwise."""
    given = dict(_option(word) for word in options)
    path = Path(record)
    samples = Path(given["samples"]) if "samples" in given else None
    good = True
    for item in records_at(path, given.get("run", "")):
        folder = samples_folder(item, path, samples, Path(given.get("runs_dir", "runs")))
        for finding in verify_record(item, folder):
            good &= finding.state == HOLDS
            print(f"{finding.run_id}  {finding.name}  {finding.state}: {finding.detail}", flush=True)
    return 0 if good else 1


def _option(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or key not in _OPTIONS:
        raise unknown("option", word, [f"{key}=" for key in _OPTIONS])
    if not value:
        raise UserError(f"{key}= needs a value")
    return key, value
