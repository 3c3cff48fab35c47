"""TRL's GRPOTrainer beside our trainer: the same weights, prompts, settings and frozen completions."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import RunConfig
from harness.model.policy import Policy
from harness.problems.problem import Benchmark, Problem, verify_all
from harness.run.compose import compose
from harness.run.set_up import open_run
from harness.stages.base import Minibatch, Stages
from harness.stages.batch import Batch
from harness.stages.defaults import ShuffledPrompts, group_normalised
from harness.stages.token_stats import LOGP
from harness.train.trainer import Trainer
from harness.train.update import UpdateLog, backward
from tests.performance import real_model

#: TRL divides the centred reward by std + 1e-4, the harness by std + 1e-6.
TRL_STD_EPS = 1e-4
#: Our name of the reduction that each of TRL's loss types makes.
AGGREGATION_OF = {
    "grpo": "seq-mean-token-mean",
    "bnpo": "token-mean",
    "dapo": "token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
}


@dataclass(frozen=True)
class Settings:
    """What both trainers are set to; ``micro_batches`` are TRL's gradient-accumulation steps per update."""

    prompts: int = 16
    group_size: int = 8
    minibatches: int = 4
    epochs: int = 2
    micro_batches: int = 1
    max_tokens: int = 24
    lr: float = 1e-6  # small: the policies must not drift apart, or the sampled lengths would
    eps: float = 0.2
    beta: float = 0.0
    loss_type: str = "grpo"
    seed: int = 1
    model: str = "micro"
    real: bool = False  # problems of a real model, not of the testbed; every response has max_tokens

    @property
    def rows(self) -> int:
        """Rollouts of one step."""
        return self.prompts * self.group_size

    def run(self) -> RunConfig:
        """The same settings as a run of ours."""
        settings = {
            "method.eps_low": self.eps, "method.eps_high": self.eps, "method.kl_coef": self.beta,
            "method.aggregation": AGGREGATION_OF[self.loss_type], "model.path": self.model,
            "rollout.prompts_per_step": self.prompts, "rollout.group_size": self.group_size,
            "rollout.max_response_tokens": self.max_tokens, "train.lr": self.lr,
            "train.minibatches": self.minibatches, "train.epochs": self.epochs, "train.steps": 1_000_000,
            "seed": self.seed, "device": "cpu",
        }  # fmt: skip
        return compose(settings)


class Scratch:
    """A temporary folder for what TRL insists on having a place for."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="entrobench-trl-"))

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


#: A rollout step of SmolLM2-135M: 4 prompts of GSM8K x 4 responses of 48 tokens, in two optimiser steps.
REAL = Settings(
    prompts=4, group_size=4, minibatches=2, epochs=1, max_tokens=48, model=real_model.MODEL, real=True
)


def our_trainer(settings: Settings) -> Trainer:
    """Our trainer on the settings' model, before its first step."""
    run = settings.run()
    if settings.real:
        torch.set_num_threads(1)
        policy, benchmark = real_model.Endless.of(real_model.policy()), real_model.problems()
    else:
        policy, benchmark = open_run(run)
    return Trainer(run, policy, benchmark, run.method.stages())


def problems_of(trainer: Trainer, steps: int) -> list[Problem]:
    """The problems our trainer will meet in its first ``steps`` steps, in order."""
    run = trainer.run
    source = ShuffledPrompts()
    source.bind(trainer.benchmark.problems(run.data.train_split), run.seed)
    return source.draw(steps * run.rollout.prompts_per_step)


def trl_trainer(
    settings: Settings,
    policy: Policy,
    benchmark: Benchmark,
    problems: Sequence[Problem],
    folder: Path,
    *,
    steps: int = 1,
    callbacks: Sequence[Any] = (),
    rollout_func: Any = None,
    reference: Policy | None = None,
) -> Any:
    """A GRPOTrainer on a copy of ``policy``'s weights, set as ``settings`` say.

    The defaults of TRL that would make it another computation are switched off: bf16, gradient checkpointing
    (slower on purpose, to save memory), shuffled prompts, and the ratio on the KL term.

    Args:
        steps: rollout steps that ``train()`` makes.
        rollout_func: replaces TRL's generation, to feed frozen completions.
        reference: policy whose weights the KL refers to (default: the same as ``policy``).

    Raises:
        ImportError: TRL is not installed; the message names the extra.
    """
    try:
        from datasets import Dataset
        from transformers.utils import logging
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        raise ImportError(f"this needs TRL ({error}); install it with: pip install '.[peers]'") from error
    logging.set_verbosity_error()
    accumulated = settings.minibatches * settings.micro_batches
    args = GRPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False,
        per_device_train_batch_size=settings.rows // accumulated, steps_per_generation=accumulated,
        gradient_accumulation_steps=settings.micro_batches, num_iterations=settings.epochs,
        num_generations=settings.group_size, max_completion_length=settings.max_tokens, temperature=1.0,
        top_p=1.0, top_k=0, loss_type=settings.loss_type, scale_rewards="group", epsilon=settings.eps,
        beta=settings.beta, use_bias_correction_kl=False, shuffle_dataset=False, seed=settings.seed,
        learning_rate=settings.lr, lr_scheduler_type="constant_with_warmup", warmup_steps=5, weight_decay=0.0,
        adam_beta1=0.9, adam_beta2=0.999, max_grad_norm=1.0, optim="adamw_torch",
        max_steps=steps * settings.minibatches * settings.epochs,
        logging_steps=settings.minibatches * settings.epochs, report_to=[], disable_tqdm=True,
        save_strategy="no", dataloader_pin_memory=False,
        generation_kwargs={"min_new_tokens": settings.max_tokens} if settings.real else None,
    )  # fmt: skip
    by_id = {problem.id: problem for problem in problems}

    def verified(
        completions: list[str], completion_ids: list[list[int]], problem: list[str], **_: Any
    ) -> list[float]:
        """The reward: our verifier's verdict."""
        trainer.generated_tokens += sum(map(len, completion_ids))
        verdicts = verify_all(benchmark, [by_id[i] for i in problem], completions)
        return [float(verdict.correct) for verdict in verdicts]

    rows = {"prompt": [p.prompt for p in problems], "problem": [p.id for p in problems]}
    trainer = GRPOTrainer(
        model=copy.deepcopy(policy.model), reward_funcs=verified, args=args,
        train_dataset=Dataset.from_dict(rows), processing_class=copy.deepcopy(policy.tokenizer),
        callbacks=list(callbacks), rollout_func=rollout_func,
    )  # fmt: skip
    trainer.generated_tokens = 0
    trainer.remove_callback(_printer())
    trainer.current_gradient_accumulation_steps = settings.micro_batches
    if reference is not None and trainer.ref_model is not None:
        trainer.ref_model.load_state_dict(reference.model.state_dict())
    return trainer


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


# --- frozen completions ---------------------------------------------------------------------------------


def perturbed(policy: Policy, scale: float, seed: int) -> Policy:
    """A copy whose every weight is off by noise of ``scale`` times the standard deviation of its tensor."""
    copied = policy.frozen_copy()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in copied.model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight += scale * float(weight.std()) * noise
    return copied


def frozen_rollouts(trainer: Trainer, *, old: Policy | None = None, reference: Policy | None = None) -> Batch:
    """Verified rollouts of our sampler with TRL's advantages, and old and reference log-probs.

    Args:
        old: policy of the old log-probs (default: the trainer's own).
        reference: policy of the reference log-probs (default: none are taken).
    """
    trainer.counters.step += 1
    ctx = trainer.context()
    batch = trainer.rollouts.run_program(ctx)
    solved = bool(batch.correct_B.any())
    # a random model solves nothing; made-up rewards keep its advantages, and so the loss, from being all zero
    batch = batch.with_(reward_B=batch.correct_B if solved else (batch.sample_B % 2).float())
    batch = batch.with_tags(grpo_advantage=group_normalised(batch.correct_B, batch.group_B))
    batch = batch.with_(old=scored(trainer, batch, old))
    if reference is not None:
        with torch.no_grad():
            batch = batch.with_(ref_logp_BT=reference.stats(batch, [LOGP])["logp"])
    advantage_B = group_normalised(batch.rewards(), batch.group_B, eps=TRL_STD_EPS)
    return batch.with_(advantage_BT=torch.where(batch.mask_BT, advantage_B[:, None], 0.0))


def scored(trainer: Trainer, batch: Batch, policy: Policy | None = None) -> Mapping[str, Tensor]:
    """The old pass over ``batch``, also where the sampler has taken it already, under ``policy``."""
    train = trainer.run.train
    passed = (policy or trainer.policy).scores(
        batch, trainer.old_stats(), train.micro_batch_rows, train.micro_batch_tokens
    )
    return dict(passed)


def trl_inputs(batch: Batch, items: int | None = None) -> dict[str, Tensor]:
    """``batch`` in TRL's names; ``items`` are the tokens of the whole generation batch."""
    inputs = {
        "prompt_ids": batch.prompt_BP,
        "prompt_mask": batch.prompt_mask_BP.long(),
        "completion_ids": batch.response_BT,
        "completion_mask": batch.mask_BT.long(),
        "advantages": batch.advantages()[:, 0],
        "old_per_token_logps": batch.old["logp"],
        "num_items_in_batch": torch.tensor(items if items is not None else int(batch.mask_BT.sum())),
    }
    if batch.ref_logp_BT is not None:
        inputs["ref_per_token_logps"] = batch.ref_logp_BT
    return inputs


# --- loss and gradient of one optimiser step ------------------------------------------------------------


@dataclass(frozen=True)
class LossAndGradient:
    """Loss of an optimiser step and its gradient by parameter name."""

    loss: float
    gradient: Mapping[str, Tensor]

    @property
    def norm(self) -> float:
        return float(torch.stack([g.double().norm() for g in self.gradient.values()]).norm())

    def relative_gap(self, other: LossAndGradient) -> float:
        """Norm of the difference of the gradients over the norm of ``other``'s."""
        gaps = [(g - other.gradient[name]).double().norm() for name, g in self.gradient.items()]
        return float(torch.stack(gaps).norm()) / other.norm


def our_loss(
    policy: Policy, stages: Stages, batch: Batch, *, micro_rows: int, width: int
) -> tuple[LossAndGradient, UpdateLog]:
    """Our optimiser step's loss and gradient on ``batch``, and what it logged."""
    log = UpdateLog()
    policy.model.zero_grad(set_to_none=True)
    loss, _ = backward(policy, stages, Minibatch(batch), log, micro_rows=micro_rows, width=width)
    return LossAndGradient(loss, _gradient(policy.model)), log


def trl_loss(trainer: Any, batch: Batch, micro_batches: int) -> LossAndGradient:
    """TRL's loss and gradient, accumulated over ``micro_batches`` equal parts of ``batch``."""
    trainer.model.zero_grad(set_to_none=True)
    trainer.model.train()
    items, total = int(batch.mask_BT.sum()), 0.0
    for part in torch.arange(len(batch)).tensor_split(micro_batches):
        loss = trainer._compute_loss(trainer.model, trl_inputs(batch.rows(part), items))
        loss.backward()
        total += float(loss.detach())
    return LossAndGradient(total, _gradient(trainer.model))


def _gradient(model: Any) -> dict[str, Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
