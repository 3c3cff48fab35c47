"""The one place that divides: per-token coefficients from the counts of a whole optimiser step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

#: Ways to make one loss of all tokens.
AGGREGATIONS = (
    "token-mean",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
    "all-seq-mean-token-sum-norm",
)


def token_coefficients(
    name: str,
    mask_BT: Tensor,
    *,
    count_mask_BT: Tensor | None = None,
    width: int | None = None,
    length_eps: float = 1e-8,
    count_eps: float = 0.0,
    empty_rows: bool = False,
) -> Tensor:
    """Coefficients ``[B,T]`` such that the aggregated loss is ``(coefficients * loss_BT).sum()``.

    Args:
        name: one of :data:`AGGREGATIONS` (verl's names, but for the last):

            * ``token-mean``: sum over tokens / number of tokens;
            * ``seq-mean-token-mean``: mean over non-empty rows of the row's token mean (divisor
              ``length + length_eps``);
            * ``seq-mean-token-sum``: mean over non-empty rows of the row's token sum;
            * ``seq-mean-token-sum-norm``: token sum / ``width``;
            * ``all-seq-mean-token-sum-norm``: mean over all rows, empty ones too, of token sum / ``width``
              (oat's and TRL's Dr. GRPO).
        mask_BT: tokens that contribute, over the whole optimiser step.
        count_mask_BT: tokens and rows that are counted (default: the same).
        width: divisor of the two ``…-norm`` reductions (default: T, the padded width).
        length_eps: verl adds 1e-8 to a row's length; 0 is the exact length, at least 1 (as in TRL).
        count_eps: added to the token count of ``token-mean`` (some code bases add 1e-8).
        empty_rows: rows without a token count as rows too, with value 0 (as in TRL).

    A token outside ``mask_BT`` has coefficient 0; an all-empty batch gives zeros, not NaN.
    """
    if name not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation '{name}'; choose one of {', '.join(AGGREGATIONS)}")
    dtype = mask_BT.dtype if mask_BT.is_floating_point() else torch.get_default_dtype()
    mask = mask_BT.to(dtype)
    counted = mask if count_mask_BT is None else count_mask_BT.to(dtype)
    length_B1 = counted.sum(1, keepdim=True)
    rows = length_B1.new_tensor(max(len(mask), 1)) if empty_rows else (length_B1 > 0).sum().clamp(min=1)
    if name == "token-mean":
        return mask / (counted.sum().clamp(min=1) + count_eps)
    if name == "seq-mean-token-mean":
        return mask / (length_B1 + length_eps if length_eps else length_B1.clamp(min=1)) / rows
    if name == "seq-mean-token-sum":
        return mask / rows
    normed = mask / (width or mask.shape[1])
    return normed / max(len(mask), 1) if name.startswith("all-") else normed


def aggregate(
    name: str,
    loss_BT: Tensor,
    mask_BT: Tensor,
    *,
    width: int | None = None,
    length_eps: float = 1e-8,
    count_eps: float = 0.0,
    empty_rows: bool = False,
) -> Tensor:
    """``loss_BT`` reduced by ``name`` over the tokens of ``mask_BT``; for formulas and tests."""
    mask = mask_BT.to(loss_BT.dtype)
    coefficient_BT = token_coefficients(
        name, mask, width=width, length_eps=length_eps, count_eps=count_eps, empty_rows=empty_rows
    )
    return (coefficient_BT * loss_BT).sum()
