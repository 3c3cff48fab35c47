"""``entrobench train`` and ``entrobench eval``: one run, in this process or in several that share it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.processes import launched_size, local_size
from harness.sweep.live import HEARTBEAT_S, duration, number, sentence
from harness.sweep.plan import table_name
from harness.sweep.state import holder, lock_path, locked, state_of

Event = Callable[[dict[str, Any]], None]


def train(overrides: Sequence[str]) -> int:
    """Train and evaluate the run that ``overrides`` describe."""
    from harness.sweep.jobs import Runs

    backend = Runs()
    run = backend.compose(list(overrides))
    return _execute(run, backend.folder(run), ["train", *overrides])


def evaluate(folder: str) -> int:
    """Finish the run in ``folder``: its evaluation, and its training where that is not complete."""
    from harness import catalog
    from harness.config import from_dict
    from harness.files import read_json

    path = Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise UserError(f"{folder} is not a run folder (no config.json in it)")
    raw = read_json(path / "config.json")["config"]
    run = from_dict(raw | {"runs_dir": str(path.resolve().parent)}, catalog.methods().load)
    from harness.sweep.jobs import Runs

    now = Runs().folder(run)
    if now.name != path.resolve().name:
        raise UserError(
            f"{path.name} was made by other code or data (the same settings are now {now.name}); "
            "check that version out to evaluate it"
        )
    return _execute(run, now, ["eval", folder])


def export(run: str, folder: str, checkpoint: str) -> int:
    """Write a checkpoint of the run in folder ``run`` the Hugging Face way."""
    from harness import export as exporting

    target = Path(folder).expanduser()
    step = exporting.export(Path(run).expanduser(), target, checkpoint=checkpoint)
    print(f"{target}: the weights after step {step}" if step else f"{target}: the weights before training")
    return 0


def _execute(run: Any, folder: Path, words: Sequence[str]) -> int:
    """Carry out the run in this process, or by ``entrobench *words`` in as many as it asks for."""
    processes = local_size(run)
    if processes > 1:
        from harness.launch import ANOTHER_ALLOCATION, INTERRUPTED, TOLD_TO_STOP, launch

        code = launch(words, processes=processes, folder=folder, threads=run.train.threads)
        if code in (ANOTHER_ALLOCATION, INTERRUPTED, TOLD_TO_STOP):
            raise KeyboardInterrupt
        return code
    if launched_size() > 1:
        from harness.launch import in_child

        return in_child(lambda: _share(run, folder))
    return _alone(run, folder)


def _share(run: Any, folder: Path) -> int:
    """Carry out the run as one of several processes."""
    from harness import runs
    from harness.cli.worker import end_with_parent, locked_together
    from harness.notice import Notice
    from harness.opening import device_of
    from harness.parallel import joined

    notice = Notice.from_environment()
    notice.listen(interrupts=True)
    end_with_parent()
    with ExitStack() as stack:
        here = stack.enter_context(joined(device_of(run), notice))
        stack.enter_context(locked_together(folder, here, wait=False))
        shown = _display(table_name(run.method_name), run.seed) if here.leads else nullcontext(None)
        with shown as on_event:
            runs.execute(run, on_event=on_event, notice=notice)
        if here.leads:
            show_result(runs.result(folder), folder)
    return 0


def _alone(run: Any, folder: Path) -> int:
    from transformers.utils.logging import disable_progress_bar

    from harness import runs
    from harness.engines.base import EngineDied

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
        from harness.cli.liveline import LiveLine

        return LiveLine(label)
    last = [0.0]

    def heartbeat(status: dict[str, Any]) -> None:
        if time.monotonic() - last[0] >= HEARTBEAT_S or status.get("state") == "failed":
            last[0] = time.monotonic()
            print(f"{label} seed {seed}: {sentence(state_of(status, str(status.get('state'))))}", flush=True)

    return nullcontext(heartbeat)


def show_result(record: dict[str, Any], folder: Path) -> None:
    """The scores of a finished run, a line per set."""
    from harness.statistics import mean_pass_at_ks, printable_ks

    budget = record.get("budget", {})
    wall = duration(budget.get("wall_s"))
    print(f"{record['run_id']}: {budget.get('steps')} steps, {budget.get('generated_tokens')} tokens, {wall}")
    for name, scores in sorted(record.get("evals", {}).items()):
        passes = scores.get("pass") or scores  # a profile may draw samples of its own for k > 1
        ks = printable_ks(passes["n"])
        values = [
            *mean_pass_at_ks(scores["n"], scores["correct"], ks[:1]),
            *mean_pass_at_ks(passes["n"], passes["correct"], ks[1:]),
        ]
        print(
            f"  {name}: " + ", ".join(f"pass@{k} {number(float(v))}" for k, v in zip(ks, values, strict=True))
        )
    probe = record.get("probe") or []
    if probe:
        ends = [number(float(probe[i]["entropy_nats"])) for i in (0, -1)]
        print(f"  probe entropy: {ends[0]} -> {ends[1]} nats")
    print(f"  folder: {folder}")
