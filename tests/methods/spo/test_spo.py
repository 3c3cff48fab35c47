"""SPO: segments, values and edges by hand; what its programs sample, count and keep."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.stages.branching import node_values
from harness.stages.loss import TokenRatio
from harness.stages.uncertain import whitened_over
from methods.spo import (
    RatioGate,
    beginnings,
    best_of,
    edge_advantages,
    factors_of,
    kept_edges,
    segment_advantages,
    segment_tokens,
    uncertain,
)
from tests.helpers.rollouts import rollouts, tokens_of
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.golden import make_batch

TREE = ("method.branches=3-2-2", "method.segment_share=0.25")


def test_a_chain_by_hand() -> None:
    p = torch.tensor([[0.95, 0.5, 0.99, 0.2, 0.9, 0.3]])
    mask = torch.ones(1, 6, dtype=torch.bool)
    low = uncertain(p.log(), mask)
    assert low.tolist() == [[False, True, False, True, False, True]]
    begins = beginnings(low, 2)
    assert begins.tolist() == [[False, True, False, False, False, True]]
    value = torch.tensor([[9, 0.25, 9, 9, 9, 0.75]])
    credit = segment_advantages(begins, value, torch.tensor([1.0]))
    assert credit.tolist() == [[0, 0.5, 0.5, 0.5, 0.5, 0.25]]
    assert not bool(segment_advantages(begins & False, value, torch.tensor([1.0])).any())
    white = whitened_over(credit, low, mask)
    chosen = white[low]
    assert float(chosen.mean()) == pytest.approx(0, abs=1e-6) and float(chosen.std()) == pytest.approx(
        1, abs=1e-5
    )
    assert torch.equal(whitened_over(credit, low & False, mask), whitened_over(credit, mask, mask))


def test_a_tree_by_hand() -> None:
    parent = torch.tensor([-1, 0, 0, 0, 3, 3, 3])
    value = node_values(parent, torch.tensor([0.0, 1, 0, 0, 1, 1, 0]))
    edges = edge_advantages(parent, value)
    assert edges.tolist() == pytest.approx([0, 4 / 9, -5 / 9, 1 / 9, 1 / 3, 1 / 3, -2 / 3])
    normalised = edge_advantages(parent, value, "normalised")
    assert normalised[4:].tolist() == pytest.approx([0.5**0.5, 0.5**0.5, -(2**0.5)], abs=1e-6)
    assert kept_edges(parent, value, edges).tolist() == [False] + [True] * 6
    assert float(best_of(torch.tensor(0.5))) == 1 - 0.5**4
    flat = torch.ones(7, dtype=torch.float64)
    assert not bool(kept_edges(parent, flat, edge_advantages(parent, flat)).any())
    pair = torch.tensor([-1, 0])  # an advantage that its gain of four draws cancels does not train
    values = torch.tensor([0.5, 0.25], dtype=torch.float64)
    gain = best_of(values)[1] - best_of(values)[0]
    assert not bool(kept_edges(pair, values, torch.tensor([0.0, -float(gain)]))[1])


def test_numbers_of_children_and_segments() -> None:
    assert factors_of("4-5-6") == [4, 5, 6] and factors_of("2") == [2]
    assert [segment_tokens(s, 24) for s in (0.3, 0.1, 0.01)] == [7, 2, 1]


def test_a_step_with_a_large_mean_ratio_is_skipped() -> None:
    batch = make_batch(torch.ones(1, 2), old={"logp": torch.tensor([[-1.0, -0.01]])})
    gate = RatioGate(TokenRatio(clamp=10.0), 0.9, 2.0)
    near, far = ({"logp": torch.tensor([[x, 5.0]])} for x in (-0.5, 0.0))
    assert gate(batch, near).value.tolist() == [1.0] and gate(batch, far).value.tolist() == [0.0]
    assert gate(batch, far).metrics == {"spo/skipped": 1.0}


def test_a_chain_values_where_its_segments_begin() -> None:
    trainer = tiny_trainer("method.interval=2", "method.value_samples=3", method="spo@chain")
    batch, ((_, plain), (asked, drawn)) = rollouts(trainer)
    begins, value = batch.token_tags["segment_begins"], batch.token_tags["segment_value"]
    low = (plain.old["logp"].exp() < 0.9) & plain.mask_BT
    for row in range(len(batch)):
        assert begins[row].nonzero().flatten().tolist() == low[row].nonzero().flatten().tolist()[::2]
    places = begins.nonzero().tolist()
    assert len(places) == len(asked.prompts) > len(batch) and asked.n == 3
    for number, (row, start) in enumerate(places):
        prompt, response = tokens_of(batch, row)
        assert tokens_of(drawn, 3 * number)[0] == prompt + response[:start]
        right = [
            trainer.benchmark.verify(batch.problems[row], t).correct for t in drawn.texts[3 * number :][:3]
        ]
        assert float(value[row, start]) == pytest.approx(sum(right) / 3)
    assert len(batch) == 16 and "extra" not in batch.tags, "what values a segment is not trained on"
    assert trainer.counters.generated_tokens == int(plain.mask_BT.sum() + drawn.mask_BT.sum())
    assert trainer.counters.verifier_calls == 16 + 3 * len(places)


def test_a_tree_is_made_of_edges() -> None:
    trainer = tiny_trainer(*TREE, method="spo@tree")
    batch, asked = rollouts(trainer)
    assert [(r.n, r.max_tokens) for r, _ in asked] == [(3, 2), (2, 2), (2, 4)]
    assert trainer.counters.generated_tokens == int(batch.mask_BT.sum()), "every token is a row's own, once"
    inner, level, parent = (batch.tags[name] for name in ("inner", "level", "parent"))
    assert trainer.counters.verifier_calls == int((inner == 0).sum()) < len(batch)
    assert torch.equal(batch.tags["judged"], 1 - inner) and torch.equal(
        batch.tags["extra"], (level > 0).float()
    )
    for row in range(len(batch)):
        below = ((batch.group_B == batch.group_B[row]) & (parent == batch.sample_B[row])).nonzero().flatten()
        assert bool(inner[row]) == bool(len(below)) and len(below) in (0, 2)
        assert bool(len(below)) == (bool(batch.truncated_B[row]) and level[row] < 2)
        prompt, response = tokens_of(batch, row)
        for child in below.tolist():
            assert tokens_of(batch, child)[0] == prompt + response and level[child] == level[row] + 1
        problem = trainer.policy.encode(batch.problems[row].prompt)
        assert batch.texts[row] == trainer.policy.decode([[*prompt, *response][len(problem) :]])[0]
    metrics = trainer.step()
    assert metrics["rollouts"] < metrics["spo/edges"], "inner nodes are in no accuracy"


def test_edges_wait_train_once_and_are_forgotten() -> None:
    run = (
        *TREE,
        "method.edges_per_prompt=1",
        "method.max_age=2",
        "train.steps=4",
        "rollout.prompts_per_step=2",
    )
    trainer = tiny_trainer(*run, method="spo@tree")
    metrics = [trainer.step()]
    edges = trainer.stages.components["edges"]
    waiting = len(edges)
    assert waiting == metrics[0]["spo/kept_edges"] - metrics[0]["trained_rows"] > 0
    metrics.append(trainer.step())
    assert metrics[1]["spo/replayed_edges"] > 0, "of the first step's problems one edge each"
    added = metrics[1]["spo/kept_edges"] + metrics[1]["spo/replayed_edges"] - metrics[1]["trained_rows"]
    assert len(edges) == waiting + added - metrics[1]["spo/replayed_edges"]
    saved = copy.deepcopy(trainer.state_dict())
    metrics.append(trainer.step())
    assert sorted(set(edges.step_N.tolist())) == [2, 3]
    assert edges.state_dict()["trained"] == sum(m["trained_rows"] for m in metrics)
    resumed = tiny_trainer(*run, method="spo@tree")
    resumed.load_state_dict(saved)
    assert resumed.step() == metrics[2]
    for key, value in trainer.policy.weights().items():
        assert torch.equal(value, resumed.policy.weights()[key])


def test_waiting_edges_keep_the_log_probs_of_their_time() -> None:
    run = (*TREE, "method.edges_per_prompt=1", "train.lr=1e-2", "rollout.prompts_per_step=2")
    trainer = tiny_trainer(*run, method="spo@tree")
    trainer.step()
    edges = trainer.stages.components["edges"]
    stored = edges.read(edges.places())
    now = trainer.policy.scores(stored, trainer.old_stats(), 100)["logp"]
    assert float((now - stored.old["logp"])[stored.mask_BT].abs().max()) > 1e-3
    assert stored.ref_logp_BT is not None and len(stored) <= edges.rows
