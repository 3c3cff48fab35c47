"""What a report says above and below its tables: protocol, controls, legends, and intervals as text."""

from __future__ import annotations

import re
from typing import Any

from harness.report.analysis.model import Line, Report
from harness.report.data.groups import Group
from harness.report.render.text import legend_of, markdown_text
from harness.report.tables.build import build_report
from harness.report.tables.columns import interval_text, p_text
from harness.report.tables.explain import trainings
from harness.report.tables.sections import sections_of
from harness.statistics import Interval
from tests.helpers.records import small_record, typed
from tests.unit.test_report import make_record, rows_of

USED = {
    "settings": {"eval": {"temperature": 1.0, "weights": "last"}},
    "train": {"token_budget": 140_000, "lr": 4e-5},
}


def records() -> list[dict[str, Any]]:
    """The base model twice, the reference, two methods, and four controls of different kinds."""
    grpo: dict[str, Any] = USED | {"tuning_choice": {"train.lr": 4e-5}}
    stopped = rows_of("grpo-early-stop", 0.0, role="control", changes={"eval.weights": "best"}, **grpo)
    for record, step in zip(stopped, (60, 80, 80), strict=True):
        record["evaluated_step"] = step
    stopped[1]["trained_by"] = "grpo-s2"
    return [
        *rows_of("base", -0.15, [0], role="base", budget={}, **USED),
        *rows_of("base-best-temperature", -0.1, [0], role="base", budget={},
                 changes={"eval.temperature": 0.6}, **USED),
        *rows_of("grpo", 0.0, **grpo),
        *rows_of("better", 0.1, **grpo),
        *stopped,
        *rows_of("grpo-lower-lr", 0.0, role="control", changes={"train.lr": 2e-5}, **grpo),
        *rows_of("coins", -0.1, role="control", changes={"train.random_reward": True}, **grpo),
        *rows_of("grpo-hot", 0.0, role="control", changes={"method.a": "x", "method.b": 3.0}, **grpo),
    ]  # fmt: skip


def built(rows: list[dict[str, Any]]) -> Report:
    return build_report(typed(rows), title="t", subtitle="", expected_seeds=None, reference="grpo")


def test_the_protocol_is_told_from_the_records() -> None:
    notes = dict(built(records()).notes)
    assert notes["Protocol"] == (
        "Test: 64 samples a problem at T = 1. Problems: 60 of test_id, 60 of test_hard, 60 of test_ood. "
        "Validation, which also chose the hyper-parameters: 60 problems × 64 samples at each of 9 "
        "checkpoints of a run. A run stops at 140 k generated tokens."
    )
    rows = [make_record("grpo", 1, 0.0, frontier=[])]
    for entry in rows[0]["evals"].values():
        entry["profile"] = "standard"
    assert dict(built(rows).notes)["Protocol"].startswith("Test: profile standard. Problems: 60 of")


def test_each_control_says_what_it_changes() -> None:
    text = dict(built(records()).notes)["Controls"]
    assert "Each is tuned grpo, or the base model, but for" in text
    for said in (
        "base at its best temperature: sampled at T = 0.6, chosen on validation.",
        "the best checkpoint on validation (steps 60, 80, 80; the last one in 2 of 3 seeds); its entropy",
        "grpo-lower-lr (control): train.lr = 2e-5 where tuning chose 4e-5.",
        "coins (control): trained on coin flips",
        "grpo-hot (control): method.a = x, method.b = 3.",
    ):
        assert said in text, said
    assert "Controls" not in dict(built(rows_of("grpo", 0.0)).notes)


def test_what_could_be_found_is_said_for_pass_at_k_and_at_equal_pass_at_1_too() -> None:
    report = built(records())
    table, notes = report.tables[0], dict(report.notes)
    assert table.detectable and table.detectable_k and table.detectable_k != table.detectable
    one, many = (f"{100 * size:.1f} points" for size in (table.detectable, table.detectable_k))
    assert f"{one} in pass@1, one of {many} in pass@32, is found" in notes["Differences"]
    assert f", in pass@32 {p_text(table.spread_k_p)}" in notes["Intervals"]
    lead = next((section.lead for section in sections_of(report) if section.id == "equal"), "")
    assert report.equal and report.equal.detectable
    assert f"a true difference of {100 * report.equal.detectable:.1f} points is found" in lead


def test_the_reference_is_named_with_what_tuning_chose() -> None:
    chosen = {"train.lr": 4e-5, "method.eps_high": 0.28}
    rows = [*rows_of("grpo", 0.0, tuning_choice=chosen), *rows_of("other", 0.1)]
    text = dict(built(rows).notes)["Differences"]
    assert "to tuned grpo (train.lr = 4e-5, method.eps_high = 0.28), in points" in text


def test_trainings_are_counted_and_not_evaluations() -> None:
    report = built(records())
    assert trainings(report.groups) == 3 * 6 - 3
    assert ("15", "trainings, and 3 further evaluations of their weights; every run is one click away") in [
        fact for fact in report.facts if fact[0] == "15"
    ]


def interval(kind: Any, low: float, high: float, score: float, seeds: int = 2) -> str:
    group = Group("m", "method", tuple(small_record(seed=seed) for seed in range(seeds)))
    return interval_text(Line(group, "b", None, (), {1: score}, interval=Interval(kind, low, high)))


def test_a_lopsided_interval_is_given_by_its_ends() -> None:
    assert interval("interval", 0.0, 0.018, 0.007) == "0.0 to 1.8"
    assert interval("problems", 0.045, 0.091, 0.066) == "4.5 to 9.1 †"
    assert interval("interval", 0.2, 0.24, 0.22) == "± 2.0"
    assert interval("problems", 0.2001, 0.2402, 0.2204) == "± 2.0 †"
    assert interval("range", 0.48, 0.512, 0.5) == "[48.0, 51.2]"
    assert interval("range", 0.48, 0.48, 0.48, seeds=1) == "one seed"


def test_the_untrained_model_has_one_name_everywhere() -> None:
    report = built(records())
    names = {group.method: group.name for group in report.groups if group.role == "base"}
    assert names == {"base": "base model", "base-best-temperature": "base at its best temperature"}
    text = markdown_text(report, [])
    assert "| base at its best temperature |" in text and "base-best-temperature" not in text


def test_every_column_is_explained_by_the_legend_or_the_notes() -> None:
    report = built(records())
    text = markdown_text(report, ["passk.png"])
    for section in sections_of(report):
        part = text.split(f"## {section.heading}\n")[1].split("\n## ")[0]
        for column in section.columns:
            plain = column.key in ("method", "rank", "seeds", "interval", "delta")
            assert plain or column.key.startswith("pass@") or column.help in part, column.key
    share = [section.id for section in sections_of(report) if "share ranks" in section.lead]
    assert share == (["average"] if report.ranked else [])
    assert "rank" in legend_of(report) and "†" in legend_of(report)


def test_brackets_are_explained_where_they_stand() -> None:
    for section in sections_of(built(records())):
        cells = [
            column.text(line) for _, lines in section.blocks for line in lines for column in section.columns
        ]
        if any(re.search(r"\[.+, .+\]", cell) for cell in cells):
            assert "[" in section.lead, section.id
