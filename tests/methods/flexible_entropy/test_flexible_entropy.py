"""What the thresholds do to entropy, measured on tabular softmax policies."""

from __future__ import annotations

import pytest
import torch

from tests.methods.support.tabular import Expected, change, stages


@pytest.mark.parametrize(("raising", "sign"), [(True, 1), (False, -1)])
@pytest.mark.parametrize("sharpness", [1.5, 3.0])
def test_a_wide_upper_threshold_raises_entropy_and_a_wide_lower_one_lowers_it(
    raising: bool, sign: int, sharpness: float
) -> None:
    """Flexible entropy control against the same step with both thresholds at 0.2; fair coins as above."""
    old = Expected.make(sharpness)
    g = torch.Generator().manual_seed(2)
    logits = old.logits + 0.1 * torch.randn(old.logits.shape, generator=g, dtype=torch.float64)
    tokens = old.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    made = stages("flexible-entropy@od", aggregation="token-mean")
    made.components["flexible"].load_state_dict({"u": 0.0, "h_init": 1.0, "raising": raising})
    wide = change(made, logits, tokens, coin, 1e-4, old_SK=old.logits)
    fixed = change(stages("grpo", aggregation="token-mean"), logits, tokens, coin, 1e-4, old_SK=old.logits)
    different = (wide - fixed).abs() > 1e-15
    assert float(different.double().mean()) > 0.01
    assert sign * float((wide - fixed).mean()) > 0
    assert float((sign * (wide - fixed) > 0)[different].double().mean()) > 0.8
