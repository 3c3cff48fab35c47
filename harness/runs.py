"""A run: its identity, its folder, training with checkpoints, evaluation, and its result.

Folder ``<runs_dir>/<method>-s<seed>-<identity>/``: ``config.json``, ``environment.json``, ``metrics.jsonl``
(bit-identical however often the run was interrupted, on CPU), ``timings.jsonl``, ``status.json``,
``checkpoints/``, ``eval/`` (samples) and ``result.json``. A run writes nowhere else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from harness import catalog
from harness.config import NOT_IDENTITY, RunConfig, slug, to_dict
from harness.errors import UserError
from harness.files import read_json, write_json
from harness.policy_source import model_fingerprint, resolve_model

#: Raised whenever a change of the harness changes the numbers of a run.
NUMERICS_VERSION = 1
KEPT_CHECKPOINTS = 2
Event = Callable[[dict[str, Any]], None]


@cache
def _method_hash(name: str) -> str:
    return str(catalog.methods().find(name).hash)


@cache
def _data_fingerprint(benchmark: str) -> str:
    return str(catalog.benchmarks().load(benchmark).fingerprint())


@cache
def _model_fingerprint(path: str, revision: str | None) -> str:
    return model_fingerprint(resolve_model(path, catalog.benchmarks().shipped_models()), revision)


def identity_parts(run: RunConfig) -> dict[str, Any]:
    """What influences the numbers of a run."""
    config = {k: v for k, v in to_dict(run).items() if k not in NOT_IDENTITY}
    return {
        "config": config,
        "method_hash": _method_hash(run.method_name),
        "numerics_version": NUMERICS_VERSION,
        "data": _data_fingerprint(run.data.benchmark),
        "model": _model_fingerprint(run.model.path, run.model.revision),
    }


def identity(run: RunConfig) -> str:
    """12 hex digits; equal for runs that must give equal numbers."""
    text = json.dumps(identity_parts(run), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_id(run: RunConfig) -> str:
    name = catalog.methods().find(run.method_name).name
    return f"{slug(name)}-s{run.seed}-{identity(run)}"


def run_folder(run: RunConfig) -> Path:
    return Path(run.runs_dir).expanduser() / run_id(run)


def status(folder: Path) -> dict[str, Any]:
    """The run's status, ``{"state": "pending"}`` when it never started."""
    path = folder / "status.json"
    return dict(read_json(path)) if path.exists() else {"state": "pending"}


class Status:
    """``status.json``, replaced at every step."""

    def __init__(self, folder: Path, run: RunConfig, on_event: Event | None) -> None:
        self._path, self._on_event = folder / "status.json", on_event
        self._start = time.time()
        self._before = float(status(folder).get("elapsed_s", 0.0))
        self._values: dict[str, Any] = {
            "steps": run.train.steps, "token_budget": run.train.token_budget, "pid": os.getpid(),
            "host": platform.node(), "method": run.method_name, "seed": run.seed,
        }  # fmt: skip

    @property
    def elapsed_s(self) -> float:
        """Wall time over all starts of the run."""
        return self._before + time.time() - self._start

    def write(self, **values: Any) -> None:
        self._values |= values | {"elapsed_s": round(self.elapsed_s, 2), "updated_unix_s": time.time()}
        write_json(self._path, self._values)
        if self._on_event:
            self._on_event(dict(self._values))


def execute(run: RunConfig, *, evaluate: bool = True, on_event: Event | None = None) -> Path:
    """Train and evaluate ``run``, going on from its last checkpoint; returns its folder.

    Args:
        evaluate: also sample the test splits (tuning trials only need the validation split).
        on_event: called with every status written.

    Raises:
        Exception: whatever stopped the run; its last lines stand in ``status.json`` too.
    """
    folder = run_folder(run)
    if _finished(folder, evaluate):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"config": to_dict(run), "identity": identity_parts(run)})
    write_json(folder / "environment.json", environment(run))
    report = Status(folder, run, on_event)
    with _reporting(report):
        from harness.training import train_and_evaluate

        body = train_and_evaluate(run, folder, report, evaluate=evaluate)
    write_json(folder / "result.json", body)
    report.write(state="done", phase="done", eta_s=0)
    return folder


@contextmanager
def _reporting(report: Status) -> Iterator[None]:
    """Write to the status whatever stops the work."""
    report.write(state="running", phase="start", error=None)
    try:
        yield
    except KeyboardInterrupt:
        report.write(state="preempted", error=["interrupted; start it again to go on"])
        raise
    except BaseException as error:
        report.write(
            state="failed", error=traceback.format_exception_only(error)[-1].strip().splitlines()[-3:]
        )
        raise


def evaluate_base(run: RunConfig, *, on_event: Event | None = None) -> Path:
    """Evaluate the untrained model with the settings of ``run``: the control row ``base``.

    Returns its folder, ``base-<identity of what matters to it>``, with a ``result.json`` like a run's.
    """
    from harness.training import evaluate_only

    relevant = {
        k: v for k, v in identity_parts(run).items() if k in ("data", "model", "numerics_version")
    } | {k: to_dict(run)[k] for k in ("rollout", "probe", "eval", "data")}
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(run.runs_dir).expanduser() / f"base-{digest}"
    if (folder / "result.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    report = Status(folder, run, on_event)
    with _reporting(report):
        write_json(folder / "result.json", evaluate_only(run, folder, report) | {"run_id": folder.name})
    report.write(state="done", phase="done", eta_s=0)
    return folder


def _finished(folder: Path, evaluate: bool) -> bool:
    path = folder / "result.json"
    return path.exists() and (not evaluate or bool(read_json(path).get("evals")))


def result(folder: Path) -> dict[str, Any]:
    """The result of a finished run.

    Raises:
        UserError: the run has not finished.
    """
    path = folder / "result.json"
    if not path.exists():
        raise UserError(f"run {folder.name} has no result yet (state: {status(folder)['state']})")
    return dict(read_json(path))


def environment(run: RunConfig) -> dict[str, Any]:
    """Versions and hardware, for the record; not part of the identity."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("entrobench", "torch", "transformers", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "versions": versions,
        "hardware": hardware(),
        "commit": commit(),
    }


def hardware() -> str:
    """CPU model and core count, or the GPU's name."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name}, {os.cpu_count()} cores"


@cache
def commit() -> str:
    """The checkout's commit, with ``+changes`` when tracked files differ; ``unknown`` outside a checkout."""
    import subprocess

    root = Path(__file__).parent.parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    changes = [line for line in dirty.stdout.splitlines() if not line[3:].startswith("results/")]
    return head.stdout.strip() + ("+changes" if changes else "")


def new_result(run: RunConfig, **body: Any) -> dict[str, Any]:
    """The frame of a result record: what is known before training (schema 1)."""
    parts = identity_parts(run)
    benchmark = catalog.benchmarks().load(run.data.benchmark)
    return {
        "schema": 1, "run_id": run_id(run), "method": catalog.methods().find(run.method_name).name,
        "seed": run.seed, "model": run.model.path, "benchmark": f"{benchmark.name}@{benchmark.version}",
        "hyperparameters": run.method.hyperparameters(), "train": dataclasses.asdict(run.train),
        "config_hash": identity(run), "method_hash": parts["method_hash"], "data_hash": parts["data"],
        "model_hash": parts["model"], "numerics_version": NUMERICS_VERSION, "commit": commit(),
        "hardware": hardware(), **body,
    }  # fmt: skip


def discard(folder: Path) -> None:
    """Delete a run's folder."""
    shutil.rmtree(folder)
