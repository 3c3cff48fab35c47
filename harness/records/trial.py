"""A tuning trial as a line of ``trials.jsonl``, beside the records: what one setting scored on validation.

Trials have no test scores, so no leaderboard holds them. They say how a method fares at rates that were not
chosen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from harness.util.errors import UserError
from harness.util.files import write_text

TRIALS = "trials.jsonl"


class TrialRecord(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One trial.

    Attributes:
        run_id: of the trial's run; method: the row's label.
        settings: what the trial tried, by ``section.key``; ``train.lr`` among them.
        scores: ``pass@k`` on the validation split; score: their mean, which chose.
        chosen: whether it is the one that the reported runs have.
        seed: the trials' own.
        numerics_version: of the run.
        grid: learning rates that every method of the sweep tries.
        token_budget: generated tokens at which the run stopped; None where older files do not say it.
        model_name, training_set: as the sweep names them, where it has several.
    """

    run_id: str
    method: str
    settings: dict[str, Any]
    scores: dict[str, float]
    score: float
    chosen: bool
    seed: int
    numerics_version: int
    grid: list[float]
    token_budget: int | None = None
    model_name: str | None = None
    training_set: str | None = None

    @property
    def rate(self) -> float:
        return float(self.settings["train.lr"])

    @property
    def knob(self) -> dict[str, Any]:
        """What it tried besides the rate."""
        return {key: value for key, value in self.settings.items() if key != "train.lr"}


def read_trials(folder: Path) -> list[TrialRecord]:
    """The trials kept in a folder of records, none without a file.

    Raises:
        UserError: a line that is no trial.
    """
    path = folder / TRIALS
    decoder, found = msgspec.json.Decoder(TrialRecord), []
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], 1):
        if not line.strip():
            continue
        try:
            found.append(decoder.decode(line))
        except ValueError as error:
            raise UserError(f"{path}:{number} is no trial ({error}); restore the file") from error
    return found


def write_trials(folder: Path, trials: Iterable[TrialRecord]) -> Path:
    """Write ``trials.jsonl``, sorted, whole or not at all."""
    lines = [json.dumps(msgspec.to_builtins(trial), sort_keys=True, ensure_ascii=False) for trial in trials]
    write_text(folder / TRIALS, "".join(f"{line}\n" for line in lines))
    return folder / TRIALS
