"""Attention over packed rollouts: the same numbers and gradients as a mask over everything, in any shape."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.model import attention, exchange
from harness.model.attention import Layout, layout_of

SHAPES: dict[str, tuple[list[int], list[list[int]]]] = {
    "unequal": ([5, 3, 7], [[4, 0, 6], [9], []]),
    "a_long_tail": ([1, 300, 200], [[4, 700, 300], [9] * 40, [100] * 8]),
    "rectangles": ([4, 4], [[3, 3], [3, 3]]),
    "nothing_said": ([6, 2], [[0, 0], [0]]),
    "short_beside_long": ([6, 90, 5], [[3, 0, 9], [50, 40], [7]]),
}


def inputs(length: int, dtype: torch.dtype = torch.float64, heads: int = 6, shared: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    sizes = ((length, heads, 8), (length, shared, 8), (length, shared, 8))
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in sizes]


def masked(q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float) -> Tensor:
    """By one mask over all pairs of tokens."""
    at = torch.arange(len(q))
    mask = layout.sees(at[:, None], at[None, :])
    wide = [x.repeat_interleave(q.shape[1] // x.shape[1], 1).transpose(0, 1) for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*wide, attn_mask=mask, scale=scale)
    return out.transpose(0, 1)


def check(prompts: list[int], responses: list[list[int]]) -> None:
    """As it is laid out, and with every part in a call of its own, as long ones are."""
    for short in (attention._SHORT, 0):
        with mock.patch.object(attention, "_SHORT", short):
            agree(layout_of(prompts, responses))


def agree(layout: Layout) -> None:
    given_ = inputs(len(layout.prompt_L))
    ours = layout.attend(None, *given_, 0.3)
    theirs = masked(*given_, layout, 0.3)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    gradient = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(1))
    for a, b in zip(*(torch.autograd.grad(o, given_, gradient) for o in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_values_and_gradients_are_those_of_a_mask(shape: str) -> None:
    check(*SHAPES[shape])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.lists(st.integers(0, 15), max_size=5)), min_size=1, max_size=5)
)
def test_any_lengths(groups: list[tuple[int, list[int]]]) -> None:
    check([prompt for prompt, _ in groups], [responses for _, responses in groups])


def test_lengths_that_differ_much_are_not_padded_to_one_another() -> None:
    layout = layout_of([10, 1000], [[2000, 10, 20, 30] * 8, [900] * 4])
    for call in layout.own:
        assert call.real is None or len(call.real) >= 0.5 * len(call.query) or len(call.query) < 2000


def test_every_pair_that_is_seen_stands_in_one_call() -> None:
    layout = layout_of(*SHAPES["unequal"])
    length = len(layout.prompt_L)
    pairs = torch.zeros(length, length, dtype=torch.long)
    for call in (*layout.own, *layout.across):
        queries, keys = call.query.view(call.n, -1), call.key.view(call.n, -1)
        real = torch.ones(len(call.query), dtype=torch.bool)
        if call.real is not None:
            real = torch.zeros_like(real).index_fill_(0, call.real, True)
        for rectangle, (some_queries, some_keys) in enumerate(zip(queries, keys, strict=True)):
            for i, query in enumerate(some_queries):
                there = torch.ones(len(some_keys), dtype=torch.bool)
                if call.there_nQK is not None:
                    there = call.there_nQK[rectangle].expand(call.width, -1)[i].clone()
                if call.causal:
                    there &= torch.arange(len(some_keys)) <= i
                if real.view(call.n, -1)[rectangle, i]:
                    pairs[query, some_keys[there]] += 1
    at = torch.arange(length)
    assert torch.equal(pairs, layout.sees(at[:, None], at[None, :]).long())


def test_flex_attention_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, carried out by PyTorch's plain implementation of it."""
    layout = layout_of(*SHAPES["unequal"])
    q, k, v = (x.detach() for x in inputs(len(layout.prompt_L), torch.float32))
    torch.testing.assert_close(
        attention._flexible(q, k, v, layout, 0.3), masked(q, k, v, layout, 0.3), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", exchange.NOT_PACKED)
def test_a_layer_that_does_more_is_not_packed(name: str) -> None:
    more: dict[str, Any] = {name: 4}
    with pytest.raises(ValueError, match=f"attends with {name}"):
        exchange.attend(torch.nn.Identity(), *(torch.ones(1, 1, 2, 4),) * 3, None, layout=object(), **more)
