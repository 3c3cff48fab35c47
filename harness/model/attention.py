"""Attention over rollouts in one row without padding: each prompt once, its responses behind all prompts.

A response token attends to its prompt and to its own response up to itself. Where a prompt and its responses
are few tokens, one masked attention over all of them is the fastest. Else both parts are plain attentions
over rectangles, which flash kernels compute without ever seeing a mask that is mostly empty; their results
are joined by the log of their softmax sums (Milakov & Gimelshein 2018, "Online normalizer calculation for
softmax"; the same step joins the blocks of FlashAttention). The gradient needs no more than the joint sum:
each part's backward kernel is given the joint output and sum in place of its own.

Shape letters: ``L`` tokens of the row, ``H`` heads, ``D`` their size; in a call ``n`` rectangles of ``Q``
queries by ``K`` keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: A rectangle may be padded to the longest until this share of it is empty, if it is large enough to matter.
_FULL, _LARGE = 0.75, 256
#: Tokens of a prompt and its responses up to which one call for all of them is faster than one for each part.
_SHORT = 128


@dataclass(frozen=True)
class Call:
    """Tokens that attend to tokens in one call of a kernel.

    Attributes:
        query, key: ``[n * Q]``, ``[n * K]`` indices into the row; 0 where a rectangle has no token.
        n, width: rectangles, and their queries ``Q``.
        causal: query i sees keys up to i, else all that are there.
        there_nQK: true where a query sees a key (``Q`` 1 if all see the same); None where all see all.
        real: ``[r]`` where in ``query`` the tokens are; None where all are.
    """

    query: Tensor
    key: Tensor
    n: int
    width: int
    causal: bool
    there_nQK: Tensor | None = None
    real: Tensor | None = None

    @cached_property
    def tokens(self) -> Tensor:
        """``[r]``: the queries that are tokens."""
        return self.query if self.real is None else self.query[self.real]

    @cached_property
    def no_token(self) -> Tensor | None:
        """``[n * Q]``: the queries that are no tokens; None where all are."""
        if self.real is None:
            return None
        return torch.ones(len(self.query), dtype=torch.bool, device=self.query.device).index_fill_(
            0, self.real, 0
        )

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """``[n,1,Q,K]``: what is added to the products."""
        return None if self.there_nQK is None else mask_of(self, ~self.there_nQK, self.width, dtype)


@dataclass(frozen=True)
class Layout:
    """Who attends to whom in a row of rollouts.

    Attributes:
        own: every prompt, and every response, to itself; short ones with all of their prompt's at once.
        across: responses to their prompts, where it is not done yet.
        prompt_L: number of each token's prompt.
        response_L: number of each token's response; -1 in prompts.
    """

    own: tuple[Call, ...]
    across: tuple[Call, ...]
    prompt_L: Tensor
    response_L: Tensor

    def to(self, device: torch.device) -> Layout:
        return _to(self, device)

    def attend(self, _: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``[L,H,D]`` from queries ``[L,H,D]``, keys and values ``[L,G,D]``, where ``G`` divides ``H``."""
        if q.device.type == "cpu":
            return _Attend.apply(q, k, v, self, scale)  # type: ignore[no-any-return]
        return _flexible(q, k, v, self, scale)

    def sees(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the tokens at ``query`` see those at ``key``, as :attr:`own` and :attr:`across` say it."""
        same = self.prompt_L[query] == self.prompt_L[key]
        part = self.response_L[key]
        return same & (query >= key) & ((part == -1) | (part == self.response_L[query]))

    @cached_property
    def blocks(self) -> Any:
        """FlexAttention's block mask of :meth:`sees`."""
        from torch.nn.attention.flex_attention import create_block_mask

        length = len(self.prompt_L)
        return create_block_mask(
            lambda _b, _h, query, key: self.sees(query, key), None, None, length, length,
            device=self.prompt_L.device, _compile=self.prompt_L.is_cuda,
        )  # fmt: skip


def _to(part: Any, device: torch.device) -> Any:
    if isinstance(part, Tensor):
        return part.to(device)
    if isinstance(part, tuple):
        return tuple(_to(p, device) for p in part)
    if isinstance(part, Layout | Call):
        return replace(part, **{f.name: _to(getattr(part, f.name), device) for f in fields(part)})
    return part


def layout_of(prompts: Sequence[int], responses: Sequence[Sequence[int]]) -> Layout:
    """The layout of prompts of these lengths, then of their responses in the same order.

    Args:
        prompts: tokens of each prompt, at least 1.
        responses: for each prompt, the tokens of its responses; 0 is allowed.
    """
    starts = np.concatenate([[0], np.cumsum(prompts)])
    lengths = [length for group in responses for length in group]
    own, across, short = (list[tuple[int, ...]]() for _ in range(3))
    at = int(starts[-1])
    for start, length, group in zip(starts[:-1].tolist(), prompts, responses, strict=True):
        total = sum(group)
        if total and length + total <= _SHORT:
            short.append((length + total, start, length, at))
        else:
            own += [(start, length), *_spans(at, group)]
            across += [(at, total, start, length)] if total else []
        at += total
    number = np.repeat(np.arange(len(prompts)), [sum(group) for group in responses])
    prompt = np.concatenate([np.repeat(np.arange(len(prompts)), prompts), number])
    response = np.concatenate([np.full(starts[-1], -1), np.repeat(np.arange(len(lengths)), lengths)])
    return Layout(
        (
            *(_causal(part) for part in _alike(own, 1)),
            *(_together(part, response) for part in _alike(short, 0)),
        ),
        tuple(_whole(part) for part in _alike(across, 1)),
        torch.from_numpy(prompt),
        torch.from_numpy(response),
    )


def _spans(at: int, lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """(start, length) of spans one behind the other from ``at``, empty ones left out."""
    starts = np.cumsum([at, *lengths]).tolist()
    return [(start, length) for start, length in zip(starts, lengths, strict=False) if length]


def _alike(spans: Sequence[tuple[int, ...]], size: int) -> list[list[tuple[int, ...]]]:
    """Spans in groups whose sizes differ little, the longest first."""
    groups: list[list[tuple[int, ...]]] = []
    held = 0
    for span in sorted(spans, key=lambda s: (-s[size], s)):
        if not groups or (span[size] < _FULL * groups[-1][0][size] and held >= _LARGE):
            groups.append([])
            held = 0
        groups[-1].append(span)
        held += span[size]
    return groups


def _rectangle(spans: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """``[n,width]`` indices of spans (start, length), and where they are tokens; 0 elsewhere."""
    start, length = np.array(spans).T
    at = np.arange(length.max())
    there = at < length[:, None]
    return np.where(there, start[:, None] + at, 0), there


def _causal(spans: Sequence[tuple[int, ...]]) -> Call:
    index, there = _rectangle([(start, length) for start, length, *_ in spans])
    flat = torch.from_numpy(index.ravel())
    return Call(flat, flat, len(spans), index.shape[1], True, None, _real(there))


def _whole(spans: Sequence[tuple[int, ...]]) -> Call:
    queries, real = _rectangle([(start, length) for start, length, *_ in spans])
    keys, there = _rectangle([(start, length) for *_, start, length in spans])
    return Call(
        torch.from_numpy(queries.ravel()), torch.from_numpy(keys.ravel()), len(spans), queries.shape[1],
        False, None if there.all() else torch.from_numpy(there[:, None]), _real(real),
    )  # fmt: skip


def _together(groups: Sequence[tuple[int, ...]], response: np.ndarray) -> Call:
    """Groups (tokens, start of the prompt, its length, start of the responses), all of each at once."""
    width = groups[0][0]
    index, real = np.zeros((len(groups), width), np.int64), np.zeros((len(groups), width), bool)
    for row, (tokens, start, length, at) in enumerate(groups):
        index[row, :tokens] = np.r_[start : start + length, at : at + tokens - length]
        real[row, :tokens] = True
    part = response[index]
    sees = np.tri(width, dtype=bool) & ((part == -1)[:, None] | (part[:, :, None] == part[:, None]))
    flat = torch.from_numpy(index.ravel())
    return Call(flat, flat, len(groups), width, False, torch.from_numpy(sees), _real(real))


def _real(there: np.ndarray) -> Tensor | None:
    return None if there.all() else torch.from_numpy(there.ravel().nonzero()[0])


# --- the operator -----------------------------------------------------------------------------------------


class _Attend(torch.autograd.Function):
    """``[L,H,D]`` from queries ``[L,H,D]``, keys and values ``[L,G,D]`` (``G`` divides ``H``), on a CPU."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
        out, lse = attend_out(layout, q, k, v, scale)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        totals = tuple(torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        attend_back(ctx.layout, grads[0], (q, k, v), out, lse, ctx.scale, totals)
        return *totals, None, None


def attend_out(layout: Layout, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output ``[L,H,D]`` and log-sums ``[L,H]`` of packed rows, on a CPU."""
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
    for call in layout.own:
        part, part_lse = _forward(call, q, k, v, scale)
        out.index_copy_(0, call.tokens, part)
        lse.index_copy_(0, call.tokens, part_lse)
    for call in layout.across:
        part, part_lse = _forward(call, q, k, v, scale)
        both, joint = joined(
            out.index_select(0, call.tokens), lse.index_select(0, call.tokens), part, part_lse
        )
        out.index_copy_(0, call.tokens, both)
        lse.index_copy_(0, call.tokens, joint)
    return out, lse


def attend_back(
    layout: Layout, grad: Tensor, qkv: Sequence[Tensor], out: Tensor, lse: Tensor, scale: float,
    totals: Sequence[Tensor],
) -> None:  # fmt: skip
    """Add the gradients of queries, keys and values to ``totals``."""
    q, k, v = qkv
    for call in (*layout.own, *layout.across):
        for total, index, part in zip(
            totals,
            (call.query, call.key, call.key),
            _backward(call, grad, q, k, v, out, lse, scale),
            strict=True,
        ):
            total.index_add_(0, index, part)


def _flexible(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """The same by FlexAttention, whose kernels skip the blocks of a mask that are empty. Untested on GPU."""
    out = _flex_attention()(
        q.transpose(0, 1)[None], k.transpose(0, 1)[None], v.transpose(0, 1)[None], block_mask=layout.blocks,
        scale=scale, enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return out[0].transpose(0, 1)


@lru_cache(maxsize=1)
def _flex_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if torch.cuda.is_available() else flex_attention


def joined(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    """One softmax over two sets of keys: output ``[…,D]`` and log-sum ``[…]``, of those of either set."""
    joint = torch.logaddexp(lse, other_lse)
    both = out * (lse - joint).exp_()[..., None] + other * (other_lse - joint).exp_()[..., None]
    return both.to(out.dtype), joint


def kernel(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Output ``[n,H,Q,D]`` and log-sum ``[n,H,Q]``.

    Args:
        mask: ``[n,1,Q,K]``, added to the products.
        causal: query i sees keys up to i; on a CPU only.
    """
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # type: ignore[no-any-return]
            q, k, v, 0.0, causal, attn_mask=mask, scale=scale
        )
    products = (q @ k.transpose(-2, -1)).float() * scale
    if mask is not None:
        products = products + mask
    lse = products.logsumexp(-1)
    return (products - lse[..., None]).exp().to(v.dtype) @ v, lse


def mask_of(owner: Any, hidden_nQK: Tensor, queries: int, dtype: torch.dtype) -> Tensor:
    """``[n,1,queries,K]``: what is added to the products, -inf where a key is hidden (``Q`` may be 1).

    Args:
        owner: keeps it, so that all layers take the one that the first has made.
    """
    made: dict[object, Tensor] = vars(owner).setdefault("_masks", {})
    if (queries, dtype) not in made:
        mask = torch.zeros(hidden_nQK.shape, dtype=dtype, device=hidden_nQK.device)
        mask.masked_fill_(hidden_nQK, float("-inf"))
        made[queries, dtype] = mask[:, None].expand(-1, 1, queries, -1)
    return made[queries, dtype]


def _cut(value: Tensor, index: Tensor, n: int) -> Tensor:
    """``[n,heads,width,D]`` of ``[L,heads,D]``."""
    return value.index_select(0, index).unflatten(0, (n, -1)).transpose(1, 2)


def _rows(value: Tensor) -> Tensor:
    """``[n * width, heads, ...]`` of ``[n,heads,width,...]``."""
    return value.transpose(1, 2).flatten(0, 1)


def _forward(call: Call, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output and log-sum of the queries that are tokens."""
    out, lse = kernel(
        _cut(q, call.query, call.n), _cut(k, call.key, call.n), _cut(v, call.key, call.n), scale,
        call.mask(q.dtype), causal=call.causal,
    )  # fmt: skip
    out, lse = _rows(out), _rows(lse)
    return (out, lse) if call.real is None else (out[call.real], lse[call.real])


def _backward(
    call: Call, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, scale: float
) -> list[Tensor]:
    """The call's shares of the gradients of queries, keys and values, row by row of its indices."""
    lse_q = lse.index_select(0, call.query)
    if call.no_token is not None:  # a query that is no token has weight 0 everywhere, whatever its products
        lse_q.masked_fill_(call.no_token[:, None], float("inf"))
    parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        _cut(grad, call.query, call.n), _cut(q, call.query, call.n), _cut(k, call.key, call.n),
        _cut(v, call.key, call.n), _cut(out, call.query, call.n),
        lse_q.unflatten(0, (call.n, -1)).transpose(1, 2), 0.0, call.causal, attn_mask=call.mask(q.dtype),
        scale=scale,
    )  # fmt: skip
    return [_rows(part) for part in parts]
