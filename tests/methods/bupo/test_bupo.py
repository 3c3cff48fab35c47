"""BuPO on numbers worked out by hand, and what its first phase leaves alone."""

from __future__ import annotations

import pytest
import torch

from harness.model.logits import token_stats
from harness.util.errors import UserError
from methods.bupo import BuPO
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import rows


def test_bupo_by_hand() -> None:
    hidden = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    head = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    loss = BuPO(layer=1.0).stages().loss
    (stat,) = loss.parts()[0].current_stats
    logp = token_stats(hidden, head, torch.tensor([0]), [stat])[stat.name]
    assert logp.tolist() == pytest.approx([-0.126928], abs=1e-6)
    batch = rows(torch.ones(1, 1, dtype=torch.float64), logp.detach()[None])
    batch = batch.with_(old={stat.name: logp.detach()[None]})
    current = {"logp": torch.full((1, 1), -9.0, dtype=torch.float64), stat.name: logp[None]}
    value = loss(batch, current, loss.prepare(batch, current).value)
    assert value.tolist() == [[-1.0]]
    (grad,) = torch.autograd.grad(value.sum(), hidden)
    assert grad[0].tolist() == pytest.approx([-0.238406, 0.119203], abs=1e-6)


def test_layers_above_get_gradient_zero_until_the_switch() -> None:
    """And so no moments; the steps that the optimiser counts go on, as under a gradient of zeros."""
    trainer = tiny_trainer(
        "method.layer=1", "method.internal_steps=1", "train.weight_decay=0", "train.lr=3e-3", method="bupo"
    )
    named = dict(trainer.policy.model.named_parameters())
    above = [n for n in named if n.startswith("model.layers.1.") or n == "model.norm.weight"]
    below = [n for n in named if n not in above]
    before = {n: p.detach().clone() for n, p in named.items()}
    first = trainer.step()
    assert first["bupo/internal"] == 1.0 and first["activity"] > 0.5
    for n in above:
        state = trainer.optimizer.state[named[n]]
        assert torch.equal(named[n], before[n]) and float(state["step"]) == first["updates"]
        assert not bool(state["exp_avg"].any() or state["exp_avg_sq"].any())
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= set(below)
    assert all(bool((named[n] != before[n]).any()) for n in below)
    assert trainer.step()["bupo/internal"] == 0.0
    assert all(bool((named[n] != before[n]).any()) for n in named)


def test_the_whole_policy_is_read_behind_the_last_layer() -> None:
    """The same update as plain GRPO's with this aggregation and cap, to the bit."""
    same = "train.old_pass=always"
    plain = ("method.aggregation=token-mean", "method.dual_clip=10.0", same)
    runs = tiny_trainer("method.layer=2", same, method="bupo"), tiny_trainer(*plain, method="grpo")
    for trainer in runs:
        trainer.step()
    for ours, theirs in zip(*(t.policy.weights().values() for t in runs), strict=True):
        assert torch.equal(ours, theirs)


def test_a_layer_that_is_not_there_is_refused_before_the_first_step() -> None:
    with pytest.raises(UserError, match="layer 3 is asked for, and Qwen2ForCausalLM has 2; use 1 to 2"):
        tiny_trainer("method.layer=3", method="bupo")
