"""The local launcher with workers that only pretend: nothing twice, failures apart, clean interruption."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.sweeps import submit
from harness.sweep.local import ROOT, LocalLauncher
from harness.sweep.plan import ledger, make_plan
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError
from harness.util.locks import lock_path, locked
from tests.helpers.scripts import environment

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


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_another_sweep_makes_is_waited_for(
    finished: bool, sweep_file: Write, backend: Any, worker: list[str], tmp_path: Path, capsys: Any
) -> None:
    """The first sweep's run is finished, or carried on where it was given up."""
    sweep = load_sweep(sweep_file(methods=["grpo"], seeds=[1, 2], base_temperatures=[]))
    jobs, book = make_plan(sweep, backend), ledger(sweep)
    shared = jobs[0].folder
    polite = tmp_path / "polite_worker.py"
    polite.write_text(
        textwrap.dedent(f"""
        import json, runpy, sys
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from harness.util.locks import lock_path, locked
        folder = Path(json.loads(Path(sys.argv[1]).read_text())["folder"])
        with locked(lock_path(folder), wait=True):
            if not (folder / "result.json").exists():
                runpy.run_path({worker[1]!r}, run_name="__main__")
        """)
    )

    def other() -> None:
        """Another sweep's worker, until ours is there."""
        with locked(lock_path(shared), wait=False):
            shared.mkdir(parents=True)
            (shared / "starts").write_text("x")
            status = {"state": "running", "step": 1, "steps": 3, "host": platform.node(), "pid": os.getpid()}
            (shared / "status.json").write_text(json.dumps(status))
            begun.set()
            deadline = time.monotonic() + 60
            while not book.log(jobs[0]).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            if finished:
                (shared / "eval").mkdir()
                for split in jobs[0].splits:
                    (shared / "eval" / f"{split}.parquet").touch()
                (shared / "result.json").write_text("{}")
                (shared / "status.json").write_text(json.dumps(status | {"state": "done", "step": 3}))

    begun = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(60)
    launcher = LocalLauncher(sweep, book, [sys.executable, str(polite)])
    with locked(book.lock, wait=False):  # while this sweep's own submitter is at it, the run may be its own
        assert launcher.elsewhere(jobs) == []
    assert submit(sweep, jobs, launcher, book, retry=False) == 0
    thread.join()
    assert "starting 1 of 2 runs, 0 done, waiting for 1 that another process makes" in capsys.readouterr().out
    assert [_starts(job.folder) for job in jobs] == [1 if finished else 2, 1]
    assert [state.state for state in launcher.status(jobs)] == ["done", "done"]


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
        from tests.conftest import FakeBackend
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
        [sys.executable, str(script)], env=environment(FAKE_STEP_S="60"), stderr=subprocess.DEVNULL
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
