"""Timing two things in alternating order, and saying how they compare."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Paired seconds of the same work done by us and by the peer; a ratio below 1 says that we are faster."""

    name: str
    ours_s: Sequence[float]
    peer_s: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours_s, self.peer_s, strict=True)]

    def summary(self) -> dict[str, Any]:
        """Median, middle half and range of the paired ratios; the seconds only tell how long it took."""
        ratios = self.ratios
        low, high = middle_half(ratios)
        return {
            "pairs": len(ratios),
            "ratio_median": statistics.median(ratios),
            "ratio_low": low,
            "ratio_high": high,
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "ours_median_s": statistics.median(self.ours_s),
            "peer_median_s": statistics.median(self.peer_s),
        }


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; the range of fewer than four values."""
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def order(pairs: int) -> Iterator[str]:
    """``peer, ours, ours, peer, peer, ours …``: each side leads half of the pairs, so drift cancels."""
    for i in range(pairs):
        yield from ("peer", "ours") if i % 2 == 0 else ("ours", "peer")


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_timed(work: Callable[[], object]) -> float:
    """Processor seconds of this process that ``work`` takes: other work on the machine counts little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def alternate(
    name: str,
    ours: Callable[[int], object],
    peer: Callable[[int], object],
    pairs: int,
    *,
    warm_up: int = 2,
    reset: Callable[[], object] | None = None,
    clock: Callable[[Callable[[], object]], float] = timed,
) -> Comparison:
    """Time ``pairs`` pairs after ``warm_up`` untimed ones; both are called with the pair's number.

    ``reset`` runs, untimed, before every call; ``clock`` gives the seconds of a call.
    """
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for i, side in enumerate(order(warm_up + pairs)):
        if reset is not None:
            reset()
        work, pair = (ours if side == "ours" else peer), i // 2
        seconds[side].append(clock(lambda work=work, pair=pair: work(pair)))
    return Comparison(name, seconds["ours"][warm_up:], seconds["peer"][warm_up:])


def peak_bytes() -> int:
    """Highest resident memory of this process.

    On Linux from ``VmHWM``: ``ru_maxrss`` survives an exec, so a child would report its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Resident memory of this process now; the peak so far where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) * 1024
    return peak_bytes()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
