"""From what a user asks for to a checked run: names, types, ranges and combinations, before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from harness.config.composition import from_words, is_composed, method_keys, parse
from harness.config.fields import check_ranges
from harness.config.hydra import resolve
from harness.config.schema import SECTIONS, EvalConfig, RunConfig
from harness.registry import methods
from harness.rollout.settings import check_rollouts
from harness.stages.method import Method
from harness.util.errors import UserError, nearest, unknown

#: Resolves a method name to its class; the registry's ``load``.
MethodLoader = Callable[[str], type[Method]]


def compose(overrides: Sequence[str], load_method: MethodLoader) -> RunConfig:
    """The run that ``overrides`` describe, e.g. ``["method=steer", "train.lr=2e-4", "method.w_min=0.7"]``.

    Args:
        overrides: Hydra override grammar; ``method=<name>`` chooses the method (default ``grpo``), and
            ``+<stage>=<method>`` takes a stage from another one (:mod:`harness.config.composition`).
        load_method: resolves a method name to its class.

    Raises:
        UserError: unknown name, wrong type, value out of range, or a combination the method refuses.
    """
    name = RunConfig.method_name
    taken: list[str] = []
    rest: list[str] = []
    for override in overrides:
        if "=" not in override:
            raise UserError(f"'{override}' is not an override; write key=value, e.g. train.steps=200")
        key, _, value = override.partition("=")
        if key == "method":
            name = value.strip("'\"")
        elif key.startswith("+") and "." not in key:
            taken.append(override)
        else:
            rest.append(override)
    name = from_words(name, taken)
    cls = load_method(name)
    # self-composition is the method itself: one thing has one name and one identity
    name = parse(name).name if is_composed(name) else name
    for override in rest:
        _check_key(override.partition("=")[0].lstrip("+~"), cls, name)
    return _build(resolve(rest, RunConfig, cls), cls, name)


def _build(raw: Mapping[str, Any], cls: type[Method], name: str) -> RunConfig:
    sections = {key: factory(**raw[key]) for key, factory in SECTIONS.items()}  # type: ignore[operator]
    plain = {k: raw[k] for k in ("seed", "device", "runs_dir")}
    evaluation = sections["eval"]
    if evaluation.benchmarks and evaluation.splits == EvalConfig().splits:
        evaluation.splits = []  # the default names the micro testbed's; benchmarks take its place
    run = RunConfig(method=cls(**raw["method"]), method_name=name, **sections, **plain)
    check_ranges(run, "run")
    for key in SECTIONS:
        check_ranges(getattr(run, key), key)
    check_ranges(run.method, "method")
    _check_combinations(run)
    run.method.validate(run)
    return run


def _check_combinations(run: RunConfig) -> None:
    rows = run.rollout.prompts_per_step * run.rollout.group_size
    if run.train.minibatches > rows:
        raise UserError(
            f"train.minibatches={run.train.minibatches} exceeds the {rows} rollouts of a step; "
            "lower it or raise rollout.prompts_per_step"
        )
    if run.rollout.group_size == 1 and getattr(run.method, "scale", "group") == "group":
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


def _check_key(key: str, cls: type[Method], name: str) -> None:
    """Refuse an unknown key with the nearest valid ones, before Hydra's longer message."""
    head, _, tail = key.partition(".")
    top = [f.name for f in fields(RunConfig) if f.name != "method_name"]
    if head not in top:
        everything = [f"{s}.{f.name}" for s, c in SECTIONS.items() for f in fields(c)]  # type: ignore[arg-type]
        inner = [e for e in everything if e.endswith(f".{head}")]
        inner += [f"method.{k}" for k in method_keys(cls) if k in (head, key) or k.endswith(f".{head}")]
        if inner:
            raise UserError(f"unknown setting '{key}'; did you mean {' or '.join(inner)}?")
        raise unknown("setting", key, top)
    if head == "method":
        known = method_keys(cls)
        if tail not in known:
            close = nearest(tail, known) or [k for k in known if k.endswith(f".{tail}")]
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has: {', '.join(known)}"
            raise UserError(f"method '{name}' has no hyper-parameter '{tail}'; {hint}")
    elif head in SECTIONS:
        known = [f.name for f in fields(SECTIONS[head])]  # type: ignore[arg-type]
        if not tail or tail not in known:
            raise unknown("setting", key, [f"{head}.{k}" for k in known])
    elif tail:
        raise UserError(f"'{head}' is a single value; write {head}=…")


def from_dict(raw: Mapping[str, Any], load_method: MethodLoader) -> RunConfig:
    """The inverse of :func:`to_dict`; values are checked again."""
    return _build(raw, load_method(str(raw["method_name"])), str(raw["method_name"]))
