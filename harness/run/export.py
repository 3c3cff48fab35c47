"""``entrobench export``: the weights of a run as a plain Hugging Face folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from harness.model.source import resolve_model
from harness.registry import benchmarks
from harness.util.errors import UserError
from harness.util.files import read_json


def export(run_folder: Path, target: Path, *, checkpoint: str = "last") -> int:
    """Write config, weights, tokenizer and generation config of a checkpoint; returns its step.

    Args:
        target: a folder that does not exist yet, or is empty; it appears whole or not at all.
        checkpoint: ``last``, ``best`` (on validation) or a step's number.

    Raises:
        UserError: no such run or checkpoint, or ``target`` holds something.
    """
    if not (run_folder / "config.json").is_file():
        raise UserError(f"{run_folder} is not a run folder (no config.json in it)")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already; give a new folder")
    path, step = _chosen(run_folder, checkpoint)
    from transformers.utils.logging import disable_progress_bar

    from harness.model.policy import load_policy
    from harness.run.checkpoints import load_weights

    disable_progress_bar()
    model: dict[str, Any] = read_json(run_folder / "config.json")["config"]["model"]
    source = resolve_model(model["path"], benchmarks.shipped_models())
    policy = load_policy(source, revision=model["revision"], dtype=model["dtype"])
    load_weights(path, policy)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        policy.save(temporary)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return step


def _chosen(run_folder: Path, checkpoint: str) -> tuple[Path, int]:
    """Where the checkpoint is, and its step."""
    from harness.run.best import best_weights, frontier_points
    from harness.run.checkpoints import step_of

    there = {step_of(p): p for kind in ("best", "step") for p in run_folder.glob(f"checkpoints/{kind}-*")}
    steps = sorted(step_of(p) for p in run_folder.glob("checkpoints/step-*"))
    if not steps:
        raise UserError(f"{run_folder.name} has no checkpoint yet")
    if checkpoint == "best":
        if not frontier_points(run_folder):
            raise UserError(f"{run_folder.name} was not looked at on validation yet; use --checkpoint last")
        try:
            path = best_weights(run_folder)
        except FileNotFoundError as error:
            raise UserError(f"{error}, or use --checkpoint last") from error
        return path, step_of(path)
    if checkpoint == "last":
        return there[steps[-1]], steps[-1]
    if not checkpoint.isdigit():
        raise UserError(f"--checkpoint={checkpoint} is neither best, last nor a step's number")
    if int(checkpoint) not in there:
        raise UserError(f"{run_folder.name} has no checkpoint of step {checkpoint}; it has {_list(there)}")
    return there[int(checkpoint)], int(checkpoint)


def _list(there: dict[int, Path]) -> str:
    return "those of step " + ", ".join(map(str, sorted(there)))
