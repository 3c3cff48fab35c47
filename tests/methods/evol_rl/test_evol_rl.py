"""EVOL-RL's bands by hand, its borders, and that it is the vote that decides the sign."""

from __future__ import annotations

import pytest
import torch

from harness.stages.embeddings import hashed_ngrams
from methods.evol_rl import banded, boxes_digit, conclusion, novelty, rewards_of
from tests.methods.support.pipeline import make_step
from tests.methods.support.registered import make

POSITIVE, NEGATIVE = (0.5, 1.0), (-1.0, -0.5)


def test_the_check_by_hand() -> None:
    """y = (1, 1, 0), S12 = 0.8, S13 = 0.2, S23 = 0.4."""
    similarity = torch.tensor([[1.0, 0.8, 0.2], [0.8, 1.0, 0.4], [0.2, 0.4, 1.0]], dtype=torch.float64)
    agrees = torch.tensor([True, True, False])
    found = novelty(similarity, agrees)
    assert found.tolist() == pytest.approx([0.2, 0.2, 0.65])  # of the last: (0.3 + 0.4) / 2
    assert novelty(similarity, agrees, 1.0).tolist() == pytest.approx([0.2, 0.2, 0.7])
    assert novelty(similarity, agrees, 0.0).tolist() == pytest.approx([0.2, 0.2, 0.6])
    assert banded(found, agrees, POSITIVE, NEGATIVE).tolist() == [0.75, 0.75, -0.5]


def test_the_more_novel_of_a_class_gets_more_and_the_class_the_sign() -> None:
    agrees = torch.tensor([True, False, True, False, True])
    reward = banded(torch.tensor([0.1, 0.9, 0.3, 0.2, 0.2]), agrees, POSITIVE, NEGATIVE)
    assert reward.tolist() == pytest.approx([0.5, -0.5, 1.0, -1.0, 0.75])
    alone = banded(torch.tensor([0.4, 0.4, 0.4]), torch.tensor([True, False, False]), POSITIVE, NEGATIVE)
    assert alone.tolist() == [1.0, -0.75, -0.75]


def test_equal_texts_are_equally_novel_whatever_rounding_does() -> None:
    texts = ["one and the same long reasoning"] * 3 + ["quite another text", "and a third one"]
    agrees, valid = torch.tensor([True, True, True, False, False]), torch.ones(5, dtype=torch.bool)
    reward, _ = rewards_of(
        lambda rows: hashed_ngrams([texts[i] for i in rows]), agrees, valid, torch.zeros(5), 0.5, POSITIVE,
        NEGATIVE, -1.0,
    )  # fmt: skip
    assert reward[:3].tolist() == [0.75] * 3


def test_invalid_rollouts_take_no_part() -> None:
    vectors = torch.eye(4).double()
    agrees = torch.tensor([True, True, False, True])
    for valid, wanted in (
        ([True, True, False, False], [0.75, 0.75, -1.0, -1.0]),
        ([True, False, False, False], [-1.0] * 4),
        ([False] * 4, [-1.0] * 4),
    ):
        reward, _ = rewards_of(
            lambda rows: vectors[rows], agrees, torch.tensor(valid), torch.zeros(4), 0.5, POSITIVE, NEGATIVE,
            -1.0,
        )  # fmt: skip
        assert reward.tolist() == wanted


@pytest.mark.parametrize(
    ("text", "valid"),
    [(r"\boxed{12}", True), (r"\boxed{\pi}", False), (r"\boxed{\frac{x}{2}}", False), ("12", False),
     (r"\boxed{x} or \boxed{3}", True), (r"\boxed{7}</think> so it is seven", False),
     (r"hm</think> \boxed{7}", True)],
)  # fmt: skip
def test_a_box_with_a_digit_behind_the_thoughts(text: str, valid: bool) -> None:
    assert boxes_digit(conclusion(text)) is valid


def test_every_rollout_of_the_majority_is_above_every_other() -> None:
    step = make_step(1)
    stages = make("evol-rl", {"valid": "answered", "drop_empty_votes": True})
    out = stages.reward(step.batch, step.ctx)
    answered = torch.tensor([v.canonical is not None for v in step.batch.verdicts or ()])
    assert bool((out.value[~answered] == -1).all())
    assert set(out.value.sign().tolist()) == {-1.0, 1.0} and float(out.value.abs().min()) >= 0.5
    assert out.metrics["evol_rl/valid"] == pytest.approx(float(answered.float().mean()))
    assert 0 < out.metrics["evol_rl/novelty"] < 1
