"""Differences to the reference: pass@k beside pass@1, the untrained model, and whose seeds are pooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.report.build import build_report
from harness.report.compared import Scored, pooled_noise, seed_matrix
from harness.report.model import Line, Report
from harness.report.records import group_records
from harness.report.scores import score_set
from harness.statistics import holm, paired_differences, pass_at_k, seed_noise
from tests.unit.test_report import SETS, rows_of, standard


def _report(records: list[Any]) -> Report:
    return build_report(records, title="t", subtitle="", expected_seeds=None, reference="grpo")


def _lines(report: Report, table: int = 0) -> dict[str, Line]:
    return {line.group.method: line for line in report.tables[table].lines}


def test_pass_at_the_largest_k_is_compared_by_the_same_formulas() -> None:
    records = [*rows_of("grpo", 0.0, activity=None), *rows_of("up", 0.1), *rows_of("down", -0.1)]
    report = _report(records)
    assert {table.top_k for table in report.tables} == {32}
    names = ["down", "grpo", "up"]
    own = [[r for r in records if r["method"] == name] for name in names]
    curves_MSP = [
        np.array([[pass_at_k(64, r["evals"][s]["correct"], 32) for r in rows] for rows in own]) for s in SETS
    ]
    scores_MS = np.mean([curve.mean(axis=2) for curve in curves_MSP], axis=0)
    means = [curve.mean(axis=1) for curve in curves_MSP]
    test = paired_differences(scores_MS, means, seed_noise(scores_MS), against=[1])
    p = holm([test.p[0, 0], np.nan, test.p[2, 0]])
    for index, name in enumerate(names):
        numbers = _lines(report)[name].numbers
        if name == "grpo":
            assert numbers["delta_pass_k"] is None and numbers["p_pass_k_holm"] is None
            continue
        assert numbers["delta_pass_k"] == pytest.approx(test.difference[index, 0])
        assert numbers["p_pass_k_holm"] == pytest.approx(p[index])
        low, high = numbers["delta_pass_k_low"], numbers["delta_pass_k_high"]
        assert low is not None and high is not None and low < test.difference[index, 0] < high


def test_rows_without_the_samples_have_no_difference_at_that_k() -> None:
    records = [*rows_of("grpo", 0.0, activity=None), *rows_of("few", 0.1, n=16)]
    for record in records:
        record["frontier"] = []
    lines = _lines(_report(records))
    assert lines["few"].delta is not None and lines["few"].numbers["delta_pass_k"] is None


def test_the_untrained_model_has_an_interval_and_no_p() -> None:
    report = _report(standard())
    base = _lines(report)["base"]
    assert base.p is None and base.delta is not None and base.delta_interval is not None
    assert base.delta_interval[0] < base.delta < base.delta_interval[1] < 0
    tested = [line for line in report.tables[0].lines if line.p is not None]
    assert report.tables[0].comparisons == len(tested), "it does not count among the comparisons"


def test_seeds_of_one_training_are_pooled_once() -> None:
    again = rows_of("grpo-best", 0.0, role="control", changes={"eval.weights": "best"}, activity=None)
    wild = rows_of("grpo-wild", 0.0, role="control", changes={"eval.temperature": 0.5}, activity=None)
    for shift, record in zip((-20, 0, 20), wild, strict=True):  # far more spread than any training
        for entry in record["evals"].values():
            entry["correct"] = [min(64, max(0, c + shift)) for c in entry["correct"]]
    trained = [*rows_of("grpo", 0.0, activity=None), *rows_of("a", 0.1), *rows_of("b", -0.1)]
    groups = group_records([*trained, *again, *wild])
    scored = [Scored(g, tuple(s for name in SETS if (s := score_set(g, name, None)))) for g in groups]
    own = [row for row in scored if row.group.role == "method"]
    assert len(own) == 3 and pooled_noise(scored) == seed_noise(seed_matrix(own))
    with_them, without = _report([*trained, *again, *wild]), _report(trained)
    assert _lines(with_them)["a"].interval == _lines(without)["a"].interval
    assert with_them.tables[0].spread_p == without.tables[0].spread_p is not None
