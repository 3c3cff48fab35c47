r"""Tool-Light's sampling, single-turn (arXiv 2509.23285): branches where a step is most uncertain, and pairs.

The first ``chains`` rollouts of a prompt are main chains, cut into steps (``step_end``). H_t is the truncated
entropy -sum p log p of the ``top_logprobs`` likeliest tokens, not renormalised. For a step of l tokens

    h_n = mean of H_t over its first min(n, l) tokens,    n in ``prefix_lengths``
    score = max_n h_n;   the step is cut behind its first min(n*, l) tokens, n* the smallest that reaches it

From each of the ``positions`` steps of largest score ``branches`` responses go on; what is before the cut is
kept. Originals and branches are one group of GRPO. In place of the paper's preference rounds, among branches
from the same cut the right one of lowest mean entropy (chosen, c) and the wrong one of highest (rejected, r)
are a pair of a DPO loss, of weight ``dpo_coef``; what they keep is the same and cancels:

    mean over pairs of -log sigma(dpo_beta [log pi(c) - log ref(c) - log pi(r) + log ref(r)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    ENTROPY,
    LOGP,
    Batch,
    Branching,
    ClippedMethod,
    Draw,
    Generate,
    Out,
    Program,
    Prompt,
    Regulariser,
    RunConfig,
    Selection,
    Stages,
    Stats,
    StepContext,
    TopEntropy,
    UserError,
    Verify,
    WholeGroups,
    check_whole,
    concat,
    grpo_stages,
    hp,
    refuse_split_groups,
    register,
    scores_of,
    step_numbers,
    step_pattern,
)

if TYPE_CHECKING:
    from torch import Tensor


def prefix_means(entropy_ST: Tensor, length_S: Tensor, prefix_lengths: Sequence[int]) -> Tensor:
    """h_n of steps, ``[S,N]``: the mean over the first tokens of each, over all where it has fewer.

    A step without a token has 0.
    """
    # less the first token's, so that rounding breaks no tie between beginnings of equal entropies
    first_S = entropy_ST[:, 0]
    total_ST = (entropy_ST - first_S[:, None]).cumsum(1)
    columns = []
    for n in prefix_lengths:
        count_S = length_S.clamp(min=1, max=n)
        mean_S = first_S + total_ST.gather(1, count_S[:, None] - 1).squeeze(1) / count_S
        columns.append(torch.where(length_S > 0, mean_S, 0.0))
    return torch.stack(columns, 1)


def best_prefixes(mean_SN: Tensor) -> tuple[Tensor, Tensor]:
    """The score of each step and which prefix reaches it, ``[S]`` each; of equal ones the shortest."""
    score_S = mean_SN.max(1).values
    return score_S, (mean_SN == score_S[:, None]).long().argmax(1)


def branch_steps(score_S: Tensor, positions: int) -> list[int]:
    """The steps of largest score, best first; of equal ones the earlier."""
    return score_S.argsort(descending=True, stable=True)[:positions].tolist()


def preference_loss(margin_N: Tensor, beta: float = 0.1) -> Tensor:
    """-log sigma(beta margin), mean over pairs; a margin is (log pi - log ref)(chosen) - (rejected)."""
    return torch.nn.functional.softplus(-beta * margin_N).mean()


def lengths_of(text: str) -> list[int]:
    """The prefix lengths of a text such as ``10-20-30``, rising.

    Raises:
        UserError: it is none.
    """
    parts = [part.strip() for part in text.split("-")]
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) < len(parts) or numbers[0] < 1 or numbers != sorted(set(numbers)):
        raise UserError(f"method.prefix_lengths='{text}' is no list of rising numbers; write e.g. '10-20-30'")
    return numbers


@dataclass(frozen=True)
class UncertainSteps(Branching):
    """The plain rollouts, and branches of the first ones behind their most uncertain beginnings of steps."""

    chains: int
    step_end: str
    stat: TopEntropy
    prefix_lengths: tuple[int, ...]
    positions: int
    branches_each: int

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        plain = yield Generate(prompts, ctx.group_size)
        plain = self.rooted(plain)
        chains = plain.rows(plain.sample_B < self.chains)
        scores = yield from scores_of(chains, (self.stat,))
        rows, cuts = self.cuts(chains, scores[self.stat.name], ctx)
        branches = yield from self.branches(plain, _rows_in(plain, chains, rows), cuts, self.branches_each)
        return (yield Verify(concat([plain, branches])))

    def cuts(self, chains: Batch, entropy_BT: Tensor, ctx: StepContext) -> tuple[list[int], list[int]]:
        """Rows of ``chains``, and how many tokens branches of them keep."""
        step_BT = step_numbers(chains, ctx, self.step_end)
        rows, cuts = list[int](), list[int]()
        for row, (step_T, entropy_T) in enumerate(zip(step_BT, entropy_BT, strict=True)):
            length_S = torch.bincount(step_T[step_T >= 0])
            start_S = length_S.cumsum(0) - length_S
            parts = entropy_T[: int(length_S.sum())].split(length_S.tolist())
            padded = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
            score_S, which_S = best_prefixes(prefix_means(padded, length_S, self.prefix_lengths))
            # nothing goes on behind the token that ends a response
            last = int(length_S.sum()) - (0 if bool(chains.truncated_B[row]) else 1)
            for step in branch_steps(score_S, self.positions):
                kept = min(self.prefix_lengths[int(which_S[step])], int(length_S[step]))
                rows.append(row)
                cuts.append(min(int(start_S[step]) + kept, last))
        return rows, cuts


def _rows_in(plain: Batch, chains: Batch, rows: Sequence[int]) -> list[int]:
    """Row numbers in ``plain`` of these rows of ``chains``."""
    places = (plain.sample_B < int(chains.sample_B.max()) + 1).nonzero().flatten().tolist()
    return [places[row] for row in rows]


def pairs_of(batch: Batch, entropy_B: Tensor) -> list[tuple[int, int]]:
    """(chosen, rejected): of branches from one cut the right one of least, the wrong one of most entropy."""
    cuts: dict[tuple[int, int, int], list[int]] = {}
    keys = zip(
        *(t.long().tolist() for t in (batch.group_B, batch.tag("parent"), batch.tag("cut"))),
        strict=True,
    )
    for row, key in enumerate(keys):
        if bool(batch.tag("level")[row] > 0):
            cuts.setdefault(key, []).append(row)
    pairs, right = [], batch.correct_B
    for rows in cuts.values():
        good, bad = ([row for row in rows if bool(right[row]) == wanted] for wanted in (True, False))
        if good and bad:
            chosen = min(good, key=lambda row: float(entropy_B[row]))
            pairs.append((chosen, max(bad, key=lambda row: float(entropy_B[row]))))
    return pairs


@dataclass(frozen=True)
class PairBranches(Selection):
    """Marks the pairs: ``pair`` is a pair's number from 1, 0 elsewhere; ``preferred`` 1 or -1."""

    old_stats = (ENTROPY,)
    writes_tags = frozenset({"pair", "preferred"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        mask = batch.mask_BT.to(batch.old["entropy"].dtype)
        entropy_B = (batch.old["entropy"] * mask).sum(1) / mask.sum(1).clamp(min=1)
        pair, preferred = torch.zeros(2, len(batch))
        pairs = pairs_of(batch, entropy_B)
        for number, (chosen, rejected) in enumerate(pairs, 1):
            pair[[chosen, rejected]] = float(number)
            preferred[chosen], preferred[rejected] = 1.0, -1.0
        return Out(batch.with_tags(pair=pair, preferred=preferred), {"tool_light/pairs": float(len(pairs))})


@dataclass(frozen=True)
class PreferenceLoss(Regulariser):
    """DPO over the pairs of an optimiser step, on the log-probs of whole rows."""

    coef: float
    beta: float
    aggregation: str = "token-mean"

    current_stats = (LOGP,)
    needs_reference = True
    minibatch_scope = True
    reads_tags = frozenset({"pair", "preferred", "group_rows"})

    def coefficient(self) -> float:
        return self.coef

    def prepare(self, batch: Batch, current: Stats) -> Out[dict[str, Tensor]]:
        check_whole(batch, batch.tags["group_rows"])
        logp = current["logp"].detach()
        mask = batch.train_mask_BT
        gain_B = torch.where(mask, logp - batch.reference_logp().to(logp.dtype), 0.0).sum(1)
        preferred_B = batch.tags["preferred"].to(logp.dtype)
        _, which_B = torch.unique(batch.tags["pair"], return_inverse=True)
        margin_N = gain_B.new_zeros(int(which_B.max()) + 1).index_add(0, which_B, preferred_B * gain_B)
        there = batch.tags["pair"] > 0
        count = int(there.sum()) // 2
        value, push_B = gain_B.new_zeros(()), torch.zeros_like(gain_B)
        if count:
            value = preference_loss(margin_N[which_B[preferred_B > 0]], self.beta)
            push_B = -preferred_B * self.beta * torch.sigmoid(-self.beta * margin_N[which_B]) / count
        # the reduction divides by the tokens, and a pair's log-probs are sums
        tokens = int(batch.denominator_mask_BT.sum())
        return Out(
            {
                "push": push_B[:, None],
                "value": (value / max(tokens, 1)).expand(len(batch), 1),
                "counted": gain_B.new_tensor(float(tokens)).expand(len(batch), 1),
            },
            {"tool_light/preference_loss": float(value)},
        )

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        logp = current["logp"]
        return prepared["push"] * (logp - logp.detach()) + prepared["value"]


@register("tool-light")
@dataclass(frozen=True)
class ToolLight(ClippedMethod):
    """GRPO with branches at uncertain steps, and a DPO term over pairs of them."""

    chains: int = hp(1, "rollouts of a prompt that are branched, the first", ge=1)
    step_end: str = hp(r"\n\n", "regular expression that ends a step; a tool call in the paper")
    prefix_lengths: str = hp("10-20-30-40-50", "tokens of a step's beginnings, the n of h_n")
    top_logprobs: int = hp(50, "likeliest tokens of the truncated entropy", ge=1)
    positions: int = hp(3, "steps of a chain that are branched", ge=1)
    branches: int = hp(3, "branches at each of them", ge=1)
    dpo_coef: float = hp(1.0, "weight of the preference loss; 0 is none", ge=0)
    dpo_beta: float = hp(0.1, "beta of DPO", gt=0)

    def validate(self, run: RunConfig) -> None:
        lengths_of(self.prefix_lengths)
        step_pattern(self.step_end)
        if self.chains > run.rollout.group_size:
            raise UserError(
                f"method.chains={self.chains} exceeds rollout.group_size={run.rollout.group_size}; lower it"
            )
        if self.dpo_coef:
            refuse_split_groups(run, "tool-light")

    def stages(self) -> Stages:
        program = UncertainSteps(
            self.chains, self.step_end, TopEntropy(k=self.top_logprobs),
            tuple(lengths_of(self.prefix_lengths)), self.positions, self.branches,
        )  # fmt: skip
        stages = grpo_stages().with_(rollout=program, loss=self.clipped_loss())
        if not self.dpo_coef:
            return stages
        return stages.with_(
            selection=PairBranches(),
            plan=WholeGroups(),
            regularisers=(PreferenceLoss(self.dpo_coef, self.dpo_beta),),
        )
