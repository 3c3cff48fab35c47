"""Rows that grow by a token at a time, over keys and values of earlier tokens where the model keeps them.

Where attention can be exchanged, rows share their prompt's keys and values, nothing is padded, and what a
row has said is written into a preallocated cache (:class:`SharedPrompts`). :class:`Plain` is for every other
model: its own cache, and rows padded on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.model.attention import Layout, joined, kernel, layout_of, mask_of
from harness.model.logits import HeadCurve, head_logits
from harness.model.own import Ways, head_of, hidden_states

#: Tokens of prompts that are read in one pass, and tokens that a cache has room for at first.
_READ, _ROOM = 8192, 32


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
        return _wide(head_logits(self._hidden, head.weight, getattr(head, "bias", None), self._curve))

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


class _Kept:
    """Keys and values of one layer: ``[P,W,G,D]`` of prompts, and ``[N,C,G,D]`` of what rows have said."""

    def __init__(self) -> None:
        self.prompt: list[Tensor] = []
        self.own: list[Tensor] = []


@dataclass(frozen=True)
class _Sharing:
    """Which rows share a prompt: ``[P,m]`` rows of each prompt (0 where it has fewer), and where they are."""

    rows: Tensor
    m: int
    real: Tensor | None
    hidden_P1W: Tensor | None

    def mask(self, queries: int, dtype: torch.dtype) -> Tensor | None:
        """Added to the products of ``queries`` queries a prompt."""
        return None if self.hidden_P1W is None else mask_of(self, self.hidden_P1W, queries, dtype)

    @classmethod
    def of(cls, prompt_N: Tensor, lengths: Tensor) -> _Sharing:
        """
        Args:
            prompt_N: number of each row's prompt, ascending, every prompt at least once.
            lengths: tokens of each prompt.
        """
        counts = torch.bincount(prompt_N)
        m = int(counts.max())
        at = torch.arange(m, device=prompt_N.device)
        there = at < counts[:, None]
        start = counts.cumsum(0) - counts
        rows = torch.where(there, start[:, None] + at, 0).flatten()
        width = torch.arange(int(lengths.max()), device=lengths.device)
        hidden = width >= lengths[:, None]
        return cls(
            rows, m, None if bool(there.all()) else there.flatten().nonzero().flatten(),
            hidden[:, None] if bool(hidden.any()) else None,
        )  # fmt: skip


class SharedPrompts:
    """Decoding over a cache of our own; the model's attention is :func:`harness.model.exchange.attend`."""

    def __init__(self, model: Any, curve: HeadCurve, prompts: Sequence[Sequence[int]]) -> None:
        self._model, self._curve = model, curve
        self._kept: dict[Any, _Kept] = {}
        self._layout: Layout | None = None
        self._said = 0  # tokens that every row has in the cache
        device = model.device
        self._lengths = torch.tensor([len(p) for p in prompts], device=device)
        self._prompt_N = torch.arange(len(prompts), device=device)
        self._sharing = _Sharing.of(self._prompt_N, self._lengths)
        self._width = int(self._lengths.max())
        self._hidden = torch.cat([self._read(part) for part in _parts(prompts, _READ)])
        for kept in self._kept.values():  # in one piece: every step reads it
            kept.prompt = [torch.cat(kept.prompt[i::2]) for i in range(2)]

    def _read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states that predict the first token behind each prompt; fills the caches."""
        lengths = [len(p) for p in prompts]
        self._layout = layout_of(lengths, [()] * len(prompts)).to(self._model.device)
        ends = np.cumsum(lengths)
        at = np.arange(self._width)
        index = np.where(at < np.array(lengths)[:, None], (ends - lengths)[:, None] + at, 0)
        self._index = torch.from_numpy(index.ravel()).to(self._model.device)
        hidden = self._pass(
            [token for prompt in prompts for token in prompt], [i for n in lengths for i in range(n)]
        )
        self._layout = None
        return hidden[torch.from_numpy(ends - 1).to(hidden.device)]

    def _pass(self, ids: Any, positions: Any) -> Tensor:
        device = self._model.device
        inputs = {
            "input_ids": torch.as_tensor(ids, device=device)[None],
            "position_ids": torch.as_tensor(positions, device=device)[None],
            "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
            "layout": self,
            "use_cache": False,
        }
        return hidden_states(self._model, inputs)[0][0]

    def attend(self, module: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``[N,H,D]``: the prompts' own attention while they are read, then that of a token of every row."""
        kept = self._kept.setdefault(module, _Kept())
        if self._layout is not None:
            for value in (k, v):
                kept.prompt.append(value.index_select(0, self._index).unflatten(0, (-1, self._width)))
            return self._layout.attend(module, q, k, v, scale)
        return self._grown(kept, q, k, v, scale)

    def _grown(self, kept: _Kept, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        rows, groups, size = k.shape
        if not kept.own:
            kept.own = [k.new_empty(rows, _ROOM, groups, size) for _ in range(2)]
        elif kept.own[0].shape[1] == self._said:  # full: room for as much again
            kept.own = [torch.cat([x, torch.empty_like(x)], 1) for x in kept.own]
        for cache, value in zip(kept.own, (k, v), strict=True):
            cache[:, self._said] = value
        # the heads that share keys stand as queries of one head, since none of them hides anything
        q = q.unflatten(1, (groups, -1))
        own = [x[:, : self._said + 1].transpose(1, 2) for x in kept.own]
        out, lse = kernel(q, own[0], own[1], scale)
        share, prompts = self._sharing, len(kept.prompt[0])
        asking = q.index_select(0, share.rows).unflatten(0, (prompts, share.m))
        asking = asking.transpose(1, 2).flatten(2, 3)
        there, there_lse = (
            x.unflatten(2, (share.m, -1)).transpose(1, 2).flatten(0, 1)
            for x in kernel(
                asking, kept.prompt[0].transpose(1, 2), kept.prompt[1].transpose(1, 2), scale,
                share.mask(asking.shape[2], q.dtype),
            )
        )  # fmt: skip
        if share.real is not None:
            there, there_lse = there[share.real], there_lse[share.real]
        return joined(out, lse, there, there_lse)[0].flatten(1, 2)

    def logits(self) -> Tensor:
        head = head_of(self._model)
        return _wide(head_logits(self._hidden, head.weight, getattr(head, "bias", None), self._curve))

    def repeat(self, n: int) -> None:
        self._hidden = self._hidden.repeat_interleave(n, 0)
        self._prompt_N = self._prompt_N.repeat_interleave(n)
        self._sharing = _Sharing.of(self._prompt_N, self._lengths)

    def keep(self, rows: Tensor) -> None:
        self._hidden = self._hidden[rows]
        left, self._prompt_N = self._prompt_N[rows].unique_consecutive(return_inverse=True)
        if len(left) < len(self._lengths):
            self._lengths = self._lengths[left]
            width = int(self._lengths.max())
            for kept in self._kept.values():
                kept.prompt = [x[left, :width] for x in kept.prompt]
        for kept in self._kept.values():
            kept.own = [x[rows] for x in kept.own]
        self._sharing = _Sharing.of(self._prompt_N, self._lengths)

    def append(self, token_N: Tensor) -> None:
        self._hidden = self._pass(token_N, self._lengths[self._prompt_N] + self._said)
        self._said += 1


def _wide(logits_NV: Tensor) -> Tensor:
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))


def _parts(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[Sequence[int]]]:
    """Prompts in order, ``tokens`` at a time (more where one is longer)."""
    parts: list[list[Sequence[int]]] = [[]]
    held = 0
    for prompt in prompts:
        if parts[-1] and held + len(prompt) > tokens:
            parts.append([])
            held = 0
        parts[-1].append(prompt)
        held += len(prompt)
    return parts
