"""Which groups carry a signal, and which responses are no answers: filters by spread, by mean, by text.

Groups are judged by any number per rollout, a verdict or a shaped reward. A group of one row has no spread to
be judged by: :func:`varied_groups` leaves it in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from harness.stages.batch import Batch
from harness.stages.groups import rows_by_group
from harness.stages.loss import share_of

if TYPE_CHECKING:
    from torch import Tensor

#: What a decoder writes where bytes are no text.
UNREADABLE = "\ufffd"


def varied_groups(value_B: Tensor, group_B: Tensor) -> Tensor:
    """Bool ``[B]``: rows of groups whose values are not all equal, so that their std is above 0."""
    keep_B = torch.zeros(len(value_B), dtype=torch.bool)
    for rows in rows_by_group(group_B):
        own = value_B[rows]
        keep_B[rows] = len(rows) == 1 or bool((own != own[0]).any())
    return keep_B


def groups_within(value_B: Tensor, group_B: Tensor, low: float, high: float) -> Tensor:
    """Bool ``[B]``: rows of groups whose mean lies strictly between ``low`` and ``high``."""
    keep_B = torch.zeros(len(value_B), dtype=torch.bool)
    for rows in rows_by_group(group_B):
        keep_B[rows] = low < float(value_B[rows].double().mean()) < high
    return keep_B


def group_spreads(value_B: Tensor, group_B: Tensor) -> Tensor:
    """Std (ddof 1) of each group's values in order of its number, ``[G]`` float64; 1 for a lone row.

    Groups of one size are reduced at once, as in SPEAR: the last bit decides which of equal ones comes first.
    """
    groups = [value_B[rows].double() for rows in rows_by_group(group_B)]
    sizes = {len(own) for own in groups}
    if len(sizes) == 1 and sizes != {1}:
        return torch.stack(groups).std(1)
    spreads = [float(own.std()) if len(own) > 1 else 1.0 for own in groups]
    return torch.tensor(spreads, dtype=torch.float64)


def widest_groups(value_B: Tensor, group_B: Tensor, share: float, *, stable: bool = True) -> Tensor:
    """Bool ``[B]``: the ``share`` of the groups, rounded down, of largest std.

    Of equal ones the first; without ``stable`` it is ``torch.topk``'s choice, as in released code.
    """
    spread_G = group_spreads(value_B, group_B)
    if not len(spread_G):
        return torch.zeros(0, dtype=torch.bool)
    n = share_of(len(spread_G), share, least=0)
    ranked = spread_G.argsort(descending=True, stable=True) if stable else torch.topk(spread_G, n).indices
    best = ranked[:n]
    return torch.isin(group_B, torch.unique(group_B)[best])


def repeats(tokens: Sequence[int], n: int = 20, limit: int = 10) -> bool:
    """Whether some ``n`` tokens in a row occur at least ``limit`` times; SPEAR's numbers by default."""
    grams = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
    return bool(grams) and max(grams.values()) >= limit


def poor_responses(batch: Batch, n: int, limit: int) -> Tensor:
    """Bool ``[B]``: responses without a readable answer, with bytes that are no text, or going in circles.

    Args:
        n, limit: of :func:`repeats`.

    Raises:
        ValueError: the batch has no verdicts yet.
    """
    if batch.verdicts is None:
        raise ValueError("the batch has no verdicts yet: yield Verify(batch) in the rollout program first")
    poor = [
        verdict.canonical is None or UNREADABLE in text or repeats(row[mask].tolist(), n, limit)
        for verdict, text, row, mask in zip(
            batch.verdicts, batch.texts, batch.response_BT, batch.mask_BT, strict=True
        )
    ]
    return torch.tensor(poor, dtype=torch.bool)
