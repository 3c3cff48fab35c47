"""Rollouts that go on from a part of another: cut points, prompts with a prefix, branches, trees.

A branch is a row of its own whose prompt holds what it goes on from, so that no token trains twice. Tags say
where it stands: ``parent``, the number (``sample_B``) of the row of its group that it goes on from, -1 for
none; ``level``, how many rows lie before it; ``cut``, how many response tokens its prompt holds; ``extra``
for every branch. What branches generate, and have judged, counts in the budget as any rollout does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from harness.problems.problem import Verdict
from harness.stages.base import RolloutProgram
from harness.stages.batch import Batch, concat
from harness.stages.requests import Generate, Program, Prompt, Score, Verify
from harness.stages.token_stats import TokenStat
from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.config.schema import RunConfig

#: Advantages of a tree's edges.
EDGES = ("difference", "normalised")
#: A part of a rollout program: yields requests, returns a batch.
Part = Generator[Any, Any, Batch]
#: What an inner node of a tree has in place of a verdict; its tag ``judged`` is 0.
UNJUDGED = Verdict("unparsed")


def prompts_at(
    batch: Batch, rows: Sequence[int], cuts: Sequence[int], *, judged_prefix: bool = True
) -> list[Prompt]:
    """For each of ``rows`` the prompt that goes on behind its first ``cuts`` response tokens.

    A row that is a branch itself hands on the prefix of its own prompt (tag ``cut``).

    Args:
        judged_prefix: the verifier sees the prefix in front of the response.

    Raises:
        UserError: a cut outside the response, or behind the end of one that has ended.
    """
    before, length = batch.tag("cut").long().tolist(), batch.length_B.tolist()
    prompts = []
    for row, cut in zip(rows, cuts, strict=True):
        last = length[row] if bool(batch.truncated_B[row]) else length[row] - 1
        if not 0 <= cut <= last:
            raise UserError(
                f"a response of {length[row]} tokens cannot be cut behind token {cut}; choose one from 0 to "
                f"{last}"
            )
        own = batch.prompt_BP[row][batch.prompt_mask_BP[row]].tolist()
        prefix = own[len(own) - before[row] :] + batch.response_BT[row, :cut].tolist()
        prompts.append(
            Prompt(
                batch.problems[row],
                int(batch.group_B[row]),
                prefix=tuple(prefix),
                judged_prefix=judged_prefix,
                stream=1 + int(batch.sample_B[row]),
            )
        )
    return prompts


def highest_positions(value_BT: Tensor, allowed_BT: Tensor, n: int) -> list[list[int]]:
    """Each response's ``n`` allowed positions of largest value, best first; of equal ones the earlier."""
    ranked_BT = value_BT.masked_fill(~allowed_BT, -torch.inf).argsort(dim=1, descending=True, stable=True)
    count_B = allowed_BT.sum(1).clamp(max=n)
    return [row[:k].tolist() for row, k in zip(ranked_BT, count_B.tolist(), strict=True)]


def scores_of(batch: Batch, stats: Sequence[TokenStat]) -> Generator[Any, Any, dict[str, Tensor]]:
    """Statistics under the policy that sampled ``batch``, ``[B,T]`` by name.

    Taken while it was sampled where the run does so, else a pass of its own, which the budget counts.
    """
    if all(stat.name in batch.old for stat in stats):
        return {stat.name: batch.old[stat.name] for stat in stats}
    scores: dict[str, Tensor] = yield Score(batch, tuple(stats))
    return scores


def answered(program: Program, answer: Callable[[Generate], Part]) -> Program:
    """``program`` with its ``Generate`` requests carried out by ``answer``, a part that yields others."""
    reply: Any = None
    while True:
        try:
            request = program.send(reply)
        except StopIteration as stop:
            done: Batch = stop.value
            return done
        reply = (yield from answer(request)) if isinstance(request, Generate) else (yield request)


def refuse_token_plan(run: RunConfig, tokens: int, name: str) -> None:
    """Refuse a step that may take more tokens than the run has.

    Args:
        tokens: that one step may generate.
        name: the method that plans so.

    Raises:
        UserError: there is a budget, and it is less.
    """
    budget = run.train.token_budget
    if budget is not None and tokens > budget:
        raise UserError(
            f"{name} may generate {tokens} tokens in one step, more than train.token_budget={budget} for the "
            "whole run; raise it, or lower rollout.prompts_per_step or the branching"
        )


class Branching(RolloutProgram):
    """A rollout program of rollouts and branches of them."""

    engine_needs = frozenset({"prefix"})
    writes_tags = frozenset({"parent", "level", "cut", "extra"})

    def rooted(self, batch: Batch) -> Batch:
        """``batch`` as rollouts that branches may go on from."""
        none = torch.zeros(len(batch))
        return batch.with_tags(parent=none - 1, level=none, cut=none, extra=batch.tag("extra"))

    def branches(
        self, batch: Batch, rows: Sequence[int], cuts: Sequence[int], n: int, *,
        judged_prefix: bool = True, max_tokens: int | None = None,
    ) -> Part:  # fmt: skip
        """``n`` branches of each of ``rows``, of which ``cuts`` tokens are kept: these alone, unjudged.

        They are in the order of ``rows``, and numbered on behind the rows of their group in ``batch``.
        """
        prompts = prompts_at(batch, rows, cuts, judged_prefix=judged_prefix)
        made: Batch = yield Generate(prompts, n, max_tokens=max_tokens)
        from_B = torch.as_tensor(rows, dtype=torch.int64).repeat_interleave(n)
        used = Counter(batch.group_B.tolist())
        number = []
        for group in made.group_B.tolist():
            number.append(used[group])
            used[group] += 1
        prefix_B = torch.tensor([float(len(p.prefix)) for p in prompts]).repeat_interleave(n)
        return made.with_(sample_B=torch.tensor(number)).with_tags(
            parent=batch.sample_B[from_B].float(),
            level=batch.tag("level")[from_B] + 1,
            cut=prefix_B,
            extra=torch.ones(len(made)),
        )


class TreeProgram(Branching):
    """A rollout program of trees: every row is an edge, its response the segment below its parent."""

    writes_tags = Branching.writes_tags | {"inner", "judged"}

    def tree(self, prompts: Sequence[Prompt], factors: Sequence[int], segment: int, last: int) -> Part:
        """A tree below each prompt, judged at its leaves, level by level.

        Args:
            factors: children of a node, from the root to the last level.
            segment: tokens of a segment at most, but for the last level, whose have ``last``. A segment that
                ends before is a leaf.
        """
        depth = len(factors)
        first = yield Generate(prompts, factors[0], max_tokens=segment if depth > 1 else last)
        whole = level = self.rooted(first)
        start = 0
        for at, n in enumerate(factors[1:], 2):
            open_ = level.truncated_B.nonzero().flatten()
            if not len(open_):
                break
            rows = (open_ + start).tolist()
            cuts = whole.length_B[rows].tolist()
            start = len(whole)
            level = yield from self.branches(
                whole, rows, cuts, n, max_tokens=segment if at < depth else last
            )  # fmt: skip
            whole = concat([whole, level])
        return (yield from self._judged(whole))

    def _judged(self, batch: Batch) -> Part:
        """``batch`` with the verdicts of its leaves; nothing else is given to the verifier."""
        node, parent, groups = forest(batch)
        inner = torch.isin(node, parent[groups:])
        leaves = (~inner).nonzero().flatten()
        seen: Batch = yield Verify(batch.rows(leaves))
        verdicts = [UNJUDGED] * len(batch)
        for row, verdict in zip(leaves.tolist(), seen.verdicts or (), strict=True):
            verdicts[row] = verdict
        judged = batch.with_(verdicts=tuple(verdicts))
        return judged.with_tags(inner=inner.float(), judged=(~inner).float())


def forest(batch: Batch) -> tuple[Tensor, Tensor, int]:
    """The node of each row ``[B]``, the parent of each node ``[G+B]`` (-1: none), and the number G of roots.

    Nodes 0 .. G-1 are the prompts, one for each group.
    """
    groups, root_B = torch.unique(batch.group_B, return_inverse=True)
    count = len(groups)
    pairs = zip(batch.group_B.tolist(), batch.sample_B.tolist(), strict=True)
    node_of = {pair: count + row for row, pair in enumerate(pairs)}
    above = zip(batch.group_B.tolist(), batch.tag("parent", -1.0).long().tolist(), strict=True)
    parent = [node_of[g, p] if p >= 0 else int(r) for (g, p), r in zip(above, root_B, strict=True)]
    return torch.arange(count, count + len(batch)), torch.tensor([-1] * count + parent), count


def depths(parent_N: Tensor) -> Tensor:
    """How far below its root each node is, int64 ``[N]``.

    Raises:
        ValueError: a node is its own ancestor.
    """
    depth_N, above_N = torch.zeros_like(parent_N), parent_N
    for _ in range(len(parent_N)):
        below = above_N >= 0
        if not bool(below.any()):
            return depth_N
        depth_N = depth_N + below
        above_N = torch.where(below, parent_N[above_N.clamp(min=0)], above_N)
    raise ValueError("a node of the tree is its own ancestor")


def node_values(parent_N: Tensor, leaf_N: Tensor) -> Tensor:
    """Value of every node, ``[N]`` float64: a leaf's own number, else the mean of its children's values.

    Args:
        parent_N: index of each node's parent, -1 for a root.
        leaf_N: numbers of the leaves; those of other nodes are not looked at.
    """
    depth_N, below_N = depths(parent_N), parent_N >= 0
    children_N = torch.bincount(parent_N[below_N], minlength=len(parent_N))
    value_N = torch.where(children_N > 0, 0.0, leaf_N.double())
    for depth in range(int(depth_N.max()), 0, -1):
        here = (depth_N == depth).nonzero().flatten()
        above = parent_N[here].unique()
        value_N.index_add_(0, parent_N[here], value_N[here])
        value_N[above] /= children_N[above]  # after the sum: equal children have exactly their value
    return value_N


def edge_advantages(parent_N: Tensor, value_N: Tensor, kind: str = "difference", eps: float = 1e-8) -> Tensor:
    """A of the edge above every node, ``[N]`` float64; 0 at roots.

    Args:
        parent_N: index of each node's parent, -1 at a root.
        kind: of :data:`EDGES`; ``normalised`` divides by the standard deviation of the siblings (divisor n).
    """
    below = parent_N >= 0
    parent = parent_N.clamp(min=0)
    difference = torch.where(below, value_N - value_N[parent], 0.0)
    if kind == "difference":
        return difference
    zeros = torch.zeros_like(value_N)
    count = zeros.index_add(0, parent[below], torch.ones_like(value_N)[below])
    squares = zeros.index_add(
        0, parent[below], difference[below] ** 2
    )  # a node's value is its children's mean
    return difference / ((squares / count.clamp(min=1)).sqrt()[parent] + eps)
