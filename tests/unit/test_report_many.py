"""Thousands of records: each piece of work is done once, and nothing grows faster than the records."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.records.load import load_records
from harness.report.analysis import compared, lines
from harness.report.analysis.model import Report
from harness.report.data import groups as records
from harness.report.render.plot_data import report_data
from harness.report.tables import build
from harness.report.tables.build import build_report
from tests.unit.test_report import make_record

METHODS, SETS = 12, 3


def _records_text(seeds: int) -> str:
    template = make_record("m0", 0, 0.0, problems=3)
    del template["frontier"]
    return "".join(
        json.dumps(template | {"method": f"m{m}", "seed": seed, "run_id": f"m{m}-s{seed}"}) + "\n"
        for m in range(METHODS)
        for seed in range(seeds)
    )


def _read_and_built(path: Path) -> Report:
    loaded = load_records(path)
    assert not loaded.left_out and gc.isenabled()
    return build_report(loaded.records, title="t", subtitle="", expected_seeds=None, reference="m0")


def _counting(monkeypatch: pytest.MonkeyPatch, counts: Counter[str], module: Any, name: str) -> None:
    inner: Callable[..., Any] = getattr(module, name)

    def counted(*args: Any, **options: Any) -> Any:
        counts[name] += 1
        return inner(*args, **options)

    monkeypatch.setattr(module, name, counted)


def test_many_records_are_scored_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    counts: Counter[str] = Counter()
    for module, name in (
        (build, "score_sets"), (build, "training_of"), (build, "discipline"), (compared, "seed_noise"),
        (lines, "entropy_curve"), (records, "canonical"),
    ):  # fmt: skip
        _counting(monkeypatch, counts, module, name)
    found = {}
    for seeds in (20, 200):
        counts.clear()
        path.write_text(_records_text(seeds))
        report = _read_and_built(path)
        assert [len(group.records) for group in report.groups] == [seeds] * METHODS
        assert all(line.rank == (1, METHODS) for line in report.tables[0].lines), "equal runs are equal"
        assert len(report_data(report)["rows"][0]["runs"]) == seeds
        found[seeds] = dict(counts)
    per_row = {"training_of": 1, "discipline": 1, "entropy_curve": 1}
    for count in found.values():
        assert {name: count[name] for name in per_row} == {n: k * METHODS for n, k in per_row.items()}
        assert count["score_sets"] == SETS  # each for all rows at once
        assert count["seed_noise"] == 2 * (SETS + 1) + 1  # each table at both ks, and the ranks
        assert "canonical" not in count, "a text for each value is made only to tell of a difference"
