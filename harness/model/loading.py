"""A model and its tokenizer from files, every weight in its place, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from harness.util.collector import collector_paused
from harness.util.errors import UserError

#: Parts of multimodal and multi-token checkpoints that a language model alone has no place for.
_OTHER_PARTS = (
    "vision",
    "visual",
    "audio",
    "image",
    "multi_modal",
    "multimodal",
    "mm_projector",
    "mtp",
    "speech",
)
#: Tables that older versions stored and today's models make themselves.
_TABLES = (
    "inv_freq",
    "masked_bias",
    "attn.bias",
    "attention.bias",
    "position_ids",
    "cos_cached",
    "sin_cached",
)


def load_model(path: str, revision: str | None, dtype: str, attention: str) -> tuple[Any, Any]:
    """Model and tokenizer of a hub id or a local folder.

    Raises:
        UserError: whatever keeps them from being loaded, or weights that are missing, of no use or misshapen.
    """
    with collector_paused():  # half a second of the three that transformers takes to import
        model, found, tokenizer = _read(path, revision, dtype, attention)
    check_weights(model, found, path)
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of '{path}' has no end token; set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _read(path: str, revision: str | None, dtype: str, attention: str) -> tuple[Any, Any, Any]:
    """Model, what transformers says about its loading, and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    how: dict[str, Any] = {} if attention == "auto" else {"attn_implementation": attention}
    talks = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would say of weights is refused below, in one line
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, revision=revision, dtype=getattr(torch, dtype), trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True, **how,
        )  # fmt: skip
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged files, unknown families, names and shapes: each of another type
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
        raise UserError(
            f"cannot load model '{path}': {reason} (give a hub id, a local folder, or micro)"
        ) from error
    finally:
        logging.set_verbosity(talks)
    model, found = loaded
    return model, found, tokenizer


def check_weights(model: Any, found: Mapping[str, Iterable[Any]], path: str) -> None:
    """
    Args:
        found: what transformers says about its loading.

    Raises:
        UserError: names the first weight that is missing, misshapen, or belongs to another model.
    """
    misshapen = sorted(str(entry[0]) for entry in found.get("mismatched_keys", ()))
    missing = sorted(set(found["missing_keys"]) - _made_here(model))
    unused = sorted(key for key in found["unexpected_keys"] if not _of_no_use(key, model))
    for names, what in (
        (misshapen, "of another shape than its config.json says"),
        (missing, "missing, so random numbers would take their place"),
        (unused, "of no use to it: they belong to another model, or to a head other than a language model's"),
    ):
        if names:
            raise UserError(
                f"model '{path}' is not whole: {len(names)} of its weights are {what}, first '{names[0]}'; "
                f"give the folder of a {type(model).__name__} with all its files"
            )


def _made_here(model: Any) -> set[str]:
    """Names that no file has to hold: tied weights whose other name is there, and tables."""
    kept = dict(model.named_parameters(remove_duplicate=False))
    first = {id(value) for value in model.parameters()}
    once = {name for name, _ in model.named_parameters()}
    tied = {name for name, value in kept.items() if name not in once and id(value) in first}
    return tied | {name for name, _ in model.named_buffers()}


def _of_no_use(key: str, model: Any) -> bool:
    if key.endswith(_TABLES):
        return True
    return any(word in part for part in key.split(".")[:3] for word in _OTHER_PARTS)
