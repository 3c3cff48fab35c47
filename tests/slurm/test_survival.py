"""Whatever takes a run off its node, it goes on and ends with the bits of an undisturbed run.

The disturbances are made at about the same time, each to a run of its own, because what they cost is waiting.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.util.preemption import MARGIN_S
from tests.helpers.execution import numbers_of
from tests.slurm.site import Site, slurm, wait

STEPS, EVERY, FIRST = 150, 10, 20
LIMIT_S = 60.0
#: A node that is down and up again before its processes are gone cannot take a job.
DOWN_S = 25.0
#: For all of them together, on a machine that has other things to do.
PATIENCE_S = 840.0


@dataclass
class Case:
    """One run and its disturbance.

    Attributes:
        how: disturbs the run; None where the wall limit does.
        notice: whether the run is told before it goes, and so loses no step.
        after: undoes what was done to the cluster.
    """

    how: Callable[[Site], None] | None
    preemption: bool
    slurm: dict[str, Any] = field(default_factory=dict)
    after: Callable[[], None] | None = None
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


def _node_up() -> None:
    if "down" in slurm("sinfo", "-h", "-n", "n3", "-o", "%T"):
        slurm("scontrol", "update", "nodename=n3", "state=resume")


def _kill_step(site: Site) -> None:
    os.kill(site.status()["pid"], signal.SIGKILL)


def _term(site: Site) -> None:
    os.kill(site.status()["pid"], signal.SIGTERM)


CASES = {
    "preempted": Case(_preempt, True, {"partition": "low", "sbatch": {"nodelist": "n1"}}),
    "requeued": Case(_requeue, True, {"sbatch": {"nodelist": "n2"}}),
    "told to stop": Case(_term, True, {"sbatch": {"nodelist": "n2"}}),
    "step killed": Case(_kill_step, False, {"sbatch": {"nodelist": "n2"}}),
    "node down": Case(_node_down, False, {"sbatch": {"nodelist": "n3"}}, _node_up),
    "wall limit": Case(None, True, {"sbatch": {"nodelist": "n2"}, "time": "1m"}),
}


@pytest.fixture(scope="module")
def undisturbed(make_site: Callable[[str], Site]) -> tuple[Path, float, float]:
    """The run that nothing happened to, and how many seconds it took to begin and to train."""
    site = make_site("undisturbed")
    path = site.write(train={"steps": STEPS, "checkpoint_every": EVERY}, launcher="local")
    start = time.monotonic()
    site.run("sweep", "submit", path.name, "workers=1")
    timings = [json.loads(line) for line in (site.runs()[0] / "timings.jsonl").read_text().splitlines()]
    training_s = sum(line["wall_s"] for line in timings)
    return site.runs()[0], time.monotonic() - start - training_s, training_s


@pytest.fixture(scope="module")
def cases(undisturbed: tuple[Path, float, float], make_site: Callable[[str], Site]) -> dict[str, Case]:
    """All runs, disturbed and finished."""
    _, begin_s, training_s = undisturbed
    # a line of set-up that uses up so much of the minute that the rest lasts for most of the training only
    idle_s = max(0, int(LIMIT_S - MARGIN_S - begin_s - 0.6 * training_s))
    for name, case in CASES.items():
        case.site = make_site(name.replace(" ", "-"))
        setup = [f"sleep {idle_s}"] if case.how is None else []
        case.site.write(
            train={"steps": STEPS, "checkpoint_every": EVERY}, slurm={**case.slurm, "setup": setup}
        )
        assert "queued 1 run as" in case.site.run("sweep", "submit", "small.yaml")
    deadline = time.monotonic() + PATIENCE_S
    while not all(_finished(case) for case in CASES.values()) and time.monotonic() < deadline:
        for case in CASES.values():
            now = case.site.status()
            if case.how and case.step is None and now["state"] == "running" and now["step"] >= FIRST:
                case.step, case.disturbed_s = now["step"], time.monotonic()
                case.how(case.site)
            if case.after and time.monotonic() > case.disturbed_s + DOWN_S:
                case.after()
                case.after = None
        time.sleep(0.1)
    return CASES


def _finished(case: Case) -> bool:
    return case.site.status()["state"] in ("done", "failed")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(CASES))
def test_goes_on_with_the_same_numbers(
    name: str, cases: dict[str, Case], undisturbed: tuple[Path, float, float]
) -> None:
    case = cases[name]
    history = "\n".join(map(str, case.site.attempts()))
    assert case.site.status()["state"] == "done", history
    own, other = numbers_of(case.site.runs()[0]), numbers_of(undisturbed[0])
    assert [key for key in other if own.get(key) != other[key]] == [] and own.keys() == other.keys()
    starts = [line for line in case.site.attempts() if line["event"] == "start"]
    assert len(starts) >= 2, f"it was never disturbed: {history}"
    # where it went on: what was saved when its second job began
    went_on = int(starts[1]["progress"].partition(",")[0].removeprefix("step-"))
    if case.preemption:
        assert went_on >= (case.step or 1), history
    else:
        assert case.step is not None and went_on >= case.step - EVERY, history
    print(f"{name}: disturbed at step {case.step}, went on from {went_on}, jobs {len(starts)}")


def test_each_went_the_way_that_was_meant(cases: dict[str, Case]) -> None:
    """The first job of each: how it ended, and who put it back into the queue."""
    first = {name: (case.site.ends() or [{}])[0] for name, case in cases.items()}
    assert "told to stop" in first["told to stop"]["what"] and not first["told to stop"]["sent_away"]
    assert "killed by signal 9" in first["step killed"]["what"]
    assert "wall limit" in first["wall limit"]["what"]
    for case in cases.values():
        wait("the end of its last job", lambda case=case: case.site.ends()[-1]["exit"] == 0)
