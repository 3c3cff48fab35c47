"""Rows left out of a batch: they take no pass, and count where it is declared."""

from __future__ import annotations

import pytest
import torch

from harness.stages.aggregate import token_coefficients
from harness.stages.surplus import without_rows
from tests.methods.support.golden import make_batch

MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
OUT = torch.tensor([False, True, False, True])


def test_tokens_of_rows_left_out_count_with_their_group() -> None:
    batch = make_batch(MASK, group_B=torch.tensor([4, 4, 2, 2]))
    plain, counted = without_rows(batch, OUT), without_rows(batch, OUT, "sampled")
    assert len(plain) == len(counted) == 2
    assert torch.equal(counted.train_mask_BT, MASK[~OUT]) and plain.count_mask_BT is None
    assert counted.denominator_mask_BT.sum(1).tolist() == [5, 4]
    for own, n in ((plain, 3), (counted, 9)):
        coefficients = token_coefficients(
            "token-mean", own.train_mask_BT, count_mask_BT=own.denominator_mask_BT
        )
        assert torch.allclose(coefficients, own.train_mask_BT / n)
    assert torch.equal(counted.trimmed().denominator_mask_BT, counted.denominator_mask_BT[:, :2])


def test_tokens_that_were_not_counted_before_are_not_counted_now() -> None:
    batch = make_batch(MASK, group_B=torch.zeros(4, dtype=torch.int64))
    first = torch.tensor([True, False, False]).expand(4, 3)
    counted = without_rows(batch.with_(loss_mask_BT=first), OUT, "sampled")
    assert int(counted.denominator_mask_BT.sum()) == 4


def test_what_cannot_be_counted_is_an_error() -> None:
    batch = make_batch(MASK, group_B=torch.tensor([0, 1, 2, 2]))
    assert len(without_rows(batch, OUT)) == 2
    with pytest.raises(ValueError, match="keeps no row"):
        without_rows(batch, OUT, "sampled")
    with pytest.raises(ValueError, match="unknown count 'drawn'; choose kept or sampled"):
        without_rows(batch, OUT, "drawn")
