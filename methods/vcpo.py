r"""VCPO: variance-controlled off-policy optimisation (arXiv 2602.17616).

For a response i of a minibatch of B, with S_i the summed score function sum_t grad log pi(token t):

    w_i = exp(sum_t (logp_t - rollout_logp_t)),      v_i = min(w_i, threshold)
    b   = sum W R / (sum W + 1e-8)  over the group,  W_i = v_i^2 |S_i|^2 w_i^2   released
                                                     W_i = w_i^2 |S_i|^2         paper
    A_i = (R_i - b) / std of the group's rewards (ddof 0)
    gradient = - 1/B sum_i v_i A_i S_i / len_i

No ratio is clipped. The learning rate of the step is multiplied by sqrt(min(1, ESS / B / base_ess_ratio)),
with the effective sample size ESS = (sum w)^2 / (sum w^2 + 1e-8) of the untruncated weights. b is the
baseline of least variance; the released code counts the weight in it twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    LOGP,
    Advantage,
    Batch,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    ShuffledMinibatches,
    Stages,
    Stats,
    StepContext,
    StepSize,
    TokenWeight,
    UserError,
    group_mean_std,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

AVERAGES = ("mean", "median", "winsorized_mean")
#: Keeps squares of a weight finite in float64; no weight that small or large means anything.
FINITE = 300.0


def log_weights(logp_BT: Tensor, rollout_logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log w of each response, ``[B]``, float64."""
    difference = torch.where(mask_BT.bool(), logp_BT.double() - rollout_logp_BT.double(), 0.0)
    return difference.sum(1).clamp(-FINITE, FINITE)


def distances(logp_BT: Tensor, rollout_logp_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """k3 estimate of KL(rollout || current) and geometric mean of the ratios, ``[B]`` each, for the log."""
    mask = mask_BT.bool()
    d = torch.where(mask, logp_BT.double() - rollout_logp_BT.double(), 0.0).clamp(-FINITE, FINITE)
    length = mask.sum(1) + 1e-8
    return (d.expm1() - d).sum(1) / length, (d.sum(1) / length).exp()


def truncated(log_weight_B: Tensor, threshold: float, clamp: float = 20.0) -> Tensor:
    """v, ``[B]``: at most ``threshold``."""
    return log_weight_B.clamp(-clamp, clamp).exp().clamp(max=threshold)


def effective_sample_size(weight_B: Tensor, eps: float = 1e-8) -> Tensor:
    """(sum w)^2 / (sum w^2 + eps), scalar."""
    return weight_B.sum() ** 2 / ((weight_B**2).sum() + eps)


def rate_multiplier(ess_ratio: float, base: float, rule: str) -> float:
    """Factor on the learning rate of one optimiser step; ``rule`` is sqrt or linear."""
    share = min(1.0, ess_ratio / base)
    if rule not in ("sqrt", "linear"):
        raise ValueError(f"unknown rule '{rule}'; choose sqrt or linear")
    return share**0.5 if rule == "sqrt" else share


def weighted_average(value_N: Tensor, weight_N: Tensor, kind: str, eps: float = 1e-8) -> Tensor:
    """The baseline of one group: weighted mean, weighted median, or mean of values kept within 5 and 95 %."""
    if kind not in AVERAGES:
        raise ValueError(f"unknown average '{kind}'; choose one of {', '.join(AVERAGES)}")
    if not bool(weight_N.any()):
        return value_N.new_zeros(())
    if kind != "mean":
        order = value_N.argsort(stable=True)
        reached = weight_N[order].cumsum(0)

        def quantile(share: float) -> Tensor:
            place = torch.searchsorted(reached, share * reached[-1])
            return value_N[order][place.clamp(max=len(order) - 1)]

        if kind == "median":
            return quantile(0.5)
        value_N = value_N.clamp(quantile(0.05), quantile(0.95))
    return (value_N * weight_N).sum() / (weight_N.sum() + eps)


def baselines(value_B: Tensor, weight_B: Tensor, group_B: Tensor, kind: str, eps: float = 1e-8) -> Tensor:
    """:func:`weighted_average` of each row's group, ``[B]``."""
    out = torch.empty_like(value_B)
    for group in group_B.unique():
        rows = group_B == group
        out[rows] = weighted_average(value_B[rows], weight_B[rows], kind, eps)
    return out


def standardised(reward_B: Tensor, baseline_B: Tensor, group_B: Tensor, floor: float = 1e-8) -> Tensor:
    """(R - b) / std of the group, ddof 0; not divided where the std is at most ``floor``.

    The official code's rule for equal rewards: b is no plain mean, so R - b need not be 0 there.
    """
    _, std = group_mean_std(reward_B, group_B, ddof=0)
    return (reward_B - baseline_B) / torch.where(std > floor, std, 1.0)


@dataclass(frozen=True)
class VarianceControl(TokenWeight):
    """v_i A_i on every token: the advantage exists only at the update, where gradient norms are known."""

    threshold: float
    paper: bool
    average: str = "mean"
    use_is_weights: bool = True
    use_truncated: bool = False
    by_length: bool = False
    norm_by_std: bool = True

    needs_row_grad_norms = True
    minibatch_scope = True
    corrects_rollouts = True
    current_stats = (LOGP,)
    reads_tags = frozenset({"grad_norm"})

    def baseline_weights(self, log_weight_B: Tensor, norm_B: Tensor, length_B: Tensor) -> Tensor:
        """W, ``[B]``; ``norm_B`` is the norm of the summed score function."""
        weight, kept = log_weight_B.exp(), truncated(log_weight_B, self.threshold)
        if self.paper:
            return (weight * norm_B) ** 2
        out = (kept * norm_B) ** 2
        if self.use_is_weights:
            out = out * (kept if self.use_truncated else weight) ** 2
        return out / length_B.clamp(min=1) ** 2 if self.by_length else out

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        log_weight = log_weights(current["logp"], batch.rollout_logp_BT, batch.mask_BT)
        kept, reward = truncated(log_weight, self.threshold), batch.rewards().double()
        weight = self.baseline_weights(log_weight, batch.tags["grad_norm"].double(), batch.length_B.double())
        baseline = baselines(reward, weight, batch.group_B, self.average)
        advantage = standardised(reward, baseline, batch.group_B) if self.norm_by_std else reward - baseline
        kl, ratio = distances(current["logp"], batch.rollout_logp_BT, batch.mask_BT)
        metrics = {
            "vcpo/rollout_kl": float(kl.mean()),
            "vcpo/mean_ratio": float(ratio.mean()),
            "vcpo/baseline": float(baseline.mean()),
            "vcpo/truncated": float((log_weight.exp() > self.threshold).double().mean()),
            "vcpo/grad_norm": float((kept * batch.tags["grad_norm"]).mean()),
        }
        return Out((kept * advantage).to(current["logp"].dtype), metrics)


@dataclass(frozen=True)
class EffectiveSampleStep(StepSize):
    """The learning-rate multiplier above, from the weights of the whole minibatch."""

    base: float
    rule: str
    threshold: float | None = None

    current_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[float]:
        log_weight = log_weights(current["logp"], batch.rollout_logp_BT, batch.mask_BT)
        weight = log_weight.exp() if self.threshold is None else truncated(log_weight, self.threshold)
        share = float(effective_sample_size(weight)) / len(weight)
        multiplier = rate_multiplier(share, self.base, self.rule)
        return Out(multiplier, {"vcpo/ess_share": share, "vcpo/multiplier": multiplier})


class One(Advantage):
    """The weight carries the advantage."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(torch.ones(len(batch)))


@dataclass(frozen=True)
class VCPO(Method):
    """What both entries share."""

    threshold: float = hp(8.0, "largest weight of a response", gt=0)
    base_ess_ratio: float = hp(1.0, "share of effective samples that has the full rate", gt=0, le=1)
    rule: str = hp("sqrt", "from that share to the rate", choices=("sqrt", "linear"))
    truncate_ess: bool = hp(False, "effective samples from the truncated weights")
    norm_by_std: bool = hp(True, "divide by the std of the group's rewards")

    def validate(self, run: RunConfig) -> None:
        if run.train.minibatches > run.rollout.prompts_per_step:
            raise UserError(
                "VCPO keeps the responses to a prompt in one minibatch, so train.minibatches cannot exceed "
                "rollout.prompts_per_step; lower it"
            )
        if run.rollout.lag and run.rollout.ratio_to == "update":
            raise UserError(
                "VCPO weighs responses by the policy that sampled them, and rollout.ratio_to=update would "
                "weigh their tokens by it again; use rollout.ratio_to=sampling"
            )
        if run.rollout.group_size < 2:
            raise UserError("VCPO's baseline is the group's; use rollout.group_size >= 2")

    def control(self) -> VarianceControl:
        raise NotImplementedError

    def stages(self) -> Stages:
        loss = PolicyLoss(
            bounds=FixedBounds(float("inf"), float("inf")),
            weight=self.control(),
            surrogate="score",
            aggregation="seq-mean-token-mean",
        )
        step = EffectiveSampleStep(
            self.base_ess_ratio, self.rule, self.threshold if self.truncate_ess else None
        )
        plan = ShuffledMinibatches(by_group=True)
        return grpo_stages().with_(advantage=One(), plan=plan, loss=loss, step_size=step)


@register("vcpo@released")
@dataclass(frozen=True)
class VCPOReleased(VCPO):
    """Off-policy REINFORCE with a least-variance baseline, as the authors' code weighs it."""

    average: str = hp("mean", "the baseline's average of a group", choices=AVERAGES)
    use_is_weights: bool = hp(True, "w_i^2 stands in the baseline's weight, besides v_i^2")
    use_truncated: bool = hp(False, "it is v_i^2 again instead of w_i^2")
    by_length: bool = hp(False, "the baseline's weight is divided by the squared length")

    def control(self) -> VarianceControl:
        return VarianceControl(
            self.threshold, False, self.average, self.use_is_weights, self.use_truncated, self.by_length,
            self.norm_by_std,
        )  # fmt: skip


@register("vcpo@paper")
@dataclass(frozen=True)
class VCPOPaper(VCPO):
    """Off-policy REINFORCE with the least-variance baseline of the paper's formula."""

    def control(self) -> VarianceControl:
        return VarianceControl(self.threshold, True, norm_by_std=self.norm_by_std)
