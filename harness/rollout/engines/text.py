"""Tokens and text, the same for every engine: loading a tokenizer, encoding prompts, cutting responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.rollout.engines.base import Sampling, StopReason
from harness.util.errors import UserError


def load_tokenizer(model: str, revision: str | None = None) -> Any:
    """The tokenizer of a hub id or a local folder.

    Raises:
        UserError: there is none, or it has no end token.
    """
    from transformers import AutoTokenizer

    _check_folder(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    except Exception as error:  # the reasons are many (files, formats, network) and so are their types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot load a tokenizer for model '{model}': {reason} (give a hub id, or a folder with the "
            "files that tokenizer.save_pretrained writes)"
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of '{model}' has no end token; set eos_token in its tokenizer_config.json"
        )
    return tokenizer


def _check_folder(model: str) -> None:
    """Transformers makes up an empty tokenizer for some folders without one; such a folder is refused."""
    folder = Path(model)
    if not folder.is_dir():
        return
    if not (folder / "config.json").exists():
        raise UserError(f"'{model}' holds no model: config.json is missing; give a folder of save_pretrained")
    known = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "spiece.model")
    if not any((folder / name).exists() for name in known):
        raise UserError(
            f"model '{model}' has no tokenizer; copy the files that tokenizer.save_pretrained writes "
            "(tokenizer.json, tokenizer_config.json) into it"
        )


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a prompt, with the begin token once if the tokenizer adds one, and no end token.

    A template that writes the begin token itself would otherwise get it twice, which models never saw.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=True)["input_ids"]
    bare: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is not None and bare[:1] == [bos] and ids[:2] == [bos, bos]:
        ids = ids[1:]
    if ids and ids[-1] == tokenizer.eos_token_id and bare[-1:] != ids[-1:]:
        ids = ids[:-1]
    return ids


def end_ids(tokenizer: Any, generation_config: Any) -> tuple[int, ...]:
    """Token ids that end a response: the tokenizer's and the generation config's."""
    configured = getattr(generation_config, "eos_token_id", None)
    ids = {tokenizer.eos_token_id} | set(configured if isinstance(configured, list | tuple) else [configured])
    return tuple(sorted(int(i) for i in ids if i is not None))


def check_stop_ids(sampling: Sampling, vocabulary: int) -> None:
    """Refuse stop ids that the model can never draw.

    Raises:
        UserError: an id outside ``0 .. vocabulary - 1``.
    """
    outside = [i for i in sampling.stop_ids if not 0 <= i < vocabulary]
    if outside:
        raise UserError(f"stop id {outside[0]} is not in the model's vocabulary of {vocabulary} tokens")


def check_prompt(prompt_ids: Sequence[int], vocabulary: int) -> None:
    """Refuse token ids that the model does not know.

    Raises:
        UserError: an id outside ``0 .. vocabulary - 1``.
    """
    if prompt_ids and not 0 <= min(prompt_ids) <= max(prompt_ids) < vocabulary:
        raise UserError(
            f"a prompt holds token {max(prompt_ids)}, outside the model's vocabulary of {vocabulary}; "
            "encode it with this model's tokenizer"
        )


def cut(
    tokenizer: Any, token_ids: Sequence[int], ended: StopReason, stop_texts: Sequence[str]
) -> tuple[int, str, StopReason]:
    """Where a response ends and what it says.

    Args:
        ended: why drawing ended, stop texts aside.

    Returns:
        Tokens that count (up to the one that completed a stop text), the text without special tokens (up to
        and including the stop text), and the stop reason.
    """

    def say(count: int) -> str:
        return str(tokenizer.decode(list(token_ids[:count]), skip_special_tokens=True))

    text = say(len(token_ids))
    met = [s for s in stop_texts if s in text]
    if not met:
        return len(token_ids), text, ended
    low, high = 1, len(token_ids)  # the least number of tokens that say a stop text
    while low < high:
        middle = (low + high) // 2
        said = say(middle)
        low, high = (low, middle) if any(s in said for s in met) else (middle + 1, high)
    said = say(low)
    at = min(said.index(s) + len(s) for s in met if s in said)
    return low, said[:at], "stop"
