"""REPO-R by hand, its controller, and the sign of zeta, measured on tabular softmax policies."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.repo_r import ZetaController, next_zeta, rescaled
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.tabular import PLAIN, Expected, change, stages

HAND = {"zeta": 0.05, "target": "none"}


def test_two_tokens_by_hand() -> None:
    """zeta 0.05 and a log-prob of -2: 1 becomes 1.1, -1 becomes -0.9."""
    batch, logp = batch_of([[0.0], [0.0]], [1.0, -1.0], logp=-2.0)
    torch.testing.assert_close(
        rescaled(batch.advantages(), logp, 0.05).flatten().tolist(), [1.1, -0.9], rtol=1e-12, atol=0
    )
    loss, grad, _ = loss_of("repo-r", HAND, batch, logp)
    assert loss == pytest.approx(-0.1)
    assert grad.flatten().tolist() == pytest.approx([-0.55, 0.45])


def test_sign_and_floor() -> None:
    advantage = torch.tensor([[1.0, -1.0, 0.0, -1.0, 1.0]])
    logp = torch.tensor([[-torch.inf, -torch.inf, -3.0, -2.0, -3.0]])
    got = rescaled(advantage, logp, 0.4)
    torch.testing.assert_close(got, torch.tensor([[9.0, 0.0, 0.0, -0.2, 2.2]]))
    assert rescaled(advantage, logp, -0.4)[0].tolist()[-1] == 0.0  # a right token that is too rare


@pytest.mark.parametrize(
    ("zeta", "entropy", "after"),
    [
        (1e-3, 0.2, 2e-3),
        (1e-3, 0.4, 5e-4),
        (1e-3, 0.3, 1e-3),
        (1e-4, 0.4, -1e-4),
        (-1e-4, 0.4, -2e-4),
        (-1e-4, 0.2, 1e-4),
        (-4e-4, 0.2, -2e-4),
        (0.04, 0.2, 0.05),
        (-0.04, 0.4, -0.05),
        (0.0, 0.2, 1e-4),
        (0.0, 0.4, -1e-4),
    ],
)
def test_the_controller_by_hand(zeta: float, entropy: float, after: float) -> None:
    assert next_zeta(zeta, entropy, 0.3, 1e-4, 0.05) == pytest.approx(after, rel=1e-12)


def test_the_entropy_is_the_mean_of_a_steps_updates_and_may_be_the_target() -> None:
    ctx: Any = None
    control = ZetaController(1e-3, None, 1e-4, 0.05)
    for first, second, zeta in ((0.2, 0.4, 1e-3), (0.3, 0.2, 2e-3), (0.4, 0.3, 1e-3)):
        control.begin_step(ctx)
        control.after_minibatch(first, ctx)
        control.after_minibatch(second, ctx)
        logged = control.after_update(ctx, ctx)
        assert control.zeta == zeta and logged["repo_r/target"] == pytest.approx(0.3)


@pytest.mark.parametrize("zeta", [0.05, -0.05])
@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_zeta_moves_entropy_its_own_way(zeta: float, spread: float) -> None:
    """Against the same step with the plain advantage, every action as often as it is likely.

    With advantages of one size the sign holds in every state: what is added to them is -logp. With any others
    it holds on average, since a likely action of a large advantage may be raised too.
    """
    made, plain = stages("repo-r", **PLAIN, zeta=zeta, target="none"), stages("grpo", **PLAIN)
    draws = Expected.make(spread)
    tokens = draws.tokens.repeat(1, 2)
    coin = torch.ones_like(tokens, dtype=torch.float64)
    coin[:, coin.shape[1] // 2 :] = -1
    moved, still = (change(one, draws.logits, tokens, coin, 1e-4) for one in (made, plain))
    assert bool((zeta * (moved - still) > 0).all())
    other = draws.change(made, 1e-4) - draws.change(plain, 1e-4)
    assert zeta * float(other.mean()) > 0
