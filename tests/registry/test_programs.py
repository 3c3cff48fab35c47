"""The rollout programs of DAPO and AEPO, driven by a fake engine; and their controllers' rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pipeline import make_step

from harness.problems.problem import Problem, Verdict
from harness.registry import methods as registry
from harness.stages.base import Draw, Generate, Signals, StepContext, Verify
from harness.stages.batch import Batch
from methods.aepo import EntropyState, TemperedRollout
from methods.dapo import DynamicSampling, MixedGroups
from methods.entropy_bonus import AdaptiveEntropy, AdaptiveKL

CTX = StepContext(
    step=1, fraction=0.1, total_steps=10, seed=0, prompts_per_step=4, group_size=3, max_response_tokens=5,
    temperature=1.0,
)  # fmt: skip


def drive(program: Any, correct: Callable[[str, int], bool]) -> tuple[Batch, list[Any]]:
    """Run a rollout program; ``correct`` judges (problem id, sample)."""
    requests, answer, drawn = [], None, 0
    while True:
        try:
            request = program.send(answer)
        except StopIteration as stop:
            return stop.value, requests
        requests.append(request)
        if isinstance(request, Draw):
            answer = [Problem(str(drawn + i), "?") for i in range(request.n)]
            drawn += request.n
        elif isinstance(request, Generate):
            rows = [p for p in request.prompts for _ in range(request.n)]
            answer = Batch(
                prompt_BP=torch.zeros(len(rows), 2, dtype=torch.int64),
                prompt_mask_BP=torch.ones(len(rows), 2, dtype=torch.bool),
                response_BT=torch.zeros(len(rows), 3, dtype=torch.int64),
                mask_BT=torch.ones(len(rows), 3, dtype=torch.bool),
                group_B=torch.tensor([p.group for p in rows]),
                sample_B=torch.arange(request.n).repeat(len(request.prompts)),
                temperature_B=torch.full((len(rows),), request.temperature or CTX.temperature),
                truncated_B=torch.zeros(len(rows), dtype=torch.bool),
                rollout_logp_BT=torch.zeros(len(rows), 3),
                problems=tuple(p.problem for p in rows),
                texts=("",) * len(rows),
            )
        else:
            assert isinstance(request, Verify)
            batch = request.batch
            judged = zip(batch.problems, batch.sample_B.tolist(), strict=True)
            answer = batch.with_(
                verdicts=tuple(Verdict("right" if correct(p.id, s) else "wrong") for p, s in judged)
            )


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


@pytest.mark.parametrize(("h", "temperature"), [(0.0, 1.2), (0.5, 1.2), (0.6, 0.8)])
def test_aepo_samples_the_first_prompts_again_at_the_chosen_temperature(h: float, temperature: float) -> None:
    state = EntropyState(0.5)
    state.h = h
    batch, requests = drive(TemperedRollout(state, 1.2, 0.8, 0.5).run(CTX), lambda p, s: True)
    normal, extra = (r for r in requests if isinstance(r, Generate))
    assert normal.temperature is None and extra.temperature == temperature
    assert [(p.problem.id, p.group, p.stream) for p in extra.prompts] == [("0", 4, 1), ("1", 5, 1)]
    assert batch.tags["tempered"].tolist() == [0.0] * 12 + [1.0] * 6
    assert batch.temperature_B.tolist() == pytest.approx([1.0] * 12 + [temperature] * 6)


def signals(**values: Any) -> Signals:
    base = dict(entropy=0.0, update_nll=0.0, kl=0.0, reward=0.0, accuracy=0.0, grad_norm=0.0, rows=12)
    return Signals(**{**base, **values})


def test_aepo_state_is_the_nll_of_the_update() -> None:
    stages = registry.load("aepo")().stages()
    state = stages.components["aepo"]
    logged = state.after_update(signals(update_nll=0.83), CTX)
    assert state.state_dict() == {"h": 0.83} and logged["target_error"] == pytest.approx(0.33)


def test_adaptive_kl_of_the_sheet() -> None:
    control = AdaptiveKL(0.05, 0.1, 1000)
    control.after_update(signals(metrics={"kl_in_reward/kl": 0.3}, rows=12), CTX)
    assert control.beta == pytest.approx(0.05012)


def test_adaptive_entropy_applies_by_the_step_before() -> None:
    control = AdaptiveEntropy(0.1, target=0.2, delta=0.005, low=0.0, high=1.0)
    assert control.applied() == 0.0
    control.observe(0.1)
    assert control.applied() == pytest.approx(0.105)
    control.observe(0.5)
    assert control.coef == pytest.approx(0.1) and control.applied() == 0.0


def test_entrocraft_follows_the_budget_not_the_step() -> None:
    """The band moves with ``ctx.fraction``, so a run with a token budget ends at the band's end."""
    stages = registry.load("entrocraft@paper")(lo_start=0.0, lo_end=1.0, hi_start=1.0, hi_end=2.0).stages()
    step = make_step()
    batch = step.batch.with_(
        old={"entropy": torch.full(step.batch.mask_BT.shape, 0.5)},
        advantage_BT=torch.ones(step.batch.mask_BT.shape),
    )
    gates = [
        stages.selection(batch, replace(step.ctx, fraction=f)).metrics["entrocraft/gate"]
        for f in (0.0, 0.5, 1.0)
    ]
    assert gates == [0, 0, -1]
