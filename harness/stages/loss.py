"""The clipped policy-gradient loss and the pieces methods swap in it: ratio, bounds, token weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import torch

from harness.stages.aggregate import token_coefficients
from harness.stages.base import Loss, Out, Stage, Stats
from harness.stages.batch import Batch
from harness.stages.token_stats import LOGP

if TYPE_CHECKING:
    from torch import Tensor

LOG_RATIO_CLAMP = 20.0


def log_ratio(logp_BT: Tensor, old_logp_BT: Tensor, clamp: float | None = LOG_RATIO_CLAMP) -> Tensor:
    """``logp - old_logp``, clamped to +-20 as in verl so that its exponential stays finite."""
    difference = logp_BT - old_logp_BT
    return difference if clamp is None else difference.clamp(-clamp, clamp)


def finite_exp(exponent: Tensor) -> Tensor:
    """``exp``, of at most half of what the type's logarithm goes up to, less 10 nats (float32: 34.4).

    A ratio of e^34 is beyond any meaning; one of e^89 is infinite, its gradient NaN where a clip drops the
    token (0 times infinity), and no norm of gradients over e^44 can be squared. Up to the bound nothing
    changes, to the bit; beyond it value and gradient stay those at the bound, so an unclipped token is
    still pushed the right way.
    """
    largest = exponent_limit(exponent.dtype)
    over = exponent.detach() > largest
    if not bool(over.any()):
        return exponent.exp()
    return torch.where(over, largest + (exponent - exponent.detach()), exponent).exp()


def exponent_limit(dtype: torch.dtype) -> float:
    """Largest exponent of :func:`finite_exp`; squares of 8,192 such values can be summed."""
    return math.log(torch.finfo(dtype).max) / 2 - 10.0


def bounded(ratio_BT: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """clip(r, low, high), ``[B,T]``; the bounds are scalars, ``[B,1]`` or ``[B,T]``.

    A ratio that lies on a bound keeps its whole gradient.
    """
    low_t, high_t = (torch.as_tensor(bound, dtype=ratio_BT.dtype) for bound in (low, high))
    return torch.clamp(ratio_BT, low_t, high_t)


def clipped_surrogate(
    ratio_BT: Tensor,
    advantage_BT: Tensor,
    low: Tensor | float,
    high: Tensor | float,
    dual_clip: float | None = None,
) -> Tensor:
    """PPO-clip loss per token, ``max(-A r, -A clip(r, low, high))`` (arXiv 1707.06347, eq. 7).

    Args:
        ratio_BT: importance ratio.
        low, high: explicit ratio bounds (``1 - eps``, ``1 + eps``): scalar, ``[B,1]`` or ``[B,T]``.
        dual_clip: where A < 0 the loss is capped at ``-A * dual_clip`` (arXiv 1912.09729); None is off.
    """
    loss = torch.maximum(-advantage_BT * ratio_BT, -advantage_BT * bounded(ratio_BT, low, high))
    if dual_clip is not None:
        loss = torch.where(advantage_BT < 0, torch.minimum(loss, -advantage_BT * dual_clip), loss)
    return loss


def clipped_tokens(
    ratio_BT: Tensor,
    advantage_BT: Tensor,
    low: Tensor | float,
    high: Tensor | float,
    dual_clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Bool ``[B,T]``: where the clipped term wins (``-A clip(r) > -A r``), and where the dual clip caps."""
    unclipped = -advantage_BT * ratio_BT
    loss = clipped_surrogate(ratio_BT, advantage_BT, low, high)
    capped = torch.zeros_like(loss, dtype=torch.bool)
    if dual_clip is not None:
        capped = (advantage_BT < 0) & (loss > -advantage_BT * dual_clip)
    return loss > unclipped, capped


def as_column(value: Tensor) -> Tensor:
    """A ``[B]`` tensor as ``[B,1]`` so that it broadcasts over tokens; anything else unchanged."""
    return value[:, None] if value.ndim == 1 else value


@dataclass(frozen=True)
class TokenRatio(Stage):
    """log r_t = logp_t - old_logp_t, clamped; the ratio of PPO and GRPO."""

    clamp: float | None = LOG_RATIO_CLAMP

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        """Differentiable ``[B,T]``."""
        return log_ratio(current["logp"], batch.old["logp"], self.clamp)

    def ratio(self, batch: Batch, current: Stats) -> Tensor:
        """exp of :meth:`log_ratio`, finite (:func:`finite_exp`)."""
        return finite_exp(self.log_ratio(batch, current))


def sequence_log_ratio(logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log s of each response, ``[B]``: the mean of its tokens' log ratios; 0 where there are none."""
    mask = mask_BT.bool()
    difference = torch.where(mask, logp_BT - old_logp_BT, 0.0)
    return difference.sum(1) / mask.sum(1).clamp(min=1)


@dataclass(frozen=True)
class SequenceRatio(TokenRatio):
    """s of the whole response at each of its tokens, in GSPO's token form (arXiv 2507.18071, sec. 4.3).

        log s_t = logp_t - sg[logp_t] + sg[log s],    at most ``clamp``

    so a token's gradient with respect to its own log-prob is s, whatever its advantage.
    """

    clamp: float | None = 10.0

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        logp = current["logp"]
        log_s_B = sequence_log_ratio(logp.detach(), batch.old["logp"], batch.mask_BT)
        per_token = logp - logp.detach() + log_s_B[:, None]
        return per_token if self.clamp is None else per_token.clamp(max=self.clamp)


class Bounds(Stage):
    """Ratio bounds ``(low, high)``, constants of the update: scalars, ``[B]`` or ``[B,T]``."""

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        raise NotImplementedError


@dataclass(frozen=True)
class FixedBounds(Bounds):
    """``1 - eps_low`` and ``1 + eps_high``; ``math.inf`` is no bound."""

    eps_low: float = 0.2
    eps_high: float = 0.2

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        dtype = current["logp"].dtype
        return Out(
            (torch.tensor(1 - self.eps_low, dtype=dtype), torch.tensor(1 + self.eps_high, dtype=dtype))
        )


@dataclass(frozen=True)
class AbsoluteBounds(Bounds):
    """``low`` and ``high`` themselves."""

    low: float
    high: float

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        dtype = current["logp"].dtype
        return Out((torch.tensor(self.low, dtype=dtype), torch.tensor(self.high, dtype=dtype)))


class TokenWeight(Stage):
    """A constant weight on each token's loss, ``[B]`` or ``[B,T]``."""

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        raise NotImplementedError


class TokenCredit(Stage):
    """The advantage as it enters an optimiser step's loss, ``[B]`` or ``[B,T]``: a constant of that step.

    For credit that depends on the weights the step starts from; any other belongs to the advantage stage.
    """

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        raise NotImplementedError


class TokenSelection(Stage):
    """The tokens an optimiser step trains on, bool ``[B,T]``, chosen anew with the weights it starts from.

    ``divisor`` says what the reduction counts: the ``kept`` tokens, or ``all`` that the batch trains on.
    """

    divisor: str = "kept"

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        raise NotImplementedError


def largest(value_BT: Tensor, mask_BT: Tensor, n: int) -> Tensor:
    """Bool ``[B,T]``: the ``n`` largest values inside the mask; of equal ones the earlier token."""
    flat = torch.where(mask_BT, value_BT, -torch.inf).flatten()
    chosen = torch.zeros(flat.shape, dtype=torch.bool)
    chosen[flat.argsort(descending=True, stable=True)[:n]] = True
    return chosen.reshape(value_BT.shape) & mask_BT


@overload
def share_of(n: int, share: float, *, up: bool = False, least: int = 1) -> int: ...
@overload
def share_of(n: Tensor, share: float, *, up: bool = False, least: int = 1) -> Tensor: ...
def share_of(n: Tensor | int, share: float, *, up: bool = False, least: int = 1) -> Tensor | int:
    """How many of ``n`` things are the share ``share``: the whole part, int64, in ``n``'s shape.

    Args:
        up: the next whole number instead.
        least: smallest answer.

    A product is whole where only rounding keeps it from being so: 0.29 of 100 is 29, and 0.07 of it is 7.
    """
    if isinstance(n, int):  # without torch: settings are checked by it
        whole = math.ceil(n * share - 1e-9) if up else math.floor(n * share + 1e-9)
        return max(whole, least)
    exact = n.double() * share
    count = (exact - 1e-9).ceil() if up else (exact + 1e-9).floor()
    return count.long().clamp(min=least)


def counted_share(aggregation: str, kept_BT: Tensor, mask_BT: Tensor, divisor: str = "kept") -> Tensor:
    """What turns coefficients over ``mask_BT`` into coefficients over ``kept_BT``, ``[B,T]``; 0 elsewhere."""
    kept = kept_BT & mask_BT
    if divisor == "all":
        return kept.float()
    over_kept = token_coefficients(aggregation, kept)
    return torch.where(kept, over_kept / token_coefficients(aggregation, mask_BT), 0.0)


@dataclass(frozen=True)
class PolicyLoss(Loss):
    """``weight * clipped_surrogate`` or, with ``surrogate="score"``, ``-weight * A * logp``.

    ``dual_clip=None`` is off. ``bounds``, ``weight``, ``selection`` and ``credit`` are computed once per
    optimiser step over the whole minibatch, without gradient; A is the batch's advantage, or ``credit``.
    """

    ratio: TokenRatio = TokenRatio()
    bounds: Bounds = FixedBounds()
    weight: TokenWeight | None = None
    selection: TokenSelection | None = None
    credit: TokenCredit | None = None
    dual_clip: float | None = None
    surrogate: str = "clip"
    aggregation: str = "seq-mean-token-mean"

    old_stats = (LOGP,)
    current_stats = (LOGP,)

    def parts(self) -> tuple[Stage, ...]:
        optional = (self.weight, self.selection, self.credit)
        return (self.ratio, self.bounds, *(stage for stage in optional if stage))

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        bounds = self.bounds(batch, current)
        prepared = {"low": as_column(bounds.value[0]), "high": as_column(bounds.value[1])}
        metrics = dict(bounds.metrics)
        if self.weight is not None:
            weight = self.weight(batch, current)
            prepared["weight"] = as_column(weight.value)
            metrics |= weight.metrics
        if self.selection is not None:
            kept = self.selection(batch, current)
            mask, divisor = batch.train_mask_BT, self.selection.divisor
            prepared["counted"] = counted_share(self.aggregation, kept.value, mask, divisor)
            metrics |= kept.metrics
        if self.credit is not None:
            credit = self.credit(batch, current)
            prepared["advantage"] = as_column(credit.value)
            metrics |= credit.metrics
        return Out(prepared, metrics)

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        advantage = prepared.get("advantage", batch.advantages()).to(current["logp"].dtype)
        loss = self.of_advantage(advantage, batch, current, prepared)
        return loss * prepared["weight"] if "weight" in prepared else loss

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        """The surrogate before weights, ``[B,T]``; a loss of another form overrides this and nothing else."""
        if self.surrogate == "score":
            return -advantage_BT * current["logp"]
        ratio = self.ratio.ratio(batch, current)
        return clipped_surrogate(ratio, advantage_BT, prepared["low"], prepared["high"], self.dual_clip)

    def ratio_BT(self, batch: Batch, current: Stats) -> Tensor:
        return self.ratio.ratio(batch, current)
