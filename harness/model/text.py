"""Text and tokens, read in one way: a prompt as tokens, where a response ends, and what it says.

Training, probe, frontier, evaluation and both engines ask here. A second reading somewhere else would train
on prompts that evaluation never shows, or end responses in one place and not in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.problems.templates import render_chat
from harness.util.errors import UserError

#: Chat-end tokens of common model families: whatever the template, a response ends there.
CHAT_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
)
#: Those that end a turn in one family and only a message within a turn in another.
_MESSAGE_ENDS = ("<|end|>",)
_SAID = "forty two"


def load_tokenizer(model: str, revision: str | None = None) -> Any:
    """The tokenizer of a hub id or a local folder.

    Raises:
        UserError: there is none, or it has no end token.
    """
    from transformers import AutoTokenizer

    _check_folder(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
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
    """Token ids of a prompt: what the tokenizer puts in front of a text, once, and nothing behind it.

    A template that writes the begin token itself would otherwise get it twice, and a tokenizer that closes
    texts with an end token would have the model answer after the end of a document.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=True)["input_ids"]
    bare: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    width = len(bare)
    at = next((k for k in range(len(ids) - width + 1) if ids[k : k + width] == bare), None)
    if not bare or at is None:  # nothing to find, or a tokenizer that splits a text otherwise once it adds
        return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] and bare[-1:] != ids[-1:] else ids
    front = ids[:at]
    written = next((n for n in range(len(front), 0, -1) if front[-n:] == bare[:n]), 0)
    return [*front[: len(front) - written], *bare]


def encode_inside(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that stands inside a sequence: nothing is put in front of it or behind."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def decode(tokenizer: Any, rows: Sequence[Sequence[int]]) -> list[str]:
    """Texts of token rows, special tokens left out."""
    texts: list[str] = tokenizer.batch_decode([list(row) for row in rows], skip_special_tokens=True)
    return texts


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Texts of single tokens, special ones too; of a part of a character, what the tokenizer makes of it."""
    texts: list[str] = tokenizer.batch_decode([[i] for i in ids], skip_special_tokens=False)
    return texts


def stop_ids(tokenizer: Any, vocabulary: int) -> tuple[int, ...]:
    """Ids of the chat-end tokens that the model can write: base models do so too once they are trained.

    They are the known ones, and the one that the model's own chat template closes an answer with. A piece of
    the vocabulary that only looks like one is none: the tokenizer has to call it special.

    Args:
        vocabulary: size of the model's; a tokenizer may know tokens that the model has no embedding of.
    """
    special = _special_ids(tokenizer)
    if not special:
        return ()
    ends, own = set(CHAT_ENDS), _turn_end(tokenizer)
    if own in special:
        ends = ends - set(_MESSAGE_ENDS) | {tokenizer.convert_ids_to_tokens(own)}
    # what it does not know, a tokenizer reads as something else: often as one token for all of it
    ids = [(tokenizer.convert_tokens_to_ids(token), token) for token in ends]
    known = [i for i, token in ids if i is not None and tokenizer.convert_ids_to_tokens(i) == token]
    return tuple(sorted(i for i in known if i in special and i < vocabulary))


def _special_ids(tokenizer: Any) -> set[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return {*getattr(tokenizer, "all_special_ids", ())} | {i for i, token in added if token.special}


def _turn_end(tokenizer: Any) -> int | None:
    """The token that the chat template closes an answer with, if it has one."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": "six times seven?"}, {"role": "assistant", "content": _SAID}]
    try:
        rendered = render_chat(tokenizer, turns, answer=False)
    except UserError:  # it is made for other turns; a run that renders with it is told
        return None
    _, found, rest = rendered.rpartition(_SAID)
    ids = tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"] if found else []
    return int(ids[0]) if ids else None


def own_end_ids(tokenizer: Any, generation_config: Any) -> tuple[int, ...]:
    """Token ids that the model itself calls ends: the tokenizer's and the generation config's."""
    configured = getattr(generation_config, "eos_token_id", None)
    ids = {tokenizer.eos_token_id} | set(configured if isinstance(configured, list | tuple) else [configured])
    return tuple(sorted(int(i) for i in ids if i is not None))


def end_ids(tokenizer: Any, generation_config: Any, vocabulary: int) -> tuple[int, ...]:
    """All token ids that end a response: the model's own, and the chat ends (:func:`stop_ids`)."""
    chat = stop_ids(tokenizer, vocabulary)
    return tuple(sorted({*own_end_ids(tokenizer, generation_config), *chat}))


def first_stop(
    tokenizer: Any, token_ids: Sequence[int], stop_texts: Sequence[str]
) -> tuple[int, str] | None:  # fmt: skip
    """Where the first stop text of a response is complete; None where it says none.

    Returns:
        Tokens up to the one that completed it, and the text up to and including it.
    """

    def say(count: int) -> str:
        return decode(tokenizer, [token_ids[:count]])[0]

    text = say(len(token_ids)) if stop_texts else ""
    met = [s for s in stop_texts if s in text]
    if not met:
        return None
    low, high = 1, len(token_ids)  # the least number of tokens that say a stop text
    while low < high:
        middle = (low + high) // 2
        said = say(middle)
        low, high = (low, middle) if any(s in said for s in met) else (middle + 1, high)
    said = say(low)
    return low, said[: min(said.index(s) + len(s) for s in met if s in said)]
