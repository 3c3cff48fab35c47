"""Segments of a response on numbers worked out by hand, and SSPO between GRPO and GSPO."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.registry import methods as registry
from harness.stages.ratios import segment_means, segment_numbers
from methods.sspo import scaled
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import batch_of, loss_of
from tests.methods.support.pipeline import make_step, plan_of, update

EQUAL = {"scale_lo": 1.0, "scale_hi": 1.0}


def test_a_token_that_closes_belongs_to_its_segment() -> None:
    closes = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 1]]).bool()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    segments = segment_numbers(closes, mask)
    assert segments.tolist() == [[0, 0, 1, 1, 2, 3], [0, 1, 1, -1, -1, -1]]
    value = torch.tensor([[1.0, 3, 5, 6, 7, 8], [2, 4, 8, 99, 99, 99]])
    assert segment_means(value, segments, mask).tolist() == [[2, 2, 5.5, 5.5, 7, 8], [2, 6, 6, 0, 0, 0]]


def test_sspo_clips_a_segment_as_a_whole() -> None:
    """The sheet's numbers: segments (0, 0, 1), log ratios (0.2, 0, -0.1), A = 1, both clips 0.1."""
    batch, logp = batch_of([[0.2, 0.0, -0.1]], [1.0])
    batch = batch.with_(segment_BT=torch.tensor([[0, 0, 1]]), old={**batch.old, "entropy": torch.ones(1, 3)})
    loss, grad, metrics = loss_of("sspo", {"eps_high": 0.1, **EQUAL}, batch, logp)
    assert loss == pytest.approx(-(1.1 + 1.1 + 0.904837) / 3, abs=1e-6)
    assert grad[0].tolist() == pytest.approx([0, 0, -0.904837 / 3], abs=1e-6)
    assert metrics["sspo/scale_at_its_ends"] == 1


def test_sspo_s_bounds_are_wider_where_entropy_is_high() -> None:
    """Segments with 1/4, 1 and 4 times the mean entropy of 2: factors 0.5, 1 and 2."""
    entropy = torch.tensor([[0.5, 2.0, 8.0]])
    assert scaled(0.1, entropy, torch.tensor(2.0), 0.5, 2.0).tolist() == [pytest.approx([0.05, 0.1, 0.2])]
    assert scaled(0.1, torch.zeros(1, 1), torch.tensor(0.0), 0.5, 2.0).item() == pytest.approx(0.05)
    batch, logp = batch_of([[0.08, 0.12, 0.12, 0.25]], [1.0])
    old = {**batch.old, "entropy": torch.tensor([[0.5, 2.0, 2.0, 8.0]])}
    batch = batch.with_(segment_BT=torch.tensor([[0, 1, 2, 3]]), old=old)
    loss, grad, _ = loss_of("sspo", {"eps_high": 0.1}, batch, logp)  # mean entropy 3.125
    factors = [0.5, 0.64, 0.64, 2.0]
    assert loss == pytest.approx(-sum(1 + 0.1 * f for f in factors) / 4) and not bool(grad.any())


@pytest.mark.parametrize(
    ("delimiters", "other", "values"),
    [
        ("", "gspo", {"eps_low": 0.05, "eps_high": 0.05}),
        ("ab,c.d e\nf", "grpo", {"eps_low": 0.05, "eps_high": 0.05}),
    ],
)
def test_sspo_without_delimiters_is_gspo_and_with_all_of_them_grpo(
    delimiters: str, other: str, values: dict
) -> None:
    """With bounds that do not follow entropy. True, though rounding keeps it from being a reduction."""
    step = make_step(2, minibatches=1)
    mine = registry.load("sspo")(delimiters=delimiters, **EQUAL, **values).stages()
    theirs = registry.load(other)(**values).stages()
    ours, base = ((update(s, step, plan_of(s, step)[0])) for s in (mine, theirs))
    torch.testing.assert_close(ours, base, rtol=1e-6, atol=1e-9)
    split = registry.load("sspo")(**EQUAL, **values).stages()
    assert not torch.allclose(update(split, step, plan_of(split, step)[0])[1], base[1], rtol=1e-3)


def test_segments_follow_the_texts_of_the_tokens() -> None:
    step = make_step(0)
    stage = registry.load("sspo")().stages().selection
    out = stage(step.batch, step.ctx)
    for row in range(len(step.batch)):
        number = 0
        for t in range(int(step.batch.length_B[row])):
            assert out.value.segment_BT[row, t] == number
            number += int(step.batch.response_BT[row, t]) in (1, 3, 5)  # "b,", "." and a line break
    assert out.value.rows([3, 1]).trimmed().segment_BT.shape[0] == 2
    assert 1 < out.metrics["sspo/segment_tokens"] < 6
    with pytest.raises(ValueError, match="no tokenizer"):
        plain = replace(step.ctx)
        stage(step.batch, type(plain)(1, 0.0, 1, 0, 1, 1, 1, 1.0))


def test_sspo_clips_in_a_real_step() -> None:
    trainer = tiny_trainer("train.lr=1e-2", "method.delimiters=eao", method="sspo")
    rows = [trainer.step(), trainer.step()]
    assert max(row["clip_low"] + row["clip_high"] for row in rows) > 0
    assert all(1 < row["sspo/segment_tokens"] < 8 for row in rows)
