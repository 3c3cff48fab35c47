"""SIRI's limit by hand, its place in a rollout, and that an even limit is GRPO's rollout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.stages.requests import Generate
from methods.siri import SwingingLimit, limit_at, tokens_at
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.pipeline import make_step, plan_of, update
from tests.methods.support.programs import CTX, drive
from tests.methods.support.registered import make


def at(step: int, schedule: str) -> float:
    return limit_at(step / 640, 8192, 16384, schedule)


def test_the_schedule_by_hand() -> None:
    cosine = [at(step, "cosine") for step in (0, 80, 160, 320, 640)]
    assert cosine == pytest.approx([16384, 15184.31, 12288, 8192, 16384], abs=0.01)
    assert [at(step, "stair-cosine") for step in (160, 240)] == pytest.approx([12288, 8192])
    assert [at(step, "stair") for step in (0, 319, 320, 639, 640)] == [8192, 8192, 16384, 16384, 8192]


def test_a_limit_is_a_whole_number_of_tokens() -> None:
    assert [tokens_at(step / 640, 8192, 16384, "cosine") for step in (0, 1, 80, 320)] == [
        16384,
        16383,
        15184,
        8192,
    ]
    with pytest.raises(ValueError, match="unknown schedule"):
        limit_at(0.1, 1, 2, "sine")


def test_the_step_says_how_long_rollouts_may_be() -> None:
    limits = []
    for step in range(8):
        ctx = replace(CTX, step=step + 1, started=step / 8, max_response_tokens=20)
        batch, requests = drive(SwingingLimit("cosine", 0.5, 2.0).run(ctx), lambda p, s: True)
        (request,) = (r for r in requests if isinstance(r, Generate))
        assert batch.tags["limit"].tolist() == [float(request.max_tokens or 0)] * 12
        limits.append(request.max_tokens)
    assert limits == [20, 15, 10, 15, 20, 15, 10, 15]


def test_what_is_cut_off_scores_what_it_says_and_trains() -> None:
    trainer = tiny_trainer("train.steps=4", "method.cycles=1", "method.min_share=0.25", method="siri")
    limits = [trainer.step()["siri/limit"] for _ in range(4)]
    assert limits == [8, 5, 2, 5]
    ctx = replace(trainer.context(), started=0.5)
    batch = trainer.rollouts.run_program(ctx)
    cut = batch.truncated_B
    assert int(batch.length_B.max()) == 2 and bool(cut.any())
    judged = torch.tensor(
        [trainer.benchmark.verify(p, t).correct for p, t in zip(batch.problems, batch.texts, strict=True)]
    )
    assert torch.equal(batch.correct_B.bool(), judged)


def test_a_limit_that_stands_still_is_grpo() -> None:
    """True, though the card does not count it: it only switches the method off."""
    still, _ = drive(SwingingLimit("cosine", 1.0, 3.0).run(replace(CTX, started=0.4)), lambda p, s: s == 0)
    assert still.tags["limit"].unique().tolist() == [CTX.max_response_tokens]
    step, base = make_step(2, minibatches=1), make("grpo", {"eps_high": 0.28})
    mine = make("siri", {"min_share": 1.0})
    (a,), (b,) = plan_of(mine, step), plan_of(base, step)
    ours, theirs = update(mine, step, a), update(base, step, b)
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])
