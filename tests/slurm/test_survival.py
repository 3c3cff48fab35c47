"""Whatever takes a run off its node, it goes on and ends with the bits of an undisturbed run.

The disturbances are made at about the same time, each to a run of its own, because what they cost is waiting.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.util.preemption import MARGIN_S
from tests.helpers.execution import numbers_of
from tests.slurm.site import Site, slurm, wait

STEPS, EVERY, FIRST = 150, 10, 20
#: A node that is down and up again before its processes are gone cannot take a job: Slurm drains it and holds
#: the job. So the cluster's nodes stay down until they are told to come back (``ReturnToService=1``).
DOWN_S = 25.0
LIMIT_S = 60.0
#: A run that was held may train so long before it has to go.
LEFT_S = 5.0
#: For all of them together, on a machine that has other things to do.
PATIENCE_S = 840.0


@dataclass
class Case:
    """One run and its disturbance.

    Attributes:
        how: disturbs the run.
        preemption: whether the run is told before it goes, and so loses no step.
        after: undoes what ``how`` did when it has lasted long enough, and says so.
    """

    how: Callable[[Site], None]
    preemption: bool
    slurm: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Case], bool] | None = None
    site: Site = None  # type: ignore[assignment]
    step: int | None = None
    disturbed_s: float = float("inf")


def _preempt(site: Site) -> None:
    """Somebody with a higher priority wants the whole node."""
    slurm("sbatch", "-p", "gpu", "-w", "n1", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")


def _requeue(site: Site) -> None:
    slurm("scontrol", "requeue", site.status()["job"])


def _node_down(site: Site) -> None:
    slurm("scontrol", "update", "nodename=n3", "state=down", "reason=test")


def _node_up(case: Case) -> bool:
    if time.monotonic() < case.disturbed_s + DOWN_S:
        return False
    if "down" in slurm("sinfo", "-h", "-n", "n3", "-o", "%T"):
        slurm("scontrol", "update", "nodename=n3", "state=resume")
    return True


def _kill_step(site: Site) -> None:
    os.kill(site.status()["pid"], signal.SIGKILL)


def _term(site: Site) -> None:
    os.kill(site.status()["pid"], signal.SIGTERM)


def _hold(site: Site) -> None:
    """However fast the machine is, the run is not through when its wall limit comes near."""
    with suppress(ProcessLookupError):
        os.kill(site.status()["pid"], signal.SIGSTOP)


def _let_go(case: Case) -> bool:
    begun = next(line for line in case.site.attempts() if line["event"] == "start")
    if time.time() < begun["unix_s"] + LIMIT_S - MARGIN_S - LEFT_S:
        _hold(case.site)  # again: Slurm, which announces the limit long before, has let it go
        return False
    with suppress(ProcessLookupError):
        os.kill(case.site.status()["pid"], signal.SIGCONT)
    return True


CASES = {
    "preempted": Case(_preempt, True, {"partition": "low", "sbatch": {"nodelist": "n1"}}),
    "requeued": Case(_requeue, True, {"sbatch": {"nodelist": "n2"}}),
    "told to stop": Case(_term, True, {"sbatch": {"nodelist": "n2"}}),
    "step killed": Case(_kill_step, False, {"sbatch": {"nodelist": "n2"}}),
    "node down": Case(_node_down, False, {"sbatch": {"nodelist": "n3"}}, _node_up),
    "wall limit": Case(_hold, True, {"sbatch": {"nodelist": "n2"}, "time": "1m"}, _let_go),
}


@pytest.fixture(scope="module")
def undisturbed(make_site: Callable[[str], Site]) -> Path:
    """The run that nothing happened to."""
    site = make_site("undisturbed")
    path = site.write(train={"steps": STEPS, "checkpoint_every": EVERY}, launcher="local")
    site.run("sweep", "submit", path.name, "workers=1")
    return site.runs()[0]


@pytest.fixture(scope="module")
def cases(undisturbed: Path, make_site: Callable[[str], Site]) -> dict[str, Case]:
    """All runs, disturbed and finished."""
    for name, case in CASES.items():
        case.site = make_site(name.replace(" ", "-"))
        case.site.write(train={"steps": STEPS, "checkpoint_every": EVERY}, slurm=case.slurm)
        assert "queued 1 run as" in case.site.run("sweep", "submit", "small.yaml")
    deadline = time.monotonic() + PATIENCE_S
    while not all(_finished(case) for case in CASES.values()) and time.monotonic() < deadline:
        for case in CASES.values():
            now = case.site.status()
            if case.step is None and now["state"] == "running" and now["step"] >= FIRST:
                case.step, case.disturbed_s = now["step"], time.monotonic()
                case.how(case.site)
            elif case.step is not None and case.after and case.after(case):
                case.after = None
        time.sleep(0.1)
    return CASES


def _finished(case: Case) -> bool:
    return case.site.status()["state"] in ("done", "failed")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(CASES))
def test_goes_on_with_the_same_numbers(name: str, cases: dict[str, Case], undisturbed: Path) -> None:
    case = cases[name]
    history = "\n".join(map(str, case.site.attempts()))
    assert case.site.status()["state"] == "done", history
    own, other = numbers_of(case.site.runs()[0]), numbers_of(undisturbed)
    assert [key for key in other if own.get(key) != other[key]] == [] and own.keys() == other.keys()
    starts = [line for line in case.site.attempts() if line["event"] == "start"]
    assert len(starts) >= 2, f"it was never disturbed: {history}"
    # where it went on: what was saved when its second job began
    went_on = int(starts[1]["progress"].partition(",")[0].removeprefix("step-"))
    assert case.step is not None and went_on >= case.step - (0 if case.preemption else EVERY), history
    print(f"{name}: disturbed at step {case.step}, went on from {went_on}, jobs {len(starts)}")


def test_each_went_the_way_that_was_meant(cases: dict[str, Case]) -> None:
    """The first job of each: how it ended, and who put it back into the queue."""
    first = {name: (case.site.ends() or [{}])[0] for name, case in cases.items()}
    assert "told to stop" in first["told to stop"]["what"] and not first["told to stop"]["sent_away"]
    assert "killed by signal 9" in first["step killed"]["what"]
    assert "wall limit" in first["wall limit"]["what"]
    for case in cases.values():
        wait("the end of its last job", lambda case=case: case.site.ends()[-1]["exit"] == 0)
