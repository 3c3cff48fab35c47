"""The weights of the best frontier point: kept by every run, and evaluated with ``eval.weights=best``.

Training is not touched: with ``eval.weights=best`` a run takes the same steps, to the same end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.distributed.world import world
from harness.model.policy import Policy
from harness.run import sharded_checkpoint as shards
from harness.run.checkpoints import checkpoint_path, delete, load_weights, save_state
from harness.statistics import mean_pass_at_ks, printable_ks
from harness.util.files import read_json
from harness.util.progress import phase

#: The score of a point is the mean of these pass@k on the validation split, as far as its samples allow them.
KS = (1, 8)


def score(point: Mapping[str, Any]) -> float:
    """The validation score of a frontier point (``n``, ``correct``)."""
    ks = printable_ks(int(point["n"]), KS)
    return float(mean_pass_at_ks(int(point["n"]), point["correct"], ks).mean())


def best_point(points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The point with the highest score, the earliest of equal ones."""
    return max(points, key=lambda point: (score(point), -int(point["step"])))


def frontier_points(folder: Path) -> list[dict[str, Any]]:
    """The frontier points of the run in ``folder``, by step."""
    return [dict(read_json(path)) for path in sorted((folder / "eval").glob("frontier-*.json"))]


def weights_path(folder: Path, step: int) -> Path:
    """Where the weights of a best point are: a folder of several processes, or a file of one."""
    return checkpoint_path(folder, step, "best")


def keep_if_best(policy: Policy, folder: Path, step: int, point: Mapping[str, Any]) -> None:
    """Write the weights at ``point`` if no earlier point is as good; all processes take part.

    Called before the point's own file is written, so that a point that stands has its weights. Those of a
    point that is no longer the best are removed by :func:`forget_worse`.

    Args:
        point: needed on the first process only.
    """

    def is_best() -> bool:
        earlier = [p for p in frontier_points(folder) if p["step"] < step]
        return best_point([*earlier, point]) is point

    here = world()
    if here.run_on_main(is_best):
        path = folder / "checkpoints" / f"best-{step:06d}"
        with phase("save the best weights", announce=True):
            if here.size > 1:
                shards.write(path, shards.weights(policy), {}, {"step": step})
            else:
                save_state({"step": step, "weights": policy.weights()}, path.with_name(f"{path.name}.pt"))


def forget_worse(folder: Path) -> None:
    """Remove the weights of points that are not the best."""
    best = weights_path(folder, int(best_point(frontier_points(folder))["step"]))
    for path in best.parent.glob("best-*"):
        if path != best:
            delete(path)


def load_best(policy: Policy, folder: Path) -> Mapping[str, Any]:
    """Put the weights of the best frontier point into ``policy``; returns the point.

    Raises:
        FileNotFoundError: they are gone; the message says what to do.
    """
    point, path = world().run_on_main(lambda: _found(folder))
    load_weights(path, policy)
    return point


def best_weights(folder: Path) -> Path:
    """Where the weights of the best frontier point are.

    Raises:
        FileNotFoundError: they are gone; the message says what to do.
    """
    return _found(folder)[1]


def _found(folder: Path) -> tuple[Mapping[str, Any], Path]:
    point = best_point(frontier_points(folder))
    path = weights_path(folder, int(point["step"]))
    if not path.exists():  # a training taken over from a run that kept its last weights only
        path = checkpoint_path(folder, int(point["step"]))
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is gone, the weights of the best frontier point (step {point['step']}); "
            f"delete {folder} and start the run again"
        )
    return point, path
