"""``entrobench _slurm ARRAY``: what a job does on its first node.

It starts the worker of its run under srun, sees how that ends, and puts the run back into the queue where it
ended before it was finished. It imports nothing heavy, so that it outlives whatever takes the worker down.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import FrameType

from harness.distributed.launch import ANOTHER_ALLOCATION, TOLD_TO_STOP
from harness.run.state import read_state
from harness.run.status import status
from harness.sweep.slurm.arrays import PROBE, RUNS, Array, Task, read_array
from harness.sweep.slurm.attempts import Attempts, progress
from harness.sweep.slurm.queue import QueueError, end_of_allocation, run
from harness.sweep.slurm.steps import worker_command, worker_environment
from harness.util.files import write_json
from harness.util.preemption import END

#: An exit code of our own for a step that ended without its run.
CUT_OFF = 76
#: So many jobs in a row without progress, and a run is not put back into the queue again.
IDLE_JOBS = 3
#: A job that is sent away so shortly before its wall limit has reached it.
LIMIT_S = 5.0
#: Slurm signals the worker and this process within less than this.
SIGNALS_S = 3.0
#: How long a job waits for the end that follows its requeueing.
REQUEUE_S = 120.0


def run_job(file: str) -> int:
    """Carry out this job's place of the array; returns the exit code that Slurm sees."""
    array = read_array(Path(file))
    task = array.tasks[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))]
    job = job_id()
    attempts = Attempts(Path(array.attempts), task.run_id)
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    attempts.note("start", job=job, node=node, pid=os.getpid(), progress=progress(task))
    print(f"job {job} on {node}, restarted {restarts} times: {task.run_id}", flush=True)
    end_unix_s = end_of_allocation(job)
    ending = _Ending()
    begun_unix_s = time.time()
    code = _work(array, task, job, end_unix_s)
    if array.kind == RUNS and _finished(task):
        code = 0  # whatever took the process down when its work was done
    elif array.kind == RUNS and code:
        code = _said(task, begun_unix_s) or code
    elif array.kind == RUNS and code == 0:
        code = CUT_OFF  # srun calls it success when its node is taken away
    at_limit = end_unix_s is not None and time.time() > end_unix_s - LIMIT_S
    # told to stop by somebody else than Slurm, the run goes on
    sent_away = code in (TOLD_TO_STOP, CUT_OFF) and not at_limit and ending.comes()
    attempts.note(
        "end", job=job, node=node, progress=progress(task), exit=code, sent_away=sent_away,
        what=meaning(code), lines=_last_lines(task) if code == 1 else [],
    )  # fmt: skip
    print(f"job {job}: {meaning(code)}", flush=True)
    if code == 1 or (array.kind == PROBE and code and not sent_away):
        _note_failure(task, _last_lines(task))
        return 1
    if code == 0 or sent_away or array.kind == PROBE:
        return code
    return _again(array, task, job, code, attempts)


def _finished(task: Task) -> bool:
    return read_state(Path(task.folder)).state == "done"


def _said(task: Task, since_unix_s: float) -> int | None:
    """How the process that was the cause ended, where a launcher of several has said so in this job.

    srun reports the highest exit code, which may be that of a process that was ended because of it.
    """
    found = status(Path(task.folder))
    return int(found["exit"]) if "exit" in found and found["updated_unix_s"] >= since_unix_s else None


def meaning(code: int) -> str:
    """An exit code of srun in words."""
    words = {
        0: "finished", 1: "failed", ANOTHER_ALLOCATION: "the wall limit came near",
        TOLD_TO_STOP: "told to stop", CUT_OFF: "cut off from its node",
    }  # fmt: skip
    if code in words:
        return words[code]
    if code > 128:
        hint = ", often for want of memory" if code == 128 + signal.SIGKILL else ""
        return f"killed by signal {code - 128}{hint}"
    return f"srun ended with exit code {code}"


def job_id() -> str:
    """This job as the cluster's commands call it: requeueing a bare array id would mean the whole array."""
    own = os.environ
    if own.get("SLURM_ARRAY_JOB_ID"):
        return f"{own['SLURM_ARRAY_JOB_ID']}_{own['SLURM_ARRAY_TASK_ID']}"
    return own["SLURM_JOB_ID"]


def rendezvous() -> str:
    """Where the launchers of several nodes meet: a free port of the job's first node, on which this runs."""
    from submitit.slurm.slurm import SlurmJobEnvironment

    first = SlurmJobEnvironment().hostnames[0]
    address = first
    for word in run("scontrol", "show", "node", first).split():
        if word.startswith("NodeAddr="):  # the address that Slurm itself reaches the node by
            address = word.partition("=")[2]
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{address}:{probe.getsockname()[1]}"


def _work(array: Array, task: Task, job: str, end_unix_s: float | None) -> int:
    """Start the worker and wait for it; Slurm itself signals it when the job has to go."""
    words = ["_probe" if array.kind == PROBE else "_worker", task.job_file]
    several = int(array.resources["nodes"]) * int(array.resources["processes_per_node"]) > 1
    command = worker_command(
        array.resources, words, log=task.log, folder=task.folder, threads=task.threads,
        rendezvous=rendezvous() if several else "", job=job,
    )  # fmt: skip
    environment = worker_environment(task.threads)
    if end_unix_s is not None:
        environment[END] = str(end_unix_s)
    Path(task.log).parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL).wait()


class _Ending:
    """Whether Slurm has told this job to end; the worker has got the same signal and is about to save."""

    def __init__(self) -> None:
        self.told = False
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.told = True

    def comes(self) -> bool:
        """Its signal may come a moment after the worker's."""
        deadline = time.monotonic() + SIGNALS_S
        while not self.told and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.told


def _again(array: Array, task: Task, job: str, code: int, attempts: Attempts) -> int:
    """Put the run back into the queue, unless that is not allowed or leads nowhere."""
    if not array.resources["requeue"]:
        print("not put back into the queue (requeue: false); use: entrobench sweep retry", flush=True)
        return code
    now = progress(task)
    if attempts.idle(now) >= IDLE_JOBS:
        remedy = "raise slurm: time" if code == ANOTHER_ALLOCATION else "raise slurm: memory, or see its log"
        _note_failure(task, [f"{meaning(code)} {IDLE_JOBS} times in a row at {now}; {remedy}"])
        return 1
    try:
        run("scontrol", "requeue", job)
    except QueueError as error:
        print(f"not put back into the queue ({error}); use: entrobench sweep retry", flush=True)
        return code
    print(f"job {job} is back in the queue", flush=True)
    time.sleep(REQUEUE_S)  # Slurm ends this job now; what it returns is never seen
    return code


def _note_failure(task: Task, lines: list[str]) -> None:
    """In the run's status, unless the run itself has said why."""
    before = status(Path(task.folder))
    if before.get("state") == "failed":
        return
    try:
        write_json(Path(task.folder) / "status.json", before | {"state": "failed", "error": lines})
    except OSError as error:
        print(f"the failure cannot be written into {task.folder}: {error}: {' | '.join(lines)}", flush=True)


def _last_lines(task: Task) -> list[str]:
    log = Path(task.log)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return [*text.strip().splitlines()[-3:], f"the whole log: {log}"]
