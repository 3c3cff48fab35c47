"""Decoding over a cache of our own: rows read their prompt's keys and values in one place.

Rows that began together have said equally many tokens and share a cache (a cohort). Rows may join while
others are under way: every layer's products are made for all of them at once, attention for each cohort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.model.attention import Layout, joined, kernel, layout_of, mask_of
from harness.model.head import HeadCurve, head_logits, tiled_head
from harness.model.own import head_of, hidden_states

#: Tokens of prompts that are read in one pass, and tokens that a cache has room for at first.
_READ, _ROOM = 8192, 32


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


class _Cohort:
    """Prompts that were read together and the rows behind them, which have said equally many tokens."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.width, self.said = max(lengths), 0
        self._kept: dict[Any, _Kept] = {}
        self._lengths = torch.tensor(lengths, device=device)
        self._prompt_N = torch.arange(len(lengths), device=device)
        self._sharing = _Sharing.of(self._prompt_N, self._lengths)

    def __len__(self) -> int:
        return len(self._prompt_N)

    def position_N(self) -> Tensor:
        """Where each row's next token stands."""
        return self._lengths[self._prompt_N] + self.said

    def keep_prompts(self, module: Any, *values: Tensor) -> None:
        """A layer's keys and values ``[P,W,G,D]`` of some more prompts."""
        self._kept.setdefault(module, _Kept()).prompt += values

    def in_one_piece(self) -> None:
        """Keys and values of all prompts together: every step reads them."""
        for kept in self._kept.values():
            kept.prompt = [torch.cat(kept.prompt[i::2]) for i in range(2)]

    def repeat(self, n: int) -> None:
        self._prompt_N = self._prompt_N.repeat_interleave(n)
        self._sharing = _Sharing.of(self._prompt_N, self._lengths)

    def keep(self, rows: Tensor) -> None:
        left, self._prompt_N = self._prompt_N[rows].unique_consecutive(return_inverse=True)
        if len(left) < len(self._lengths):
            self._lengths = self._lengths[left]
            width = int(self._lengths.max())
            for kept in self._kept.values():
                kept.prompt = [x[left, :width] for x in kept.prompt]
        for kept in self._kept.values():
            kept.own = [self._said_by(x, rows) for x in kept.own]
        self._sharing = _Sharing.of(self._prompt_N, self._lengths)

    def _said_by(self, cache: Tensor, rows: Tensor) -> Tensor:
        """What ``rows`` have said, with as much room as before; what is empty is not copied."""
        smaller = cache.new_empty(len(rows), *cache.shape[1:])
        smaller[:, : self.said] = cache[rows, : self.said]
        return smaller

    def attend(self, module: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``[N,H,D]`` of a token of every row, whose keys and values are kept."""
        kept = self._kept[module]
        rows, groups, size = k.shape
        if not kept.own:
            kept.own = [k.new_empty(rows, _ROOM, groups, size) for _ in range(2)]
        elif kept.own[0].shape[1] == self.said:  # full: room for as much again
            kept.own = [torch.cat([x, torch.empty_like(x)], 1) for x in kept.own]
        for cache, value in zip(kept.own, (k, v), strict=True):
            cache[:, self.said] = value
        # the heads that share keys stand as queries of one head, since none of them hides anything
        q = q.unflatten(1, (groups, -1))
        own = [x[:, : self.said + 1].transpose(1, 2) for x in kept.own]
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


class SharedPrompts:
    """Rows that grow; the model's attention is :func:`harness.model.exchange.attend`."""

    def __init__(self, model: Any, curve: HeadCurve, prompts: Sequence[Sequence[int]]) -> None:
        self._model, self._curve = model, curve
        self._layout: Layout | None = None
        self._cohorts = [_Cohort([len(p) for p in prompts], model.device)]
        self._hidden = torch.cat([self._read(part) for part in _parts(prompts, _READ)])
        self._cohorts[0].in_one_piece()
        self._tiled = tiled_head(head_of(model))

    def _read(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states that predict the first token behind each prompt; fills the caches."""
        lengths = [len(p) for p in prompts]
        self._layout = layout_of(lengths, [()] * len(prompts)).to(self._model.device)
        ends = np.cumsum(lengths)
        at = np.arange(self._cohorts[0].width)
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
        if self._layout is not None:
            cohort = self._cohorts[0]
            pieces = [x.index_select(0, self._index).unflatten(0, (-1, cohort.width)) for x in (k, v)]
            cohort.keep_prompts(module, *pieces)
            return self._layout.attend(module, q, k, v, scale)
        if len(self._cohorts) == 1:
            return self._cohorts[0].attend(module, q, k, v, scale)
        sizes = [len(cohort) for cohort in self._cohorts]
        parts = zip(self._cohorts, *(x.split(sizes) for x in (q, k, v)), strict=True)
        return torch.cat([cohort.attend(module, *qkv, scale) for cohort, *qkv in parts])

    def logits(self) -> Tensor:
        """As of :class:`harness.model.decoding.Decoding`; written over at the next call."""
        if self._tiled is not None and self._hidden.dtype == self._tiled.dtype:
            return self._curve(self._tiled(self._hidden))
        head = head_of(self._model)
        return head_logits(self._hidden, head.weight, getattr(head, "bias", None), self._curve)

    def repeat(self, n: int) -> None:
        self._hidden = self._hidden.repeat_interleave(n, 0)
        self._cohorts[0].repeat(n)

    def join(self, other: SharedPrompts) -> None:
        """The rows of ``other``, which grows no longer by itself, behind these."""
        self._hidden = torch.cat([self._hidden, other._hidden])
        self._cohorts += other._cohorts

    def keep(self, rows: Tensor) -> None:
        self._hidden = self._hidden[rows]
        if len(self._cohorts) == 1:
            self._cohorts[0].keep(rows)
            return
        left, start = list[_Cohort](), 0
        for cohort in self._cohorts:
            size = len(cohort)
            mine = rows[(rows >= start) & (rows < start + size)] - start
            start += size
            if 0 < len(mine) < size:
                cohort.keep(mine)
            left += [cohort] if len(mine) else []
        self._cohorts = left

    def append(self, token_N: Tensor) -> None:
        self._hidden = self._pass(token_N, torch.cat([cohort.position_N() for cohort in self._cohorts]))
        for cohort in self._cohorts:
            cohort.said += 1


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
