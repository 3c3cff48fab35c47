"""TTRL's votes by hand, and the direction in which a vote moves the entropy of a tabular policy."""

from __future__ import annotations

import pytest
import torch

from harness.problems.problem import Verdict
from harness.stages.answers import elected
from harness.stages.downsample import advantage_of, first_of_group
from methods.ttrl import agreement, majority
from tests.methods.support.golden import make_batch
from tests.methods.support.pipeline import make_step, plan_of, rows_of, update
from tests.methods.support.registered import make
from tests.methods.support.tabular import PLAIN, Expected, change, entropy, stages

ONE = torch.zeros(4, dtype=torch.int64)


def test_a_vote_by_hand() -> None:
    answers = ["0", "1", "0", "2"]
    labels = elected(answers, ONE)
    reward = agreement(answers, answers, labels).double()
    assert labels == [0] * 4 and reward.tolist() == [1.0, 0.0, 1.0, 0.0]
    advantage = advantage_of(reward, ONE, first_of_group(ONE, 0.5))
    assert advantage.tolist() == pytest.approx([0.707106, -0.707106, 0.0, 0.0], abs=1e-6)


def test_the_vote_is_on_strings_and_the_reward_on_equality() -> None:
    written, canonical = ["1/2", "0.5", "3", "3"], ["1/2", "1/2", "3", "3"]
    assert elected(written, ONE) == [2] * 4 and elected(canonical, ONE) == [0] * 4
    label_is_half = [0] * 4  # as if 1/2 had won: the other way of writing it is rewarded, too
    assert agreement(written, canonical, label_is_half).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_no_answer_may_win() -> None:
    answers = [None, None, "1", "2"]
    batch = make_batch(torch.ones(4, 2)).with_(verdicts=tuple(Verdict("wrong", a) for a in answers))
    assert majority(batch, "canonical", False, "x").value.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert majority(batch, "canonical", True, "x").value.tolist() == [0.0, 0.0, 1.0, 0.0]
    nothing = batch.with_(verdicts=(Verdict("unparsed"),) * 4)
    assert majority(nothing, "canonical", False, "x").value.tolist() == [1.0] * 4
    assert majority(nothing, "canonical", True, "x").value.tolist() == [0.0] * 4


def test_the_metrics_tell_how_good_the_label_is() -> None:
    verdicts = (Verdict("right", "1"), Verdict("right", "1"), Verdict("wrong", "2"), Verdict("right", "3"))
    out = majority(make_batch(torch.ones(4, 2)).with_(verdicts=verdicts), "canonical", False, "ttrl")
    assert out.metrics == {"ttrl/label_accuracy": 1.0, "ttrl/reward_accuracy": 0.75, "ttrl/majority": 0.5}


def test_rows_that_only_vote_change_no_denominator() -> None:
    """The loss is that of the kept rows, as if the others had never been there once the label is known."""
    step, made = make_step(3, minibatches=1), make("ttrl", {})
    (minibatch,) = plan_of(made, step)
    assert len(rows_of([minibatch])) == len(step.batch) // 2
    loss, grad = update(made, step, minibatch)
    dropped = torch.ones(len(step.batch), dtype=torch.bool)
    dropped[rows_of([minibatch])] = False
    assert not bool(grad[dropped].any()) and bool(grad[~dropped].any())


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 3.0])
def test_a_vote_lowers_the_entropy_of_a_policy_over_answers(sharpness: float) -> None:
    """One-token answers, each as often as it is likely: the mode is rewarded, so that its mass grows."""
    expected = Expected.make(sharpness)
    logits, tokens = expected.logits, expected.tokens
    mode = logits.argmax(1, keepdim=True)
    reward = (tokens == mode).double()
    measured = change(stages("grpo", **PLAIN), logits, tokens, reward - reward.mean(1, keepdim=True), 1e-4)
    uneven = entropy(logits) < 1.9  # of ln 8 = 2.08
    assert float((measured[uneven] < 0).double().mean()) > 0.99 and int(uneven.sum()) > 200
