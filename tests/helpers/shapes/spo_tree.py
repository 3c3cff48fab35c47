"""SPO-tree (arXiv 2505.23564): edges of a tree as rows, segment advantages, a replay buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.problems.problem import Verdict
from harness.stages.base import Advantage, Component, Out, RolloutProgram, Selection, Stages, StepContext
from harness.stages.batch import Batch, concat
from harness.stages.defaults import grpo_stages
from harness.stages.loss import PolicyLoss
from harness.stages.requests import Draw, Generate, Program, Prompt, Verify


@dataclass(frozen=True)
class Tree(RolloutProgram):
    """A tree of segments; inner nodes are those cut at the segment limit. Roots have negative ids."""

    branches: tuple[int, ...] = (3, 2)
    segment_tokens: int = 3

    engine_needs = frozenset({"prefix"})

    def run(self, ctx: StepContext) -> Program:
        problems = yield Draw(ctx.prompts_per_step)
        open_nodes = [(Prompt(p, g), -1 - g) for g, p in enumerate(problems)]  # roots: -1, -2 …
        levels: list[Batch] = []
        first = 1
        for level, width in enumerate(self.branches):
            last = level == len(self.branches) - 1
            limit = None if last else self.segment_tokens
            edges: Batch = yield Generate([p for p, _ in open_nodes], width, max_tokens=limit)
            nodes = torch.arange(first, first + len(edges))
            first += len(edges)
            inner = edges.truncated_B & (not last)
            parents = torch.tensor([node for _, node in open_nodes]).repeat_interleave(width)
            prefixes = [p.prefix for p, _ in open_nodes for _ in range(width)]
            levels.append(
                edges.with_tags(
                    node=nodes, parent=parents, level=torch.full((len(edges),), level), judged=(~inner).long()
                )
            )
            open_nodes = [
                (
                    Prompt(
                        edges.problems[row], int(edges.group_B[row]),
                        prefixes[row] + tuple(edges.response_BT[row][edges.mask_BT[row]].tolist()),
                        judged_prefix=True, stream=int(nodes[row]),
                    ),
                    int(nodes[row]),
                )
                for row in inner.nonzero().flatten().tolist()
            ]  # fmt: skip
            if not open_nodes:
                break
        tree = concat(levels)
        leaves = tree.tags["judged"] > 0
        verified: Batch = yield Verify(tree.rows(leaves))
        verdicts = iter(verified.verdicts or ())
        return tree.with_(
            verdicts=tuple(next(verdicts) if leaf else Verdict("unparsed") for leaf in leaves.tolist())
        )


def values(node: Sequence[int], parent: Sequence[int], reward: Sequence[float]) -> dict[int, float]:
    """V of every node and root: a leaf's reward, or the mean over the children."""
    children: dict[int, list[int]] = {}
    for n, p in zip(node, parent, strict=True):
        children.setdefault(p, []).append(n)
    leaf = dict(zip(node, reward, strict=True))

    def value(n: int) -> float:
        below = children.get(n)
        return sum(map(value, below)) / len(below) if below else leaf[n]

    return {n: value(n) for n in {*node, *parent}}


class SegmentAdvantage(Advantage):
    """V(child) - V(parent) on all tokens of the edge."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
        node, parent = batch.tags["node"].tolist(), batch.tags["parent"].tolist()
        v = values(node, parent, batch.rewards().tolist())
        return Out(torch.tensor([v[n] - v[p] for n, p in zip(node, parent, strict=True)]))


class EdgeBuffer(Component):
    """Edges with a signal, with the log-probs of their generation."""

    def __init__(self, per_question: int = 3, max_age: int = 8) -> None:
        self.per_question, self.max_age = per_question, max_age
        self.edges: Batch | None = None

    def state_dict(self) -> dict[str, Any]:
        return {} if self.edges is None else {"edges": self.edges.plain()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.edges = Batch.from_plain(state["edges"]) if state else None

    def exchange(self, fresh: Batch, ctx: StepContext) -> Batch:
        """Take ``fresh`` in, drop what is too old, and hand out a few edges of every question."""
        fresh = fresh.with_tags(born=torch.full((len(fresh),), ctx.step))
        held = fresh if self.edges is None else concat([self.edges, fresh])
        held = held.rows(ctx.step - held.tags["born"] < self.max_age)
        order = torch.randperm(len(held), generator=ctx.generator("edges")).tolist()
        taken: list[int] = []
        count: dict[str, int] = {}
        for row in order:
            question = held.problems[row].id
            count[question] = count.get(question, 0) + 1
            if count[question] <= self.per_question:
                taken.append(row)
        self.edges = held.rows([row for row in range(len(held)) if row not in set(taken)])
        return held.rows(taken)


@dataclass(frozen=True)
class ReplayedEdges(Selection):
    """Edges without a signal leave; unlikely tokens train, with whitened advantages."""

    buffer: EdgeBuffer
    probability: float = 0.9

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        kept = batch.advantages().abs().sum(1) > 0
        out = self.buffer.exchange(batch.rows(kept), ctx)
        out = out.with_tags(extra=(out.tags["born"] < ctx.step).float())
        mask = out.mask_BT & (out.old["logp"].exp() < self.probability)
        inside = out.advantages()[mask]
        if len(inside) > 1:
            white = (out.advantages() - inside.mean()) / (inside.var() + 1e-8).sqrt()
            out = out.with_(advantage_BT=white * out.mask_BT, loss_mask_BT=mask)
        replayed = float((out.tags["born"] < ctx.step).sum())
        return Out(out, {"spo/kept": float(kept.sum()), "spo/replayed": replayed})


def spo_stages(buffer: EdgeBuffer) -> Stages:
    return grpo_stages().with_(
        rollout=Tree(),
        advantage=SegmentAdvantage(),
        selection=ReplayedEdges(buffer),
        loss=PolicyLoss(aggregation="token-mean"),
        components={"edges": buffer},
    )
