"""AEPO's rollout program, driven by a fake engine; its state, and what it is without tempered rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.requests import Generate
from methods.aepo import EntropyState, TemperedRollout
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.programs import CTX, drive, signals
from tests.methods.support.registered import make


@pytest.mark.parametrize(("h", "temperature"), [(0.0, 1.2), (0.5, 1.2), (0.6, 0.8)])
def test_aepo_samples_the_first_prompts_again_at_the_chosen_temperature(h: float, temperature: float) -> None:
    state = EntropyState(0.5)
    state.h = h
    batch, requests = drive(TemperedRollout(state, 1.2, 0.8, 0.5).run(CTX), lambda p, s: True)
    normal, extra = (r for r in requests if isinstance(r, Generate))
    assert normal.temperature is None and extra.temperature == temperature
    assert [(p.problem.id, p.group, p.stream) for p in extra.prompts] == [("0", 4, 1), ("1", 5, 1)]
    assert batch.tags["tempered"].tolist() == [0.0] * 12 + [1.0] * 6
    assert batch.temperature_B.tolist() == pytest.approx([1.0] * 12 + [temperature] * 6)


def test_aepo_state_is_the_nll_of_the_update() -> None:
    stages = registry.load("aepo")().stages()
    state = stages.components["aepo"]
    logged = state.after_update(signals(update_nll=0.83), CTX)
    assert state.state_dict() == {"h": 0.83} and logged["target_error"] == pytest.approx(0.33)


def test_aepo_without_tempered_rows_is_grpo() -> None:
    """True, though the card does not count it: it only switches the controller off."""
    step = make_step(0, minibatches=1)
    (mine,) = plan_of(make("aepo", {"reinforce_share": 0.0}), step)
    base = make("grpo", {"aggregation": "token-mean", "dual_clip": 3.0})
    normal = replace(step, batch=step.batch.rows(step.batch.tags["tempered"] == 0))
    (theirs,) = plan_of(base, normal)
    ours = update(make("aepo", {}), step, mine)
    torch.testing.assert_close(ours, update(base, step, theirs), rtol=1e-6, atol=1e-9)
