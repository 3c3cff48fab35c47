"""What an engine is to the rest of the harness: requests in, completions out as they finish.

Imports no torch: the engine that is opened brings what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.util.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import Tensor

#: Engine name -> module with ``open_`` (opens one) and ``status`` (one line for ``entrobench doctor``).
ENGINES = {"hf": "harness.rollout.engines.hf", "vllm": "harness.rollout.engines.vllm"}

#: ``end``: one of the model's end tokens; ``stop``: a stop id or stop text of the request's ``Sampling``;
#: ``length``: the token limit came first.
StopReason = Literal["end", "stop", "length"]

#: ``bitwise``: equal requests in equal order give equal bits. ``same-samples``: a sample depends on its key
#: and not on what is drawn beside it, up to draws that fall within rounding. ``statistical``: equal in
#: distribution only.
Determinism = Literal["bitwise", "same-samples", "statistical"]


class EngineDied(RuntimeError):
    """The engine ended while it worked; the message names the cause and what to do."""


@dataclass(frozen=True)
class Sampling:
    """How to draw. ``temperature`` 0 is greedy decoding.

    Attributes:
        max_tokens: limit of a response, the end token included.
        stop_ids: token ids that end a response besides the model's own end tokens.
        stop_texts: texts that end a response, e.g. ``</answer>``; the response's text ends with it.
        top_entropy: so many of the likeliest tokens give each position its entropy; 0 asks for none.
    """

    temperature: float
    top_p: float
    max_tokens: int
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    top_entropy: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UserError(f"temperature must be 0 (greedy) or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be over 0 and at most 1, not {self.top_p}")
        if self.max_tokens < 1:
            raise UserError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if "" in self.stop_texts:
            raise UserError("an empty stop text would end every response at once; leave it out")
        if self.top_entropy < 0:
            raise UserError(f"top_entropy must be 0 (none) or more tokens, not {self.top_entropy}")


@dataclass(frozen=True)
class GenerationRequest:
    """One response to draw. Its draws depend on ``key`` and nothing else; ``tag`` comes back untouched."""

    key: tuple[object, ...]
    prompt_ids: tuple[int, ...]
    tag: Any = None


@dataclass(frozen=True)
class Completion:
    """A finished response.

    Attributes:
        token_ids: the response's tokens, with the token that ended it.
        text: what they say, special tokens left out; it ends at the stop text if one was met.
        logps: full-softmax log-prob of every token at the engine's ``logp_temperature``, in nats.
        entropies: -sum of p ln p over the likeliest tokens, where asked for (``Sampling.top_entropy``), with
            the p of the full softmax at that temperature: not normalised, nats.
    """

    request: GenerationRequest
    token_ids: tuple[int, ...]
    text: str
    stop_reason: StopReason
    logps: tuple[float, ...] = field(repr=False)
    entropies: tuple[float, ...] = field(default=(), repr=False)

    @property
    def logp_sum(self) -> float:
        return sum(self.logps)


class Engine(Protocol):
    """Holds a model and draws from it."""

    name: str
    capabilities: frozenset[str]
    determinism: Determinism
    max_positions: int | None
    logp_temperature: float

    def describe(self) -> dict[str, Any]:
        """Name, version, dtype, hardware and so on: stands in every record."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt; no second begin token when the text already starts with one."""

    def generate(self, requests: Iterable[GenerationRequest], sampling: Sampling) -> Iterator[Completion]:
        """Completions as they finish, in any order; ``requests`` is read as far as there is room.

        Consecutive requests with the same prompt share its prefill. Closing the iterator drops what is
        not finished.

        Raises:
            UserError: a prompt that does not fit, an unknown stop id, log-probs that are NaN or infinite; the
                message names the remedy.
            EngineDied: the engine ended; what was yielded before stays valid.
        """

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-prob of every token but the first given those before it, at temperature 1.

        The same tokens scored by the trainer's policy tell whether both hold the same weights.
        """

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace all weights, by their names in a Hugging Face checkpoint, and drop every cached prefix.

        No response may be on its way.

        Raises:
            UserError: names or shapes are not those of this model, or some never came; old and new weights
                may then be mixed, so load all of them again before anything else.
            EngineDied: no engine to load them into.
        """

    def sync_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """:meth:`load_weights` in an engine that may sleep: wake the weights, load, wake the cache."""

    def sleep(self) -> bool:
        """Give back the memory of weights and cache until ``sync_weights``; false where it cannot."""

    def checksum(self) -> int:
        """:func:`harness.rollout.engines.weights.checksum` of the weights as the engine holds them."""

    def close(self) -> None:
        """Free what the engine holds; closing twice is fine."""


def open_engine(
    name: str,
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    max_positions: int | None = None,
    logp_temperature: float = 1.0,
    **options: Any,
) -> Engine:
    """Open engine ``name`` on a hub id or a local folder.

    Args:
        dtype: ``auto`` is float32 on a CPU and bfloat16 elsewhere.
        device: ``auto`` is the first GPU if there is one, else the CPU.
        max_positions: context to use, prompt and response together; the model's own when not given. With
            vllm a smaller one leaves more room for requests side by side.
        logp_temperature: divides the logits behind the returned log-probs (the loss temperature).
        options: what only this engine has, e.g. ``batch_rows`` (hf) or ``gpu_memory`` (vllm).

    Raises:
        UserError: unknown engine, one that is not usable here, or a model that it cannot load.
    """
    from importlib import import_module

    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise unknown("dtype", dtype, ("auto", "float32", "bfloat16", "float16"))
    if not logp_temperature > 0:
        raise UserError(f"the temperature of log-probs must be over 0, not {logp_temperature}")
    open_ = import_module(ENGINES[name]).open_
    check_options(name, options)
    if max_positions is not None and (not _is_a(max_positions, "int") or max_positions < 2):
        raise UserError(f"max_positions must be a whole number over 1, not '{max_positions}'")
    engine: Engine = open_(
        model, revision=revision, dtype=dtype, device=device, max_positions=max_positions,
        logp_temperature=logp_temperature, **options,
    )  # fmt: skip
    return engine


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that engine ``name`` does not have, or of the wrong kind; opens nothing.

    Raises:
        UserError: names the nearest options, or the kind.
    """
    import inspect
    from importlib import import_module

    known = inspect.signature(import_module(ENGINES[name]).open_).parameters
    for option, value in options.items():
        if option not in known or option == "model":
            raise unknown(f"option of engine {name}", option, [k for k in known if k != "model"])
        kind = str(known[option].annotation).partition(" | ")[0]
        if not _is_a(value, kind):
            raise UserError(f"option {option} of engine {name} must be {_KINDS[kind]}, not '{value}'")


def option_value(text: str) -> Any:
    """A number or truth value where ``text`` is one; :func:`check_options` judges the rest."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def _is_a(value: object, kind: str) -> bool:
    """Whether ``value`` suits an option annotated with ``kind``; a truth value is no number."""
    wanted: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
    }
    return isinstance(value, wanted[kind]) and (kind == "bool" or not isinstance(value, bool))


def check_length(prompt_tokens: int, sampling: Sampling, max_positions: int | None, what: str = "") -> None:
    """Refuse a prompt that, with the longest response, does not fit the context.

    Args:
        what: names the prompt in the message, e.g. a problem id.

    Raises:
        UserError: it does not fit, or is empty.
    """
    where = f" of {what}" if what else ""
    if prompt_tokens < 1:
        raise UserError(f"the prompt{where} has no tokens; a model needs at least one to start from")
    if max_positions is None or prompt_tokens + sampling.max_tokens <= max_positions:
        return
    room = max_positions - prompt_tokens
    if room < 1:
        raise UserError(
            f"the prompt{where} has {prompt_tokens} tokens, which fills the context of {max_positions}; "
            "leave it out, shorten the template, or take a model with a longer context"
        )
    raise UserError(
        f"the prompt{where} has {prompt_tokens} tokens; with max_tokens={sampling.max_tokens} it exceeds the "
        f"context of {max_positions}; set max_tokens to {room} or less"
    )


def choose_device(device: str) -> str:
    """``auto`` resolved: ``cuda`` where torch sees a GPU, else ``cpu``.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if there else "cpu"
    if device.startswith("cuda") and not there:
        raise UserError("device=cuda, but torch sees no GPU; use device=cpu or auto")
    return device


def choose_dtype(dtype: str, device: str) -> str:
    """``auto`` resolved: float32 on a CPU, where half precision is slow and coarse, bfloat16 elsewhere."""
    if dtype == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    return dtype


def hardware(device: str) -> str:
    """The GPU's name, or the CPU's architecture."""
    import platform

    if device == "cpu":
        return f"cpu ({platform.machine()})"
    import torch

    return str(torch.cuda.get_device_name(device))
