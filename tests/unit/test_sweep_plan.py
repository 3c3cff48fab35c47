"""Plans: one run per cell, the same every time, and what is already there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.run.state import read_state
from harness.sweep.plan import ledger, make_plan, states
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from harness.util.locks import lock_path, locked

Write = Callable[..., Path]


def test_plan_has_one_run_per_cell_and_starts_nothing(
    sweep_file: Write, backend: Any, tmp_path: Path
) -> None:
    path = sweep_file(controls={"random-reward": {"train.random_reward": True}}, base_temperatures=[1.0, 0.6])
    jobs = make_plan(load_sweep(path), backend)
    rows = [(job.role, job.label, job.seed) for job in jobs]
    assert rows == [
        ("base", "base", 1), ("base", "base T=0.6", 1),
        ("method", "grpo", 1), ("method", "grpo", 2), ("method", "dapo", 1), ("method", "dapo", 2),
        ("control", "random-reward", 1), ("control", "random-reward", 2),
    ]  # fmt: skip
    assert len({job.run_id for job in jobs}) == len(jobs)
    assert make_plan(load_sweep(path), backend) == jobs
    assert not (tmp_path / "runs").exists()


def test_models_are_a_further_axis(sweep_file: Write, backend: Any) -> None:
    jobs = make_plan(load_sweep(sweep_file(models=["micro", "org/other"], methods=["grpo"])), backend)
    assert len(jobs) == 2 * (1 + 2)
    assert {job.config["model"]["path"] for job in jobs} == {"micro", "org/other"}


def _finish(folder: Path, **status: Any) -> None:
    (folder / "eval").mkdir(parents=True)
    for split in ("test_id", "test_hard", "test_ood"):
        (folder / "eval" / f"{split}.parquet").touch()
    (folder / "result.json").write_text("{}")
    (folder / "status.json").write_text(json.dumps({"state": "done", "step": 3, "steps": 3} | status))


def test_changed_code_gives_new_runs_and_marks_the_old_ones(sweep_file: Write, backend: Any) -> None:
    sweep = load_sweep(sweep_file(methods=["grpo"], seeds=[1], base_temperatures=[]))
    book = ledger(sweep)
    before = make_plan(sweep, backend)
    book.record(before)
    assert [s.state for s in states(before, book)] == ["missing"]
    _finish(before[0].folder)
    assert [s.state for s in states(before, book)] == ["done"]
    backend.code = "2"
    after = make_plan(sweep, backend)
    assert after[0].run_id != before[0].run_id
    assert [s.state for s in states(after, book)] == ["stale"]


def test_a_finished_run_without_its_test_sets_is_not_done(tmp_path: Path) -> None:
    _finish(tmp_path / "run")
    assert read_state(tmp_path / "run", ("test_id",)).state == "done"
    assert read_state(tmp_path / "run", ("test_new",)).state == "preempted"


def test_a_run_whose_process_is_gone_is_lost(tmp_path: Path) -> None:
    import platform

    folder = tmp_path / "run"
    _finish(folder, state="running", host=platform.node(), updated_unix_s=time.time())
    assert read_state(folder).state == "lost"
    with locked(lock_path(folder), wait=False):
        assert read_state(folder).state == "running"
    _finish(tmp_path / "far", state="running", host="another", updated_unix_s=time.time())
    assert read_state(tmp_path / "far").state == "running"
    _finish(tmp_path / "silent", state="running", host="another", updated_unix_s=time.time() - 1e5)
    assert read_state(tmp_path / "silent").state == "lost"


def test_a_half_written_status_is_reported(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "do')
    assert read_state(tmp_path).state == "failed"


def test_a_thousand_runs_are_planned_in_two_seconds(sweep_file: Write, backend: Any) -> None:
    make_plan(load_sweep(sweep_file(seeds=[1])), backend)  # imports are not what is timed
    sweep = load_sweep(sweep_file(seeds=list(range(500))))
    start = time.process_time()  # of this process, so that a busy machine does not fail the test
    jobs = make_plan(sweep, backend)
    states(jobs, ledger(sweep))
    assert len(jobs) == 1001
    assert time.process_time() - start < 2.0


def test_kept_plan_is_used_until_something_changes(
    sweep_file: Write, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness.sweep.plan as module

    calls: list[int] = []
    real = module.make_plan
    monkeypatch.setattr(module, "make_plan", lambda *a: calls.append(1) or real(*a))
    sweep = load_sweep(sweep_file())
    first = module.plan(sweep, backend)
    again = module.plan(sweep, backend)
    assert [job.payload() for job in first] == [json.loads(json.dumps(job.payload())) for job in again]
    assert len(calls) == 1
    module.plan(load_sweep(sweep_file(), ["train.steps=4"]), backend)
    assert len(calls) == 2


def test_plan_names_match_the_runs_own(sweep_file: Write) -> None:
    from harness.run import execute as runs
    from harness.sweep.jobs import Runs

    run = Runs().compose({"method": "entrocraft@released", "seed": 4})
    assert Runs().folder(run) == runs.run_folder(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train.stepz=3"], "unknown setting 'train.stepz'"),
        (["train.lr=-1"], "out of range"),
        (["method.eps_high=x"], "eps_high"),
        (["launcher=slrum", "train.steps=3"], "unknown launcher"),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    sweep_file: Write, backend: Any, tmp_path: Path, options: list[str], message: str
) -> None:
    from harness.sweep.launcher import open_launcher

    with pytest.raises(UserError, match=message):
        sweep = load_sweep(sweep_file(), options)
        open_launcher(sweep, ledger(sweep))
        make_plan(sweep, backend)
    assert not (tmp_path / "runs").exists()


def test_a_plan_is_kept_until_something_it_depends_on_changes(
    sweep_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.sweep.cache import plan_key

    def key(**changes: Any) -> str | None:
        return plan_key(load_sweep(sweep_file(**changes)))

    hub = key(models=["org/model"])
    assert hub is not None and hub == key(models=["org/model"]), "a hub id is known by its name"
    (tmp_path / "folder").mkdir()
    assert key(models=[str(tmp_path / "folder")]) is None, "a folder's content may change"
    per_method = {"grpo": {"model.path": str(tmp_path / "folder")}}
    assert key(models={"org/model": {"per_method": per_method}}) is None
    other = {"org/model": {"revision": "v2"}}
    found = {hub, key(), key(seeds=[1]), key(models=other), key(training_sets=["micro"])}
    monkeypatch.setenv("ENTROBENCH_ACCEPT_DATA", "gsm8k:0")
    found.add(key())
    assert len(found) == 6
