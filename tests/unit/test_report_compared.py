"""Differences to the reference: pass@k beside pass@1, the untrained model, and whose seeds are pooled."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest

from harness.report.analysis.compared import Scored, pooled_noise, seed_matrix
from harness.report.analysis.model import Line, Report
from harness.report.analysis.scores import score_sets
from harness.report.data.groups import group_records
from harness.report.render.plot_data import report_data
from harness.report.render.text import csv_text
from harness.report.tables.build import build_report
from harness.report.tables.columns import lr_text
from harness.report.tables.sections import sections_of
from harness.statistics import holm, paired_differences, pass_at_k, seed_noise
from tests.helpers.records import typed
from tests.unit.test_report import SETS, rows_of, standard


def _report(records: list[Any]) -> Report:
    return build_report(typed(records), title="t", subtitle="", expected_seeds=None, reference="grpo")


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
    groups = group_records(typed([*trained, *again, *wild]))
    scored = [Scored(g, tuple(s for name in SETS if (s := score_sets([g], name, None)[0]))) for g in groups]
    own = [row for row in scored if row.group.role == "method"]
    assert len(own) == 3 and pooled_noise(scored) == seed_noise(seed_matrix(own))
    with_them, without = _report([*trained, *again, *wild]), _report(trained)
    assert _lines(with_them)["a"].interval == _lines(without)["a"].interval
    assert with_them.tables[0].spread_p == without.tables[0].spread_p is not None


@pytest.mark.parametrize("apart", [(0,), (1,)])
def test_samples_for_pass_k_alone_are_those_of_their_row_beside_rows_without(apart: tuple[int, ...]) -> None:
    """Both are of equal size: only whether a row has them tells the two apart."""
    rows = [rows_of("a", 0.0), rows_of("b", 0.1)]
    for row in apart:
        for record in rows[row]:
            for entry in record["evals"].values():
                entry["pass"] = {"n": entry["n"], "correct": [0] * len(entry["correct"])}
    groups = group_records(typed([*rows[0], *rows[1]]))
    together = score_sets(groups, "test_id", None)
    for group, beside in zip(groups, together, strict=True):
        alone = score_sets([group], "test_id", None)[0]
        assert alone is not None and beside is not None and alone.curve_SK[:, 0].min() > 0
        np.testing.assert_array_equal(beside.curve_SK, alone.curve_SK)
        np.testing.assert_array_equal(beside.problem_P, alone.problem_P)


def test_trainings_that_another_row_has_are_not_counted_or_paid_for_again() -> None:
    again = rows_of("again", 0.0, role="control", changes={"eval.weights": "best"}, activity=None)
    for record in again[1:]:  # the first could not take its training over and made it a second time
        record["trained_by"] = f"grpo-s{record['seed']}"
    report = _report([*standard(), *again])
    trained = sum(r["role"] != "base" for r in standard())
    assert report.facts[-1][0] == str(trained)
    cost = next(section for section in sections_of(report) if section.id == "cost")
    assert "again" not in {line.group.method for _, lines in cost.blocks for line in lines}
    assert "paid for once" in cost.lead


def test_the_learning_rate_is_that_of_the_runs_and_its_mark_that_of_tuning() -> None:
    edge: dict[str, Any] = {"train": {"lr": 8e-5}, "lr_at_grid_edge": True}
    lower: dict[str, Any] = {"train": {"lr": 4e-5}, "lr_at_grid_edge": True, "changes": {"train.lr": 4e-5}}
    records = [*rows_of("grpo", 0.0, train={"lr": 2.5e-5}), *rows_of("edge", 0.1, **edge),
               *rows_of("lower", 0.0, role="control", **lower)]  # fmt: skip
    report = _report(records)
    texts = {name: lr_text(line) for name, line in _lines(report).items()}
    assert texts == {"grpo": "2.5e-5", "edge": "8e-5 (grid's edge)", "lower": "4e-5"}
    data = {row["method"]: row for row in report_data(report)["rows"]}
    assert data["lower"]["changes"] == {"train.lr": 4e-5} and data["grpo"]["changes"] is None
    assert data["lower"]["used"]["train.lr"] == data["lower"]["runs"][0]["train.lr"] == 4e-5


def test_the_csv_holds_what_the_tables_hold_and_leads_to_the_runs() -> None:
    records = [
        *rows_of("grpo", 0.0, activity=None, train={"lr": 1e-4}),
        *rows_of("up", 0.1, changes={"a": 1}),
    ]
    report = _report(records)
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(csv_text(report)))
            if row["set"] == "average"}  # fmt: skip
    up, line = rows["up"], _lines(report)["up"]
    assert up["delta_k"] == "32" and rows["grpo"]["delta_k"] == ""
    assert float(up["delta_pass_k"]) == pytest.approx(line.numbers["delta_pass_k"], rel=1e-5)
    assert float(up["entropy_area"]) == pytest.approx(line.numbers["entropy_area"], rel=1e-5)
    assert (up["run_ids"], up["config_hashes"], up["method_hash"]) == (
        "up-s1; up-s2; up-s3",
        "c1; c2; c3",
        "m1",
    )
    assert (
        up["changes"] == '{"a": 1}'
        and up["tuning_choice"] == '{"lr": 0.0001}'
        and rows["grpo"]["lr"] == "0.0001"
    )
