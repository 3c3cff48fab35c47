"""Regimes: named settings under which methods are compared, versioned and frozen like the problems.

A benchmark may say which regimes it has (``regimes()``: ``long@1`` -> settings and their digest). A sweep
that names one, ``regime: long@1``, has its settings, and may set none of them otherwise. A regime is never
edited: its digest is checked whenever it is read, and what is to be different is a new version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.config.schema import RunConfig
from harness.config.values import flatten
from harness.registry import benchmarks
from harness.sweep.sweep import Sweep
from harness.util.errors import UserError, unknown

_BENCHMARK = "data.benchmark"
#: What trials may change, because it trains nothing: they are judged by the last point of the frontier alone.
_MEASURES = ("eval.", "probe.")


def digest(settings: Mapping[str, Any]) -> str:
    """sha256 of a regime's settings, by dotted key."""
    return hashlib.sha256(json.dumps(flatten(settings), sort_keys=True).encode()).hexdigest()


def regime_settings(benchmark: str, name: str) -> dict[str, Any]:
    """The settings of ``name`` (``long@1``) on a benchmark, by dotted key.

    Raises:
        UserError: no such regime, or its settings are not those that were frozen.
    """
    known = dict(getattr(benchmarks.load(benchmark), "regimes", dict)())
    if name not in known:
        raise unknown(f"regime of {benchmark}", name, known, "(write its version, too, as in fresh@1)")
    found: dict[str, Any] = dict(flatten(known[name]["settings"]))
    if digest(found) != known[name]["digest"]:
        raise UserError(
            f"regime {name} of {benchmark} is not as it was frozen; restore its settings, and give what is "
            "to be different a new version"
        )
    return found


def in_regime(sweep: Sweep) -> Sweep:
    """The sweep with the settings of the regime that it names.

    Raises:
        UserError: as of :func:`regime_settings`; several benchmarks; or a setting that the regime fixes
            has another value somewhere, with the place.
    """
    if not sweep.regime:
        return sweep
    own = _benchmarks(sweep)
    if len(own) > 1:
        raise UserError(
            f"{sweep.path}: a regime is of one benchmark, but training_sets has {', '.join(sorted(own))}; "
            "write a sweep for each"
        )
    fixed = regime_settings(own.pop(), sweep.regime)
    for where, settings in _places(sweep):
        measured = _MEASURES if where == "tuning: settings" else ()
        _refuse_others(sweep, fixed, where, {k: v for k, v in settings.items() if not k.startswith(measured)})
    return replace(sweep, settings={**fixed, **sweep.settings})


def _benchmarks(sweep: Sweep) -> set[str]:
    own = {str(entry.settings[_BENCHMARK]) for entry in sweep.training_sets}
    return own or {str(sweep.settings.get(_BENCHMARK, RunConfig().data.benchmark))}


def check_tuned(sweep: Sweep, choices: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a choice of the tuned file that sets what the regime fixes: somebody edited it.

    Raises:
        UserError: names the row and the setting.
    """
    if sweep.regime:
        fixed = regime_settings(_benchmarks(sweep).pop(), sweep.regime)
        for name, choice in choices.items():
            _refuse_others(sweep, fixed, f"{sweep.tuned_path.name}: {name}", choice.get("settings") or {})


def _refuse_others(sweep: Sweep, fixed: Mapping[str, Any], where: str, settings: Mapping[str, Any]) -> None:
    """Refuse a value other than the regime's."""
    for key, value in settings.items():
        if value != fixed.get(key, value):
            raise UserError(
                f"{sweep.path}: {where} sets {key}={value}, and regime {sweep.regime} fixes it at "
                f"{fixed[key]}; take it out, or name no regime"
            )


def _places(sweep: Sweep) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every place that sets something, as a person finds it."""
    yield "settings", sweep.settings
    for name, settings in sweep.per_method.items():
        yield f"per_method: {name}", settings
    for name, settings in sweep.controls.items():
        yield f"controls: {name}", settings
    for entry in (*sweep.models, *sweep.training_sets):
        yield entry.name, entry.settings
        for name, settings in entry.per_method.items():
            yield f"{entry.name}: per_method: {name}", settings
    if sweep.tuning:
        yield "tuning: settings", sweep.tuning.settings
        for name, knobs in sweep.tuning.knobs.items():
            for knob in knobs:
                yield f"tuning: knobs: {name}", knob
    yield "the command line", sweep.extra
