"""What a model's ``config.json`` says about a run of it, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from harness.config.schema import RunConfig
from harness.model.memory.shape import read_config
from harness.util.errors import UserError

#: Layers that see tokens through a mask; others carry a state past it, and padding or packing would leak in.
_MASKED = {"full_attention", "sliding_attention", "chunked_attention", "indexed_attention"}
#: Back ends that take any mask.
_BACK_ENDS = ("sdpa", "eager")

_config = cache(read_config)


def check_model(run: RunConfig, path: str) -> None:
    """Refuse attention that rollouts cannot be batched with, and a vocabulary larger than a chunk of logits.

    A model that is not on this machine yet is not checked here; loading it does.

    Args:
        path: local folder or hub id, names of shipped models resolved.

    Raises:
        UserError: with the setting to change.
    """
    config = _config(path, run.model.revision)
    if config is None:
        return
    check_attention(config, run.model.attention, run.model.path)
    vocab = (config.get("text_config") or config).get("vocab_size")
    if vocab:
        check_vocabulary(int(vocab), run.train.logits_chunk_mib)


def check_attention(config: Mapping[str, Any], asked: str, name: str) -> None:
    """
    Raises:
        UserError: layers without a mask, or a back end of the model's own that takes none.
    """
    text = config.get("text_config") or config
    strange = sorted({str(kind) for kind in text.get("layer_types") or ()} - _MASKED)
    if strange:
        raise UserError(
            f"model '{name}' mixes attention with layers of kind {', '.join(strange)}, which carry a state "
            "past any mask, so rollouts can be neither padded nor packed; use a model with attention in "
            "every layer"
        )
    own = config.get("_attn_implementation") or config.get("attn_implementation")
    if asked == "auto" and own not in (None, *_BACK_ENDS):
        raise UserError(
            f"the config.json of model '{name}' asks for the attention back end '{own}', which cannot take "
            "the mask of packed rows; write model.attention=sdpa (or eager)"
        )


def check_kind(model: Any, name: str) -> None:
    """
    Raises:
        UserError: layers that carry a state past any mask, in a model that is loaded.
    """
    check_attention(model.config.to_dict(), "sdpa", name)
    if getattr(model, "_is_stateful", False):
        raise UserError(
            f"model '{name}' ({type(model).__name__}) carries a state from token to token past any mask, so "
            "rollouts can be neither padded nor packed; use a model with attention in every layer"
        )


def check_vocabulary(vocab: int, chunk_mib: int) -> None:
    """
    Raises:
        UserError: not even one position's logits fit a chunk.
    """
    if 4 * vocab > chunk_mib << 20:
        need = -(-4 * vocab // (1 << 20))
        raise UserError(
            f"the logits of one position over {vocab} tokens need {need} MiB, but train.logits_chunk_mib is "
            f"{chunk_mib}; write train.logits_chunk_mib={need} or more"
        )
