"""Weights from a GGUF file into ``model.safetensors``, a piece at a time: memory stays small."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.model.gguf.architectures import Weight
from harness.model.gguf.header import GgufFile, TensorPlace
from harness.util import progress
from harness.util.errors import UserError

#: Type of the written weights -> its name in safetensors and bytes of a value.
DTYPES = {"float32": ("F32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2)}
#: Values that are dequantised at once.
_CHUNK_VALUES = 1 << 22


def gguf_package() -> Any:
    """The ``gguf`` package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise UserError(
            "converting GGUF files needs the gguf package; pip install 'entrobench[gguf]'"
        ) from error
    return gguf


def check_kinds(file: GgufFile) -> None:
    """
    Raises:
        UserError: a quantisation that cannot be undone, or the file ends before its tensors do.
    """
    import numpy as np

    gguf = gguf_package()
    for kind in sorted({place.kind for place in file.tensors.values()}):
        try:
            known = gguf.GGMLQuantizationType(kind)
            gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[known][1]), np.uint8), known)
        except (ValueError, KeyError, NotImplementedError) as error:
            label = next((k.name for k in gguf.GGMLQuantizationType if k == kind), f"type {kind}")
            raise UserError(
                f"{file.path.name} holds tensors of the quantisation {label}, which cannot be undone; use a "
                "file of another, e.g. Q8_0 or Q4_K_M"
            ) from error
    for name, place in file.tensors.items():
        block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(place.kind)]
        if block > 1 and len(place.shape) == 1:
            raise UserError(f"{file.path.name}: the vector {name} is quantised; use another file")
        if place.shape[-1] % block:
            raise UserError(
                f"{file.path.name} is damaged: rows of {name} are no whole blocks; fetch it again"
            )
        end = place.offset + _row_bytes(place) * (place.elements // place.shape[-1])
        if end > file.size:
            raise UserError(
                f"{file.path} is cut off: tensor {name} ends at byte {end} of {file.size}; fetch it again"
            )


def weights_size(weights: Sequence[Weight], dtype: str) -> int:
    """Bytes of the weights when written as ``dtype``."""
    return sum(_count(w.shape) for w in weights) * DTYPES[dtype][1]


def write_weights(target: Path, file: GgufFile, weights: Sequence[Weight], dtype: str) -> None:
    """Write ``weights`` into the safetensors file ``target``.

    Args:
        dtype: a key of :data:`DTYPES`.

    Raises:
        UserError: a value that is not finite, or not in ``dtype``.
    """
    code, width = DTYPES[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for weight in weights:
        end = at + _count(weight.shape) * width
        header[weight.name] = {"dtype": code, "shape": list(weight.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    mib = at >> 20
    with open(target, "wb") as out, progress.phase(f"convert {file.path.name}", mib, "MiB", announce=mib > 0):
        out.write(len(text).to_bytes(8, "little") + text)
        for weight in weights:
            for values in _pieces(file, weight):
                out.write(_as_bytes(values, dtype, f"{file.path.name}: tensor {weight.source}"))
                progress.reach(out.tell() >> 20)


def _count(shape: Sequence[int]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _row_bytes(place: TensorPlace) -> int:
    gguf = gguf_package()
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(place.kind)]
    return int(place.shape[-1] // block * size)


def _pieces(file: GgufFile, weight: Weight) -> Iterator[Any]:
    """Float32 arrays that follow each other in the weight, each of some rows."""
    import numpy as np

    gguf = gguf_package()
    place = file.tensors[weight.source]
    # a vector has one row a value, so that a bias can be reordered as a matrix is
    rows, columns = place.shape if len(place.shape) == 2 else (place.shape[0], 1)
    item = _row_bytes(place) // (1 if len(place.shape) == 2 else rows)
    raw = np.memmap(file.path, np.uint8, "r", place.offset, (rows, item))
    order = _unpaired(rows, weight.heads) if weight.change == "unpair" else None
    step = max(1, _CHUNK_VALUES // columns)
    for start in range(0, rows, step):
        some = raw[start : start + step] if order is None else raw[order[start : start + step]]
        values = gguf.dequantize(np.ascontiguousarray(some), gguf.GGMLQuantizationType(place.kind))
        yield values - np.float32(1) if weight.change == "minus-one" else values


def _unpaired(rows: int, heads: int) -> Any:
    """Rows as transformers orders them: llama.cpp puts the two values that rotate together side by side."""
    import numpy as np

    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)


def _as_bytes(values: Any, dtype: str, where: str) -> bytes:
    import numpy as np

    values = np.ascontiguousarray(values, np.float32)
    kept = values
    if dtype == "float16":
        with np.errstate(over="ignore"):
            kept = values.astype(np.float16)
    finite = bool(np.isfinite(kept).all())
    if not finite:
        what = "holds NaN or infinity" if not np.isfinite(values).all() else f"does not fit {dtype}"
        raise UserError(f"{where} {what}; use another file" + (" or dtype" if "fit" in what else ""))
    if dtype == "bfloat16":  # to the nearest, ties to even, as PyTorch rounds
        bits = values.view(np.uint32)
        kept = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)
    return bytes(kept.astype(kept.dtype.newbyteorder("<"), copy=False).tobytes())
