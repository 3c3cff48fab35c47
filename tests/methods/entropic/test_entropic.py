"""EntroPIC by hand, and which way its term moves entropy, measured on tabular softmax policies."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from methods.entropic import PIController
from tests.methods.support.losses import rows
from tests.methods.support.tabular import PLAIN, Draws, stages


def test_two_tokens_by_hand() -> None:
    """p 0.98 and 0.5, H 0.3 for a target of 0.1 and an integral of 5: alpha 0.25 on the first token alone."""
    made = stages("entropic")
    made.components["entropic"].load_state_dict({"integral": 5.0})
    logp = torch.tensor([[math.log(0.98), math.log(0.5)]], dtype=torch.float64)
    batch = rows(torch.ones(1, 2, dtype=torch.float64), logp)
    leaf = logp.clone().requires_grad_()
    current = {"logp": leaf, "entropy": torch.full((1, 2), 0.3, dtype=torch.float64)}
    (sure,) = made.regularisers
    constants = [stage.prepare(batch, current).value for stage in (made.loss, sure)]
    assert float(constants[1]["alpha"]) == pytest.approx(0.25)
    assert constants[1]["counted"].tolist() == [[2.0, 0.0]]  # alone in its own mean
    per_token = made.loss(batch, current, constants[0])
    per_token = per_token + constants[1]["counted"] * sure(batch, current, constants[1])
    loss = per_token.mean()
    (grad,) = torch.autograd.grad(loss, leaf)
    assert float(loss.detach()) == pytest.approx(-1.25)
    assert grad[0].tolist() == pytest.approx([-0.75, -0.5])
    ctx: Any = None
    made.components["entropic"].after_minibatch(0.3, ctx)
    assert made.components["entropic"].state_dict()["integral"] == pytest.approx(5.2)


def test_the_integral_grows_on_while_alpha_is_at_its_limit() -> None:
    control = PIController(0.1, 1.0, 0.01)
    for _ in range(10):
        assert control.alpha(3.1) == 1.0
        control.observe(3.1)
    assert control.integral == pytest.approx(30.0)
    assert control.alpha(0.0) == pytest.approx(
        0.2
    )  # and has to be worked off: still positive below the target


@pytest.mark.parametrize(("target", "sign"), [(0.05, -1), (5.0, 1)])
@pytest.mark.parametrize("spread", [3.0, 5.0])
def test_the_term_moves_entropy_towards_the_target(target: float, sign: int, spread: float) -> None:
    """Against the same step without it: a token of over 95 % that is raised lowers entropy, and back."""
    draws = Draws.make(spread)
    made = stages("entropic", **PLAIN, dual_clip=None, target_entropy=target)
    moved = draws.change(made, 1e-4) - draws.change(stages("grpo", **PLAIN), 1e-4)
    touched = draws.logp(draws.logits) > math.log(0.95)
    assert 0.02 < float(touched.double().mean()) < 0.95
    assert bool((sign * moved[touched] > 0).all()) and not bool(moved[~touched].any())
