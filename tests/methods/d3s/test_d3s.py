"""D3S's selections by hand and against every subset; its schedule, and a step without contrast."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from methods.d3s import best_tokens, half_up, scheduled, widest, with_contrast
from tests.methods.support.pipeline import make_step, plan_of, rows_of
from tests.methods.support.registered import make


def test_four_rows_by_hand() -> None:
    advantage = torch.tensor([-1.0, -0.5, 0.5, 1.0])
    chosen = widest(advantage, 2)
    assert chosen.tolist() == [True, False, False, True]
    assert float(advantage[chosen].var(correction=0)) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_no_subset_of_the_size_varies_more(seed: int) -> None:
    value = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3
    for k in range(1, 8):
        best = max(float(value[list(rows)].var(correction=0)) for rows in combinations(range(7), k))
        chosen = widest(value, k)
        assert int(chosen.sum()) == k
        assert float(value[chosen].var(correction=0)) == pytest.approx(best, abs=1e-12)


def test_of_equal_values_the_order_decides() -> None:
    assert widest(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]), 3).tolist() == [True, True, False, True, False]
    assert best_tokens(torch.ones(2, 3), torch.ones(2, 3), 0.5).tolist() == [[True] * 3, [False] * 3]


def test_a_half_is_rounded_up_and_one_is_the_least() -> None:
    assert [half_up(n) for n in (0.1, 1.4, 1.5, 0.7 * 5, 2.49)] == [1, 1, 2, 4, 2]


def test_the_schedule_relaxes() -> None:
    """The first step starts at the first values; what trains grows with the share of the run used."""
    assert [scheduled(0.2, 1.0, p) for p in (0.0, 0.25, 1.0)] == pytest.approx([0.2, 0.4, 1.0])
    tokens = []
    for started in (0.0, 0.5, 1.0):
        step = make_step(3)
        plan = plan_of(make("d3s", {}), replace(step, ctx=replace(step.ctx, started=started)))
        tokens.append(sum(int(m.batch.train_mask_BT.sum()) for m in plan))
    mixed = with_contrast(step.batch.correct_B, step.batch.group_B)
    assert tokens[0] < tokens[1] < tokens[2] == int(step.batch.length_B[mixed].sum())
    assert sorted(rows_of(plan)) == mixed.nonzero().flatten().tolist()


def test_a_step_without_contrast_trains_on_nothing() -> None:
    metrics: dict[str, float] = {}
    assert plan_of(make("d3s", {}), make_step(0, "all-equal"), metrics) == []
    assert metrics["d3s/rows"] == 0.0
