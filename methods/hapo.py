r"""HAPO: heterogeneous adaptive policy optimisation (arXiv 2509.16591).

One normalised log-entropy score per token moves sampling temperature, advantage and clip range:

    e = ln max(H, 1e-8);  c = the rho-quantile of e (nearest rank);  s = sqrt(max(mean (e - c)^2, 1e-8))
    u = (e - c) / s;      h = u / max u where u > 0;   u / |min u| where u <= 0        (signed, in [-1, 1])
                                                        u / min u, in [0, 1]            (released)
    A  T_t = T (1 + tau h), h in [-1, 1] of the sampling policy's entropy at temperature 1 with c, s, max u
       and min u of the step before (OLD policy, whole batch); the first step samples at T
    B  A_i = (R_i - mean) / (std + 1e-6), mean and population std over all TOKENS of the group; groups where
       some |A| >= 5 take GRPO's
    C  eps_low' = eps_low (1 - alpha h) where h <= 0;  eps_high' = eps_high (1 + alpha h) where h > 0
    D  A' = A (1 + beta h) where h > 0 and r lies outside (1 - eps_low'/2, 1 + eps_high'/2), or h <= 0 and r
       lies inside; else A' = A

then the clipped loss with eps' and A', dual clip 10. In C and D h is the CURRENT policy's, a constant, with
c, s, max u and min u over the minibatch. ``hapo@released`` has u / min u, so that low-entropy tokens
score positive, too, and its fallback of B also sees the padding; ``hapo@paper`` has the signed score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    LOGP,
    Advantage,
    Batch,
    Bounds,
    Component,
    Draw,
    Generate,
    Method,
    Out,
    PolicyLoss,
    Program,
    Prompt,
    RolloutProgram,
    Stage,
    Stages,
    Stats,
    StepContext,
    TokenCredit,
    TokenRatio,
    Verify,
    aggregate,
    group_normalised,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


class Scale(NamedTuple):
    """What turns a log-entropy into a score: pivot c, spread s, 1 / max u and 1 / min u (or its size)."""

    pivot: float
    spread: float
    above: float
    below: float


def scale_of(entropy_BT: Tensor, mask_BT: Tensor, rho: float, signed: bool, floor: float = 1e-8) -> Scale:
    """The scale of a set of tokens; ``floor`` keeps logarithm, spread and both extremes away from 0."""
    e_N = entropy_BT[mask_BT.bool()].double().clamp(min=floor).log()
    if not len(e_N):
        return Scale(0.0, 1.0, 1.0, 1.0)
    # a rank and no share of N: the official code takes the nearest, a half to the even one
    pivot = e_N.sort().values[round(rho * (len(e_N) - 1))]
    u_N = e_N - pivot
    spread = (u_N**2).mean().clamp(min=floor).sqrt()
    u_N = u_N / spread
    below = 1 / float(u_N.min().clamp(max=-floor))
    above = 1 / float(u_N.max().clamp(min=floor))
    return Scale(float(pivot), float(spread), above, abs(below) if signed else below)


def scored(u: Tensor, scale: Scale) -> Tensor:
    """h from u, any shape."""
    return torch.where(u > 0, u * scale.above, u * scale.below)


def score(entropy_BT: Tensor, scale: Scale, floor: float = 1e-8) -> Tensor:
    """h of every token, ``[B,T]``."""
    return scored((entropy_BT.clamp(min=floor).log() - scale.pivot) / scale.spread, scale)


def sampling_temperature(
    logits_NV: Tensor, scale: Scale, temperature: float, tau: float,
    log_eps: float = 1e-6, spread_eps: float = 1e-6,
) -> Tensor:  # fmt: skip
    """T_t of positions with these raw logits, ``[N]``."""
    logp_NV = logits_NV.log_softmax(1)
    e_N = (-(logp_NV.exp() * logp_NV).sum(1)).clamp(min=log_eps).log()
    h_N = scored((e_N - scale.pivot) / (scale.spread + spread_eps), scale).clamp(-1, 1)
    return temperature * (1 + tau * h_N)


def token_weighted(
    reward_B: Tensor, group_B: Tensor, length_B: Tensor, width: int | None = None, *,
    eps: float = 1e-6, fallback: float = 5.0, ddof: int = 1,
) -> Tensor:  # fmt: skip
    """B: advantage ``[B]``. With ``width`` the fallback also looks at the padding of shorter responses."""
    plain = group_normalised(reward_B, group_B, eps=eps, ddof=ddof)
    advantage = torch.zeros_like(plain)
    for group in torch.unique(group_B):
        here = group_B == group
        reward, weight = reward_B[here].double(), length_B[here].double()
        mean = (reward * weight).sum() / weight.sum().clamp(min=1)
        std = (((reward - mean) ** 2 * weight).sum() / weight.sum().clamp(min=1)).sqrt()
        own = (reward - mean) / (std + eps)
        seen = own[weight > 0].abs()
        if width is not None and bool((weight < width).any()):
            seen = torch.cat([seen, (mean / (std + eps)).abs()[None]])  # padding holds the reward 0
        alone = len(reward) == 1  # its tokens have one reward: GRPO's convention for a group of one
        exceeds = alone or bool((seen >= fallback).any())
        advantage[here] = plain[here] if exceeds else own.to(plain.dtype)
    return advantage


def adaptive_range(h_BT: Tensor, eps_low: float, eps_high: float, alpha: float) -> tuple[Tensor, Tensor]:
    """C: (eps_low', eps_high'), ``[B,T]`` each."""
    low = torch.where(h_BT <= 0, eps_low * (1 - alpha * h_BT), eps_low)
    return low, torch.where(h_BT > 0, eps_high * (1 + alpha * h_BT), eps_high)


def redistributed(
    advantage_BT: Tensor, h_BT: Tensor, ratio_BT: Tensor, low_BT: Tensor, high_BT: Tensor, beta: float
) -> Tensor:
    """D: A', ``[B,T]``; ``low_BT`` and ``high_BT`` are the ranges of C."""
    inside = (ratio_BT > 1 - low_BT / 2) & (ratio_BT < 1 + high_BT / 2)
    moved = torch.where(h_BT > 0, ~inside, inside)
    return torch.where(moved, advantage_BT * (1 + beta * h_BT), advantage_BT)


class LastScale(Component):
    """The scale of the last batch, for the temperatures of the next rollouts."""

    def __init__(self, rho: float, signed: bool) -> None:
        self.rho, self.signed = rho, signed
        self.scale: Scale | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"scale": None if self.scale is None else list(self.scale)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale = None if state["scale"] is None else Scale(*state["scale"])

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        self.scale = scale_of(batch.old["entropy"], batch.mask_BT, self.rho, self.signed)
        return {"hapo/pivot": self.scale.pivot, "hapo/spread": self.scale.spread}


@dataclass(frozen=True)
class AdaptiveTemperature(RolloutProgram):
    """A: the plain rollouts, every token at its own temperature."""

    last: LastScale
    tau: float

    engine_needs = frozenset({"token_temperature"})

    def run(self, ctx: StepContext) -> Program:
        scale, tau = self.last.scale, self.tau
        rule = None
        if scale is not None:
            chosen = scale

            def rule(logits_NV: Tensor) -> Tensor:
                return sampling_temperature(logits_NV, chosen, ctx.temperature, tau)

        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        return (yield Verify((yield Generate(prompts, ctx.group_size, token_temperature=rule))))


@dataclass(frozen=True)
class TokenWeightedAdvantage(Advantage):
    """B over the gathered batch."""

    sees_padding: bool

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        width = ctx.max_response_tokens if self.sees_padding else None
        return Out(token_weighted(batch.rewards(), batch.group_B, batch.length_B, width))


@dataclass(frozen=True)
class ScoredRange(Bounds):
    """C over the minibatch."""

    rho: float
    signed: bool
    alpha: float
    eps_low: float
    eps_high: float
    floor: float = 1e-8

    current_stats = (LOGP, ENTROPY)
    minibatch_scope = True

    def scores(self, batch: Batch, current: Stats) -> Tensor:
        """h of the current policy, ``[B,T]``."""
        entropy = current["entropy"]
        scale = scale_of(entropy, batch.train_mask_BT, self.rho, self.signed, self.floor)
        return score(entropy, scale, self.floor)

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        h = self.scores(batch, current)
        low, high = adaptive_range(h, self.eps_low, self.eps_high, self.alpha)
        means = {"hapo/score": h, "hapo/eps_low": low, "hapo/eps_high": high}
        metrics = {k: float(aggregate("token-mean", v, batch.mask_BT)) for k, v in means.items()}
        return Out((1 - low, 1 + high), metrics)


@dataclass(frozen=True)
class RedistributedCredit(TokenCredit):
    """D over the minibatch."""

    bounds: ScoredRange
    ratio: TokenRatio
    beta: float

    def parts(self) -> tuple[Stage, ...]:
        return (self.bounds, self.ratio)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        h = self.bounds.scores(batch, current)
        low, high = adaptive_range(h, self.bounds.eps_low, self.bounds.eps_high, self.bounds.alpha)
        ratio = self.ratio.ratio(batch, current)
        advantage = batch.advantages().to(ratio.dtype)
        return Out(redistributed(advantage, h, ratio, low, high, self.beta))


@register("hapo@released")
@dataclass(frozen=True)
class HAPOReleased(Method):
    """The official code, with the sign of its score and what its fallback sees."""

    rho: float = hp(0.8, "quantile of the log-entropies that scores 0", ge=0, le=1)
    tau: float = hp(0.05, "largest relative change of the sampling temperature", ge=0, lt=1)
    alpha: float = hp(1.0, "growth of the clip range with the score", ge=0)
    beta: float = hp(1.0, "change of the advantage with the score", ge=0, le=1)
    eps_low: float = hp(0.2, "ratio clip below 1 at score 0", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1 at score 0", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    signed = False

    def stages(self) -> Stages:
        last, ratio = LastScale(self.rho, self.signed), TokenRatio(None)
        bounds = ScoredRange(self.rho, self.signed, self.alpha, self.eps_low, self.eps_high)
        loss = PolicyLoss(
            ratio=ratio,
            bounds=bounds,
            credit=RedistributedCredit(bounds, ratio, self.beta),
            dual_clip=self.dual_clip,
            aggregation=self.aggregation,
        )
        return grpo_stages().with_(
            rollout=AdaptiveTemperature(last, self.tau),
            advantage=TokenWeightedAdvantage(sees_padding=not self.signed),
            loss=loss,
            components={"hapo": last},
        )


@register("hapo@paper")
@dataclass(frozen=True)
class HAPOPaper(HAPOReleased):
    """The stated intent: scores in [-1, 1], low-entropy tokens negative."""

    signed = True
