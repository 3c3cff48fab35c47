"""Two advantages of a rollout in one update: each in a clipped loss of the same ratio, mixed per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stages.base import Stats
from harness.stages.batch import Batch
from harness.stages.loss import PolicyLoss

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BlendedLoss(PolicyLoss):
    """w l(A) + (1 - w) l(A2), with l the clipped loss; A2 and w in [0, 1] are tags, constants of the update.

    A selection sets them while the whole step is at hand.
    """

    reads_tags = frozenset({"second_advantage", "first_weight"})

    def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        first = super().__call__(batch, current, prepared)
        second_BT = batch.tags["second_advantage"][:, None].to(first.dtype).expand(batch.mask_BT.shape)
        rest = {name: value for name, value in prepared.items() if name != "advantage"}
        second = super().__call__(batch.with_(advantage_BT=second_BT), current, rest)
        weight = batch.tags["first_weight"][:, None].to(first.dtype)
        return weight * first + (1 - weight) * second
