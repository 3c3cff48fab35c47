"""Whether files still hold what was written, by the checksums that they carry.

The zip file that ``torch.save`` writes has a CRC-32 of every tensor, which ``torch.load`` does not look at: a
file whose end is whole is loaded with any bytes in its middle. A checkpoint has a SHA-256 of that end, too.
``result.json`` has its SHA-256 beside it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from harness.util.files import write_json, write_text

_MARK = b"sha256 of the directory: "


def damage(file: Path | io.RawIOBase) -> str:
    """What is wrong with a file of ``torch.save``, in a few words; empty where every checksum is right."""
    try:
        with zipfile.ZipFile(file) as archive:
            wrong, told = archive.testzip(), archive.comment
            expected = _comment(directory(archive)) if told.startswith(_MARK) else told
    except Exception as error:  # a damaged directory leads anywhere
        return "incomplete" if isinstance(error, zipfile.BadZipFile) else f"damaged ({type(error).__name__})"
    if wrong:
        return f"damaged (checksum of {wrong.partition('/')[2] or wrong})"
    return "" if told == expected else "damaged (checksum of its directory)"


def directory(archive: zipfile.ZipFile) -> bytes:
    """What a zip file says of its content, at its end: the part that has no checksum of its own."""
    file = archive.fp
    if file is None:
        raise ValueError("the archive is closed")
    file.seek(archive.start_dir)
    return file.read()[: -len(archive.comment) or None]


def seal_zip(path: Path) -> None:
    """Add a checksum of its directory to a file of ``torch.save``, as the comment that zip files may have."""
    with zipfile.ZipFile(path) as archive:
        known = directory(archive)
    length = len(_comment(known))
    known = known[:-2] + length.to_bytes(2, "little")
    with open(path, "r+b") as file:
        file.seek(-2, io.SEEK_END)
        file.write(known[-2:] + _comment(known))


def _comment(known: bytes) -> bytes:
    return _MARK + hashlib.sha256(known).hexdigest().encode()


class Window(io.RawIOBase):
    """Bytes ``start`` to ``start + length`` of an open file, as a file."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._length)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._length - self._at))
        self._file.seek(self._start + self._at)
        got = self._file.read(wanted)
        buffer[: len(got)] = got
        self._at += len(got)
        return len(got)


def write_sealed(path: Path, value: Any) -> None:
    """As :func:`harness.util.files.write_json`, with a checksum beside it that ``sha256sum -c`` reads."""
    seal = _seal(path)
    seal.unlink(missing_ok=True)  # killed between the two: a file without a checksum, never with a wrong one
    write_json(path, value)
    write_text(seal, f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def read_sealed(path: Path) -> bytes:
    """What is in ``path``; a file without a checksum, as earlier versions wrote it, is taken as it is.

    Raises:
        ValueError: it is not what was written.
    """
    content, seal = path.read_bytes(), _seal(path)
    if seal.exists() and seal.read_text(encoding="utf-8").split()[:1] != [
        hashlib.sha256(content).hexdigest()
    ]:
        raise ValueError(
            f"it is not what was written (see {seal.name}); restore it, or remove {seal.name} if it was "
            "changed on purpose"
        )
    return content


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
