"""The sbatch script of a sweep, and what jobs get to know of each other; no cluster is needed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from harness.cli.sweeps import run_verb
from harness.run.state import RunState, needs_retry, needs_start
from harness.sweep.resources import slurm_resources
from harness.sweep.slurm import queue
from harness.sweep.slurm.arrays import RUNS, Task, arrays_in, new_array, note_job, write_array
from harness.sweep.slurm.attempts import Attempts
from harness.sweep.slurm.queue import QueuedJob
from harness.sweep.slurm.script import EXPORTED, executor
from harness.sweep.slurm.states import combine
from harness.sweep.slurm.steps import job_resources, worker_command
from harness.util.errors import UserError
from harness.util.locks import locked


def script(count: int | None = 40, after: str = "7", **raw: Any) -> list[str]:
    built = executor(slurm_resources(raw), Path("/logs"), "eb-x-1", count=count, threads=2, after=after)
    return built.script("exec worker").splitlines()


def test_a_script_asks_for_what_the_sweep_file_says_and_nothing_else() -> None:
    lines = script(
        partition="gpu", gpus="a100:2", memory="32G", time="1-12:00:00", limit=8, setup="module load cuda",
        sbatch={"reservation": "x"}, account="lab",
    )  # fmt: skip
    for wanted in (
        "array=0-39%8", "partition=gpu", "gpus-per-node=a100:2", "mem=32G", "time=1-12:00:00", "account=lab",
        "reservation=x", "dependency=afterok:7", "kill-on-invalid-dep=yes", "requeue", "cpus-per-task=4",
        "signal=USR2@120", "open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH --{wanted}" in lines
    assert lines.index("module load cuda") < lines.index("exec worker")
    assert not any("wckey" in line for line in lines)


def test_what_is_left_out_is_the_clusters_choice() -> None:
    flags = {line.split()[1].partition("=")[0] for line in script(None, "") if line.startswith("#SBATCH")}
    assert flags == {
        "--cpus-per-task", "--export", "--job-name", "--nodes", "--ntasks-per-node", "--open-mode",
        "--output", "--requeue", "--signal",
    }  # fmt: skip


def test_jobs_get_named_variables_only() -> None:
    exported = next(line for line in script(export=["LAB"]) if "--export=" in line).partition("--export=")[2]
    assert exported.split(",") == [*EXPORTED, "LAB"] and "ALL" not in exported.split(",")
    assert not any(word in name for name in EXPORTED for word in ("TOKEN", "KEY", "SECRET", "PASS"))


def test_short_limits_are_announced_in_time() -> None:
    assert "#SBATCH --signal=USR2@15" in script(time="1m")
    assert "#SBATCH --no-requeue" in script(requeue=False)


def fake_sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    command = folder / "bin" / "sbatch"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!/bin/sh\n{lines}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")


def test_what_is_shown_is_what_sbatch_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = executor(slurm_resources({}), tmp_path / "logs", "eb-x-1", count=2, threads=1)
    fake_sbatch(
        tmp_path, monkeypatch, f'cat "$2" > {tmp_path}/got; echo welcome; echo "$1" >&2; echo "12;east"'
    )
    assert built.submit("exec worker") == "12"
    assert (tmp_path / "got").read_text() == built.script("exec worker")
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["eb-x-1_submission.sh"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "echo sbatch: error: no such partition >&2; echo hint >&2; exit 1",
            "job: sbatch: error: no such partition$",
        ),
        ("echo not today", "job: not today$"),
        ("exit 1", "does not say why$"),
    ],
)
def test_a_refusal_is_one_line(
    lines: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sbatch(tmp_path, monkeypatch, lines)
    built = executor(slurm_resources({}), tmp_path, "eb-x-1", count=None, threads=1)
    with pytest.raises(UserError, match=said):
        built.submit("exec worker")


def test_without_slurm_the_remedy_is_named(sweep_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue.shutil, "which", lambda name: None)
    monkeypatch.setattr("harness.cli.sweeps.check_present", lambda *_: None)
    with pytest.raises(UserError, match="use launcher=local"):
        run_verb("submit", str(sweep_file(launcher="slurm")), [])


def test_processes_that_cannot_share_a_run_are_refused(sweep_file: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(queue.shutil, "which", lambda name: "/bin/true")
    monkeypatch.setattr("harness.cli.sweeps.check_present", lambda *_: None)
    with pytest.raises(UserError, match="3 processes cannot share rollout.prompts_per_step"):
        run_verb("submit", str(sweep_file(launcher="slurm", slurm={"nodes": 3})), [])
    with pytest.raises(UserError, match="leave train.processes out"):
        file = sweep_file(launcher="slurm", slurm={"nodes": 2}, settings={"train.processes": 2})
        run_verb("submit", str(file), [])


def test_a_worker_is_one_process_or_a_launcher_on_every_node() -> None:
    one = worker_command(job_resources(slurm_resources({}), 1), ["_worker", "j"], log="/l")
    assert one[0] == "srun" and "harness.distributed.launch" not in one and "--export=ALL" in one
    several = job_resources(slurm_resources({"nodes": 2, "gpus": 4, "container": "box run"}), 1)
    command = worker_command(
        several, ["_worker", "j"], log="/l", folder="/r", rendezvous="n1:5000", job="9_1"
    )
    for word in (
        "harness.distributed.launch",
        "--nodes=2",
        "--processes=4",
        "--rendezvous=n1:5000",
        "--id=9_1",
        "/r",
    ):
        assert word in command
    assert command.index("box") < command.index("python") and command[-2:] == ["_worker", "j"]


def test_arrays_are_found_again_from_their_files(tmp_path: Path) -> None:
    task = Task("run-1", "/runs/run-1", "/j", "/l", 1)
    array = new_array(RUNS, "x", [task], job_resources(slurm_resources({}), 1), tmp_path)
    path = write_array(tmp_path, array)
    note_job(tmp_path, array, "12")
    assert list(arrays_in(tmp_path)) == [array]
    path.write_text("{")
    with pytest.raises(UserError, match="submit the sweep again"):
        list(arrays_in(tmp_path))


def entry(state: str, reason: str = "None") -> QueuedJob:
    return QueuedJob("eb-x-1", 0, "12_0", state, reason, "n1", 100.0, None)


@pytest.mark.parametrize(
    ("files", "queued", "state", "starts"),
    [
        (RunState("missing"), entry("PENDING", "Dependency"), "pending", False),
        (RunState("preempted", step=3), entry("PENDING", "BeginTime"), "preempted", False),
        (RunState("failed", step=3), entry("PENDING"), "pending", False),
        (RunState("running", step=3, updated_unix_s=50), entry("RUNNING"), "running", False),
        (RunState("failed", updated_unix_s=200), entry("COMPLETING"), "failed", False),
        (RunState("failed", updated_unix_s=50), entry("RUNNING"), "running", False),
        (RunState("running", job="12_0"), None, "lost", True),
        (RunState("preempted", step=3), None, "preempted", True),
        (RunState("missing"), None, "missing", True),
    ],
)
def test_states(files: RunState, queued: QueuedJob | None, state: str, starts: bool, tmp_path: Path) -> None:
    found = combine(files, queued, Attempts(tmp_path, "run"), silent=False)
    assert (found.state, needs_start(found)) == (state, starts)
    assert needs_retry(found) == (starts and state != "missing")


def test_a_failure_that_the_run_could_not_write_down_is_shown(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "run")
    attempts.note("end", exit=1, what="failed", lines=["OSError: Read-only file system"])
    found = combine(RunState("missing"), None, attempts, silent=False)
    assert found.state == "failed" and found.error == ("OSError: Read-only file system",)


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("harness.util.locks.fcntl.flock", refuse)
    with (
        pytest.raises(UserError, match="No locks available.*choose a runs_dir"),
        locked(tmp_path / "l", wait=True),
    ):
        pass


def test_jobs_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, "run")
    for progress, sent_away in (("a", False), ("b", False), ("b", True), ("b", False)):
        attempts.note("start", progress=progress)
        attempts.note("end", progress=progress, sent_away=sent_away)
    assert attempts.idle("b") == 2 and attempts.idle("a") == 0
    attempts.note("submit")
    assert attempts.idle("b") == 0
