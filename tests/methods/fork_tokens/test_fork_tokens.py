"""Which tokens are kept, on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from methods.fork_tokens import above_quantile, top_count


@pytest.mark.parametrize(
    ("n", "rho", "k"), [(11, 0.2, 3), (10, 0.2, 2), (3, 0.2, 1), (4, 0.01, 1), (7, 1, 7)]
)
def test_fork_tokens_keep_the_exact_count(n: int, rho: float, k: int) -> None:
    entropy = torch.arange(n + 2.0)[None]  # the two largest are padding
    mask = torch.arange(n + 2)[None] < n
    kept = top_count(entropy, mask, rho)
    assert kept[0].nonzero().flatten().tolist() == list(range(n - k, n))


def test_fork_tokens_quantile_interpolates() -> None:
    entropy = torch.tensor([[0.4, 0.1, 0.3, 0.2, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, True, False]])
    # position 3 x 0.75 = 2.25 between 0.3 and 0.4; at rho 2/3 it is 1, exactly 0.2
    assert above_quantile(entropy, mask, 0.25).tolist() == [[True, False, False, False, False]]
    assert above_quantile(entropy, mask, 2 / 3).sum() == 3
    assert above_quantile(entropy, mask, 1.0).tolist() == mask.tolist()
