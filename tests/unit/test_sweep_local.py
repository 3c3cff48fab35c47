"""The local launcher with workers that only pretend: nothing twice, failures apart, clean interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.sweeps import submit
from harness.errors import UserError
from harness.sweep.local import LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.spec import load_sweep
from harness.sweep.state import locked

Write = Callable[..., Path]


def _starts(folder: Path) -> int:
    path = folder / "starts"
    return len(path.read_text()) if path.exists() else 0


def test_submitting_twice_starts_nothing_twice(
    sweep_file: Write, backend: Any, worker: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = load_sweep(sweep_file(), ["workers=2"])
    jobs, book = make_plan(sweep, backend), ledger(sweep)
    launcher = LocalLauncher(sweep, book, worker)
    assert submit(sweep, jobs, launcher, book, retry=False) == 0
    assert submit(sweep, jobs, launcher, book, retry=False) == 0
    assert [_starts(job.folder) for job in jobs] == [1] * 5
    assert "nothing left to start: 5 of 5 done" in capsys.readouterr().out


def test_a_failure_is_shown_and_stops_no_other(
    sweep_file: Write, backend: Any, worker: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    sweep = load_sweep(sweep_file(seeds=[1]))
    jobs, book = make_plan(sweep, backend), ledger(sweep)
    launcher = LocalLauncher(sweep, book, worker)
    monkeypatch.setenv("FAKE_FAIL", "grpo")
    assert submit(sweep, jobs, launcher, book, retry=False) == 1
    assert [state.state for state in launcher.status(jobs)] == ["done", "failed", "done"]
    assert "broken on purpose" in capsys.readouterr().out
    monkeypatch.delenv("FAKE_FAIL")
    assert submit(sweep, jobs, launcher, book, retry=False) == 1  # left alone, and said so
    assert "sweep retry" in capsys.readouterr().out
    assert _starts(jobs[1].folder) == 1
    assert submit(sweep, jobs, launcher, book, retry=True) == 0
    assert [_starts(job.folder) for job in jobs] == [1, 2, 1]


def test_a_worker_that_dies_at_once_is_a_failure(sweep_file: Write, backend: Any) -> None:
    sweep = load_sweep(sweep_file(methods=["grpo"], seeds=[1], base_temperatures=[]))
    jobs, book = make_plan(sweep, backend), ledger(sweep)
    launcher = LocalLauncher(sweep, book, [sys.executable, "-c", "print('no room'); raise SystemExit(3)"])
    lines = launcher.submit(jobs).failed[jobs[0].run_id]
    assert "no room" in lines and "exit code 3" in lines[-1]


def test_a_second_submitter_is_turned_away(sweep_file: Write, backend: Any, worker: list[str]) -> None:
    sweep = load_sweep(sweep_file())
    jobs, book = make_plan(sweep, backend), ledger(sweep)
    with locked(book.lock, wait=False), pytest.raises(UserError, match=f"process {os.getpid()}"):
        LocalLauncher(sweep, book, worker).submit(jobs)
    assert not any(job.folder.exists() for job in jobs)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_the_workers_and_the_next_submission_goes_on(
    sweep_file: Write, backend: Any, worker: list[str], tmp_path: Path, how: int, monkeypatch: Any
) -> None:
    path = sweep_file(methods=["grpo"], seeds=[1, 2], base_temperatures=[])
    script = tmp_path / "submitter.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from conftest import FakeBackend
        from harness.sweep.local import LocalLauncher
        from harness.sweep.plan import ledger, make_plan
        from harness.sweep.spec import load_sweep
        sweep = load_sweep(Path({str(path)!r}), ["workers=2"])
        LocalLauncher(sweep, ledger(sweep), {worker!r}).submit(make_plan(sweep, FakeBackend()))
        """)
    )
    sweep = load_sweep(path)
    jobs, book = make_plan(sweep, backend), ledger(sweep)
    submitter = subprocess.Popen(
        [sys.executable, str(script)], env=os.environ | {"FAKE_STEP_S": "60"}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not all((job.folder / "status.json").exists() for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)
    submitter.send_signal(how)
    assert submitter.wait(30) != 0
    launcher = LocalLauncher(sweep, book, worker)
    assert [state.state for state in launcher.status(jobs)] == ["lost", "lost"]
    assert submit(sweep, jobs, launcher, book, retry=False) == 0
    assert [_starts(job.folder) for job in jobs] == [2, 2]


def test_cancel_without_a_submitter_stops_nothing(sweep_file: Write, backend: Any) -> None:
    sweep = load_sweep(sweep_file())
    assert LocalLauncher(sweep, ledger(sweep)).cancel(make_plan(sweep, backend)) == 0


@pytest.mark.parametrize("local", [{"workers": 0}, {"workers": "two"}, {"wokers": 1}])
def test_bad_resources_are_refused(sweep_file: Write, local: dict[str, Any]) -> None:
    sweep = load_sweep(sweep_file(local=local))
    with pytest.raises(UserError, match="workers"):
        LocalLauncher(sweep, ledger(sweep))
