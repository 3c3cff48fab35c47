"""The share of time at the machine's limit: what is timed, what counts, and how the table says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny import tiny_policy
from tests.performance import limit
from tests.performance.bench_sampler import Ours
from tests.performance.limit import Calls, Shape
from tests.performance.measures import MEASURES
from tests.performance.table import limits, row_of

BY_KEY = {measure.key: measure for measure in MEASURES}


@torch.no_grad()
def test_products_and_attention_are_timed_with_their_shapes() -> None:
    x, w, into = torch.randn(3, 8), torch.randn(5, 8), torch.empty(3, 5)
    q, k = torch.randn(2, 4, 7, 16), torch.randn(2, 4, 9, 16)
    with limit.watched() as calls:
        torch.mm(x, w.T, out=into)
        torch.addmm(into, x, w.T)
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, k)
        x.sum()
    product, attention = Shape("product", 3, 8, 5), Shape("attention", 56, 16, 9)
    assert {shape: len(found.seconds) for shape, found in calls.items()} == {product: 2, attention: 1}
    assert calls[attention].bytes == 4 * (q.numel() + 2 * k.numel())
    assert product.operations == 2 * 3 * 8 * 5 and attention.operations == 4 * 56 * 16 * 9


def test_our_sampler_is_watched_and_its_rows_are_seen() -> None:
    ours = Ours(tiny_policy())
    with limit.watched() as calls:
        tokens = ours([[5, 6, 7], [8, 9]], 3, 4)[1]
    assert tokens == 24
    assert {shape.rows for shape in calls if shape.kind == "product"} >= {5, 6}
    assert any(shape.kind == "attention" for shape in calls)


def test_a_kernel_counts_from_85_percent_of_its_limit() -> None:
    """Of ten seconds 4 are at the limit, 3 are below it, 1 is of a shape that nobody measures."""
    fast, slow, rare = Shape("product", 10, 10, 10), Shape("product", 20, 10, 10), Shape("product", 1, 1, 1)
    calls = {fast: Calls([2.0, 2.0]), slow: Calls([3.0]), rare: Calls([0.04])}
    limits_of = {fast: fast.operations / 2.0 / 0.86, slow: slow.operations / 3.0 / 0.84}
    found = limit.share_at_limit(calls, 10.0, limits_of.__getitem__, lambda: 1e9)
    assert found["share"] == pytest.approx(0.4) and found["share_of_kernels"] == pytest.approx(0.7)
    assert [kernel["kernel"] for kernel in found["kernels"]] == ["product 10x10x10", "product 20x10x10"]


@pytest.mark.parametrize(("seconds", "counts"), [(1.0, True), (1.17, True), (1.2, False)])
def test_attention_is_held_against_its_bytes_or_its_operations(seconds: float, counts: bool) -> None:
    """Its bytes take 1 s at best, its operations a tenth of that."""
    shape, product = Shape("attention", 100, 10, 10), Shape("product", 10, 10, 10)
    calls = {shape: Calls([seconds], bytes=500.0), product: Calls([1.0])}
    rates = {product: shape.operations / 0.1}
    found = limit.share_at_limit(calls, 10.0, rates.__getitem__, lambda: 500.0)
    assert found["share"] == pytest.approx(seconds / 10 if counts else 0.0)


def test_the_machines_limit_is_measured_by_several_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "_SPENT_S", 0.0)
    monkeypatch.setattr(limit, "_COLD", 1 << 16)
    shape = Shape("product", 4, 32, 16)
    assert shape.copies == 32
    ways = list(limit._ways(4, 32, 16, 2))
    assert len(ways) >= 2 and all(way() is not None for way in ways)
    assert limit.product_limit(shape) > 0 and limit.read_limit() > 0
    assert Shape("product", 10_000, 1000, 1000).copies == 1


@torch.no_grad()
def test_a_product_of_half_precision_is_held_against_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "_COLD", 1 << 16)
    x, w = torch.randn(4, 32).bfloat16(), torch.randn(16, 32).bfloat16()
    with limit.watched() as calls:
        torch.mm(x, w.T)
    (shape,) = calls
    assert shape == Shape("product", 4, 32, 16, torch.bfloat16) != Shape("product", 4, 32, 16)
    assert shape.copies == 64
    first = next(limit._ways(4, 32, 16, 2, shape.dtype))()
    assert isinstance(first, list) and first[0].dtype is torch.bfloat16


def row(share: float | None) -> dict[str, Any]:
    pair = {"pairs": 1, "ratio_median": 0.5, "ratio_min": 0.5, "ratio_max": 0.5}
    kernel = {"kernel": "product 64x8x8", "seconds": 3.0, "calls": 2, "rate": 50.0, "limit": 55.0}
    return (
        pair if share is None else pair | {"at_limit": {"share": share, "total_s": 4.0, "kernels": [kernel]}}
    )


@pytest.mark.parametrize(
    ("share", "missed", "reached"),
    [
        (None, "no", "yes"),
        (0.79, "no; 79% of the time at the limit", "yes; 79% of the time at the limit"),
        (0.9, "at the limit: 90% of the time", "yes; 90% of the time at the limit"),
    ],
)
def test_a_row_that_misses_its_aim_at_the_limit_says_so(
    tmp_path: Path, share: float | None, missed: str, reached: str
) -> None:
    rows = {"4x16 float32 transformers": row(share), "4x16 float32 vllm": row(None)}
    (tmp_path / "sampler.json").write_text(json.dumps(rows))
    assert row_of(BY_KEY["sampler-4x16-fp32-transformers"], tmp_path)[5] == missed  # 2 where 4 is wanted
    assert row_of(BY_KEY["sampler-4x16-fp32-vllm"], tmp_path)[5] == reached
    said = limits(tmp_path)
    assert not said if share is None else "| product 64x8x8 | 75.0% | 50.0 | 55.0 |" in said[1]
