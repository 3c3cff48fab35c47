"""Groups as wholes: their rows and means, a formula for each, and minibatches that do not split them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.stages.base import Minibatch, Out, StepContext, UpdatePlan
from harness.stages.batch import Batch
from harness.stages.credit import group_size_of
from harness.stages.defaults import ShuffledMinibatches

if TYPE_CHECKING:
    from torch import Tensor


def group_means(value_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each group in order of its number, ``[G]`` float64, and each row's place in it, ``[B]``.

    A group of one row has mean 0, as in :func:`~harness.stages.defaults.group_mean_std`.
    """
    _, index_B, count_G = torch.unique(group_B, return_inverse=True, return_counts=True)
    total_G = torch.zeros(len(count_G), dtype=torch.float64).index_add(0, index_B, value_B.double())
    return torch.where(count_G == 1, 0.0, total_G / count_G), index_B


def rows_by_group(group_B: Tensor) -> Iterator[list[int]]:
    """Row numbers of each group, in the order of the rows; groups by number."""
    for group in torch.unique(group_B):
        yield (group_B == group).nonzero().flatten().tolist()


def per_group(formula: Callable[..., Tensor], group_B: Tensor, *values_B: Tensor) -> Tensor:
    """``formula`` of each group's values, ``[B]``: computed in float64, returned in the first value's type.

    Args:
        formula: takes the values of one group, ``[n]`` each, in the order of the batch, and gives ``[n]``.
    """
    out = torch.zeros(len(group_B), dtype=torch.float64)
    for rows in rows_by_group(group_B):
        out[rows] = formula(*(value[rows].double() for value in values_B))
    return out.to(values_B[0].dtype)


def counted_groups(batch: Batch) -> Batch:
    """``batch`` with the number of rows of each row's group as the tag ``group_rows``."""
    return batch.with_tags(group_rows=group_size_of(batch.group_B).float())


@dataclass(frozen=True)
class WholeGroups(UpdatePlan):
    """Shuffled minibatches, as many as the run has, that never split a group.

    What a loss takes of whole groups it takes in ``prepare`` with ``minibatch_scope``: over the minibatch,
    however that is split into micro-batches and processes. It reads the tag ``group_rows``, so that it cannot
    be composed with another plan, and checks it (:func:`check_whole`).
    """

    writes_tags = frozenset({"group_rows"})

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[list[Minibatch]]:
        return ShuffledMinibatches(by_group=True)(counted_groups(batch), ctx)


def check_whole(batch: Batch, group_rows_B: Tensor) -> None:
    """Every group has all its rows.

    Args:
        group_rows_B: their number, the tag of that name.

    Raises:
        ValueError: some are missing.
    """
    there = group_size_of(batch.group_B).float()
    if not torch.equal(there, group_rows_B):
        raise ValueError(
            "a group is split: this loss needs whole groups, from WholeGroups and minibatch scope"
        )
