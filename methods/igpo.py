r"""IGPO: information-gain-based policy optimisation (arXiv 2510.14967), for responses of one turn.

A response is cut into K segments, which stand for the turns of an agent. In front of each the reference
answer is forced, behind a closing (``The answer is \boxed{``), under the policy that sampled:

    P_k   exp(mean log-prob of the answer's tokens) in front of segment k = 0 .. K-1
    r_k   P_{k+1} - P_k on the last token of segment k = 0 .. K-2 (``log_prob_diff``: of their logarithms)
    r_K-1 the outcome: 1 if right, else 0; ``unparsed`` where no answer can be read

    igpo@released   G_it = sum of r from token t on;  A_it = G_it - mean_j G_jt over the group at the SAME
                    token position, where a response that is over counts with 0; no std
    igpo@paper      z = (r - mean) / (std + 1e-6) over all r of the group (``norm=joint``), or over gains and
                    outcomes apart (``separate``); A_ik = sum_{j >= k} gamma^(j-k) z_ij on all tokens of k

then the clipped loss (0.2 / 0.2), kl_coef k3(logp, ref_logp) and an entropy bonus, means over all tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    Advantage,
    Batch,
    ClippedMethod,
    Draw,
    EntropyBonus,
    Generate,
    Out,
    Problem,
    Program,
    Prompt,
    ReferenceKL,
    Reward,
    RolloutProgram,
    RunConfig,
    Stages,
    StepContext,
    UserError,
    Verify,
    answer_of,
    at_last_token,
    equal_parts,
    forced_answers,
    grpo_stages,
    hp,
    is_text,
    part_starts,
    refuse_lone_rollouts,
    register,
    returns_to_go,
    rows_by_group,
    segments_from,
    step_numbers,
)

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-6
CUTS = ("equal", "paragraph")
GAINS = ("prob_diff", "log_prob_diff")
NORMS = ("joint", "separate")
#: What a paragraph ends with.
PARAGRAPH = r"\n\s*\n"
#: What the answer is forced behind: where problems ask in words, and where they are formal.
BOXED, FORMAL = "\nThe answer is \\boxed{", "="


def answer_prob(logp: Sequence[float]) -> float:
    """P: the geometric mean of the answer's token probabilities."""
    return math.exp(sum(logp) / len(logp))


def gains(prob: Sequence[float], how: str = "prob_diff") -> list[float]:
    """r_k of all segments but the last, from P in front of each."""
    value = [math.log(p) for p in prob] if how == "log_prob_diff" else list(prob)
    return [after - before for before, after in zip(value, value[1:], strict=False)]


def ends_of(segment_BT: Tensor, mask_BT: Tensor) -> list[list[int]]:
    """The last token of each segment of each response."""
    found = []
    for number, mask in zip(segment_BT.tolist(), mask_BT.bool().tolist(), strict=True):
        inside = [t for t, m in enumerate(mask) if m]
        following = dict(zip(inside, inside[1:], strict=False))
        found.append([t for t in inside if t not in following or number[following[t]] != number[t]])
    return found


def position_advantages(return_BT: Tensor, mask_BT: Tensor, group_B: Tensor) -> Tensor:
    """Returns minus the group's mean at the same token position, ``[B,T]``; 0 on padding."""
    out = torch.zeros_like(return_BT)
    for rows in rows_by_group(group_B):
        out[rows] = return_BT[rows] - return_BT[rows].mean(0, keepdim=True)
    return out * mask_BT


def normalised(turns: Sequence[Sequence[float]], norm: str, eps: float = EPS) -> list[list[float]]:
    """z of the turn rewards of one group's responses; the last of each is its outcome."""
    if norm == "joint":
        return _scored(turns, [r for own in turns for r in own], eps)
    inner = [list(own[:-1]) for own in turns]
    scored = _scored(inner, [r for own in inner for r in own], eps)
    outcome = _scored([[own[-1]] for own in turns], [own[-1] for own in turns], eps)
    return [[*z, *last] for z, last in zip(scored, outcome, strict=True)]


def _scored(turns: Sequence[Sequence[float]], pool: Sequence[float], eps: float) -> list[list[float]]:
    if not pool:
        return [[] for _ in turns]
    mean = math.fsum(pool) / len(pool)
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in pool) / len(pool))
    return [[(r - mean) / (std + eps) for r in own] for own in turns]


def discounted(values: Sequence[float], gamma: float) -> list[float]:
    """The discounted sum from each place on."""
    out, running = [], 0.0
    for value in reversed(values):
        running = value + gamma * running
        out.append(running)
    return out[::-1]


def turn_advantages(
    turns: Sequence[Sequence[float]], group_B: Tensor, gamma: float, norm: str = "joint", eps: float = EPS
) -> list[list[float]]:
    """A of each segment of each response."""
    out: list[list[float]] = [[] for _ in turns]
    for rows in rows_by_group(group_B):
        for row, z in zip(rows, normalised([turns[row] for row in rows], norm, eps), strict=True):
            out[row] = discounted(z, gamma)
    return out


@dataclass(frozen=True)
class GainRollout(RolloutProgram):
    """The plain rollouts, cut into segments, with the information gain of each on its last token."""

    cut: str
    segments: int
    gain: str
    closing: str

    writes_tags = frozenset({"gain"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        tails = [self.tail(problem, ctx) for problem in problems]
        batch = yield Generate([Prompt(p, group) for group, p in enumerate(problems)], ctx.group_size)
        batch = yield Verify(batch)
        starts = self.starts(batch, ctx)
        mine = [tails[group] for group in batch.group_B.tolist()]
        closings = {closing for closing, _ in mine}
        gain_BT = torch.zeros(batch.mask_BT.shape)
        segment_BT = segments_from(starts, batch.mask_BT)
        ends = ends_of(segment_BT, batch.mask_BT)
        for closing in sorted(closings):
            rows = [row for row, (own, _) in enumerate(mine) if own == closing]
            answers = [mine[row][1] for row in rows]
            forced = yield from forced_answers(
                batch.rows(rows), [starts[row] for row in rows], closing, answers
            )
            for row, logps in zip(rows, forced, strict=True):
                own = gains([answer_prob(logp) for logp in logps], self.gain)
                gain_BT[row, ends[row][:-1]] = torch.tensor(own)
        return batch.with_(segment_BT=segment_BT).with_token_tags(gain=gain_BT)

    def starts(self, batch: Batch, ctx: StepContext) -> list[list[int]]:
        """Where each response's segments begin."""
        if self.cut == "equal":
            return [equal_parts(length, self.segments) for length in batch.length_B.tolist()]
        return part_starts(step_numbers(batch, ctx, PARAGRAPH), batch.mask_BT, self.segments)

    def tail(self, problem: Problem, ctx: StepContext) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of the closing and of the answer that are forced.

        Raises:
            UserError: no answer is known, or it would not fit into the context.
        """
        closing = self.closing if self.closing != "auto" else BOXED if is_text(problem) else FORMAL
        answer = tuple(ctx.encode(answer_of(problem)))
        if not answer:
            raise UserError(
                f"igpo forces the reference answer, and problem {problem.id} has none; choose another "
                "data.benchmark"
            )
        front = tuple(ctx.encode(closing))
        needed = len(ctx.encode(problem.prompt)) + ctx.max_response_tokens + len(front) + len(answer)
        if ctx.context is not None and needed > ctx.context:
            raise UserError(
                f"igpo forces {len(front) + len(answer)} tokens behind a response, and problem {problem.id} "
                f"then needs {needed} of the model's context of {ctx.context}; lower "
                "rollout.max_response_tokens"
            )
        return front, answer


def segments_of(batch: Batch) -> Tensor:
    """Numbers of segments, ``[B,T]``; a response that nobody cut is one."""
    return torch.zeros_like(batch.response_BT) if batch.segment_BT is None else batch.segment_BT


@dataclass(frozen=True)
class GainReward(Reward):
    """Gains where the rollout program put them, and the outcome on the last token; token by token."""

    unparsed: float

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        answers = [verdict.canonical for verdict in batch.verdicts or ()]
        lost_B = torch.tensor([answer is None for answer in answers], dtype=torch.bool)
        outcome_B = torch.where(lost_B & (batch.correct_B == 0), self.unparsed, batch.correct_B)
        gain_BT = batch.token_tags.get("gain")
        last_BT = at_last_token(outcome_B, batch.mask_BT)
        if gain_BT is None:
            return Out(last_BT)
        moved = gain_BT[gain_BT != 0]
        metrics = {
            "igpo/gain": float(gain_BT.sum(1).mean()),
            "igpo/gain_size": float(moved.abs().mean()) if len(moved) else 0.0,
            "igpo/segments": float(segments_of(batch).amax(1).double().mean()) + 1,
        }
        return Out(last_BT + gain_BT * batch.mask_BT, metrics)


def reward_tokens(batch: Batch) -> Tensor:
    """``reward_BT`` of the reward stage.

    Raises:
        ValueError: rewards are not by token.
    """
    if batch.reward_BT is None:
        raise ValueError("igpo's advantages need the reward of each token, which its own reward stage gives")
    return batch.reward_BT


@dataclass(frozen=True)
class PositionAdvantage(Advantage):
    """The released form; ``gamma`` is 1 there."""

    gamma: float = 1.0

    def of(self, batch: Batch) -> Tensor:
        """``[B,T]`` float64."""
        return_BT = returns_to_go(reward_tokens(batch).double(), batch.mask_BT, self.gamma)
        return position_advantages(return_BT, batch.mask_BT, batch.group_B)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        return Out(self.of(batch).to(reward_tokens(batch).dtype))


@dataclass(frozen=True)
class TurnAdvantage(Advantage):
    """The paper's form."""

    gamma: float
    norm: str
    eps: float = EPS

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        segment_BT, reward_BT = segments_of(batch), reward_tokens(batch).double()
        ends = ends_of(segment_BT, batch.mask_BT)
        # a reward inside a segment would be lost: all of them stand at its end
        turns = [reward_BT[row, own].tolist() for row, own in enumerate(ends)]
        advantages = turn_advantages(turns, batch.group_B, self.gamma, self.norm, self.eps)
        return Out(over_segments(advantages, segment_BT, batch.mask_BT).to(reward_tokens(batch).dtype))


def over_segments(values: Sequence[Sequence[float]], segment_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """A value of each segment on its tokens, ``[B,T]`` float64; 0 on padding."""
    out = torch.zeros(mask_BT.shape, dtype=torch.float64)
    for row, own in enumerate(values):
        mask = mask_BT[row].bool()
        out[row, mask] = torch.tensor(own, dtype=torch.float64)[segment_BT[row, mask]]
    return out


@dataclass(frozen=True)
class InformationGain(ClippedMethod):
    """What both entries share."""

    cut: str = hp("equal", "segments: equal parts, or paragraphs", choices=CUTS)
    segments: int = hp(4, "segments of a response at most", ge=1)
    gain: str = hp("prob_diff", "difference of probabilities, or of their logarithms", choices=GAINS)
    closing: str = hp("auto", "what the answer is forced behind; auto: a box, or = for formal problems")
    unparsed: float = hp(0.0, "outcome of a response without a readable answer", le=0)
    kl_coef: float = hp(0.001, "weight of the k3 KL to the frozen reference", ge=0)
    entropy_coef: float = hp(0.001, "weight of the entropy bonus", ge=0)

    def validate(self, run: RunConfig) -> None:
        refuse_lone_rollouts(run, "igpo compares the segments of a prompt's rollouts")

    def with_advantage(self, advantage: Advantage) -> Stages:
        """All stages around the entry's own advantages."""
        regularisers = (
            *((ReferenceKL(self.kl_coef, "k3", self.aggregation),) if self.kl_coef else ()),
            *((EntropyBonus(self.entropy_coef, self.aggregation),) if self.entropy_coef else ()),
        )
        return grpo_stages().with_(
            rollout=GainRollout(self.cut, self.segments, self.gain, self.closing),
            reward=GainReward(self.unparsed),
            advantage=advantage,
            loss=self.clipped_loss(),
            regularisers=regularisers,
        )


@register("igpo@released")
@dataclass(frozen=True)
class IGPOReleased(InformationGain):
    """The code of November 2025: returns compared at the same token position."""

    unparsed: float = hp(-2.0, "outcome of a response without a readable answer", le=0)

    def stages(self) -> Stages:
        return self.with_advantage(PositionAdvantage())


@register("igpo@paper")
@dataclass(frozen=True)
class IGPOPaper(InformationGain):
    """Turn rewards normalised within the group, then summed from each segment on."""

    norm: str = hp("joint", "z-scores of all turn rewards together, or of outcomes apart", choices=NORMS)
    gamma: float = hp(1.0, "discount from segment to segment", ge=0, le=1)

    def stages(self) -> Stages:
        return self.with_advantage(TurnAdvantage(self.gamma, self.norm))
