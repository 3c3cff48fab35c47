"""CurioSFT on the sheet's numbers, its search, and its teacher."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.registry.golden import cases
from harness.stages.token_stats import ENTROPY
from methods.curiosft import CuriousLogProb, FollowingTeacher, SelfDistillation, target_gain
from tests.helpers.tiny import tiny_trainer
from tests.methods.curiosft.adapter import outputs
from tests.methods.support.cases import FOLDER
from tests.methods.support.losses import rows, value_and_gradient

NOWHERE = torch.empty(0)


def test_the_sheet_s_numbers() -> None:
    entropy = torch.tensor([1.2, 0.0], dtype=torch.float64)
    assert target_gain(entropy, 1.2, 2.0, 0.5).tolist() == pytest.approx([0.25, 0.041586], abs=1e-6)
    one, logp = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64)
    q = logp + 0.2
    batch = rows(one, logp).with_token_tags(curious_logp=q)
    loss, gradient = value_and_gradient(SelfDistillation(), batch, logp)
    assert 1 + loss == pytest.approx(1.02) and -1 + gradient[0] == pytest.approx(-1.2)


def test_the_temperature_gives_the_entropy_that_is_asked_for() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(99, 12, generator=g, dtype=torch.float64) * torch.linspace(0.1, 6, 99)[:, None]
    stat = CuriousLogProb(tau_min=1.0, tau_max=4.0, low_entropy=0.0)
    tau = stat.temperature(logits)
    now = ENTROPY.compute(logits, NOWHERE)
    wanted = now + target_gain(now, 1.2, 2.0, 0.5)
    got = ENTROPY.compute(logits / tau[:, None], NOWHERE)
    inside = (tau > 1.0) & (tau < 4.0)
    assert int(inside.sum()) > 20
    torch.testing.assert_close(got[inside], wanted[inside], rtol=0, atol=1e-5)
    assert bool((wanted[tau == 4.0] >= got[tau == 4.0]).all())


def test_confident_tokens_take_the_lowest_temperature_whatever_the_search_says() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [1.0, 0.0, 0.5]], dtype=torch.float64)
    stat = CuriousLogProb(tau_min=1.1, tau_max=9.0)
    assert CuriousLogProb(tau_min=1.1, tau_max=9.0, low_entropy=0.0).temperature(logits)[0] > 1.2
    assert stat.temperature(logits).tolist()[0] == 1.1 and stat.temperature(logits)[1] > 1.1


def test_the_search_sees_the_largest_logits_and_q_all_of_them() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.5, 0.4, 0.3]], dtype=torch.float64)
    few, every = CuriousLogProb(top_k=2, tau_max=3.0), CuriousLogProb(tau_max=3.0)
    tau = few.temperature(logits)
    assert 1.1 < float(tau) < 3 and not torch.equal(tau, every.temperature(logits))
    assert torch.equal(tau, every.temperature(logits[:, :2]))
    q = few.compute(logits, torch.tensor([1]))
    torch.testing.assert_close(q, (logits / tau[:, None]).log_softmax(1)[:, 1])


def test_equal_logits_and_no_gain_take_the_lower_end() -> None:
    """Any temperature has the entropy that is asked for; the sheet looks at the lower end first."""
    stat = CuriousLogProb(max_gain=0.0)
    assert stat.temperature(torch.zeros(1, 4, dtype=torch.float64)).tolist() == [1.1]
    assert CuriousLogProb().temperature(torch.zeros(1, 4, dtype=torch.float64)).tolist() == [1.5]


def test_the_adapter_s_entropy_is_that_of_the_largest_logits() -> None:
    case = next(iter(cases(FOLDER / "curiosft")))
    few = replace(case, meta={**case.meta, "hyperparameters": {**case.hp, "topk": 4}})
    top = torch.from_numpy(case["teacher_logits"]).topk(4).values
    made = outputs(few)["out_entropy_teacher"]
    torch.testing.assert_close(torch.from_numpy(made), torch.distributions.Categorical(logits=top).entropy())
    assert not (made == outputs(case)["out_entropy_teacher"]).any()


def weights_of(policy: object) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in policy.weights().items()}  # type: ignore[attr-defined]


def test_the_teacher_follows_before_its_sixth_pass() -> None:
    """Every second step here: it stays in the first two passes and is nearly the model in the third."""
    trainer = tiny_trainer(
        "train.steps=5", "train.lr=1e-2", "method.sync_every=2", "method.sync_share=0.9", method="curiosft"
    )
    start = weights_of(trainer.policy)
    assert trainer.step()["curiosft/syncs"] == 0 and trainer.moved_reference is None
    assert trainer.reference is not None
    assert all(torch.equal(v, start[k]) for k, v in trainer.reference.weights().items())
    assert trainer.step()["curiosft/syncs"] == 1
    model = weights_of(trainer.policy)
    for name, value in trainer.reference.weights().items():
        torch.testing.assert_close(value, 0.1 * start[name] + 0.9 * model[name])
    assert any(not torch.equal(model[name], value) for name, value in start.items())


def test_the_passes_are_counted_through_a_checkpoint() -> None:
    teacher = FollowingTeacher(5, 0.99)
    asked = []
    for _ in range(11):
        teacher.after_update(None, None)  # type: ignore[arg-type]
        asked.append(bool(teacher.resets()))
        state, teacher = teacher.state_dict(), FollowingTeacher(5, 0.99)
        teacher.load_state_dict(state)
    assert [i + 1 for i, now in enumerate(asked) if now] == [5, 10]
