"""One optimiser step: micro-batches, padding and row order change nothing; the log says what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.policy import Policy
from harness.stages.base import Loss, Minibatch, Out, Stages, Stats, StepSize
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised, grpo_stages
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio, TokenWeight
from harness.stages.regularise import EntropyBonus
from harness.stages.token_stats import ENTROPY, LOGP, LogProb
from harness.train.update import UpdateLog, backward, row_grad_norms, with_parts
from methods.era import ActivatedRatio
from tests.helpers.tiny import make_batch, tiny_policy

PROMPTS = [[5, 6, 7, 8]] * 4 + [[9, 10]] * 3
RESPONSES = [[20, 21, 22], [23], [24, 25, 26, 27, 1], [24, 25], [28, 1], [29, 30, 31], [32]]


@dataclass(frozen=True)
class RankWeight(TokenWeight):
    """Needs the whole minibatch: tokens above the median log-prob count half."""

    minibatch_scope = True
    current_stats = (LOGP, LogProb(scale=2.0))

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        values = current["logp@2"]
        median = values[batch.mask_BT].median()
        return Out(torch.where(values > median, 0.5, 1.0).to(values.dtype), {"median": float(median)})


@dataclass(frozen=True)
class LengthStep(StepSize):
    def __call__(self, batch: Batch, current: Stats) -> Out[float]:
        return Out(1.0 / float(batch.mask_BT.sum()), {"steps/size": 1.0})


STAGES = {
    "grpo": grpo_stages(),
    "token-mean": grpo_stages().with_(loss=PolicyLoss(aggregation="token-mean")),
    "sum-norm": grpo_stages().with_(loss=PolicyLoss(aggregation="seq-mean-token-sum-norm")),
    "seq-sum": grpo_stages().with_(loss=PolicyLoss(aggregation="seq-mean-token-sum")),
    "everything": grpo_stages().with_(
        loss=PolicyLoss(weight=RankWeight(), aggregation="token-mean", dual_clip=3.0),
        regularisers=(EntropyBonus(0.1),), step_size=LengthStep(),
    ),
}  # fmt: skip


def minibatch(policy: Policy, *, extra_P: int = 0, extra_T: int = 0) -> Batch:
    """Rollouts of an older policy, so that ratios differ from 1 and some are clipped."""
    batch = make_batch(policy, PROMPTS, RESPONSES, extra_P=extra_P, extra_T=extra_T)
    batch = batch.with_(group_B=torch.tensor([0] * 4 + [1] * 3))
    with torch.no_grad():
        now = policy.stats(batch, [LOGP, ENTROPY])
    shift = torch.linspace(-0.6, 0.6, 7, dtype=torch.float64)[:, None].expand(batch.mask_BT.shape)
    old = {"logp": (now["logp"] + shift) * batch.mask_BT, "entropy": now["entropy"]}
    advantage = torch.tensor([1.0, -0.5, 0.3, -1.2, 0.9, -0.4, 0.2], dtype=torch.float64)
    return batch.with_(
        old=old, advantage_BT=advantage[:, None] * batch.mask_BT,
        tags={"grpo_advantage": advantage},
    )  # fmt: skip


def gradient(
    policy: Policy, stages: Stages, batch: Batch, micro_rows: int, *, scope: str = "minibatch", **options: Any
) -> tuple[dict[str, Tensor], float, float, UpdateLog]:
    log = UpdateLog()
    policy.model.zero_grad()
    loss, multiplier = backward(
        policy, stages, Minibatch(batch, **options), log, micro_rows=micro_rows, width=10, scope=scope
    )
    grads = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
    return grads, loss, multiplier, log


def assert_same_gradient(a: Any, b: Any) -> None:
    assert a[1] == pytest.approx(b[1], abs=1e-9) and a[2] == pytest.approx(b[2])
    assert a[0].keys() == b[0].keys()
    for name in a[0]:
        torch.testing.assert_close(a[0][name], b[0][name], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", STAGES)
def test_micro_batches_do_not_change_the_gradient(name: str) -> None:
    policy = tiny_policy(torch.float64)
    batch = minibatch(policy)
    whole = gradient(policy, STAGES[name], batch, 7)
    assert any(g.abs().max() > 1e-4 for g in whole[0].values())
    for micro_rows in (1, 3, 100):
        split = gradient(policy, STAGES[name], batch, micro_rows)
        assert_same_gradient(whole, split)
        for key, value in whole[3].sums.items():
            assert split[3].sums[key] == pytest.approx(value, abs=1e-6), key
        assert split[3].metrics.keys() == whole[3].metrics.keys()
        for key, values in whole[3].metrics.items():
            assert split[3].metrics[key] == pytest.approx(values), key


@pytest.mark.parametrize("name", STAGES)
def test_padding_and_row_order_do_not_change_the_gradient(name: str) -> None:
    policy = tiny_policy(torch.float64)
    whole = gradient(policy, STAGES[name], minibatch(policy), 3)
    assert_same_gradient(whole, gradient(policy, STAGES[name], minibatch(policy, extra_P=9, extra_T=6), 3))
    turned = minibatch(policy).rows([6, 2, 0, 5, 1, 4, 3])
    assert_same_gradient(whole, gradient(policy, STAGES[name], turned, 3))


def test_scope_micro_takes_statistics_per_micro_batch() -> None:
    policy = tiny_policy(torch.float64)
    batch, stages = minibatch(policy), STAGES["everything"]
    whole, apart = gradient(policy, stages, batch, 3), gradient(policy, stages, batch, 3, scope="micro")
    assert len(apart[3].metrics["median"]) == 3 and len(whole[3].metrics["median"]) == 1
    assert any(not torch.allclose(whole[0][n], apart[0][n]) for n in whole[0])


def test_gradient_equals_a_plain_computation() -> None:
    """Clipped surrogate and entropy bonus, written out over the full logits."""
    policy = tiny_policy(torch.float64)
    batch = minibatch(policy)
    stages = grpo_stages().with_(regularisers=(EntropyBonus(0.1),))
    got, loss, _, _ = gradient(policy, stages, batch, 3)
    total, tokens = torch.zeros((), dtype=torch.float64), int(batch.mask_BT.sum())
    for i, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        logits = policy.model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        logp_all = logits.log_softmax(1)
        logp = logp_all.gather(1, torch.tensor(response)[:, None])[:, 0]
        ratio = (logp - batch.old["logp"][i, : len(response)]).exp()
        advantage = batch.advantages()[i, 0]
        clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        total = total - clipped.mean() / 7
        total = total + 0.1 * (logp_all.exp() * logp_all).sum(1).sum() / tokens
    assert loss == pytest.approx(total.item(), abs=1e-6)
    policy.model.zero_grad()
    total.backward()
    for name, parameter in policy.model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-6, atol=1e-8)


def test_loss_mask_counts_and_coefficient() -> None:
    policy = tiny_policy(torch.float64)
    batch, stages = minibatch(policy), STAGES["token-mean"]
    first = torch.zeros_like(batch.mask_BT)
    first[:, 0] = True
    few = gradient(policy, stages, batch.with_(loss_mask_BT=first), 3)
    diluted = gradient(
        policy, stages, batch.with_(loss_mask_BT=first, count_mask_BT=batch.mask_BT), 3, coefficient=0.5
    )
    for name, value in few[0].items():  # 7 of 17 tokens train
        torch.testing.assert_close(diluted[0][name], value * 7 / 17 / 2, rtol=1e-5, atol=1e-9)


def test_a_minibatch_may_bring_its_own_loss() -> None:
    @dataclass(frozen=True)
    class Imitation(Loss):
        def __call__(self, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
            return -current["logp"]

    policy = tiny_policy(torch.float64)
    batch = minibatch(policy)
    grads, loss, _, log = gradient(policy, grpo_stages(), batch, 3, loss=Imitation())
    assert loss == pytest.approx(log.mean("nll"), abs=1e-6)
    assert log.mean("changed") == 1.0


def test_nothing_to_train_on_gives_a_zero_gradient() -> None:
    policy = tiny_policy(torch.float64)
    batch = minibatch(policy)
    grads, loss, _, _ = gradient(policy, grpo_stages(), batch.with_(loss_mask_BT=batch.mask_BT & False), 3)
    assert loss == 0 and all(float(g.abs().max()) == 0 for g in grads.values())


def test_padding_may_hold_anything() -> None:
    policy = tiny_policy(torch.float64)
    batch = minibatch(policy, extra_T=2)
    dirty = batch.with_(
        old={k: v.masked_fill(~batch.mask_BT, float("-inf")) for k, v in batch.old.items()},
        response_BT=batch.response_BT.masked_fill(~batch.mask_BT, 50),
    )
    assert_same_gradient(gradient(policy, grpo_stages(), batch, 3), gradient(policy, grpo_stages(), dirty, 3))


@pytest.mark.parametrize("advantages", ["zero", "far outside the clip"])
def test_edge_batches_stay_finite(advantages: str) -> None:
    policy = tiny_policy()
    batch = minibatch(policy)
    if advantages == "zero":
        batch = batch.with_(advantage_BT=torch.zeros_like(batch.advantages()))
    else:
        far = torch.where(batch.group_B == 0, 200.0, -200.0)[:, None] * batch.mask_BT
        batch = batch.with_(old={**batch.old, "logp": batch.old["logp"] + far})
    grads, loss, _, _ = gradient(policy, grpo_stages(), batch, 3)
    assert torch.isfinite(torch.tensor(loss)) and all(bool(g.isfinite().all()) for g in grads.values())


# --- the log ----------------------------------------------------------------------------------------------


def activity(stages: Stages, **changes: Any) -> float:
    policy = tiny_policy()
    batch = minibatch(policy)
    if changes.pop("on_policy", True):
        with torch.no_grad():
            batch = batch.with_(old=policy.stats(batch, [LOGP, ENTROPY]))
    log = gradient(policy, stages, batch.with_(**changes), 3)[3]
    return log.mean("changed")


def test_activity_is_nothing_for_grpo_and_everything_for_another_loss() -> None:
    assert activity(grpo_stages()) == 0
    assert activity(grpo_stages(), on_policy=False) == 0
    assert activity(STAGES["token-mean"]) == 0  # another reduction is no other gradient of a token
    assert activity(grpo_stages().with_(loss=PolicyLoss(surrogate="score"))) == 0  # on policy the same
    assert activity(grpo_stages().with_(regularisers=(EntropyBonus(0.1),))) == 1
    assert 0.3 < activity(grpo_stages().with_(loss=PolicyLoss(weight=RankWeight()))) < 0.7


def test_activity_asks_what_a_log_prob_is_not_how_it_is_normalised() -> None:
    vocab = tiny_policy().model.config.vocab_size
    never, always = (
        grpo_stages().with_(loss=PolicyLoss(ratio=ActivatedRatio(w_low=low, w_high=1e6, top_k=vocab)))
        for low in (0.0, 1e5)
    )
    policy = tiny_policy()
    with torch.no_grad():
        old = policy.stats(minibatch(policy), [LOGP, *never.loss.ratio.old_stats])
    assert activity(never, on_policy=False, old=old) == 0
    assert 0.3 < activity(always, on_policy=False, old=old) < 0.7  # where the advantage is positive


def test_activity_counts_tokens_whose_clip_changed() -> None:
    wide = grpo_stages().with_(loss=PolicyLoss(bounds=FixedBounds(0.9, 3.0)))
    assert activity(wide) == 0
    assert 0 < activity(wide, on_policy=False) < 1


def test_activity_counts_another_advantage_and_extra_rows() -> None:
    policy = tiny_policy()
    batch = minibatch(policy)
    doubled = batch.advantages().clone()
    doubled[2] *= 2
    assert activity(grpo_stages(), advantage_BT=doubled) == pytest.approx(5 / 17)
    extra = torch.tensor([0, 0, 0, 0, 0, 1, 0])
    assert activity(grpo_stages(), tags={**batch.tags, "extra": extra}) == pytest.approx(3 / 17)


def test_log_of_ratios_and_clipping() -> None:
    policy = tiny_policy(torch.float64)
    batch = minibatch(policy)
    log = gradient(policy, grpo_stages(), batch, 3)[3]
    lengths = batch.length_B
    ratio = torch.linspace(0.6, -0.6, 7, dtype=torch.float64).exp()
    advantage = batch.tags["grpo_advantage"]
    assert log.mean("clip_low") == pytest.approx(float(lengths[(ratio < 0.8) & (advantage < 0)].sum()) / 17)
    assert log.mean("clip_high") == pytest.approx(float(lengths[(ratio > 1.2) & (advantage > 0)].sum()) / 17)
    assert log.mean("kl") == pytest.approx(float(((ratio - 1 - ratio.log()) * lengths).sum()) / 17)
    assert torch.cat(log.ratios).sort().values.tolist() == pytest.approx(
        ratio.repeat_interleave(lengths).sort().values.tolist()
    )


def test_the_log_shows_the_ratio_that_the_loss_bounds() -> None:
    class SequenceRatio(TokenRatio):
        def log_ratio(self, batch: Batch, current: Stats) -> Tensor:
            mean = ((current["logp"] - batch.old["logp"]) * batch.mask_BT).sum(1) / batch.length_B
            return mean[:, None].expand(batch.mask_BT.shape)

    policy = tiny_policy()
    batch = minibatch(policy)
    bumpy = batch.old["logp"] + torch.tensor([0.0, 0.1, -0.1, 0.0, 0.0]) * batch.mask_BT
    batch = batch.with_(old={**batch.old, "logp": bumpy})
    log = gradient(policy, grpo_stages().with_(loss=PolicyLoss(ratio=SequenceRatio())), batch, 7)[3]
    assert len(set(torch.cat(log.ratios).double().mul(1e4).round().tolist())) == 7  # one a row


def test_row_gradient_norms() -> None:
    policy = tiny_policy(torch.float64)
    batch = minibatch(policy, extra_P=3)
    norms = row_grad_norms(policy, batch)
    for i in (0, 5):
        policy.model.zero_grad()
        logp = policy.stats(make_batch(policy, PROMPTS[i : i + 1], RESPONSES[i : i + 1]), [LOGP])["logp"]
        logp.sum().backward()
        squares = sum(float(p.grad.pow(2).sum()) for p in policy.model.parameters() if p.grad is not None)
        assert float(norms[i]) == pytest.approx(squares**0.5, rel=1e-8)


def test_parts_are_found_at_any_depth() -> None:
    loss = PolicyLoss(weight=RankWeight())
    assert [type(p).__name__ for p in with_parts(loss)] == [
        "PolicyLoss", "TokenRatio", "FixedBounds", "RankWeight",
    ]  # fmt: skip
    assert len(with_parts(replace(loss, weight=None))) == 3


def test_group_normalised_gives_equal_rewards_nothing() -> None:
    value = group_normalised(torch.tensor([0.1, 0.1, 0.1, 1.0, 0.0]), torch.tensor([3, 3, 3, 8, 8]))
    assert value[:3].tolist() == [0, 0, 0]
    assert value[3:].tolist() == pytest.approx([0.7071, -0.7071], abs=1e-4)
