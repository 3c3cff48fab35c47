"""Carry out runs of the tiny model as one of several processes, and disturb them.

Started by ``harness.distributed.launch`` with a file: a list of ``{"overrides": […], "do": …, "rank": …,
"step": …}``, where ``do`` is ``train``; ``term``: that rank alone is told to stop while it samples; ``kill``:
it is killed there; ``oom``: its device's memory does not last for that step's update.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.distributed.launch import in_child
from harness.distributed.world import World, joined
from harness.rollout.collector import RolloutCollector
from harness.run import execute as runs
from harness.train.trainer import Trainer
from harness.util.preemption import Preemption, Stopped
from tests.helpers.execution import configured


def _disturbed(patch: pytest.MonkeyPatch, here: World, do: str, rank: int, step: int) -> None:
    owner, place = (Trainer, "update") if do == "oom" else (RolloutCollector, "run_program")
    original = getattr(owner, place)

    def wrapped(self: Any, *arguments: Any) -> Any:
        if here.rank == rank and arguments[-1].step == step:  # the context stands last
            if do == "oom":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            Path(f"{sys.argv[1]}.killed").touch()
            os.kill(os.getpid(), signal.SIGKILL if do == "kill" else signal.SIGTERM)
        return original(self, *arguments)

    if do != "train":
        patch.setattr(owner, place, wrapped)


def work(plan_file: str) -> int:
    preemption = Preemption()
    preemption.listen(interrupts=True)
    with joined("cpu", preemption) as here:
        for item in json.loads(Path(plan_file).read_text()):
            with pytest.MonkeyPatch.context() as patch:
                _disturbed(patch, here, item["do"], item.get("rank", 0), item.get("step", 0))
                try:
                    runs.execute(
                        configured(item["overrides"]), evaluate=item["do"] != "term", preemption=preemption
                    )
                    assert item["do"] == "train"
                except Stopped:
                    assert item["do"] == "term"
                    preemption.reason = ""
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(in_child(lambda: work(sys.argv[1])))
