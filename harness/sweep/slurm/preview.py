"""The sbatch scripts of a sweep as they would be submitted, for reading: nothing is queued or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.sweep.jobs import Job
from harness.sweep.plan import Ledger
from harness.sweep.resources import slurm_resources
from harness.sweep.slurm.launcher import MAX_ARRAY_SIZE
from harness.sweep.slurm.queue import QueueError, setting
from harness.sweep.sweep import Sweep
from harness.util.words import counted

#: What only the submission knows: the array's own id, and the id that Slurm gives the probe job.
ID, PROBE_ID = "ARRAY_ID", "PROBE_JOB"


def scripts(sweep: Sweep, jobs: Sequence[Job], book: Ledger) -> Iterator[tuple[str, str]]:
    """``(what it is, script)``: the probe job, then each array of ``jobs``, as the launcher builds them.

    Made by the functions of a submission, with :data:`ID` and :data:`PROBE_ID` in the place of ids.
    """
    from harness.sweep.slurm.script import command_of, executor

    resources = slurm_resources(sweep.slurm, f"{sweep.path}: slurm")
    folder, name = book.folder.absolute(), f"eb-{sweep.name}-{ID}"
    command = command_of(Path(folder) / "arrays" / f"{ID}.json")
    unique = list({job.run_id: job for job in jobs}.values())
    if not unique:
        return
    threads = max(job.cores for job in unique)
    probe = executor(resources, folder / "logs", name, count=None, threads=threads)
    yield "probe job: imports and one step", probe.script(command)
    try:
        size = max(1, setting("MaxArraySize", MAX_ARRAY_SIZE))
    except QueueError:  # no Slurm here: scripts can be read all the same
        size = MAX_ARRAY_SIZE
    for start in range(0, len(unique), size):
        some = unique[start : start + size]
        built = executor(
            resources, folder / "logs", name, count=len(some), threads=max(j.cores for j in some),
            after=PROBE_ID,
        )  # fmt: skip
        yield f"array of {counted(len(some), 'run')}", built.script(command)
