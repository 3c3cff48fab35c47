"""Which ways of running have never been carried out on a GPU, and what shows that one has.

A path loses its mark when a file under ``results/gpu/`` that was written on a GPU lists it (`make bench-gpu`
writes one). Until then ``entrobench doctor``, docs/cluster.md and every record made with it say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.util.environment import ROOT
from harness.util.files import read_json

EVIDENCE = ROOT / "results" / "gpu"


@dataclass(frozen=True)
class GpuPath:
    """A way of running on GPUs; ``used`` sees the run as plain values and its number of processes."""

    name: str
    what: str
    used: Callable[[Mapping[str, Any], int], bool]


def _short(run: Mapping[str, Any]) -> bool:
    return str(run["model"].get("compute_dtype", "same")) != "same"


def _vllm(run: Mapping[str, Any]) -> bool:
    return str(run["rollout"].get("engine", "builtin")) == "vllm"


PATHS = (
    GpuPath("packed-training", "training steps on packed rollouts (FlexAttention)", lambda run, n: True),
    GpuPath("builtin-sampler", "rollouts by the built-in sampler", lambda run, n: not _vllm(run)),
    GpuPath("bf16", "bf16 passes over fp32 weights in one process", lambda run, n: _short(run) and n == 1),
    GpuPath("fsdp2", "weights sharded over GPUs (FSDP2 over NCCL)", lambda run, n: n > 1),
    GpuPath("bf16-fsdp2", "bf16 passes over sharded fp32 weights", lambda run, n: _short(run) and n > 1),
    GpuPath(
        "activation-checkpointing", "activations computed again in the backward pass",
        lambda run, n: bool(run["train"].get("activation_checkpointing", False)),
    ),
    GpuPath("vllm-rollouts", "vLLM beside the trainer, with sleep and wake", lambda run, n: _vllm(run)),
)  # fmt: skip


@cache
def evidence(folder: Path = EVIDENCE) -> dict[str, str]:
    """Path -> the file that shows it was carried out on a GPU."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.json")):
        record = read_json(file)
        if record.get("device") == "cuda":
            found.update(dict.fromkeys(record.get("paths", ()), file.name))
    return found


def untested() -> list[GpuPath]:
    """The paths without evidence."""
    return [path for path in PATHS if path.name not in evidence()]


def untested_in(run: Mapping[str, Any], device: str, processes: int) -> list[str]:
    """Names of the untested paths that a run takes; none on a CPU, where the tests run.

    Args:
        run: the run as plain values, see :func:`harness.config.schema.to_dict`.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        return []
    return [path.name for path in untested() if path.used(run, processes)]
