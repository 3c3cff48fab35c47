"""When a run has to go: a signal that says so, or the end of its allocation.

A run may be left at any moment of sampling and evaluation, but not between its first optimiser step and the
end of the training step. So a signal takes effect at once inside :meth:`Preemption.leaving`, and elsewhere as
soon as the next such place is reached.

Several processes that train together have to leave at the same place: there a signal interrupts only what a
process does by itself (:meth:`Preemption.run_locally`), and all of them agree before they go.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Kept of the allocation for ending the process after the last checkpoint.
MARGIN_S = 10.0
#: Measured times are those of the last few of a kind; the longest counts.
REMEMBERED = 8
#: Environment variable with the end of the allocation, seconds since the epoch.
END = "ENTROBENCH_END_UNIX_S"
TOLD, ALLOCATION_ENDS = "told to stop", "its allocation ends"


class Stopped(KeyboardInterrupt):
    """The run was left in good order and can go on later; the message says why."""


class Preemption:
    """Whether the run has to go, and what is known about the time that it has left.

    Args:
        end_unix_s: when the allocation ends; None when it does not, or nothing is known.
    """

    def __init__(self, end_unix_s: float | None = None) -> None:
        self.reason = ""
        self.listening = False
        self._end_unix_s = end_unix_s
        self._open = False
        self._run_locally = True
        self._agree: Callable[[str], str] | None = None
        self._times: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    @classmethod
    def from_environment(cls) -> Preemption:
        end = os.environ.get(END)
        return cls(float(end) if end else None)

    def listen(self, *, interrupts: bool = False) -> None:
        """Take SIGTERM (go now) and SIGUSR2 (the allocation ends soon) from here on.

        Args:
            interrupts: SIGINT means the same as SIGTERM, as it must where all of several processes get it.
        """
        self.listening = True
        if interrupts:
            signal.signal(signal.SIGINT, self._told)
        signal.signal(signal.SIGTERM, self._told)
        signal.signal(signal.SIGUSR2, self._ends)
        if self._end_unix_s is not None:
            threading.Thread(target=self._await_end, daemon=True).start()

    def together(self, agree: Callable[[str], str] | None) -> None:
        """From here on every decision to leave is one of several processes.

        Args:
            agree: gives all processes the first reason that one of them has, ``""`` when none has any; they
                all have to call it. None: this process is alone again.
        """
        self._agree, self._run_locally = agree, agree is None

    def check(self) -> None:
        """Raise :class:`Stopped` if the run has to go."""
        why = self._agree(self.reason) if self._agree else self.reason
        if why:
            self.reason = why
            raise Stopped(why)

    @contextmanager
    def run_locally(self) -> Iterator[None]:
        """What this process does while no other waits for it: here a signal may raise at once."""
        before, self._run_locally = self._run_locally, True
        try:
            if self._open and self.reason:
                raise Stopped(self.reason)
            yield
        finally:
            self._run_locally = before

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Code that may be left at any moment: here a signal raises :class:`Stopped` at once."""
        before, self._open = self._open, True
        try:
            self.check()
            yield
        finally:
            self._open = before

    def stay(self) -> None:
        """From here to the end of the innermost :meth:`leaving` the code must not be left."""
        if self._open and self._agree:
            self.check()  # a last time
        self._open = False

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Measure ``what`` for :meth:`room_for`."""
        start = time.monotonic()
        yield
        self._times[what].append(time.monotonic() - start)

    def expected_s(self, *kinds: str) -> float:
        """What the kinds of work take together, as measured; 0 for what has not been measured."""
        return sum(max(self._times[kind], default=0.0) for kind in kinds)

    def room_for(self, *kinds: str) -> bool:
        """Whether the allocation lasts for these kinds of work and for ending the process."""
        there_is = self._end_unix_s is None or self.left_s() > self.expected_s(*kinds)
        return not self._agree("" if there_is else ALLOCATION_ENDS) if self._agree else there_is

    def left_s(self) -> float:
        """Seconds until the process should end."""
        return float("inf") if self._end_unix_s is None else self._end_unix_s - time.time() - MARGIN_S

    def _told(self, number: int, frame: FrameType | None) -> None:
        self._stop(TOLD)

    def _ends(self, number: int, frame: FrameType | None) -> None:
        # The cluster's own announcement comes up to a minute early; where the end is known, that decides.
        if self._end_unix_s is None or self.left_s() <= self.expected_s("save"):
            self._stop(ALLOCATION_ENDS)

    def _stop(self, reason: str) -> None:
        self.reason = self.reason or reason
        if self._open and self._run_locally:
            self._open = False  # what is being cleaned up must not be left by a second signal
            raise Stopped(self.reason)

    def _await_end(self) -> None:
        while self.left_s() > self.expected_s("save"):
            time.sleep(min(1.0, max(0.05, self.left_s() - self.expected_s("save"))))
        os.kill(os.getpid(), signal.SIGUSR2)
