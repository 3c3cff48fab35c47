"""Reads a sweep file strictly, with what the command line adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from harness.config.hydra import parse
from harness.config.schema import slug
from harness.config.values import flatten
from harness.sweep.axes import AXES, Overrides, Setting, narrowed
from harness.sweep.controls import BASE, BASE_AT_BEST, TUNED, check_controls
from harness.sweep.regimes import in_regime
from harness.sweep.resources import slurm_resources
from harness.sweep.sections import method_reference, read_reproduces, read_tuning
from harness.sweep.sweep import Sweep
from harness.sweep.text import (
    check_keys,
    list_of,
    mapping_of,
    positive_number,
    read_yaml,
    scalar,
    whole_number,
)
from harness.sweep.tracks import named_methods
from harness.util.errors import UserError, unknown

#: Keys that the command line sets as ``key=value`` besides the settings of the runs.
OPTIONS = (
    "launcher", "workers", "runs_dir", "results_dir", "name", "methods", "models", "training_sets", "seeds",
    "allow_stale_tuning",
)  # fmt: skip
_FILE_KEYS = [f.name for f in fields(Sweep) if f.name not in ("path", "extra", "typed")]
AXIS_KEYS = tuple(axis.key for axis in AXES)


def load_sweep(path: Path, options: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file.

    Args:
        options: ``key=value`` from the command line: :data:`OPTIONS`, or a setting of every run
            (Hydra's grammar).

    Raises:
        UserError: anything that is wrong, with the key and the nearest valid one.
    """
    raw = read_yaml(path)
    if "rule" in raw and {"choices", "places"} & raw.keys():
        raise UserError(f"{path} holds what tuning chose for a sweep; name the sweep's own file instead")
    check_keys(raw, _FILE_KEYS, str(path))
    typed = []
    for option in options:
        key, sign, value = option.partition("=")
        if not sign:
            raise UserError(f"'{option}' is not key=value, e.g. workers=2 or train.steps=50")
        if key == "workers":
            raw["local"] = {**(raw.get("local") or {}), "workers": scalar(value, "local.workers")}
        elif key in AXIS_KEYS:
            raw[key] = narrowed(key, raw.get(key), scalar(value, key))
        elif key in OPTIONS:
            raw[key] = scalar(value, key)
        elif key.partition(".")[0] in ("local", "slurm"):
            section, _, inner = key.partition(".")
            raw[section] = {**mapping_of(raw, section, str(path)), inner: scalar(value, key)}
        elif "." not in key and key not in ("device",):
            raise unknown(
                "option", key, [*OPTIONS, "device"], "(or a setting of the runs such as train.lr=…)"
            )
        else:
            typed.append(option)
    return _check(
        _build(path, raw, typed), any(o.partition("=")[0] in ("methods", *AXIS_KEYS) for o in options)
    )


def _build(path: Path, raw: Mapping[str, Any], typed: Sequence[str]) -> Sweep:
    where = str(path)
    values: dict[str, Any] = {"path": path, "extra": parse(typed), "typed": tuple(typed), "name": path.stem}
    values |= {k: v for k, v in raw.items() if v is not None}
    values["name"] = str(values["name"])
    for key in ("methods", "seeds"):
        if not values.get(key):
            raise UserError(f"{where}: '{key}' is missing; list at least one")
    values["methods"] = tuple(method_reference(m, path.parent) for m in named_methods(values, where))
    values["seeds"] = tuple(whole_number(s, f"{where}: seeds") for s in list_of(values, "seeds", where))

    def reference(name: str) -> str:
        return method_reference(name, path.parent)

    for axis in AXES:
        values[axis.key] = axis.read(values.get(axis.key), where, reference)
    temperatures = list_of({"t": values.get("base_temperatures", [1.0])}, "t", where)
    values["base_temperatures"] = tuple(
        t if t == TUNED else positive_number(t, f"{where}: base_temperatures") or 1.0 for t in temperatures
    )
    values["settings"] = flatten(mapping_of(values, "settings", where))
    for key in ("per_method", "controls"):
        table = mapping_of(values, key, where)
        values[key] = {str(name): flatten(mapping_of(table, name, where)) for name in table}
    values["per_method"] = {reference(name): own for name, own in values["per_method"].items()}
    for own in values["controls"].values():
        if own.get("method"):
            own["method"] = reference(str(own["method"]))
    for key in ("local", "slurm"):
        values[key] = dict(mapping_of(values, key, where))
    slurm_resources(values["slurm"], f"{where}: slurm")  # refused here, whatever the verb
    if values.get("tuning"):
        values["tuning"] = read_tuning(mapping_of(values, "tuning", where), path)
    if values.get("reproduces"):
        values["reproduces"] = read_reproduces(mapping_of(values, "reproduces", where), where)
    values["gpu_hours"] = positive_number(values.get("gpu_hours"), f"{where}: gpu_hours")
    if not isinstance(values.get("allow_stale_tuning", False), bool):
        raise UserError(f"{where}: allow_stale_tuning must be true or false")
    values["regime"] = str(values.get("regime") or "")
    return in_regime(Sweep(**values))


def _check(sweep: Sweep, narrowed: bool) -> Sweep:
    where = str(sweep.path)
    if slug(sweep.name) != sweep.name:
        raise UserError(
            f"{where}: '{sweep.name}' cannot name a folder; use letters, digits, '-', '_' and '.'"
        )
    for key, values in (("methods", sweep.methods), ("seeds", sweep.seeds)):
        doubled = [str(v) for v in values if list(values).count(v) > 1]
        if doubled:
            raise UserError(f"{where}: {key} lists '{doubled[0]}' twice")
    # A narrower methods=… on the command line must not make the file's own tables wrong.
    at = sweep.tuning.at if sweep.tuning else {}
    check_keys(at, ("model", "training_set"), f"{where}: tuning: at")
    for key, entries in (("model", sweep.models), ("training_set", sweep.training_sets)):
        names = [entry.name for entry in entries]
        if key in at and at[key] not in names and not narrowed:
            raise unknown(f"{key.replace('_', ' ')} in {where}: tuning: at:", at[key], names)
    if not narrowed:
        knobs = sweep.tuning.knobs if sweep.tuning else {}
        rows = {*sweep.methods, *(str(c.get("method", "")) for c in sweep.controls.values())}
        tables = [("per_method", sweep.per_method), ("tuning: knobs", knobs)]
        tables += [(f"{e.name}: per_method", e.per_method) for e in (*sweep.models, *sweep.training_sets)]
        for key, table in tables:
            for name in set(table) - rows:
                raise UserError(f"{where}: {key} names '{name}', which is not in methods")
    own = [*sweep.per_method.values(), *sweep.controls.values()]
    own += [s for e in (*sweep.models, *sweep.training_sets) for s in e.per_method.values()]
    own += [s for knob in (sweep.tuning.knobs.values() if sweep.tuning else ()) for s in knob]
    if any("rollout.correction_cap" in settings for settings in own):
        raise UserError(
            f"{where}: rollout.correction_cap is one for all rows of a table; move it to settings"
        )
    clash = set(sweep.controls) & {BASE, BASE_AT_BEST, *sweep.methods}
    if clash:
        raise UserError(f"{where}: control '{clash.pop()}' has the name of another row; choose another one")
    if sweep.tuning and sweep.tuning.seed in sweep.seeds:
        raise UserError(
            f"{where}: seeds contain the tuning seed {sweep.tuning.seed}; reported seeds must be fresh"
        )
    check_controls(sweep)
    return sweep


def settings_of(sweep: Sweep, setting: Setting, name: str, *layers: Overrides) -> dict[str, Any]:
    """Settings of a run of ``name`` (empty: the untrained model) at ``setting``; later layers win.

    From general to special: the sweep's settings, the model's, the training set's, the method's, the
    method's at this setting, ``layers``, the command line.
    """
    merged: dict[str, Any] = {
        "runs_dir": sweep.runs_dir, **sweep.settings, **setting.settings,
        **sweep.per_method.get(name, {}), **setting.per_method(name),
    }  # fmt: skip
    for layer in layers:
        merged |= layer
    merged.pop("method", None)
    return {**({"method": name} if name else {}), **merged, **sweep.extra}
