"""Records of two numerics versions: each is reported, the two are never mixed, and tuning is done anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.cli import main
from harness.cli.plan import summary
from harness.records.write import write_records
from harness.run.identity import NUMERICS_VERSION
from harness.run.state import RunState
from harness.sweep.collect import collect, read_records, told
from harness.sweep.controls import BASE_AT_BEST, left_out
from harness.sweep.jobs import Runs
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.spec import load_sweep
from harness.sweep.temperatures import samplings
from harness.sweep.tune import trials, untried
from harness.sweep.tuned import chosen_by, is_stale, refuse_stale, stale_choices
from harness.util.errors import UserError
from tests.unit.test_report import rows_of
from tests.unit.test_sweep_controls import BODY, _tune

pytestmark = pytest.mark.usefixtures("unpainted")
Write = Callable[..., Path]


def _of(version: int, grpo: float) -> list[dict[str, Any]]:
    rows = rows_of("grpo", grpo) + rows_of("steer", grpo + 0.1)
    return [row | {"numerics_version": version, "run_id": f"v{version}-{row['run_id']}"} for row in rows]


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_two_versions_in_one_table_are_refused_in_one_line(tmp_path: Path, capsys: Any) -> None:
    _write(tmp_path / "records.jsonl", _of(2, 0.0) + _of(3, 0.2))
    assert main(["report", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "different numerics_version cannot stand in one table: 2 in 6" in line and "; 3 in 6" in line
    assert line.endswith("report each apart: entrobench report FOLDER --numerics N")
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize("archive", ["records.jsonl", "records.old.jsonl"])
def test_both_versions_are_reported_apart(archive: str, tmp_path: Path, capsys: Any) -> None:
    files: dict[str, list[dict[str, Any]]] = {"records.jsonl": _of(3, 0.2)}
    files[archive] = files.get(archive, []) + _of(2, 0.0)
    for name, records in files.items():
        _write(tmp_path / name, records)
    for version in (2, 3):
        assert main(["report", str(tmp_path), "--numerics", str(version)]) == 0
        out = (tmp_path / f"numerics-{version}" / "leaderboard.json").read_text()
        assert {v for v in (2, 3) if f'"v{v}-' in out} == {version}
        text = (tmp_path / f"numerics-{version}" / "leaderboard.md").read_text()
        assert f"numerics version {version};" in text
    capsys.readouterr()
    assert main(["report", str(tmp_path), "--numerics", "4"]) == 2
    assert "no record of numerics version 4; it has 2, 3" in capsys.readouterr().err
    assert main(["report", "sweeps/micro.yaml", "--numerics", "2"]) == 2
    assert "give the folder of results" in capsys.readouterr().err


def test_a_past_version_leaves_the_table_with_the_first_new_run_and_can_still_be_reported(
    sweep_file: Write, backend: Any, worker: list[str], capsys: Any
) -> None:
    sweep = load_sweep(sweep_file(methods=["grpo", "dapo"], seeds=[1], base_temperatures=[]), ["workers=2"])
    LocalLauncher(sweep, ledger(sweep), worker).submit(make_plan(sweep, backend))
    path = collect(sweep, make_plan(sweep, backend), backend).path
    write_records(path, [replace(r, numerics_version=0) for r in read_records(path)])
    backend.code = "2"
    before = path.read_bytes()
    jobs = make_plan(sweep, backend)
    first = collect(sweep, jobs, backend)
    assert path.read_bytes() == before and told(first) == [] and len(first.older_rows) == 2
    LocalLauncher(sweep, ledger(sweep), worker).submit([job for job in jobs if job.label == "grpo"])
    after = collect(sweep, jobs, backend)
    assert [(r.method, r.numerics_version) for r in after.records] == [("grpo", 1)]
    (line,) = told(after)
    assert "2 records of numerics version 0 are now in records.old.jsonl" in line
    assert line.endswith(f"entrobench report {path.parent} --numerics 0")
    assert told(collect(sweep, jobs, backend)) == [], "it is said once"
    assert main(["report", str(path.parent), "--numerics", "0"]) == 0
    assert (path.parent / "numerics-0" / "leaderboard.md").exists()


def test_choices_of_a_past_version_are_named_refused_and_made_anew(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(**BODY)
    _tune(path, backend, worker, monkeypatch)
    sweep = load_sweep(path)
    jobs = make_plan(sweep, backend)
    assert stale_choices(jobs, backend) == [] and left_out(sweep, [job.label for job in jobs]) == []
    backend.numerics_version, backend.code = 2, "2"
    jobs = make_plan(sweep, backend)
    rows = {"grpo", "lower", "early", "random"}
    assert set(stale_choices(jobs, backend)) == rows
    assert left_out(sweep, [job.label for job in jobs]) == ["best", BASE_AT_BEST]
    with pytest.raises(UserError, match=r"chose with numerics version 1 \(now 2\) of grpo, .*sweep tune"):
        refuse_stale(sweep, jobs, backend)
    lines = summary(sweep, jobs, [RunState("missing")] * len(jobs), [], backend)
    assert any(line.startswith("tuned with numerics version 1 (now 2) of grpo") for line in lines)
    found = trials(sweep, backend)
    assert len(untried(sweep, found)) == len(found) and len(samplings(sweep, backend)) == 6
    accepted = load_sweep(path, ["allow_stale_tuning=true"])
    refuse_stale(accepted, jobs, backend)


def test_what_a_choice_rests_on() -> None:
    assert chosen_by({"settings": {}}) is None, "a person wrote it"
    assert chosen_by({"settings": {}, "method_hash": "m"}) == 2
    assert chosen_by({"temperature": 1.0, "trials": []}) == 2
    assert chosen_by({"method_hash": "m", "numerics_version": 5}) == 5
    assert is_stale({"method_hash": "m"}, "m", 3) and not is_stale({"method_hash": "m"}, "m", 2)
    assert is_stale({"method_hash": "m", "numerics_version": 3}, "n", 3) and not is_stale({}, "n", 3)
    assert Runs().numerics_version == NUMERICS_VERSION
