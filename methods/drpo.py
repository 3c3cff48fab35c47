r"""DRPO: decoupled reward policy optimisation, for short answers (arXiv 2510.04474).

Shortness re-weights right responses among themselves only; wrong ones are pushed down by a soft-max of their
own, so a right but long answer never gets a negative signal. With s_i the token mean of the CURRENT log-probs
of response i and l_i its length over the token limit, for each prompt with right and wrong responses:

    w_i = exp((1 - l_i) / Lambda)                                              of the right ones
    positive = sum_i w_i s_i / sum_i w_i,   negative = tau Z / sg[Z],   Z = sum over wrong ones exp(s_i / tau)
    J = 1 / (number of ALL prompts) sum over these prompts of (positive - negative)
    D = token mean of old_logp - logp (``kl``) or of old_logp - logp + r - 1 (``low_var_kl``)
    loss = -J + sg[ max(beta (D - delta), 0) ] D

negative has the gradient of tau log Z, the soft-max weights exp(s_i / tau) / Z, but the value tau. There is
no advantage and no clip. Counts are of the optimiser step, which holds all responses to a prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    LOGP,
    Advantage,
    Batch,
    Loss,
    Method,
    Out,
    Regulariser,
    RunConfig,
    Stages,
    Stats,
    StepContext,
    UserError,
    WholeGroups,
    aggregate,
    check_whole,
    grpo_stages,
    hp,
    kl_estimate,
    refuse_lone_rollouts,
    refuse_split_groups,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: Name of the code -> estimator of KL(old || current), in which old and current change places.
KL_TYPES = {"kl": "k1", "low_var_kl": "k3"}


def log_length_weight(length_B: Tensor, limit: int, lambda_: float) -> Tensor:
    """log w, ``[B]``."""
    return (1 - length_B.double() / limit) / lambda_


def shares(log_weight_B: Tensor, chosen_B: Tensor, group_B: Tensor) -> Tensor:
    """Soft-max of ``log_weight_B`` over the chosen rows of each group, ``[B]`` float64; 0 for the others."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    top_B, total_B = soft_max_parts(log_weight_B.double(), chosen_B, index_B)
    return torch.where(chosen_B, (log_weight_B - top_B).exp() / total_B, 0.0)


def soft_max_parts(value_B: Tensor, chosen_B: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
    """The group's largest chosen value, and the sum of exp(value - it) over its chosen rows, ``[B]`` each.

    0 and 1 where a group has no chosen row.
    """
    groups = int(index_B.max()) + 1 if len(index_B) else 0
    top_G = value_B.new_full((groups,), -math.inf)
    top_G = top_G.scatter_reduce(0, index_B, value_B.masked_fill(~chosen_B, -math.inf), "amax")
    top_B = torch.where(top_G.isinf(), 0.0, top_G)[index_B]
    part_B = torch.where(chosen_B, (value_B - top_B).exp(), 0.0)
    total_B = value_B.new_zeros(groups).index_add(0, index_B, part_B)[index_B]
    return top_B, torch.where(total_B > 0, total_B, 1.0)


def with_contrast(reward_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """Bool ``[B]``: right and wrong responses of the prompts that have both."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    right_B, wrong_B = reward_B == 1, reward_B == 0
    groups = int(index_B.max()) + 1 if len(index_B) else 0
    both_G = torch.ones(groups, dtype=torch.bool)
    for kind_B in (right_B, wrong_B):
        both_G &= torch.zeros(groups).index_add(0, index_B, kind_B.float()) > 0
    return right_B & both_G[index_B], wrong_B & both_G[index_B]


def row_means(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over a response's tokens, ``[B]``."""
    mask = mask_BT.bool()
    return torch.where(mask, value_BT, 0.0).sum(1) / mask.sum(1).clamp(min=1)


@dataclass(frozen=True)
class LengthShare(Advantage):
    """w_i / sum w of a right response, whose prompt has a wrong one; 0 for all others."""

    lambda_: float

    def of(self, batch: Batch, limit: int) -> Tensor:
        """``[B]`` float64; a reward that is neither 1 nor 0 is neither right nor wrong."""
        right_B, _ = with_contrast(batch.rewards(), batch.group_B)
        log_weight_B = log_length_weight(batch.length_B, limit, self.lambda_)
        return shares(log_weight_B, right_B, batch.group_B)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward_B = batch.rewards()
        if not bool(((reward_B == 0) | (reward_B == 1)).all()):
            raise UserError(
                "drpo tells right from wrong by rewards of exactly 1 and 0, and this step has others; take a "
                "reward of 1 for right and 0 for wrong"
            )
        right_B, wrong_B = with_contrast(reward_B, batch.group_B)
        share_B = self.of(batch, ctx.max_response_tokens)
        metrics = {"drpo/used_rows": float((right_B | wrong_B).double().mean())}
        return Out(share_B.to(reward_B.dtype), metrics)


@dataclass(frozen=True)
class DecoupledLoss(Loss):
    """-J above. The mean over responses is turned into one over prompts by a factor on every response."""

    tau: float
    aggregation: str = "seq-mean-token-mean"

    old_stats = (LOGP,)
    current_stats = (LOGP,)
    minibatch_scope = True
    reads_tags = frozenset({"group_rows"})

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        check_whole(batch, batch.tags["group_rows"])
        logp = current["logp"]
        _, index_B = torch.unique(batch.group_B, return_inverse=True)
        _, wrong_B = with_contrast(batch.rewards(), batch.group_B)
        score_B = row_means(logp, batch.mask_BT) / self.tau
        top_B, total_B = soft_max_parts(score_B, wrong_B, index_B)
        per_prompt = len(batch) / max(int(index_B.max()) + 1, 1)
        right_B = per_prompt * batch.advantages()[:, 0].to(logp.dtype)
        wrong_B = torch.where(wrong_B, per_prompt / total_B, 0.0)
        pushed_B = wrong_B * torch.where(wrong_B > 0, score_B - top_B, 0.0).exp()
        prepared = {
            "right": right_B[:, None],
            "wrong": wrong_B[:, None],
            "top": top_B[:, None],
            # for the log: what a token's log-prob is multiplied with, and that nothing is clipped
            "advantage": (right_B - pushed_B)[:, None],
            "low": torch.tensor(-math.inf),
            "high": torch.tensor(math.inf),
        }
        return Out(prepared)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        logp, wrong_B1 = current["logp"], prepared["wrong"]
        score_B1 = row_means(logp, batch.mask_BT)[:, None] / self.tau
        # where: any response's score may be far above the wrong ones'
        above_B1 = torch.where(wrong_B1 > 0, score_B1 - prepared["top"], 0.0)
        return self.tau * wrong_B1 * above_B1.exp() - prepared["right"] * logp


@dataclass(frozen=True)
class OldPolicyHinge(Regulariser):
    """sg[ max(beta (D - delta), 0) ] D above."""

    beta: float
    delta: float
    kl_type: str
    aggregation: str = "token-mean"

    old_stats = (LOGP,)
    current_stats = (LOGP,)
    minibatch_scope = True

    def coefficient(self) -> float:
        return 1.0

    def estimate(self, batch: Batch, logp_BT: Tensor) -> Tensor:
        """The tokens' part of D, ``[B,T]``."""
        return kl_estimate(KL_TYPES[self.kl_type], batch.old["logp"], logp_BT, value_clamp=None)

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        kl = aggregate(self.aggregation, self.estimate(batch, current["logp"]), batch.train_mask_BT)
        hinge = (self.beta * (kl - self.delta)).clamp(min=0)
        return Out({"hinge": hinge}, {"drpo/kl": float(kl), "drpo/hinge": float(hinge)})

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        return prepared["hinge"] * self.estimate(batch, current["logp"])


@register("drpo")
@dataclass(frozen=True)
class DRPO(Method):
    """Right responses compete by length, wrong ones by likelihood, near the old policy."""

    lambda_: float = hp(0.1, "Lambda, how little length matters, in units of the token limit", gt=0)
    tau: float = hp(10.0, "temperature of the soft-max over wrong responses, nats", gt=0)
    delta: float = hp(1e-4, "KL to the old policy that is free, nats per token", ge=0)
    beta: float = hp(1e3, "slope of the penalty beyond it; 0 is none", ge=0)
    kl_type: str = hp("kl", "estimator of that KL", choices=tuple(KL_TYPES))

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "drpo compares right and wrong responses to a prompt")
        refuse_split_groups(run, "drpo")

    def stages(self) -> Stages:
        hinge = OldPolicyHinge(self.beta, self.delta, self.kl_type)
        return grpo_stages().with_(
            advantage=LengthShare(self.lambda_),
            plan=WholeGroups(),
            loss=DecoupledLoss(self.tau),
            regularisers=(hinge,) if self.beta else (),
        )
