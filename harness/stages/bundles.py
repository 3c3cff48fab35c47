"""Bundles: prompts tied together, whose k-th rollouts make up a paper that is scored as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def bundle_numbers(group_B: Tensor, size: int) -> Tensor:
    """Number of each row's bundle, ``[B]``: ``size`` prompts that were drawn one behind the other.

    It follows from the group's number, which a prompt has from its draw on. So the bundles are the same
    whatever a filter drops and however rows are ordered or shared by processes; a bundle that lost prompts
    is smaller.
    """
    return torch.div(group_B, size, rounding_mode="floor")


def tied(group_B: Tensor, size: int) -> list[Tensor]:
    """The rows of every bundle, int64 ``[questions, papers]`` each: paper k are the k-th rows of its groups.

    Questions are in the order of their numbers, rollouts in that of the batch. A bundle has as many papers as
    its smallest group has rows; rows beyond are in none.
    """
    found = []
    bundle_B = bundle_numbers(group_B, size)
    for bundle in torch.unique(bundle_B):
        groups = torch.unique(group_B[bundle_B == bundle])
        rows = [(group_B == group).nonzero().flatten() for group in groups]
        papers = min(map(len, rows))
        found.append(torch.stack([own[:papers] for own in rows]))
    return found
