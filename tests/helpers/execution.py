"""Runs of the tiny model in processes of their own, which a test may kill."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.run import execute as runs
from tests.helpers.processes import WARM
from tests.helpers.settings import composed
from tests.helpers.tiny import LetterBenchmark


def register_letters() -> None:
    """Make the letter problems known to the benchmark registry of this process."""
    from harness.registry import benchmarks as registry

    registry._instances["letters"] = LetterBenchmark()


def configured(overrides: Sequence[str]) -> RunConfig:
    """The run of ``overrides``; two processes given the same ones mean the same run."""
    register_letters()
    return composed(*overrides)


def _execute(overrides: Sequence[str], options: dict[str, Any]) -> None:
    runs.execute(configured(overrides), **options)


class Killed:
    """Starts a run in a process and kills it with SIGKILL at given moments."""

    def __init__(self, overrides: Sequence[str], **options: Any) -> None:
        self._arguments = (tuple(overrides), options)

    def start(self) -> Any:
        process = WARM.Process(target=_execute, args=self._arguments)
        process.start()
        return process

    def kill_when(self, reached: Any, *, timeout_s: float = 200.0) -> bool:
        """Start, kill as soon as ``reached()`` is true; false when the run ended before."""
        process = self.start()
        deadline = time.monotonic() + timeout_s
        while not reached():
            if not process.is_alive() or time.monotonic() > deadline:
                break
            time.sleep(0.002)
        killed = process.is_alive()
        process.kill()
        process.join()
        return bool(killed)

    def finish(self, *, timeout_s: float = 280.0) -> None:
        """Start and wait for the end.

        Raises:
            AssertionError: it failed or took too long.
        """
        process = self.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            raise AssertionError("the run did not finish")
        assert process.exitcode == 0, f"the run ended with exit code {process.exitcode}"


def numbers_of(folder: Path) -> dict[str, bytes]:
    """What must be bit-identical between two executions of a run, by file name."""
    import torch

    found = {"metrics.jsonl": (folder / "metrics.jsonl").read_bytes()}
    last = sorted((folder / "checkpoints").glob("step-*.pt"))[-1]
    state = torch.load(last, weights_only=True)
    for name, weight in state["weights"].items():
        found[f"weights {name}"] = weight.contiguous().numpy().tobytes()
    for index, slot in state["optimizer"]["state"].items():
        found[f"optimizer {index}"] = b"".join(slot[k].numpy().tobytes() for k in sorted(slot))
    for path in sorted((folder / "eval").iterdir()):
        found[path.name] = path.read_bytes()
    return found
