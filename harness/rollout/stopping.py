"""Texts that end a response, for the built-in sampler: looked for now and then, cut off at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.model.text import decode, first_stop

#: Tokens between two looks at what the responses say; what was drawn beyond a stop text is cut off.
LOOK_EVERY = 16


class StopTexts:
    """The stop texts of one call of the sampler; without any nothing is looked at."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self._tokenizer, self._texts = tokenizer, tuple(texts)
        # a token may hold less than a character, but never less than a byte of it
        self._tail = LOOK_EVERY + max((len(text.encode()) for text in texts), default=0)

    def unmet(self, tokens_NT: Tensor, rows_M: Tensor, live_M: Tensor, count_M: Tensor) -> Tensor:
        """``live_M`` without the rows that say a stop text.

        Args:
            rows_M: which rows of ``tokens_NT`` are decoded; of each live one ``count_M`` tokens are drawn.
        """
        if not self._texts:
            return live_M
        at = (live_M & (count_M % LOOK_EVERY == 0)).nonzero().flatten()
        if not len(at):
            return live_M
        out_M = live_M.clone()
        counts = count_M[at].tolist()
        drawn = [row[:count] for row, count in zip(tokens_NT[rows_M[at]].tolist(), counts, strict=True)]
        tails = decode(self._tokenizer, [row[-self._tail :] for row in drawn])
        for i, row, tail in zip(at.tolist(), drawn, tails, strict=True):
            if any(text in tail for text in self._texts):  # a tail may read otherwise than the whole
                out_M[i] = first_stop(self._tokenizer, row, self._texts) is None
        return out_M

    def cut(self, tokens_NT: Tensor, valid_NT: Tensor) -> Tensor:
        """Take what follows the first stop text out of ``valid_NT``; ``[N]``: rows that had one."""
        found_N = torch.zeros(len(tokens_NT), dtype=torch.bool, device=tokens_NT.device)
        for row in range(len(tokens_NT)) if self._texts else ():
            ids = tokens_NT[row][valid_NT[row]].tolist()
            stop = first_stop(self._tokenizer, ids, self._texts)
            if stop is not None:
                valid_NT[row, stop[0] :] = False
                found_N[row] = True
        return found_N


def until_stop(tokenizer: Any, text: str, response: Sequence[int], stop_texts: Sequence[str]) -> str:
    """``text``, which ends as ``response`` does, without what stands behind its stop text."""
    stop = first_stop(tokenizer, response, stop_texts)
    if stop is None:
        return text
    return text[: len(text) - len(decode(tokenizer, [response])[0]) + len(stop[1])]
