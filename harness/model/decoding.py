"""Rows that grow by a token at a time, over keys and values of earlier tokens where the model keeps them.

Where attention can be exchanged, rows share their prompt's keys and values, nothing is padded, and what a
row has said is written into a preallocated cache (:mod:`harness.model.shared_prompts`). :class:`Plain` is for
every other model: its own cache, and rows padded on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.model.head import HeadCurve, head_logits
from harness.model.own import Ways, head_of, hidden_states
from harness.model.shared_prompts import SharedPrompts


class Decoding(Protocol):
    """Rows that grow: ``n`` for each prompt, one behind the other."""

    def logits(self) -> Tensor:
        """``[N,V]`` of the token that comes next, fp32 or wider; of prompts alone before :meth:`repeat`."""

    def repeat(self, n: int) -> None:
        """Every prompt ``n`` times, one behind the other; once, before the first token."""

    def keep(self, rows: Tensor) -> None:
        """Only these rows, in ascending order."""

    def append(self, token_N: Tensor) -> None:
        """A token to each row."""


def decoding(
    model: Any, curve: HeadCurve, ways: Ways, prompts: Sequence[Sequence[int]], pad_id: int
) -> Decoding:
    """Rows that start as ``prompts``, by what the model can do.

    Raises:
        ValueError: prompts of unequal length for a model that may not be padded.
    """
    if ways.share:
        return SharedPrompts(model, curve, prompts)
    if not ways.pad and len({len(p) for p in prompts}) > 1:
        raise ValueError("this model takes prompts of one length at a time")
    ids, mask = left_padded(prompts, pad_id)
    return Plain(model, curve, ways, ids.to(model.device), mask.to(model.device))


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask ``[len(prompts), P]``, padded on the left."""
    width = max(len(p) for p in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[i, width - len(prompt) :] = True
    return ids, mask


class Plain:
    """By the model's own cache or none; padded on the left, or of one length without ``ways.pad``."""

    def __init__(self, model: Any, curve: HeadCurve, ways: Ways, ids_NP: Tensor, mask_NP: Tensor) -> None:
        from transformers import DynamicCache

        self._model, self._curve, self._ways = model, curve, ways
        self._ids, self._mask = ids_NP, mask_NP
        self._cache = DynamicCache(config=model.config) if ways.cache else None
        self._hidden = self._pass(ids_NP, (mask_NP.long().cumsum(1) - 1).clamp(min=0))

    def _pass(self, ids_NX: Tensor, position_NX: Tensor) -> Tensor:
        inputs: dict[str, Any] = {"input_ids": ids_NX, "use_cache": self._cache is not None}
        if self._cache is not None:
            inputs |= {"past_key_values": self._cache}
        if self._ways.pad:
            inputs |= {"attention_mask": self._mask.long(), "position_ids": position_NX}
        return hidden_states(self._model, inputs)[0][:, -1]

    def logits(self) -> Tensor:
        head = head_of(self._model)
        return head_logits(self._hidden, head.weight, getattr(head, "bias", None), self._curve)

    def repeat(self, n: int) -> None:
        self._hidden = self._hidden.repeat_interleave(n, 0)
        if self._cache is not None:
            self._cache.batch_repeat_interleave(n)
        self._ids, self._mask = (value.repeat_interleave(n, 0) for value in (self._ids, self._mask))

    def keep(self, rows: Tensor) -> None:
        self._hidden = self._hidden[rows]
        if self._cache is not None:
            self._cache.batch_select_indices(rows)
        self._ids, self._mask = self._ids[rows], self._mask[rows]

    def append(self, token_N: Tensor) -> None:
        ones = torch.ones(len(self._mask), 1, dtype=torch.bool, device=self._mask.device)
        self._mask = torch.cat([self._mask, ones], 1)
        if self._cache is not None:
            self._hidden = self._pass(token_N[:, None], self._mask.long().sum(1, keepdim=True) - 1)
            return
        self._ids = torch.cat([self._ids, token_N[:, None]], 1)
        self._hidden = self._pass(self._ids, (self._mask.long().cumsum(1) - 1).clamp(min=0))
