"""Rollouts that wait: with ``rollout.lag=k`` a step trains on rollouts sampled k steps before.

Deterministic: rollouts for step s are sampled at the beginning of step max(1, s - k), by the policy of that
moment, with the draws that step s would have had without a lag. So the first step samples for k + 1 steps,
and the last k steps sample nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.stages.base import Component
from harness.stages.batch import Batch


class RolloutQueue(Component):
    """Batches that wait for their step, oldest first, each with the step it was sampled at."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Batch]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, sampled_at: int, batch: Batch) -> None:
        self._waiting.append((sampled_at, batch))

    def take(self) -> tuple[int, Batch]:
        """The oldest batch and the step it was sampled at."""
        return self._waiting.pop(0)

    def state_dict(self) -> dict[str, Any]:
        return {"waiting": [(step, batch.plain()) for step, batch in self._waiting]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._waiting = [(int(step), Batch.from_plain(plain)) for step, plain in state["waiting"]]
