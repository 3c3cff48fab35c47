"""The head of a GGUF file: its metadata, and where each tensor lies. Reads no weights.

Ours, because the ``gguf`` package makes several Python objects of every word of the vocabulary: a minute and
700 MB for a vocabulary of 262,144, where this takes a second. The tests compare both.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from harness.util.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
#: Value type -> format of :mod:`struct`; 8 is a text, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
#: Longest list of values and deepest number of axes that are believed.
_MOST_VALUES, _MOST_AXES = 1 << 26, 8


@dataclass(frozen=True)
class TensorPlace:
    """One tensor of the file.

    Attributes:
        shape: outermost axis first, as PyTorch has it.
        kind: number of its GGML type.
        offset: bytes from the beginning of the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """Metadata and tensors by name."""

    path: Path
    size: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorPlace]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))


def read_header(path: Path) -> GgufFile:
    """
    Raises:
        UserError: no such file, no GGUF file, cut off within its head, or damaged.
    """
    try:
        with open(path, "rb") as handle:
            if handle.read(4) != MAGIC:
                raise UserError(f"{path} is not a GGUF file (it does not begin with the letters GGUF)")
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(path, content).read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a GGUF file") from error
    except (struct.error, ValueError, KeyError) as error:
        raise UserError(f"{path} is cut off or damaged ({error}); fetch it again") from error


class _Reader:
    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._at = path, content, 4

    def read(self) -> GgufFile:
        version = int(self._scalar("I"))
        if version not in VERSIONS:
            kind = "of the other byte order" if version & 0xFFFF == 0 else f"version {version}"
            raise UserError(
                f"{self._path} is a GGUF file {kind}; versions 2 and 3, little-endian, can be read"
            )
        count, pairs = int(self._scalar("Q")), int(self._scalar("Q"))
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._text()
            if key in metadata:
                raise ValueError(f"{key} comes twice")
            metadata[key] = self._value(int(self._scalar("I")))
        places = dict(self._place() for _ in range(count))
        if len(places) != count:
            raise ValueError("two tensors of one name")
        align = int(metadata.get("general.alignment", 32))
        if align <= 0:
            raise ValueError(f"alignment {align}")
        start = -(-self._at // align) * align
        tensors = {k: TensorPlace(p.shape, p.kind, p.offset + start) for k, p in places.items()}
        return GgufFile(self._path, len(self._content), metadata, tensors)

    def _scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return value

    def _text(self) -> str:
        length = int(self._scalar("Q"))
        end = self._at + length
        if end > len(self._content):
            raise ValueError(f"a text ends at byte {end} of {len(self._content)}")
        text = self._content[self._at : end].decode("utf-8")
        self._at = end
        return text

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            return self._scalar(_SCALARS[kind])
        inner, count = int(self._scalar("I")), int(self._scalar("Q"))
        if count > _MOST_VALUES:
            raise ValueError(f"a list of {count} values")
        if inner in (_TEXT, _ARRAY):
            return [self._value(inner) for _ in range(count)]
        form = f"<{count}{_SCALARS[inner]}"
        values = list(struct.unpack_from(form, self._content, self._at))
        self._at += struct.calcsize(form)
        return values

    def _place(self) -> tuple[str, TensorPlace]:
        name, axes = self._text(), int(self._scalar("I"))
        if not 0 < axes <= _MOST_AXES:
            raise ValueError(f"tensor {name} has {axes} axes")
        shape = tuple(int(self._scalar("Q")) for _ in range(axes))
        kind, offset = int(self._scalar("I")), int(self._scalar("Q"))
        return name, TensorPlace(tuple(reversed(shape)), kind, offset)
