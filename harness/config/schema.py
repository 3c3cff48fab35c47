"""The configuration of a run: its sections and settings, each with its meaning and its valid range."""

from __future__ import annotations

import re
from dataclasses import Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any

from harness.config.fields import COUNTS_BY_OUTCOME, NEVER_COUNTS, counts, hp


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
    demonstrations: str = hp(
        "", "file of demonstrations for fine-tuning, JSON lines with prompt and response; empty is the "
        "benchmark's own right answers", absent=COUNTS_BY_OUTCOME,
    )  # fmt: skip


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
    micro_batch_tokens: int | None = hp(
        None, "tokens per pass at most, prompts counted once; null is no limit; does not change the numbers",
        ge=1, absent=None,
    )  # fmt: skip
    old_pass: str = hp(
        "auto",
        "log-probs before the update: those that the built-in sampler took while it drew, where they are the "
        "same to rounding (fp32 or wider), or always a pass of their own",
        choices=("auto", "always"), absent="auto",
    )  # fmt: skip
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
    tracking: str = hp(
        "", "a live copy of metrics.jsonl: empty for none, or wandb", choices=("", "wandb"),
        absent=NEVER_COUNTS,
    )  # fmt: skip
    random_reward: bool = hp(False, "control: verdicts are replaced by fair coin flips in training")
    diagnostics: list[str] = field(
        default_factory=list,
        metadata={"help": "further measurements in the log; `entrobench methods` names them", "absent": []},
    )


@dataclass
class SftConfig:
    """Steps on demonstrations before the method's own: SFT, then RL as one run (docs/fine-tuning.md)."""

    steps: int = hp(0, "steps on demonstrations before the first rollout", ge=0, absent=COUNTS_BY_OUTCOME)
    method: str = hp("sft", "fine-tuning method of these steps", absent=COUNTS_BY_OUTCOME)
    settings: list[str] = field(
        default_factory=list,
        metadata={
            "help": "hyper-parameters of that method, e.g. [alpha:0.5]", "absent": COUNTS_BY_OUTCOME,
        },
    )  # fmt: skip
    batch: int = hp(128, "demonstrations of one step", ge=1, absent=COUNTS_BY_OUTCOME)
    minibatches: int = hp(
        4, "optimiser steps per pass over a step's demonstrations", ge=1, absent=COUNTS_BY_OUTCOME
    )
    epochs: int = hp(1, "passes over a step's demonstrations", ge=1, absent=COUNTS_BY_OUTCOME)
    lr: float = hp(1e-4, "peak learning rate of AdamW in these steps", gt=0, absent=COUNTS_BY_OUTCOME)
    warmup_steps: int = hp(5, "optimiser steps of linear warm-up", ge=0, absent=COUNTS_BY_OUTCOME)


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
    frontier_problems: str = hp(
        "auto", "validation problems of the frontier: a number, all, or auto, as many as keep frontier and "
        "probe within a quarter of training's tokens", absent=COUNTS_BY_OUTCOME,
    )  # fmt: skip
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
    sft: SftConfig = field(default_factory=SftConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = hp(1, "seed of prompts, sampling and minibatch order", ge=0)
    device: str = hp("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    runs_dir: str = hp("runs", "where the folders of the runs are", absent=NEVER_COUNTS)

    @property
    def last_step(self) -> int:
        """Number of the last step that the run may take, those on demonstrations before it included."""
        return self.sft.steps + self.train.steps


SECTIONS: dict[str, Any] = {
    f.name: f.default_factory for f in fields(RunConfig) if is_dataclass(f.default_factory)
}


def to_dict(run: RunConfig) -> dict[str, Any]:
    """The run as plain values, ``method`` with its hyper-parameters."""
    return dict(_plain(run))


def identity_dict(run: RunConfig) -> dict[str, Any]:
    """Of :func:`to_dict` what influences the numbers, so that equal numbers have equal identities."""
    out: dict[str, Any] = {}
    for f in _fields(RunConfig):
        value = getattr(run, f.name)
        if f.name in SECTIONS:
            inner = ((g, getattr(value, g.name)) for g in _fields(SECTIONS[f.name]))
            kept = {g.name: own for g, own in inner if counts(g, own)}
            out |= {f.name: kept} if kept else {}
        elif f.name == "method":
            out[f.name] = _plain(value)
        elif f.name != "method_name" and counts(f, value):
            out[f.name] = value
    return out


def _plain(value: Any) -> Any:
    """``asdict`` for values of settings, of which only lists are copied: a plan makes a thousand."""
    cls: Any = type(value)
    own = _fields(cls)
    if own:
        return {f.name: _plain(getattr(value, f.name)) for f in own}
    return list(value) if isinstance(value, list) else {} if is_dataclass(value) else value


@cache
def _fields(cls: Any) -> tuple[Field[Any], ...]:
    """The fields of a dataclass; none of another type."""
    return fields(cls) if is_dataclass(cls) else ()


def slug(text: str) -> str:
    """``text`` as a file-name part."""
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", text).strip("-")
