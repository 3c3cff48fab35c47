"""Runs of this machine never change a report, nor a record of equal identity, unless one asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.sweep.collect import OLD_RECORDS, read_records
from harness.sweep.jobs import Job
from harness.sweep.spec import load_sweep
from tests.helpers.finished import Say, Write, finish, finished_runs, speaker

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def runs(sweep_file: Write) -> tuple[Path, list[Job]]:
    return finished_runs(sweep_file)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    return speaker(capsys)


def _files(path: Path) -> dict[str, bytes]:
    folder = load_sweep(path).results
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_new_sweep_gets_its_table_by_collect_and_report(runs: Any, say: Any) -> None:
    path, _ = runs
    code, said = say("report", str(path))
    assert code == 2 and not load_sweep(path).results.exists()
    assert f"7 finished runs of it are here, take them in: entrobench sweep collect {path}" in said
    code, said = say("sweep", "collect", str(path))
    assert code == 0 and "7 records (7 new) of 7 planned runs" in said
    code, said = say("report", str(path))
    assert code == 0 and "steer" in said and "not in the records" not in said


@pytest.mark.parametrize(("more", "code"), [(0, 0), (1, 1)])
def test_a_record_stays_where_another_run_has_its_identity(runs: Any, say: Any, more: int, code: int) -> None:
    path, jobs = runs
    say("sweep", "collect", str(path))
    say("report", str(path))
    before = _files(path)
    for job in jobs:
        finish(job, "bbbb222", 99.0, more)
    assert say("report", str(path))[0] == 0 and _files(path) == before, "runs never change a report"
    found, said = say("sweep", "collect", str(path))
    assert found == code and _files(path) == before
    (line,) = [line for line in said.splitlines() if line.startswith("kept")]
    assert "kept 7 records of commit aaaa111" in line and "of commit bbbb222" in line
    assert ("differ in evals" if more else "differ only in where and when they were made") in line
    assert line.endswith(f"to take them: entrobench sweep collect {path} --replace")
    assert "7 records (0 new) of 7 planned runs" in said


def test_a_run_takes_its_place_when_asked_to_and_others_stay(runs: Any, say: Any) -> None:
    path, jobs = runs
    say("sweep", "collect", str(path))
    for job in jobs:
        finish(job, "bbbb222", 99.0, 1)
    code, said = say("sweep", "collect", str(path), "--replace", "seeds=[2]", "methods=[grpo]")
    assert code == 0 and "7 records (0 new, 2 replaced) of 2 planned runs" in said
    assert "replaced 2 records of commit aaaa111 by runs of commit bbbb222, which differ in evals" in said
    records = read_records(load_sweep(path).results / "records.jsonl")
    assert {(r.method, r.seed) for r in records if r.commit == "bbbb222"} == {("base", 1), ("grpo", 2)}
    assert not (load_sweep(path).results / OLD_RECORDS).exists(), "the other seeds are no older code"
    assert say("sweep", "collect", str(path))[0] == 1, "the others still differ"


def test_a_run_that_is_not_in_the_records_is_named_and_changes_nothing(runs: Any, say: Any) -> None:
    path, jobs = runs
    say("sweep", "collect", str(path))
    say("report", str(path))
    before = _files(path)
    records = load_sweep(path).results / "records.jsonl"
    whole = records.read_bytes()
    records.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    say("report", str(path))
    without = _files(path)
    assert without["leaderboard.csv"] != before["leaderboard.csv"]
    code, said = say("report", str(path))
    assert code == 0 and _files(path) == without
    assert (
        f"not in the records: 1 finished run of this machine; take them in: entrobench sweep collect {path}"
        in said
    )
    assert "7 records (1 new) of 7 planned runs" in say("sweep", "collect", str(path))[1]
    assert records.read_bytes() == whole


def test_what_the_same_run_has_to_say_more_is_taken(runs: Any, say: Any) -> None:
    path, jobs = runs
    say("sweep", "collect", str(path))
    file = jobs[-1].folder / "result.json"
    result = json.loads(file.read_text())
    result["evals"]["test_hard"] = {"n": 16, "correct": [1, 2, 3, 4]}
    file.write_text(json.dumps(result))
    code, said = say("sweep", "collect", str(path))
    assert code == 0 and "7 records (0 new, 1 updated) of 7 planned runs" in said
