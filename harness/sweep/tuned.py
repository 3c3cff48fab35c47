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

#: What `sweep tune` writes into every choice; it adds the numerics version from version 3 on.
_WRITTEN = frozenset({"run_id", "method_hash", "trials"})
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


def temperatures_at(
    sweep: Sweep, tuned: Mapping[str, Any], setting: Setting, numerics: int
) -> Mapping[str, Any]:
    """The sampling temperatures chosen for ``setting``, by ``base`` or method, as :func:`choices_at`.

    One that was chosen by another numerics version than ``numerics`` is not chosen yet.
    """
    found = dict(_section(sweep, tuned, setting).get("temperatures") or {})
    if sweep.allow_stale_tuning:
        return found
    return {name: one for name, one in found.items() if chosen_by(one) in (None, numerics)}


def chosen_by(choice: Mapping[str, Any]) -> int | None:
    """The numerics version of the runs that a choice rests on; None where a person wrote it."""
    if "numerics_version" in choice:
        return int(choice["numerics_version"])
    return 2 if _WRITTEN & choice.keys() else None


def _section(sweep: Sweep, tuned: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
    if "places" not in tuned:
        return tuned
    at = sweep.tuning.at if sweep.tuning else {}
    model, training_set = (
        at.get("model", setting.model.name),
        at.get("training_set", setting.training_set.name),
    )
    return tuned["places"].get(f"{model}/{training_set}") or {}


def is_stale(choice: Mapping[str, Any], method_hash: str, numerics: int) -> bool:
    """Whether a choice rests on other code of its method than ``method_hash``, or on other numerics."""
    other_code = choice.get("method_hash", "") not in ("", method_hash)
    return other_code or chosen_by(choice) not in (None, numerics)


def stale_choices(jobs: Sequence[Job], backend: Backend) -> list[str]:
    """Rows whose setting was chosen with other code or numerics: ``dapo``, or ``dapo at model/set``."""
    return [row for rows in _stale(jobs, backend).values() for row in rows]


def stale_words(jobs: Sequence[Job], backend: Backend) -> str:
    """The same for people, with what it was chosen with: ``older code of dapo``; empty where none is."""
    return " and ".join(f"{what} of {_named(list(rows))}" for what, rows in _stale(jobs, backend).items())


def _stale(jobs: Sequence[Job], backend: Backend) -> dict[str, dict[str, None]]:
    found: dict[str, dict[str, None]] = {}
    for job in jobs:
        choice, now = job.choice or {}, backend.numerics_version
        if not is_stale(choice, backend.method_hash(job.method) if choice else "", now):
            continue
        version = chosen_by(choice)
        of = "older code" if version in (None, now) else f"numerics version {version} (now {now})"
        row = job.label if job.setting == "default/default" else f"{job.label} at {job.setting}"
        found.setdefault(of, {})[row] = None
    return found


def _named(rows: Sequence[str], most: int = 8) -> str:
    more = len(rows) - most
    return ", ".join(rows) if more < 2 else f"{', '.join(rows[:most])} and {more} more rows"


def refuse_stale(sweep: Sweep, jobs: Sequence[Job], backend: Backend) -> None:
    """Nothing is started with a setting that was tuned for other code or numerics, unless the user says so.

    Raises:
        UserError: names the rows and both ways out.
    """
    stale = stale_words(jobs, backend)
    if stale and not sweep.allow_stale_tuning:
        raise UserError(
            f"{sweep.tuned_path} chose with {stale}; tune again: "
            f"entrobench sweep tune {sweep.path} (or say allow_stale_tuning=true, and records are marked)"
        )
