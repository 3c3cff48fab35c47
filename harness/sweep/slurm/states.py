"""A run's state from its files, its job in the queue, and the history of its jobs."""

from __future__ import annotations

from dataclasses import replace

from harness.run.state import RunState
from harness.sweep.slurm.attempts import Attempts
from harness.sweep.slurm.queue import QueuedJob

#: States of a file that are older than the job which now runs, and so say nothing about it.
_EARLIER = ("failed", "preempted", "lost", "missing", "stale")


def combine(state: RunState, entry: QueuedJob | None, attempts: Attempts, *, silent: bool) -> RunState:
    """
    Args:
        state: from the run's files.
        entry: its job in the queue, None when there is none.
        silent: the queue did not answer, so that no entry means nothing.
    """
    if entry is None:
        return state if silent else _without_job(state, attempts)
    if entry.waiting:
        begun = state.state != "missing" and state.step > 0 and state.state != "failed"
        return replace(
            state, state="preempted" if begun else "pending", reason=entry.reason, queued=True, job=entry.job,
            error=(),
        )  # fmt: skip
    current = state.updated_unix_s >= (entry.start_unix_s or 0.0)
    if state.state in _EARLIER and current and state.state != "missing":
        return replace(
            state, queued=True, job=entry.job, node=entry.node
        )  # it has ended; Slurm is clearing up
    phase = state.phase if current and state.state == "running" else "starting"
    return replace(
        state, state="running", phase=phase, queued=True, job=entry.job, node=entry.node, error=(),
        reason="" if entry.state == "RUNNING" else entry.state.lower(),
    )  # fmt: skip


def _without_job(state: RunState, attempts: Attempts) -> RunState:
    last = attempts.last("end")
    newer = last.get("unix_s", 0.0) >= state.updated_unix_s - 1
    if last.get("exit") == 1 and newer and state.state in ("missing", "running", "preempted"):
        # the run could not write into its own folder, e.g. because that is read-only
        return replace(state, state="failed", error=tuple(map(str, last.get("lines") or [last["what"]])))
    if state.state == "running" and state.job:
        same = last.get("job") == state.job and newer
        return replace(state, state="lost", reason=str(last["what"]) if same else "its job is gone")
    if state.state == "preempted":
        return replace(state, reason="not in the queue; retry goes on")
    return state
