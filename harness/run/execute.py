"""A run: carried out in its folder, resumed, finished once.

Folder ``<runs_dir>/<method>-s<seed>-<identity>/``: ``config.json``, ``environment.json``, ``metrics.jsonl``
(bit-identical however often the run was interrupted, on CPU), ``timings.jsonl``, ``status.json``,
``checkpoints/``, ``eval/`` (samples) and ``result.json``. A run writes nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.config.schema import RunConfig, identity_dict, to_dict
from harness.distributed.world import is_echo, world
from harness.records.load import read_result
from harness.records.record import RunResult
from harness.records.write import write_result
from harness.run.identity import environment, identity, identity_parts, run_folder, run_id
from harness.run.status import Event, Status, reporting, status
from harness.util.errors import UserError
from harness.util.files import write_json
from harness.util.intact import read_sealed
from harness.util.preemption import Preemption

__all__ = ["base_folder", "evaluate_base", "execute", "identity", "result", "run_folder", "run_id", "status"]


def execute(
    run: RunConfig,
    *,
    evaluate: bool = True,
    on_event: Event | None = None,
    preemption: Preemption | None = None,
) -> Path:
    """Train and evaluate ``run``, going on from its last checkpoint; returns its folder.

    Processes that have joined (:func:`harness.distributed.world.joined`) all call this and share the work;
    the first one writes.

    Args:
        evaluate: also sample the test splits (tuning trials only need the validation split).
        on_event: called with every status written.
        preemption: tells it when it has to go.

    Raises:
        Stopped: it had to go, and goes on when it is started again.
        Exception: whatever stopped the run; its last lines stand in ``status.json`` too.
    """
    folder, here = run_folder(run), world()
    if here.run_on_main(lambda: _finished(folder, evaluate)):
        return folder
    with _working(folder, run, on_event) as report:
        if here.is_main:
            write_json(folder / "config.json", {"config": to_dict(run), "identity": identity_parts(run)})
            write_json(folder / "environment.json", environment(run))
        from harness.run.phases import train_and_evaluate

        body = train_and_evaluate(
            run, folder, report, evaluate=evaluate, preemption=preemption or Preemption()
        )
        if body is not None:
            write_result(folder / "result.json", body)
    return folder


@contextmanager
def _working(folder: Path, run: RunConfig, on_event: Event | None) -> Iterator[Status]:
    """Work in ``folder``, made where it is missing; its status file says how it ends."""
    here = world()
    if here.is_main:
        folder.mkdir(parents=True, exist_ok=True)
    report = Status(folder, run, on_event, writes=here.is_main)
    with reporting(report, is_echo if here.size > 1 else _never):
        yield report
        report.write(state="done", phase="done", eta_s=0)


def _never(error: BaseException) -> bool:
    return False


def base_folder(run: RunConfig) -> Path:
    """``base-<hash of what an evaluation of the untrained model depends on>``."""
    parts = {
        k: v
        for k, v in identity_parts(run).items()
        if k in ("data", "model", "numerics_version", "evaluation", "frontier_problems")
    }
    parts |= {k: identity_dict(run)[k] for k in ("rollout", "probe", "eval", "data", "device")}
    parts |= {k: v for k, v in identity_dict(run)["model"].items() if k not in ("path", "revision")}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    return Path(run.runs_dir).expanduser() / f"base-{digest}"


def evaluate_base(
    run: RunConfig, *, on_event: Event | None = None, preemption: Preemption | None = None
) -> Path:
    """Evaluate the untrained model with the settings of ``run``: the control row ``base``.

    Returns its folder, ``base-<identity of what matters to it>``, with a ``result.json`` like a run's.
    """
    from harness.run.phases import evaluate_only

    folder, here = base_folder(run), world()
    if here.run_on_main((folder / "result.json").exists):
        return folder
    with _working(folder, run, on_event) as report:
        body = evaluate_only(run, folder, report, preemption=preemption or Preemption())
        if body is not None:
            write_result(folder / "result.json", body)
    return folder


def _finished(folder: Path, evaluate: bool) -> bool:
    path = folder / "result.json"
    return path.exists() and (not evaluate or bool(result(folder).evals))


def result(folder: Path) -> RunResult:
    """The result of a finished run.

    Raises:
        UserError: the run has not finished, or its result is damaged.
    """
    path = folder / "result.json"
    if not path.exists():
        raise UserError(f"run {folder.name} has no result yet (state: {status(folder)['state']})")
    try:
        return read_result(read_sealed(path))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
