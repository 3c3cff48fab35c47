"""File locks: who works on a run, noticed at once when its process is gone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.util.errors import UserError


def lock_path(folder: Path) -> Path:
    """The lock of a run folder; beside the folders, because only the run itself writes into its folder."""
    return folder.parent / ".sweeps" / "locks" / f"{folder.name}.lock"


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the file lock ``path``; yields False when it is taken and ``wait`` is not set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise UserError(
                f"no file locks in {path.parent} ({error.strerror}), so two processes might work on one run; "
                "choose a runs_dir on a file system that has them"
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield True


def holder(path: Path) -> int | None:
    """The process that holds the lock ``path``; None when it is free."""
    if not path.exists():
        return None
    with open(path, encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = handle.read().strip()
            return int(text) if text.isdigit() else 0
    return None
