r"""SPO: segment policy optimisation (arXiv 2505.23564): credit of segments from Monte-Carlo values.

`spo@chain`: in each response y the tokens of probability p_t < prob_threshold are its uncertain ones; every
``interval``-th, from the first on, begins a segment. V(i) of a segment that begins at token i is the mean
verdict of ``value_samples`` fresh responses to  prompt + y[:i].

    A_t = V(next beginning) - V(own beginning)      the last segment ends in the verdict of y itself
    A_t = 0 before the first beginning, and where p_t > prob_threshold

`spo@tree`: below each prompt a tree of b_1, b_2, ... children with segments of M tokens, the last level's
free; a segment that ends before is a leaf. V(leaf) is its verdict, V(node) the mean of its children's. Every
edge is a row (its response the segment, its prompt all before it) with

    A = V(child) - V(parent)     or, normalised, that / (std of the siblings' values + 1e-8)

Edges without advantage are dropped; of the others, of this step and the ``max_age`` - 1 before it, a step
trains at most ``edges_per_prompt`` of a problem, drawn at random, each once, with the log-probs of its time.

Both: A is whitened over the uncertain tokens of the optimiser step, and

    loss = mean over uncertain tokens of max(-A r, -A clip(r, 1 - eps, 1 + eps))
           + kl_coef mean over rows of the sum over uncertain tokens of k3(logp, ref_logp)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from entrobench import (
    EDGES,
    LOGP,
    Advantage,
    Batch,
    Branching,
    Draw,
    FixedBounds,
    Generate,
    Method,
    Out,
    Program,
    Prompt,
    ReplayBuffer,
    RunConfig,
    Selection,
    Stages,
    Stats,
    StepContext,
    TokenRatio,
    TokenWeight,
    TreeProgram,
    UncertainKL,
    UncertainLoss,
    UncertainWhitening,
    UserError,
    Verify,
    as_replays,
    edge_advantages,
    forest,
    grpo_stages,
    hp,
    node_values,
    refuse_token_plan,
    register,
    scores_of,
    uncertain,
    with_replays,
)

if TYPE_CHECKING:
    from torch import Tensor

LOG_RATIO_CLAMP = 10.0


def beginnings(uncertain_BT: Tensor, interval: int) -> Tensor:
    """Bool ``[B,T]``: of each response's uncertain tokens every ``interval``-th, from the first on."""
    return uncertain_BT & ((uncertain_BT.long().cumsum(1) - 1) % interval == 0)


def segment_advantages(begins_BT: Tensor, value_BT: Tensor, reward_B: Tensor) -> Tensor:
    """V at the end of a token's segment minus V at its beginning, ``[B,T]``; 0 before the first one.

    Args:
        value_BT: V where a segment begins; anything elsewhere.
        reward_B: what the last segment ends in.
    """
    rows, width = begins_BT.shape
    place = torch.arange(width).expand(rows, width)
    own_BT = torch.where(begins_BT, place, -1).cummax(1).values
    later = torch.where(begins_BT, place, width).flip(1).cummin(1).values.flip(1)
    next_BT = torch.cat([later[:, 1:], torch.full((rows, 1), width)], 1)
    known = torch.where(begins_BT, value_BT, 0.0)
    ends = torch.cat([known, reward_B[:, None].to(known.dtype)], 1).gather(1, next_BT)
    return torch.where(own_BT >= 0, ends - known.gather(1, own_BT.clamp(min=0)), 0.0)


# --- the loss of both --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RatioGate(TokenWeight):
    """0 for an optimiser step whose mean ratio over the uncertain tokens exceeds ``at_most``, else 1."""

    ratio: TokenRatio
    threshold: float
    at_most: float

    minibatch_scope = True
    old_stats = (LOGP,)
    current_stats = (LOGP,)

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        chosen = uncertain(batch.old["logp"], batch.train_mask_BT, self.threshold)
        ratio = self.ratio.ratio(batch, current).detach()[chosen]
        shut = bool(ratio.mean() > self.at_most) if len(ratio) else False
        weight = torch.full((len(batch),), 0.0 if shut else 1.0, dtype=current["logp"].dtype)
        return Out(weight, {"spo/skipped": float(shut)})


@dataclass(frozen=True)
class SegmentMethod(Method):
    """What chain and tree share: the uncertain tokens and the loss over them."""

    prob_threshold: float = hp(0.9, "tokens below this probability are uncertain", gt=0, le=1)
    eps: float = hp(0.2, "ratio clip on both sides of 1", gt=0, lt=1)
    kl_coef: float = hp(1e-4, "weight of the k3 KL to the frozen reference", ge=0)
    ratio_threshold: float | None = hp(
        10.0, "mean ratio above which an optimiser step is skipped; null: never", gt=1
    )

    def of_loss(self) -> Stages:
        """GRPO's stages with this loss."""
        ratio = TokenRatio(clamp=LOG_RATIO_CLAMP)
        limit = self.ratio_threshold
        kl = UncertainKL(
            self.kl_coef, "k3", "seq-mean-token-sum", exponent_clamp=None, value_clamp=None,
            threshold=self.prob_threshold,
        )  # fmt: skip
        loss = UncertainLoss(
            ratio=ratio,
            bounds=FixedBounds(self.eps, self.eps),
            weight=RatioGate(ratio, self.prob_threshold, limit) if limit else None,
            credit=UncertainWhitening(self.prob_threshold),
            aggregation="token-mean",
            threshold=self.prob_threshold,
        )
        return grpo_stages().with_(loss=loss, regularisers=(kl,) if self.kl_coef else ())


# --- the chain ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChainRollout(Branching):
    """The plain rollouts, with the values of their segments' beginnings as token tags."""

    threshold: float
    interval: int
    samples: int

    writes_tags = Branching.writes_tags | {"segment_begins", "segment_value"}

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        batch = yield Generate(prompts, ctx.group_size)
        scores = yield from scores_of(batch, (LOGP,))
        begins = beginnings(uncertain(scores[LOGP.name], batch.mask_BT, self.threshold), self.interval)
        value = torch.zeros_like(batch.rollout_logp_BT)
        rows, cuts = begins.nonzero(as_tuple=True)
        if len(rows):
            drawn = yield from self.branches(batch, rows.tolist(), cuts.tolist(), self.samples)
            drawn = yield Verify(drawn)
            value[rows, cuts] = drawn.correct_B.view(-1, self.samples).double().mean(1).to(value.dtype)
        batch = batch.with_token_tags(segment_begins=begins.to(value.dtype), segment_value=value)
        return (yield Verify(batch))


@dataclass(frozen=True)
class SegmentAdvantage(Advantage):
    """The change of value over a token's segment; 0 on tokens that were nearly certain."""

    threshold: float

    old_stats = (LOGP,)
    reads_tags = frozenset({"segment_begins", "segment_value"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        begins = (batch.token_tags["segment_begins"] > 0) & batch.mask_BT
        credit = segment_advantages(begins, batch.token_tags["segment_value"], batch.rewards())
        certain = batch.old["logp"].exp() > self.threshold
        metrics = {"spo/segments": float(begins.sum()) / max(len(batch), 1)}
        return Out(torch.where(certain, 0.0, credit), metrics)


@register("spo@chain")
@dataclass(frozen=True)
class SPOChain(SegmentMethod):
    """Credit of segments that begin at uncertain tokens, valued by fresh rollouts."""

    interval: int = hp(5, "uncertain tokens of a segment", ge=1)
    value_samples: int = hp(9, "fresh rollouts that value a segment's beginning", ge=1)

    def validate(self, run: RunConfig) -> None:
        rollout = run.rollout
        rows = rollout.prompts_per_step * rollout.group_size
        tokens = rows * (1 + self.value_samples) * rollout.max_response_tokens
        refuse_token_plan(run, tokens, "spo@chain, with one segment in each response,")

    def stages(self) -> Stages:
        return self.of_loss().with_(
            rollout=ChainRollout(self.prob_threshold, self.interval, self.value_samples),
            advantage=SegmentAdvantage(self.prob_threshold),
        )


# --- the tree ----------------------------------------------------------------------------------------------

#: Differences of values that rounding makes are none.
ROUNDING = 1e-12


def best_of(value_N: Tensor, k: int = 4) -> Tensor:
    """Chance that one of ``k`` draws of this value is right, ``[N]``."""
    return 1 - (1 - value_N) ** k


def kept_edges(parent_N: Tensor, value_N: Tensor, advantage_N: Tensor) -> Tensor:
    """Bool ``[N]``: edges that train, whose advantage and gain of :func:`best_of` do not add up to 0."""
    gain = best_of(value_N) - best_of(value_N[parent_N.clamp(min=0)])
    return (parent_N >= 0) & ((advantage_N + gain).abs() > ROUNDING)


def edges_of(batch: Batch, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row, an edge: A and whether it trains, ``[B]`` each; and the values of the prompts, ``[G]``."""
    node_B, parent_N, roots = forest(batch)
    leaf_N = torch.cat([torch.zeros(roots, dtype=torch.float64), batch.rewards().double()])
    value_N = node_values(parent_N, leaf_N)
    advantage_N = edge_advantages(parent_N, value_N, kind)
    return advantage_N[node_B], kept_edges(parent_N, value_N, advantage_N)[node_B], value_N[:roots]


def factors_of(text: str) -> list[int]:
    """The children of a node by level, of a text such as ``6-6-6``.

    Raises:
        UserError: it is none.
    """
    parts = [part.strip() for part in text.split("-")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"method.branches='{text}' is no list of numbers of children; write e.g. '6-6-6'")
    return [int(part) for part in parts]


def segment_tokens(share: float, limit: int) -> int:
    """M: tokens of a segment that is not the last, of a response of ``limit`` tokens."""
    return max(round(share * limit), 1)


@dataclass(frozen=True)
class TreeRollout(TreeProgram):
    """A tree below each prompt; a path has as many tokens as a response may."""

    factors: tuple[int, ...]
    segment_share: float

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        prompts = [Prompt(problem, group) for group, problem in enumerate(problems)]
        limit = ctx.max_response_tokens
        segment = segment_tokens(self.segment_share, limit)
        return (
            yield from self.tree(prompts, self.factors, segment, limit - (len(self.factors) - 1) * segment)
        )


class Edges(ReplayBuffer):
    """Edges that have not trained yet, of the last ``max_age`` steps; the draw of those that do.

    Attributes:
        trained: edges that have trained since the run began.
    """

    def __init__(self, rows: int, max_age: int, per_prompt: int, kind: str) -> None:
        super().__init__(rows)
        self.max_age, self.per_prompt, self.kind, self.trained = max_age, per_prompt, kind, 0

    def drawn(self, kept: Batch, ctx: StepContext) -> tuple[list[int], list[int]]:
        """Rows of this step's ``kept`` edges, and places of earlier ones, that train in this step."""
        young = (self.step_N > ctx.step - self.max_age).tolist()
        pool: dict[str, list[tuple[bool, int]]] = {}
        for problem, places in self._places.items():
            pool[problem] = [(True, place) for place in places if young[place]]
        for row, own in enumerate(kept.problems):
            pool.setdefault(own.id, []).append((False, row))
        rows, stored = list[int](), list[int]()
        for problem, edges in pool.items():
            order = torch.randperm(len(edges), generator=ctx.generator("edges", problem))
            for replayed, number in (edges[i] for i in order[: self.per_prompt].tolist()):
                (stored if replayed else rows).append(number)
        return sorted(rows), sorted(stored)

    def before_update(self, batch: Batch, ctx: StepContext) -> Mapping[str, float]:
        kept = batch.rows(edges_of(batch, self.kind)[1])
        rows, stored = self.drawn(kept, ctx)
        gone = self.step_N <= ctx.step - self.max_age
        gone[stored] = True
        self.remove(gone)
        waiting = torch.ones(len(kept), dtype=torch.bool)
        waiting[rows] = False
        self.add(kept.rows(waiting), ctx.step)
        self.trained += len(rows) + len(stored)
        return {"spo/waiting_edges": float(len(self))}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "trained": self.trained}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.trained = int(state["trained"])


@dataclass(frozen=True)
class EdgeAdvantage(Advantage):
    """A of the edge that a row is, on each of its tokens."""

    kind: str

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        advantage_B, keep_B, value_G = edges_of(batch, self.kind)
        metrics = {
            "spo/edges": float(len(batch)),
            "spo/kept_edges": float(keep_B.sum()),
            "spo/root_value": float(value_G.mean()),
        }
        return Out(advantage_B.to(batch.rewards().dtype), metrics)


@dataclass(frozen=True)
class DrawnEdges(Selection):
    """The edges that :class:`Edges` draws, of this step and of earlier ones."""

    edges: Edges

    writes_tags = frozenset({"extra", "is_replay", "judged"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        kept = batch.rows(edges_of(batch, self.edges.kind)[1])
        rows, stored = self.edges.drawn(kept, ctx)
        chosen = kept.rows(torch.tensor(rows, dtype=torch.int64))
        if stored:
            earlier = self.edges.read(torch.tensor(stored))
            chosen = with_replays(chosen, as_replays(earlier, batch))
        return Out(chosen, {"spo/replayed_edges": float(len(stored))})


@register("spo@tree")
@dataclass(frozen=True)
class SPOTree(SegmentMethod):
    """Credit of the edges of a tree of rollouts, from the verdicts of its leaves."""

    branches: str = hp("6-6-6", "children of a node by level (also 4-5-6 and 8-8-8)")
    segment_share: float = hp(
        0.3, "tokens of a segment but the last, as a share of a response's (600 of 2,048)", gt=0, lt=1
    )
    edges: str = hp("difference", "advantage of an edge", choices=EDGES)
    edges_per_prompt: int = hp(32, "edges of a problem that a step trains at most", ge=1)
    max_age: int = hp(8, "steps after which an edge that has not trained is forgotten; 1: at once", ge=1)
    buffer_rows: int = hp(16384, "edges that wait at most; beyond, the oldest are dropped", ge=1)

    def validate(self, run: RunConfig) -> None:
        factors, limit = factors_of(self.branches), run.rollout.max_response_tokens
        if max(factors) < 2:
            raise UserError("method.branches has no branching, so no edge gains anything; write e.g. '6-6-6'")
        segment = segment_tokens(self.segment_share, limit)
        before = (len(factors) - 1) * segment
        if before >= limit:
            raise UserError(
                f"{len(factors)} levels with segments of {segment} tokens leave none of "
                f"rollout.max_response_tokens={limit} to the last; lower method.segment_share or shorten "
                "method.branches"
            )
        nodes, tokens = run.rollout.prompts_per_step, 0
        for level, n in enumerate(factors, 1):
            nodes *= n
            tokens += nodes * (segment if level < len(factors) else limit - before)
        refuse_token_plan(run, tokens, f"spo@tree with method.branches={self.branches}")

    def stages(self) -> Stages:
        edges = Edges(self.buffer_rows, self.max_age, self.edges_per_prompt, self.edges)
        return self.of_loss().with_(
            rollout=TreeRollout(tuple(factors_of(self.branches)), self.segment_share),
            advantage=EdgeAdvantage(self.edges),
            selection=DrawnEdges(edges),
            components={"edges": edges},
        )
