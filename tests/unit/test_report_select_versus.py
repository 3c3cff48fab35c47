"""Part of a sweep's rows, and two sweeps beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.report.build import build_report
from harness.report.select import parse, select
from harness.report.versus import compare_sweeps
from tests.unit.test_report import card, make_record, rows_of, standard


def _names(records: list[Any]) -> set[str]:
    return {record["method"] for record in records}


def test_controls_base_and_reference_always_stay() -> None:
    records = standard()
    kept = select(records, parse(["methods=[better]"]))
    assert _names(kept) == {"base", "random-reward", "grpo", "better"}
    kept = select(records, parse(["tracks=off-policy"]))
    assert _names(kept) == {"base", "random-reward", "grpo", "replay"}
    assert select(records, parse([])) == records and parse([]).words == ""
    assert parse(["methods=[a,b]", "methods=c"]).words.startswith("Selected: methods a, b, c. Ranks")


def test_ranks_are_over_what_is_selected() -> None:
    kept = select(standard(), parse(["methods=[worse]"]))
    report = build_report(kept, title="t", subtitle="", expected_seeds=None, reference="grpo")
    ranks = {line.group.method: line.rank for line in report.tables[0].lines if line.rank}
    assert ranks == {"grpo": (1, 1), "worse": (2, 2)} and report.tables[0].comparisons == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=[grpo]"], "did you mean methods"), (["methods=[]"], "needs a name"),
        (["methods=[bettr]"], "did you mean better"), (["models=[other]"], "unknown model 'other'"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(standard(), parse(words))


def test_two_sweeps_row_by_row() -> None:
    first = [*rows_of("base", -0.15, [0], role="base", activity=None, budget={}), *rows_of("grpo", 0.0),
             *rows_of("same", 0.05), *rows_of("gone", 0.0)]  # fmt: skip
    second = [*rows_of("base", -0.15, [0], role="base", activity=None, budget={}),
              *rows_of("grpo", 0.15, method_hash="m2", run_id="new"), *rows_of("same", 0.05),
              *rows_of("new", 0.0, method_card=card(track="off-policy"))]  # fmt: skip
    for record in second[1:4]:
        record["run_id"] = f"again-{record['seed']}"
    found = compare_sweeps(first, second)
    pairs = {pair.method: pair for pair in found.pairs}
    assert list(pairs) == ["base", "grpo", "same"] and found.sets == ("test_id", "test_hard", "test_ood")
    assert (found.only_first, found.only_second) == (("gone",), ("new",))
    grpo = pairs["grpo"]
    assert grpo.difference is not None and 0.1 < grpo.difference < 0.18
    assert grpo.p is not None and grpo.p < 0.05
    assert grpo.seeds == (1, 2, 3) and grpo.differs == ("method's code",) and not grpo.same_runs
    assert pairs["same"].same_runs and pairs["same"].difference == 0.0 and pairs["same"].p is None
    assert pairs["base"].same_runs and pairs["base"].p is None


def test_other_problems_are_not_compared() -> None:
    first, second = rows_of("grpo", 0.0), rows_of("grpo", 0.1, benchmark="micro@2")
    for record in second:
        record["run_id"] += "x"
    found = compare_sweeps(first, second)
    assert found.sets == () and len(found.remarks) == 3
    assert found.pairs[0].difference is None and found.pairs[0].differs == ("problems",)
    del first[0]["evals"]["test_ood"]
    third = rows_of("grpo", 0.1, seeds=(1, 2))
    found = compare_sweeps(first, [record | {"run_id": f"y{record['seed']}"} for record in third])
    assert found.pairs[0].first is None, "one run lacks a set, so the row has no mean over the sets"


def test_a_bad_record_is_named_left_out_and_in_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [*rows_of("grpo", 0.0), *rows_of("better", 0.1)]
    lines = [json.dumps(record) for record in records]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(lines) + "\n")
    assert main(["report", str(tmp_path)]) == 0
    whole = (tmp_path / "leaderboard.csv").read_bytes()
    path.write_text("\n".join([*lines, lines[0][:100], json.dumps(make_record("old", 1, 0.0, schema=0))]))
    assert main(["report", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert f"left out: {path}:7: a damaged record" in told
    assert f"left out: {path}:8: record old-s1 has schema 0" in told
    assert (tmp_path / "leaderboard.csv").read_bytes() == whole
    path.write_text("")
    assert main(["report", str(tmp_path)]) == 2
    assert "no records in" in capsys.readouterr().err
