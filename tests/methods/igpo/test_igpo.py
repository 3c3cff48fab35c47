"""IGPO by hand, what one segment is, and gains of the micro testbed against plain forward passes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from benchmarks.micro.testbed import BASE_DIR, Micro
from harness.model.policy import load_policy
from harness.problems.problem import Problem
from harness.run.compose import compose
from harness.stages.batch import Batch
from harness.stages.segments import equal_parts
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from methods.igpo import (
    GainRollout,
    PositionAdvantage,
    discounted,
    ends_of,
    gains,
    normalised,
    position_advantages,
    turn_advantages,
)
from tests.methods.support.golden import make_batch
from tests.methods.support.programs import CTX

PROB = [0.1, 0.4, 0.3]


def test_turn_rewards_and_returns_by_hand() -> None:
    turns = [*gains(PROB), 1.0]
    assert turns == pytest.approx([0.3, -0.1, 1.0]) and discounted(turns, 1.0) == pytest.approx(
        [1.2, 0.9, 1.0]
    )
    assert discounted(turns, 0.5) == pytest.approx([0.5, 0.4, 1.0])
    assert gains(PROB, "log_prob_diff") == pytest.approx([math.log(4), math.log(0.75)])
    assert sum(gains(PROB)) == pytest.approx(PROB[-1] - PROB[0])  # they telescope


def test_a_position_is_compared_with_those_that_are_over_as_0() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.float64)
    value = torch.tensor([[1.0, 1, 1], [0, 9, 9]], dtype=torch.float64) * mask
    made = position_advantages(value, mask, torch.zeros(2))
    assert made.tolist() == [[0.5, 0.5, 0.5], [-0.5, 0.0, 0.0]]


def test_scores_together_and_apart() -> None:
    turns = [[0.2, 0.0, 1.0], [0.0, 0.0]]
    joint = normalised(turns, "joint", 0.0)
    pool = torch.tensor([0.2, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    assert joint[0] == pytest.approx(((pool[:3] - pool.mean()) / pool.std(correction=0)).tolist())
    apart = normalised(turns, "separate", 0.0)
    assert [own[-1] for own in apart] == [1.0, -1.0]
    assert apart[0][:2] == pytest.approx([2**0.5, -(2**-0.5)]) and apart[1][0] == pytest.approx(-(2**-0.5))
    assert normalised([[1.0], [0.0]], "separate", 0.0) == [[1.0], [-1.0]]


def test_one_segment_of_equally_long_responses_is_grpo_without_std() -> None:
    outcome = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    batch = make_batch(torch.ones(6, 2)).with_(group_B=group)
    reward = torch.stack([torch.zeros(6), outcome], 1)
    made = PositionAdvantage()(batch.with_(reward_BT=reward), CTX).value
    torch.testing.assert_close(made, (outcome - 1 / 3)[:, None].expand(6, 2))
    ((one,), *_) = turn_advantages([[r] for r in outcome.tolist()], group, 1.0)
    assert one == pytest.approx((1 - 1 / 3) / (math.sqrt(2) / 3), abs=1e-5)


def test_ends_of_segments() -> None:
    number = torch.tensor([[0, 0, 1, 2], [0, 1, -1, -1]])
    assert ends_of(number, number >= 0) == [[1, 2, 3], [0, 1]]


@cache
def micro_step(name: str = "igpo@paper") -> tuple[Trainer, Batch]:
    run = compose({
        "method": name, "model.path": "micro", "data.benchmark": "micro", "device": "cpu", "seed": 3,
        "rollout.prompts_per_step": 3, "rollout.group_size": 4, "train.minibatches": 2,
        "method.segments": 3,
    })  # fmt: skip
    trainer = Trainer(run, load_policy(BASE_DIR), Micro(), run.method.stages())
    return trainer, trainer.rollouts.run_program(trainer.context())


def plain_prob(trainer: Trainer, ids: list[int], answer: list[int]) -> float:
    """P by one forward pass of its own."""
    with torch.no_grad():
        logits = trainer.policy.model(torch.tensor([[*ids, *answer]])).logits[0].log_softmax(-1)
    logp = [float(logits[len(ids) + i - 1, token]) for i, token in enumerate(answer)]
    return math.exp(sum(logp) / len(logp))


def test_gains_are_those_of_plain_passes_and_counted() -> None:
    trainer, batch = micro_step()
    policy, gain = trainer.policy, batch.token_tags["gain"]
    assert batch.segment_BT is not None
    seen, passed = set(), 0
    for row, problem in enumerate(batch.problems):
        response = batch.response_BT[row][batch.mask_BT[row]].tolist()
        tail = [*policy.encode_inside("="), *policy.encode_inside(problem.solution)]
        starts = equal_parts(len(response), 3)
        prompt, answer = policy.encode(problem.prompt), tail[1:]
        prob = [plain_prob(trainer, [*prompt, *response[:at], tail[0]], answer) for at in starts]
        wanted = torch.zeros(len(gain[row]))
        wanted[[at - 1 for at in starts[1:]]] = torch.tensor(gains(prob))
        torch.testing.assert_close(gain[row], wanted, rtol=1e-4, atol=1e-5)
        segments = [sum(at <= t for at in starts) - 1 for t in range(len(response))]
        assert batch.segment_BT[row][batch.mask_BT[row]].tolist() == segments
        for at in starts:
            context = (tuple(prompt), tuple(response[:at]))
            passed += (at + len(tail)) * (context not in seen)
            seen.add(context)
    assert bool((gain != 0).any())
    assert trainer.counters.extra_forward_tokens == passed


def test_where_all_outcomes_are_equal_gains_train() -> None:
    trainer, batch = micro_step()
    same = batch.rows(batch.correct_B == 0)
    reward = trainer.stages.reward(same, CTX).value
    assert bool((trainer.stages.advantage(same.with_(reward_BT=reward), CTX).value != 0).any())


def test_what_cannot_be_forced_is_refused() -> None:
    encode = replace(CTX, encode=lambda text: list(range(len(text))), context=40)
    program = GainRollout("equal", 4, "prob_diff", "auto")
    assert program.tail(Problem("p", "S9/2=", solution="4+5"), encode) == ((0,), (0, 1, 2))
    with pytest.raises(UserError, match=r"problem p has none; choose another data\.benchmark"):
        program.tail(Problem("p", "S9/2="), encode)
    with pytest.raises(UserError, match=r"context of 40; lower rollout\.max_response_tokens"):
        program.tail(Problem("p", "S9/2=", "4" * 30), encode)
    with pytest.raises(UserError, match="context of 40"):  # a closing in words is longer
        program.tail(Problem("p", "Q: 9?", "4+5=9+0+0", {"question": "9?"}), encode)
