"""The life of a run inside its folder: train with checkpoints, probe, frontier, evaluation, result."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.distributed.world import world
from harness.problems.problem import Benchmark
from harness.records.record import RunResult
from harness.run import measures
from harness.run.best import load_best
from harness.run.checkpoints import Checkpoints
from harness.run.prompts import Fitting
from harness.run.result import run_result
from harness.run.reuse import take_over
from harness.run.set_up import open_run, stages_of
from harness.run.status import Status
from harness.run.tracking import Copy, tracked
from harness.train.trainer import Trainer
from harness.util.preemption import ALLOCATION_ENDS, Preemption, Stopped
from harness.util.progress import phase


def train_and_evaluate(
    run: RunConfig, folder: Path, status: Status, *, evaluate: bool, preemption: Preemption
) -> RunResult | None:
    """Train from the last checkpoint on, then evaluate; returns the result, on the first process.

    Raises:
        Stopped: the run had to go; it goes on from where it was when it is started again.
    """
    with preemption.leaving():
        trainer = _opened(run, folder)
    with closing(trainer.rollouts.sampler):
        with phase("look for a finished training", announce=True):
            trained_by = world().run_on_main(lambda: take_over(run, folder))
        logs = [folder / "metrics.jsonl", folder / "timings.jsonl"]
        checkpoints = Checkpoints(trainer, folder, logs, keep=run.train.keep_checkpoints)
        life = _Life(trainer, folder, status, checkpoints, preemption)
        life.begin()
        with tracked(run, folder) as tracking:
            life.train(tracking)
            result = life.evaluate(evaluate, trained_by)
            if result is not None:
                tracking.summarise(result)
    return result


def evaluate_only(
    run: RunConfig, folder: Path, status: Status, *, preemption: Preemption
) -> RunResult | None:
    """Frontier point 0, probe and evaluation of the untrained model: the control ``base``."""
    with preemption.leaving():
        trainer = _opened(run, folder)
        with closing(trainer.rollouts.sampler):
            return _measured_untrained(trainer, folder, status)


def _opened(run: RunConfig, folder: Path) -> Trainer:
    policy, benchmark = open_run(run)
    _tell_of_prompts(benchmark, folder)
    with phase("set up training", announce=True):
        trainer = Trainer(run, policy, benchmark, stages_of(run))
    if (why := trainer.passes_itself) and _tells(folder):
        print(f"entrobench: log-probs before the update take a pass of their own: {why}", file=sys.stderr)
    return trainer


def _tells(folder: Path) -> bool:
    """Whether this process says what is to be said once, at the run's first start."""
    return world().is_main and not (folder / "metrics.jsonl").exists()


def _tell_of_prompts(benchmark: Benchmark, folder: Path) -> None:
    """Say what is left out, at the run's first start."""
    if isinstance(benchmark, Fitting) and _tells(folder):
        for line in benchmark.told:
            print(f"entrobench: {line}", file=sys.stderr, flush=True)


def _measured_untrained(trainer: Trainer, folder: Path, status: Status) -> RunResult | None:
    metrics_file = folder / "metrics.jsonl"
    if world().is_main:
        metrics_file.unlink(missing_ok=True)
    _append(metrics_file, {"step": 0, "generated_tokens": 0, **measures.probe(trainer)})
    measures.frontier(trainer, folder)
    evals = measures.evaluate(trainer, folder)
    known = {"run_id": folder.name, "role": "base", "method": "base", "activity": None}
    return run_result(trainer, folder, evals, status, 0, **known)


@dataclass(frozen=True)
class _Life:
    """A trainer with all that keeps a run's work: its folder, status and checkpoints, and when to go."""

    trainer: Trainer
    folder: Path
    status: Status
    checkpoints: Checkpoints
    preemption: Preemption

    def begin(self) -> None:
        """Go on from the last checkpoint, with what was still to be done there; or measure step 0."""
        with phase("read checkpoint", announce=True):
            pending = self.checkpoints.restore()
        if pending is None:
            pending = {"metrics": {"generated_tokens": 0}}
        if pending:
            self._finish_step(pending)

    def train(self, tracking: Copy) -> None:
        """Take the steps that are left."""
        counters = self.trainer.counters
        self.status.write(state="running", phase="train", step=counters.step)
        while not self.trainer.finished():
            row = self._finish_step(self._step())
            tracking.send(row)
            self.status.write(
                state="running", phase="train", step=counters.step,
                generated_tokens=counters.generated_tokens, eta_s=round(self._eta_s(), 1),
                **{k: row[k] for k in ("reward", "accuracy", "entropy", "probe_entropy") if k in row},
            )  # fmt: skip

    def evaluate(self, wanted: bool, trained_by: str) -> RunResult | None:
        """The result, of the last weights or the best ones; without test sets unless ``wanted``."""
        trainer, last = self.trainer, self.trainer.counters.step
        self.status.write(state="running", phase="evaluate", step=last)
        with self.preemption.leaving():
            evaluated = last
            if trainer.run.eval.weights == "best":
                with phase("load the best weights", announce=True):
                    evaluated = load_best(trainer.policy, self.folder)["step"]
            trainer.rollouts.sampler.outdated()
            evals = measures.evaluate(trainer, self.folder) if wanted else {}
            return run_result(trainer, self.folder, evals, self.status, evaluated, trained_by=trained_by)

    def _step(self) -> dict[str, Any]:
        """One training step, left before its first update when the run has to go."""
        trainer, checkpoints, preemption = self.trainer, self.checkpoints, self.preemption
        if not preemption.room_for("step", "save"):
            checkpoints.save(rest=checkpoints.rest())
            raise Stopped(ALLOCATION_ENDS)
        before = checkpoints.rest() if preemption.listening else {}
        hook = trainer.optimizer.register_step_pre_hook(lambda *_: preemption.stay())
        start = self.status.elapsed_s
        try:
            with preemption.timed("step"), preemption.leaving():
                metrics = trainer.step()
        except Stopped:
            checkpoints.save(rest=before)
            raise
        finally:
            hook.remove()
        wall_s = self.status.elapsed_s - start
        return {"metrics": metrics, "timing": {"wall_s": wall_s, **trainer.clock.seconds}}

    def _finish_step(self, done: dict[str, Any]) -> dict[str, Any]:
        """Probe, frontier, log and checkpoint, as they are due; returns the logged row.

        A run that has to go while it samples the probe or the frontier keeps what is still to be done.
        """
        trainer, run = self.trainer, self.trainer.run
        step, last = trainer.counters.step, trainer.finished()
        metrics: dict[str, Any] = done["metrics"]
        try:
            with self.preemption.leaving():
                if (step % run.probe.every == 0 or last) and "probe_entropy" not in metrics:
                    metrics |= measures.probe(trainer)
                if step % run.eval.frontier_every == 0 or last:
                    measures.frontier(trainer, self.folder)
            trainer.rollouts.sampler.rest()
        except Stopped:
            self.checkpoints.save(pending=done)
            raise
        row = {"step": step, **metrics}
        _append(self.folder / "metrics.jsonl", row)
        if "timing" in done:
            _append(self.folder / "timings.jsonl", {"step": step, **done["timing"]})
        if step % run.train.checkpoint_every == 0 or last:
            with self.preemption.timed("save"), phase("save checkpoint", announce=True):
                self.checkpoints.save()
        return row

    def _eta_s(self) -> float:
        """Seconds of training left, from the share of the budget used so far."""
        train, counters = self.trainer.run.train, self.trainer.counters
        done = counters.step / train.steps
        if train.token_budget:
            done = max(done, counters.generated_tokens / train.token_budget)
        return self.status.elapsed_s * (1 - min(done, 1.0)) / max(done, 1e-9)


def _append(path: Path, row: dict[str, Any]) -> None:
    if not world().is_main:
        return
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, sort_keys=True) + "\n")
