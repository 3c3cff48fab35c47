"""Checkpoints of a run: atomic, and in step with the lines of its logs."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.files import replacing
from harness.trainer import Trainer

#: Older checkpoints are deleted.
KEPT_CHECKPOINTS = 2
#: Parts of a trainer's state that change with the first optimiser step of a step and not before.
_WEIGHTS = ("weights", "optimizer")


class Checkpoints:
    """Saves and restores the trainer of one run.

    A checkpoint remembers how long the logs were, so that lines written after it are dropped and written
    again, and what was still to be done about the step that it follows (``pending``).
    """

    def __init__(self, trainer: Trainer, folder: Path, logs: Sequence[Path]) -> None:
        self._trainer, self._folder, self._logs = trainer, folder / "checkpoints", logs
        self._run_folder = folder
        self._saved: int | None = None

    def rest(self) -> dict[str, Any]:
        """A copy of what a step changes before its first update; see :meth:`save`."""
        state = self._trainer.state_dict()
        return copy.deepcopy({k: v for k, v in state.items() if k not in _WEIGHTS})

    def save(self, *, rest: dict[str, Any] | None = None, pending: dict[str, Any] | None = None) -> None:
        """Write a checkpoint.

        Args:
            rest: the state at the beginning of a step that is abandoned before its first update.
            pending: what is still to be done about the last step.
        """
        state = self._trainer.state_dict() | (rest or {})
        step = int(state["counters"]["step"])
        if rest and self._saved == step:
            return  # the step began where the last checkpoint was written
        lengths = {}
        for log in self._logs:
            if log.exists():
                with open(log, "rb") as handle:
                    os.fsync(handle.fileno())  # before the checkpoint that counts on it
                lengths[log.name] = log.stat().st_size
        state |= {"bytes": lengths, "pending": pending}
        save_state(state, checkpoint_path(self._run_folder, step))
        self._saved = step
        for old in sorted(self._folder.glob("step-*.pt"))[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def restore(self) -> dict[str, Any] | None:
        """Go back to the last checkpoint.

        Returns:
            What is still to be done about its step, ``{}`` for nothing; None when there is no checkpoint.
        """
        for leftover in self._run_folder.rglob(".*.tmp"):  # half-written when the run was killed
            leftover.unlink()
        state = last_checkpoint(self._folder)
        if state is not None:
            self._trainer.load_state_dict(state)
            self._saved = self._trainer.counters.step
        for log in self._logs:
            if state is None or log.name not in state["bytes"]:
                log.unlink(missing_ok=True)
            else:
                os.truncate(log, state["bytes"][log.name])
        return None if state is None else dict(state.get("pending") or {})


def checkpoint_path(run_folder: Path, step: int) -> Path:
    return run_folder / "checkpoints" / f"step-{step:06d}.pt"


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write ``state``, whole or not at all.

    Raises:
        OSError: with what is free on the disk.
    """
    with replacing(path) as temporary:
        try:
            torch.save(dict(state), temporary)
        except RuntimeError as error:  # torch's own writer does not say what the system said
            raise OSError(f"cannot write a checkpoint: {_room(path.parent)} ({error})") from error


def _room(folder: Path) -> str:
    disk = shutil.disk_usage(folder)
    return f"{disk.free >> 20} of {disk.total >> 20} MiB are free on its disk"


def last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; damaged ones (a full disk, a lost node) are removed."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        if zipfile.is_zipfile(path):  # its directory stands at the end of the file
            state: dict[str, Any] = torch.load(path, weights_only=True)
            return state
        warnings.warn(f"checkpoint {path.name} is incomplete; going on from the one before", stacklevel=2)
        path.unlink()
    return None
