"""From a sweep file to its runs, each with its identity and what is already there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.composition import parse
from harness.config.schema import RunConfig, to_dict
from harness.run.measuring import frontier_size
from harness.run.state import RunState, read_state
from harness.sweep.axes import Setting
from harness.sweep.cache import load_plan, plan_key, save_plan
from harness.sweep.controls import (
    BASE,
    BASE_AT_BEST,
    LR,
    TEMPERATURE,
    TUNED,
    at_temperature,
    chosen_temperature,
    resolved,
)
from harness.sweep.jobs import Backend, Job
from harness.sweep.regimes import check_tuned
from harness.sweep.spec import settings_of
from harness.sweep.sweep import Sweep
from harness.sweep.tuned import Choices, choices_at, read_tuned, temperatures_at
from harness.util.errors import UserError
from harness.util.files import read_json, write_json


@dataclass(frozen=True)
class Ledger:
    """What a sweep keeps beside the run folders: which run each cell had last, worker logs, its lock."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    def log(self, job: Job) -> Path:
        return self.folder / "logs" / f"{job.run_id}.log"

    def job_file(self, job: Job) -> Path:
        return self.folder / "jobs" / f"{job.run_id}.json"

    def cells(self) -> dict[str, str]:
        path = self.folder / "cells.json"
        return dict(read_json(path)) if path.exists() else {}

    def record(self, jobs: Sequence[Job]) -> None:
        """Remember which run each cell has now."""
        write_json(self.folder / "cells.json", self.cells() | {job.key: job.run_id for job in jobs})


def ledger(sweep: Sweep, kind: str = "runs") -> Ledger:
    return Ledger(Path(sweep.runs_dir).expanduser() / ".sweeps" / sweep.name / kind)


def plan(sweep: Sweep, backend: Backend) -> list[Job]:
    """:func:`make_plan`, kept from the last time where nothing it depends on has changed."""
    path, key = ledger(sweep).folder / "plan.json", plan_key(sweep)
    jobs = load_plan(path, key)
    if jobs is None:
        jobs = make_plan(sweep, backend)
        save_plan(path, key, jobs)
    return jobs


def make_plan(sweep: Sweep, backend: Backend) -> list[Job]:
    """All runs of the sweep, in table order; equal inputs give equal plans, and nothing is started.

    Raises:
        UserError: a setting, a name or a combination that no run could have.
    """
    # settings on the command line stand above the tuned ones, so such runs are not what tuning chose
    tuned = {} if sweep.extra else read_tuned(sweep)
    jobs: list[Job] = []
    for setting in sweep.grid:
        choices = choices_at(sweep, tuned, setting)
        check_tuned(sweep, choices)
        temperatures = temperatures_at(sweep, tuned, setting, backend.numerics_version)
        jobs += _base_jobs(sweep, setting, temperatures, backend)
        for name in sweep.methods:
            choice = choices.get(table_name(name))
            run = backend.compose(settings_of(sweep, setting, name, _chosen(sweep, choices, choice)))
            jobs += _seeds(sweep, run, "method", table_name(name), setting, backend, choice=choice)
        for label, own in sweep.controls.items():
            name = str(own.get("method") or RunConfig().method_name)
            choice = choices.get(table_name(name))
            settings = _chosen(sweep, choices, choice)
            plain = backend.compose(settings_of(sweep, setting, name, settings))
            best = chosen_temperature(temperatures, table_name(name), choices)
            changes = resolved(sweep, own, plain, best)
            if changes is None:
                continue  # its temperature is not tuned yet; harness.sweep.controls.left_out names it
            run = backend.compose(settings_of(sweep, setting, name, settings, changes))
            more = {"choice": choice, "changes": changes}
            jobs += _seeds(sweep, run, "control", label, setting, backend, **more)
    _check_frontiers(sweep, jobs)
    return jobs


def _chosen(sweep: Sweep, choices: Choices, choice: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What tuning gives to a row: its own choice, or the rate of ``tuning: lr_from``."""
    if choice is not None:
        return choice.get("settings") or {}
    lender = choices.get(table_name(sweep.tuning.lr_from)) if sweep.tuning and sweep.tuning.lr_from else None
    return {LR: lender["settings"][LR]} if lender else {}


def _check_frontiers(sweep: Sweep, jobs: Sequence[Job]) -> None:
    """Refuse rows whose frontiers would take different problems: no table could hold them both."""
    found: dict[str, dict[int | None, str]] = {}
    for item in jobs:
        found.setdefault(item.setting, {}).setdefault(frontier_size(item.config)[0], item.label)
    for setting, sizes in found.items():
        if len(sizes) > 1:
            told = ", ".join(f"{'all' if n is None else n} in {label}" for n, label in sizes.items())
            least = min(n for n in sizes if n is not None)
            raise UserError(
                f"{sweep.path}: frontiers of {setting} would take different validation problems ({told}), "
                f"and one table cannot hold them; write eval.frontier_problems: {least} under settings"
            )


def _base_jobs(
    sweep: Sweep, setting: Setting, temperatures: Mapping[str, Any], backend: Backend
) -> Iterator[Job]:
    plain = backend.compose(settings_of(sweep, setting, ""))
    for temperature in sweep.base_temperatures:
        chosen = chosen_temperature(temperatures, BASE, {}) if temperature == TUNED else float(temperature)
        if chosen is None:
            continue
        label = BASE if temperature == 1.0 else f"{BASE} T={chosen:g}"
        changes = {TEMPERATURE: chosen}
        if temperature == TUNED:
            label, changes = BASE_AT_BEST, at_temperature(plain, chosen)
        run = backend.compose(settings_of(sweep, setting, "", changes))
        yield base_job(run, label, setting, backend, changes=None if label == BASE else changes)


def _seeds(
    sweep: Sweep, run: RunConfig, role: str, label: str, setting: Setting, backend: Backend, **more: Any
) -> Iterator[Job]:
    plain = to_dict(run)  # once: seeds share the sections
    for seed in sweep.seeds:
        key = f"{role}/{label}/{setting.name}/s{seed}"
        own = replace(run, seed=seed)
        yield job(own, key, role, label, setting, backend, config=plain | {"seed": seed}, **more)


def job(
    run: RunConfig, key: str, role: str, label: str, setting: Setting, backend: Backend,
    config: Mapping[str, Any] | None = None, **more: Any,
) -> Job:  # fmt: skip
    """The job of one training run; ``config``: its plain values, where they are known already."""
    folder = backend.folder(run)
    return Job(
        key, role, label, run.method_name, run.seed, folder.name, folder, config or to_dict(run),
        model=setting.model.name, training_set=setting.training_set.name, **more,
    )  # fmt: skip


def base_job(run: RunConfig, label: str, setting: Setting, backend: Backend, **more: Any) -> Job:
    """The job that evaluates the untrained model."""
    folder = backend.base_folder(run)
    return Job(
        f"base/{label}/{setting.name}", "base", label, "base", run.seed, folder.name, folder, to_dict(run),
        model=setting.model.name, training_set=setting.training_set.name, **more,
    )  # fmt: skip


def table_name(method: str) -> str:
    """The name in tables: a method file's registered name without its path."""
    return parse(method).renamed(lambda name: name.rpartition(".py:")[2] or name).name


def states(jobs: Sequence[Job], book: Ledger) -> list[RunState]:
    """The state of every job; a missing one whose cell has a finished run of older code is ``stale``."""
    before = book.cells()
    found = []
    for item in jobs:
        state = read_state(item.folder, item.splits)
        older = before.get(item.key, item.run_id)
        if state.state == "missing" and older != item.run_id:
            if (item.folder.parent / older / "result.json").exists():
                state = RunState("stale")
        found.append(state)
    return found


def write_job(item: Job, path: Path) -> None:
    """The file a worker reads."""
    write_json(path, item.payload())


def read_job(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the job file {path}: {error}") from error
