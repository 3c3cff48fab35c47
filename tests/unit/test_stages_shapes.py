"""Methods of awkward shape stand on the stages as they are: no line of the trainer knows them."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.model.logits import token_stats
from harness.registry import methods as registry
from harness.stages.base import Advantage, Component, Out, Stages, StepContext
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised
from harness.train.trainer import Trainer
from methods.vcpo import (
    EffectiveSampleStep,
    VarianceControl,
    baselines,
    effective_sample_size,
    rate_multiplier,
    standardised,
    weighted_average,
)
from tests.helpers.shapes.cure import candidates, cure_stages
from tests.helpers.shapes.era import ActivatedLogProb, ActivatedRatio, era_stages, response_entropy
from tests.helpers.shapes.spo_tree import EdgeBuffer, spo_stages, values
from tests.helpers.tiny import tiny_trainer


class Seen(Component):
    """Keeps the rollouts of every step."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def after_rollout(self, batch: Batch, ctx: StepContext) -> None:
        self.batches.append(batch)


def two_steps(trainer: Trainer) -> list[dict[str, float]]:
    before = {k: v.clone() for k, v in trainer.policy.weights().items()}
    rows = [trainer.step(), trainer.step()]
    for metrics in rows:
        assert all(math.isfinite(v) for v in metrics.values()), metrics
    assert any(not torch.equal(before[k], v) for k, v in trainer.policy.weights().items())
    return rows


# --- CURE: a scoring pass between two generations, prefixes, groups of originals and branches --------------


def test_cure_candidates_of_the_sheet() -> None:
    assert candidates([9, 0.1, 2.0, 1.5, 0.3], ["So", " x", " wait", "=", "Thus"], 2) == [2, 4]


def test_cure() -> None:
    seen = Seen()
    trainer = tiny_trainer(stages=cure_stages().with_(components={"seen": seen}))
    rows = two_steps(trainer)
    n1, n2 = 2, 2
    for batch in seen.batches:
        assert torch.bincount(batch.group_B).tolist() == [n1 + n1 * n2] * 4
        assert batch.sample_B.tolist() == list(range(n1 + n1 * n2)) * 4
        assert int((batch.tags["cut"] > 0).sum()) >= 8
        prompt_length = batch.prompt_mask_BP.sum(1)
        for start in range(0, len(batch), n1 + n1 * n2):
            for branch in range(n1, n1 + n1 * n2):
                row, original = start + branch, start + (branch - n1) // n2
                cut = int(batch.tags["cut"][row])
                # longer by what is kept of the original; the kept tokens are prompt, outside every mask
                assert prompt_length[row] == prompt_length[original] + cut
                prefix = batch.prompt_BP[row, batch.prompt_BP.shape[1] - cut :]
                assert torch.equal(prefix, batch.response_BT[original, :cut])
                assert batch.problems[row] == batch.problems[original]
    assert rows[0]["rollouts"] == 24 == rows[0]["trained_rows"]
    assert trainer.counters.extra_forward_tokens > 0  # the entropy pass between the generations


# --- VCPO: row gradient norms before advantages, a learning rate for one step ------------------------------


def test_vcpo_numbers_of_the_sheet() -> None:
    """w = (1, 3), R = (1, 0), |S| = (2, 1): effective samples, and the baselines of code and paper."""
    w = torch.tensor([1.0, 3.0]).double()
    assert float(effective_sample_size(w)) == pytest.approx(1.6)
    assert rate_multiplier(0.8, 1.0, "sqrt") == pytest.approx(0.894427, abs=1e-6)
    reward, group = torch.tensor([1.0, 0.0]).double(), torch.tensor([0, 0])
    for paper, weights, b in ((False, [4, 81], 0.047059), (True, [4, 9], 0.307692)):
        control = VarianceControl(8.0, paper)
        found = control.baseline_weights(w.log(), torch.tensor([2.0, 1.0]).double(), torch.ones(2))
        assert found.tolist() == pytest.approx(weights)
        baseline = baselines(reward, found, group, "mean")
        assert baseline.tolist() == pytest.approx([b, b], abs=1e-6)
        advantage = standardised(reward, baseline, group).tolist()
        assert advantage == pytest.approx([(1 - b) / 0.5, -b / 0.5], abs=1e-5)


@pytest.mark.parametrize(("threshold", "ess"), [(None, 21**2 / 401), (8.0, 9**2 / 65)])
def test_vcpo_s_rate_follows_the_weights_whole_or_truncated(threshold: float | None, ess: float) -> None:
    """Responses of weights 1 and 20; the second token of the first is padding."""
    batch: Any = SimpleNamespace(
        rollout_logp_BT=torch.zeros(2, 2), mask_BT=torch.tensor([[True, False], [True, True]])
    )
    current = {"logp": torch.tensor([[0.0, 9.0], [math.log(4.0), math.log(5.0)]])}
    out = EffectiveSampleStep(1.0, "linear", threshold)(batch, current)
    assert out.value == pytest.approx(ess / 2) == out.metrics["vcpo/ess_share"]


def test_vcpo_s_averages() -> None:
    """Weights 1, 2 and 97 of values 3, 1 and 2: the tails hold less than 5 % each."""
    value, weight = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 97.0])
    found = [float(weighted_average(value, weight, kind)) for kind in ("mean", "median", "winsorized_mean")]
    assert found == pytest.approx([1.99, 2.0, 2.0])


def vcpo_stages() -> Stages:
    made: Stages = registry.load("vcpo@released")().stages()
    return made


@pytest.mark.parametrize("micro_rows", [64, 3])
def test_vcpo(monkeypatch: pytest.MonkeyPatch, micro_rows: int) -> None:
    import harness.train.update

    norms: list[Tensor] = []
    original = harness.train.update.row_grad_norms
    monkeypatch.setattr(
        harness.train.update, "row_grad_norms", lambda *a: norms.append(original(*a)) or norms[-1]
    )
    trainer = tiny_trainer(f"train.micro_batch_rows={micro_rows}", stages=vcpo_stages())
    rates: list[float] = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *a: rates.append(trainer.optimizer.param_groups[0]["lr"]) or step(*a)  # type: ignore
    rows = two_steps(trainer)
    assert len(norms) == 8 and all(len(n) == 8 and bool((n > 0).all()) for n in norms)
    base = trainer.run.train.lr
    assert rates[0] == pytest.approx(base, rel=1e-4)  # the first minibatch is on policy
    assert rates[4] == pytest.approx(base, rel=1e-4)  # so the rate of the step before is gone
    assert all(r <= base * (1 + 1e-9) for r in rates) and min(rates) < 0.99 * base
    assert rows[0]["vcpo/multiplier"] == pytest.approx(sum(rates[:4]) / 4 / base)
    assert rows[0]["activity"] > 0.5


def test_vcpo_does_not_depend_on_micro_batches() -> None:
    after = []
    for micro_rows in (64, 3):
        trainer = tiny_trainer(
            f"train.micro_batch_rows={micro_rows}",
            stages=vcpo_stages(),
            dtype=torch.float64,
        )
        trainer.step()
        after.append(trainer.policy.weights())
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=0, atol=1e-6)


# --- ERA: transformed log-probs in both passes, chosen by the advantage ------------------------------------


def test_era_numbers_of_the_sheet() -> None:
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    stat = ActivatedLogProb(scale=2.0)
    logp = token_stats(z, torch.eye(2), torch.tensor([0]), [stat])[stat.name]
    assert logp.item() == pytest.approx(-0.126928, abs=1e-6)
    assert torch.autograd.grad(logp.sum(), z)[0][0, 0].item() == pytest.approx(0.238406, abs=1e-6)
    entropy = torch.tensor([[1.0, 5.0, 3.0, 9.0]])
    assert response_entropy(entropy, torch.tensor([[True, True, True, False]])).tolist() == [5.0]


def test_era() -> None:
    scales: list[Tensor] = []
    ratios: list[Tensor] = []

    class Watched(ActivatedRatio):
        def log_ratio(self, batch: Batch, current: Any) -> Tensor:
            value = super().log_ratio(batch, current)
            if value.requires_grad:
                scales.append(self.scale(batch, current))
                ratios.append(value.exp()[batch.mask_BT].detach())
            return value

    options = ("rollout.prompts_per_step=8", "rollout.max_response_tokens=6")
    trainer = tiny_trainer(*options, stages=era_stages(Watched(low=3.65, high=3.75)))
    rows = two_steps(trainer)
    assert {0.5, 1.0, 2.0} <= set(torch.cat(scales).tolist())
    # both passes are activated alike: the first update starts at ratio 1 whatever the scale
    torch.testing.assert_close(ratios[0], torch.ones_like(ratios[0]), rtol=0, atol=1e-4)
    assert (ratios[1] - 1).abs().max() > 1e-2
    assert rows[0]["activity"] > 0


# --- SPO-tree: edges as rows, segment advantages, edges that wait in a buffer -------------------------------


def test_spo_values_of_the_sheet() -> None:
    node, parent = [1, 2, 3, 4, 5, 6], [-1, -1, -1, 3, 3, 3]
    v = values(node, parent, [1, 0, 0, 1, 1, 0])
    advantages = [v[n] - v[p] for n, p in zip(node, parent, strict=True)]
    assert advantages == pytest.approx([4 / 9, -5 / 9, 1 / 9, 1 / 3, 1 / 3, -2 / 3])


def spo_trainer(*overrides: str) -> tuple[Trainer, EdgeBuffer, Seen, list[Batch]]:
    buffer, seen, plans = EdgeBuffer(), Seen(), []
    stages = spo_stages(buffer).with_(components={"seen": seen})
    plan = stages.plan

    class Kept(type(plan)):  # type: ignore[misc]
        def __call__(self, batch: Batch, ctx: StepContext) -> Any:
            plans.append(batch)
            return super().__call__(batch, ctx)

    return tiny_trainer(*overrides, stages=stages.with_(plan=Kept())), buffer, seen, plans


def test_spo_tree() -> None:
    trainer, buffer, seen, trained = spo_trainer()
    rows = two_steps(trainer)
    tree = seen.batches[0]
    level, judged = tree.tags["level"], tree.tags["judged"]
    assert set(level.tolist()) == {0, 1} and int((level == 0).sum()) == 4 * 3
    assert trainer.counters.verifier_calls == sum(int(b.tags["judged"].sum()) for b in seen.batches)
    assert rows[0]["accuracy"] == pytest.approx(float(tree.correct_B[judged > 0].mean()))
    where = {int(n): i for i, n in enumerate(tree.tags["node"])}
    for row in (level == 1).nonzero().flatten().tolist():
        parent = where[int(tree.tags["parent"][row])]
        assert judged[parent] == 0 and tree.group_B[parent] == tree.group_B[row]
        prompt = tree.prompt_BP[row][tree.prompt_mask_BP[row]].tolist()
        above = tree.prompt_BP[parent][tree.prompt_mask_BP[parent]].tolist()
        assert prompt == above + tree.response_BT[parent][tree.mask_BT[parent]].tolist()
        assert tree.texts[row].startswith(tree.texts[parent])  # judged with the segments above
    # kept edges wait for their turn; some of the second step's were born in the first
    assert buffer.edges is not None and len(buffer.edges) > 0
    assert rows[1]["spo/replayed"] > 0 == rows[0]["spo/replayed"]
    replayed = trained[1].rows(trained[1].tags["born"] == 1)
    assert len(replayed) == rows[1]["spo/replayed"]
    # their old log-probs are those of their generation
    torch.testing.assert_close(replayed.old["logp"], replayed.rollout_logp_BT, atol=1e-4, rtol=0)
    assert bool((trained[0].train_mask_BT <= trained[0].mask_BT).all())
    assert trained[0].old["logp"][trained[0].train_mask_BT].max() < math.log(0.9)


def test_spo_buffer_survives_a_checkpoint() -> None:
    trainer, buffer, _, _ = spo_trainer()
    trainer.step()
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    resumed, other, _, _ = spo_trainer()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert buffer.edges is not None and other.edges is not None
    assert len(other.edges) == len(buffer.edges)
    assert other.edges.problems == buffer.edges.problems
    assert resumed.step() == trainer.step()
    own, theirs = resumed.policy.weights(), trainer.policy.weights()
    assert all(torch.equal(own[k], theirs[k]) for k in own)


def test_spo_edges_grow_old() -> None:
    trainer, buffer, _, _ = spo_trainer()
    buffer.max_age = 1
    trainer.step()
    assert trainer.step()["spo/replayed"] == 0


# --- what they have in common -------------------------------------------------------------------


def test_a_group_advantage_sees_originals_and_branches_together() -> None:
    got: list[tuple[Batch, Tensor]] = []

    class Watched(Advantage):
        def __call__(self, batch: Batch, ctx: StepContext) -> Out[Tensor]:
            got.append((batch, group_normalised(batch.rewards(), batch.group_B)))
            return Out(got[-1][1])

    tiny_trainer(stages=cure_stages().with_(advantage=Watched())).step()
    batch, advantage = got[0]
    for group in range(4):
        reward = batch.rewards()[batch.group_B == group]
        expected = (reward - reward.mean()) / (reward.std() + 1e-6)
        torch.testing.assert_close(advantage[batch.group_B == group], expected, atol=1e-5, rtol=0)
