"""What a run may sample to measure itself, beside what it samples to train: arithmetic from settings alone.

Unless ``eval.frontier_problems`` says otherwise, the frontier takes as many validation problems as keep it
and the entropy probe together within :data:`SHARE` of training's generated tokens, however long responses
are: where they are short a budget of tokens lasts for more steps, and so for more points. The bound is the
worst of all numbers of steps that the budget can last for. Which problems are taken depends on their ids
alone: every method, seed and point has the same, and a smaller number is a part of a larger one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeVar

from harness.config.schema import RunConfig
from harness.problems.problem import Problem
from harness.registry import benchmarks

#: Of training's generated tokens, what probe and frontier may generate unless they are asked for more.
SHARE = 0.25
#: Problems that a frontier takes at least: fewer tell nothing, even of a run of a few steps.
AT_LEAST = 16
P = TypeVar("P", bound=Problem)


@dataclass(frozen=True)
class _Sizes:
    """A run in numbers: ``rows`` are responses of a training step, ``tokens`` is the limit of a response."""

    steps: int
    token_budget: int | None
    rows: int
    tokens: int
    probe_every: int
    probe_rows: int
    frontier_every: int
    frontier_n: int

    def ends(self) -> Iterator[tuple[int, float]]:
        """Numbers of steps that the run can take, and the fewest responses of training that it then has.

        Only those at which a point more is due, and the smallest: between them measuring costs the same.
        """
        if self.token_budget is None:
            yield self.steps, float(self.steps * self.rows)
            return
        # of full length; the last step of a budget may go beyond it, and is not counted
        full = self.token_budget / self.tokens
        first = min(self.steps, math.ceil(full / self.rows))
        yield first, min(full, float(self.steps * self.rows))
        every = (self.probe_every, self.frontier_every)
        last = min(self.steps, first + min(math.lcm(*every), 50 * max(every)))
        due = {step for n in every for step in range((first // n) * n + 1, last + 1, n) if step > first}
        yield from ((step, max(full, float((step - 1) * self.rows))) for step in sorted(due))

    def probe(self, steps: int) -> int:
        """Responses of the probe in a run of ``steps``."""
        return _points(steps, self.probe_every) * self.probe_rows

    def frontier(self, steps: int) -> int:
        """Responses to each problem of the frontier in a run of ``steps``."""
        return _points(steps, self.frontier_every) * self.frontier_n


@dataclass(frozen=True)
class Measuring:
    """What measuring generates beside training, each as a share of training's tokens at the worst."""

    probe: float
    frontier: float

    @property
    def share(self) -> float:
        return self.probe + self.frontier


def _points(steps: int, every: int) -> int:
    """Step 0, every multiple, and the last step."""
    return 1 + -(-steps // every)


def frontier_limit(run: RunConfig | Mapping[str, Any]) -> int | None:
    """How many validation problems the frontier of ``run`` takes at most; None for all.

    Args:
        run: a configuration, also as plain values.
    """
    own = sections(run)
    asked = str(own.eval.frontier_problems)
    if asked == "all" or (asked == "auto" and takes_all(own.data.benchmark)):
        return None
    return _fitting(_sizes(own)) if asked == "auto" else int(asked)


def takes_all(benchmark: str) -> bool:
    """Whether a benchmark asks for all of its validation split, which costs it little."""
    return bool(getattr(benchmarks.load(benchmark), "whole_frontier", False))


def frontier_size(run: RunConfig | Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Problems of the frontier of ``run``, and of its validation split; None where they are not known.

    Nothing is read: the size of the split is what its benchmark says of itself.
    """
    limit, data = frontier_limit(run), sections(run).data
    said = getattr(benchmarks.load(data.benchmark), "size", None)
    size = said(data.validation_split) if said is not None else None
    if size is None:
        return limit, None
    return size if limit is None else min(limit, size), size


def measuring(run: RunConfig | Mapping[str, Any], problems: int) -> Measuring:
    """The cost of the probe, and of a frontier of ``problems`` problems, beside the training of ``run``."""
    return _measuring(_sizes(sections(run)), problems)


def taken(problems: Sequence[P], limit: int | None) -> Sequence[P]:
    """The ``limit`` problems that a frontier takes, in their order; all for None."""
    if limit is None or limit >= len(problems):
        return problems
    keys = [hashlib.sha256(f"frontier|{problem.id}".encode()).digest() for problem in problems]
    kept = sorted(sorted(range(len(problems)), key=keys.__getitem__)[:limit])
    return [problems[i] for i in kept]


def sections(run: RunConfig | Mapping[str, Any]) -> Any:
    """``run`` with its sections as attributes, whichever way it is given."""
    if isinstance(run, RunConfig):
        return run
    names = ("data", "rollout", "train", "probe", "eval")
    return SimpleNamespace(**{name: SimpleNamespace(**run[name]) for name in names})


def _sizes(run: Any) -> _Sizes:
    return _Sizes(
        run.train.steps, run.train.token_budget, run.rollout.prompts_per_step * run.rollout.group_size,
        run.rollout.max_response_tokens, run.probe.every, run.probe.prompts * run.probe.samples,
        run.eval.frontier_every, run.eval.frontier_n,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _fitting(sizes: _Sizes) -> int:
    """As many problems as fit beside the probe, at least :data:`AT_LEAST`."""
    fits = min(
        (SHARE * trained - sizes.probe(steps)) / sizes.frontier(steps) for steps, trained in sizes.ends()
    )
    return max(AT_LEAST, math.floor(fits + 1e-9))


@lru_cache(maxsize=1024)
def _measuring(sizes: _Sizes, problems: int) -> Measuring:
    found = [
        Measuring(sizes.probe(steps) / trained, sizes.frontier(steps) * problems / trained)
        for steps, trained in sizes.ends()
    ]
    return max(found, key=lambda each: each.share)
