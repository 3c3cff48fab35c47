"""From a sweep file to its runs, each with its identity and what is already there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import RunConfig, to_dict
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.sweep.jobs import Backend, Job
from harness.sweep.spec import Settings, Sweep, overrides
from harness.sweep.state import RunState, read_state
from harness.sweep.text import read_yaml


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
        jobs = make_plan(sweep, backend)
        save_plan(path, key, jobs)
    return jobs


def make_plan(sweep: Sweep, backend: Backend) -> list[Job]:
    """All runs of the sweep, in table order; equal inputs give equal plans, and nothing is started.

    Raises:
        UserError: a setting, a name or a combination that no run could have.
    """
    # settings on the command line stand above the tuned ones, so such runs are not what tuning chose
    choices = {} if sweep.extra else tuned_choices(sweep)
    jobs: list[Job] = []
    for model, benchmark, place in _places(sweep):
        for temperature in sweep.base_temperatures:
            label = "base" if temperature == 1.0 else f"base T={temperature:g}"
            layer = {**place, "eval.temperature": temperature}
            run = backend.compose(overrides(sweep, "", layer))
            jobs.append(_base(run, label, f"{model}/{benchmark}", backend))
        rows: list[tuple[str, str, str, Settings]] = [("method", m, m, {}) for m in sweep.methods]
        rows += [("control", c, str(s.get("method", "")), s) for c, s in sweep.controls.items()]
        for role, label, name, own in rows:
            choice = choices.get(table_name(name or RunConfig().method_name))
            run = backend.compose(overrides(sweep, name, place, (choice or {}).get("settings", {}), own))
            shown = label if role == "control" else table_name(label)
            for seed in sweep.seeds:
                key = f"{role}/{shown}/{model}/{benchmark}/s{seed}"
                jobs.append(job(replace(run, seed=seed), key, role, shown, backend, choice=choice))
    return jobs


def job(run: RunConfig, key: str, role: str, label: str, backend: Backend, **more: Any) -> Job:
    """The job of one training run."""
    folder = backend.folder(run)
    return Job(key, role, label, run.method_name, run.seed, folder.name, folder, to_dict(run), **more)


def _base(run: RunConfig, label: str, place: str, backend: Backend) -> Job:
    folder = backend.base_folder(run)
    return Job(f"base/{label}/{place}", "base", label, "base", run.seed, folder.name, folder, to_dict(run))


def table_name(method: str) -> str:
    """The name in tables: a method file's registered name without its path."""
    return method.rpartition(".py:")[2] or method


def _places(sweep: Sweep) -> Iterator[tuple[str, str, Settings]]:
    for model in sweep.models or ("",):
        for benchmark in sweep.benchmarks or ("",):
            settings = {"model.path": model, "data.benchmark": benchmark}
            yield model or "default", benchmark or "default", {k: v for k, v in settings.items() if v}


def tuned_choices(sweep: Sweep) -> Mapping[str, Mapping[str, Any]]:
    """Per method what tuning chose; empty when the sweep has not been tuned.

    Raises:
        UserError: the tuned file is missing although the sweep names it, or its seed is reported here.
    """
    path = sweep.tuned_path
    if not path.exists():
        if sweep.tuned_from:
            raise UserError(
                f"{sweep.path}: tuned_from names {path}, which does not exist; tune that sweep first"
            )
        return {}
    raw = read_yaml(path)
    if raw.get("seed") in sweep.seeds:
        raise UserError(
            f"{sweep.path}: seeds contain {raw['seed']}, the seed that {path.name} was tuned with; "
            "reported seeds must be fresh, choose others"
        )
    return dict(raw.get("choices") or {})


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
