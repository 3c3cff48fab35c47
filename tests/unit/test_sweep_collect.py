"""Collecting: equal runs give equal bytes, older code is kept apart, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.sweep.collect import collect, read_records
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.spec import load_sweep

Write = Callable[..., Path]


@pytest.fixture
def finished(sweep_file: Write, backend: Any, worker: list[str]) -> Path:
    path = sweep_file(controls={"random-reward": {"train.random_reward": True}}, seeds=[1])
    sweep = load_sweep(path, ["workers=2"])
    jobs = make_plan(sweep, backend)
    ledger(sweep).record(jobs)
    LocalLauncher(sweep, ledger(sweep), worker).submit(jobs)
    return path


def _collect(path: Path, backend: Any, *options: str) -> Any:
    sweep = load_sweep(path, options)
    return collect(sweep, make_plan(sweep, backend), backend)


def test_records_are_complete_sorted_and_deterministic(finished: Path, backend: Any) -> None:
    collected = _collect(finished, backend)
    before = collected.path.read_bytes()
    assert [(r["role"], r["method"]) for r in collected.records] == [
        ("base", "base"), ("control", "random-reward"), ("method", "dapo"), ("method", "grpo"),
    ]  # fmt: skip
    grpo = collected.records[-1]
    assert grpo["sweep"] == "small" and grpo["tuned"] is False and grpo["tuning_choice"] is None
    assert set(grpo["method_card"]) == {"title", "track", "fidelity", "reconstruction", "paper"}
    assert collected.new == 4
    again = _collect(finished, backend)
    assert again.new == 0 and again.path.read_bytes() == before
    collected.path.unlink()
    _collect(finished, backend)
    assert collected.path.read_bytes() == before


def test_committed_records_stand_without_their_run_folders(
    finished: Path, backend: Any, tmp_path: Path
) -> None:
    collected = _collect(finished, backend)
    before = collected.path.read_bytes()
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert _collect(finished, backend).path.read_bytes() == before


def test_older_code_is_kept_and_named_until_the_row_is_run_again(
    finished: Path, backend: Any, worker: list[str]
) -> None:
    _collect(finished, backend)
    backend.code = "2"
    unchanged = _collect(finished, backend)
    assert unchanged.older_rows == ("base", "dapo", "grpo", "random-reward")
    sweep = load_sweep(finished)
    jobs = make_plan(sweep, backend)
    LocalLauncher(sweep, ledger(sweep), worker).submit([job for job in jobs if job.label == "grpo"])
    after = _collect(finished, backend)
    assert after.older_rows == ("base", "dapo", "random-reward")
    assert [r["method"] for r in after.records] == ["base", "random-reward", "dapo", "grpo"]
    old = read_records(after.path.with_name("records.old.jsonl"))
    assert [r["method"] for r in old] == ["grpo"]
    assert old[0]["run_id"] != after.records[-1]["run_id"]


def test_other_numerics_are_never_mixed(finished: Path, backend: Any, worker: list[str]) -> None:
    path = _collect(finished, backend).path
    records = [r | {"numerics_version": 0, "run_id": "x" + r["run_id"]} for r in read_records(path)]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    collected = _collect(finished, backend)
    assert {r["numerics_version"] for r in collected.records} == {1}
    assert len(read_records(path.with_name("records.old.jsonl"))) == 4


def test_unfinished_runs_are_not_collected(sweep_file: Write, backend: Any, tmp_path: Path) -> None:
    collected = _collect(sweep_file(), backend)
    assert collected.records == [] and collected.planned == 5
    assert not (tmp_path / "results").exists()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(UserError, match="records.jsonl:2 is not a result record"):
        read_records(path)
