"""What engines check of tokens, and where they cut responses; :mod:`harness.model.text` reads the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.model.text import decode, encode, end_ids, first_stop, load_tokenizer
from harness.rollout.engines.base import Sampling, StopReason
from harness.util.errors import UserError

__all__ = ["check_prompt", "check_stop_ids", "cut", "encode", "end_ids", "load_tokenizer"]


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
    met = first_stop(tokenizer, token_ids, stop_texts)
    if met is None:
        return len(token_ids), decode(tokenizer, [token_ids])[0], ended
    return *met, "stop"
