"""The life of a run inside its folder: train with checkpoints, probe, frontier, evaluation, result."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.config.schema import RunConfig
from harness.distributed.world import world
from harness.evaluation.in_run import evaluation_tokens
from harness.problems.problem import Benchmark
from harness.records.record import RunResult
from harness.rollout.progress import Counters
from harness.rollout.settings import check_stages
from harness.run import measures
from harness.run.best import load_best
from harness.run.checkpoints import Checkpoints, newest, step_of
from harness.run.fine_tuning import phase_of
from harness.run.prompts import Fitting
from harness.run.remaining import Pace, work_left
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
    tuned = _fine_tuned(run, folder, status, preemption) if run.sft.steps else None
    with preemption.leaving():
        trainer = _opened(run, folder)
    with closing(trainer.rollouts.sampler):
        with phase("look for a finished training", announce=True):
            trained_by = world().run_on_main(lambda: take_over(run, folder))
        life = _Life.of(trainer, folder, status, preemption)
        life.begin(tuned)
        with tracked(run, folder) as tracking:
            life.train(tracking, evaluation_tokens(run) if evaluate else 0)
            result = life.evaluate(evaluate, trained_by)
            if result is not None:
                tracking.summarise(result)
    return result


@dataclass(frozen=True)
class _Tuned:
    """What the steps on demonstrations leave to those that follow."""

    weights: Mapping[str, Any]
    counters: Counters
    sizes: frozenset[int]


def _fine_tuned(run: RunConfig, folder: Path, status: Status, preemption: Preemption) -> _Tuned | None:
    """Take the steps on demonstrations that are left; None where the run is past them.

    A checkpoint up to their last step is of this phase, a later one of the next.
    """
    check_stages(run, run.method.stages().of_step())  # now, not when all of this is done
    with phase("look for a finished training", announce=True):
        world().run_on_main(lambda: take_over(run, folder))
        reached = world().run_on_main(lambda: newest(folder / "checkpoints"))
    if reached is not None and step_of(reached) > run.sft.steps:
        return None
    with preemption.leaving():
        trainer = _opened(phase_of(run), folder)
    with closing(trainer.rollouts.sampler):
        life = _Life.of(trainer, folder, status, preemption)
        life.begin()
        with tracked(run, folder) as tracking:
            life.train(tracking, called="sft")
    return _Tuned(trainer.policy.weights(), trainer.counters, frozenset(trainer.sizes))


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
    if trainer.demonstrations is not None and _tells(folder):
        for line in trainer.demonstrations.told:
            print(f"entrobench: {line}", file=sys.stderr, flush=True)
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
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def of(cls, trainer: Trainer, folder: Path, status: Status, preemption: Preemption) -> _Life:
        """That of ``trainer`` in ``folder``, with its checkpoints."""
        logs = [folder / "metrics.jsonl", folder / "timings.jsonl"]
        checkpoints = Checkpoints(trainer, folder, logs, keep=trainer.run.train.keep_checkpoints)
        return cls(trainer, folder, status, checkpoints, preemption)

    def begin(self, tuned: _Tuned | None = None) -> None:
        """Go on from the last checkpoint, with what was still to be done there; or measure step 0.

        Args:
            tuned: start from this; the last checkpoint is that of the phase before.
        """
        if tuned is not None:
            self.trainer.begin_at(tuned.weights, tuned.counters)
            self.trainer.sizes |= tuned.sizes
            self.checkpoints.written_at(self.trainer.counters.step)
            return
        with phase("read checkpoint", announce=True):
            pending = self.checkpoints.restore()
        if pending is None:
            pending = {"metrics": {"generated_tokens": 0}}
        if pending:
            self._finish_step(pending)

    def train(self, tracking: Copy, to_evaluate: int = 0, called: str = "train") -> None:
        """Take the steps that are left; the status calls this ``called``, and ``to_evaluate`` tokens may be
        drawn after them."""
        trainer, counters = self.trainer, self.trainer.counters
        left = partial(
            work_left, trainer.run, frontier_responses=measures.frontier_responses(trainer),
            evaluation_tokens=to_evaluate,
        )  # fmt: skip
        self.status.write(state="running", phase=called, step=counters.step)
        while not trainer.finished():
            row = self._finish_step(self._step())
            tracking.send(row)
            eta_s = self.pace.left_s(left(counters.step, counters.generated_tokens))
            self.status.write(
                state="running", phase=called, step=counters.step,
                generated_tokens=counters.generated_tokens, eta_s=round(eta_s, 1),
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
        self.pace.add("step", wall_s)
        run = trainer.run
        rows = run.rollout.prompts_per_step * run.rollout.group_size
        self.pace.add("rollout", trainer.clock.seconds["rollout"], rows * run.rollout.max_response_tokens)
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
                    with self.pace.timed("probe") as took:
                        metrics |= measures.probe(trainer)
                        took(run.probe.prompts * run.probe.samples * run.rollout.max_response_tokens)
                if step % run.eval.frontier_every == 0 or last:
                    with self.pace.timed("frontier") as took:
                        responses = measures.frontier(trainer, self.folder)
                        took(responses * run.rollout.max_response_tokens)
            trainer.rollouts.sampler.rest()
        except Stopped:
            self.checkpoints.save(pending=done)
            raise
        row = {"step": step, **metrics}
        _append(self.folder / "metrics.jsonl", row)
        if "timing" in done:
            _append(self.folder / "timings.jsonl", {"step": step, **done["timing"]})
        if step % run.train.checkpoint_every == 0 or last:
            with (
                self.preemption.timed("save"), self.pace.timed("save"),
                phase("save checkpoint", announce=True),
            ):  # fmt: skip
                self.checkpoints.save()
        return row


def _append(path: Path, row: dict[str, Any]) -> None:
    if not world().is_main:
        return
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, sort_keys=True) + "\n")
