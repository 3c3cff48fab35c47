"""A run that is told to go leaves a checkpoint where it stands, and goes on with the same numbers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.rollout.collector import RolloutCollector
from harness.run import execute as runs
from harness.run import measures
from harness.run.checkpoints import last_checkpoint
from harness.stages.base import StepContext
from harness.train.trainer import Trainer
from harness.util.preemption import ALLOCATION_ENDS, MARGIN_S, TOLD, Preemption, Stopped
from tests.helpers.execution import Killed, configured, numbers_of
from tests.helpers.tiny import SMALL, tiny_folder


def overrides(runs_dir: Path, *more: str) -> list[str]:
    changed = ("train.steps", "eval.frontier_every", "probe.every")
    base = [s for s in SMALL if s.partition("=")[0] not in changed]
    # checkpoints far apart: what is not lost was saved on notice
    return [
        "method=entrocraft@released", f"model.path={tiny_folder()}", *base, "train.steps=6",
        "train.checkpoint_every=100", "eval.frontier_every=3", "probe.every=2", "eval.splits=[test_id]",
        f"runs_dir={runs_dir}", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arguments = overrides(tmp_path_factory.mktemp("whole"))
    Killed(arguments).finish()
    return runs.run_folder(configured(arguments))


@pytest.fixture
def signals() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python handles it before the next line


#: Where the signal comes -> (what is patched, in which step, the step of the checkpoint that is left).
PLACES: dict[str, tuple[Any, str, int, int]] = {
    "rollout": (RolloutCollector, "run_program", 2, 1),
    "update": (Trainer, "update", 3, 3),
    "after the first update": (Trainer, "reset", 4, 4),
    "probe": (measures, "probe", 4, 4),
    "frontier": (measures, "frontier", 3, 3),
}


def _step_of(argument: Any) -> int | None:
    if isinstance(argument, Trainer):
        return argument.counters.step
    return argument.step if isinstance(argument, StepContext) else None


def stop_at(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send SIGTERM when the run comes to ``place``; within the update that is after an optimiser step."""
    owner, name, step, _ = PLACES[place]
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        there = step in [_step_of(a) for a in arguments]
        if there and name != "update":
            send()
        result = original(*arguments, **named)
        if there and name == "update":
            send()
        return result

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("place", list(PLACES))
def test_told_to_stop(
    place: str, whole: Path, tmp_path: Path, signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = configured(overrides(tmp_path))
    folder, preemption = runs.run_folder(run), Preemption()
    preemption.listen()
    with monkeypatch.context() as patch:
        stop_at(place, patch)
        with pytest.raises(Stopped, match=TOLD):
            runs.execute(run, preemption=preemption)
    assert runs.status(folder)["state"] == "preempted" and TOLD in runs.status(folder)["error"][0]
    left = last_checkpoint(folder / "checkpoints")
    assert left is not None and left["counters"]["step"] == PLACES[place][3]
    runs.execute(run)
    own, other = numbers_of(folder), numbers_of(whole)
    assert [name for name in other if own.get(name) != other[name]] == [] and own.keys() == other.keys()


def test_stopped_in_the_evaluation(
    whole: Path, tmp_path: Path, signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, preemption = configured(overrides(tmp_path)), Preemption()
    preemption.listen()
    original: Callable[..., Any] = measures.evaluate_problems

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if named.get("on_progress"):
            send()
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(measures, "evaluate_problems", wrapped)
        with pytest.raises(Stopped):
            runs.execute(run, preemption=preemption)
    folder = runs.run_folder(run)
    assert runs.status(folder)["phase"].startswith("evaluate")
    runs.execute(run)
    assert numbers_of(folder) == numbers_of(whole)


def test_no_step_is_begun_that_the_allocation_does_not_last_for(tmp_path: Path, signals: None) -> None:
    run = configured(overrides(tmp_path, "train.steps=4"))
    preemption = Preemption(time.time() + MARGIN_S + 60)
    for kind, taken_s in (("step", 3000.0), ("save", 1.0)):
        preemption._times[kind].append(taken_s)
    with pytest.raises(Stopped, match=ALLOCATION_ENDS):
        runs.execute(run, preemption=preemption)
    left = last_checkpoint(runs.run_folder(run) / "checkpoints")
    assert left is not None and left["counters"]["step"] == 0


def test_the_end_of_the_allocation_stops_a_run_in_time(signals: None) -> None:
    preemption = Preemption(time.time() + MARGIN_S + 0.3)
    with preemption.timed("save"):
        pass
    preemption.listen()
    start = time.monotonic()
    with pytest.raises(Stopped, match=ALLOCATION_ENDS), preemption.leaving():
        time.sleep(20)
    assert time.monotonic() - start < 5


def test_an_early_announcement_waits_where_the_end_is_known(signals: None) -> None:
    known, unknown = Preemption(time.time() + 3600), Preemption()
    known.listen()
    send(signal.SIGUSR2)
    known.check()
    unknown.listen()
    send(signal.SIGUSR2)
    with pytest.raises(Stopped, match=ALLOCATION_ENDS):
        unknown.check()


def test_a_second_signal_does_not_disturb_the_leaving(signals: None) -> None:
    preemption = Preemption()
    preemption.listen()
    cleaned = False
    with pytest.raises(Stopped), preemption.leaving():
        try:
            send()
        finally:
            send()
            cleaned = True
    assert cleaned
