"""What a GGUF file's names and settings are in a Hugging Face folder, for each architecture known here.

An architecture is refused unless everything its file says is understood: a setting or tensor that nobody
reads would make another model of it, silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.model.gguf.header import GgufFile
from harness.util.errors import UserError

#: Done to a tensor: nothing, rows of rotary pairs put apart again, or 1 taken off (llama.cpp adds 1).
Change = Literal["", "unpair", "minus-one"]


@dataclass(frozen=True)
class Weight:
    """A weight of the folder: its name and shape there, where it comes from, and what becomes of it.

    Attributes:
        heads: for ``unpair``, the heads that the rows are divided into.
    """

    name: str
    shape: tuple[int, ...]
    source: str
    change: Change = ""
    heads: int = 1


@dataclass(frozen=True)
class Architecture:
    """``config.json`` and the weights, in the order they are written."""

    config: Mapping[str, Any]
    weights: tuple[Weight, ...]


#: Settings that change nothing: sizes said twice, and what quantising noted.
_HARMLESS = {"vocab_size", "rope.scaling.original_context_length", "rope.scaling.finetuned"}
_READ = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.type",
    "rope.scaling.factor", "rope.dimension_count", "attention.key_length", "attention.value_length",
}  # fmt: skip
_ROPE_SCALING = ("none", "linear")


class _Settings:
    """Settings of the file's architecture, by the names behind the dot."""

    def __init__(self, file: GgufFile, extra: set[str]) -> None:
        self.file = file
        prefix = f"{file.architecture}."
        self._values = {k.removeprefix(prefix): v for k, v in file.metadata.items() if k.startswith(prefix)}
        strange = sorted(set(self._values) - _HARMLESS - _READ - extra)
        if strange:
            raise UserError(
                f"{file.path.name}: {file.architecture} with the setting {strange[0]}="
                f"{self._values[strange[0]]} is not supported; use another file or the hub's model"
            )

    def whole(self, name: str, default: int | None = None) -> int:
        value = self._values.get(name, default)
        if not isinstance(value, int) or value <= 0:
            raise UserError(
                f"{self.file.path.name}: {self.file.architecture}.{name} is {_short(value)}, not a whole "
                "number above 0; use another file or the hub's model"
            )
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._values.get(name, default)
        if not isinstance(value, int | float) or value <= 0:
            raise UserError(
                f"{self.file.path.name}: {self.file.architecture}.{name} is {_short(value)}, not a number "
                "above 0; use another file or the hub's model"
            )
        return _plain(float(value))

    def text(self, name: str, default: str) -> str:
        return str(self._values.get(name, default))


def _short(value: Any) -> str:
    return "missing" if value is None else repr(value)[:40]


def _plain(value: float) -> float:
    """The shortest decimal that is the same single-precision number: 1e-05, not 9.999999747378752e-06."""
    import numpy as np

    return float(str(np.float32(value)))


def describe(file: GgufFile) -> Architecture:
    """
    Raises:
        UserError: an architecture, setting or tensor that is not known, or one that is missing or misshapen.
    """
    builder = _BUILDERS.get(file.architecture)
    if builder is None:
        raise UserError(
            f"{file.path.name} is of the architecture '{file.architecture}', which cannot be converted; "
            f"known are {', '.join(sorted(_BUILDERS))}; use the hub's model"
        )
    found = builder(file)
    _check_tensors(file, found)
    return found


def _check_tensors(file: GgufFile, found: Architecture) -> None:
    for weight in found.weights:
        place = file.tensors.get(weight.source)
        if place is None:
            raise UserError(
                f"{file.path.name} has no tensor {weight.source}; fetch it again, or another file"
            )
        if place.shape != weight.shape:
            raise UserError(
                f"{file.path.name}: tensor {weight.source} has the shape {list(place.shape)} instead of "
                f"{list(weight.shape)}; use another file"
            )
    strange = sorted(set(file.tensors) - {w.source for w in found.weights} - {"rope_freqs.weight"})
    if strange:
        raise UserError(
            f"{file.path.name}: {len(strange)} tensors of this {file.architecture} are not supported, e.g. "
            f"{strange[0]}; use another file or the hub's model"
        )


def _common(file: GgufFile, settings: _Settings) -> dict[str, Any]:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise UserError(f"{file.path.name} has no embedding (token_embd.weight); use another file")
    heads, hidden = settings.whole("attention.head_count"), settings.whole("embedding_length")
    width = settings.whole("attention.key_length", hidden // heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if settings.whole(name, width) != width:
            raise UserError(
                f"{file.path.name}: {name} is {settings.whole(name)} where heads are {width} wide, which is "
                "not supported; use another file or the hub's model"
            )
    return {
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "intermediate_size": settings.whole("feed_forward_length"),
        "num_hidden_layers": settings.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": settings.whole("attention.head_count_kv", heads),
        "head_dim": width,
        "max_position_embeddings": settings.whole("context_length"),
        "rms_norm_eps": settings.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": settings.number("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(file, settings),
        "attention_dropout": 0.0,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "use_cache": True,
    }


def _rope_scaling(file: GgufFile, settings: _Settings) -> dict[str, Any] | None:
    kind = settings.text("rope.scaling.type", "none")
    if kind not in _ROPE_SCALING or "rope_freqs.weight" in file.tensors:
        what = f"rope scaling '{kind}'" if kind not in _ROPE_SCALING else "its own rope frequencies (Llama 3)"
        raise UserError(f"{file.path.name}: {what} is not supported; use another file or the hub's model")
    if kind == "none":
        return None
    return {"rope_type": "linear", "factor": settings.number("rope.scaling.factor")}


def _llama(file: GgufFile) -> Architecture:
    settings = _Settings(file, set())
    common = _common(file, settings)
    biased, mlp_biased = "blk.0.attn_q.bias" in file.tensors, "blk.0.ffn_up.bias" in file.tensors
    config = common | {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "attention_bias": biased, "mlp_bias": mlp_biased,
    }  # fmt: skip
    attention = ("q", "k", "v", "o") if biased else ()
    mlp = ("gate", "up", "down") if mlp_biased else ()
    return Architecture(config, tuple(_weights(config, biases=(*attention, *mlp), unpair=True)))


def _qwen2(file: GgufFile) -> Architecture:
    settings = _Settings(file, set())
    common = _common(file, settings)
    config = common | {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
        "use_sliding_window": False,
    }  # fmt: skip
    return Architecture(config, tuple(_weights(config, biases=("q", "k", "v"))))


#: Of Gemma 3: every sixth layer sees everything, the others a window; their rope has its own base.
_GEMMA_PERIOD, _GEMMA_LOCAL_BASE = 6, 10000.0
#: Layers of the one size whose queries are scaled by the width of the model over its heads.
_GEMMA_27B_LAYERS = 62


def _gemma3(file: GgufFile) -> Architecture:
    settings = _Settings(file, {"attention.sliding_window", "rope.freq_base_swa"})
    common = _common(file, settings)
    layers, heads = common["num_hidden_layers"], common["num_attention_heads"]
    width = common["hidden_size"] // heads if layers == _GEMMA_27B_LAYERS else common["head_dim"]
    kinds = ["sliding_attention" if (i + 1) % _GEMMA_PERIOD else "full_attention" for i in range(layers)]
    config = common | {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": width,
        "rope_theta": settings.number("rope.freq_base", 1000000.0),
        "rope_local_base_freq": settings.number("rope.freq_base_swa", _GEMMA_LOCAL_BASE),
        "sliding_window": settings.whole("attention.sliding_window"), "layer_types": kinds,
        "attention_bias": False, "attn_logit_softcapping": None, "final_logit_softcapping": None,
    }  # fmt: skip
    return Architecture(config, tuple(_weights(config, gemma=True)))


_BUILDERS: dict[str, Callable[[GgufFile], Architecture]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "gemma3": _gemma3,
}

#: Norms of a layer: name there -> name in the file. Gemma 3 has one behind attention and MLP, too.
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_GEMMA_NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def _weights(
    config: Mapping[str, Any],
    *,
    biases: tuple[str, ...] = (),
    unpair: bool = False,
    gemma: bool = False,
) -> Iterator[Weight]:
    """The weights of a decoder with gated MLPs."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, groups, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    norm: Change = "minus-one" if gemma else ""
    matrices = {
        "self_attn.q": ("attn_q", heads * width, hidden), "self_attn.k": ("attn_k", groups * width, hidden),
        "self_attn.v": ("attn_v", groups * width, hidden),
        "self_attn.o": ("attn_output", hidden, heads * width),
        "mlp.gate": ("ffn_gate", inner, hidden), "mlp.up": ("ffn_up", inner, hidden),
        "mlp.down": ("ffn_down", hidden, inner),
    }  # fmt: skip
    yield Weight("model.embed_tokens.weight", (vocab, hidden), "token_embd.weight")
    for i in range(config["num_hidden_layers"]):
        to, of = f"model.layers.{i}", f"blk.{i}"
        for name, (source, rows, columns) in matrices.items():
            short = name.rpartition(".")[2]
            change: Change = "unpair" if unpair and short in ("q", "k") else ""
            parts = {"q": heads, "k": groups}.get(short, 1)
            whole, end = f"{to}.{name}_proj", f"{of}.{source}"
            yield Weight(f"{whole}.weight", (rows, columns), f"{end}.weight", change, parts)
            if short in biases:
                yield Weight(f"{whole}.bias", (rows,), f"{end}.bias", change, parts)
        for name, source in (_GEMMA_NORMS if gemma else _NORMS).items():
            yield Weight(f"{to}.{name}.weight", (hidden,), f"{of}.{source}.weight", norm)
        if gemma:
            for short in ("q", "k"):
                source = f"{of}.attn_{short}_norm.weight"
                yield Weight(f"{to}.self_attn.{short}_norm.weight", (width,), source, norm)
    yield Weight("model.norm.weight", (hidden,), "output_norm.weight", norm)
    if not config["tie_word_embeddings"]:
        yield Weight("lm_head.weight", (vocab, hidden), "output.weight")
