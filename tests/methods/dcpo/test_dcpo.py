"""DCPO's virtual temperature moves entropy to its target; at the target it is GRPO."""

from __future__ import annotations

import pytest
import torch

from methods.dcpo import tempered_ratio
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.registered import make
from tests.methods.support.tabular import PLAIN, Expected, change, stages


def test_dcpo_at_its_target_is_grpo() -> None:
    """True, though the card does not count it: there the added term is off."""
    step = make_step(0, minibatches=1)
    ours = make("dcpo", {"entropy_target": 0.4})
    ours.components["dcpo"].load_state_dict({"h": 0.4})
    base = make("grpo", {"aggregation": "token-mean", "dual_clip": 3.0})
    (mine,), (theirs,) = plan_of(ours, step), plan_of(base, step)
    torch.testing.assert_close(update(ours, step, mine), update(base, step, theirs), rtol=1e-9, atol=1e-12)


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
