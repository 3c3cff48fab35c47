"""Runs whose records a checkout holds are not made again, unless one asks for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli.sweeps import submit
from harness.run.state import RunState
from harness.sweep.jobs import Job, Runs
from harness.sweep.launcher import LaunchOutcome
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.recorded import RECORDS
from harness.sweep.slurm.attempts import Attempts
from harness.sweep.slurm.queue import QueuedJob
from harness.sweep.slurm.states import combine
from harness.sweep.spec import load_sweep
from tests.helpers.finished import Say, Write, finish, finished_runs, speaker

pytestmark = pytest.mark.usefixtures("unpainted")


class Noted(LocalLauncher):
    """Starts nothing, and notes what it was given."""

    given: tuple[Job, ...] = ()

    def submit(self, jobs: Sequence[Job]) -> LaunchOutcome:
        self.given = tuple(jobs)
        return LaunchOutcome(len(jobs), {})


def _given(path: Path, *, anew: bool = False) -> list[str]:
    """The runs that a submission starts."""
    sweep = load_sweep(path)
    launcher = Noted(sweep, ledger(sweep))
    submit(sweep, make_plan(sweep, Runs()), launcher, ledger(sweep), retry=False, anew=anew)
    return [job.run_id for job in launcher.given]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    return speaker(capsys)


@pytest.fixture
def committed(sweep_file: Write, say: Say) -> tuple[Path, list[Job]]:
    """The sweep as another checkout sees it: five of its seven records, and no run folders."""
    path, jobs = finished_runs(sweep_file)
    for job in jobs:
        result = json.loads((job.folder / "result.json").read_text())
        result["evals"] = dict.fromkeys(job.splits, result["evals"]["test_id"])
        (job.folder / "result.json").write_text(json.dumps(result))
    say("sweep", "collect", str(path))
    file = load_sweep(path).results / RECORDS
    lines = [line for line in file.read_text().splitlines() if json.loads(line)["run_id"] not in _last(jobs)]
    file.write_text("".join(f"{line}\n" for line in lines))
    shutil.rmtree(load_sweep(path).runs_dir)
    return path, jobs


def _last(jobs: Sequence[Job]) -> list[str]:
    return [job.run_id for job in jobs[-2:]]


def test_only_what_the_records_lack_is_started(committed: Any, say: Any, capsys: Any) -> None:
    path, jobs = committed
    assert _given(path) == _last(jobs)
    said = capsys.readouterr().out
    assert "starting 2 of 7 runs, 0 done, 5 recorded (in " in said and "--anew makes them here" in said
    code, said = say("sweep", "plan", str(path))
    assert code == 0 and "7 runs: 2 missing, 5 recorded" in said and "1 2 3  0 of 3  3 recorded" in said
    assert "recorded" in say("sweep", "status", str(path))[1]
    assert _given(path, anew=True) == [job.run_id for job in jobs]


def test_what_is_then_made_stands_beside_what_was_there(committed: Any, say: Any, capsys: Any) -> None:
    path, jobs = committed
    for job in jobs[-2:]:
        finish(job, "bbbb222", 99.0)
    code, said = say("sweep", "collect", str(path))
    assert code == 0 and "7 records (2 new) of 7 planned runs" in said
    assert _given(path) == [] and "2 of 7 done, 5 recorded (in " in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["another run", "another row", "no set", "damaged"])
def test_a_record_that_does_not_say_all_counts_for_nothing(committed: Any, harm: str) -> None:
    path, jobs = committed
    file = load_sweep(path).results / RECORDS
    first, *others = file.read_text().splitlines()
    record = json.loads(first)
    if harm == "another run":
        record["run_id"] += "0"
    elif harm == "another row":
        record["method"] = "another"
    elif harm == "no set":
        record["evals"].popitem()
    text = json.dumps(record) if harm != "damaged" else first[:-9]
    file.write_text("\n".join([text, *others]) + "\n")
    wanted = [job.run_id for job in jobs if job.run_id in {json.loads(first)["run_id"], *_last(jobs)}]
    assert _given(path) == wanted


def test_a_run_that_is_begun_here_goes_on(committed: Any) -> None:
    """Somebody asked for it, so its record does not hide it."""
    path, jobs = committed
    folder = jobs[1].folder
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": "preempted", "step": 1, "steps": 3}))
    assert _given(path) == [jobs[1].run_id, *_last(jobs)]


@pytest.mark.parametrize(("waiting", "state"), [(True, "pending"), (False, "running")])
def test_one_that_is_queued_anew_is_seen_in_the_queue(tmp_path: Path, waiting: bool, state: str) -> None:
    entry = QueuedJob("n", 0, "12_0", "PENDING" if waiting else "RUNNING", "", "", None, None)
    found = combine(RunState("recorded"), entry, Attempts(tmp_path, "a"), silent=False)
    assert (found.state, found.queued) == (state, True)
