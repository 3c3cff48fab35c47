r"""Lp-Reg: rare but plausible tokens of wrong responses are held up by a KL (arXiv 2510.03222).

The proxy q is the policy that drew the rollouts, at temperature 1 without its tokens of p < kappa max p,
renormalised, then at the run's temperature; a constant. In every optimiser step

    C = the k = max(1, floor(rho N)) least likely of the N tokens with A < 0; none if k = 1
    R = {t in C: logp_t < log q_t}                                 the log-probs of now, constants here
    l_t = -A r + beta K_t on R,   max(-A r, -A clip(r, 1 - eps_low, 1 + eps_high)) elsewhere
    K = exp(log q - logp) - (log q - logp) - 1                     at most 10

averaged over all tokens; r = exp(logp - old_logp) is not clipped on R. dK/dlogp = 1 - exp(log q - logp) < 0,
so a step raises logp. A token outside the proxy is never in R. ``rho_pos`` does the same where A > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    KL_ESTIMATORS,
    LOGP,
    Batch,
    FixedBounds,
    Method,
    MinPForwardKL,
    MinPLogProb,
    Out,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    TokenRatio,
    TokenStat,
    UserError,
    grpo_stages,
    hp,
    kl_estimate,
    largest,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor

FORWARD = "full_forward"


def least_likely(logp_BT: Tensor, among_BT: Tensor, counted_BT: Tensor, rho: float) -> Tensor:
    """Bool ``[B,T]``: the share ``rho`` of the counted tokens that has the smallest log-probs, as far as it
    lies ``among_BT``; none if that share is a single token."""
    k = int(share_of(int(counted_BT.sum()), rho))
    if k <= 1:
        return torch.zeros_like(among_BT)
    return largest(-logp_BT, counted_BT, k) & among_BT


def held_up(
    logp_BT: Tensor, proxy_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor, rho: tuple[float, float],
    over: str = "negative",
) -> Tensor:  # fmt: skip
    """R, bool ``[B,T]``; ``rho`` of the tokens with A < 0 and with A > 0. ``over="batch"`` takes the shares
    of all tokens instead of those of one sign."""
    mask = mask_BT.bool()
    found = torch.zeros_like(mask)
    for sign, share in zip((-1, 1), rho, strict=True):
        own = mask & (sign * advantage_BT > 0)
        found |= least_likely(logp_BT, own, mask if over == "batch" else own, share)
    return found & (logp_BT < proxy_BT)


@dataclass(frozen=True)
class HeldUpLoss(PolicyLoss):
    """The clipped loss, replaced on R."""

    proxy: MinPLogProb = MinPLogProb()
    of: str = "old"
    rho: tuple[float, float] = (0.01, 0.0)
    beta: float = 1.0
    kl: str = "k3"
    over: str = "negative"

    minibatch_scope = True

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (LOGP, self.proxy) if self.of == "old" else (LOGP,)

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        own = (LOGP,) if self.of == "old" else (LOGP, self.proxy)
        return (*own, self.forward) if self.kl == FORWARD else own

    @property
    def forward(self) -> MinPForwardKL:
        """KL(q || policy) of the current policy's own proxy."""
        proxy = self.proxy
        return MinPForwardKL(
            min_p=proxy.min_p, relative=proxy.relative, soft=proxy.soft, outside=proxy.outside
        )

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        base = super().prepare(batch, current)
        proxy = (batch.old if self.of == "old" else current)[self.proxy.name]
        logp, mask = current["logp"], batch.train_mask_BT
        held = held_up(logp, proxy, batch.advantages(), mask, self.rho, self.over)
        share = float(held.sum()) / max(int(mask.sum()), 1)
        return Out({**base.value, "proxy": proxy, "held": held}, {**base.metrics, "lp_reg/held": share})

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        clipped = super().of_advantage(advantage_BT, batch, current, prepared)
        if self.kl == FORWARD:
            kl = current[self.forward.name]
        else:
            kl = kl_estimate(self.kl, current["logp"], prepared["proxy"])
        pulled = -advantage_BT * self.ratio.ratio(batch, current) + self.beta * kl
        return torch.where(prepared["held"], pulled, clipped)


@register("lp-reg")
@dataclass(frozen=True)
class LpReg(Method):
    """GRPO with a KL to a policy without its implausible tokens, on the rarest tokens of wrong responses."""

    min_p: float = hp(0.02, "tokens less likely than this are out of the proxy", gt=0, lt=1)
    filter: str = hp("minp", "relative to the largest probability, or fixed", choices=("minp", "fixed"))
    soft: bool = hp(False, "what is out gets the smallest logit instead of none")
    rho: float = hp(0.01, "candidates as a share of the tokens with A < 0 (32B: 0.005)", ge=0, le=1)
    rho_pos: float = hp(0.0, "candidates as a share of the tokens with A > 0", ge=0, le=1)
    beta: float = hp(1.0, "weight of the KL", ge=0)
    kl: str = hp(
        "k3", "estimator of the KL, or the sum over the vocabulary", choices=(*KL_ESTIMATORS, FORWARD)
    )
    quantile_scope: str = hp("negative", "what rho is a share of", choices=("negative", "batch"))
    proxy: str = hp("old", "whose proxy: the policy's that drew, or of now", choices=("old", "current"))
    eps_low: float = hp(1.0, "ratio clip below 1; 1 never clips", ge=0, le=1)
    eps_high: float = hp(9.0, "ratio clip above 1", ge=0)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.kl == FORWARD and self.proxy == "old":
            raise UserError(
                "method.kl=full_forward needs the proxy's whole distribution, and of the old policy only the "
                "sampled token's is kept; set method.proxy=current, or an estimator"
            )

    def stages(self) -> Stages:
        loss = HeldUpLoss(
            ratio=TokenRatio(clamp=None), bounds=FixedBounds(self.eps_low, self.eps_high),
            aggregation=self.aggregation,
            proxy=MinPLogProb(min_p=self.min_p, relative=self.filter == "minp", soft=self.soft),
            of=self.proxy, rho=(self.rho, self.rho_pos), beta=self.beta, kl=self.kl, over=self.quantile_scope,
        )  # fmt: skip
        return grpo_stages().with_(loss=loss)
