"""Diversity at equal pass@1: the level, the crossing and the differences, by cases worked out by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.records.record import Record
from harness.report.analysis.equal import at_equal_score, common_level, crossing
from harness.report.data.groups import Group
from harness.report.render.files import write_report
from tests.helpers.records import small_record, typed
from tests.unit.test_report import rows_of

# With n = 4, c right answers give pass@2 = 1 - C(4 - c, 2) / 6: for c = 0..4 it is 0, 1/2, 5/6, 1, 1.


def run(*counts: list[int], seed: int = 1, nats: tuple[float, ...] = (), every: int = 10) -> Record:
    """A run with four samples for each of two problems at checkpoints ``every`` steps apart."""
    at = [every * i for i in range(max(len(counts), len(nats)))]
    return small_record(
        seed=seed,
        run_id=f"s{seed}",
        frontier=[{"step": step, "n": 4, "correct": c} for step, c in zip(at, counts, strict=False)],
        probe=[{"step": s, "generated_tokens": s, "entropy_nats": h} for s, h in zip(at, nats, strict=False)],
    )


def group(name: str, *runs: Record, role: str = "method") -> Group:
    return Group(name, role, runs)


def test_a_crossing_lies_between_its_checkpoints() -> None:
    found = crossing(run([1, 1], [1, 2], [2, 4], nats=(1.0, 0.8, 0.4)), 0.5625, 2)
    assert found is not None  # pass@1 0.25, 0.375, 0.75: halfway between the second and the third
    assert found.step == pytest.approx(15)
    assert found.problem_P == pytest.approx([(1 / 2 + 5 / 6) / 2, (5 / 6 + 1) / 2])
    assert found.entropy == pytest.approx(0.6)


def test_the_first_of_several_crossings_counts_and_a_touch_is_one() -> None:
    wavy = run([1, 1], [2, 2], [1, 1], [3, 3])
    assert crossing(wavy, 0.5, 2).step == 10  # type: ignore[union-attr]
    assert crossing(wavy, 0.375, 2).step == 5  # type: ignore[union-attr]
    assert crossing(wavy, 0.75, 2).step == 30  # type: ignore[union-attr]


def test_who_never_gets_there_or_starts_above_has_no_crossing() -> None:
    assert crossing(run([1, 1], [1, 2]), 0.5, 2) is None
    assert crossing(run([3, 3], [2, 2]), 0.5, 2) is None
    assert crossing(run(), 0.5, 2) is None
    assert crossing(run([1, 1], [3, 3]), 0.5, 4) is None, "four samples do not allow pass@4"
    found = crossing(run([1, 1], [3, 3], nats=(1.0,)), 0.5, 2)
    assert found is not None and found.entropy is None, "one probe says nothing of the step between"


def test_the_level_follows_from_the_weakest_seed_of_the_reference() -> None:
    # from 0.25 (both) to 0.75 and 0.625 at best: 0.25 + 0.9 * 0.375 = 0.5875, cut to 0.587
    seeds = run([1, 1], [3, 3], [2, 2]), run([1, 1], [2, 3], seed=2)
    assert common_level(group("grpo", *seeds)) == 0.587
    assert common_level(group("grpo", seeds[0], run([3, 3], [2, 2], seed=2))) is None, "a seed gains nothing"
    assert common_level(group("grpo", seeds[0], run(seed=2))) is None
    better = group("better", run([1, 1], [4, 4]))
    alone, both = at_equal_score([group("grpo", *seeds)], "grpo"), at_equal_score(
        [better, group("grpo", *seeds)], "grpo"
    )  # fmt: skip
    assert alone is not None and both is not None and alone.level == both.level == 0.587


def test_rows_at_the_level_with_mean_spread_and_difference() -> None:
    reference = group("grpo", *(run([1, 1], [3, 3], nats=(1.0, 0.5), seed=s) for s in (1, 2, 3)))
    # 0.25 -> 0.75, so the level is 0.7: 0.9 of the way, pass@2 0.5 + 0.9 * 0.5 = 0.95, entropy 0.55
    narrow = group(
        "narrow", run([1, 1], [1, 4], [2, 4], nats=(1.0, 0.6, 0.2)), run([1, 1], [2, 2], seed=2),
        run([1, 1], [4, 4], seed=3, nats=(0.9, 0.3)),
    )  # fmt: skip
    flips = group("flips", run([1, 1], [0, 0]), role="control")
    best = msgspec.structs.replace(run([1, 1], [3, 3]), changes={"eval.weights": "best"})
    again = Group("again", "control", (best,))
    base = group("base", run([1, 1]), role="base")
    found = at_equal_score([base, again, flips, reference, narrow], "grpo")
    assert found is not None and (found.level, found.k) == (0.7, 2)
    assert set(found.rows) == {"control/flips", "method/grpo", "method/narrow"}
    own = found.rows["method/grpo"]
    assert own.reached == 3 and own.delta is None and own.p is None
    assert own.pass_k is not None and own.pass_k.mean == pytest.approx(0.95)
    assert own.entropy is not None and own.entropy.mean == pytest.approx(0.55)
    row = found.rows["method/narrow"]
    # seed 1: 0.6 of the way from 0.625 to 0.75, pass@2 of the problems 0.7 and 1; seed 3: 0.6, too
    assert row.pass_k is not None and row.entropy is not None and row.step == pytest.approx((16 + 6) / 2)
    assert (row.reached, row.pass_k.low, row.pass_k.high) == (2, pytest.approx(0.8), pytest.approx(0.85))
    assert row.entropy.low == pytest.approx(0.36) and row.entropy.high == pytest.approx(0.54)
    assert row.delta == pytest.approx(0.825 - 0.95) and row.p is None, "two seeds in common are no test"
    assert found.rows["control/flips"].numbers["equal_pass_k"] is None
    assert found.rows["control/flips"].reached == 0


def test_a_narrower_row_is_told_apart_and_no_wider_one_is_made_up() -> None:
    def rising(seed: int, spread: float, name: str, count: int) -> Record:
        """pass@1 rises alike; with ``spread`` the right answers gather on fewer of the problems."""
        rng = np.random.default_rng([seed, len(name)])
        hard = np.linspace(0.05, 0.95, 60)
        points = []
        for i in range(count):
            share = np.clip(0.2 + 0.1 * i + spread * (hard - 0.5), 0, 1)
            points.append({"step": 10 * i, "n": 64, "correct": rng.binomial(64, share).tolist()})
        return small_record(seed=seed, run_id=f"{name}-{seed}", frontier=points)

    def rows(name: str, spread: float, count: int = 6) -> Group:
        return group(name, *(rising(seed, spread, name, count) for seed in (1, 2, 3)))

    found = at_equal_score([rows("grpo", 0.0), rows("alike", 0.02), rows("narrow", 2.4, 9)], "grpo")
    assert found is not None and found.k == 32
    narrow, alike = found.rows["method/narrow"], found.rows["method/alike"]
    assert narrow.delta is not None and narrow.delta < -0.02 and narrow.p is not None and narrow.p < 0.05
    assert alike.p is not None and alike.p > 0.05


@pytest.mark.usefixtures("unpainted")
def test_every_format_has_the_level_and_the_numbers(tmp_path: Path) -> None:
    records = rows_of("grpo", 0.0) + rows_of("a", 0.05) + rows_of("flat", 0.0)
    for record in records[6:]:
        record["frontier"] = record["frontier"][:1]
    write_report(typed(records), tmp_path, title="t")
    data = json.loads((tmp_path / "leaderboard.json").read_text())
    level, k = data["equal"]["pass@1"], data["equal"]["k"]
    lines = {line["row"]: line["numbers"] for line in data["tables"][0]["lines"]}
    a = lines["method/a"]
    assert k == 32 and a["equal_pass_k_low"] <= a["equal_pass_k"] <= a["equal_pass_k_high"]
    assert a["equal_seeds"] == 3 and lines["method/flat"]["equal_seeds"] == 0
    assert "equal_pass_k" not in lines["method/flat"]
    rows = {
        row["method"]: row
        for row in csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text()))
        if row["set"] == "average"
    }
    assert float(rows["a"]["equal_pass_k"]) == pytest.approx(a["equal_pass_k"], abs=1e-5)
    assert float(rows["a"]["equal_pass@1"]) == level and rows["flat"]["equal_entropy"] == ""
    text = (tmp_path / "leaderboard.md").read_text().split("## At equal pass@1")[1].split("## ")[0]
    assert f"reaches {100 * level:.1f} % pass@1" in text and "| flat | – | – | – | – | 0 of 3 |" in text
