r"""EVOL-RL: the majority selects, novelty varies (arXiv 2509.15194): a label-free reward with two bands.

Per prompt, over all G rollouts:

    y_i      1 if rollout i's answer is the majority's (TTRL's vote), else 0
    valid    the text behind "</think>" has a \boxed{...} with a digit; the others, and a lone valid one, get
             ``invalid`` and are left out
    S_ij     clip(cosine of the texts' embeddings, 0, 1)
    nov_i    1 - (mix mean_{j: y_j = y_i} S_ij + (1 - mix) max_j S_ij)    j != i; the mean over all j if none
    u_i      (nov_i - min) / (max - min) among the rollouts with the same y
    R_i      y = 1: 0.5 + 0.5 u_i;   y = 0: -1 + 0.5 u_i
             all nov equal: the middle of the band; a rollout alone with its y: the upper end

then GRPO's advantage over the first train_share G rollouts, which alone train; the clipped loss (0.2 / 0.28)
plus kl_coef k3(logp, ref_logp) minus entropy_coef H, means over all tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ANSWER_FORMS,
    Batch,
    EntropyBonus,
    FirstAdvantage,
    FirstRollouts,
    FixedBounds,
    Method,
    Out,
    PolicyLoss,
    ReferenceKL,
    Reward,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    check_embedder,
    cosine,
    embedder,
    grpo_stages,
    hp,
    register,
    rows_by_group,
)
from methods.ttrl import majority, refuse_few

if TYPE_CHECKING:
    from torch import Tensor

VALIDS = ("boxed-digit", "answered")
_BOX = re.compile(r"\\boxed\{([^}]*)\}")  # the code's: it knows no nested braces
#: Differences of novelty that rounding makes are none.
ROUNDING = 1e-9
Band = tuple[float, float]


def conclusion(text: str) -> str:
    """What stands behind the last ``</think>``, or the whole text."""
    return text.rpartition("</think>")[2]


def boxes_digit(text: str) -> bool:
    """Whether some box of the text holds a digit."""
    return any(re.search(r"\d", inside) for inside in _BOX.findall(text))


def novelty(similarity_NN: Tensor, majority_N: Tensor, mix: float = 0.5) -> Tensor:
    """nov of rollouts of one prompt, ``[N]``, N >= 2; ``majority_N`` is y, bool."""
    others = ~torch.eye(len(majority_N), dtype=torch.bool)
    alike = others & (majority_N[:, None] == majority_N[None, :])
    counted = torch.where(alike.any(1, keepdim=True), alike, others)
    mean_N = (similarity_NN * counted).sum(1) / counted.sum(1)
    max_N = similarity_NN.masked_fill(~others, -torch.inf).max(1).values
    return 1 - (mix * mean_N + (1 - mix) * max_N)


def banded(novelty_N: Tensor, majority_N: Tensor, positive: Band, negative: Band) -> Tensor:
    """R, ``[N]``: place inside the band of the own class by novelty."""
    reward_N = torch.empty_like(novelty_N)
    for here, (low, high) in ((majority_N, positive), (~majority_N, negative)):
        own = novelty_N[here]
        if not len(own):
            continue
        spread = own.max() - own.min()
        if len(own) == 1:
            reward_N[here] = high
        elif spread <= ROUNDING:
            reward_N[here] = (low + high) / 2
        else:
            reward_N[here] = low + (high - low) * (own - own.min()) / spread
    return reward_N


def rewards_of(
    vectors: Callable[[list[int]], Tensor], majority_B: Tensor, valid_B: Tensor, group_B: Tensor, mix: float,
    positive: Band, negative: Band, invalid: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(R, nov) of each row, ``[B]`` float64; nov is 0 where it is not defined.

    Args:
        vectors: embeddings ``[N,D]`` of rows, asked for group by group.
        majority_B, valid_B: bool.
    """
    reward_B = torch.full((len(group_B),), invalid, dtype=torch.float64)
    novelty_B = torch.zeros_like(reward_B)
    for rows in rows_by_group(group_B):
        kept = [row for row in rows if valid_B[row]]
        if len(kept) < 2:
            continue
        agrees = majority_B[kept]
        novelty_B[kept] = novelty(cosine(vectors(kept)).clamp(0, 1), agrees, mix)
        reward_B[kept] = banded(novelty_B[kept], agrees, positive, negative)
    return reward_B, novelty_B


@dataclass(frozen=True)
class NoveltyReward(Reward):
    """Majority and novelty; see the module."""

    mix: float
    positive: Band
    negative: Band
    invalid: float
    valid: str
    embedder: str
    answers: str
    drop_empty_votes: bool

    def valid_rows(self, batch: Batch, texts: Sequence[str]) -> Tensor:
        """Bool ``[B]``."""
        if self.valid == "boxed-digit":
            return torch.tensor([boxes_digit(text) for text in texts])
        return torch.tensor([verdict.canonical is not None for verdict in batch.verdicts or ()])

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        vote = majority(batch, self.answers, self.drop_empty_votes, "evol_rl")
        texts = [conclusion(text) for text in batch.texts]
        valid = self.valid_rows(batch, texts)
        embed = embedder(self.embedder)
        reward, found = rewards_of(
            lambda rows: embed([texts[row] for row in rows]), vote.value > 0, valid, batch.group_B, self.mix,
            self.positive, self.negative, self.invalid,
        )  # fmt: skip
        metrics = {
            "evol_rl/valid": float(valid.float().mean()),
            "evol_rl/novelty": float(found.sum() / valid.sum().clamp(min=1)),
        }
        # in double precision: rewards that differ little are divided by how little they differ
        return Out(reward, {**vote.metrics, **metrics})


@register("evol-rl")
@dataclass(frozen=True)
class EVOLRL(Method):
    """GRPO without labels: the majority answer decides the sign, the novelty of the text the size."""

    mix: float = hp(0.5, "weight of the mean similarity against the largest one", ge=0, le=1)
    positive_low: float = hp(0.5, "reward of the least novel rollout of the majority")
    positive_high: float = hp(1.0, "reward of the most novel rollout of the majority")
    negative_low: float = hp(-1.0, "reward of the least novel other rollout")
    negative_high: float = hp(-0.5, "reward of the most novel other rollout")
    invalid: float = hp(-1.0, "reward of a rollout that is not valid")
    valid: str = hp(
        "boxed-digit", "valid: a box with a digit, or any answer that the grader reads", choices=VALIDS
    )
    embedder: str = hp("hashed-ngrams", "hashed-ngrams, or folder or hub name of a sentence-embedding model")
    train_share: float = hp(0.5, "share of a prompt's rollouts that train, the first; all vote", gt=0, le=1)
    drop_empty_votes: bool = hp(False, "responses without an answer do not vote")
    answers: str = hp("canonical", "what is voted on: the grader's form or the writing", choices=ANSWER_FORMS)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.28, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(3.0, "cap on -A r for A < 0; null is off", gt=1)
    kl_coef: float = hp(0.001, "weight of the k3 KL to the frozen reference", ge=0)
    entropy_coef: float = hp(0.003, "weight of the entropy bonus", ge=0)

    def validate(self, run: RunConfig) -> None:
        refuse_few(run, self.train_share, "evol-rl")
        ends = (self.invalid, self.negative_low, self.negative_high, self.positive_low, self.positive_high)
        if list(ends) != sorted(ends) or self.negative_high == self.positive_low:
            raise UserError(
                "evol-rl's bands must not cross: set method.invalid <= negative_low <= negative_high < "
                "positive_low <= positive_high"
            )
        check_embedder(self.embedder)

    def stages(self) -> Stages:
        kl = ReferenceKL(self.kl_coef, "k3", "token-mean")
        bonus = EntropyBonus(self.entropy_coef, "token-mean")
        return grpo_stages().with_(
            reward=NoveltyReward(
                self.mix, (self.positive_low, self.positive_high), (self.negative_low, self.negative_high),
                self.invalid, self.valid, self.embedder, self.answers, self.drop_empty_votes,
            ),
            advantage=FirstAdvantage(self.train_share),
            selection=FirstRollouts(self.train_share),
            loss=PolicyLoss(
                bounds=FixedBounds(self.eps_low, self.eps_high),
                dual_clip=self.dual_clip,
                aggregation="token-mean",
            ),
            regularisers=(*((kl,) if self.kl_coef else ()), *((bonus,) if self.entropy_coef else ())),
        )  # fmt: skip
