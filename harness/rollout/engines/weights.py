"""Replacing an engine's weights: what is checked on the way, and how both sides compare afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.util.errors import UserError

_SHARD_BYTES = 2 << 30
#: Integer types as wide as each weight type, to read bits.
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checked(
    weights: Iterable[tuple[str, Tensor]],
    expected: Mapping[str, Sequence[int]],
    tied: Sequence[Sequence[str]],
) -> Iterator[tuple[str, Tensor]]:
    """``weights`` as they come, checked against a model's names and shapes.

    Args:
        expected: shape by name.
        tied: groups of names that share one tensor: one of them is enough.

    Raises:
        UserError: a name or shape that is not expected, or, at the end, a weight that never came.
    """
    missing = set(expected)
    for name, value in weights:
        if name not in expected:
            raise UserError(f"this model has no weight '{name}'; load weights of the same architecture")
        if tuple(value.shape) != tuple(expected[name]):
            raise UserError(
                f"weight '{name}' has shape {tuple(value.shape)}, this model's is {tuple(expected[name])}"
            )
        missing.discard(name)
        yield name, value
    for group in tied:
        if not missing >= set(group):
            missing -= set(group)
    if missing:
        raise UserError(f"no values for {len(missing)} weights, such as '{min(missing)}'; give all of them")


def layout(model: nn.Module) -> tuple[dict[str, tuple[int, ...]], list[list[str]]]:
    """Shapes by name, and the groups of names that share a tensor, of a model (also on the meta device)."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return shapes, [names for names in groups.values() if len(names) > 1]


def checksum(tensors: Iterable[Tensor], dtype: torch.dtype | None = None) -> int:
    """Sum of the bit patterns of all values, modulo 2**64; tied tensors are to come once.

    A single changed bit changes it; how an engine fuses, turns or pads its matrices does not (zeros, of
    either sign, add nothing). It does not see values that change places: compare log-probs as well
    (``Engine.score``).

    Args:
        dtype: cast to this first, to compare with an engine that holds another type.
    """
    total = 0
    for value in tensors:
        held = value.detach().to(dtype or value.dtype).contiguous() + 0.0  # -0 becomes 0
        total += int(held.view(_BITS[held.element_size()]).sum(dtype=torch.int64))
    return total % 2**64


def probe_tokens(vocabulary: int, length: int = 64) -> list[int]:
    """A fixed sequence of token ids for ``Engine.score``, spread over the vocabulary."""
    return [(7919 * (i + 1) ** 2 + 104729 * i) % vocabulary for i in range(length)]


def write_shards(weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Safetensors files of about 2 GiB each, so that the whole model is never held twice."""
    from safetensors.torch import save_file

    shard: dict[str, Tensor] = {}
    held = count = 0
    for name, value in weights:
        shard[name] = value.detach().cpu().contiguous().clone()  # tied tensors may not share memory in a file
        held += value.nbytes
        if held >= _SHARD_BYTES:
            save_file(shard, folder / f"model-{count:05d}.safetensors")
            shard, held, count = {}, 0, count + 1
    if shard:
        save_file(shard, folder / f"model-{count:05d}.safetensors")


def fast_folder(need_bytes: int) -> str | None:
    """Shared memory where it has the room, else the usual place for temporary files."""
    shared = Path("/dev/shm")
    fits = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > need_bytes
    return str(shared) if fits else None
