"""The checkpoint of several processes: each writes and reads its own part (PyTorch's distributed checkpoint).

It can be read by any number of processes, one among them. A folder holds the tensors, named
``weights.<name>``, ``optimizer.<slot>.<name>`` and, where the reference is no longer the base model,
``reference.<name>``; and ``rest.pt`` with everything that is small and the same for all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.distributed.world import plain_group, world
from harness.util import intact

if TYPE_CHECKING:
    from harness.model.policy import Policy
    from harness.train.trainer import Trainer

#: What is small and the same for all; the distributed checkpoint's own table of contents.
REST, CONTENTS = "rest.pt", ".metadata"


def write(path: Path, tensors: dict[str, Any], scalars: dict[str, Any], rest: dict[str, Any]) -> None:
    """Write the checkpoint folder ``path``, which appears whole or not at all; all processes call this.

    Args:
        tensors, scalars: of :func:`tensors_of`, or the weights alone.
        rest: what else stands in ``rest.pt``.
    """
    import torch.distributed.checkpoint as dcp

    here = world()
    temporary = path.with_name(f".{path.name}.{here.run_on_main(os.getpid)}.tmp")
    if here.is_main:
        temporary.mkdir(parents=True, exist_ok=True)
    here.wait()
    writer = dcp.FileSystemWriter(temporary)  # waits until the disk has it
    dcp.save(tensors, storage_writer=writer, process_group=plain_group())
    if here.is_main:
        with open(temporary / REST, "wb") as handle:
            sums = {"contents_sha256": _contents_sha256(temporary)}
            torch.save(rest | {"optimizer_scalars": scalars} | sums, handle)
        intact.seal_zip(temporary / REST)
        with open(temporary / REST, "rb") as handle:
            os.fsync(handle.fileno())
        _put(temporary, path)
    here.wait()


def _put(temporary: Path, path: Path) -> None:
    """Move the folder to its place; one that is there already can be read until the new one is."""
    old = path.with_name(f"{path.name}.old")
    if path.exists():
        if old.exists():
            shutil.rmtree(old)
        os.replace(path, old)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    shutil.rmtree(old, ignore_errors=True)


def read(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Put the tensors of a checkpoint into model and optimiser; returns its rest. All processes call this."""
    import torch.distributed.checkpoint as dcp

    rest: dict[str, Any] = torch.load(path / REST, weights_only=True)
    reader = dcp.FileSystemReader(path)
    kept = set(reader.read_metadata().state_dict_metadata)
    target = weights(trainer.policy)
    reference = trainer.move_reference() if any(k.startswith("reference.") for k in kept) else None
    if reference is not None:
        target |= weights(reference, "reference")
    slots: dict[int, dict[str, Any]] = {}
    for i, (name, parameter) in enumerate(_named(trainer)):
        slot: dict[str, Any] = dict(rest["optimizer_scalars"].get(name, {}))
        for key in (k for k in kept if k.startswith("optimizer.") and k.split(".", 2)[2] == name):
            slot[key.split(".", 2)[1]] = target[key] = torch.zeros_like(parameter, requires_grad=False)
        if slot:
            slots[i] = slot
    _load(target, reader)
    for policy in filter(None, (trainer.policy, reference)):
        policy.network.stepped()
    state = trainer.optimizer.state_dict()
    trainer.optimizer.load_state_dict({**state, "state": slots})
    trainer.load_rest(rest)
    return rest


def read_weights(path: Path, policy: Policy) -> None:
    """Put the weights of a checkpoint into ``policy``; all processes call this."""
    import torch.distributed.checkpoint as dcp

    _load(weights(policy), dcp.FileSystemReader(path))
    policy.network.stepped()


def weights_of(path: Path) -> dict[str, Tensor]:
    """All weights in a checkpoint folder, full and on the CPU, in this process alone."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = dcp.FileSystemReader(path)
    target = {
        name: torch.empty(found.size, dtype=found.properties.dtype)
        for name, found in reader.read_metadata().state_dict_metadata.items()
        if name.startswith("weights.") and isinstance(found, TensorStorageMetadata)
    }
    _load(target, reader, alone=True)
    return {name.removeprefix("weights."): value for name, value in target.items()}


def _load(target: dict[str, Tensor], reader: Any, *, alone: bool = False) -> None:
    import torch.distributed.checkpoint as dcp

    alone = alone or world().size == 1
    with warnings.catch_warnings():
        if alone:  # which is what is meant here
            warnings.filterwarnings("ignore", message=".*assuming the intent is to load in a single process")
        dcp.load(target, storage_reader=reader, process_group=None if alone else plain_group(), no_dist=alone)


def damage(path: Path) -> str:
    """What is wrong with a checkpoint folder; empty where all is there and every checksum is right."""
    if wrong := intact.damage(path / REST) or ("" if (path / CONTENTS).is_file() else "incomplete"):
        return wrong
    kept = torch.load(path / REST, weights_only=True).get("contents_sha256")  # older ones have none
    try:
        for part in _parts(path):
            if wrong := intact.damage(part):
                return wrong
        found = _contents_sha256(path)
    except FileNotFoundError:
        return "incomplete"
    except Exception:  # a damaged pickle leads anywhere
        return f"damaged ({CONTENTS} cannot be read)"
    return "" if kept in (None, found) else "damaged (checksum of its contents)"


def _parts(path: Path) -> Iterator[intact.Window]:
    """What stands in the folder's files: a file of ``torch.save`` each."""
    import torch.distributed.checkpoint as dcp

    stored = dcp.FileSystemReader(path).read_metadata().storage_data
    parts = sorted(stored.values(), key=lambda part: (part.relative_path, part.offset))
    for name, own in groupby(parts, key=lambda part: part.relative_path):
        with open(path / name, "rb") as file:
            for part in own:
                yield intact.Window(file, part.offset, part.length)


def _contents_sha256(path: Path) -> str:
    """Of the table of contents and of every part's own; the tensors have their checksums in there."""
    digest = hashlib.sha256((path / CONTENTS).read_bytes())
    for part in _parts(path):
        with zipfile.ZipFile(part) as archive:
            digest.update(intact.directory(archive))
    return digest.hexdigest()


def _named(trainer: Trainer) -> Iterator[tuple[str, Any]]:
    """What the optimiser steps on, in its order, with names; a tied one once."""
    names = [n for n, p in trainer.policy.model.named_parameters() if p.requires_grad]
    return zip(names, trainer.policy.network.trainable(), strict=True)


def weights(policy: Policy, kind: str = "weights") -> dict[str, Any]:
    """The policy's weights by name, as this process has them."""
    return {f"{kind}.{name}": value.detach() for name, value in policy.held().items()}


def tensors_of(trainer: Trainer) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Everything large by name, and what the optimiser keeps for a parameter besides."""
    found, scalars = weights(trainer.policy), dict[str, dict[str, Any]]()
    if trainer.moved_reference is not None:
        found |= weights(trainer.moved_reference, "reference")
    slots = trainer.optimizer.state_dict()["state"]
    for i, (name, parameter) in enumerate(_named(trainer)):
        for key, value in slots.get(i, {}).items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                found[f"optimizer.{key}.{name}"] = value
            else:
                scalars.setdefault(name, {})[key] = value
    return found, scalars
