"""Whether a model can be held on this machine's CPU at all, before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.model.memory.estimate import GIB, PROCESS_BYTES, SIZES, plan_memory
from harness.model.memory.shape import ModelShape, find_shape
from harness.util.errors import UserError


def machine_mib() -> int:
    """Memory of this machine, MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def usable_bytes() -> int:
    """Memory that a process may have here: the machine's, or its control group's where that has less."""
    most = Path("/sys/fs/cgroup/memory.max")
    limit = most.read_text().strip() if most.is_file() else ""
    machine = machine_mib() << 20
    return min(machine, int(limit)) if limit.isdigit() else machine


def check_training(
    name: str,
    path: str,
    revision: str | None,
    config: Mapping[str, Any],
    beside: Mapping[str, tuple[str, str | None]] | None = None,
) -> None:
    """Refuse a run on a CPU that needs more than there is, however short its prompts are.

    Args:
        config: the run as plain values.
        beside: place and revision of the models that are held besides the policy.

    Raises:
        UserError: says how much is missing and how to see what would help.
    """
    if (shape := _known(path, revision)) is None:
        return
    others = {key: found for key, place in (beside or {}).items() if (found := _known(*place))}
    peak = plan_memory(shape, {**config, "device": "cpu"}, prompt_tokens=1, beside=others).peak
    if peak > usable_bytes():
        raise UserError(
            f"training '{name}' in {config['model']['dtype']} takes at least {peak / GIB:.1f} GiB of memory, "
            f"and there are {usable_bytes() / GIB:.1f} GiB here; entrobench plan-memory model={name} "
            "device=cpu with this run's settings says which of them lowers it"
        )


def check_drawing(name: str, path: str, revision: str | None, dtype: str, cache_gib: float = 0.0) -> None:
    """Refuse to draw on a CPU from a model whose weights alone, with the cache asked for, do not fit.

    Args:
        dtype: of the weights; ``auto`` is float32, as on every CPU.
        cache_gib: memory that the engine keeps for keys and values.

    Raises:
        UserError: says how much is missing and what takes less.
    """
    if (shape := _known(path, revision)) is None:
        return
    size = SIZES["float32"] if dtype in ("auto", "float32") else SIZES["bfloat16"]
    need = shape.params * size + PROCESS_BYTES + cache_gib * GIB
    if need > usable_bytes():
        less = [
            *(["dtype=bfloat16"] if size == SIZES["float32"] else []),
            *(["a smaller engine.kv_cache_gib"] if cache_gib else []), "a smaller model",
        ]  # fmt: skip
        raise UserError(
            f"model '{name}' in {'float32' if size == 4 else dtype} takes {need / GIB:.1f} GiB of memory, "
            f"and there are {usable_bytes() / GIB:.1f} GiB here; take {' or '.join(less)}"
        )


def _known(path: str, revision: str | None) -> ModelShape | None:
    """The sizes of a model; None where they are not known here: then nothing is refused."""
    try:
        return find_shape(path, revision)
    except (UserError, KeyError, OSError, ValueError):
        return None
