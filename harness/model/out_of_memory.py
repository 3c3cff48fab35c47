"""Out of memory: how much was in use, and which setting to turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.config.schema import RunConfig
from harness.distributed.world import world
from harness.util.errors import UserError


class OutOfMemory(UserError):
    """The settings ask for more memory than the device has; the message names what to turn."""


@contextmanager
def naming_memory(run: RunConfig, stage: str) -> Iterator[None]:
    """Work that, should the device's memory not last for it, says what to change.

    Args:
        stage: ``rollout``, ``probe``, ``evaluation``, or a pass of the training step.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"out of memory in {stage} ({peak()}): {remedy(run, stage)}") from error


def peak() -> str:
    """The most memory that this process has had in use."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        used = torch.cuda.max_memory_allocated()
        whole, left = f"{total / 2**30:.1f}", f"{free / 2**30:.2f}"
        return f"at the peak {used / 2**30:.2f} GiB of the GPU's {whole}; {left} GiB are free"
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"at the peak {used / 2**30:.2f} GiB of the machine's memory"


def remedy(run: RunConfig, stage: str) -> str:
    """What to turn, what leaves the numbers as they are first."""
    train, rollout = run.train, run.rollout
    share = (
        f"share the run among more than {world().size} processes (train.processes, or slurm: gpus and nodes)"
    )
    if stage == "rollout":
        rows = rollout.prompts_per_step * rollout.group_size
        return (
            f"{share}, or draw fewer than {rows} responses a step (rollout.prompts_per_step, "
            "rollout.group_size), which makes another run"
        )
    if stage == "probe":
        return f"{share}, or lower probe.prompts={run.probe.prompts}, which makes another run"
    if stage == "evaluation":
        return f"lower eval.batch_rows={run.eval.batch_rows}, or {share}"
    knobs = []
    if train.micro_batch_rows > 1:
        knobs.append(
            f"train.micro_batch_rows={train.micro_batch_rows // 2} instead of {train.micro_batch_rows}"
        )
    if getattr(train, "activation_checkpointing", None) is False:
        knobs.append("train.activation_checkpointing=true")
    chunk_mib = int(getattr(train, "logits_chunk_mib", 1))
    if chunk_mib > 1:
        knobs.append(f"train.logits_chunk_mib={chunk_mib // 2}")
    return ", or ".join([*knobs, share])
