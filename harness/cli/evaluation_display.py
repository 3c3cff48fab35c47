"""What a person sees while samples are drawn: a bar on a terminal, a line now and then everywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from harness.evaluation.draw import Progress
from harness.sweep.live import REDRAW_S
from harness.util.progress import HEARTBEAT_S, Event, Phase, duration, listening, phase


class EvaluationDisplay:
    """Shows the progress of one benchmark and sampling; a context manager."""

    def __init__(self, label: str) -> None:
        self._label, self._start, self._last = label, time.monotonic(), time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._stack, self._known, self._drawn_s = ExitStack(), "no sample finished", 0.0

    def __enter__(self) -> EvaluationDisplay:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"),
                TimeRemainingColumn(), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self._label, total=None, said="")
            self._bar.start()
        self._stack.enter_context(listening(self._hear))
        self._stack.enter_context(phase(self._label))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if self._bar is not None:
            self._bar.stop()

    def _hear(self, phase: Phase, event: Event) -> None:
        """Speak while responses that are drawn side by side go on, and none of them is finished."""
        if event != "tell" or not phase.at_work:
            return
        now, said = time.monotonic(), f"{self._known}; {phase.at_work} at work have ended"
        if self._bar is not None and now - self._drawn_s >= REDRAW_S:
            self._drawn_s = now
            self._bar.update(self._task, said=said)
        elif self._bar is None and now - self._last >= HEARTBEAT_S:
            self._last = now
            print(f"{self._label}: {said}", flush=True)

    def __call__(self, progress: Progress) -> None:
        now, self._known = time.monotonic(), self.sentence(progress)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=progress.samples_done, total=progress.samples, said=self._known
            )
        elif now - self._last >= HEARTBEAT_S:
            self._last = now
            print(f"{self._label}: {self._known}", flush=True)

    def sentence(self, progress: Progress) -> str:
        """``12/30 problems, 812 of 1920 samples, 5310 tokens/s, accuracy 0.412``."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        parts = [
            f"{progress.problems_done}/{progress.problems} problems",
            f"{progress.samples_done} of {progress.samples} samples",
            f"{progress.tokens / seconds:.0f} tokens/s",
        ]
        if progress.samples_done:
            parts.append(f"accuracy {progress.right / progress.samples_done:.3f}")
        if self._bar is None and progress.drawn:
            left = (progress.samples - progress.samples_done) * seconds / progress.drawn
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)
