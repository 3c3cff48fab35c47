"""How many processes share a run, and what is refused before they are started. Imports no torch by itself."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.schema import RunConfig
from harness.distributed.processes import launched_size
from harness.stages.base import Stage
from harness.util.errors import UserError


def check_processes(run: RunConfig, size: int) -> None:
    """Refuse a number of processes that cannot share ``run``, or not evenly.

    Raises:
        UserError: names the remedy.
    """
    if size == 1:
        return
    prompts = run.rollout.prompts_per_step
    if prompts % size:
        fitting = [n for n in range(1, prompts + 1) if prompts % n == 0]
        below, above = max(n for n in fitting if n < size), [n for n in fitting if n > size]
        near = " or ".join(map(str, [below, *above[:1]]))
        raise UserError(
            f"{size} processes cannot share rollout.prompts_per_step={prompts} evenly, so some would wait "
            f"for the others; use {near}, or prompts_per_step={-(-prompts // size) * size} (another run)"
        )
    check_shardable(run, run.method.stages().of_step())


def check_shardable(run: RunConfig, stages: Sequence[Stage]) -> None:
    """Refuse stages that sharded training cannot serve.

    Raises:
        UserError: names the remedy.
    """
    if any(stage.needs_row_grad_norms for stage in stages):
        raise UserError(
            f"method '{run.method_name}' needs the gradient norm of each row, which sharded training does "
            "not give; run it in one process (train.processes=1, or slurm: nodes: 1 and gpus: 1)"
        )


def local_size(run: RunConfig) -> int:
    """Processes that this one has to start for ``run``; 1 when it carries it out itself, or with others.

    Raises:
        UserError: the number does not fit the run, the GPUs, or the processes that are already there.
    """
    asked, there = run.train.processes, launched_size()
    if there > 1:
        if asked not in (0, 1, there):
            raise UserError(
                f"train.processes={asked}, but {there} processes were started; leave train.processes out"
            )
        check_processes(run, there)
        return 1
    if asked == 1:
        return 1
    if run.device == "cpu" and asked:
        check_processes(run, asked)
        return asked
    import torch

    gpus = torch.cuda.device_count() if run.device != "cpu" else 0
    if asked == 0 and not gpus:
        raise UserError("train.processes=0 means one for each GPU, but there is none; write a number")
    if gpus and asked > gpus:
        raise UserError(
            f"train.processes={asked}, but this machine has {gpus} GPUs; write {gpus} or device=cpu"
        )
    check_processes(run, asked or gpus)
    return asked or gpus
