"""The configuration of a run: structured, composed with Hydra's override grammar, checked before any work."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from harness import catalog
from harness.composition import from_words, is_composed, method_keys, parse
from harness.errors import UserError, nearest, unknown
from harness.method import NEVER_COUNTS, Method, check_ranges, counts, hp
from harness.overrides import resolve
from harness.rollout_settings import check_rollouts

#: Resolves a method name to its class; the registry's ``load``.
MethodLoader = Callable[[str], type[Method]]


@dataclass
class ModelConfig:
    """Which policy is trained."""

    path: str = hp("micro", "hub id, local folder, or the name of a model that a benchmark ships")
    revision: str | None = hp(None, "hub revision")
    dtype: str = hp("float32", "type of the weights that are trained", choices=("float32", "bfloat16"))
    compute_dtype: str = hp(
        "same", "type of every pass, in sampling and training: that of the weights, or bfloat16",
        choices=("same", "bfloat16"), absent="same",
    )  # fmt: skip
    attention: str = hp(
        "auto", "attention back end; auto is sdpa where the model has it",
        choices=("auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3"), absent="auto",
    )  # fmt: skip


@dataclass
class DataConfig:
    """Which problems it is trained on."""

    benchmark: str = hp("micro", "training problem set")
    train_split: str = hp("train", "split the prompts are drawn from")
    validation_split: str = hp("validation", "split of the entropy probe, the frontier and the tuning score")
    template: str = hp("", "prompt template; empty is the benchmark's own", absent="")


@dataclass
class RolloutConfig:
    """How responses are sampled in training."""

    prompts_per_step: int = hp(16, "prompts of one step", ge=1)
    group_size: int = hp(8, "responses per prompt", ge=1)
    temperature: float = hp(1.0, "sampling temperature; the loss divides logits by it too", gt=0)
    max_response_tokens: int = hp(24, "token limit of a response", ge=1)
    engine: str = hp("builtin", "what samples in training", choices=("builtin", "vllm"), absent="builtin")
    engine_settings: list[str] = field(
        default_factory=list,
        metadata={"help": "options of the engine, e.g. [gpu_memory:0.4,batch_rows:128]", "absent": []},
    )
    correction: str = hp(
        "truncated",
        "truncated importance weights where rollouts wait or another engine samples, or none",
        choices=("truncated", "none"),
        absent="truncated",
    )
    correction_cap: float = hp(2.0, "largest importance weight of the correction", ge=1, absent=2.0)
    lag: int = hp(0, "steps that rollouts wait before they train", ge=0, absent=0)
    ratio_to: str = hp(
        "sampling",
        "with a lag, the policy that ratios divide by: the one that sampled, or the one before the update",
        choices=("sampling", "update"),
        absent="sampling",
    )


@dataclass
class TrainConfig:
    """The optimiser and the budget."""

    lr: float = hp(1e-4, "peak learning rate of AdamW", gt=0)
    steps: int = hp(100, "rollout steps at most", ge=1)
    token_budget: int | None = hp(None, "stop once this many tokens were generated; null is no limit", ge=1)
    warmup_steps: int = hp(5, "optimiser steps of linear warm-up", ge=0)
    weight_decay: float = hp(0.0, "AdamW weight decay", ge=0)
    beta1: float = hp(0.9, "AdamW beta1", ge=0, lt=1)
    beta2: float = hp(0.999, "AdamW beta2", ge=0, lt=1)
    max_grad_norm: float = hp(1.0, "gradient-norm clip", gt=0)
    minibatches: int = hp(4, "optimiser steps per pass over the rollouts", ge=1)
    epochs: int = hp(2, "passes over the rollouts", ge=1)
    micro_batch_rows: int = hp(64, "rows per forward and backward pass; does not change the numbers", ge=1)
    activation_checkpointing: bool = hp(
        False, "compute activations again in the backward pass instead of keeping them", absent=NEVER_COUNTS
    )
    logits_chunk_mib: int = hp(64, "fp32 logits held at once by the log-prob operator, MiB", ge=1, absent=64)
    scope: str = hp("minibatch", "what statistics over tokens are taken over", choices=("minibatch", "micro"))
    checkpoint_every: int = hp(20, "rollout steps between checkpoints", ge=1, absent=NEVER_COUNTS)
    keep_checkpoints: int = hp(
        2, "last checkpoints that are kept, besides the weights that were best on validation", ge=1,
        absent=NEVER_COUNTS,
    )  # fmt: skip
    processes: int = hp(
        1, "processes on this machine that share the run; 0 is one for each GPU", ge=0, absent=NEVER_COUNTS
    )
    threads: int = hp(1, "CPU threads; part of the determinism level", ge=1)
    mirror: str = hp(
        "", "a live copy of metrics.jsonl: empty for none, or wandb", choices=("", "wandb"),
        absent=NEVER_COUNTS,
    )  # fmt: skip
    random_reward: bool = hp(False, "control: verdicts are replaced by fair coin flips in training")
    diagnostics: list[str] = field(
        default_factory=list,
        metadata={"help": "further measurements in the log; `entrobench methods` names them", "absent": []},
    )


@dataclass
class ProbeConfig:
    """The one entropy for all: fresh rollouts at T=1 on fixed held-out prompts."""

    every: int = hp(10, "rollout steps between probes", ge=1)
    prompts: int = hp(32, "held-out prompts, the first of the validation split", ge=1)
    samples: int = hp(4, "rollouts per prompt", ge=1)


@dataclass
class EvalConfig:
    """Evaluation of the trained policy."""

    splits: list[str] = field(
        default_factory=lambda: ["test_id", "test_hard", "test_ood"], metadata={"help": "test splits"}
    )
    n: int = hp(64, "samples per problem; pass@k is printed for k <= n/2", ge=1)
    temperature: float = hp(1.0, "sampling temperature", gt=0)
    frontier_every: int = hp(25, "rollout steps between points of the pass@1 / pass@k frontier", ge=1)
    frontier_n: int = hp(64, "samples per validation problem at each point", ge=1)
    batch_rows: int = hp(512, "rows sampled at once", ge=1)
    weights: str = hp(
        "last", "which weights are evaluated: the last, or those of the best frontier point (mean of "
        "validation pass@1 and pass@8)", choices=("last", "best"), absent="last",
    )  # fmt: skip
    benchmarks: list[str] = field(
        default_factory=list,
        metadata={
            "help": "sets that the trained policy is evaluated on, e.g. [aime24,math500]",
            "absent": [],
        },
    )
    profile: str = hp("standard", "evaluation profile of eval.benchmarks", absent="standard")
    profile_settings: list[str] = field(
        default_factory=list,
        metadata={"help": "what differs from the profile, e.g. [n:8,max_tokens:2048]", "absent": []},
    )


@dataclass
class RunConfig:
    """A resolved run."""

    method: Any = None
    method_name: str = "grpo"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = hp(1, "seed of prompts, sampling and minibatch order", ge=0)
    device: str = hp("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    runs_dir: str = hp("runs", "where the folders of the runs are", absent=NEVER_COUNTS)


SECTIONS = {f.name: f.default_factory for f in fields(RunConfig) if is_dataclass(f.default_factory)}


def compose(overrides: Sequence[str], load_method: MethodLoader) -> RunConfig:
    """The run that ``overrides`` describe, e.g. ``["method=steer", "train.lr=2e-4", "method.w_min=0.7"]``.

    Args:
        overrides: Hydra override grammar; ``method=<name>`` chooses the method (default ``grpo``), and
            ``+<station>=<method>`` takes a station from another one (:mod:`harness.composition`).
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
        catalog.methods().find_diagnostic(diagnostic)
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


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The run as plain values, ``method`` with its hyper-parameters."""
    plain = {f.name: getattr(run, f.name) for f in fields(run)}
    return {k: asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for k, v in plain.items()}


def identity_dict(run: RunConfig) -> dict[str, Any]:
    """Of :func:`to_dict` what influences the numbers, so that equal numbers have equal identities."""
    out: dict[str, Any] = {}
    for f in fields(run):
        value = getattr(run, f.name)
        if f.name in SECTIONS:
            inner = {g.name: getattr(value, g.name) for g in fields(value)}
            out[f.name] = {g.name: inner[g.name] for g in fields(value) if counts(g, inner[g.name])}
        elif f.name == "method":
            out[f.name] = asdict(value)
        elif f.name != "method_name" and counts(f, value):
            out[f.name] = value
    return out


def from_dict(raw: Mapping[str, Any], load_method: MethodLoader) -> RunConfig:
    """The inverse of :func:`to_dict`; values are checked again."""
    return _build(raw, load_method(str(raw["method_name"])), str(raw["method_name"]))


def slug(text: str) -> str:
    """``text`` as a file-name part."""
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", text).strip("-")
