"""From what a user asks for to a checked run: names, types, ranges and combinations, before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from harness.config.composition import is_composed, method_keys, parse, with_parts
from harness.config.fields import check_ranges
from harness.config.schema import SECTIONS, EvalConfig, RunConfig
from harness.config.values import RENAMED, flatten, made, typed, types_of, whole
from harness.registry import methods
from harness.rollout.settings import check_rollouts
from harness.run.fine_tuning import check_fine_tuning
from harness.stages.method import FineTuning, Method
from harness.util.errors import UserError, nearest, unknown

#: Sections and single values of a run; the method's hyper-parameters are beside them.
_TOP = tuple(f.name for f in fields(RunConfig) if f.name != "method_name")


def compose(settings: Mapping[str, Any], *, load: Callable[[str], Any] = methods.load) -> RunConfig:
    """The run that ``settings`` describe, e.g. ``{"method": "steer", "train.lr": 2e-4}``.

    Args:
        settings: values by dotted key, or nested. ``method`` is a name (default ``grpo``), and
            ``+<stage>`` takes a stage from another method (:mod:`harness.config.composition`).
        load: resolves a method name to its class; the registry's, or one that remembers.

    Raises:
        UserError: unknown name, wrong type, value out of range, or a combination the method refuses.
    """
    flat = flatten(settings)
    parts = {key[1:]: str(flat.pop(key)) for key in list(flat) if key.startswith("+")}
    name = with_parts(str(flat.pop("method", RunConfig.method_name)), parts)
    cls = load(name)
    # self-composition is the method itself: one thing has one name and one identity
    name = parse(name).name if is_composed(name) else name
    known, values = _types(cls), {}
    for key, value in flat.items():
        if key not in known:
            raise _unknown(key, cls, name)
        values[key] = typed(key, value, known[key])
    return _checked(values, cls, name, load)


def from_dict(raw: Mapping[str, Any]) -> RunConfig:
    """The inverse of :func:`to_dict`, also of older runs; values are checked again."""
    stored = flatten({key: value for key, value in raw.items() if key != "method_name"})
    return compose({RENAMED.get(k, k): v for k, v in stored.items()} | {"method": raw["method_name"]})


@lru_cache(maxsize=512)
def _types(cls: type) -> dict[str, Any]:
    """Key -> type of all settings of a run of the method class ``cls``."""
    general = {k: kind for k, kind in types_of(RunConfig).items() if k not in ("method", "method_name")}
    return general | {f"method.{k}": kind for k, kind in types_of(cls).items()}


def _checked(
    values: Mapping[str, Any], cls: type[Method], name: str, load: Callable[[str], Any]
) -> RunConfig:
    run = made(RunConfig, values)
    run.method, run.method_name = made(cls, values, "method."), name
    if run.eval.benchmarks and run.eval.splits == EvalConfig().splits:
        run.eval.splits = []  # the default names the micro testbed's; benchmarks take its place
    run.eval.frontier_problems = _frontier_problems(run.eval.frontier_problems)
    check_ranges(run, "run")
    for key in SECTIONS:
        check_ranges(getattr(run, key), key)
    check_ranges(run.method, "method")
    _check_combinations(run)
    run.method.validate(run)
    check_fine_tuning(run, load)
    return run


def _frontier_problems(text: str) -> str:
    """``auto``, ``all`` or a number, written in one way."""
    if text in ("auto", "all"):
        return text
    try:
        number = whole(float(text) if not text.strip().isdecimal() else text)
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise UserError(
            f"eval.frontier_problems={text} is no number of problems; write one, as in "
            "eval.frontier_problems=64, or all, or auto"
        )
    return str(number)


def _check_combinations(run: RunConfig) -> None:
    rows = run.rollout.prompts_per_step * run.rollout.group_size
    if run.train.minibatches > rows:
        raise UserError(
            f"train.minibatches={run.train.minibatches} exceeds the {rows} rollouts of a step; "
            "lower it or raise rollout.prompts_per_step"
        )
    compares = not isinstance(run.method, FineTuning) and getattr(run.method, "scale", "group") == "group"
    if run.rollout.group_size == 1 and compares:
        raise UserError("rollout.group_size=1 leaves a group without a baseline; use at least 2")
    check_rollouts(run)
    for name, n in (("n", run.eval.n), ("frontier_n", run.eval.frontier_n)):
        if n < 2 and (name == "frontier_n" or run.eval.splits):
            raise UserError(
                f"eval.{name}={n} cannot tell even pass@1: pass@k is printed from n >= 2k samples a problem; "
                f"use eval.{name}=2 or more"
            )
    if run.model.compute_dtype == run.model.dtype:
        raise UserError(
            f"model.compute_dtype={run.model.compute_dtype} with model.dtype={run.model.dtype} would train "
            "weights of the short type; leave model.dtype at float32, the type of the masters"
        )
    if run.model.attention.startswith("flash"):
        raise UserError(
            f"model.attention={run.model.attention} cannot take the mask of packed rows, in which responses "
            "share their prompt; use model.attention=sdpa (or auto)"
        )
    for diagnostic in run.train.diagnostics:
        methods.find_diagnostic(diagnostic)
    if not run.eval.splits and not run.eval.benchmarks:
        raise UserError("eval.splits is empty; name at least one test split, or eval.benchmarks")


def _unknown(key: str, cls: type[Method], name: str) -> UserError:
    """The complaint about a key that is none: with the nearest valid ones, or its new name."""
    head, _, tail = key.partition(".")
    if key in RENAMED:
        return UserError(f"{key} is called {RENAMED[key]} now; write {RENAMED[key]}=…")
    if head == "method":
        own = method_keys(cls)
        close = nearest(tail, own) or [k for k in own if k.endswith(f".{tail}")]
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has: {', '.join(own)}"
        return UserError(f"method '{name}' has no hyper-parameter '{tail}'; {hint}")
    if head in SECTIONS:
        return unknown("setting", key, [k for k in types_of(RunConfig) if k.startswith(f"{head}.")])
    if head in _TOP:
        return UserError(f"'{head}' is a single value; write {head}=…")
    inner = [k for k in types_of(RunConfig) if k.endswith(f".{head}")]
    inner += [f"method.{k}" for k in method_keys(cls) if k in (head, key) or k.endswith(f".{head}")]
    if inner:
        return UserError(f"unknown setting '{key}'; did you mean {' or '.join(inner)}?")
    return unknown("setting", key, _TOP)
