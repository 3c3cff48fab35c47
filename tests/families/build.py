"""A tiny random model of any family: its configuration's sizes made small, kinds of layers kept."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch

#: A window that rollouts outgrow, and a vocabulary that the tiny tokenizer fits into.
WINDOW, VOCAB = 6, 128
_SMALL: dict[str, Any] = {
    # vocabulary and positions
    "vocab_size": VOCAB, "vocab_size_per_layer_input": VOCAB, "max_position_embeddings": 256,
    "n_positions": 256, "n_ctx": 256, "max_seq_len": 256, "max_target_positions": 256, "bos_token_id": 2,
    "eos_token_id": 1, "pad_token_id": 0, "sliding_window": WINDOW, "attention_chunk_size": WINDOW,
    "window_size": WINDOW, "local_attention": WINDOW,
    # widths
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "embed_dim": 32, "emb_dim": 32, "dim_model": 32,
    "embedding_size": 32, "word_embed_proj_dim": 32, "intermediate_size": 64, "ffn_hidden_size": 64,
    "d_ff": 64, "dim_ff": 64, "ffn_dim": 64, "d_inner": 64, "n_inner": 64, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "dff": 64, "hidden_size_per_layer_input": 8, "adapter_in_dim": 32,
    # layers and heads
    "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 1,
    "decoder_layers": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "num_blocks": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "dim_head": 8, "rotary_dim": 8, "d_kv": 8, "global_head_dim": 8,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "index_n_heads": 16, "index_head_dim": 8, "index_topk": 4, "num_global_key_value_heads": 2,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4,
    "n_shared_experts": 1, "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2,
    "n_group": 1, "topk_group": 1, "num_expert_group": 1, "first_k_dense_replace": 1, "top_k_experts": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "expert_ffn_hidden_size": 16,
    "moe_shared_expert_intermediate_size": 16, "shared_intermediate_size": 16,
    "shared_experts_intermediate_size": 16,
    # states
    "linear_head_dim": 8, "linear_num_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "mamba_n_heads": 8, "mamba_d_head": 8,
    "mamba_d_state": 8, "mamba_dt_rank": 4, "mamba_headdim": 8, "lru_width": 32, "state_size": 8,
    "time_step_rank": 4, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1,
    # pictures, which nobody shows
    "image_size": 28, "patch_size": 14, "mm_tokens_per_image": 4,
}  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_QSA = {
    "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4,
    "indexer_compress_ratio": 2,
}  # fmt: skip
#: What a configuration cannot be made without.
_USUAL: dict[str, dict[str, Any]] = {
    f"{family}_assistant": {
        "text_config": {
            "model_type": f"{family}_text",
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
        }
    }
    for family in ("gemma4", "gemma4_unified")
}
#: What the small sizes do not fit.
_CHANGES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "falcon_h1": {"mamba_d_ssm": 64},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "qwen4_exp_text": _QSA,
    "qwen4_exp": {"text_config": _QSA},
    "dots3_note": {
        "vision_config": {
            "mlp_layer_types": ["dense", "dense"],
            "adapter_merge_size": 2,
            "adapter_out_dim": 32,
        },
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma3n": {"text_config": {"num_kv_shared_layers": 0}},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"is_decoder": True, "attn_layers": ["local", "local"], "axial_pos_embds": False},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4},
    "zaya": {"num_experts_per_tok": 1},
}


def config_class(family: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[family]


def small_config(family: str) -> Any:
    """The family's configuration with small sizes, two layers at least, and one of each kind."""
    return _small(config_class(family), _CHANGES.get(family, {}), _USUAL.get(family, {}))


def _small(cls: Any, changes: dict[str, Any], needed: dict[str, Any] | None = None) -> Any:
    usual = cls(**needed or {})
    wanted = {key: value for key, value in _SMALL.items() if _has(usual, key)}
    if _has(usual, "kv_lora_rank"):  # every head has keys of its own
        wanted["num_key_value_heads"] = 4
    if _has(usual, "is_decoder"):  # else its attention looks ahead
        wanted["is_decoder"] = True
    kinds = list(dict.fromkeys(_value(usual, "layer_types") or ()))
    if kinds and "layer_types" in vars(usual):
        wanted["layer_types"] = kinds if len(kinds) > 1 else kinds * 2
        wanted["num_hidden_layers"] = len(wanted["layer_types"])
    parts = [part for part in getattr(cls, "sub_configs", None) or {} if _value(usual, part) is not None]
    small = {part: _small(type(_value(usual, part)), changes.get(part, {})) for part in parts}
    wanted |= {key: value for key, value in changes.items() if key not in parts}
    try:
        return cls(**wanted, **{part: config.to_dict() for part, config in small.items()})
    except Exception:  # some versions of some families take the parts as they are
        return cls(**wanted, **small)


def _value(config: Any, key: str) -> Any:
    try:
        return getattr(config, key, None)
    except Exception:  # families refuse to name what differs from layer to layer
        return config.__dict__.get(key)


def _has(config: Any, key: str) -> bool:
    """Whether a size is the family's own, and can be set."""
    if isinstance(getattr(type(config), key, None), property):
        return False
    if key == "is_decoder":
        return getattr(config, key, None) is False
    known = _value(config, key) is not None
    return known or (key in ("num_key_value_heads", "head_dim", "sliding_window") and key in vars(config))


def build(family: str, seed: int = 0) -> Any:
    """A model whose distributions are not flat."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(small_config(family))
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def save(family: str, folder: Path) -> Path:
    """The model and a tokenizer, as a Hugging Face folder.

    Where transformers cannot make the model (a package is missing), the folder has its configuration,
    or the family's name alone, and one weight.
    """
    from safetensors.torch import save_file

    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with suppress(Exception):  # what the families' own code raises; loading says it again
        build(family).save_pretrained(folder)
    with suppress(Exception):
        small_config(family).save_pretrained(
            folder
        )  # a wrapper's, where the model has kept its text part only
    shutil.copytree(_tokenizer(), folder, dirs_exist_ok=True)
    return folder


@cache
def _tokenizer() -> Path:
    """The tiny tokenizer as it is saved, once a process."""
    from tests.helpers.tiny import build_tokenizer

    folder = Path(tempfile.mkdtemp(prefix="entrobench-tokenizer-"))
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)
    build_tokenizer().save_pretrained(folder)
    return folder
