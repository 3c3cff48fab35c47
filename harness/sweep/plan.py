"""From a sweep file to its runs, each with its identity and what is already there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import RunConfig, to_dict
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.sweep.axes import Place, Settings
from harness.sweep.jobs import Backend, Job
from harness.sweep.light import without_torch
from harness.sweep.spec import Sweep, overrides
from harness.sweep.state import RunState, read_state
from harness.sweep.tuned import choices_at, read_tuned


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
    from harness.sweep.cache import load_plan, plan_key, save_plan

    path, key = ledger(sweep).folder / "plan.json", plan_key(sweep)
    jobs = load_plan(path, key)
    if jobs is None:
        jobs = without_torch(lambda: make_plan(sweep, backend))
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
    for place in sweep.places:
        choices = choices_at(sweep, tuned, place)
        for temperature in sweep.base_temperatures:
            label = "base" if temperature == 1.0 else f"base T={temperature:g}"
            run = backend.compose(overrides(sweep, place, "", {"eval.temperature": temperature}))
            jobs.append(_base(run, label, place, backend))
        rows: list[tuple[str, str, str, Settings]] = [("method", m, m, {}) for m in sweep.methods]
        default = RunConfig().method_name
        rows += [("control", c, str(s.get("method") or default), s) for c, s in sweep.controls.items()]
        for role, label, name, own in rows:
            choice = choices.get(table_name(name))
            layers = ((choice or {}).get("settings", {}), own)
            run = backend.compose(overrides(sweep, place, name, *layers))
            shown = label if role == "control" else table_name(label)
            for seed in sweep.seeds:
                key = f"{role}/{shown}/{place.name}/s{seed}"
                jobs.append(job(replace(run, seed=seed), key, role, shown, place, backend, choice=choice))
    return jobs


def job(run: RunConfig, key: str, role: str, label: str, place: Place, backend: Backend, **more: Any) -> Job:
    """The job of one training run."""
    folder = backend.folder(run)
    return Job(
        key, role, label, run.method_name, run.seed, folder.name, folder, to_dict(run),
        model=place.model.name, training_set=place.training_set.name, **more,
    )  # fmt: skip


def _base(run: RunConfig, label: str, place: Place, backend: Backend) -> Job:
    folder = backend.base_folder(run)
    return Job(
        f"base/{label}/{place.name}", "base", label, "base", run.seed, folder.name, folder, to_dict(run),
        model=place.model.name, training_set=place.training_set.name,
    )  # fmt: skip


def table_name(method: str) -> str:
    """The name in tables: a method file's registered name without its path."""
    return method.rpartition(".py:")[2] or method


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
