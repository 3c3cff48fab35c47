"""Printed numbers stand beside ours only where they mean the same, and elsewhere it says why not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.analysis.beside import set_beside
from harness.report.data.reported import Reported
from harness.report.tables.build import build_report
from tests.helpers.records import typed
from tests.unit.test_report import rows_of


def _printed(method: str, model: str, benchmark: str, metric: str, **more: Any) -> Reported:
    given = {"paper": "x", "baseline": "", "setting": "", "value": 50.0, "unit": "percent", "arxiv": "none",
             "source": "table 1", "certain": True, "note": "", "line": 2, **more}  # fmt: skip
    return Reported(method=method, model=model, benchmark=benchmark, metric=metric, **given)


def test_each_printed_number_has_ours_or_the_reason() -> None:
    records = [
        *rows_of("grpo", 0.0, model="Qwen/Small"), *rows_of("bapo@paper", 0.1, model="Qwen/Small"),
        *rows_of("bapo@released", 0.1, model="Qwen/Small"),
        *rows_of("base", -0.1, [0], role="base", activity=None, model="Qwen/Small"),
        *rows_of("bapo", 0.1, model="Qwen/Small", role="control"),
    ]  # fmt: skip
    report = build_report(typed(records), title="t", subtitle="", expected_seeds=None, reference="grpo")
    printed = [
        _printed("grpo", "small", "test_id", "avg@32"), _printed("grpo", "Small", "test_id", "pass@8"),
        _printed("base", "Small", "test_id", "pass@1", unit="fraction"),
        _printed("bapo", "Small", "test_id", "pass@1"), _printed("bapo@paper", "Small", "test_id", "pass@1"),
        _printed("grpo", "Large", "test_id", "pass@1"), _printed("grpo", "Small", "aime24", "pass@1"),
        _printed("grpo", "Small", "test_id", "pass@256"), _printed("grpo", "Small", "test_id", "tokens"),
        _printed("grpo", "Small", "test_id", "pass@1", unit="points", baseline="base"),
        _printed("elsewhere", "Small", "test_id", "pass@1"),
    ]  # fmt: skip
    found = set_beside(report, printed)
    table = {line.group.method: line for line in report.tables[1].lines if line.group.role != "control"}
    assert report.tables[1].name == "test_id"
    told = [(pair.method, pair.ours, pair.why_not) for pair in found]
    assert told == [
        ("grpo", pytest.approx(100 * table["grpo"].pass_at[1]), ""),
        ("grpo", pytest.approx(100 * table["grpo"].pass_at[8]), ""),
        ("base", pytest.approx(table["base"].pass_at[1]), ""),
        ("bapo@paper", pytest.approx(100 * table["bapo@paper"].pass_at[1]), ""),
        ("bapo@released", pytest.approx(100 * table["bapo@released"].pass_at[1]), ""),
        ("bapo@paper", pytest.approx(100 * table["bapo@paper"].pass_at[1]), ""),
        ("grpo", None, "ours is Qwen/Small"),
        ("grpo", None, "ours is not evaluated on aime24"),
        ("grpo", None, "ours has no pass@256 (percent) there"),
        ("grpo", None, "ours has no tokens (percent) there"),
    ]
    assert {pair.profile for pair in found if pair.ours is not None} == {"the split's own sampling"}
