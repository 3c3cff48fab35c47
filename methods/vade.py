r"""VADE: the prompts whose estimated difficulty promises the most information come next (arXiv 2511.18902).

Every problem i of the training set has counts alpha_i, beta_i of right and wrong rollouts, from 0. A draw:

    p_i ~ Beta(alpha_i + 1, beta_i + 1)                 for every problem
    I_i = p_i (1 - p_i)^2                               largest, 4/27, at p = 1/3
    the problems with the largest I are drawn

and once their G rollouts are judged, r_i of them right:

    alpha_i <- l1 alpha_i + r_i,  beta_i <- l1 beta_i + G - r_i         of those that were drawn
    alpha_i <- l2 alpha_i,        beta_i <- l2 beta_i                   of all others

The uniform prior (the + 1) is there while drawing and is not stored. The update is GRPO's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from entrobench import Batch, Problem, PromptSource, Stages, StepContext, UserError, hp, register
from methods.grpo import GRPO

if TYPE_CHECKING:
    from torch import Tensor


def information(p_N: Tensor, failure_power: float = 2.0) -> Tensor:
    """I of success probabilities, any shape."""
    return p_N * (1 - p_N) ** failure_power


def most_informative(information_N: Tensor, n: int) -> Tensor:
    """Places of the ``n`` largest values, int64, the largest first; of equal ones the first."""
    return information_N.argsort(descending=True, stable=True)[:n]


def counted(
    count_N: Tensor, drawn_N: Tensor, more_N: Tensor, decay_drawn: float, decay_others: float
) -> Tensor:
    """Counts after a step, ``[N]``: those of drawn problems (bool) decay, then grow by ``more_N``."""
    return torch.where(drawn_N, decay_drawn * count_N + more_N, decay_others * count_N)


class InformativePrompts(PromptSource):
    """The counts of all problems, and the draw from them.

    Attributes:
        right_N, wrong_N: alpha and beta, float64, in the order of the training set that was bound.
    """

    right_N: Tensor
    wrong_N: Tensor

    def __init__(
        self, decay_drawn: float, decay_others: float, failure_power: float, sampled: bool = True
    ) -> None:
        self.decay_drawn, self.decay_others, self.failure_power = decay_drawn, decay_others, failure_power
        self.sampled = sampled
        self._draws, self._held = 0, set[int]()
        self._problems: Sequence[Problem] = ()
        self._place: dict[str, int] = {}
        self._seed = 0

    def bind(self, problems: Sequence[Problem], seed: int) -> None:
        if not problems:
            raise ValueError("the training split is empty; choose another with data.train_split=…")
        self._problems, self._seed = problems, seed
        self._place = {problem.id: place for place, problem in enumerate(problems)}
        if len(self._place) < len(problems):
            raise UserError(
                "vade counts the verdicts of each problem, and some problems of the training split share an "
                "id; take a split without copies"
            )
        self.right_N = self.wrong_N = torch.zeros(len(problems), dtype=torch.float64)

    def begin_step(self, ctx: StepContext) -> None:
        self._held = set()

    def draw(self, n: int) -> list[Problem]:
        """The ``n`` most informative problems that this step does not have yet."""
        free = len(self._problems) - len(self._held)
        if n > free:
            raise UserError(
                f"vade draws {n} different problems at once, and the training split has {free} left for this "
                "step; lower rollout.prompts_per_step"
            )
        value_N = information(self.probabilities(), self.failure_power)
        value_N[list(self._held)] = -1.0
        chosen = most_informative(value_N, n).tolist()
        self._draws += 1
        self._held.update(chosen)
        return [self._problems[place] for place in chosen]

    def probabilities(self) -> Tensor:
        """p of every problem, ``[N]``: drawn for this draw, or the mean of its distribution."""
        if not self.sampled:
            return (self.right_N + 1) / (self.right_N + self.wrong_N + 2)
        generator = np.random.default_rng([self._seed, self._draws])
        drawn = generator.beta(self.right_N.numpy() + 1, self.wrong_N.numpy() + 1)
        return torch.from_numpy(drawn)

    def after_rollout(self, batch: Batch, ctx: StepContext) -> None:
        place_B = torch.tensor([self._place.get(problem.id, -1) for problem in batch.problems])
        known_B = (batch.tag("judged", 1.0) > 0) & (place_B >= 0)
        right_N, rows_N = torch.zeros_like(self.right_N), torch.zeros_like(self.right_N)
        place = place_B[known_B]
        right_N.index_add_(0, place, batch.correct_B[known_B].double())
        rows_N.index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
        decays = (self.decay_drawn, self.decay_others)
        self.right_N = counted(self.right_N, rows_N > 0, right_N, *decays)
        self.wrong_N = counted(self.wrong_N, rows_N > 0, rows_N - right_N, *decays)

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        seen_N = self.right_N + self.wrong_N > 0
        mean_N = (self.right_N + 1) / (self.right_N + self.wrong_N + 2)
        return {
            "vade/seen": float(seen_N.double().mean()),
            "vade/difficulty": float(mean_N[seen_N].mean()) if bool(seen_N.any()) else 0.5,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"right": self.right_N, "wrong": self.wrong_N, "draws": self._draws}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if len(state["right"]) != len(self._problems):
            raise UserError(
                f"the checkpoint counts verdicts of {len(state['right'])} problems, and the training split "
                f"has {len(self._problems)}; go on with the split that the run began with"
            )
        self.right_N, self.wrong_N, self._draws = state["right"], state["wrong"], int(state["draws"])


@register("vade")
@dataclass(frozen=True)
class VADE(GRPO):
    """GRPO on the problems that a bandit over the whole training set finds informative."""

    decay_drawn: float = hp(
        0.2, "share of a problem's counts that is left when it is drawn again", ge=0, le=1
    )
    decay_others: float = hp(0.999, "share of the other problems' counts that a step leaves", ge=0, le=1)
    failure_power: float = hp(2.0, "power of 1 - p in the information p (1 - p)^2; 1 is an ablation", gt=0)
    sampled: bool = hp(True, "draw p, or take its mean (an ablation)")

    def stages(self) -> Stages:
        prompts = InformativePrompts(self.decay_drawn, self.decay_others, self.failure_power, self.sampled)
        return super().stages().with_(prompts=prompts)
