"""An engine as the sampler of a training run: it follows the policy's weights and sleeps while they train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.distributed.world import world
from harness.model.policy import Policy
from harness.model.sharding import whole
from harness.model.source import resolve_model
from harness.registry import benchmarks
from harness.rollout import settings as rollout_settings
from harness.rollout.engines.base import Completion, Engine, GenerationRequest, Sampling, open_engine
from harness.rollout.engines.weights import checksum
from harness.rollout.mixing import Mixing
from harness.rollout.roll_out import BuiltIn
from harness.rollout.sampler import Samples, TokenTemperature
from harness.rollout.settings import engine_options
from harness.stages.token_stats import TokenStat
from harness.util import progress
from harness.util.errors import UserError

if TYPE_CHECKING:
    from harness.config.schema import RunConfig


class EngineSampler:
    """Opens its engine at the first draw, and gives it the policy's weights before a draw when they changed.

    The order of a synchronisation (:meth:`sync_weights`) is that of ``Engine.sync_weights``: nothing is being
    drawn, wake the weights, load all of them, drop cached prefixes, wake the cache. After the first one both
    sides' checksums are compared.
    """

    def __init__(self, policy: Policy, name: str, determinism: str, open_: Callable[[], Engine]) -> None:
        self._policy, self._name, self._open = policy, name, open_
        self._engine: Any = None
        self._follows = self._proven = False
        self.determinism = determinism

    def awake(self) -> AbstractContextManager[Any]:
        if self._engine is None:
            with progress.phase(f"start {self._name}", announce=True):
                self._engine = self._open()
        if not self._follows:
            with progress.phase("load weights", announce=True):
                self.sync_weights()
        return nullcontext()

    def outdated(self) -> None:
        self._follows = False

    def rest(self) -> None:
        """Give back the memory that the update needs, where the engine can."""
        if self._engine is not None and self._engine.sleep():
            self._follows = False

    def sync_weights(self) -> None:
        """The policy's weights into the engine; all processes at once, each into its own.

        Raises:
            UserError: names or shapes are not the engine's, or it holds others afterwards.
            EngineDied: the engine ended.
        """
        self._engine.sync_weights(_stream(self._policy))
        if not self._proven:
            self._prove()
        self._follows = self._proven = True

    def _prove(self) -> None:
        dtype = getattr(torch, self._engine.describe()["dtype"])
        parameters = self._policy.model.parameters()
        ours, theirs = checksum((whole(p.detach()) for p in parameters), dtype), self._engine.checksum()
        if any(world().all_gather(ours != theirs)):
            raise UserError(
                f"after loading, {self._name} does not hold the policy's weights (checksums {theirs:x} and "
                f"{ours:x}): this model is not loaded name by name there; use rollout.engine=builtin"
            )

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, *, keys: Sequence[tuple[object, ...]],
        temperature: float, top_p: float, max_tokens: int, at_once: int | None = None,
        token_temperature: TokenTemperature | None = None, stats: Sequence[TokenStat] = (),
        mixing: Mixing | None = None,
    ) -> Samples:  # fmt: skip
        if stats:  # its log-probs are its own, so the old pass is another one
            raise ValueError("an engine takes no statistics of the policy")
        # methods that need these are refused before a run starts
        if token_temperature is not None:
            raise ValueError("this engine has one temperature for a whole response")
        if mixing is not None:
            raise ValueError("this engine draws from one model")
        ends = self._policy.eos_ids
        sampling = Sampling(
            temperature, top_p, max_tokens, stop_ids=ends, stop_texts=self._policy.stop_texts
        )  # fmt: skip
        wanted = [GenerationRequest(key, tuple(prompts[i // n]), i) for i, key in enumerate(keys)]
        return _as_samples(self._engine.generate(wanted, sampling), len(wanted), self._policy.pad_id)

    @property
    def engine(self) -> Any:
        """The engine itself, for evaluations; open inside :meth:`awake`."""
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine, self._follows, self._proven = None, False, False


def open_sampler(run: RunConfig, policy: Policy) -> Any:
    """The :class:`harness.rollout.roll_out.Sampler` of a run; an engine is opened at its first draw.

    Raises:
        UserError: the engine is not installed, not in a tested version, or shares a CPU with other processes.
    """
    if run.rollout.engine == rollout_settings.BUILTIN:
        return BuiltIn(policy)
    rollout_settings.check_installed(run)
    if world().size > 1 and policy.device.type == "cpu":
        raise UserError(
            f"rollout.engine={run.rollout.engine} in {world().size} processes on CPUs was never tried; start "
            "one process, or write rollout.engine=builtin"
        )
    return EngineSampler(
        policy, run.rollout.engine, "same-samples" if policy.device.type == "cpu" else "statistical",
        lambda: _open(run, policy),
    )  # fmt: skip


def _open(run: RunConfig, policy: Policy) -> Engine:
    device = policy.device.type
    compute = run.model.compute_dtype
    own: dict[str, Any] = {"dtype": run.model.dtype if compute == "same" else compute}
    if device != "cpu":
        own |= {"gpu_memory": 0.5, "sleeps": True}
    if world().size > 1:  # vLLM would take this run's processes for its own
        own |= {"separate_process": True}
    return open_engine(
        run.rollout.engine, resolve_model(run.model.path, benchmarks.shipped_models()),
        revision=run.model.revision, device=device, logp_temperature=run.rollout.temperature,
        **own | engine_options(run),
    )  # fmt: skip


def _stream(policy: Policy) -> Iterator[tuple[str, Tensor]]:
    """All weights by name, each gathered as it is asked for."""
    for name, value in policy.model.state_dict().items():
        yield name, whole(value.detach())


def _as_samples(stream: Iterator[Completion], count: int, pad_id: int) -> Samples:
    """Completions in the order of their requests (``tag`` is the row) as padded tensors."""
    done: dict[Any, Completion] = {}
    for completion in stream:
        done[completion.request.tag] = completion
        progress.tell(len(done), count)
    rows = [done[i] for i in range(count)]
    width = max(len(row.token_ids) for row in rows)
    tokens = torch.full((count, width), pad_id, dtype=torch.long)
    valid = torch.zeros(count, width, dtype=torch.bool)
    logps = torch.zeros(count, width)
    for i, row in enumerate(rows):
        length = len(row.token_ids)
        tokens[i, :length] = torch.tensor(row.token_ids)
        valid[i, :length] = True
        logps[i, :length] = torch.tensor(row.logps)
    truncated = torch.tensor([row.stop_reason == "length" for row in rows])
    return Samples(tokens, valid, logps, truncated)
