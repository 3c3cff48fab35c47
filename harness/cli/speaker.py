"""Lines on standard error about what takes long, for commands that have no display of their own for it."""

from __future__ import annotations

import sys
import time
from threading import Timer

from harness.util.progress import HEARTBEAT_S, Event, Phase, duration

#: Seconds that what announces itself may take before it is worth a line.
QUIET_S = 3.0


class Speaker:
    """A listener of :mod:`harness.util.progress`: what announces itself and is not over soon, then a line now
    and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._waits: Timer | None = None

    def __call__(self, phase: Phase, event: Event) -> None:
        if event == "end" and self._waits is not None:
            self._waits.cancel()
        elif event == "begin" and phase.announce:
            self._waits = Timer(QUIET_S, lambda: self._say(phase))
            self._waits.daemon = True
            self._waits.start()
        elif event == "tell" and time.monotonic() - self._last >= HEARTBEAT_S:
            self._say(phase)

    def _say(self, phase: Phase) -> None:
        self._last = time.monotonic()
        counts = f" {phase.done}/{phase.total} {phase.unit}" if phase.total else ""
        left = f", {duration(phase.left_s)} left" if phase.left_s is not None else ""
        print(f"entrobench: {phase.name}{counts}{left}", file=sys.stderr, flush=True)
