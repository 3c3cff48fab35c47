"""DAPO's rollout program, driven by a fake engine."""

from __future__ import annotations

import pytest

from harness.stages.requests import Draw, Generate
from methods.dapo import DynamicSampling, MixedGroups
from tests.methods.support.programs import CTX, drive


def test_dapo_refills_until_enough_mixed_groups_and_throws_the_surplus_away() -> None:
    # every third problem is mixed: 8 a round give 3, 2, 3 of them
    batch, requests = drive(
        DynamicSampling(2.0, 10).run(CTX), lambda problem, sample: int(problem) % 3 == 0 and sample == 0
    )
    assert [r.n for r in requests if isinstance(r, Draw)] == [8, 8]
    assert [p.id for p in batch.problems[:: CTX.group_size]] == ["0", "3", "6", "9"]
    assert batch.tags["extra"].tolist() == [0.0] * 9 + [1.0] * 3
    assert batch.group_B.unique().tolist() == [0, 3, 6, 9]
    kept = MixedGroups()(batch, CTX)
    assert bool(kept.value.all()) and kept.metrics["dapo/missing_groups"] == 0
    assert kept.metrics["dapo/refill_share"] == pytest.approx(0.25)


def test_dapo_trains_on_what_it_found_when_the_rounds_are_used_up() -> None:
    batch, requests = drive(DynamicSampling(1.0, 3).run(CTX), lambda p, s: p == "5" and s == 0)
    assert len([r for r in requests if isinstance(r, Generate)]) == 3
    assert len(batch) == CTX.group_size
    assert MixedGroups()(batch, CTX).metrics["dapo/missing_groups"] == 3


def test_dapo_without_any_mixed_group_leaves_no_row() -> None:
    batch, _ = drive(DynamicSampling(1.0, 2).run(CTX), lambda p, s: True)
    assert len(batch) == CTX.prompts_per_step * CTX.group_size
    kept = MixedGroups()(batch, CTX)
    assert not bool(kept.value.any()) and kept.metrics["dapo/missing_groups"] == 4


def test_dapo_streams_separate_a_problem_that_comes_again() -> None:
    _, requests = drive(DynamicSampling(1.0, 3).run(CTX), lambda p, s: False)
    streams = [{p.stream for p in r.prompts} for r in requests if isinstance(r, Generate)]
    assert streams == [{0}, {1}, {2}]
