"""Likeness and detection on numbers worked out by hand, and how a problem is put the second time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.analyses.second_answer import LEFT_FREE, answer_twice, asking_of
from harness.problems.problem import Problem
from harness.registry import benchmarks
from harness.rollout.engines.base import Sampling
from harness.rollout.engines.hf import HfEngine
from harness.statistics.detection import detection, likeness, roc_auc
from harness.util.errors import UserError
from tests.helpers.tiny import tiny_policy
from tests.methods.test_adapters import changed, replayed, stored

NAN = float("nan")


def test_the_sheet_s_pair() -> None:
    assert likeness([1, 0, 1], [1, 0]) == pytest.approx(0.471405, abs=1e-6)
    assert likeness([1, 2], [2, 4]) == pytest.approx(1.0)
    assert likeness([], [1]) == likeness([0, 0], [1]) == 0.0
    assert math.isnan(likeness(None, [1]))


def test_auc_counts_ties_half_and_leaves_out_what_is_not_finite() -> None:
    assert roc_auc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == pytest.approx(0.875)
    assert roc_auc([0.9, NAN, 0.5, 0.1, np.inf], [1, 1, 0, 0, 0]) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        roc_auc([0.9, NAN], [1, 0])


def test_the_numbers_beside_the_auc() -> None:
    found = detection([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
    assert found.auc == pytest.approx(8 / 9) and (found.members, found.others) == (3, 3)
    assert found.f1 == pytest.approx(6 / 7)  # from 0.3 on: three hits, one false alarm
    assert found.youden == pytest.approx(2 / 3) and found.hits_at_5 == pytest.approx(2 / 3)
    assert 0 <= found.interval.low <= found.auc <= found.interval.high <= 1
    sure = detection([1, 1, 0, 0], [1, 1, 0, 0])
    assert (sure.interval.low, sure.interval.high, sure.f1) == (1.0, 1.0, 1.0)
    wrong = detection([0, 0, 1, 1], [1, 1, 0, 0])
    assert (wrong.auc, wrong.youden, wrong.hits_at_5) == (0.0, 0.0, 0.0)


def test_cases_with_more_than_the_likeliest_and_with_less_than_two_answers() -> None:
    case = stored("self_critique_mia")
    logp = case["topk_logprobs_first"]
    besides = np.concatenate([logp[..., ::-1] * 0 - 30.0, logp], axis=-1)  # less likely ones stand in front
    made = replayed(changed(case, {}, topk_logprobs_first=besides))
    assert np.allclose(made["out_entropy_first"], case["out_entropy_first"], rtol=1e-12)
    impossible = replayed(
        changed(case, {"K": 99}, topk_logprobs_first=np.where(besides < -29, -np.inf, besides))
    )
    assert np.allclose(impossible["out_score"], case["out_score"], rtol=1e-12)
    length = case["len_second"].copy()
    length[:2] = -1, 0
    made = replayed(changed(case, {}, len_second=length))
    assert math.isnan(made["out_score"][0]) and made["out_score"][1] == 0
    assert made["out_auc"] == roc_auc(made["out_score"][1:], case["member"][1:])
    assert math.isnan(replayed(changed(case, {}, member=np.ones(8)))["out_auc"])


def test_the_request_stands_behind_the_question() -> None:
    problem = Problem("p", "<user>Name a b.\nThink.<end>", meta={"question": "Name a b."})
    asked = asking_of(object())(problem, "bee {x}")
    assert asked.startswith("<user>Name a b.\n\n---\nbee {x}\n---\n") and asked.endswith(".\nThink.<end>")
    with pytest.raises(UserError, match="second_prompt"):
        asking_of(object())(Problem("p", "17="), "8+9")
    micro = benchmarks.load("micro")
    assert asking_of(micro)(Problem("p", "S17/2~="), "8+9") == "8+9,S17/2~="


def test_entropies_of_the_likeliest_tokens_are_those_of_the_model() -> None:
    policy = tiny_policy()
    engine = HfEngine(policy)
    problem = Problem("p", "the quick brown", meta={"question": "the quick brown"})
    (got,) = answer_twice(engine, [problem], [lambda p, a: p.prompt + a], max_tokens=6, top=5)
    ids = [*engine.encode(problem.prompt), *got.first.token_ids]
    import torch

    with torch.no_grad():
        logp = policy.model(torch.tensor([ids])).logits[0].log_softmax(1)
    at = logp[len(ids) - len(got.first.token_ids) - 1 : -1].topk(5).values
    assert got.first.entropies == pytest.approx((-(at.exp() * at).sum(1)).tolist(), abs=1e-5)
    greedy = logp[len(ids) - len(got.first.token_ids) - 1 : -1].argmax(1).tolist()
    assert list(got.first.token_ids) == greedy and len(got.second.token_ids) <= 12
    plain = next(iter(engine.generate([got.first.request], Sampling(0.0, 1.0, 6))))
    assert plain.entropies == () and plain.token_ids == got.first.token_ids


def test_a_first_answer_is_cut_until_the_second_prompt_fits() -> None:
    policy = tiny_policy()
    engine: Any = HfEngine(policy, max_positions=40)
    problem = Problem("p", "the lazy dog", meta={"question": "the lazy dog"})
    asks: list[Any] = [lambda p, a: f"{a}{a}{a}{p.prompt}"]
    (got,) = answer_twice(engine, [problem], asks, max_tokens=24, top=3)
    assert len(got.second.request.prompt_ids) <= 40 - min(LEFT_FREE, 24)
    with pytest.raises(UserError, match="longer context"):
        answer_twice(engine, [problem], [lambda p, a: "the lazy dog " * 9 + a], max_tokens=24, top=3)
    engine.capabilities = frozenset()
    with pytest.raises(UserError, match="hf or vllm"):
        answer_twice(engine, [problem], asks, max_tokens=24, top=3)
