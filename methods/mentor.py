r"""MENTOR: selective expert guidance at uncertain tokens (arXiv 2510.04140).

To N1 on-policy rollouts of a prompt come N2 mixed ones, whose tokens are drawn with an expert pi* that has
the policy's vocabulary; the mixture leans to it where the policy is unsure:

    pi_mix = (1 - w_t) pi + w_t pi*,   w_t = min(1, H_t / gamma),   H_t = -sum pi log(pi + 1e-8)
    gamma <- max(quantile_0.95 of the entropies of the step's on-policy tokens, 1.5), 999 in the first step

With mu, sd (ddof 1) over the prompt's N1 on-policy rewards alone:

    on-policy  A = (R - mu) / (sd + 1e-6)
    mixed      A = alpha max(R - mu, 0),   alpha = 0.5 (1 + cos(pi step / 120)) for step < 120, then 0

A mixed rollout that fails costs nothing, and from step 120 on none is drawn. Ratios divide by pi for all
rollouts; tokens of mixed ones count in the mean even where their advantage is 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    Advantage,
    Batch,
    Component,
    Draw,
    FixedBounds,
    Generate,
    Method,
    Mixture,
    Out,
    PolicyLoss,
    Program,
    Prompt,
    Reward,
    RolloutProgram,
    RunConfig,
    Stages,
    StepContext,
    Verify,
    concat,
    group_normalised,
    grpo_stages,
    hp,
    refuse_lone_rollouts,
    register,
    rows_by_group,
    second_model_path,
)

if TYPE_CHECKING:
    from torch import Tensor

#: gamma of the first step, in nats: the expert is as good as off.
FIRST_GAMMA = 999.0
#: How the paper wants a response to look.
THINK = re.compile(r"\s*<think>.*</think>.*\\boxed\{.*\}.*", re.DOTALL)


def policy_entropy(probs_NV: Tensor, log_eps: float = 1e-8) -> Tensor:
    """H = -sum p log(p + ``log_eps``), ``[N]``, nats."""
    return -(probs_NV * (probs_NV + log_eps).log()).sum(-1)


def expert_share(probs_NV: Tensor, gamma: float, log_eps: float = 1e-8) -> Tensor:
    """w = min(1, H / gamma), ``[N]``, from the policy's probabilities ``[N,V]``."""
    return (policy_entropy(probs_NV, log_eps) / gamma).clamp(max=1.0)


def mixed_advantages(
    reward_B: Tensor, group_B: Tensor, expert_B: Tensor, alpha: float, *, cap: float = 99.0, eps: float = 1e-6
) -> Tensor:
    """A above, ``[B]``.

    Args:
        expert_B: bool, rows that were drawn with the expert.
        alpha: weight of their advantages.
        cap: the most that a group's mixed advantages add up to before ``alpha`` (99 in the code: inactive).
        eps: added to the standard deviation.
    """
    advantage_B = torch.zeros_like(reward_B)
    own = (~expert_B).nonzero().flatten()
    advantage_B[own] = group_normalised(reward_B[own], group_B[own], eps=eps)
    for rows in rows_by_group(group_B):
        index = torch.tensor(rows)
        mixed, plain = index[expert_B[index]], index[~expert_B[index]]
        if len(mixed):
            surplus = (reward_B[mixed] - reward_B[plain].double().mean().to(reward_B.dtype)).clamp(min=0)
            total = float(surplus.sum())
            advantage_B[mixed] = alpha * (surplus * (cap / total) if total > cap else surplus)
    return advantage_B


def alpha_at(step: int, decay_steps: int, weight: float = 1.0) -> float:
    """alpha of ``step``, counted from 1."""
    return weight * 0.5 * (1 + math.cos(math.pi * step / decay_steps)) if step < decay_steps else 0.0


class EntropyLevel(Component):
    """gamma, the entropy from which on the expert alone draws (nats): a quantile of the step before."""

    def __init__(self, quantile: float, floor: float) -> None:
        self.gamma, self._quantile, self._floor = FIRST_GAMMA, quantile, floor

    def state_dict(self) -> dict[str, Any]:
        return {"gamma": self.gamma}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.gamma = float(state["gamma"])

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        """From the old pass; the step's own rollouts are drawn already, so the next step's use it."""
        mixed_B1 = is_expert(batch)[:, None]
        share_BT = (batch.old["entropy"] / self.gamma).clamp(max=1.0)
        shares = share_BT[batch.mask_BT & mixed_B1]
        entropy = batch.old["entropy"][batch.mask_BT & ~mixed_B1].float()
        self.gamma = max(quantile(entropy, self._quantile), self._floor)
        metrics = {"mentor/gamma": self.gamma}
        return metrics | ({"mentor/expert_share": float(shares.mean())} if len(shares) else {})


def quantile(values_N: Tensor, q: float) -> float:
    """Linear quantile, as ``torch.quantile`` has it, of any number of values."""
    ordered, at = values_N.sort().values, q * (len(values_N) - 1)
    low = int(at)
    return float(torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], at - low))


def is_expert(batch: Batch) -> Tensor:
    """Bool ``[B]``: rows that were drawn with the expert."""
    return batch.tag("is_expert") > 0


@dataclass(frozen=True)
class GuidedRollout(RolloutProgram):
    """The plain rollouts, and ``mixed`` more to each prompt in the same group, drawn with the expert."""

    level: EntropyLevel
    expert: str
    mixed: int
    decay_steps: int
    weight: float
    log_eps: float = 1e-8

    engine_needs = frozenset({"mixture"})
    writes_tags = frozenset({"is_expert", "extra"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        batch = yield Generate([Prompt(p, group) for group, p in enumerate(problems)], ctx.group_size)
        batch = batch.with_tags(is_expert=torch.zeros(len(batch)), extra=torch.zeros(len(batch)))
        if self.mixed and alpha_at(ctx.step, self.decay_steps, self.weight) > 0:
            share = partial(expert_share, gamma=self.level.gamma, log_eps=self.log_eps)
            prompts = [Prompt(p, group, stream=1) for group, p in enumerate(problems)]
            more = yield Generate(
                prompts, self.mixed, sample_offset=ctx.group_size, mixture=Mixture(self.expert, share)
            )
            ones = torch.ones(len(more))
            batch = concat([batch, more.with_tags(is_expert=ones, extra=ones)])
        return (yield Verify(batch))


@dataclass(frozen=True)
class AnswerAndFormat(Reward):
    """(1 - f) for a right answer, and f for a response of the wanted form."""

    format_share: float = 0.1
    form: str = "answer"

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        formed_B = torch.tensor([float(x) for x in self.formed(batch)])
        reward_B = (1 - self.format_share) * batch.correct_B + self.format_share * formed_B
        return Out(reward_B, {"mentor/format": float(formed_B.mean())})

    def formed(self, batch: Batch) -> list[bool]:
        """Which rows have the form: an answer that can be read, or ``<think>…</think>…\\boxed{…}``."""
        if self.form == "answer":
            return [verdict.canonical is not None for verdict in batch.verdicts or ()]
        return [THINK.fullmatch(text) is not None for text in batch.texts]


@dataclass(frozen=True)
class GuidedAdvantage(Advantage):
    """A of :func:`mixed_advantages`, at the step's alpha."""

    decay_steps: int
    weight: float
    cap: float = 99.0
    eps: float = 1e-6

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        alpha, mixed_B = alpha_at(ctx.step, self.decay_steps, self.weight), is_expert(batch)
        metrics = {"mentor/alpha": alpha}
        if bool(mixed_B.any()):
            metrics["mentor/mixed_accuracy"] = float(batch.correct_B[mixed_B].mean())
            metrics["mentor/own_accuracy"] = float(batch.correct_B[~mixed_B].mean())
        advantage_B = mixed_advantages(
            batch.rewards(), batch.group_B, mixed_B, alpha, cap=self.cap, eps=self.eps
        )
        return Out(advantage_B, metrics)


@register("mentor")
@dataclass(frozen=True)
class MENTOR(Method):
    """GRPO with a few rollouts that an expert helps with where the policy is unsure."""

    expert: str = hp(
        "auto",
        "hub id, folder or shipped model; auto is <model.path>-expert, base the policy as it was at first",
        names_model=True,
    )  # fmt: skip
    mixed: int = hp(4, "N2, rollouts of a prompt that are drawn with the expert", ge=1)
    entropy_quantile: float = hp(0.95, "quantile of the on-policy entropies that gamma is", ge=0, le=1)
    gamma_floor: float = hp(1.5, "least gamma, nats (in the code only)", gt=0)
    decay_steps: int = hp(120, "steps in which alpha falls to 0", ge=1)
    expert_weight: float = hp(1.0, "alpha at the start", ge=0)
    expert_cap: float = hp(99.0, "most that a group's mixed advantages add up to", gt=0)
    format_share: float = hp(0.1, "share of the reward that is for the form (0.2 for Llama)", ge=0, lt=1)
    form: str = hp(
        "answer", "what the form is: an answer that is read, or the paper's", choices=("answer", "think")
    )
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "mentor compares mixed rollouts with the prompt's own")
        second_model_path(run, "method.expert", self.expert)

    def stages(self) -> Stages:
        level = EntropyLevel(self.entropy_quantile, self.gamma_floor)
        return grpo_stages().with_(
            rollout=GuidedRollout(level, self.expert, self.mixed, self.decay_steps, self.expert_weight),
            reward=AnswerAndFormat(self.format_share, self.form),
            advantage=GuidedAdvantage(self.decay_steps, self.expert_weight, self.expert_cap),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high), dual_clip=self.dual_clip,
                aggregation="token-mean",
            ),
            components={"mentor": level},
        )  # fmt: skip
