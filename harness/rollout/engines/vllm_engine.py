"""vLLM behind the engine interface; :mod:`harness.rollout.engines.vllm` starts it.

One vLLM request a sample, with a seed of its own made from the request's key. Log-probs are of the full
softmax at temperature 1 (``raw_logprobs``) or, with another ``logp_temperature``, at the sampling
temperature, which must then be the same (``processed_logprobs``).
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from harness.rollout.engines import text
from harness.rollout.engines.base import (
    Completion,
    Determinism,
    EngineDied,
    GenerationRequest,
    Sampling,
    StopReason,
    check_length,
    hardware,
)
from harness.rollout.finite import check_log_probs
from harness.util.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")
#: Log-probs of a position that vLLM is started to give at most.
MOST_LOGPROBS = 100


class VllmEngine:
    """Draws with vLLM's engine, in this process or in one of its own.

    On a CPU a sample is the same whatever is drawn beside it, up to draws that fall within the rounding of
    the logits. On a GPU half-precision logits depend on the batch, so samples are equal in distribution only.
    """

    name = "vllm"
    #: Engines that live in this process: vLLM's distributed state allows one at a time.
    open_here = 0
    capabilities = frozenset(
        {"rollout_logp", "prefix", "temperature", "load_weights", "stop_texts", "top_entropy"}
    )

    def __init__(
        self, core: Any, model: str, revision: str | None, *, device: str, batch_rows: int,
        logp_temperature: float, separate_process: bool, version: str, tested: bool, sleeps: bool = False,
    ) -> None:  # fmt: skip
        from transformers import AutoConfig

        settings = core.vllm_config.model_config
        self._model = model
        self._core, self._device, self._dtype = core, device, str(settings.dtype).removeprefix("torch.")
        self._served, self._dead, self._mixed = 0, "", False
        self._sleeps, self._asleep = sleeps, False
        self._processes: list[Any] = []
        self._separate, self._version, self._tested = separate_process, version, tested
        # One process for all: then tensors need no way to travel
        self._direct = not separate_process and core.vllm_config.parallel_config.world_size == 1
        self._config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
        self.batch_rows, self.logp_temperature = batch_rows, logp_temperature
        self.max_positions: int | None = int(settings.max_model_len)
        self.tokenizer = text.load_tokenizer(model, revision)
        self._vocabulary = int(settings.get_vocab_size())
        generation = _generation_config(model, revision, self._config)
        self.end_ids = text.end_ids(self.tokenizer, generation, self._vocabulary)
        if self.in_process:
            VllmEngine.open_here += 1
        else:
            self._processes = _watch(core.engine_core)

    @property
    def in_process(self) -> bool:
        """Whether the model lives in this process."""
        return not self._separate

    @property
    def determinism(self) -> Determinism:
        return "same-samples" if self._device == "cpu" else "statistical"

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "version": f"vllm {self._version}",
            "tested": self._tested,
            "dtype": self._dtype,
            "hardware": hardware(self._device),
            "determinism": self.determinism,
            "max_positions": self.max_positions,
            "batch_rows": self.batch_rows,
        }

    def encode(self, prompt: str) -> list[int]:
        return text.encode(self.tokenizer, prompt)

    def generate(self, requests: Iterable[GenerationRequest], sampling: Sampling) -> Iterator[Completion]:
        text.check_stop_ids(sampling, self._vocabulary)
        self._check_sampling(sampling)
        self._check_whole()
        self._check_idle()
        waiting, open_requests = iter(requests), dict[str, GenerationRequest]()
        try:
            while True:
                # twice as many as run at a time, so that a place that falls free is taken at once
                while len(open_requests) < 2 * self.batch_rows and (request := next(waiting, None)):
                    text.check_prompt(request.prompt_ids, self._vocabulary)
                    check_length(len(request.prompt_ids), sampling, self.max_positions)
                    params = self._params(sampling, seed_of(request.key))
                    open_requests[self._add(request.prompt_ids, params)] = request
                if not open_requests:
                    return
                outputs = self._call(self._core.step)
                self._check_numbers(open_requests)
                for output in outputs:
                    if output.finished:
                        request = open_requests.pop(output.request_id)
                        yield self._completion(request, output.outputs[0], sampling)
        finally:
            if open_requests and self._core is not None and not self._dead:
                self._call(lambda: self._core.abort_request(list(open_requests)))

    def _check_numbers(self, drawing: Mapping[str, GenerationRequest]) -> None:
        """End at the first log-prob that is no number, not after the thousands that would follow it.

        vLLM keeps a sum for every response that is being drawn; a NaN or infinity never leaves it.
        """
        for state in self._core.output_processor.request_states.values():
            told, request = state.logprobs_processor, drawing.get(state.external_req_id)
            if request and not math.isfinite(told.cumulative_logprob):
                so_far = [float(logprob.logprob) for at in told.logprobs for logprob in at.values()]
                check_log_probs(so_far, self._model, request.key)

    def _check_sampling(self, sampling: Sampling) -> None:
        hot = sampling.temperature
        if sampling.top_entropy > MOST_LOGPROBS:
            raise UserError(
                f"vllm gives {MOST_LOGPROBS} log-probs of a position at most, not {sampling.top_entropy}; "
                "ask for fewer, or take engine=hf"
            )
        if 0 < hot < 0.01 or hot > 2:
            raise UserError(
                f"vllm draws at temperature 0 or 0.01 to 2, not {hot}; use such a temperature, or engine=hf"
            )
        if self.logp_temperature != 1 and (hot != self.logp_temperature or sampling.top_p < 1):
            raise UserError(
                f"vllm gives log-probs at temperature {self.logp_temperature} only for samples drawn at it "
                f"with top_p=1 (asked for: {hot} and {sampling.top_p}); sample so, or take engine=hf"
            )

    def _check_whole(self) -> None:
        if self._mixed:
            raise UserError(
                "loading weights broke off, so old and new ones are mixed; load all of them again"
            )

    def _check_idle(self) -> None:
        self._check_alive()
        if self._asleep:
            raise RuntimeError("the engine sleeps and has no weights; sync_weights wakes it")
        self._check_drained()

    def _check_drained(self) -> None:
        self._check_alive()
        if self._core.has_unfinished_requests():
            raise RuntimeError("responses are still being drawn; finish or close that iterator first")

    def _params(self, sampling: Sampling, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_tokens, seed=seed,
            stop_token_ids=sorted({*self.end_ids, *sampling.stop_ids}), stop=list(sampling.stop_texts),
            include_stop_str_in_output=True, detokenize=bool(sampling.stop_texts),
            logprobs=sampling.top_entropy,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip

    def _add(self, prompt_ids: Sequence[int], params: Any) -> str:
        self._served += 1
        name, prompt = str(self._served), {"prompt_token_ids": list(prompt_ids)}
        self._call(lambda: self._core.add_request(name, prompt, params))
        return name

    def _completion(self, request: GenerationRequest, output: Any, sampling: Sampling) -> Completion:
        ids = [int(i) for i in output.token_ids]
        logps = tuple(float(at[i].logprob) for at, i in zip(output.logprobs, ids, strict=True))
        check_log_probs(logps, self._model, request.key)
        if output.finish_reason not in ("stop", "length"):  # it gave up on this one: not a sample
            self._call(lambda: _raise(f"a response ended with {output.finish_reason}"))
        ended: StopReason = "length"
        if output.finish_reason == "stop":
            ended = "end" if output.stop_reason is None or output.stop_reason in self.end_ids else "stop"
        count, said, reason = text.cut(self.tokenizer, ids, ended, sampling.stop_texts)
        top, entropies = sampling.top_entropy, tuple[float, ...]()
        if top:  # the sampled token comes besides where it is none of them
            entropies = tuple(_top_entropy(at.values(), top) for at in output.logprobs)
        return Completion(request, tuple(ids[:count]), said, reason, logps[:count], entropies[:count])

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        self._check_idle()
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        self._add(token_ids, params)
        while True:
            for output in self._call(self._core.step):
                if output.finished:
                    at = zip(output.prompt_logprobs[1:], token_ids[1:], strict=True)
                    scores = tuple(float(logprobs[i].logprob) for logprobs, i in at)
                    check_log_probs(scores, self._model, ("score",))
                    return scores

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self._check_idle()
        self._load(weights)

    def _load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        from harness.rollout.engines.weights import checked, fast_folder, write_shards

        shapes, tied = self._layout()
        stream = checked(weights, shapes, tied)
        if self._direct:
            self._mixed = True  # until the last weight has come
            self._call(lambda: self._rpc("reload_weights", weights_iterator=stream))
        else:
            room = 4 * sum(math.prod(shape) for shape in shapes.values())
            with tempfile.TemporaryDirectory(prefix="entrobench-weights-", dir=fast_folder(room)) as folder:
                write_shards(stream, Path(folder))
                self._call(lambda: self._rpc("reload_weights", weights_path=folder))
        self._call(self._core.reset_prefix_cache)
        self._mixed = False

    def sync_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        self._check_drained()
        if self._asleep:
            self._call(lambda: self._core.wake_up(["weights"]))
        self._load(weights)
        if self._asleep:
            self._call(lambda: self._core.wake_up(["kv_cache"]))
            self._asleep = False

    def sleep(self) -> bool:
        self._check_drained()
        if self._sleeps and not self._asleep:
            self._call(lambda: self._core.sleep(level=2))  # the policy has the weights: none are kept aside
            self._asleep = True
        return self._sleeps

    def checksum(self) -> int:
        """See :func:`harness.rollout.engines.weights.checksum`; of one worker that holds the whole model.

        Raises:
            UserError: the model is spread over several GPUs, which hold some weights twice.
        """
        self._check_idle()
        sums = self._call(lambda: self._rpc("entrobench_checksum"))
        if len(sums) > 1:
            raise UserError("a checksum needs the model on one GPU; compare log-probs (score) instead")
        return int(sums[0])

    def _layout(self) -> tuple[dict[str, tuple[int, ...]], list[list[str]]]:
        """Names and shapes in a Hugging Face checkpoint of this model."""
        import torch
        from transformers import AutoModelForCausalLM

        from harness.rollout.engines.weights import layout

        with torch.device("meta"):
            return layout(AutoModelForCausalLM.from_config(self._config, trust_remote_code=False))

    def _rpc(self, method: str, **given: Any) -> list[Any]:
        answers: list[Any] = self._core.collective_rpc(method, kwargs=given)
        return answers

    def _check_alive(self) -> None:
        if self._core is None:
            raise EngineDied("this vLLM engine was closed; open another one")
        if self._dead:
            raise EngineDied(self._dead)

    def _cause(self, error: Exception) -> str:
        for process in self._processes:
            code = _exit_code(process)
            if code is not None:
                return f"its process ended with exit code {code}" + (
                    ", as when the system runs out of memory" if code == -9 else ""
                )
        return reason(error)

    def _call(self, action: Callable[[], _T]) -> _T:
        """``action``, with a dead engine told in one line; from then on the engine refuses."""
        self._check_alive()
        try:
            return action()
        except UserError:
            raise
        except Exception as error:
            self._dead = (
                f"the vLLM engine died: {self._cause(error)} (its own report, if any, is above); if memory "
                "ran out, lower batch_rows, max_positions or gpu_memory"
            )
            raise EngineDied(self._dead) from error

    def close(self) -> None:
        if self._core is None:
            return
        core, self._core = self._core, None
        core.engine_core.shutdown()
        if self.in_process:
            from vllm.distributed import cleanup_dist_env_and_memory

            del core
            cleanup_dist_env_and_memory()
            VllmEngine.open_here -= 1


def _top_entropy(told: Iterable[Any], top: int) -> float:
    """-sum of e^l l over the ``top`` likeliest of a position's log-probs, nats."""
    logps = sorted((float(one.logprob) for one in told), reverse=True)[:top]
    return -sum(math.exp(logp) * logp for logp in logps if logp > -math.inf)


def _watch(client: Any) -> list[Any]:
    """Wake whoever waits for an answer when the engine's process ends; returns the processes watched.

    vLLM 0.32 notices the end itself, but its synchronous client waits on for ever.
    """
    processes = list(client.resources.engine_manager.processes)
    queue, pending = client.outputs_queue, client.utility_results  # not the client: it may be collected

    def watch() -> None:
        wait([process.sentinel for process in processes])
        error = RuntimeError("its process ended")
        queue.put_nowait(error)
        for future in list(pending.values()):
            if not future.done():
                future.set_exception(error)

    Thread(target=watch, daemon=True, name="entrobench-engine-watch").start()
    return processes


def _exit_code(process: Any, patience_s: float = 2.0) -> int | None:
    """How ``process`` ended; None if it is still there.

    vLLM waits for it too, and the system tells only one of two that wait: the other has to ask again.
    """
    until = time.monotonic() + patience_s
    while process.exitcode is None and time.monotonic() < until:
        process.join(0.1)
        time.sleep(0.02)
    code: int | None = process.exitcode
    return code


def _raise(what: str) -> None:
    raise RuntimeError(what)


def seed_of(key: tuple[object, ...]) -> int:
    """A 63-bit seed that depends on the key alone."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def reason(error: BaseException) -> str:
    """The first sentence of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and "validation error" in lines[0]:  # the second one says which
        lines = [lines[1].removeprefix("Value error, ").partition(" [type=")[0]]
    return lines[0].partition(". ")[0].rstrip(".") if lines else type(error).__name__


def _generation_config(model: str, revision: str | None, config: Any) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(model, revision=revision or "main")
    except OSError:  # the file is optional
        return GenerationConfig.from_model_config(config)
