"""The tuned file of a sweep: what tuning chose, for which settings, and by today's code or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.sweep.axes import Setting
from harness.sweep.text import read_yaml
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.sweep.jobs import Backend, Job
    from harness.sweep.sweep import Sweep

#: method -> what tuning chose for it (``settings``, ``score``, ``run_id``, ``method_hash`` …)
Choices = Mapping[str, Mapping[str, Any]]


def read_tuned(sweep: Sweep) -> Mapping[str, Any]:
    """The content of the tuned file; empty when the sweep has not been tuned.

    Raises:
        UserError: the tuned file is missing although the sweep names it, or its seed is reported here.
    """
    path = sweep.tuned_path
    if not path.exists():
        if sweep.tuned_from:
            raise UserError(
                f"{sweep.path}: tuned_from names {path}, which does not exist; tune that sweep first"
            )
        return {}
    raw = read_yaml(path)
    if raw.get("seed") in sweep.seeds:
        raise UserError(
            f"{sweep.path}: seeds contain {raw['seed']}, the seed that {path.name} was tuned with; "
            "reported seeds must be fresh, choose others"
        )
    return raw


def choices_at(sweep: Sweep, tuned: Mapping[str, Any], setting: Setting) -> Choices:
    """What was chosen for ``setting``: there, or at the setting that ``tuning: at`` puts in its stead."""
    return dict(_section(sweep, tuned, setting).get("choices") or {})


def temperatures_at(sweep: Sweep, tuned: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
    """The sampling temperatures chosen for ``setting``, by ``base`` or method, as :func:`choices_at`."""
    return dict(_section(sweep, tuned, setting).get("temperatures") or {})


def _section(sweep: Sweep, tuned: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
    if "places" not in tuned:
        return tuned
    at = sweep.tuning.at if sweep.tuning else {}
    model, training_set = (
        at.get("model", setting.model.name),
        at.get("training_set", setting.training_set.name),
    )
    return tuned["places"].get(f"{model}/{training_set}") or {}


def stale_choices(jobs: Sequence[Job], backend: Backend) -> list[str]:
    """Rows whose setting was chosen with other code of their method: ``dapo``, or ``dapo at model/set``."""
    found = {}
    for job in jobs:
        if job.choice and job.choice.get("method_hash", "") not in ("", backend.method_hash(job.method)):
            found[job.label if job.setting == "default/default" else f"{job.label} at {job.setting}"] = True
    return list(found)


def refuse_stale(sweep: Sweep, jobs: Sequence[Job], backend: Backend) -> None:
    """Nothing is started with a setting that was tuned for other code, unless the user says so.

    Raises:
        UserError: names the rows and both ways out.
    """
    stale = stale_choices(jobs, backend)
    if stale and not sweep.allow_stale_tuning:
        raise UserError(
            f"{sweep.tuned_path} chose with older code of {', '.join(stale)}; tune again: "
            f"entrobench sweep tune {sweep.path} (or say allow_stale_tuning=true, and records are marked)"
        )
