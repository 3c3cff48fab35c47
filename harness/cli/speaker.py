"""Lines on standard error about what takes long, for commands that have no display of their own for it."""

from __future__ import annotations

import sys
import time

from harness.util.progress import Event, Phase


class Speaker:
    """A listener of :mod:`harness.util.progress`: what announces itself, then a line now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, phase: Phase, event: Event) -> None:
        from harness.sweep.live import HEARTBEAT_S, duration

        now = time.monotonic()
        if event == "end" or not (phase.announce and event == "begin" or now - self._last >= HEARTBEAT_S):
            return
        self._last = now
        counts = f" {phase.done}/{phase.total} {phase.unit}" if phase.total else ""
        left = f", {duration(phase.left_s)} left" if phase.left_s is not None else ""
        print(f"entrobench: {phase.name}{counts}{left}", file=sys.stderr, flush=True)
