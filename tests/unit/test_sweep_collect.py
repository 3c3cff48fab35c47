"""Collecting: equal runs give equal bytes, older code is kept apart, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.records.write import record_line, write_records
from harness.sweep.collect import card_header, collect, read_records, told
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from harness.util.locks import lock_path, locked
from tests.helpers.records import small_record
from tests.helpers.scripts import environment
from tests.helpers.warm_python import warm_python

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
    assert [(r.role, r.method) for r in collected.records] == [
        ("base", "base"), ("control", "random-reward"), ("method", "dapo"), ("method", "grpo"),
    ]  # fmt: skip
    grpo = collected.records[-1]
    assert grpo.sweep == "small" and grpo.tuned is False and grpo.tuning_choice is None
    assert grpo.method_card == card_header("grpo") and grpo.method_card.title == "GRPO"
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
    assert [r.method for r in after.records] == ["base", "random-reward", "dapo", "grpo"]
    old = read_records(after.path.with_name("records.old.jsonl"))
    assert [r.method for r in old] == ["grpo"]
    assert old[0].run_id != after.records[-1].run_id


def test_other_numerics_are_never_mixed(finished: Path, backend: Any, worker: list[str]) -> None:
    path = _collect(finished, backend).path
    records = [replace(r, numerics_version=0, run_id="x" + r.run_id) for r in read_records(path)]
    write_records(path, records)
    collected = _collect(finished, backend)
    assert {r.numerics_version for r in collected.records} == {1}
    assert len(read_records(path.with_name("records.old.jsonl"))) == 4


def test_unfinished_runs_are_not_collected(sweep_file: Write, backend: Any, tmp_path: Path) -> None:
    collected = _collect(sweep_file(), backend)
    assert collected.records == [] and collected.planned == 5
    assert not (tmp_path / "results").exists()


def test_a_line_that_is_no_record_is_named_and_kept_aside(finished: Path, backend: Any) -> None:
    path = _collect(finished, backend).path
    whole = path.read_bytes()
    lines = path.read_text().splitlines()
    old = lines[1].replace('"schema": 2', '"schema": 0').replace('"seed": 1', '"seed": 7')
    path.write_text("\n".join([lines[0][:50], *lines[1:], old]) + "\n")
    collected = _collect(finished, backend)
    assert not collected.whole and path.read_bytes() == whole, "the run itself is still there"
    told_lines = told(collected)
    assert any("records.jsonl:1: a damaged record" in line for line in told_lines)
    assert any("has schema 0, this version reads schema 1" in line for line in told_lines)
    aside = path.with_name("records.left-out.jsonl")
    assert aside.read_text().splitlines() == [lines[0][:50], old]
    assert _collect(finished, backend).whole


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(record_line(small_record()) + '\n{"a":\n')
    with pytest.raises(UserError, match="records.jsonl:2 is not a result record"):
        read_records(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "", "cannot be read"),
        (lambda text: "[1, 2]", "cannot be read"),
        (lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "evals"}), "lacks evals"),
        (lambda text: json.dumps(json.loads(text) | {"run_id": "grpo-s9-other"}), "is that of grpo-s9-other"),
    ],
)
def test_half_a_result_is_never_collected(
    finished: Path, backend: Any, damage: Callable[[str], str], reason: str
) -> None:
    sweep = load_sweep(finished)
    grpo = next(job for job in make_plan(sweep, backend) if job.label == "grpo")
    path = grpo.folder / "result.json"
    whole = path.read_text()
    path.write_text(damage(whole))
    collected = _collect(finished, backend)
    assert [r.method for r in collected.records] == ["base", "random-reward", "dapo"]
    assert list(collected.damaged) == [grpo.folder] and reason in collected.damaged[grpo.folder]
    line = told(collected)[0]
    assert grpo.run_id in line and f"delete {path} and submit again" in line
    path.write_text(whole)
    assert len(_collect(finished, backend).records) == 4


def test_a_record_that_was_collected_outlives_damage_to_its_run(finished: Path, backend: Any) -> None:
    before = _collect(finished, backend).path.read_bytes()
    sweep = load_sweep(finished)
    for job in make_plan(sweep, backend):
        (job.folder / "result.json").write_text("{")
    collected = _collect(finished, backend)
    assert collected.path.read_bytes() == before and len(collected.damaged) == 4


_COLLECTOR = """
    import os, sys, time
    from pathlib import Path
    from tests.conftest import FakeBackend
    from harness.util import files
    from harness.sweep import collect as module
    from harness.sweep.plan import make_plan
    from harness.sweep.spec import load_sweep

    replace, mode = os.replace, sys.argv[2]
    def slow(source, target):
        if str(target).endswith(mode):
            Path(sys.argv[3]).touch()
            time.sleep(60 if mode else 0)
        replace(source, target)
    os.replace = slow
    backend = FakeBackend()
    backend.code = sys.argv[4]
    sweep = load_sweep(Path(sys.argv[1]))
    print(module.collect(sweep, make_plan(sweep, backend), backend).new)
"""


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    with warm_python() as path:
        yield path


def _collector(python: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    script = folder / "collector.py"
    script.write_text(textwrap.dedent(_COLLECTOR))
    return subprocess.Popen(
        [python, str(script), *words], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.parametrize("at", ["records.old.jsonl", "records.jsonl"])
def test_a_collector_killed_in_between_loses_and_doubles_nothing(
    finished: Path, backend: Any, worker: list[str], python: str, tmp_path: Path, at: str
) -> None:
    _collect(finished, backend)
    backend.code = "2"
    sweep = load_sweep(finished)
    jobs = [job for job in make_plan(sweep, backend) if job.label == "grpo"]
    LocalLauncher(sweep, ledger(sweep), worker).submit(jobs)
    reached = tmp_path / "reached"
    process = _collector(python, tmp_path, str(finished), at, str(reached), "2")
    deadline = time.monotonic() + 60
    while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert reached.exists(), process.stderr.read() if process.stderr else ""
    folder = tmp_path / "results" / "small"
    # whatever the moment, a reader finds whole files
    assert len(read_records(folder / "records.jsonl")) == 4
    after = _collect(finished, backend)
    assert [r.method for r in after.records] == ["base", "random-reward", "dapo", "grpo"]
    assert after.records[-1].run_id == jobs[0].run_id
    assert [r.method for r in read_records(folder / "records.old.jsonl")] == ["grpo"]


def test_two_collectors_at_once_take_turns(finished: Path, python: str, tmp_path: Path) -> None:
    both = [_collector(python, tmp_path, str(finished), "", str(tmp_path / "x"), "1") for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(int(out) for out, _ in said) == [0, 4], "one collected, the other found it done"
    assert len(read_records(tmp_path / "results" / "small" / "records.jsonl")) == 4


def test_a_run_that_two_places_share_is_a_row_in_both(
    sweep_file: Write, backend: Any, worker: list[str]
) -> None:
    sets: dict[str, Any] = {name: {"benchmark": "micro"} for name in "abc"}
    sets["c"]["train.lr"] = 2e-4
    path = sweep_file(training_sets=sets, methods=["grpo"], seeds=[1])
    sweep = load_sweep(path, ["workers=2"])
    jobs = make_plan(sweep, backend)
    LocalLauncher(sweep, ledger(sweep), worker).submit(jobs)
    records = _collect(path, backend).records
    assert [(r.training_set, r.role) for r in records] == [
        ("a", "base"), ("b", "base"), ("c", "base"), ("a", "method"), ("b", "method"), ("c", "method"),
    ]  # fmt: skip
    assert {r.model_name for r in records} == {"micro"}
    assert _collect(path, backend).new == 0


def test_tuning_with_older_code_is_noted_in_the_record(
    sweep_file: Write, backend: Any, worker: list[str]
) -> None:
    path = sweep_file(methods=["grpo", "dapo"], seeds=[1], tuned_from="t.yaml", base_temperatures=[])
    choice = "{{settings: {{train.lr: 3.0e-4}}, method_hash: {}, numerics_version: 1}}"
    path.with_name("t.yaml").write_text(
        f"seed: 9\nchoices: {{grpo: {choice.format('m')}, dapo: {choice.format('old')}}}\n"
    )
    sweep = load_sweep(path, ["workers=2"])
    LocalLauncher(sweep, ledger(sweep), worker).submit(make_plan(sweep, backend))
    assert {r.method: r.tuning_stale for r in _collect(path, backend).records} == {
        "grpo": False, "dapo": True,
    }  # fmt: skip


def test_runs_that_another_sweep_is_at_are_counted(finished: Path, backend: Any) -> None:
    sweep = load_sweep(finished)
    grpo = next(job for job in make_plan(sweep, backend) if job.label == "grpo")
    (grpo.folder / "result.json").unlink()
    status = json.loads((grpo.folder / "status.json").read_text())
    (grpo.folder / "status.json").write_text(json.dumps(status | {"state": "running"}))
    assert _collect(finished, backend).running == 0, "nobody is at it: it is lost"
    with locked(lock_path(grpo.folder), wait=False):
        collected = _collect(finished, backend)
    assert collected.running == 1 and len(collected.records) == 3
    assert told(collected) == ["1 of 4 runs are running; collect again later"]
