"""``entrobench prefetch``: bring the models and data of a sweep here, before jobs run without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.sweep.jobs import Runs
from harness.sweep.plan import plan
from harness.sweep.prefetch import fetch, needs
from harness.sweep.spec import load_sweep
from harness.util.errors import UserError


def prefetch(file: str, options: Sequence[str]) -> int:
    """Fetch what is not here yet, each thing once; returns 1 when something could not be fetched."""
    sweep = load_sweep(Path(file), options)
    wanted = needs(job.config for job in plan(sweep, Runs()))
    failed = 0
    for need in wanted:
        try:
            print(f"{need}: {fetch(need)}", flush=True)
        except UserError as error:
            failed += 1
            print(f"{need}: FAILED: {' '.join(str(error).split())}", flush=True)
    if failed:
        told = f"{failed} of {len(wanted)} are still missing; run it again where there is a network"
        print(f"{sweep.name}: {told}")
        return 1
    print(f"{sweep.name}: all {len(wanted)} are here; jobs need no network")
    return 0
