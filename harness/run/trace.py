"""The course of a training run, short enough to stand in its record: means over windows of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Windows that a record holds at most; a plot of sixty methods stays small.
WINDOWS = 25
#: What is averaged. Entropies are token means in nats over the training rollouts.
AVERAGED = (
    "entropy", "entropy_correct", "entropy_wrong", "accuracy", "reward", "length", "truncated",
    "distinct_answers", "equal_groups", "activity", "clip_low", "clip_high", "kl",
)  # fmt: skip
#: Steps before a frontier point whose training entropy is set beside its validation score.
_NEAR = 5


def trace(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Logged steps as at most ``WINDOWS`` means; ``None`` where no step of a window logged the metric.

    Returns:
        ``step`` and ``generated_tokens`` at the end of each window, and what was logged of ``AVERAGED``.
    """
    width = -(-len(steps) // WINDOWS) or 1
    windows = [steps[i : i + width] for i in range(0, len(steps), width)]
    found: dict[str, list[float | None]] = {
        key: [window[-1][key] for window in windows] for key in ("step", "generated_tokens")
    }
    for name in AVERAGED:
        means = [_mean([s[name] for s in window if name in s]) for window in windows]
        if any(mean is not None for mean in means):
            found[name] = means
    return found


def entropy_before(step: int, steps: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean training entropy, nats, of the last steps up to ``step``; of the first step for the base model.

    It is measured before the update of each step, on training prompts: the H of arXiv 2505.22617, eq. 6.
    """
    first = max(step - _NEAR, 0)
    return _mean([s["entropy"] for s in steps if "entropy" in s and first < s["step"] <= max(step, 1)])


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None
