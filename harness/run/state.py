"""What a run is doing, read from the files in its folder."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.util.locks import holder, lock_path

#: A run on another machine whose status is older than this is taken for dead.
SILENT_S = 900.0
#: What ``sweep retry`` starts again.
BROKEN = ("failed", "lost")
#: What nobody has to make again: ``recorded`` is finished elsewhere, and the sweep's records hold it.
FINISHED = ("done", "recorded")


@dataclass(frozen=True)
class RunState:
    """``state``: missing, stale (another identity of this cell is finished), recorded (not here, but in the
    sweep's records), pending, running, preempted, lost, failed or done; ``reason`` says why it waits or was
    lost; ``queued``: a cluster's queue holds it; ``phase_done`` of ``phase_total`` ``phase_unit`` are done of
    a phase that takes long."""

    state: str
    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    phase_unit: str = ""
    phase_note: str = ""
    phase_eta_s: float | None = None
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    reward: float | None = None
    accuracy: float | None = None
    entropy: float | None = None
    probe_entropy: float | None = None
    elapsed_s: float = 0.0
    eta_s: float | None = None
    host: str = ""
    error: tuple[str, ...] = ()
    reason: str = ""
    job: str = ""
    node: str = ""
    queued: bool = False
    updated_unix_s: float = 0.0


def needs_start(state: RunState) -> bool:
    """Not finished, and nobody is at it; failed and lost runs count, too."""
    return not state.queued and state.state not in (*FINISHED, "running", "pending")


def needs_retry(state: RunState) -> bool:
    """What ``sweep retry`` starts: failed, lost, or stopped without being in a queue."""
    return needs_start(state) and state.state in (*BROKEN, "preempted")


def read_state(folder: Path, splits: tuple[str, ...] = ()) -> RunState:
    """The state of the run in ``folder``; ``splits`` are the test sets that a finished run has evaluated."""
    try:
        raw = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return RunState("missing")
    except (OSError, ValueError) as error:
        return RunState("failed", error=(f"status.json cannot be read: {error}",))
    return state_of(raw, _state(folder, raw, splits))


def state_of(raw: Mapping[str, Any], state: str) -> RunState:
    """A status as the displays need it."""
    step, steps = int(raw.get("step") or 0), int(raw.get("steps") or 0)
    fraction = step / steps if steps else 0.0
    if raw.get("token_budget"):
        fraction = max(fraction, float(raw.get("generated_tokens") or 0) / float(raw["token_budget"]))
    return RunState(
        state=state,
        phase=str(raw.get("phase") or ""),
        phase_done=int(raw.get("phase_done") or 0),
        phase_total=int(raw.get("phase_total") or 0),
        phase_unit=str(raw.get("phase_unit") or ""),
        phase_note=str(raw.get("phase_note") or ""),
        phase_eta_s=raw.get("phase_eta_s"),
        step=step,
        steps=steps,
        fraction=1.0 if state == "done" else min(fraction, 1.0),
        reward=raw.get("reward"),
        accuracy=raw.get("accuracy"),
        entropy=raw.get("entropy"),
        probe_entropy=raw.get("probe_entropy"),
        eta_s=raw.get("eta_s"),
        elapsed_s=float(raw.get("elapsed_s") or 0.0),
        host=str(raw.get("host") or ""),
        job=str(raw.get("job") or ""),
        node=str(raw.get("node") or raw.get("host") or ""),
        updated_unix_s=float(raw.get("updated_unix_s") or 0.0),
        error=tuple(map(str, raw.get("error") or ())) if state in (*BROKEN, "preempted") else (),
    )


def _state(folder: Path, raw: Mapping[str, Any], splits: tuple[str, ...]) -> str:
    state = str(raw.get("state", "missing"))
    if state == "done":
        evaluated = all((folder / "eval" / f"{split}.parquet").exists() for split in splits)
        return "done" if (folder / "result.json").exists() and evaluated else "preempted"
    if state == "running" or holder(lock_path(folder)) is not None:
        return "running" if _alive(folder, raw) else "lost"
    return state


def _alive(folder: Path, raw: Mapping[str, Any]) -> bool:
    if raw.get("host") == platform.node():
        return holder(lock_path(folder)) is not None
    return time.time() - float(raw.get("updated_unix_s") or 0) < SILENT_S
