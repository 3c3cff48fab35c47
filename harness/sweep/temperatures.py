"""Best sampling temperatures: each of a small grid on the validation split, with weights that tuning trained.

Rule: as for the trials, the highest mean of the metrics wins; ties go to the temperature nearest to 1, then
to the earlier one. Nothing is trained for it: the run of the winning trial is evaluated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records.record import RunResult
from harness.statistics import mean_pass_at_ks
from harness.sweep.axes import Overrides, Setting
from harness.sweep.controls import BASE, TEMPERATURE, tempered
from harness.sweep.jobs import Backend, Job
from harness.sweep.plan import base_job, job, table_name
from harness.sweep.spec import settings_of
from harness.sweep.sweep import Sweep
from harness.sweep.text import read_yaml
from harness.sweep.tune import Trial, tuning_of, write_tuned
from harness.sweep.tuned import choices_at, read_tuned, temperatures_at


@dataclass(frozen=True)
class TemperatureTrial:
    """One temperature of one row; ``settings`` are what tuning had chosen for it."""

    name: str
    temperature: float
    settings: Overrides
    method_hash: str
    job: Job


def samplings(sweep: Sweep, backend: Backend) -> list[TemperatureTrial]:
    """The temperatures that are still to be tried; whole rows, in the order of the file.

    A row is tried anew when tuning has chosen another setting for it, the grid is another, or its code is.
    """
    names, tuned = tempered(sweep), read_tuned(sweep)
    if not names or sweep.tuned_from:
        return []
    grid = tuning_of(sweep).temperatures
    found: list[TemperatureTrial] = []
    for setting in sweep.tuning_grid:
        choices = choices_at(sweep, tuned, setting)
        known = temperatures_at(sweep, tuned, setting, backend.numerics_version)
        for name in names:
            choice = choices.get(table_name(name)) or {}
            settings = dict(choice.get("settings") or {})
            if name != BASE and not choice:
                continue  # not tuned, so it has no choice to evaluate
            hashed = "" if name == BASE else backend.method_hash(name)
            own = [
                TemperatureTrial(
                    table_name(name), t, settings, hashed, _job(sweep, setting, name, settings, t, backend)
                )
                for t in grid
            ]
            tried = [row["run_id"] for row in (known.get(table_name(name)) or {}).get("trials") or []]
            if tried != [sampling.job.run_id for sampling in own]:
                found += own
    return found


def _job(
    sweep: Sweep, setting: Setting, name: str, settings: Overrides, temperature: float, backend: Backend
) -> Job:
    tuning = tuning_of(sweep)
    method = "" if name == BASE else name
    own = {TEMPERATURE: temperature, "eval.benchmarks": [], "seed": tuning.seed}
    plain = backend.compose(settings_of(sweep, setting, method, tuning.settings, settings))
    own |= {"eval.splits": [plain.data.validation_split], "eval.n": plain.eval.frontier_n}
    run = backend.compose(settings_of(sweep, setting, method, tuning.settings, settings, own))
    shown = f"{table_name(name)} T={temperature:g}"
    if name == BASE:
        return base_job(run, shown, setting, backend)
    return job(run, f"trial/{shown}/{setting.name}", "trial", shown, setting, backend)


def trained_first(found: Sequence[TemperatureTrial], trials: Sequence[Trial]) -> list[Job]:
    """The winning trials whose weights ``found`` evaluates, each once: to be there before them."""
    wanted = {(s.job.setting, s.name): s.settings for s in found}
    return [t.job for t in trials if wanted.get((t.job.setting, t.method)) == t.settings]


def write_temperatures(sweep: Sweep, found: Sequence[TemperatureTrial], backend: Backend) -> Path:
    """Choose and add the choices to the tuned file; whatever else it holds stays."""
    path = sweep.tuned_path
    body = read_yaml(path)
    for setting, name in dict.fromkeys((s.job.setting, s.name) for s in found):
        own = [s for s in found if (s.job.setting, s.name) == (setting, name)]
        section = body["places"].setdefault(setting, {}) if "places" in body else body
        trials = section.pop("trials", None)
        section["temperatures"] = {**(section.get("temperatures") or {}), name: _chosen(sweep, own, backend)}
        if trials is not None:
            section["trials"] = trials  # the longest part stays the last
    write_tuned(path, body)
    return path


def _chosen(sweep: Sweep, own: Sequence[TemperatureTrial], backend: Backend) -> dict[str, Any]:
    metric = tuning_of(sweep).metric
    rows: list[dict[str, Any]] = []
    for sampling in own:
        scores = _scores(backend.result(sampling.job.folder), sampling.job, metric)
        rows.append(
            {"temperature": sampling.temperature, **{k: round(v, 6) for k, v in scores.items()},
             "score": round(sum(scores.values()) / len(scores), 6), "run_id": sampling.job.run_id}
        )  # fmt: skip
    best = min(rows, key=lambda row: (-row["score"], abs(row["temperature"] - 1)))
    grid = [row["temperature"] for row in rows]
    return {
        "temperature": best["temperature"],
        "score": best["score"],
        "settings": dict(own[0].settings),
        "method_hash": own[0].method_hash,
        "numerics_version": backend.result(own[0].job.folder).numerics_version,
        "at_grid_edge": best["temperature"] in (min(grid), max(grid)),
        "trials": rows,
    }


def _scores(result: RunResult, item: Job, metric: Sequence[str]) -> dict[str, float]:
    found = result.evals[item.splits[0]]
    ks = [int(name.partition("@")[2]) for name in metric]
    values = mean_pass_at_ks(found.n, found.correct, ks)
    return dict(zip(metric, map(float, values), strict=True))
