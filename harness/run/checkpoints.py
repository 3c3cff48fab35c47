"""Checkpoints of a run: atomic, in step with the lines of its logs, for any number of processes."""

from __future__ import annotations

import copy
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.distributed.world import world
from harness.model.policy import Policy
from harness.run import sharded_checkpoint as shards
from harness.train.trainer import Trainer
from harness.util import intact
from harness.util.errors import UserError
from harness.util.files import replacing


class Checkpoints:
    """Saves and restores the trainer of one run.

    One process writes a file ``step-<number>.pt``, several a folder ``step-<number>`` to which each adds its
    part; either can be read by any number. A checkpoint remembers how long the logs were, so that lines
    written after it are dropped and written again, and what was still to be done about the step that it
    follows (``pending``). The last ``keep`` stay.
    """

    def __init__(self, trainer: Trainer, folder: Path, logs: Sequence[Path], *, keep: int = 2) -> None:
        self._trainer, self._folder, self._logs = trainer, folder / "checkpoints", logs
        self._run_folder, self._keep = folder, keep
        self._saved: int | None = None

    def written_at(self, step: int) -> None:
        """A phase before this one has saved ``step``, its last."""
        self._saved = step

    def rest(self) -> dict[str, Any]:
        """A copy of what a step changes before its first update; see :meth:`save`."""
        return copy.deepcopy(self._trainer.rest_dict())

    def save(self, *, rest: dict[str, Any] | None = None, pending: dict[str, Any] | None = None) -> None:
        """Write a checkpoint.

        Args:
            rest: the state at the beginning of a step that is abandoned before its first update.
            pending: what is still to be done about the last step.
        """
        state = self._trainer.rest_dict() | (rest or {})
        step = int(state["counters"]["step"])
        if rest and self._saved == step:
            return  # the step began where the last checkpoint was written
        lengths = {}
        for log in self._logs if world().is_main else ():
            if log.exists():
                with open(log, "rb") as handle:
                    os.fsync(handle.fileno())  # before the checkpoint that counts on it
                lengths[log.name] = log.stat().st_size
        state |= {"bytes": lengths, "pending": pending}
        if world().size > 1:
            shards.write(self._folder / f"step-{step:06d}", *shards.tensors_of(self._trainer), state)
        else:
            save_state(self._trainer.state_dict() | state, self._folder / f"step-{step:06d}.pt")
        self._saved = step
        if world().is_main:
            self._remove(step)

    def _remove(self, step: int) -> None:
        """What is older than the last few, and an earlier checkpoint of ``step`` in the other form."""
        paths = list(self._folder.glob("step-*"))
        kept = sorted({step_of(path) for path in paths})[-self._keep :]
        other = self._folder / (f"step-{step:06d}.pt" if world().size > 1 else f"step-{step:06d}")
        for path in paths:
            if step_of(path) not in kept or path == other:
                delete(path)

    def restore(self) -> dict[str, Any] | None:
        """Go back to the last checkpoint.

        Returns:
            What is still to be done about its step, ``{}`` for nothing; None when there is no checkpoint.
        """
        path = world().run_on_main(self._tidied)
        state: dict[str, Any] | None = None
        if path is not None and path.is_dir():
            state = shards.read(path, self._trainer)
        elif path is not None:
            state = torch.load(path, weights_only=True, mmap=world().size > 1)
            self._trainer.load_state_dict(state)
        if state is not None:
            self._saved = self._trainer.counters.step
        for log in self._logs if world().is_main else ():
            if state is None or log.name not in state["bytes"]:
                log.unlink(missing_ok=True)
            else:
                os.truncate(log, state["bytes"][log.name])
        return None if state is None else dict(state.get("pending") or {})

    def _tidied(self) -> Path | None:
        """Where the last checkpoint is, once what was half-written when the run was killed is gone."""
        for leftover in list(self._run_folder.rglob(".*.tmp")):
            delete(leftover)
        return newest(self._folder)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(re.sub(r"\D", "", path.name))


def newest(folder: Path) -> Path | None:
    """The newest intact checkpoint; damaged ones (a full disk, a lost node, a bad block) are removed."""
    for path in sorted(folder.glob("step-*"), key=lambda p: (step_of(p), p.stat().st_mtime), reverse=True):
        wrong = _damage(path)
        if not wrong:
            return path
        warnings.warn(f"checkpoint {path.name} is {wrong}; going on from the one before", stacklevel=2)
        delete(path)
    return None


def _damage(path: Path) -> str:
    return shards.damage(path) if path.is_dir() else intact.damage(path)


def last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The content of the newest checkpoint that can be read, of a folder without the optimiser's tensors."""
    path = newest(folder)
    return None if path is None else _content(path)


def state_in(path: Path) -> dict[str, Any]:
    """The content of one checkpoint, without the optimiser's tensors where it is a folder.

    Raises:
        UserError: it is not what was written.
    """
    if wrong := _damage(path):
        raise UserError(f"checkpoint {path} is {wrong}; restore it, or take another step's")
    return _content(path)


def _content(path: Path) -> dict[str, Any]:
    if path.is_dir():
        rest: dict[str, Any] = torch.load(path / shards.REST, weights_only=True)
        return rest | {"weights": shards.weights_of(path)}
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def load_weights(path: Path, policy: Policy) -> None:
    """Put the weights of a checkpoint, file or folder, into ``policy``; all processes call this.

    Raises:
        UserError: they are not what was written.
    """
    if wrong := world().run_on_main(lambda: _damage(path)):
        raise UserError(f"checkpoint {path} is {wrong}; restore it, or take another step's")
    if path.is_dir():
        shards.read_weights(path, policy)
    else:
        policy.load_weights(torch.load(path, weights_only=True, mmap=True)["weights"])


def checkpoint_path(run_folder: Path, step: int, kind: str = "step") -> Path:
    """Where the checkpoint of ``step`` is: a folder if there is one, else a file."""
    folder = run_folder / "checkpoints" / f"{kind}-{step:06d}"
    return folder if folder.is_dir() else folder.with_name(f"{folder.name}.pt")


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write ``state``, whole or not at all.

    Raises:
        OSError: with what is free on the disk.
    """
    with replacing(path) as temporary:
        try:
            torch.save(dict(state), temporary)
            intact.seal_zip(temporary)
        except RuntimeError as error:  # torch's own writer does not say what the system said
            raise OSError(f"cannot write a checkpoint: {_room(path.parent)} ({error})") from error


def delete(path: Path) -> None:
    """Remove a checkpoint. A folder goes aside first, so that half of one is never met under its name."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".{path.name.removeprefix('.').removesuffix('.tmp')}.gone.tmp")
    if aside != path:
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    shutil.rmtree(aside)


def _room(folder: Path) -> str:
    disk = shutil.disk_usage(folder)
    return f"{disk.free >> 20} of {disk.total >> 20} MiB are free on its disk"
