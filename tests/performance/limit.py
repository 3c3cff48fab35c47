"""Which share of some work's time is spent in kernels that run as fast as the machine can run them.

Every matrix product and attention of the work is timed where it happens (:func:`watched`). Afterwards, in
the same process, each shape is computed alone by every kernel at hand, over weights that no cache holds: the
fastest of them is the machine's limit for that shape (:func:`product_limit`), whatever our code calls. A
kernel counts as at the limit when the work's own calls ran at ``NEAR`` of that rate or above; attention
counts when it reaches that share of what its operations or its bytes would take at the machine's best (the
longer of both).
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.performance.measures import NEAR

#: Bytes of weights that one timing goes through: more than the caches hold, as a model's layers do.
_COLD = 128 << 20
#: Operations of one timing, where that are fewer weights: many rows use a weight long enough.
_LONG = 4e9
#: Seconds that a kernel is timed on one shape, and times at least.
_SPENT_S, _TIMES = 0.6, 3


@dataclass(frozen=True)
class Shape:
    """``product``: rows, inner size and columns; ``attention``: queries in all, their size, and keys of each.

    Attributes:
        copies: of the second factor, that a timing needs to find none of them in a cache.
    """

    kind: str
    rows: int
    inner: int
    columns: int
    dtype: torch.dtype = torch.float32

    @property
    def operations(self) -> float:
        each = 2 if self.kind == "product" else 4  # attention: products with keys, and with values
        return float(each * self.rows * self.inner * self.columns)

    @property
    def copies(self) -> int:
        cold = -(-_COLD // (self.dtype.itemsize * self.inner * self.columns))
        return max(1, min(cold, int(_LONG / self.operations)))


@dataclass
class Calls:
    """What the work did of one shape."""

    seconds: list[float]
    bytes: float = 0.0


def _product(args: tuple[Any, ...]) -> tuple[Shape, float]:
    a, b = args[-2:]
    return Shape("product", a.shape[0], a.shape[1], b.shape[1], b.dtype), 0.0


def _attention(args: tuple[Any, ...]) -> tuple[Shape, float]:
    q, k, v = args[:3]
    held = sum(x.numel() * x.element_size() for x in (q, k, v))
    return Shape("attention", q.shape[:3].numel(), q.shape[3], k.shape[2], q.dtype), float(held)


_WATCHED: Mapping[str, Callable[[tuple[Any, ...]], tuple[Shape, float]]] = {
    "aten::mm": _product,
    "aten::addmm": _product,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
}


class _Watch(TorchDispatchMode):
    """Times the kernels of :data:`_WATCHED`, in processor seconds of this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Shape, Calls] = defaultdict(lambda: Calls([]))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        describe = _WATCHED.get(func._schema.name)
        start = time.thread_time()
        out = func(*args, **(kwargs or {}))
        spent = time.thread_time() - start
        if describe is not None:
            shape, held = describe(args)
            calls = self.calls[shape]
            calls.seconds.append(spent)
            calls.bytes += held
        return out


@contextmanager
def watched() -> Iterator[dict[Shape, Calls]]:
    """While open, kernels of this thread are timed; passes without gradients only."""
    watch = _Watch()
    with watch:
        yield watch.calls


def _ways(
    rows: int, inner: int, columns: int, copies: int, dtype: torch.dtype = torch.float32
) -> Iterator[Callable[[], object]]:
    """Kernels that multiply ``[rows,inner]`` by each of several weights ``[columns,inner]``."""
    x = torch.randn(rows, inner, dtype=dtype)
    weights = [torch.randn(columns, inner, dtype=dtype) for _ in range(copies)]
    out = torch.empty(rows, columns, dtype=dtype)
    yield lambda: [torch.mm(x, w.T, out=out) for w in weights]
    yield lambda: [torch.mm(w, x.T) for w in weights]
    try:
        linear = torch.ops.mkldnn._linear_pointwise
        yield lambda: [linear(x, w, None, "none", [], "") for w in weights]
        packed = [torch.ops.mkldnn._reorder_linear_weight(w, rows) for w in weights]
        weights.clear()
        yield lambda: [linear(x, w, None, "none", [], "") for w in packed]
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return


def _median_s(work: Callable[[], object]) -> float:
    """Median processor seconds of one call: the machine is as busy here as it was for the work."""
    work()
    seconds = list[float]()
    while len(seconds) < _TIMES or sum(seconds) < _SPENT_S:
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return statistics.median(seconds)


def product_limit(shape: Shape) -> float:
    """Operations a second of the fastest kernel for a product of this shape."""
    ways = _ways(shape.rows, shape.inner, shape.columns, shape.copies, shape.dtype)
    return shape.operations * shape.copies / min(_median_s(way) for way in ways)


def read_limit() -> float:
    """Bytes a second that the machine reads from memory."""
    held = torch.randn(_COLD // 4)
    return _COLD / _median_s(lambda: held.sum())


def share_at_limit(
    calls: Mapping[Shape, Calls], total_s: float, products: Callable[[Shape], float] = product_limit,
    read: Callable[[], float] = read_limit,
) -> dict[str, Any]:  # fmt: skip
    """The share of ``total_s`` in kernels at the limit, and what it is made of, the most time first.

    Args:
        calls: of :func:`watched`, in a run of the same work.
        total_s: processor seconds of the work without being watched.
        products: operations a second that the machine reaches on a product.
        read: bytes a second that it reads.

    A product of a shape that takes less than half a percent of the time is not measured, and counts as not at
    the limit.
    """
    kernels, bandwidth, best = list[dict[str, Any]](), read(), 0.0
    worth = {s: c for s, c in calls.items() if sum(c.seconds) >= 0.005 * total_s and s.kind == "product"}
    for shape, done in worth.items():
        limit = products(shape)
        best = max(best, limit)
        rate = shape.operations / statistics.median(done.seconds)
        kernels.append(_kernel(shape, sum(done.seconds), len(done.seconds), rate, limit))
    attention = {s: c for s, c in calls.items() if s.kind == "attention"}
    if attention and best:
        spent = sum(sum(c.seconds) for c in attention.values())
        operations = sum(s.operations * len(c.seconds) for s, c in attention.items())
        least = max(operations / best, sum(c.bytes for c in attention.values()) / bandwidth)
        count = sum(len(c.seconds) for c in attention.values())
        rate = operations / spent
        kernels.append(_kernel(Shape("attention", 0, 0, 0), spent, count, rate, operations / least))
    kernels.sort(key=lambda kernel: -kernel["seconds"])
    at_it = sum(k["seconds"] for k in kernels if k["rate"] >= NEAR * k["limit"])
    return {
        "share": at_it / total_s,
        "total_s": total_s,
        "share_of_kernels": sum(k["seconds"] for k in kernels) / total_s,
        "near": NEAR,
        "read_gb_s": bandwidth / 1e9,
        "kernels": [
            kernel | {"rate": round(kernel["rate"] / 1e9, 1), "limit": round(kernel["limit"] / 1e9, 1)}
            for kernel in kernels
        ],
    }


def _kernel(shape: Shape, seconds: float, calls: int, rate: float, limit: float) -> dict[str, Any]:
    name = shape.kind if not shape.rows else f"{shape.kind} {shape.rows}x{shape.inner}x{shape.columns}"
    return {"kernel": name, "seconds": seconds, "calls": calls, "rate": rate, "limit": limit}
