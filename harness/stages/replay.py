"""One replay buffer: rollouts of earlier steps by prompt, with the log-probs they were drawn with.

A :class:`ReplayBuffer` is a component, so a checkpoint holds it. It keeps what an update needs of a row and
nothing of the step that it came from. Rows stand in the order in which they were added; a *place* counts
them from the oldest. Every process of a run adds the same rows and draws with the same keyed generators, so
all hold equal buffers.

Memory: at most ``rows`` rows of at most the run's longest response. A token takes 8 bytes for its id, 2 for
masks and 4 (8 in float64) for each of advantage, engine log-prob and kept statistic: with ``old=("logp",)``
22 bytes, so 2,048 rows of 8,192 tokens are 352 MiB. A checkpoint takes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch

from harness.stages.base import Component, Loss, Minibatch, Out, Stage, StepContext, UpdatePlan
from harness.stages.batch import Batch, concat

if TYPE_CHECKING:
    from torch import Tensor

#: Tags of a row that mean something in its own step only.
STEP_TAGS = frozenset({"row", "grpo_advantage", "sampled_at", "grad_norm", "extra", "judged", "is_replay"})
_LEFT_OUT = ("count_mask_BT", "segment_BT", "draw_BT", "reward_BT")


@dataclass
class _Added:
    """Rows of one call of :meth:`ReplayBuffer.add` that are still there."""

    step: int
    batch: Batch


def lean(batch: Batch, old: Sequence[str] | None = None) -> Batch:
    """What a buffer keeps of rows: copies, without the statistics, tags and columns of their step.

    Args:
        old: names of the old statistics to keep; None keeps all.
    """
    kept = batch.with_(
        loss_mask_BT=batch.train_mask_BT,
        old={k: v for k, v in batch.old.items() if old is None or k in old},
        tags={k: v for k, v in batch.tags.items() if k not in STEP_TAGS},
        token_tags={},
        **dict.fromkeys(_LEFT_OUT),
    ).trimmed()

    def own(value: Any) -> Any:  # a column cut out of a wide tensor would keep all of it in checkpoints
        if isinstance(value, torch.Tensor):
            return value.detach().clone(memory_format=torch.contiguous_format)
        return {k: own(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    return Batch(**{f.name: own(getattr(kept, f.name)) for f in fields(kept)})


class ReplayBuffer(Component):
    """Rollouts of earlier steps, oldest first; at most ``rows``, beyond which the oldest are dropped.

    Attributes:
        rows: the bound.
        old: names of the old statistics that rows keep; None keeps all.
    """

    def __init__(self, rows: int, old: Sequence[str] | None = ("logp",)) -> None:
        if rows < 1:
            raise ValueError("a replay buffer holds at least one row")
        self.rows, self.old = rows, old
        self._added: list[_Added] = []

    def __len__(self) -> int:
        return sum(len(added.batch) for added in self._added)

    # --- what is there ---------------------------------------------------------------------------------

    @property
    def step_N(self) -> Tensor:
        """The step that each row was added in, int64 ``[N]``."""
        parts = [torch.full((len(added.batch),), added.step) for added in self._added]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    @property
    def reward_N(self) -> Tensor:
        """The reward of each row, ``[N]``."""
        parts = [added.batch.rewards() for added in self._added]
        return torch.cat(parts) if parts else torch.empty(0)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        problems = (p for added in self._added for p in added.batch.problems)
        for place, problem in enumerate(problems):
            found.setdefault(problem.id, []).append(place)
        return found

    def places(self, problem: str | None = None) -> Tensor:
        """Places of all rows, or of those of the problem with this id, int64, oldest first."""
        if problem is None:
            return torch.arange(len(self))
        return torch.tensor(self._places.get(problem, []), dtype=torch.int64)

    def read(self, place_N: Tensor) -> Batch:
        """A copy of the rows at these places (int64 or a bool mask), by rising place.

        Raises:
            ValueError: there are none to read.
        """
        wanted = self._mask(place_N)
        parts, first = [], 0
        for added in self._added:
            here = wanted[first : first + len(added.batch)]
            first += len(added.batch)
            if bool(here.any()):
                parts.append(added.batch.rows(here))
        if not parts:
            raise ValueError("nothing is read from the replay buffer: ask for its places first")
        return concat(parts).trimmed()

    def _mask(self, place_N: Tensor) -> Tensor:
        place_N = torch.as_tensor(place_N)
        if place_N.dtype == torch.bool:
            return place_N
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[place_N.long()] = True
        return mask

    # --- what changes it -------------------------------------------------------------------------------

    def add(self, batch: Batch, step: int) -> None:
        """Keep the rows of ``batch``, which have ``old`` log-probs and, if they are read, rewards."""
        if len(batch):
            self._added.append(_Added(step, lean(batch, self.old)))
            self._forget()
        if len(self) > self.rows:
            self.remove(torch.arange(len(self) - self.rows))

    def remove(self, place_N: Tensor) -> None:
        """Drop the rows at these places (int64 or a bool mask)."""
        keep, first, left = ~self._mask(place_N), 0, list[_Added]()
        for added in self._added:
            here = keep[first : first + len(added.batch)]
            first += len(added.batch)
            if bool(here.all()):
                left.append(added)
            elif bool(here.any()):
                left.append(_Added(added.step, added.batch.rows(here)))
        self._added = left
        self._forget()

    def take(self, place_N: Tensor) -> Batch:
        """:meth:`read` the rows at these places, and drop them."""
        batch = self.read(place_N)
        self.remove(place_N)
        return batch

    def drop_before(self, step: int) -> None:
        """Drop the rows that were added before ``step``."""
        self.remove(self.step_N < step)

    def clear(self) -> None:
        self._added = []
        self._forget()

    def _forget(self) -> None:
        self.__dict__.pop("_places", None)

    # --- checkpoints -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"added": [{"step": a.step, "rows": _as_lists(a.batch.plain())} for a in self._added]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rows = [{**a["rows"], "texts": tuple(a["rows"]["texts"])} for a in state["added"]]
        steps = [int(a["step"]) for a in state["added"]]
        self._added = [_Added(s, Batch.from_plain(r)) for s, r in zip(steps, rows, strict=True)]
        self._forget()


def _as_lists(plain: dict[str, Any]) -> dict[str, Any]:
    """A plain batch without tuples, so that a state is what is read back from it in any format."""
    lists = {
        name: [list(values) for values in plain[name]]
        for name in ("problems", "verdicts")
        if plain[name] is not None
    }
    return {**plain, **lists, "texts": list(plain["texts"])}


def subset(place_N: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """At most ``n`` of the places, drawn without replacement, each with the same chance; in rising order."""
    chosen = torch.randperm(len(place_N), generator=generator)[:n]
    return place_N[chosen].sort().values


def as_replays(rows: Batch, beside: Batch) -> Batch:
    """Rows of a buffer as rows of the step that ``beside`` trains: tagged, with numbers of their own.

    Their ``old`` statistics stay the stored ones. ``row`` and ``group_B`` count on from those of ``beside``,
    a group for each prompt; a method that puts them into the prompt's present group sets ``group_B``.
    """
    n, first = len(rows), _after(beside.tags.get("row", torch.arange(len(beside))))
    groups: dict[str, int] = {}
    for problem in rows.problems:
        groups.setdefault(problem.id, _after(beside.group_B) + len(groups))
    return rows.with_(group_B=torch.tensor([groups[p.id] for p in rows.problems])).with_tags(
        row=first + torch.arange(n), grpo_advantage=torch.zeros(n), is_replay=torch.ones(n),
        extra=torch.ones(n), judged=torch.zeros(n),
    )  # fmt: skip


def _after(number_B: Tensor) -> int:
    return int(number_B.max()) + 1 if len(number_B) else 0


def with_replays(batch: Batch, replays: Batch) -> Batch:
    """``batch`` with replayed rows behind its own, for plans and losses that see both together.

    Masks are filled in where one side has none. What replays have not kept (segments, token tags) is left
    out; what the batch alone lacks is left out, too.

    Raises:
        ValueError: the replays lack log-probs or weights that the batch's loss reads.
    """
    filled = [
        own.with_(loss_mask_BT=own.train_mask_BT, count_mask_BT=own.denominator_mask_BT, token_tags={})
        .with_(segment_BT=None, draw_BT=None, reward_BT=None)
        for own in (
            batch.with_tags(
                judged=batch.tag("judged", 1.0),
                is_replay=batch.tag("is_replay"),
                extra=batch.tag("extra"),
            ),
            replays,
        )
    ]  # fmt: skip
    for name in ("ref_logp_BT", "correction_BT", "verdicts", "reward_B", "advantage_BT"):
        there = [getattr(own, name) is not None for own in filled]
        if there[0] and not there[1]:
            raise ValueError(f"replayed rows lack {name}, which the rows of this step have")
        if there[1] and not there[0]:
            filled[1] = filled[1].with_(**{name: None})
    return concat(filled)


class Replays(Protocol):
    """What a step replays, with advantages; None where it replays nothing."""

    def __call__(self, batch: Batch, ctx: StepContext) -> Batch | None: ...


class Coefficient(Protocol):
    """The factor on a replay's loss in a step."""

    def __call__(self, ctx: StepContext) -> float: ...


@dataclass(frozen=True)
class ReplayPlan(UpdatePlan):
    """The optimiser steps of ``plan``, and behind them those of the replayed rows, with a loss of their own.

    ``rows`` are those of a replay's optimiser step; None takes the largest minibatch's of ``plan``. ``name``
    is put before the metrics: rows replayed, and the coefficient where there are any.
    """

    plan: UpdatePlan
    replays: Replays
    coefficient: Coefficient
    loss: Loss | None = None
    rows: int | None = None
    name: str = "replay"

    writes_tags = frozenset({"extra", "is_replay", "judged"})

    def parts(self) -> tuple[Stage, ...]:
        return (self.plan, self.loss) if self.loss else (self.plan,)

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[list[Minibatch]]:
        first = self.plan(batch, ctx)
        stored = self.replays(batch, ctx)
        n = 0 if stored is None else len(stored)
        metrics = {**first.metrics, f"{self.name}/rows": float(n)}
        if stored is None or not n:
            return Out(first.value, metrics)
        replays, factor = as_replays(stored, batch), self.coefficient(ctx)
        size = self.rows or max((len(m.batch) for m in first.value), default=n)
        order = torch.randperm(n, generator=ctx.generator("replays"))
        more = [
            Minibatch(replays.rows(part.sort().values).trimmed(), self.loss, factor)
            for part in order.split(max(size, 1))
        ]
        return Out([*first.value, *more], {**metrics, f"{self.name}/coefficient": factor})
