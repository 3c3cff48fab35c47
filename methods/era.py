r"""ERA: entropy regularising activation, the variant for language models (arXiv 2510.08549).

While the policy is updated, not while it samples, the logits z of a response with positive advantage are
scaled when its most uncertain tokens have become too certain or too uncertain. H_resp is the mean of the
max(1, floor(0.2 L)) largest token entropies of its L tokens, of raw logits, a constant:

    f = k if H_resp < w_low and A > 0;   1/k if H_resp > w_high and A > 0;   else 1
    logp' = log-softmax(f z) at the sampled token
    r = exp(clamp(logp' - old', -20, 20)),   old' by the same rule from the OLD policy and its own entropies
    l_t = max(-A' r, -A' clip(r, 1 - eps_low, 1 + eps_high)),  at most -A' c where A' < 0

``era@released``: the test on A truncates it to a whole number first, so that f != 1 needs A >= 1; the
                  normaliser runs over the 20 largest logits, a label outside them has logp' = -1e4;  A' = A
``era@paper``:    the test is A > 0, the normaliser the full softmax, and A' = A / k where f = k, k A where
                  f = 1/k, by the CURRENT policy's entropies
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Batch,
    Distribution,
    FixedBounds,
    LogProb,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    Stage,
    Stages,
    Stats,
    TokenRatio,
    TokenStat,
    TokenWeight,
    UserError,
    aggregate,
    grpo_stages,
    hp,
    log_ratio,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TopLogProb(TokenStat):
    """log p(token) among the ``size`` largest scaled logits; ``outside``, a constant, for any other token."""

    name: str = ""
    scale: float = 1.0
    size: int = 20
    outside: float = -1e4

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"logp@{self.scale:g}top{self.size}")

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        top_NK, id_NK = (logits_NV * self.scale).topk(min(self.size, logits_NV.shape[1]), 1)
        return self._among(top_NK, id_NK == target_N[:, None])

    def _among(self, top_NK: Tensor, hit_NK: Tensor) -> Tensor:
        own_N = torch.where(hit_NK, top_NK, 0.0).sum(1)
        return torch.where(hit_NK.any(1), own_N - top_NK.logsumexp(1), self.outside)

    def value(self, at: Distribution) -> Tensor:
        top_NK, id_NK = at.best(self.size)
        return self._among(top_NK * self.scale, id_NK == at.target_N[:, None])

    def add_gradient(self, at: Distribution, grad_N: Tensor, into_NV: Tensor) -> None:
        """scale (onehot - softmax of the scaled largest); 0 for a token that is not among them."""
        top_NK, id_NK = at.best(self.size)
        hit_NK = id_NK == at.target_N[:, None]
        slope_NK = self.scale * (hit_NK.to(top_NK.dtype) - (top_NK * self.scale).softmax(1))
        into_NV.scatter_add_(1, id_NK, torch.where(hit_NK.any(1), grad_N, 0.0)[:, None] * slope_NK)

    @property
    def is_log_prob(self) -> bool:
        return self.scale == 1


def response_entropy(entropy_BT: Tensor, mask_BT: Tensor, fraction: float) -> Tensor:
    """H_resp, ``[B]``."""
    mask = mask_BT.bool()
    count_B = share_of(mask.sum(1), fraction)
    ordered = torch.where(mask, entropy_BT, -torch.inf).sort(1, descending=True).values
    taken = torch.arange(ordered.shape[1])[None] < count_B[:, None]
    return torch.where(taken, ordered, 0.0).sum(1) / count_B


def too_certain(entropy_B: Tensor, advantage_BT: Tensor, w_low: float, truncated: bool) -> Tensor:
    """Bool ``[B,T]``: where f = k."""
    return (entropy_B < w_low)[:, None] & positive(advantage_BT, truncated)


def too_uncertain(entropy_B: Tensor, advantage_BT: Tensor, w_high: float, truncated: bool) -> Tensor:
    """Bool ``[B,T]``: where f = 1/k."""
    return (entropy_B > w_high)[:, None] & positive(advantage_BT, truncated)


def positive(advantage_BT: Tensor, truncated: bool) -> Tensor:
    """A > 0, of A itself or of its whole part."""
    return (advantage_BT.trunc() if truncated else advantage_BT) > 0


@dataclass(frozen=True)
class ActivatedRatio(TokenRatio):
    """The ratio of activated log-probs; each policy is activated by its own entropies."""

    w_low: float = 0.45
    w_high: float = 3.0
    k: float = 2.0
    truncated: bool = False
    top_k: int | None = None
    fraction: float = 0.2
    outside: float = -1e4

    def stat(self, scale: float) -> TokenStat:
        """The log-prob at one scale."""
        if self.top_k is not None:
            return TopLogProb(scale=scale, size=self.top_k, outside=self.outside)
        return LogProb(scale=scale)

    @property
    def stats(self) -> tuple[TokenStat, ...]:
        return (ENTROPY, self.stat(1.0), self.stat(self.k), self.stat(1 / self.k))

    @property
    def old_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return self.stats

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return self.stats

    def tests(self, batch: Batch, values: Stats, truncated: bool) -> tuple[Tensor, Tensor]:
        """(where f = k, where f = 1/k), bool ``[B,T]``, of the policy that ``values`` are of."""
        h_B = response_entropy(values["entropy"].detach(), batch.mask_BT, self.fraction)
        advantage = batch.advantages()
        low = too_certain(h_B, advantage, self.w_low, truncated)
        return low, too_uncertain(h_B, advantage, self.w_high, truncated)

    def activated(self, batch: Batch, values: Stats) -> Tensor:
        """logp', ``[B,T]``."""
        low, high = self.tests(batch, values, self.truncated)
        plain, sharp, soft = (values[self.stat(f).name] for f in (1.0, self.k, 1 / self.k))
        return torch.where(low, sharp, torch.where(high, soft, plain))

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        return log_ratio(self.activated(batch, current), self.activated(batch, batch.old), self.clamp)


@dataclass(frozen=True)
class InverseScale(TokenWeight):
    """1/k where f = k, k where f = 1/k (if ``scaled``), and the shares of tokens that are activated."""

    ratio: ActivatedRatio
    scaled: bool

    def parts(self) -> tuple[Stage, ...]:
        return (self.ratio,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        k, dtype = self.ratio.k, current["logp"].dtype
        low, high = self.ratio.tests(batch, current, False)
        ones = torch.ones_like(current["logp"])
        weight = torch.where(low, 1 / k, torch.where(high, k, ones)) if self.scaled else ones
        used = self.ratio.tests(batch, current, self.ratio.truncated)
        names = ("era/sharpened", "era/softened")
        shares = {
            n: float(aggregate("token-mean", u.to(dtype), batch.mask_BT))
            for n, u in zip(names, used, strict=True)
        }
        return Out(weight, shares)


@register("era@released")
@dataclass(frozen=True)
class ERAReleased(Method):
    """The official code: whole-number test on the advantage, normaliser over the largest logits."""

    w_low: float = hp(0.45, "response entropy below which logits are sharpened, nats", ge=0)
    w_high: float = hp(3.0, "response entropy above which logits are softened, nats", gt=0)
    k: float = hp(2.0, "factor on the logits", ge=1)
    top_k: int | None = hp(20, "logits in the normaliser; null is the full softmax", ge=2)
    eps_low: float = hp(1.0, "ratio clip below 1; 1 never clips", ge=0, le=1)
    eps_high: float = hp(1.0, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(10.0, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    truncated, scaled = True, False

    def validate(self, run: RunConfig) -> None:
        if self.w_low >= self.w_high:
            raise UserError("method.w_low must be below method.w_high; lower w_low")

    def stages(self) -> Stages:
        ratio = ActivatedRatio(
            w_low=self.w_low, w_high=self.w_high, k=self.k, truncated=self.truncated, top_k=self.top_k
        )
        return grpo_stages().with_(
            loss=PolicyLoss(
                ratio=ratio,
                bounds=FixedBounds(self.eps_low, self.eps_high),
                weight=InverseScale(ratio, self.scaled),
                dual_clip=self.dual_clip,
                aggregation=self.aggregation,
            )
        )


@register("era@paper")
@dataclass(frozen=True)
class ERAPaper(ERAReleased):
    """The formulas of the paper: every positive advantage, full softmax, inverse scaling of the advantage."""

    top_k: int | None = hp(None, "logits in the normaliser; null is the full softmax", ge=2)

    truncated, scaled = False, True
