"""An engine without a model: completions are made of the request's key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.rollout.engines.base import Completion, GenerationRequest, Sampling


def answer_of(key: Sequence[object]) -> str:
    """Some right (the sum is asked for as ``i+2+i``), some wrong, some without an answer."""
    number, sample = int(str(key[-2]).rpartition("-")[2]), int(str(key[-1]))
    return ["no idea", f"\\boxed{{{2 * number + 2}}}", "\\boxed{7}", f"${2 * number + 2}$"][sample % 4]


class ScriptedEngine:
    """Yields completions of ``say(key)`` one by one; ``pulled`` counts the requests read so far."""

    name, determinism, logp_temperature = "scripted", "bitwise", 1.0
    capabilities = frozenset[str]()

    def __init__(
        self, say: Callable[[Sequence[object]], str] = answer_of, max_positions: int | None = 4096
    ) -> None:
        self._say, self.max_positions = say, max_positions
        self.pulled, self.yielded, self.closed = 0, 0, False
        self.asked: list[tuple[GenerationRequest, Sampling]] = []
        self.weights: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name, "dtype": "none"}

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def generate(self, requests: Iterable[GenerationRequest], sampling: Sampling) -> Iterator[Completion]:
        for request in requests:
            self.pulled += 1
            self.asked.append((request, sampling))
            text = self._say(request.key)
            self.yielded += 1
            yield Completion(
                request, tuple(range(len(text.split()))), text, "end", (-0.5,) * len(text.split())
            )

    def load_weights(self, weights: Iterable[tuple[str, Any]]) -> None:
        self.weights = dict(weights)

    def close(self) -> None:
        self.closed = True
