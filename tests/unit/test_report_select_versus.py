"""Part of a sweep's rows, and two sweeps beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.report.analysis.model import Line, Report
from harness.report.analysis.select import of_models, parse, shown
from harness.report.analysis.versus import compare_sweeps
from harness.report.tables.build import build_report
from harness.util.errors import UserError
from tests.helpers.records import typed
from tests.unit.test_report import card, make_record, rows_of, standard

pytestmark = pytest.mark.usefixtures("unpainted")


def _report(records: list[Any]) -> Report:
    return build_report(typed(records), title="t", subtitle="", expected_seeds=None, reference="grpo")


def _of(report: Report, method: str) -> Line:
    return next(line for line in report.tables[0].lines if line.group.method == method)


def test_controls_base_and_reference_always_stay() -> None:
    whole = _report(standard())
    kept = shown(whole, parse(["methods=[better]"]))
    assert {group.method for group in kept.groups} == {"base", "random-reward", "grpo", "better"}
    for table in kept.tables:
        assert {line.group.label for line in table.lines} == {group.label for group in kept.groups}
    assert set(kept.curves) <= set(kept.discipline) == {g.key for g in kept.groups}
    kept = shown(whole, parse(["tracks=off-policy"]))
    assert {group.method for group in kept.groups} == {"base", "random-reward", "grpo", "replay"}
    assert shown(whole, parse([])) == whole and parse([]).words == ""
    assert parse(["methods=[a,b]", "methods=c"]).words.startswith("Selected: methods a, b, c. Ranks")


def test_choosing_rows_changes_none_of_their_numbers() -> None:
    whole = _report(standard())
    kept = shown(whole, parse(["methods=[worse]"]))
    assert _of(kept, "worse") == _of(whole, "worse") and _of(kept, "grpo") == _of(whole, "grpo")
    assert _of(kept, "worse").rank not in (None, (2, 2)), "its place is that among all rows"
    for one, other in zip(kept.tables, whole.tables, strict=True):
        assert (one.detectable, one.comparisons) == (other.detectable, other.comparisons)


def test_selected_files_hold_the_numbers_of_the_whole_table(tmp_path: Path) -> None:
    lines = [json.dumps(record) for record in standard()]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["report", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path), "--select", "methods=[worse]"]) == 0
    told = [json.loads((tmp_path / folder / "leaderboard.json").read_text()) for folder in ("", "selected")]
    rows = [{line["row"]: line for line in one["tables"][0]["lines"]} for one in told]
    assert set(rows[1]) < set(rows[0]) and all(rows[1][row] == rows[0][row] for row in rows[1])
    assert "over all rows" in (tmp_path / "selected" / "leaderboard.md").read_text()


def test_a_selection_that_nothing_would_follow_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--compare", "a", "b"], ["--readme", str(tmp_path / "README.md")]):
        assert main(["report", *words, "--select", "methods=[grpo]"]) == 2
        assert "--select chooses rows of one report" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=[grpo]"], "did you mean methods"), (["methods=[]"], "needs a name"),
        (["methods=[bettr]"], "did you mean better"), (["models=[other]"], "unknown model 'other'"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of_models(typed(standard()), parse(words))


def test_two_sweeps_row_by_row() -> None:
    first = [*rows_of("base", -0.15, [0], role="base", activity=None, budget={}), *rows_of("grpo", 0.0),
             *rows_of("same", 0.05), *rows_of("gone", 0.0)]  # fmt: skip
    second = [*rows_of("base", -0.15, [0], role="base", activity=None, budget={}),
              *rows_of("grpo", 0.15, method_hash="m2", run_id="new"), *rows_of("same", 0.05),
              *rows_of("new", 0.0, method_card=card(track="off-policy"))]  # fmt: skip
    for record in second[1:4]:
        record["run_id"] = f"again-{record['seed']}"
    found = compare_sweeps(typed(first), typed(second))
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
    found = compare_sweeps(typed(first), typed(second))
    assert found.sets == () and len(found.remarks) == 3
    assert found.pairs[0].difference is None and found.pairs[0].differs == ("problems",)
    del first[0]["evals"]["test_ood"]
    third = rows_of("grpo", 0.1, seeds=(1, 2))
    found = compare_sweeps(typed(first), typed(record | {"run_id": f"y{record['seed']}"} for record in third))
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
