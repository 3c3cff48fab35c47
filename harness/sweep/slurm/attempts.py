"""What became of the jobs of a run: a line for each start and each end, kept by the launcher."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from harness.sweep.slurm.arrays import Task


def progress(task: Task) -> str:
    """Changes whenever the run has come further in a way that outlives it."""
    folder = Path(task.folder)
    saved = max((path.stem for path in folder.glob("checkpoints/step-*.pt")), default="no checkpoint")
    return f"{saved}, {len(list(folder.glob('eval/*')))} sample files"


class Attempts:
    """The history of one run on the cluster.

    Events: ``submit``; ``start`` and ``end`` of a job, the latter with the exit code, how far the run is, and
    whether the job went by itself or was sent away.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / f"{run_id}.jsonl"

    def note(self, event: str, **more: Any) -> None:
        """Append a line; a full disk must not be what ends a job."""
        line = json.dumps({"event": event, "unix_s": round(time.time(), 1), **more}, sort_keys=True)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(line + "\n")
        except OSError as error:
            print(f"cannot note in {self._path}: {error}: {line}", flush=True)

    def lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(dict(json.loads(line)))
            except ValueError:
                continue  # half a line of a node that went down
        return found

    def idle(self, now: str) -> int:
        """How many jobs in a row since the last submission ended by themselves where the run is now."""
        count = 0
        for line in reversed(self.lines()):
            if line["event"] == "submit" or (line["event"] == "end" and line.get("progress") != now):
                break
            count += line["event"] == "end" and not line.get("sent_away", False)
        return count

    def last(self, event: str) -> dict[str, Any]:
        """The last line of this kind; empty when there is none."""
        return next((line for line in reversed(self.lines()) if line["event"] == event), {})
