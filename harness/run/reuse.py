"""A run whose training another has already done: it takes over the finished training and only evaluates.

Two runs of one *training identity* differ in nothing but what is evaluated at the end, and how. Where one of
them is finished, the other copies its logs, frontier points and last checkpoint, and goes on as if it had
been interrupted after its last step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig, slug
from harness.run.best import best_point, frontier_points, weights_path
from harness.run.checkpoints import checkpoint_path
from harness.run.identity import identity_parts
from harness.util.files import read_json, replacing, write_json

#: Settings of ``eval`` that are looked at after the last training step only.
_AFTERWARDS = ("splits", "n", "temperature", "benchmarks", "profile", "profile_settings", "weights")
LOGS = ("metrics.jsonl", "timings.jsonl")
#: Names the run that trained, in the folder of the one that took over.
TAKEN = "trained_by.json"


def training_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Of what identifies a run (:func:`harness.run.identity.identity_parts`) what its training depends on."""
    config = dict(parts["config"])
    config["eval"] = {k: v for k, v in config["eval"].items() if k not in _AFTERWARDS}
    return {k: v for k, v in parts.items() if k != "evaluation"} | {"config": config}


def find_reusable(run: RunConfig, folder: Path) -> Path | None:
    """A finished run beside ``folder`` that was trained alike, and still has what ``run`` evaluates."""
    wanted = training_parts(json.loads(json.dumps(identity_parts(run))))
    for other in sorted(folder.parent.glob(f"{slug(_name(run))}-s{run.seed}-*")):
        if other == folder or not (other / "result.json").exists():
            continue
        try:
            parts = read_json(other / "config.json")["identity"]
        except (OSError, ValueError, KeyError):
            continue  # not a whole run folder, so none to learn from
        if training_parts(parts) == wanted and _weights_of(run, other) is not None:
            return other
    return None


def take_over(run: RunConfig, folder: Path) -> str:
    """Copy a finished training into ``folder``, where it has none of its own yet.

    The checkpoint comes last: killed before it is there, the run starts over with a clean folder.

    Returns:
        The id of the run that trained; empty where nothing was taken over.
    """
    taken = folder / TAKEN
    if any((folder / "checkpoints").glob("step-*")):
        return str(read_json(taken)["run_id"]) if taken.exists() else ""
    if taken.exists():  # killed while copying
        for path in (folder / "eval").glob("frontier-*"):
            path.unlink()
        taken.unlink()
    other = find_reusable(run, folder)
    if other is None:
        return ""
    steps = json.loads((other / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    source = checkpoint_path(other, steps)
    files = [other / name for name in LOGS if (other / name).exists()]
    files += sorted((other / "eval").glob("frontier-*.json"))
    write_json(taken, {"run_id": other.name})
    for path in [*files, *(_weights_of(run, other) or ()), source]:
        _copy(path, folder / path.relative_to(other))
    return other.name


def _copy(path: Path, target: Path) -> None:
    """Copy a file or a folder, which appears whole or not at all."""
    if not path.is_dir():
        with replacing(target) as temporary:
            shutil.copyfile(path, temporary)
        return
    temporary = target.with_name(f".{target.name}.copy.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(path, temporary)
    temporary.rename(target)


def _weights_of(run: RunConfig, other: Path) -> list[Path] | None:
    """What ``run`` needs from ``other`` besides its last checkpoint; None where something is gone."""
    try:
        last = json.loads((other / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError, KeyError):
        return None
    if not checkpoint_path(other, last).exists():
        return None
    if run.eval.weights != "best":
        return []
    points = frontier_points(other)
    step = int(best_point(points)["step"]) if points else -1
    if step == last:
        return []  # the checkpoint has them
    best = weights_path(other, step)
    return [best] if best.exists() else None


def _name(run: RunConfig) -> str:
    return str(identity_parts(run)["method"])
