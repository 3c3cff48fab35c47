"""What long work says of itself while it goes on: the phase it is in, how much of it is done, what is left.

The code that works opens a phase and tells now and then how far it is; whoever carries the work out listens
and decides what is shown and how often. Where nobody listens, telling costs a look at two variables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Event = Literal["begin", "tell", "end"]
Listener = Callable[["Phase", Event], None]
#: Seconds between two lines about the same work, where nothing is redrawn.
HEARTBEAT_S = 30.0
#: A share below this says too little about the time that is left.
_LEAST_SHARE = 0.005


class Phase:
    """One phase: ``total`` units in all, of which some are done and a part is at work.

    Attributes:
        name: what is done, e.g. ``frontier``.
        total: units in all; 0 where they are not counted.
        unit: what is counted, in the plural.
        note: what is done about the part at work.
        announce: it may take long without a word, so its beginning is worth one.
        began_s: when it began, by the monotonic clock.
    """

    def __init__(self, name: str, total: int, unit: str, announce: bool, listener: Listener) -> None:
        self.name, self.total, self.unit, self.announce = name, total, unit, announce
        self.note, self.began_s = "", time.monotonic()
        self._listener = listener
        self._done = self._found = self._part = 0
        self._finished = self._share = 0.0
        self._low, self._high = 0.0, 1.0

    @property
    def done(self) -> int:
        """Units that are done, those of the part at work included."""
        return min(self._done + int(self._part * self._finished), self.total)

    @property
    def at_work(self) -> str:
        """How far the part at work is: ``12 of 64``; empty without one."""
        return f"{int(self._part * self._finished)} of {self._part}" if self._part else ""

    @property
    def left_s(self) -> float | None:
        """Seconds left at the pace so far, None while there is none; what was there before does not count."""
        share = (self._done - self._found + self._part * self._share) / max(self.total - self._found, 1)
        if not self.total or share < _LEAST_SHARE:
            return None
        return (time.monotonic() - self.began_s) * max(1.0 - share, 0.0) / share

    def say(self, event: Event) -> None:
        """Pass ``event`` on to the listener."""
        self._listener(self, event)

    def begin_part(self, units: int) -> None:
        """A part of ``units`` is begun."""
        self._part, self._finished, self._share, self.note = units, 0.0, 0.0, ""

    def advance(self, done: float, share: float) -> None:
        """Of the part at work this share of the units, and of the work, is done."""
        width = self._high - self._low
        self._finished, self._share = self._low + width * done, self._low + width * share

    def settle(self, units: int, *, found: bool) -> None:
        """Add ``units`` to what is done, in the place of the part at work."""
        self.begin_part(0)
        self._done += units
        self._found += units if found else 0

    def reach(self, units: int, found: int) -> None:
        """``units`` are done in all, unless more were told already; ``found`` of them were there before."""
        self._found = found
        if units >= self.done:
            self._done = units
            self.begin_part(0)

    @contextmanager
    def window(self, low: float, high: float) -> Iterator[None]:
        """What is told inside is about this share of the part at work."""
        before = self._low, self._high
        width = before[1] - before[0]
        self._low, self._high = before[0] + width * low, before[0] + width * high
        try:
            yield
        finally:
            self._low, self._high = before


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_phase: ContextVar[Phase | None] = ContextVar("phase", default=None)
_meanwhile: ContextVar[Callable[[], None] | None] = ContextVar("meanwhile", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` with the phase at work whenever one begins, tells or ends."""
    token, outer = _listener.set(listener), _phase.set(None)
    try:
        yield
    finally:
        _phase.reset(outer)
        _listener.reset(token)


@contextmanager
def phase(name: str = "", total: int = 0, unit: str = "", *, announce: bool = False) -> Iterator[None]:
    """Work of one phase.

    Args:
        name: empty counts something else within the phase that is open.
        total: units in all; ``unit``: what they are.
        announce: see :class:`Phase`.
    """
    listener, outer = _listener.get(), _phase.get()
    if listener is None or not (name or outer):
        yield
        return
    own = Phase(name or (outer.name if outer else ""), total, unit, announce, listener)
    token = _phase.set(own)
    try:
        if name:
            own.say("begin")
        yield
    finally:
        _phase.reset(token)
        if name:
            own.say("end")


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Call ``work``, which may not wait for the end of a part, at every :func:`tell` inside, heard or not."""
    token = _meanwhile.set(work)
    try:
        yield
    finally:
        _meanwhile.reset(token)


def part(units: int) -> None:
    """A part of ``units`` of the phase is begun; :func:`tell` says how far it is."""
    if (own := _phase.get()) is not None:
        own.begin_part(units)


def tell(done: int, of: int, *, share: float | None = None) -> None:
    """``done`` of the part's ``of`` pieces are finished, and ``share`` of its work (by default as much)."""
    if (work := _meanwhile.get()) is not None:
        work()
    if (own := _phase.get()) is not None:
        finished = done / max(of, 1)
        own.advance(finished, finished if share is None else share)
        own.say("tell")


def note(text: str) -> None:
    """What is done about the part at work now."""
    if (own := _phase.get()) is not None:
        own.note = text
        own.say("tell")


def settle(units: int, *, found: bool = False) -> None:
    """``units`` more are done; ``found``: they were there already, and say nothing about the pace."""
    if (own := _phase.get()) is not None:
        own.settle(units, found=found)
        own.say("tell")


def reach(units: int, *, found: int = 0) -> None:
    """``units`` of the phase are done in all, of which ``found`` were there before."""
    if (own := _phase.get()) is not None:
        own.reach(units, found)
        own.say("tell")


@contextmanager
def within(low: float, high: float) -> Iterator[None]:
    """What is told inside is about the shares ``low`` to ``high`` of the part at work."""
    own = _phase.get()
    if own is None:
        yield
        return
    with own.window(low, high):
        yield


def duration(seconds: float | None) -> str:
    """``1 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    if seconds is None:
        return "–"
    total = int(round(seconds))
    if total >= 3600:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 60} min {total % 60:02d} s" if total >= 60 else f"{total} s"
