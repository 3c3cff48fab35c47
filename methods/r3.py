r"""R^3: replay, reflection and ranking rewards, so that no group is wasted (arXiv 2601.19620).

Reward R = 1 + max(0, 1 - l / L_max) of a right response of l tokens, else 0. The first pass over the training
set is plain GRPO; rollouts are stored by prompt. From the second pass on:

    ISR    a prompt whose mean verdict so far is below tau comes a second time, as a query of its own: the
           prompt, one of its stored wrong responses, and the request to reflect on it
    SERR   in a group without a right response, over its truncated responses (N of them):
           E_peak = mean of the max(1, floor(p l)) largest token entropies H_t,  E_global = mean H_t
           i dominates j iff E_peak_i > E_peak_j and E_global_i < E_global_j;  S_i = number dominated
           R = R_max (1 - k / (N - 1)) for rank k by S, descending; of equal S the earlier row
    CCR    to a group of equal verdicts k stored responses of the opposite one are added, if there are any;
           of all rows of such a group A = (R - mean) / (alpha std + lambda), else (R - mean) / (std + lambda)

The loss is GRPO's. Replayed rows are trained with the log-probs they were drawn with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from entrobench import (
    ENTROPY,
    LOGP,
    Batch,
    Component,
    Draw,
    FixedBounds,
    Generate,
    GroupAdvantage,
    Method,
    Out,
    PolicyLoss,
    Problem,
    Program,
    Prompt,
    ReplayBuffer,
    Reward,
    RolloutProgram,
    RunConfig,
    Selection,
    ShuffledPrompts,
    Stages,
    Stats,
    StepContext,
    TokenRatio,
    UserError,
    Verify,
    as_replays,
    behind_question,
    concat,
    group_mean_std,
    grpo_stages,
    hp,
    question_of,
    refuse_lone_rollouts,
    register,
    rows_by_group,
    share_of,
    subset,
    with_prompt,
    with_replays,
)

if TYPE_CHECKING:
    from torch import Tensor

#: How a query asks to reflect: in words, or, for models that read none, by the question once more.
REQUESTS = ("words", "again")
WORDS = (
    "\n\nAn earlier answer was:\n{quote}\n\nIt is wrong. Say what went wrong, then solve the problem again."
)


def entropy_levels(entropy_BT: Tensor, mask_BT: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """E_peak and E_global of each response, ``[B]`` each, nats; 0 of an empty one."""
    mask = mask_BT.bool()
    length_B = mask.sum(1)
    sorted_BT = torch.where(mask, entropy_BT, -torch.inf).sort(1, descending=True).values
    k_B = torch.minimum(share_of(length_B, share), length_B)
    top = torch.arange(mask.shape[1]) < k_B[:, None]
    peak_B = torch.where(top, sorted_BT, 0.0).sum(1) / k_B.clamp(min=1)
    return peak_B, torch.where(mask, entropy_BT, 0.0).sum(1) / length_B.clamp(min=1)


def dominated(peak_B: Tensor, global_B: Tensor) -> Tensor:
    """S, ``[B]`` int64: how many of these rows each one dominates."""
    higher = peak_B[:, None] > peak_B[None]
    lower = global_B[:, None] < global_B[None]
    return (higher & lower).sum(1)


def ranked_rewards(dominated_B: Tensor, top: float) -> Tensor:
    """R of these rows by their rank, ``[B]`` float64; a lone row gets 0: there is nothing to rank."""
    n = len(dominated_B)
    rank_B = torch.empty(n, dtype=torch.float64)
    rank_B[dominated_B.argsort(descending=True, stable=True)] = torch.arange(n, dtype=torch.float64)
    return top * (1 - rank_B / (n - 1)) if n > 1 else torch.zeros(n, dtype=torch.float64)


def mixed_advantage(reward_B: Tensor, group_B: Tensor, mixed_B: Tensor, alpha: float, eps: float) -> Tensor:
    """A of whole groups, ``[B]``: alpha widens the std of the ``mixed_B`` ones (bool)."""
    mean_B, std_B = group_mean_std(reward_B, group_B)
    return (reward_B - mean_B) / (torch.where(mixed_B, alpha, 1.0) * std_B + eps)


def length_bonus(length_B: Tensor, limit: float) -> Tensor:
    """max(0, 1 - l / L_max), ``[B]``."""
    return (1 - length_B / limit).clamp(min=0)


class PooledPrompts(ShuffledPrompts):
    """Shuffled passes over the training set, or over ``pool`` of its problems, which the run's seed draws."""

    def __init__(self, pool: int | None) -> None:
        super().__init__()
        self.pool, self.problems = pool, 0

    def bind(self, problems: Sequence[Problem], seed: int) -> None:
        if self.pool is not None:
            if self.pool > len(problems):
                raise UserError(
                    f"method.pool={self.pool} exceeds the {len(problems)} problems of the training split; "
                    "lower it, or leave it out to train on all of them"
                )
            chosen = np.random.default_rng([seed, self.pool]).permutation(len(problems))[: self.pool]
            problems = [problems[i] for i in sorted(chosen.tolist())]
        super().bind(problems, seed)
        self.problems = len(problems)

    @property
    def passes(self) -> int:
        """Passes that were over before the problem which was drawn last."""
        return max(self.drawn - 1, 0) // self.problems if self.problems else 0


class Experience(Component):
    """The stored rollouts and the verdicts of every prompt so far.

    Attributes:
        buffer: rollouts of the original prompts; the reward of a wrong one is 0.
        verdicts: problem id -> [rollouts, right ones].
    """

    def __init__(self, prompts: PooledPrompts, plain_passes: int, rows: int) -> None:
        self.prompts, self.plain_passes = prompts, plain_passes
        self.buffer = ReplayBuffer(rows, old=None)
        self.verdicts: dict[str, list[int]] = {}

    @property
    def at_work(self) -> bool:
        """Whether the plain passes are over."""
        return self.prompts.passes >= self.plain_passes

    def stored(self, problem: str, right: bool) -> Tensor:
        """Places of a problem's stored responses with this verdict."""
        place = self.buffer.places(problem)
        return place[(self.buffer.reward_N[place] > 0) == right] if len(place) else place

    def failing(self, problem: str, below: float) -> bool:
        """Whether the mean verdict so far is below the threshold; of a new problem there is none."""
        rows, right = self.verdicts.get(problem, (0, 0))
        return rows > 0 and right / rows < below

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        """Store this step's rollouts; the step's own replays have been chosen before."""
        own = batch.rows(~reflections(batch))
        right_B = own.correct_B
        self.buffer.add(own.with_(reward_B=torch.where(right_B > 0, own.rewards(), 0.0)), ctx.step)
        for problem, right in zip(own.problems, right_B.tolist(), strict=True):
            rows, so_far = self.verdicts.get(problem.id, (0, 0))
            self.verdicts[problem.id] = [rows + 1, so_far + int(right)]
        return {"r3/stored": float(len(self.buffer)), "r3/at_work": float(self.at_work)}

    def state_dict(self) -> dict[str, Any]:
        verdicts = {problem: list(counts) for problem, counts in self.verdicts.items()}
        return {"buffer": self.buffer.state_dict(), "verdicts": verdicts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.buffer.load_state_dict(state["buffer"])
        self.verdicts = {k: list(v) for k, v in state["verdicts"].items()}


def reflections(batch: Batch) -> Tensor:
    """Bool ``[B]``: rows of queries that show an earlier failure."""
    return batch.tag("reflection") > 0


def reflecting(problem: Problem, quote: str, request: str) -> Problem:
    """``problem`` with a wrong response behind its question, and the request to reflect on it."""
    added = WORDS.format(quote=quote) if request == "words" else quote + question_of(problem)
    return with_prompt(problem, behind_question(problem, added))


@dataclass(frozen=True)
class Reflections(RolloutProgram):
    """The plain rollouts, and those of the reflection queries, as groups of their own tagged ``extra``.

    A quote is at most half the token limit long, the end of the response, so that a query leaves room.
    """

    experience: Experience
    below: float
    request: str

    writes_tags = frozenset({"extra", "reflection"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        batch = yield Generate(prompts, ctx.group_size)
        batch = tagged(batch, 0.0)
        if queries := self._queries(problems, ctx):
            more = yield Generate(queries, ctx.group_size)
            batch = concat([batch, tagged(more, 1.0)])
        return (yield Verify(batch))

    def _queries(self, problems: Sequence[Problem], ctx: StepContext) -> list[Prompt]:
        if not self.experience.at_work:
            return []
        queries = list[Prompt]()
        for group, problem in enumerate(problems):
            wrong = self.experience.stored(problem.id, right=False)
            if not len(wrong) or not self.experience.failing(problem.id, self.below):
                continue
            row = self.experience.buffer.read(subset(wrong, 1, ctx.generator("reflect", group)))
            ids = row.response_BT[0][row.mask_BT[0]].tolist()[-max(ctx.max_response_tokens // 2, 1) :]
            shown = reflecting(problem, ctx.decode([ids])[0].strip(), self.request)
            queries.append(Prompt(shown, len(problems) + len(queries), stream=1, rewritten=True))
        return queries


def tagged(batch: Batch, value: float) -> Batch:
    """Rows tagged as reflections (1) or not (0)."""
    tag = torch.full((len(batch),), value)
    return batch.with_tags(extra=tag, reflection=tag)


@dataclass(frozen=True)
class RankedReward(Reward):
    """R: verdict and length bonus, and SERR from the entropies of the old pass."""

    experience: Experience
    bonus: float
    limit_factor: float
    peak_share: float
    top: float
    truncated_only: bool

    old_stats = (ENTROPY,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        reward_B = batch.correct_B
        if self.bonus:  # in float64: the std of an all-right group is a small difference, and divides
            bonus_B = length_bonus(batch.length_B.double(), self.limit_factor * ctx.max_response_tokens)
            reward_B = reward_B.double() * (1 + self.bonus * bonus_B)
        ranked = 0
        if self.experience.at_work and self.top:
            levels = entropy_levels(batch.old["entropy"], batch.mask_BT, self.peak_share)
            for rows in rows_by_group(batch.group_B):
                index = torch.tensor(rows)
                if bool(batch.correct_B[index].any()):
                    continue
                if self.truncated_only:
                    index = index[batch.truncated_B[index]]
                scores = dominated(*(level[index] for level in levels))
                reward_B[index] = ranked_rewards(scores, self.top).to(reward_B.dtype)
                ranked += len(index) if len(index) > 1 else 0
        return Out(reward_B, {"r3/ranked": ranked / max(len(batch), 1)})


@dataclass(frozen=True)
class OppositeReplays(Selection):
    """CCR: stored responses of the opposite verdict join groups of equal verdicts, with new advantages."""

    experience: Experience
    share: float
    alpha: float
    eps: float

    writes_tags = frozenset({"extra", "is_replay", "judged"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        place, group = self._chosen(batch, ctx)
        metrics = {"r3/replayed": float(len(place))}
        if not place:
            return Out(batch, metrics)
        unique, at = torch.tensor(place).unique(return_inverse=True)
        rows = as_replays(self.experience.buffer.read(unique), batch)
        rows = rows.rows(at).with_(group_B=torch.tensor(group))
        rows = rows.with_tags(row=int(rows.tags["row"].min()) + torch.arange(len(at)))
        both = with_replays(batch, rows)
        mixed_B = torch.isin(both.group_B, rows.group_B)
        credit_B = mixed_advantage(both.rewards(), both.group_B, mixed_B, self.alpha, self.eps)
        advantage_BT = torch.where(mixed_B[:, None] & both.mask_BT, credit_B[:, None], both.advantages())
        return Out(both.with_(advantage_BT=advantage_BT.to(both.advantages().dtype)), metrics)

    def _chosen(self, batch: Batch, ctx: StepContext) -> tuple[list[int], list[int]]:
        """Places in the buffer, and the group that each of them joins."""
        places: list[int] = []
        groups: list[int] = []
        n = int(share_of(ctx.group_size, self.share, least=0))
        if not self.experience.at_work or not n:
            return places, groups
        reflect_B = reflections(batch)
        for rows in rows_by_group(batch.group_B):
            right_B = batch.correct_B[rows] > 0
            if bool(reflect_B[rows[0]]) or bool(right_B.any()) != bool(right_B.all()):
                continue
            number = int(batch.group_B[rows[0]])
            opposite = self.experience.stored(batch.problems[rows[0]].id, right=not bool(right_B[0]))
            chosen = subset(opposite, n, ctx.generator("opposite", number)).tolist()
            places += chosen
            groups += [number] * len(chosen)
        return places, groups


@dataclass(frozen=True)
class ReplayedRatio(TokenRatio):
    """The token ratio; with ``fresh`` a replayed row's is 1, and its gradient that of its log-prob."""

    fresh: bool = False

    old_stats = (LOGP,)
    current_stats = (LOGP,)

    def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
        plain = super().log_ratio(batch, current)
        if not self.fresh:
            return plain
        logp = current["logp"]
        return torch.where(batch.tag("is_replay")[:, None] > 0, logp - logp.detach(), plain)


@register("r3")
@dataclass(frozen=True)
class R3(Method):
    """GRPO with stored opposites of equal verdicts, reflection on failures and ranked truncated responses."""

    replay_share: float = hp(
        0.25, "k, stored responses that join a group, as a share of its size", ge=0, le=1
    )
    alpha: float = hp(2.0, "widens the std of a group that replays have joined", gt=0)
    reflect_below: float = hp(0.25, "tau, mean verdict below which a prompt comes with a failure", ge=0, le=1)
    request: str = hp("words", "how a query asks to reflect", choices=REQUESTS)
    peak_share: float = hp(
        0.2, "p, share of a response's tokens that its peak entropy is taken of", gt=0, le=1
    )
    ranked_top: float = hp(0.1, "R_max, reward of the best truncated response of a failed group", ge=0, lt=1)
    ranked_rows: str = hp(
        "truncated", "which responses of a failed group are ranked", choices=("truncated", "all")
    )
    bonus: float = hp(1.0, "weight of the reward for short right responses", ge=0)
    limit_factor: float = hp(4.0, "L_max as a multiple of the token limit (32768 of 8192)", gt=0)
    std_eps: float = hp(1e-6, "lambda, added to a std of rewards", ge=0)
    replay_old: str = hp(
        "stored", "what a replayed row's ratio divides by: its own log-probs, or those of the moment",
        choices=("stored", "current"),
    )  # fmt: skip
    plain_passes: int = hp(1, "passes over the training set that are plain GRPO", ge=0)
    pool: int | None = hp(None, "train on so many problems, drawn by the seed; null is the whole split", ge=1)
    stored_rows: int = hp(16_384, "rollouts that are stored at most; the oldest are dropped", ge=1)
    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "r3 compares the rollouts of a prompt")
        rows = run.rollout.prompts_per_step * run.rollout.group_size
        if self.stored_rows < rows:
            raise UserError(
                f"method.stored_rows={self.stored_rows} is less than the {rows} rollouts of a step, so no "
                "prompt would meet its own again; raise it"
            )

    def stages(self) -> Stages:
        prompts = PooledPrompts(self.pool)
        experience = Experience(prompts, self.plain_passes, self.stored_rows)
        return grpo_stages().with_(
            prompts=prompts,
            rollout=Reflections(experience, self.reflect_below, self.request),
            reward=RankedReward(
                experience, self.bonus, self.limit_factor, self.peak_share, self.ranked_top,
                self.ranked_rows == "truncated",
            ),
            advantage=GroupAdvantage(eps=self.std_eps),
            selection=OppositeReplays(experience, self.replay_share, self.alpha, self.std_eps),
            loss=PolicyLoss(
                ratio=ReplayedRatio(fresh=self.replay_old == "current"),
                bounds=FixedBounds(self.eps_low, self.eps_high),
            ),
            components={"experience": experience},
        )  # fmt: skip
