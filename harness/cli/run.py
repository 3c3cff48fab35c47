"""``entrobench train`` and ``entrobench eval``: one run, in this process or in several that share it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from harness.cli.liveline import LiveLine
from harness.cli.worker import end_with_parent, locked_together
from harness.config.hydra import parse
from harness.distributed.launch import ANOTHER_ALLOCATION, INTERRUPTED, TOLD_TO_STOP, in_child, launch
from harness.distributed.processes import launched_size
from harness.distributed.world import joined
from harness.records.record import RunResult
from harness.rollout.engines.base import EngineDied
from harness.run import execute as runs
from harness.run.compose import from_dict
from harness.run.state import state_of
from harness.statistics import mean_pass_at_ks, printable_ks
from harness.sweep.jobs import Runs
from harness.sweep.live import number, sentence
from harness.sweep.plan import table_name
from harness.train.processes import local_size
from harness.util.errors import UserError
from harness.util.files import read_json
from harness.util.locks import holder, lock_path, locked
from harness.util.preemption import Preemption
from harness.util.progress import HEARTBEAT_S, duration

Event = Callable[[dict[str, Any]], None]


def train(overrides: Sequence[str]) -> int:
    """Train and evaluate the run that ``overrides`` describe."""
    backend = Runs()
    run = backend.compose(parse(overrides))
    return _execute(run, backend.folder(run), ["train", *overrides])


def evaluate(folder: str) -> int:
    """Finish the run in ``folder``: its evaluation, and its training where that is not complete."""
    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise UserError(f"{folder} is not a run folder (no config.json in it)")
    raw = read_json(path / "config.json")["config"]
    run = from_dict(raw | {"runs_dir": str(path.resolve().parent)})
    now = Runs().folder(run)
    if now.name != path.resolve().name:
        raise UserError(
            f"{path.name} was made by other code or data (the same settings are now {now.name}); "
            "check that version out to evaluate it"
        )
    return _execute(run, now, ["eval", folder])


def _execute(run: Any, folder: Path, words: Sequence[str]) -> int:
    """Carry out the run in this process, or by ``entrobench *words`` in as many as it asks for."""
    processes = local_size(run)
    if processes > 1:
        code = launch(words, processes=processes, folder=folder, threads=run.train.threads)
        if code in (ANOTHER_ALLOCATION, INTERRUPTED, TOLD_TO_STOP):
            raise KeyboardInterrupt
        return code
    if launched_size() > 1:
        return in_child(lambda: _share(run, folder))
    return _alone(run, folder)


def _share(run: Any, folder: Path) -> int:
    """Carry out the run as one of several processes."""
    from harness.run.set_up import device_of

    preemption = Preemption.from_environment()
    preemption.listen(interrupts=True)
    end_with_parent()
    with ExitStack() as stack:
        here = stack.enter_context(joined(device_of(run), preemption))
        stack.enter_context(locked_together(folder, here, wait=False))
        shown = _display(table_name(run.method_name), run.seed) if here.is_main else nullcontext(None)
        with shown as on_event:
            runs.execute(run, on_event=on_event, preemption=preemption)
        if here.is_main:
            show_result(runs.result(folder), folder)
    return 0


def _alone(run: Any, folder: Path) -> int:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would run through our own display
    with locked(lock_path(folder), wait=False) as ours:
        if not ours:
            raise UserError(f"process {holder(lock_path(folder))} is working on {folder}")
        try:
            with _display(table_name(run.method_name), run.seed) as on_event:
                runs.execute(run, on_event=on_event)
        except EngineDied as error:
            print(f"entrobench: {error}; the same command goes on from the last checkpoint", file=sys.stderr)
            return 1
    show_result(runs.result(folder), folder)
    return 0


def _display(label: str, seed: int) -> AbstractContextManager[Event]:
    """A live line on a terminal, else a line now and then."""
    if sys.stdout.isatty():
        return LiveLine(label)
    last = [0.0]

    def heartbeat(status: dict[str, Any]) -> None:
        if time.monotonic() - last[0] >= HEARTBEAT_S or status.get("state") == "failed":
            last[0] = time.monotonic()
            print(f"{label} seed {seed}: {sentence(state_of(status, str(status.get('state'))))}", flush=True)

    return nullcontext(heartbeat)


def show_result(result: RunResult, folder: Path) -> None:
    """The scores of a finished run, a line per set."""
    budget = result.budget
    wall = duration(budget.wall_s)
    print(f"{result.run_id}: {budget.steps} steps, {budget.generated_tokens} tokens, {wall}")
    for name, scores in sorted(result.evals.items()):
        passes = scores.for_pass
        ks = printable_ks(passes.n)
        values = [
            *mean_pass_at_ks(scores.n, scores.correct, ks[:1]),
            *mean_pass_at_ks(passes.n, passes.correct, ks[1:]),
        ]
        print(
            f"  {name}: " + ", ".join(f"pass@{k} {number(float(v))}" for k, v in zip(ks, values, strict=True))
        )
    probed = [probe.entropy_nats for probe in result.probe if probe.entropy_nats is not None]
    if probed:
        ends = [number(probed[i]) for i in (0, -1)]
        print(f"  probe entropy: {ends[0]} -> {ends[1]} nats")
    print(f"  folder: {folder}")
