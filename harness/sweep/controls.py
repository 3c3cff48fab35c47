"""Rows that are no method's own: the untrained model, and controls that change one thing of a tuned method.

A control's settings are what it changes. Two values are words, because what they mean follows from tuning:
``train.lr: next-lower`` and ``eval.temperature: tuned``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.config.schema import RunConfig
from harness.evaluation.in_run import profile_of
from harness.sweep.axes import Overrides
from harness.sweep.sections import GROWTH
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.sweep.sweep import Sweep
    from harness.sweep.tuned import Choices

LR, LOWER = "train.lr", "next-lower"
TEMPERATURE, TUNED = "eval.temperature", "tuned"
#: The untrained model at the temperature that was chosen for it, as tables name it; and among tuned choices.
BASE_AT_BEST, BASE = "base-best-temperature", "base"


def check_controls(sweep: Sweep) -> None:
    """Refuse words whose meaning the file does not give.

    Raises:
        UserError: names what is missing under ``tuning``.
    """
    tuning = sweep.tuning
    for name, own in sweep.controls.items():
        if own.get(LR) == LOWER and not (tuning and tuning.lrs):
            raise UserError(
                f"{sweep.path}: control '{name}' takes the next lower learning rate, which needs tuning: lrs"
            )
    if tempered(sweep) and not sweep.tuned_from and not (tuning and tuning.temperatures):
        raise UserError(
            f"{sweep.path}: '{TUNED}' is a temperature that tuning chooses; "
            "say which to try: tuning: temperatures: [0.6, 0.8, 1.0, 1.2]"
        )


def tempered(sweep: Sweep) -> list[str]:
    """Whose sampling temperature is to be tuned: ``base``, and methods that a control asks it for."""
    names = [BASE] if TUNED in sweep.base_temperatures else []
    asked = [own for own in sweep.controls.values() if own.get(TEMPERATURE) == TUNED]
    return list(
        dict.fromkeys([*names, *(str(own.get("method") or RunConfig().method_name) for own in asked)])
    )


def resolved(sweep: Sweep, own: Overrides, plain: RunConfig, temperature: float | None) -> Overrides | None:
    """A control's settings without words; None while tuning has not chosen the temperature they ask for.

    Args:
        plain: the run that the control changes, with what tuning chose for it.
        temperature: the tuned one, if there is one.
    """
    settings = {k: v for k, v in own.items() if k != "method"}
    if settings.get(LR) == LOWER:
        settings[LR] = next_lower(sweep.tuning.lrs if sweep.tuning else (), plain.train.lr)
    if settings.get(TEMPERATURE) == TUNED:
        if temperature is None:
            return None
        settings |= at_temperature(plain, temperature)
    return settings


def next_lower(lrs: Sequence[float], lr: float) -> float:
    """The largest of ``lrs`` below ``lr``; below the grid, one more step of its lowest two (else half).

    Above the grid it may be one that the grid grew by, see :data:`~harness.sweep.sections.GROWTH`.
    """
    lower = sorted(rate for rate in lrs if rate < lr)
    if lower:
        return lower[-1] if lr <= max(lrs) else max(lower[-1], float(f"{lr / GROWTH:.6g}"))
    grid = sorted(set(lrs))
    step = grid[0] / grid[1] if len(grid) > 1 else 0.5
    return float(f"{lr * step:.6g}")


def at_temperature(run: RunConfig, temperature: float) -> dict[str, Any]:
    """Settings that evaluate ``run`` at ``temperature``: its splits, and of its profile what gives pass@1."""
    settings: dict[str, Any] = {TEMPERATURE: temperature}
    if run.eval.benchmarks:
        first = profile_of(run).draws[0].name
        others = [word for word in run.eval.profile_settings if not word.startswith(f"{first}.temperature")]
        settings["eval.profile_settings"] = [*others, f"{first}.temperature:{temperature:g}"]
    return settings


def chosen_temperature(temperatures: Mapping[str, Any], name: str, choices: Choices) -> float | None:
    """The temperature chosen for ``name``; None where none was, or for another tuned setting than today's."""
    found = temperatures.get(name)
    settings = dict((choices.get(name) or {}).get("settings") or {})
    if not found or dict(found.get("settings") or {}) != settings:
        return None
    return float(found["temperature"])


def left_out(sweep: Sweep, labels: Sequence[str]) -> list[str]:
    """Rows of the file that a plan with rows ``labels`` lacks: their temperature is not chosen yet."""
    wanted = [name for name, own in sweep.controls.items() if own.get(TEMPERATURE) == TUNED]
    wanted += [BASE_AT_BEST] if TUNED in sweep.base_temperatures else []
    return [name for name in wanted if name not in labels]
