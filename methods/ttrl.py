r"""TTRL: test-time reinforcement learning (arXiv 2504.16084): agreement with the majority is the reward.

Per prompt, with G = rollout.group_size rollouts that all vote:

    label  the most frequent answer; of equal counts the one met first. Having no answer is an answer, too.
    R_i    1 if rollout i's answer equals the label, else 0
    A_i    (R_i - mean) / (std + 1e-6) over the FIRST train_share G rollouts, which alone are trained on

then the clipped loss with a dual clip plus kl_coef k3(logp, ref_logp), means over all tokens. Verdicts are
used for the metrics alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ANSWER_FORMS,
    Batch,
    ClippedMethod,
    FirstAdvantage,
    FirstRollouts,
    Out,
    ReferenceKL,
    Reward,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    answers_of,
    elected,
    grpo_stages,
    hp,
    register,
    share_of,
)

if TYPE_CHECKING:
    from torch import Tensor

Answers = Sequence[str | None]


def agreement(voted: Answers, canonical: Answers, label_rows: Sequence[int | None]) -> Tensor:
    """1.0 where a row's answer is its group's label, as a string or in the canonical form, else 0.0; ``[B]``.

    Args:
        voted: the answers that were voted on.
        label_rows: a row that has the label, or None where the group has no label.
    """
    equal = [
        label is not None
        and (voted[i] == voted[label] or (canonical[i] is not None and canonical[i] == canonical[label]))
        for i, label in enumerate(label_rows)
    ]
    return torch.tensor(equal, dtype=torch.get_default_dtype())


def majority(batch: Batch, form: str, drop_empty_votes: bool, name: str) -> Out[Tensor]:
    """:func:`agreement` of a batch's rows, ``[B]``, with metrics that tell how good a label it is."""
    voted = answers_of(batch, form)
    labels = elected(voted, batch.group_B, missing_votes=not drop_empty_votes)
    agrees = agreement(voted, answers_of(batch), labels)
    correct = batch.correct_B
    by_row = [0.0 if label is None else float(correct[label]) for label in labels]
    metrics = {
        f"{name}/label_accuracy": sum(by_row) / len(by_row),
        f"{name}/reward_accuracy": float((agrees == correct).float().mean()),
        f"{name}/majority": float(agrees.mean()),
    }
    return Out(agrees, metrics)


def refuse_few(run: RunConfig, train_share: float, name: str) -> None:
    """Refuse a run in which fewer than two rollouts of a prompt would train.

    Raises:
        UserError: so.
    """
    size = run.rollout.group_size
    if share_of(size, train_share) < 2:
        raise UserError(
            f"{name} trains on {share_of(size, train_share)} of {size} rollouts, and a group needs two; "
            "raise rollout.group_size or method.train_share"
        )


@dataclass(frozen=True)
class MajorityReward(Reward):
    """Agreement with the majority answer of the group."""

    answers: str
    drop_empty_votes: bool

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return majority(batch, self.answers, self.drop_empty_votes, "ttrl")


@register("ttrl")
@dataclass(frozen=True)
class TTRL(ClippedMethod):
    """GRPO with the majority answer in place of the reference answer."""

    train_share: float = hp(
        0.5, "share of a prompt's rollouts that train, the first; all vote (32 of 64)", gt=0, le=1
    )
    drop_empty_votes: bool = hp(False, "responses without an answer do not vote")
    answers: str = hp("canonical", "what is voted on: the grader's form or the writing", choices=ANSWER_FORMS)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    kl_coef: float = hp(0.001, "weight of the k3 KL to the frozen reference", ge=0)

    def validate(self, run: RunConfig) -> None:
        refuse_few(run, self.train_share, "ttrl")

    def stages(self) -> Stages:
        kl = ReferenceKL(self.kl_coef, "k3", self.aggregation)
        return grpo_stages().with_(
            reward=MajorityReward(self.answers, self.drop_empty_votes),
            advantage=FirstAdvantage(self.train_share),
            selection=FirstRollouts(self.train_share),
            loss=self.clipped_loss(),
            regularisers=(kl,) if self.kl_coef else (),
        )
