"""The Slurm launcher: arrays of jobs behind one probe job, found again from files and the queue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.run.compose import from_dict
from harness.run.state import RunState, needs_start
from harness.sweep.jobs import Job
from harness.sweep.launcher import LaunchOutcome
from harness.sweep.plan import Ledger, states, write_job
from harness.sweep.recorded import with_records
from harness.sweep.resources import slurm_resources
from harness.sweep.slurm.arrays import (
    PROBE,
    RUNS,
    Array,
    Task,
    arrays_in,
    job_of,
    new_array,
    note_job,
    write_array,
)
from harness.sweep.slurm.attempts import Attempts
from harness.sweep.slurm.probe import RESULT, probe_job
from harness.sweep.slurm.queue import QueuedJob, QueueError, ended, live, require_slurm, run, setting
from harness.sweep.slurm.states import combine
from harness.sweep.slurm.steps import job_resources
from harness.sweep.sweep import Sweep
from harness.train.processes import check_processes
from harness.util.errors import UserError
from harness.util.files import read_json, write_json
from harness.util.locks import locked
from harness.util.words import counted

#: Slurm's own default; what a cluster has set is asked for.
MAX_ARRAY_SIZE = 1001


class SlurmLauncher:
    """Queues runs and returns at once; keeps no state but the files of what it submitted."""

    def __init__(self, sweep: Sweep, book: Ledger) -> None:
        self._sweep, self._book = sweep, book
        self._resources = slurm_resources(sweep.slurm, f"{sweep.path}: slurm")
        self._root = Path(sweep.runs_dir).expanduser().absolute() / ".sweeps"
        self._folder = book.folder.absolute()
        self._notes: list[str] = []
        self._silent = ""  # why the queue did not answer

    # --- submission ------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> LaunchOutcome:
        """Queue the probe and, behind it, arrays of the runs that nobody has queued meanwhile."""
        require_slurm()
        self._check_processes(jobs)
        # One submitter at a time for all sweeps of these runs: two sweeps may share some.
        with locked(self._root / "submit.lock", wait=True):
            unique = list({job.run_id: job for job in jobs}.values())
            found = self.status(unique)
            if self._silent:
                raise UserError(f"cannot see what is queued already: {self._silent}; try again later")
            chosen = [job for job, state in zip(unique, found, strict=True) if needs_start(state)]
            if not chosen:
                return LaunchOutcome(0, queued=True)
            probe = self._submit(PROBE, [self._probe_task(chosen)], chosen)
            size = max(1, setting("MaxArraySize", MAX_ARRAY_SIZE))
            numbers = []
            for start in range(0, len(chosen), size):
                some = chosen[start : start + size]
                tasks = [self._task(job) for job in some]
                for task in tasks:
                    Attempts(self._folder / "attempts", task.run_id).note("submit")
                numbers.append(self._submit(RUNS, tasks, some, after=probe))
        note = f"{counted(len(numbers), 'array')} of jobs ({', '.join(numbers)}) behind the probe job {probe}"
        return LaunchOutcome(len(chosen), queued=True, note=note)

    def _check_processes(self, jobs: Sequence[Job]) -> None:
        """Refuse runs that the processes of a job cannot share."""
        size = self._resources.processes
        shared = [job for job in jobs if max(size, job.processes) > 1]
        for job in shared:
            if job.processes != 1 and size > 1:
                raise UserError(
                    f"{self._sweep.path}: {job.key} sets train.processes={job.processes}, but slurm: nodes "
                    "and gpus start one process for each GPU; leave train.processes out"
                )
        if not shared:
            return
        checked: set[tuple[str, int, int]] = set()
        for job in shared:
            prompts = int(job.config["rollout"]["prompts_per_step"])
            kind = (job.method, prompts, max(size, job.processes))
            if kind not in checked:
                checked.add(kind)
                check_processes(from_dict(job.config), kind[2])

    def _submit(self, kind: str, tasks: list[Task], jobs: Sequence[Job], after: str = "") -> str:
        from harness.sweep.slurm.script import command_of, executor

        threads = max(job.cores for job in jobs)
        own = job_resources(self._resources, threads)
        array = new_array(kind, self._sweep.name, tasks, own, self._folder)
        if after:
            array = replace(array, after=after)
        path = write_array(self._folder, array)
        count = len(tasks) if kind == RUNS else None
        built = executor(
            self._resources, self._folder / "logs", array.name, count=count, threads=threads, after=after
        )
        try:
            number = built.submit(command_of(path))
        except UserError:
            path.unlink()
            if after:  # nothing will wait for the probe
                _scancel([after])
            raise
        note_job(self._folder, array, number)
        return number

    def _task(self, job: Job) -> Task:
        job_file = self._book.job_file(job).absolute()
        write_job(job, job_file)
        folder, log = job.folder.absolute(), self._book.log(job).absolute()
        return Task(job.run_id, str(folder), str(job_file), str(log), job.threads)

    def _probe_task(self, jobs: Sequence[Job]) -> Task:
        name = f"probe-{len(list((self._folder / 'probes').glob('probe-*'))) + 1}"
        folder = self._folder / "probes" / name
        write_json(folder / "job.json", probe_job(folder, jobs))
        log = self._folder / "logs" / f"{name}.log"
        threads = max(job.threads for job in jobs)
        return Task(name, str(folder), str(folder / "job.json"), str(log), threads)

    def probe(self, jobs: Sequence[Job]) -> str:
        """Queue the probe of ``jobs`` alone; returns the cluster's id of its job."""
        require_slurm()
        with locked(self._root / "submit.lock", wait=True):
            return self._submit(PROBE, [self._probe_task(jobs)], jobs)

    # --- what became of it -----------------------------------------------------------------------------

    def status(self, jobs: Sequence[Job]) -> list[RunState]:
        self._notes, self._silent = [], ""
        found = with_records(self._sweep, jobs, states(jobs, self._book))
        wanted = {job.run_id for job, state in zip(jobs, found, strict=True) if state.state != "done"}
        if not wanted:
            return found
        queued = self._queued(wanted)
        if self._silent:
            self._notes.append(f"states are from the files alone: {self._silent}")
        combined = [
            state
            if state.state == "done"
            else combine(state, queued.get(job.run_id), self._attempts(job), silent=bool(self._silent))
            for job, state in zip(jobs, found, strict=True)
        ]
        self._notes += [
            f"{state.job} is held: {state.reason}; let it go with: scontrol release {state.job}"
            for state in combined
            if state.queued and "held" in state.reason.lower()
        ]
        self._notes += self._probe_notes(combined)
        return self._with_accounting(combined)

    def notes(self) -> list[str]:
        """What the last :meth:`status` has to say besides the states."""
        return self._notes

    def _attempts(self, job: Job) -> Attempts:
        return Attempts(self._folder / "attempts", job.run_id)

    def _queued(self, wanted: set[str]) -> dict[str, QueuedJob]:
        """The live job of each run, whichever sweep queued it."""
        named = {
            array.name: array for array in self._arrays()
            if array.kind == RUNS and any(task.run_id in wanted for task in array.tasks)
        }  # fmt: skip
        self._silent = ""
        try:
            entries = live(list(named)) if named else []
        except QueueError as error:
            self._silent = str(error)
            return {}
        return {named[e.name].tasks[e.index].run_id: e for e in entries}

    def _arrays(self) -> Iterator[Array]:
        """Of all sweeps of these runs."""
        for folder in sorted(self._root.glob("*/*/arrays")):
            yield from arrays_in(folder.parent)

    def _probe_notes(self, found: Sequence[RunState]) -> list[str]:
        """Why nothing has started, when the last probe is the reason."""
        probes = [array for array in arrays_in(self._folder) if array.kind == PROBE]
        if not probes or not any(state.state in ("pending", "missing") for state in found):
            return []
        task, number = probes[-1].tasks[0], job_of(self._folder, probes[-1])
        path = Path(task.folder) / RESULT
        outcome: dict[str, Any] = dict(read_json(path)) if path.exists() else {"state": "pending"}
        state, lines = outcome["state"], " | ".join(outcome.get("error") or [])
        if state == "passed":
            return []
        if state in ("pending", "running") and not self._lives(probes[-1]):
            status = Path(task.folder) / "status.json"  # the job itself notes there what the probe could not
            if status.exists():
                lines = " | ".join(read_json(status).get("error") or [])
            state = "failed"
        if state == "failed":
            return [f"the probe job {number} failed, so nothing was started: {lines or 'it was cancelled'}",
                    f"its log: {task.log}; then submit again"]  # fmt: skip
        return [f"the probe job {number} is {state}; the runs wait for it"]

    def _lives(self, array: Array) -> bool:
        try:
            return bool(live([array.name]))
        except QueueError:
            return True

    def _with_accounting(self, found: list[RunState]) -> list[RunState]:
        """What ended the lost runs, where there is accounting."""
        lost = [state.job for state in found if state.state == "lost" and state.job]
        try:
            rows = ended(lost)
        except QueueError:
            return found  # the files say it, only with less detail
        return [
            replace(state, reason=f"{rows[state.job].state} on {rows[state.job].node}")
            if state.state == "lost" and state.job in rows
            else state
            for state in found
        ]

    # --- the other verbs -------------------------------------------------------------------------------

    def elsewhere(self, running: Sequence[Job]) -> list[Job]:
        """None: an allocation that only waits for another one would be wasted."""
        return []

    def cancel(self, jobs: Sequence[Job]) -> int:
        """Take the runs of this sweep out of the queue; those that run save first."""
        require_slurm()
        queued = self._queued({job.run_id for job in jobs})
        if self._silent:
            raise UserError(f"cannot see what is queued: {self._silent}; try again later")
        probes = [a for a in arrays_in(self._folder) if a.kind == PROBE and self._lives(a)]
        _scancel([*(entry.job for entry in queued.values()), *(job_of(self._folder, a) for a in probes)])
        return len(queued)

    def logs(self, job: Job) -> list[Path]:
        """What the run printed, and what Slurm said about its last job."""
        number = self._attempts(job).last("start").get("job", "")
        files = [self._book.log(job)]
        if number:
            files.append(self._folder / "logs" / f"slurm-{number}.out")
        return [path for path in files if path.exists()]


def _scancel(jobs: Sequence[str]) -> None:
    """
    Raises:
        UserError: Slurm refused, e.g. because the jobs are somebody else's.
    """
    numbers = [job for job in jobs if job]
    try:
        for start in range(0, len(numbers), 100):
            run("scancel", *numbers[start : start + 100])
    except QueueError as error:
        raise UserError(f"not cancelled: {error}") from error
