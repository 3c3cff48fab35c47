"""Several models, training sets and profiles: tables of their own, and cells that say how much is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.report.data.grid import as_expected, by_setting, write_index
from harness.report.render.files import write_report
from tests.helpers.records import typed
from tests.unit.test_report import make_record, report, rows_of, table

pytestmark = pytest.mark.usefixtures("unpainted")
Write = Callable[..., Path]


def _at(model: str, training_set: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    named = {"model_name": model, "training_set": training_set, "model": model}
    return [row | named | {"run_id": f"{model}-{training_set}-{row['run_id']}"} for row in rows]


def _records() -> list[dict[str, Any]]:
    base = make_record("base", 1, -0.1, role="base")
    found = _at("a/small", "gsm8k", base, *rows_of("grpo", 0.1), *rows_of("dapo", 0.15))
    found += _at("a/small", "math", base, *rows_of("grpo", 0.0), *rows_of("dapo", 0.0, seeds=(1, 2)))
    return found + _at("b/other", "math", base, *rows_of("grpo", 0.2))


def test_every_model_and_training_set_has_a_report_of_its_own(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in _records()))
    assert main(["report", str(tmp_path)]) == 0
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["a-small-gsm8k", "a-small-math", "b-other-math"]
    for folder, words in zip(
        folders, ("a/small on gsm8k", "a/small on math", "b/other on math"), strict=True
    ):
        text = (tmp_path / folder / "leaderboard.md").read_text()
        assert words in text.splitlines()[0]
        assert (tmp_path / folder / "leaderboard.html").stat().st_size > 0
    index = (tmp_path / "leaderboard.md").read_text()
    assert "| a/small | math | 5 runs | [table](a-small-math/leaderboard.md)" in index
    assert "all of them:" in capsys.readouterr().out


def test_the_index_names_what_is_planned_and_not_there(tmp_path: Path) -> None:
    planned = [("a/small", "gsm8k", "grpo")] * 3 + [("c/new", "gsm8k", "grpo")] * 3
    grid = by_setting(typed(_records()[:4]), as_expected(planned))
    assert [(setting.title, setting.count) for setting in grid] == [
        ("a/small on gsm8k", "3 of 3 runs"), ("c/new on gsm8k", "0 of 3 runs"),
    ]  # fmt: skip
    index = write_index(grid, tmp_path, title="t", subtitle="").read_text()
    assert "| c/new | gsm8k | 0 of 3 runs | no finished run yet |" in index


def test_one_place_is_written_where_it_always_was(tmp_path: Path) -> None:
    records = _at("a/small", "gsm8k", *rows_of("grpo", 0.1))
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "leaderboard.md").read_text().startswith("# demo")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def _profiled(row: dict[str, Any], profile: str) -> dict[str, Any]:
    evals = {k: v | {"profile": profile, "profile_hash": f"h-{profile}"} for k, v in row["evals"].items()}
    return row | {"evals": evals}


def test_two_profiles_never_stand_in_one_table(tmp_path: Path) -> None:
    rows = [_profiled(row, "standard") for row in rows_of("grpo", 0.1)]
    report(rows, tmp_path)
    other = [_profiled(row, "dapo") for row in rows_of("dapo", 0.1)]
    with pytest.raises(
        ValueError, match=r"test_\w+ by different profiles .* dapo \(e.g. dapo-s1\); standard"
    ):
        write_report(typed([*rows, *other]), tmp_path, title="t")


def test_a_greedy_profile_shows_pass_at_1(tmp_path: Path) -> None:
    rows = []
    for row in rows_of("grpo", 0.1):
        once = {"n": 1, "temperature": 0.0, "correct": [1] * 30 + [0] * 30}
        rows.append(row | {"evals": {name: scores | once for name, scores in row["evals"].items()}})
    shown = table(report(rows, tmp_path))["grpo"]
    assert float(shown["pass@1"]) == 0.5 and "incomplete" not in shown["marks"]
    for row in rows:
        for evaluation in row["evals"].values():
            evaluation["temperature"] = 1.0
    assert "evaluation incomplete" in table(report(rows, tmp_path))["grpo"]["marks"]


def test_a_row_tuned_with_older_code_is_marked(tmp_path: Path) -> None:
    rows = rows_of("grpo", 0.1) + [row | {"tuning_stale": True} for row in rows_of("dapo", 0.1)]
    shown = table(report(rows, tmp_path))
    assert "tuned with older code" in shown["dapo"]["marks"] and not shown["grpo"]["marks"]


@pytest.mark.slow
def test_a_half_finished_sweep_marks_its_cells(
    sweep_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Through the command: three seeds planned, of which some rows have all, some, one, or none."""
    from harness.sweep.jobs import Runs
    from harness.sweep.plan import ledger, plan
    from harness.sweep.spec import load_sweep

    path = sweep_file(
        methods=["grpo", "dapo", "steer", "etr"], seeds=[1, 2, 3], base_temperatures=[],
        training_sets={"one": {"benchmark": "micro"}, "two": {"benchmark": "micro", "train.lr": 2e-4}},
    )  # fmt: skip
    sweep, backend = load_sweep(path), Runs()
    jobs = plan(sweep, backend)
    ledger(sweep).record(jobs)
    own = ("role", "tuned", "tuning_choice", "sweep", "method_card")
    there = {"grpo": 3, "dapo": 2, "steer": 1, "etr": 0}
    for job in jobs:
        if job.training_set == "one" and job.seed <= there[job.label]:
            record = make_record(job.label, job.seed, 0.1)
            (job.folder / "eval").mkdir(parents=True)
            for split in job.splits:
                (job.folder / "eval" / f"{split}.parquet").touch()
            kept = {k: v for k, v in record.items() if k not in own}
            (job.folder / "result.json").write_text(json.dumps(kept | {"run_id": job.run_id}))
            status = {"state": "done", "step": 3, "steps": 3}
            (job.folder / "status.json").write_text(json.dumps(status))
    assert main(["sweep", "collect", str(path)]) == 0
    assert main(["report", str(path)]) == 0
    said = capsys.readouterr().out
    assert "micro on one: 6 of 12 runs" in said and "micro on two: 0 of 12 runs" in said
    text = (tmp_path / "results" / "small" / "micro-one" / "leaderboard.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    marks = {name: next(row for row in rows if row.startswith(f"| {name}")) for name in list(there)[:3]}
    assert "of 3 seeds" not in marks["grpo"]
    assert "2 of 3 seeds" in marks["dapo"] and "1 of 3 seeds" in marks["steer"]
    assert any(line.startswith("- **Missing.**") and "etr" in line for line in text.splitlines())
    assert not (tmp_path / "results" / "small" / "micro-two").exists()
