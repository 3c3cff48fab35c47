"""The engine ``hf``: the built-in sampler behind the engine interface, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import torch
from torch import Tensor

from harness.model.policy import Policy, load_policy
from harness.rollout import sampler
from harness.rollout.engines import text
from harness.rollout.engines.base import (
    Completion,
    Determinism,
    GenerationRequest,
    Sampling,
    StopReason,
    check_length,
    choose_device,
    choose_dtype,
    hardware,
)
from harness.rollout.engines.weights import checked, checksum, layout
from harness.rollout.finite import check_log_probs
from harness.stages.top_tokens import TopEntropy
from harness.util import progress
from harness.util.errors import UserError


@dataclass(eq=False)
class _Stopping(Policy):
    """A policy whose responses also end at ``stop_ids``."""

    stop_ids: tuple[int, ...] = ()

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return tuple(sorted({*super().eos_ids, *self.stop_ids}))


class HfEngine:
    """Draws with :func:`harness.rollout.sampler.sample` from a policy, ``batch_rows`` responses at a time.

    On a CPU equal requests in equal order give equal bits. In another order, or resumed in the middle, a
    sample stays the same unless one of its draws falls within the rounding of the logits.
    """

    name = "hf"
    capabilities = sampler.CAPABILITIES - {"token_temperature"} | {
        "load_weights",
        "stop_texts",
        "top_entropy",
    }

    def __init__(self, policy: Policy, *, batch_rows: int = 64, max_positions: int | None = None) -> None:
        if batch_rows < 1:
            raise UserError(f"batch_rows must be at least 1, not {batch_rows}")
        own = policy.max_positions
        if max_positions and own and max_positions > own:
            raise UserError(f"max_positions={max_positions} exceeds the model's context of {own}")
        self.policy, self.batch_rows = policy, batch_rows
        self.max_positions: int | None = max_positions or own
        self.logp_temperature = policy.temperature

    @property
    def determinism(self) -> Determinism:
        return "bitwise" if self.policy.device.type == "cpu" else "statistical"

    def describe(self) -> dict[str, Any]:
        import transformers

        return {
            "engine": self.name,
            "version": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "tested": self.policy.device.type == "cpu",
            "dtype": str(self.policy.model.dtype).removeprefix("torch."),
            "hardware": hardware(str(self.policy.device)),
            "determinism": self.determinism,
            "max_positions": self.max_positions,
            "batch_rows": self.batch_rows,
        }

    def encode(self, prompt: str) -> list[int]:
        return self.policy.encode(prompt)

    def generate(self, requests: Iterable[GenerationRequest], sampling: Sampling) -> Iterator[Completion]:
        text.check_stop_ids(sampling, self.policy.vocabulary)
        waiting = iter(requests)
        while block := list(islice(waiting, self.batch_rows)):
            for request in block:
                text.check_prompt(request.prompt_ids, self.policy.vocabulary)
                check_length(len(request.prompt_ids), sampling, self.max_positions)
            yield from self._block(block, sampling)

    def _block(self, block: Sequence[GenerationRequest], sampling: Sampling) -> Iterator[Completion]:
        """Runs of one prompt share its prefill; the sampler wants them equally long."""
        runs = [list(run) for _, run in groupby(block, key=lambda r: r.prompt_ids)]
        for size in sorted({len(run) for run in runs}):
            alike = [run for run in runs if len(run) == size]
            flat = [request for run in alike for request in run]
            samples = self._sample([run[0].prompt_ids for run in alike], flat, sampling)
            for i, request in enumerate(flat):
                yield self._completion(request, samples, i, sampling)

    def _sample(
        self, prompts: Sequence[Sequence[int]], requests: Sequence[GenerationRequest], sampling: Sampling
    ) -> sampler.Samples:
        # A nucleus this small holds the likeliest token alone, which is what temperature 0 means.
        temperature, top_p = (sampling.temperature, sampling.top_p) if sampling.temperature else (1.0, 1e-12)
        own = self.policy
        progress.part(len(requests))
        policy = _Stopping(
            own.model, own.tokenizer, own.temperature, own.network,
            stop_texts=sampling.stop_texts, stop_ids=sampling.stop_ids,
        )  # fmt: skip
        try:
            return sampler.sample(
                policy, prompts, len(requests) // len(prompts), keys=[r.key for r in requests],
                temperature=temperature, top_p=top_p, max_tokens=sampling.max_tokens,
                stats=(TopEntropy(k=sampling.top_entropy),) if sampling.top_entropy else (),
            )  # fmt: skip
        except torch.OutOfMemoryError as error:
            peak = torch.cuda.max_memory_allocated(self.policy.device) / 2**30
            raise UserError(
                f"out of GPU memory ({peak:.1f} GiB at the peak) while {len(requests)} responses were "
                f"drawn at a time; lower batch_rows ({self.batch_rows}) or max_tokens ({sampling.max_tokens})"
            ) from error

    def _completion(
        self, request: GenerationRequest, samples: sampler.Samples, row: int, sampling: Sampling
    ) -> Completion:
        mask = samples.mask_NT[row]
        ids: list[int] = samples.tokens_NT[row][mask].tolist()
        ended: StopReason = "end" if ids[-1] in self.policy.eos_ids else "stop"
        if samples.truncated_N[row]:
            ended = "length"
        count, said, reason = text.cut(self.policy.tokenizer, ids, ended, sampling.stop_texts)
        logps: list[float] = samples.logp_NT[row][mask].tolist()
        entropies: list[float] = []
        for values_NT in samples.stats.values():
            entropies = values_NT[row][mask].tolist()
        return Completion(
            request, tuple(ids[:count]), said, reason, tuple(logps[:count]), tuple(entropies[:count])
        )

    @torch.no_grad()
    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        ids = torch.tensor([list(token_ids)], device=self.policy.device)
        logp = self.policy.model(ids).logits[0, :-1].float().log_softmax(1)
        scores: list[float] = logp.gather(1, ids[0, 1:, None])[:, 0].tolist()
        check_log_probs(scores, self.policy.source, ("score",))
        return tuple(scores)

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        state: dict[str, Tensor] = self.policy.model.state_dict()
        for name, value in checked(weights, *layout(self.policy.model)):
            state[name].copy_(value)

    def sync_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self.load_weights(weights)

    def sleep(self) -> bool:
        return False

    def checksum(self) -> int:
        return checksum(self.policy.model.parameters())

    def close(self) -> None:
        if self.policy.device.type == "cuda":
            torch.cuda.empty_cache()


def open_(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    max_positions: int | None = None,
    logp_temperature: float = 1.0,
    batch_rows: int = 64,
) -> HfEngine:
    """Load a model; see :func:`harness.rollout.engines.base.open_engine`.

    Args:
        batch_rows: responses drawn side by side; more are faster until memory ends.
    """
    text.load_tokenizer(model, revision)  # its errors say more about tokenizers than the loader's
    device = choose_device(device)
    policy = load_policy(
        model,
        revision=revision,
        dtype=choose_dtype(dtype, device),
        device=device,
        temperature=logp_temperature,
    )
    return HfEngine(policy, batch_rows=batch_rows, max_positions=max_positions)


def status() -> str:
    """One line for ``entrobench doctor``."""
    import transformers

    gpu = "; untested on GPU" if torch.cuda.is_available() else ""
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return f"usable: {versions} (tested on a CPU{gpu})"
