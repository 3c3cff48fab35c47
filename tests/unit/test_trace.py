"""The course of a run in its record: windows, gaps, and the entropy beside a frontier point."""

from __future__ import annotations

from itertools import pairwise

import pytest

from harness.run.trace import WINDOWS, entropy_before, trace


def _steps(n: int) -> list[dict[str, float]]:
    return [{"step": i, "generated_tokens": 10 * i, "entropy": float(i)} for i in range(1, n + 1)]


@pytest.mark.parametrize("n", [1, 7, WINDOWS, WINDOWS + 1, 400])
def test_windows_cover_every_step_once(n: int) -> None:
    found = trace(_steps(n))
    assert len(found["step"]) <= WINDOWS
    assert found["step"][-1] == n and found["generated_tokens"][-1] == 10 * n
    ends = [0, *[int(s or 0) for s in found["step"]]]
    steps = [after - before for before, after in pairwise(ends)]
    total = sum(width * (mean or 0) for width, mean in zip(steps, found["entropy"], strict=True))
    assert total == pytest.approx(n * (n + 1) / 2)


def test_a_window_without_a_metric_says_so_and_unlogged_metrics_are_left_out() -> None:
    steps = _steps(2 * WINDOWS)
    steps[0]["entropy_correct"] = 0.5
    found = trace(steps)
    assert found["entropy_correct"][:2] == [0.5, None]
    assert "entropy_wrong" not in found


def test_entropy_beside_a_frontier_point_is_that_of_the_steps_before_it() -> None:
    steps = _steps(20)
    assert entropy_before(10, steps) == pytest.approx((6 + 7 + 8 + 9 + 10) / 5)
    assert entropy_before(0, steps) == 1.0  # the base model: the first step measures before its update
    assert entropy_before(10, []) is None
