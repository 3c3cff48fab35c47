r"""GTPO: group-relative trajectory-based policy optimisation (arXiv 2508.03772).

Tokens that open, or close, both good and bad responses of a group are never punished and rewarded double;
responses that are too uncertain are left out, the others pay for their entropy. No KL, no ratio, no clip.

    A_i = R_i - mean_group;   active: A_i != 0
    leading run: from the first token on, while the id at that position also stands there in an active
                 response with A > 0 and in one with A < 0;   trailing run: the same, counted from the end
    lambda_t = product over the two runs that t lies in of (w if A_i > 0, 0 if A_i < 0);  1 outside
    Hbar_i = mean over the response of -sum_v p_v ln max(p_v, 1e-6), CURRENT policy, a constant
    A'_i = A_i - gamma Hbar_i where Hbar_i <= tau, else 0
    loss_i = -1/len_i sum_t exp(logp - sg[logp]) lambda_t A'_i / n_i

``gtpo@released``: n_i = max(leading run, trailing run, 1); the loss_i of a group are SUMMED
``gtpo@paper``:    n_i = 1; mean over the group; no response is left out (tau) while the mean entropy of the
                   policy that training started from exceeds tau
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    Batch,
    Component,
    Distribution,
    FixedBounds,
    GroupAdvantage,
    Method,
    Out,
    PolicyLoss,
    Selection,
    Stages,
    Stats,
    StepContext,
    TokenCredit,
    TokenRatio,
    TokenStat,
    TokenWeight,
    aggregate,
    grpo_stages,
    hp,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FlooredEntropy(TokenStat):
    """-sum_v p_v ln max(p_v, floor), nats."""

    name: str = "floored_entropy"
    floor: float = 1e-6

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        p_NV = logits_NV.softmax(1)
        return -(p_NV * p_NV.clamp(min=self.floor).log()).sum(1)

    def value(self, at: Distribution) -> Tensor:
        log_total_N = at.total_N.log()
        floored_NV = at.scratch.take("floored", at.logits_NV)
        torch.maximum(at.below_NV, (math.log(self.floor) + log_total_N)[:, None], out=floored_NV)
        return log_total_N - torch.linalg.vecdot(at.e_NV, floored_NV) / at.total_N


def shared_run(rows: Sequence[Sequence[int]], signs: Sequence[int], pad_id: int | None = None) -> list[int]:
    """Length of each row's leading run; 0 for rows of sign 0, which take no part."""
    run, t = [0] * len(rows), 0
    alive = [i for i, sign in enumerate(signs) if sign]
    while alive:
        at = {i: row[t] for i, row in enumerate(rows) if signs[i] and t < len(row)}
        both = {v for i, v in at.items() if signs[i] > 0} & {v for i, v in at.items() if signs[i] < 0}
        alive = [i for i in alive if i in at and at[i] in both and at[i] != pad_id]
        t += 1
        for i in alive:
            run[i] = t
    return run


def conflict_runs(
    token_BT: Tensor, mask_BT: Tensor, advantage_B: Tensor, group_B: Tensor, pad_id: int | None = None
) -> tuple[Tensor, Tensor]:
    """(leading, trailing) run of each response in its group, ``[B]`` int64 each."""
    leading, trailing = (torch.zeros(len(token_BT), dtype=torch.int64) for _ in range(2))
    for group in torch.unique(group_B):
        index = (group_B == group).nonzero().flatten()
        rows = [token_BT[i][mask_BT[i].bool()].tolist() for i in index]
        signs = advantage_B[index].sign().int().tolist()
        leading[index] = torch.tensor(shared_run(rows, signs, pad_id))
        trailing[index] = torch.tensor(shared_run([row[::-1] for row in rows], signs, pad_id))
    return leading, trailing


def conflict_weights(
    leading_B: Tensor, trailing_B: Tensor, advantage_B: Tensor, mask_BT: Tensor, w: float
) -> Tensor:
    """lambda, ``[B,T]``; 0 on padding."""
    mask = mask_BT.bool()
    at_T, length_B1 = torch.arange(mask.shape[1])[None], mask.sum(1, keepdim=True)
    factor_B1 = torch.where(advantage_B > 0, w, torch.where(advantage_B < 0, 0.0, 1.0))[:, None].double()
    first = torch.where(at_T < leading_B[:, None], factor_B1, 1.0)
    last = torch.where(at_T >= length_B1 - trailing_B[:, None], factor_B1, 1.0)
    return first * last * mask


def run_divisor(leading_B: Tensor, trailing_B: Tensor) -> Tensor:
    """n, ``[B]``, at least 1."""
    return torch.maximum(leading_B, trailing_B).clamp(min=1)


def shaped_advantage(
    advantage_B: Tensor, entropy_B: Tensor, gamma: float, tau: float, keep_all: bool = False
) -> Tensor:
    """A', ``[B]``."""
    shaped = advantage_B - gamma * entropy_B
    return shaped if keep_all else torch.where(entropy_B <= tau, shaped, 0.0)


class FirstEntropy(Component):
    """Mean entropy of the policy that training started from, over the first batch (nats)."""

    def __init__(self) -> None:
        self.entropy: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"first_entropy": self.entropy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.entropy = state["first_entropy"]

    def observe(self, entropy: float) -> None:
        self.entropy = entropy if self.entropy is None else self.entropy

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        self.observe(float(aggregate("token-mean", batch.old["entropy"], batch.mask_BT)))
        return {}


@dataclass(frozen=True)
class MarkConflicts(Selection):
    """Keeps every row; notes lambda over its divisor while whole groups are at hand."""

    w: float
    released: bool
    pad_id: int | None = None

    writes_tags = frozenset({"conflict_weight"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        # A rollout has one advantage on all its tokens; every response has a first token.
        advantage_B = batch.advantages()[:, 0]
        runs = conflict_runs(batch.response_BT, batch.mask_BT, advantage_B, batch.group_B, self.pad_id)
        weight_BT = conflict_weights(*runs, advantage_B, batch.mask_BT, self.w)
        n_B = run_divisor(*runs).double()
        if self.released:  # the sum over a group is its size times the mean over the rows
            weight_BT = weight_BT * ctx.group_size / n_B[:, None]
        tokens = torch.minimum(runs[0] + runs[1], batch.length_B).sum()
        metrics = {
            "gtpo/conflict": float(tokens) / max(float(batch.length_B.sum()), 1),
            "gtpo/divisor": float(n_B.mean()),
        }
        return Out(batch.with_token_tags(conflict_weight=weight_BT), metrics)


@dataclass(frozen=True)
class ConflictWeight(TokenWeight):
    """What :class:`MarkConflicts` noted."""

    reads_tags = frozenset({"conflict_weight"})

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        return Out(batch.token_tags["conflict_weight"].to(current["logp"].dtype))


@dataclass(frozen=True)
class PayForEntropy(TokenCredit):
    """A', from the current policy's entropy."""

    gamma: float
    tau: float
    first: FirstEntropy | None = None
    entropy: FlooredEntropy = FlooredEntropy()

    @property
    def current_stats(self) -> tuple[TokenStat, ...]:  # type: ignore[override]
        return (self.entropy,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        mask = batch.mask_BT
        entropy_B = torch.where(mask, current[self.entropy.name], 0.0).sum(1) / mask.sum(1).clamp(min=1)
        started = self.first.entropy if self.first else None
        exempt = started is not None and started > self.tau
        shaped = shaped_advantage(batch.advantages()[:, 0], entropy_B, self.gamma, self.tau, exempt)
        out = torch.zeros_like(entropy_B) if exempt else (entropy_B > self.tau).to(entropy_B.dtype)
        metrics = {"gtpo/left_out": float(out.mean()), "gtpo/entropy": float(entropy_B.mean())}
        return Out(shaped, metrics)


@dataclass(frozen=True)
class NoRatio(TokenRatio):
    """exp(logp - sg[logp]): the value 1, whatever policy drew the token."""

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        return current["logp"] - current["logp"].detach()


@register("gtpo@released")
@dataclass(frozen=True)
class GTPOReleased(Method):
    """The official code: divided by the conflict run, summed over the group."""

    w: float = hp(2.0, "factor on shared tokens of good responses", ge=0)
    gamma: float = hp(0.1, "price of a nat of mean entropy, in units of reward", ge=0)
    tau: float = hp(0.7, "mean entropy above which a response is left out, nats", gt=0)

    released = True

    def stages(self) -> Stages:
        first = None if self.released else FirstEntropy()
        loss = PolicyLoss(
            ratio=NoRatio(),
            bounds=FixedBounds(math.inf, math.inf),
            weight=ConflictWeight(),
            credit=PayForEntropy(self.gamma, self.tau, first),
            aggregation="seq-mean-token-mean",
        )
        return grpo_stages().with_(
            advantage=GroupAdvantage(scale="none"),
            selection=MarkConflicts(self.w, self.released),
            loss=loss,
            components={"gtpo": first} if first else {},
        )


@register("gtpo@paper")
@dataclass(frozen=True)
class GTPOPaper(GTPOReleased):
    """The published formula: no divisor by the run, mean over the group, exempt while training starts hot."""

    tau: float = hp(math.log(2), "mean entropy above which a response is left out, nats", gt=0)

    released = False
