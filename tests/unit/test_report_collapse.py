"""Rise and fall: maximum, loss without the luck of a maximum, the way below the untrained model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from harness.records.record import Record
from harness.report.analysis.checkpoints import frontier_scores
from harness.report.analysis.collapse import COLLAPSE, _courses, _size, below_from, collapses, course
from harness.report.data.groups import Group
from harness.report.render.files import write_report
from harness.report.tables.build import build_report
from harness.report.tables.sections import sections_of
from harness.run.trace import trace
from harness.train.metrics import batch_metrics
from tests.helpers.records import small_record, typed
from tests.unit.test_report import rows_of

# With n = 4, c right answers give pass@2 = 1 - C(4 - c, 2) / 6: for c = 0..4 it is 0, 1/2, 5/6, 1, 1.


def run(*counts: list[int], seed: int = 1, nats: tuple[float, ...] = (), **more: object) -> Record:
    """A run with four samples of each of two problems at checkpoints 10 steps apart."""
    return small_record(
        seed=seed,
        run_id=f"s{seed}",
        frontier=[{"step": 10 * i, "n": 4, "correct": c} for i, c in enumerate(counts)],
        probe=[{"step": 10 * i, "generated_tokens": i, "entropy_nats": h} for i, h in enumerate(nats)],
        **more,
    )


def group(*runs: Record, name: str = "m", role: str = "method") -> Group:
    return Group(name, role, runs)


def test_a_seed_loses_from_where_the_others_are_highest() -> None:
    # pass@1: the first seed is highest at 10 (3/4), the other two at 20
    one, two, three = [1, 1], [3, 3], [2, 2]
    seeds = run(one, two, three, one), run(one, one, three, one, seed=2), run(one, one, three, two, seed=3)
    found = course(group(*seeds), 1, 2)
    assert found is not None
    # others' means at 10, 20, 30: for the first .25 .5 .5, for the second .5 .5 .5, for the third .5 .5 .25
    assert found.lost_S == pytest.approx([0.5 - 0.25, 0.25 - 0.25, 0.25 - 0.75])
    assert found.step == 20.0, "of the mean over seeds"
    assert found.lost_P is not None and found.lost_P.mean() == pytest.approx(found.lost)


def test_one_seed_has_its_own_maximum() -> None:
    found = course(group(run([1, 1], [3, 3], [2, 2])), 1, 2)
    assert found is not None and found.step == 10 and found.lost_S == pytest.approx([0.25])
    assert course(group(run([1, 1])), 1, 2) is None, "one checkpoint is no course"
    assert course(group(run([1, 1], [2, 2]), run(seed=2)), 1, 2) is None, "a seed without checkpoints"


def test_who_loses_nothing_is_around_zero_however_noisy_and_who_loses_is_found() -> None:
    rng = np.random.default_rng(5)

    def seeds(curve: list[float]) -> list[Record]:
        levels = rng.beta(4, 4, 40)
        return [
            small_record(
                seed=seed, run_id=f"s{seed}",
                frontier=[
                    {"step": 10 * i, "n": 16, "correct": rng.binomial(16, np.clip(levels * c, 0, 1)).tolist()}
                    for i, c in enumerate(curve)
                ],
            )
            for seed in (1, 2, 3)
        ]  # fmt: skip

    flat = [course(group(*seeds([0.4, 0.9, 0.9, 0.9, 0.9])), 1, 8) for _ in range(60)]
    own = [c.curve.values_ST.max(axis=1) - c.curve.values_ST[:, -1] for c in flat if c]
    assert abs(np.mean([c.lost for c in flat if c])) < 0.004
    assert np.mean(own) > 0.008, "each seed's own maximum finds a loss where there is none"
    found = collapses([group(*seeds([0.4, 1.3, 0.8])), group(*seeds([0.4, 0.9, 0.9]), name="flat")])
    fallen, level = found["method/m"], found["method/flat"]
    assert fallen["lost_pass_1_low"] is not None and fallen["lost_pass_1_low"] > 0.1
    assert level["lost_pass_1_low"] is not None and level["lost_pass_1_low"] < 0


def test_the_step_from_which_on_a_run_stays_below_the_untrained_model() -> None:
    # pass@2 .5 -> .5/6 above, below, above again, then below for good: between 30 and 40
    def step_of(*counts: list[int]) -> float | None:
        return below_from(frontier_scores(group(run(*counts)), 2)[0][1])

    falling = [1, 1], [2, 2], [0, 1], [2, 2], [0, 1]
    # 5/6 at 30, 1/4 at 40, .5 crossed at (5/6 - 1/2) / (5/6 - 1/4) of the way
    assert step_of(*falling) == pytest.approx(30 + 10 * (1 / 3) / (7 / 12))
    assert step_of([1, 1], [0, 1], [2, 2]) is None, "it comes back"
    assert step_of([1, 1], [0, 1]) == 0.0


def test_numbers_of_a_row_with_entropy_at_the_maximum_and_below() -> None:
    seeds = [run([1, 1], [2, 2], [0, 0], nats=(1.0, 0.6, 0.2), seed=s) for s in (1, 2, 3)]
    base = group(run([1, 1]), name="base", role="base")
    numbers = collapses([base, group(*seeds)])["method/m"]
    assert set(numbers) == set(COLLAPSE)
    assert (numbers["rise_step"], numbers["rise_k_step"]) == (10.0, 10.0)
    assert numbers["lost_pass_1"] == pytest.approx(0.5) and numbers["lost_pass_k"] == pytest.approx(5 / 6)
    # pass@2 from 5/6 to 0, below 1/2 after 0.4 of the way
    assert numbers["below_share"] == 1.0 and numbers["below_step"] == pytest.approx(14.0)
    assert numbers["entropy_at_rise"] == pytest.approx(0.6)
    assert numbers["entropy_at_below"] == pytest.approx(0.44)
    assert numbers["equal_groups"] is None and numbers["above_target"] is None
    assert collapses([group(run())]) == {}, "without checkpoints there is nothing to say"


def test_what_new_records_add_is_shown_and_older_ones_have_no_column() -> None:
    rows = [*rows_of("grpo", 0.0, activity=None), *rows_of("better", 0.1)]
    built = build_report(typed(rows), title="t", subtitle="", expected_seeds=None, reference="grpo")
    section = next(s for s in sections_of(built) if s.id == "collapse")
    headers = [column.header for column in section.columns]
    assert headers[:6] == [
        "method",
        "max pass@1",
        "pass@1 lost",
        "max pass@32",
        "pass@32 lost",
        "below untrained",
    ]
    assert (
        "equal groups %" not in headers
        and "above target %" not in headers
        and "distinct right" not in headers
    )
    for row in rows:
        for point in row["frontier"]:
            point["distinct_correct"] = [max(0, c // 4) for c in point["correct"]]
        row |= {"trace": {"step": [1], "generated_tokens": [9], "equal_groups": [0.25]}, "above_target": 0.5}
    built = build_report(typed(rows), title="t", subtitle="", expected_seeds=None, reference="grpo")
    section = next(s for s in sections_of(built) if s.id == "collapse")
    texts = {c.header: c.text(section.blocks[0][1][0]) for c in section.columns}
    assert texts["equal groups %"] == "25.0" and texts["above target %"] == "50.0"
    assert "→" in texts["distinct right"]


def test_the_pictures_of_the_course_are_written(tmp_path: object) -> None:
    rows = [*rows_of("grpo", 0.0, activity=None), *rows_of("better", 0.1)]
    written = {p.name: p for p in write_report(typed(rows), tmp_path, title="t")}  # type: ignore[arg-type]
    for name in ("rise.png", "fall.png", "spent.png"):
        assert written[name].stat().st_size > 5000
        assert f"]({name})" in written["leaderboard.md"].read_text()


def test_a_step_counts_the_prompts_whose_responses_are_all_right_or_all_wrong() -> None:
    batch: Any = MagicMock(
        tags={}, verdicts=(), group_B=torch.tensor([5, 5, 7, 7, 9, 9, 4, 4]), length_B=torch.ones(8),
        truncated_B=torch.zeros(8), correct_B=torch.tensor([1.0, 1, 0, 0, 1, 0, 0, 1]),
    )  # fmt: skip
    batch.__len__.return_value = 8
    batch.verdicts = [SimpleNamespace(canonical=None)] * 8
    assert batch_metrics(batch)["equal_groups"] == 0.5


def test_a_record_keeps_the_share_of_equal_groups() -> None:
    steps = [{"step": i, "generated_tokens": i, "equal_groups": i / 4} for i in (1, 2)]
    assert trace(steps)["equal_groups"] == [0.25, 0.5]


def test_courses_of_many_rows_are_those_of_each() -> None:
    rng = np.random.default_rng(1)
    groups = [group(*(run(*rng.integers(0, 5, (4, 6)).tolist(), seed=s) for s in range(3))) for _ in range(5)]
    size = _size(groups[0], 2)
    assert size is not None and {_size(own, 2) for own in groups} == {size}
    for own, pair in zip(groups, _courses(size, groups, 2), strict=True):
        assert pair is not None
        for found, k in zip(pair, (1, 2), strict=True):
            alone = course(own, k, 2)
            assert alone is not None and alone.lost_P is not None and found.lost_P is not None
            assert (found.step, found.lost) == (alone.step, alone.lost)
            assert found.lost_S.tobytes() == alone.lost_S.tobytes()
            assert found.lost_P.tobytes() == alone.lost_P.tobytes()
