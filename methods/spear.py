r"""SPEAR: self-imitation of stored successes, with a curriculum (arXiv 2509.22601); single-turn responses.

On-policy ("Dr.BoT"): the groups of largest reward spread train (three quarters of them), with rewards +-1,

    A = R - mean_group,  Clip-Cov's loss (2 % of the tokens of covariance in (1, 40) drop out, clip 0.2/0.28),
    reduced to the sum of token losses / token limit

and responses that are overlong, incomplete, repetitive or unreadable do not train, but count in their group.
Imitation: after a step its rows with A > 0 are stored with their log-probs; rows more than ``tolerate`` steps
older than the newest are dropped. M is the median of the groups' mean rewards of the last steps. Once more
than 1.5 N stored rows have R > M, the next step trains on them, too, and empties the buffer:

    A' = R - M,   rows with A' > 0;   of them min(N, the largest power of two) at random
    loss = lambda(s) x the same loss,   lambda(s) = coef (1 - cos(pi s / S)) / 2 up to step S, then coef

N is a share of a step's rollouts. The reward for tool calls, coef' (1 + cos(pi s / S')) / 2, is a function
here: a response of one turn calls no tool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    UNREADABLE,
    Batch,
    Component,
    FixedBounds,
    GroupAdvantage,
    GroupFilter,
    Method,
    Out,
    PolicyLoss,
    ReplayBuffer,
    ReplayPlan,
    RunConfig,
    Selection,
    ShuffledMinibatches,
    Stages,
    StepContext,
    UserError,
    VerdictReward,
    group_mean_std,
    grpo_stages,
    hp,
    refuse_lone_rollouts,
    register,
    repeats,
    share_of,
    subset,
    widest_groups,
)
from methods.clip_cov import CovarianceClip

if TYPE_CHECKING:
    from torch import Tensor

AGGREGATION = "seq-mean-token-sum-norm"
#: How far the stored successes must exceed what a replay takes.
FULL = 1.5


def imitation_coefficient(step: int, coef: float, steps: int) -> float:
    """lambda of a step, counted from 1: from 0 to ``coef`` at ``steps`` along half a cosine."""
    return coef * (1 - math.cos(math.pi * step / steps)) / 2 if step <= steps else coef


def tool_coefficient(step: int, steps: int) -> float:
    """What the reward for tool calls is worth in a step: from 1 to 0 at ``steps`` along half a cosine."""
    return (1 + math.cos(math.pi * step / steps)) / 2 if step <= steps else 0.0


def recalibrated(
    reward_B: Tensor, mask_BT: Tensor, mean: Tensor, std: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """A' of stored rows on their tokens, ``[B,T]``: R less a baseline, over ``std + eps`` if given."""
    centred_B = reward_B - mean
    return (centred_B if std is None else centred_B / (std + eps))[:, None] * mask_BT


def worth_keeping(advantage_BT: Tensor) -> Tensor:
    """Bool ``[B]``: the mean over the padded length is above 0; a row without tokens is not."""
    return advantage_BT.mean(1) > 0


def median(value_G: Tensor) -> Tensor:
    """The median, 0-dimensional: between the middle two of an even number."""
    return value_G.quantile(0.5)


def above(reward_B: Tensor, baseline: Tensor) -> Tensor:
    """Bool ``[B]``: better than the baseline."""
    return reward_B > baseline


def replay_size(kept: int, size: int) -> int:
    """Rows that a replay takes of ``kept``: the largest power of two, ``size`` at most; of one row none."""
    return 0 if kept <= 1 else min(1 << (kept.bit_length() - 1), size)


def is_full(stored: int, size: int) -> bool:
    """Whether enough successes are stored for a replay."""
    return stored > FULL * size


@dataclass(frozen=True)
class Usable:
    """Which responses train; each reason to leave one out can be switched off."""

    overlong: bool = True
    incomplete: bool = True
    repetitive: bool = True
    unreadable: bool = True

    def __call__(self, batch: Batch) -> Tensor:
        """Bool ``[B]``."""
        bad_B = torch.zeros(len(batch), dtype=torch.bool)
        if self.overlong:
            bad_B |= batch.truncated_B
        if self.incomplete:
            bad_B |= torch.tensor([v.canonical is None for v in batch.verdicts or ()], dtype=torch.bool)
        if self.unreadable:
            bad_B |= torch.tensor([UNREADABLE in text for text in batch.texts])
        if self.repetitive:
            rows = zip(batch.response_BT, batch.mask_BT, strict=True)
            bad_B |= torch.tensor([repeats(ids[mask].tolist()) for ids, mask in rows])
        return ~bad_B


class Successes(Component):
    """Stored successes and the groups' rewards of the last steps; what to replay, and whether.

    Attributes:
        buffer: the rows; of at most ``tolerate + 1`` steps, which bounds them.
        history: (step, mean of each group, standard deviation of each group), oldest first.
    """

    def __init__(
        self, usable: Usable, share: float, tolerate: int, baseline_steps: int, normed: bool,
        stored_weight: float | None, eps: float = 1e-6,
    ) -> None:  # fmt: skip
        self.usable, self.share, self.tolerate, self.baseline_steps = usable, share, tolerate, baseline_steps
        self.normed, self.stored_weight, self.eps = normed, stored_weight, eps
        self.buffer = ReplayBuffer(1)
        self.history: list[tuple[int, list[float], list[float]]] = []

    def size(self, ctx: StepContext) -> int:
        """N, rows."""
        return replay_rows(self.share, ctx.prompts_per_step * ctx.group_size)

    def medians(self) -> tuple[Tensor, Tensor]:
        """Medians of the groups' means and standard deviations, 0-dimensional."""
        means = torch.tensor([v for _, values, _ in self.history for v in values], dtype=torch.float64)
        stds = torch.tensor([v for _, _, values in self.history for v in values], dtype=torch.float64)
        return median(means), median(stds)

    def due(self, ctx: StepContext) -> bool:
        """Whether this step replays."""
        if not len(self.buffer):
            return False
        stored = len(self.buffer)
        if self.stored_weight is None:
            stored = int(above(self.buffer.reward_N, self.medians()[0]).sum())
        return is_full(stored, self.size(ctx))

    def replayed(self, batch: Batch, ctx: StepContext) -> Batch | None:
        """What this step replays, with its new advantages."""
        if not self.due(ctx):
            return None
        rows = self.buffer.read(self.buffer.places())
        if self.stored_weight is not None:
            advantage_BT = rows.advantages() * self.stored_weight
            kept = self.buffer.places()
        else:
            mean, std = self.medians()
            reward_B = rows.rewards().double()
            advantage_BT = recalibrated(
                reward_B, rows.train_mask_BT, mean, std if self.normed else None, self.eps
            )
            kept = worth_keeping(advantage_BT).nonzero().flatten()
        chosen = subset(kept, replay_size(len(kept), self.size(ctx)), ctx.generator("successes"))
        advantage_BT = advantage_BT.to(rows.advantages().dtype)
        return rows.with_(advantage_BT=advantage_BT).rows(chosen) if len(chosen) else None

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        """Empties what the plan of this step replays, then stores this step's successes."""
        if self.due(ctx):
            self.buffer.clear()
        if len(self.buffer):
            self.buffer.drop_before(int(self.buffer.step_N.max()) - self.tolerate)
        self._remember(batch, ctx)
        credit_BT = batch.advantages() * (batch.train_mask_BT & self.usable(batch)[:, None])
        self.buffer.rows = (self.tolerate + 2) * ctx.prompts_per_step * ctx.group_size
        self.buffer.add(batch.rows(worth_keeping(credit_BT)), ctx.step)
        return {"spear/stored": float(len(self.buffer)), "spear/median": float(self.medians()[0])}

    def _remember(self, batch: Batch, ctx: StepContext) -> None:
        """Append this step's groups; steps beyond the window have gone before, as in the code."""
        while sum(len(means) for _, means, _ in self.history) > self.baseline_steps * ctx.prompts_per_step:
            self.history.pop(0)
        mean_B, std_B = group_mean_std(batch.rewards().double(), batch.group_B)
        first = [int((batch.group_B == group).nonzero()[0]) for group in torch.unique(batch.group_B)]
        self.history.append((ctx.step, mean_B[first].tolist(), std_B[first].tolist()))

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": self.buffer.state_dict(), "history": [list(step) for step in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.buffer.load_state_dict(state["buffer"])
        self.history = [(int(step), list(means), list(stds)) for step, means, stds in state["history"]]


def replay_rows(share: float, rollouts: int) -> int:
    """N: the share of a step's rollouts, at least one row."""
    return int(share_of(rollouts, share))


@dataclass(frozen=True)
class WidestGroups(GroupFilter):
    """The share of the groups with the largest spread of rewards."""

    share: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(widest_groups(batch.rewards(), batch.group_B, self.share))


@dataclass(frozen=True)
class UsableRows(Selection):
    """Every row stays; those that do not train have an empty mask, as in the code."""

    usable: Usable

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        keep_B = self.usable(batch)
        masked = batch.with_(loss_mask_BT=batch.train_mask_BT & keep_B[:, None])
        return Out(masked, {"spear/unusable": 1 - float(keep_B.float().mean())})


@dataclass(frozen=True)
class Curriculum:
    """lambda of a step."""

    coef: float
    steps: int

    def __call__(self, ctx: StepContext) -> float:
        return imitation_coefficient(ctx.step, self.coef, self.steps)


@register("spear")
@dataclass(frozen=True)
class SPEAR(Method):
    """Dr.BoT with a replay of its own successes against the median of the last rewards."""

    replay_share: float = hp(0.5, "N, rows of a replay at most, as a share of a step's rollouts", gt=0)
    replay_coef: float = hp(1.0, "lambda at the end of its ascent", ge=0)
    replay_steps: int = hp(200, "S, steps over which lambda rises", ge=1)
    tolerate: int = hp(10, "steps that a stored row may be older than the newest", ge=0, le=10)
    baseline_steps: int = hp(8, "steps whose groups the median is taken of, in whole batches", ge=1)
    stored_weight: float | None = hp(
        None,
        "replay the stored advantage times this instead of the recalibrated one; null is off",
        gt=0,
        le=1,
    )
    norm_by_std: bool = hp(False, "divide A by the group's std and A' by the median of them")
    keep_groups: float = hp(0.75, "share of the groups that train, those of the largest spread", gt=0, le=1)
    share: float = hp(0.02, "tokens that Clip-Cov drops, as a share of a minibatch's", gt=0, le=1)
    w_low: float = hp(1.0, "lower end of the covariance band (advantage x nats)")
    w_high: float = hp(40.0, "upper end of the covariance band (advantage x nats)")
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    drop_overlong: bool = hp(True, "responses that met the token limit do not train")
    drop_incomplete: bool = hp(True, "responses without an answer do not train")
    drop_repetitive: bool = hp(True, "responses in which 20 tokens in a row come ten times do not train")
    drop_unreadable: bool = hp(True, "responses with bytes that are no text do not train")

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "spear compares the rollouts of a prompt")
        if self.w_low >= self.w_high:
            raise UserError("method.w_low is not below method.w_high, so no token is eligible; lower it")
        prompts, rollouts = run.rollout.prompts_per_step, run.rollout.group_size
        groups = share_of(prompts, self.keep_groups, least=0)
        if not groups:
            raise UserError(
                f"method.keep_groups={self.keep_groups:g} of {prompts} prompts keeps no group; raise it or "
                "rollout.prompts_per_step"
            )
        most = groups * (rollouts - 1) * (self.tolerate + 1)
        size = replay_rows(self.replay_share, prompts * rollouts)
        if self.replay_coef and not is_full(most, size):
            raise UserError(
                f"spear replays once more than {FULL:g} x {size} successes are stored, and method.tolerate="
                f"{self.tolerate} keeps {most} at most, so it never would; lower method.replay_share or "
                "raise method.tolerate"
            )

    def stages(self) -> Stages:
        usable = Usable(self.drop_overlong, self.drop_incomplete, self.drop_repetitive, self.drop_unreadable)
        clip = CovarianceClip(self.share, self.w_low, self.w_high, self.eps_low, self.eps_high)
        stages = grpo_stages().with_(
            reward=VerdictReward(1.0, -1.0),
            group_filter=WidestGroups(self.keep_groups),
            advantage=GroupAdvantage(scale="group" if self.norm_by_std else "none"),
            selection=UsableRows(usable),
            loss=PolicyLoss(
                ratio=clip.ratio,
                bounds=FixedBounds(self.eps_low, self.eps_high),
                weight=clip,
                aggregation=AGGREGATION,
            ),
        )
        if not self.replay_coef:
            return stages
        successes = Successes(
            usable,
            self.replay_share,
            self.tolerate,
            self.baseline_steps,
            self.norm_by_std,
            self.stored_weight,
        )
        plan = ReplayPlan(
            ShuffledMinibatches(), successes.replayed, Curriculum(self.replay_coef, self.replay_steps),
            name="spear",
        )  # fmt: skip
        return stages.with_(plan=plan, components={"successes": successes})
