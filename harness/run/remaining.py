"""How long a run still takes: the work of each kind that is left, at the pace of its latest pieces.

Steps, probes, frontier points, checkpoints and the evaluation at the end are counted apart: a frontier point
may take as long as ten steps, and the evaluation as long as the training. What has not been seen yet (in a
run that goes on, or before its first evaluation) is taken to draw as fast as what draws likewise.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from harness.config.schema import RunConfig

#: Pieces of a kind that tell its pace: responses change their length while a run trains.
LATEST = 16
#: Kinds that sample, each with those whose pace per token is taken where its own is not known.
SAMPLING = {"evaluate": ("frontier", "rollout"), "frontier": ("rollout",), "probe": ("frontier", "rollout")}


class Pace:
    """Seconds a unit of each kind of work: a step, a checkpoint, or a token that sampling may draw at most.

    Args:
        clock: seconds that only go forward; by default the system's.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._seen: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=LATEST))

    def add(self, kind: str, seconds: float, units: float = 1.0) -> None:
        """``units`` of ``kind`` took so many seconds; nothing was done where ``units`` is 0."""
        if units > 0:
            self._seen[kind].append((seconds, units))

    @contextmanager
    def timed(self, kind: str) -> Iterator[Callable[[float], None]]:
        """Measure a piece of work; the function that is given takes its units, 1 where it is not called."""
        units, start = [1.0], self._clock()
        yield lambda done: units.__setitem__(0, done)
        self.add(kind, self._clock() - start, units[0])

    def seconds(self, kind: str, units: float) -> float:
        """What ``units`` of ``kind`` will take; 0 where nothing like it was seen."""
        for known in (kind, *SAMPLING.get(kind, ())):
            if seen := self._seen.get(known):
                return units * sum(s for s, _ in seen) / sum(u for _, u in seen)
        return 0.0

    def left_s(self, left: Mapping[str, float]) -> float:
        """Seconds for the units of all kinds that are left."""
        return sum(self.seconds(kind, units) for kind, units in left.items())


def last_step(run: RunConfig, step: int, generated_tokens: int) -> int:
    """The step at which the run is expected to end, from its pace through the budget of tokens."""
    budget, first = run.train.token_budget, run.sft.steps  # steps on demonstrations draw nothing
    if not budget or not generated_tokens or step <= first:
        return run.last_step
    last = first + math.ceil((step - first) * budget / generated_tokens - 1e-9)
    return max(step, min(run.last_step, last))


def work_left(
    run: RunConfig, step: int, generated_tokens: int, *, frontier_responses: int, evaluation_tokens: int
) -> dict[str, float]:
    """Units of each kind after ``step``.

    Args:
        frontier_responses: of one point.
        evaluation_tokens: at the end, as many as may be drawn; 0 where nothing is evaluated.
    """
    last, most = last_step(run, step, generated_tokens), run.rollout.max_response_tokens
    return {
        "step": last - step,
        "probe": _due(step, last, run.probe.every) * run.probe.prompts * run.probe.samples * most,
        "frontier": _due(step, last, run.eval.frontier_every) * frontier_responses * most,
        "save": _due(step, last, run.train.checkpoint_every),
        "evaluate": evaluation_tokens,
    }


def _due(step: int, last: int, every: int) -> int:
    """How often something is due after ``step``: at every multiple, and at the last step."""
    if step >= last:
        return 0
    return last // every - step // every + (last % every != 0)
