"""Tiny GGUF files, written with the gguf package from models that transformers made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

#: Sizes of the tiny models: rows of 256 values, for every quantisation; two of four heads share keys.
SIZES = dict(
    vocab_size=96, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=64, max_position_embeddings=128, initializer_range=0.2,
)  # fmt: skip
TEXTS = [f"<t{i}>" for i in range(92)] + ["<unk>", "<s>", "</s>", "<pad>"]

_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}  # fmt: skip


def tiny_model(architecture: str, **changes: Any) -> Any:
    """A random model; ``architecture`` is llama, qwen2 or gemma3."""
    import transformers as t

    kinds: dict[str, tuple[Any, Any]] = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM), "qwen2": (t.Qwen2Config, t.Qwen2ForCausalLM),
        "gemma3": (t.Gemma3TextConfig, t.Gemma3ForCausalLM),
    }  # fmt: skip
    own: dict[str, Any] = {
        "llama": {"rope_theta": 50000.0}, "qwen2": {"tie_word_embeddings": False},
        "gemma3": {"sliding_window": 8, "num_hidden_layers": 7, "query_pre_attn_scalar": 64},
    }[architecture]  # fmt: skip
    config, model = kinds[architecture]
    torch.manual_seed(7)
    made = model(config(**SIZES | own | changes)).eval()
    with torch.no_grad():  # norms and biases that differ from those of a new model
        for value in made.parameters():
            if value.dim() == 1:
                value.add_(torch.randn_like(value) * 0.1)
    return made


def file_name(name: str, architecture: str) -> str:
    """What a weight of transformers is called in the file."""
    if name in _OUTER:
        return _OUTER[name]
    _, _, layer, rest = name.split(".", 3)
    inner, _, kind = rest.rpartition(".")
    names = _NAMES | (_GEMMA if architecture == "gemma3" else {})
    return f"blk.{layer}.{names[inner]}.{kind}"


def paired(value: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys as llama.cpp wants them: value i and i + d/2 of a head side by side."""
    rows = value.reshape(heads, 2, -1, *value.shape[1:])
    return np.stack([rows[:, 0], rows[:, 1]], axis=2).reshape(value.shape)


def write_model(
    path: Path,
    model: Any,
    architecture: str,
    kind: str = "F32",
    metadata: Mapping[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
    quantise: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Write ``model`` with matrices of ``kind``; ``metadata`` is added or, where None, taken away."""
    config = model.config.get_text_config()
    writer = gguf.GGUFWriter(path, architecture)
    values = settings(config, architecture) | plain_vocabulary() | dict(metadata or {})
    for key, value in values.items():
        if value is not None and key != "general.architecture":
            _add(writer, key, value)
    number = gguf.GGMLQuantizationType[kind]
    tied = config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        target = file_name(name, architecture)
        if target in leave_out or (tied and name == "lm_head.weight"):
            continue
        value = tensor.numpy().astype(np.float32)
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            value = paired(value, heads)
        if architecture == "gemma3" and "norm" in name:
            value = value + np.float32(1)
        if value.ndim == 2 and kind != "F32":
            packed = quantise(value) if quantise else gguf.quantize(value, number)
            writer.add_tensor(target, packed, raw_dtype=number)
        else:
            writer.add_tensor(target, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def settings(config: Any, architecture: str) -> dict[str, Any]:
    rope = config.rope_parameters
    base = rope["full_attention"]["rope_theta"] if architecture == "gemma3" else rope["rope_theta"]
    found = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps), "rope.freq_base": float(base),
    }  # fmt: skip
    if architecture == "gemma3":
        found |= {"attention.sliding_window": config.sliding_window, "attention.key_length": config.head_dim}
    return {f"{architecture}.{name}": value for name, value in found.items()}


def plain_vocabulary() -> dict[str, Any]:
    """Sentence pieces that never join; the last four are unknown, begin, end and padding."""
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": TEXTS,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(TEXTS))],
        "tokenizer.ggml.token_type": [1] * 92 + [2, 3, 3, 3], "tokenizer.ggml.unknown_token_id": 92,
        "tokenizer.ggml.bos_token_id": 93, "tokenizer.ggml.eos_token_id": 94,
        "tokenizer.ggml.padding_token_id": 95, "tokenizer.chat_template": "{{ messages[0]['content'] }}",
    }  # fmt: skip


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
