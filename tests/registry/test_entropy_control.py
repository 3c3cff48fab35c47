"""Signs that the papers of entropy controllers derive, measured as in test_entropy_change.py."""

from __future__ import annotations

import pytest
import torch
from test_entropy_change import PLAIN, Expected, change, stages

from methods.dcpo import tempered_ratio


@pytest.mark.parametrize(("h", "sign"), [(0.0, 1), (9.0, -1)])
@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_dcpos_virtual_temperature_moves_entropy_to_its_target(h: float, sign: int, sharpness: float) -> None:
    """All answers correct, so that A = 0 and the added term is alone: its expectation is that of log pi under
    the tempered policy, and the expected step is towards pi^T: hotter below the target, colder above."""
    expected = Expected.make(sharpness)
    stage = stages("dcpo").advantage
    stage.state.h = h  # type: ignore[attr-defined]
    logits, tokens = expected.logits, expected.tokens
    old = {name: (scale * logits).log_softmax(1).gather(1, tokens) for name, scale in (
        ("logp", 1.0), (stage.tempered.name, stage.tempered.scale),  # type: ignore[attr-defined]
    )}  # fmt: skip
    credit = tempered_ratio(old[stage.tempered.name], old["logp"])  # type: ignore[attr-defined]
    measured = change(stages("grpo", **PLAIN), logits, tokens, credit, 1e-4)
    peaked = logits.max(1).values - logits.min(1).values > 0.1  # a uniform policy has no temperature
    assert bool((sign * measured[peaked] > 0).all()) and float(peaked.double().mean()) > 0.9


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
