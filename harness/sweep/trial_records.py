"""From the tuned file to ``trials.jsonl`` beside the records: reports read nothing else of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.records.trial import TrialRecord, read_trials, write_trials
from harness.sweep.sweep import Sweep
from harness.sweep.text import read_yaml
from harness.sweep.tuned import chosen_by

_OWN = ("method", "settings", "score", "chosen", "run_id", "token_budget")


def collect_trials(sweep: Sweep) -> tuple[int, int]:
    """Take the trials of the tuned file; those of past numerics versions and left-out methods stay.

    Returns:
        Trials that are there now, and those that are new or others than before.
    """
    path = sweep.tuned_path
    tuned = read_yaml(path) if path.exists() and sweep.tuning is not None else {}
    found = {_key(trial): trial for trial in _trials(sweep, tuned)}
    if not found:
        return 0, 0
    before = {_key(trial): trial for trial in read_trials(sweep.results)}
    rows = {_row(trial) for trial in found.values()}
    kept = {key: trial for key, trial in before.items() if key not in found and _row(trial) not in rows}
    everything = sorted([*found.values(), *kept.values()], key=_key)
    if everything != list(before.values()):
        write_trials(sweep.results, everything)
    return len(everything), sum(before.get(key) != trial for key, trial in found.items())


def _trials(sweep: Sweep, tuned: Mapping[str, Any]) -> Iterator[TrialRecord]:
    if "places" not in tuned:
        yield from _of_section(sweep, tuned, tuned.get("seed"), {})
        return
    for setting in sweep.grid:
        named = {"model_name": setting.model.name, "training_set": setting.training_set.name}
        names = _names(sweep, named)
        yield from _of_section(sweep, tuned["places"].get(setting.name) or {}, tuned.get("seed"), names)


def _names(sweep: Sweep, named: Mapping[str, str]) -> dict[str, str]:
    """As records name them: an axis that the sweep has not is named by its configuration."""
    defaults = {
        "model_name": sweep.settings.get("model.path"),
        "training_set": sweep.settings.get("data.benchmark"),
    }
    return {key: str(defaults[key] or "micro") if name == "default" else name for key, name in named.items()}


def _of_section(
    sweep: Sweep, section: Mapping[str, Any], seed: Any, names: Mapping[str, str]
) -> Iterator[TrialRecord]:
    choices = section.get("choices") or {}
    grid = sorted(sweep.tuning.lrs) if sweep.tuning else []
    for row in section.get("trials") or []:
        choice = choices.get(row["method"])
        if choice is None:
            continue
        yield TrialRecord(
            run_id=str(row["run_id"]), method=str(row["method"]), settings=dict(row["settings"]),
            scores={key: float(value) for key, value in row.items() if key not in _OWN},
            score=float(row["score"]), chosen=bool(row["chosen"]), seed=int(seed),
            numerics_version=chosen_by(choice) or 0, grid=grid, token_budget=row.get("token_budget"), **names,
        )  # fmt: skip


def _key(trial: TrialRecord) -> tuple[Any, ...]:
    return *_row(trial), trial.rate, trial.run_id


def _row(trial: TrialRecord) -> tuple[Any, ...]:
    return str(trial.model_name), str(trial.training_set), trial.numerics_version, trial.method
