"""Bytes on each GPU of a run, or of its process on a CPU, by part and phase.

What a layer keeps for its backward pass is counted from the operations of transformers' layers with the
attention of packed rollouts; ``tests/unit/test_memory.py`` compares it, and a whole update, with what
tensors hold. What the driver, NCCL and the allocator take on a GPU stands in a part of its own and has not
been measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.model.memory.shape import FAMILIES, ModelShape

GIB = 1 << 30
#: Bytes of a value.
SIZES = {"float32": 4, "bfloat16": 2}
#: Prompt tokens that are assumed, where nobody says how long prompts are.
PROMPT_TOKENS = 512
#: fp32 tensors as large as the log-prob operator's budget of logits that its backward pass holds at once.
CHUNKS_AT_ONCE = 2
#: Bytes that the sampler holds for each row and token id at a draw: logits, their quotient by the
#: temperature, and probabilities in fp32, once more where blocks of them are filled up.
DRAW_BYTES = 4 + 4 + 4 + 4
#: CUDA's context and libraries, and the share that the allocator cannot use: rules of thumb.
CONTEXT_BYTES, FRAGMENTED = int(1.5 * GIB), 0.08
#: What a process on a CPU holds before its model is loaded, measured: Python, torch, transformers. Freed
#: blocks go back to the system (:mod:`harness.util.heap`), so nothing is added for fragmentation.
PROCESS_BYTES = int(0.25 * GIB)


@dataclass(frozen=True)
class MemoryPart:
    """Bytes of one kind, in each phase; ``knob`` is the setting that they depend on."""

    name: str
    update: float
    sampling: float
    knob: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run needs of each GPU."""

    shape: ModelShape
    gpus: int
    tokens: int
    parts: tuple[MemoryPart, ...]

    @property
    def update(self) -> float:
        return sum(part.update for part in self.parts)

    @property
    def sampling(self) -> float:
        return sum(part.sampling for part in self.parts)

    @property
    def peak(self) -> float:
        """Bytes at the worst moment."""
        return max(self.update, self.sampling)

    def largest(self) -> MemoryPart:
        """The part that weighs most in the worst phase among those that a setting changes."""
        phase = "update" if self.update >= self.sampling else "sampling"
        return max((p for p in self.parts if p.knob), key=lambda part: float(getattr(part, phase)))


def layer_bytes(shape: ModelShape, size: int, fused: bool = False) -> float:
    """Bytes that one layer keeps for each token until its backward pass.

    Args:
        size: bytes of a value in the passes, 4 or 2.
        fused: by :mod:`harness.model.fused`, as on a CPU in fp32.
    """
    h, q, kv = shape.hidden, shape.q_width, shape.kv_width
    _, inner = FAMILIES[shape.family]
    if fused:
        twice = h + q + kv + shape.intermediate + 1  # both inputs, queries and output, keys and values, ...
        return (2 * twice + (q + kv if inner == "head" else 0)) * size + 4 * shape.heads
    wide = 4 if shape.family == "olmo2" else size  # its norms multiply by their weight in fp32

    def norm(width: int, heads: int = 1) -> float:
        """Input in fp32, normalised input, and one number a row."""
        return (4 + wide) * width + 4 * heads

    attention = 2 * (q + kv) * size + 4 * shape.heads  # queries, output, keys, values, log-sum-exp
    mlp = 4 * shape.intermediate * size  # gate, its activation, up, their product
    inputs = 2 * h * size  # of attention and MLP
    norms = 2 * norm(h)
    if inner == "head":
        norms += norm(q, shape.heads) + norm(kv, shape.kv_heads)
    elif inner == "all":
        norms += norm(q) + norm(kv)
    return attention + mlp + inputs + norms


def can_be_fused(shape: ModelShape) -> bool:
    """Whether its layers are of the kind that :mod:`harness.model.fused` computes."""
    return FAMILIES[shape.family][1] != "all"


def activation_bytes(shape: ModelShape, tokens: int, size: int, fused: bool = False) -> tuple[float, float]:
    """Bytes for packed rollouts of ``tokens`` in all.

    Returns:
        what one layer keeps; its input, which is all of it with activation checkpointing.
    """
    return tokens * layer_bytes(shape, size, fused), tokens * shape.hidden * size


def pass_tokens(config: Mapping[str, Any], rows: int, prompt_tokens: int) -> int:
    """Tokens of one pass over ``rows`` rollouts at most: prompts that share a pass stand in it once."""
    rollout, limit = config["rollout"], config["train"].get("micro_batch_tokens")
    groups = -(-rows // rollout["group_size"])
    if rows % rollout["group_size"] and rows > 1:  # cut across a group on either side
        groups += 1
    tokens = min(groups, rows) * prompt_tokens + rows * rollout["max_response_tokens"]
    return int(min(tokens, limit)) if limit else int(tokens)


def head_bytes(shape: ModelShape, tokens: int, size: int, chunk_mib: int) -> tuple[float, float]:
    """Bytes of the log-prob operator: tiles of logits with the hidden states, and the head's gradient."""
    cells = max(1, (chunk_mib << 20) // (4 * shape.vocab)) * shape.vocab
    half = size == 2
    tiles = CHUNKS_AT_ONCE * 4 * cells + (size * cells if half else 0)  # once more in the passes' type
    # final norm, result, chosen; gradient, in fp32 first
    hidden = tokens * shape.hidden * ((4 + size) + 2 * size + size + (4 if half else 0))
    block = 4 * min(shape.vocab, max(math.isqrt(cells), cells // tokens)) * shape.hidden if half else 0
    return tiles + hidden, shape.vocab * shape.hidden * size + block


def plan_memory(
    shape: ModelShape,
    config: Mapping[str, Any],
    *,
    gpus: int = 1,
    gpu_bytes: float | None = None,
    prompt_tokens: int = PROMPT_TOKENS,
    reference: bool = False,
    beside: Mapping[str, ModelShape] | None = None,
) -> Plan:
    """What the run ``config`` needs of each of ``gpus`` GPUs, every response as long as it may be.

    Args:
        config: a run as plain values, see :func:`harness.config.schema.to_dict`.
        gpu_bytes: memory of a GPU, which the share of vLLM is of.
        prompt_tokens: tokens of a prompt.
        reference: a frozen reference policy is held too.
        beside: the models that a rollout program draws with besides the policy, by hyper-parameter; each
            process holds the whole of them.
    """
    model, train, rollout = config["model"], config["train"], config["rollout"]
    kept = SIZES[model["dtype"]]
    short = model.get("compute_dtype", "same") != "same"
    size = SIZES[model["compute_dtype"]] if short else kept
    n, sharded = shape.params, gpus > 1
    rows = rollout["prompts_per_step"] * rollout["group_size"]
    a_minibatch = -(-rows // train["minibatches"])
    micro = min(train["micro_batch_rows"], -(-a_minibatch // gpus))
    several = -(-a_minibatch // (micro * gpus)) > 1
    vllm = rollout.get("engine", "builtin") == "vllm"

    gathered = shape.outer_params + 2 * shape.layer_params  # two layers: one is fetched ahead
    passes = 0.0 if not sharded else gathered * size
    if short and not sharded:
        passes = n * size
    sampled = passes if vllm or not sharded else n * size
    gradients = n * kept / gpus + (n * kept if sharded and several else 0)
    tokens = pass_tokens(config, micro, prompt_tokens)
    chunks, head_gradient = head_bytes(shape, tokens, size, train.get("logits_chunk_mib", 64))
    fused = config.get("device") == "cpu" and size == SIZES["float32"] and can_be_fused(shape)
    layer, its_input = activation_bytes(shape, tokens, size, fused)
    layers = shape.layers * layer
    if train.get("activation_checkpointing", False):
        # one layer at a time is computed again, after the head's backward pass has let go of its own
        layers = shape.layers * its_input + max(0.0, layer - chunks - head_gradient)
    parts = [
        MemoryPart("weights", n * kept / gpus, n * kept / gpus, "gpus"),
        MemoryPart("weights of the passes", passes, sampled, "model.compute_dtype"),
        MemoryPart("gradients", gradients, gradients, "gpus"),
        MemoryPart("optimiser", 2 * n * kept / gpus, 2 * n * kept / gpus, "gpus"),
        MemoryPart("activations", layers, 0.0, "train.micro_batch_rows"),
        MemoryPart("logits chunk, hidden states", chunks, 0.0, "train.logits_chunk_mib"),
        MemoryPart("gradient of the head", head_gradient, 0.0),
    ]
    if reference:
        parts.append(MemoryPart("reference policy", n * size / gpus, n * size / gpus, "gpus"))
    for key, other in (beside or {}).items():
        parts.append(MemoryPart("second model", other.params * size, other.params * size, key))
    if vllm:
        share = engine_share(rollout) * (gpu_bytes or 0.0)
        parts.append(MemoryPart("vLLM: weights and cache", 0.0, share, "rollout.engine_settings"))
    else:
        at_once = max(-(-rows // gpus), -(-config["eval"]["batch_rows"] // gpus))
        own = at_once * rollout["max_response_tokens"]  # a group reads its prompt's in one place
        cached = own + -(-at_once // rollout["group_size"]) * prompt_tokens
        cache = cached * shape.layers * 2 * shape.kv_width * size
        cache += cache / shape.layers  # the layer that is just being extended
        knob = "eval.batch_rows" if at_once * gpus > rows else "rollout.prompts_per_step"
        parts.append(MemoryPart("key-value cache", 0.0, cache, knob))
        parts.append(MemoryPart("draws of the sampler", 0.0, at_once * shape.vocab * DRAW_BYTES, knob))
    if config.get("device") == "cpu":
        parts.append(MemoryPart("Python and its libraries", PROCESS_BYTES, PROCESS_BYTES))
    else:
        held = max(sum(p.update for p in parts), sum(p.sampling for p in parts))
        extra = CONTEXT_BYTES + FRAGMENTED * held
        parts.append(MemoryPart("CUDA and fragmentation (assumed)", extra, extra))
    return Plan(shape, gpus, tokens, tuple(parts))


def engine_share(rollout: Mapping[str, Any]) -> float:
    """The share of a GPU's memory that vLLM may take."""
    for setting in rollout.get("engine_settings") or ():
        key, _, value = str(setting).replace("=", ":").partition(":")
        if key.strip() == "gpu_memory":
            return float(value)
    return 0.5
