"""One conversion of each GGUF file, kept by the file's hash: made when first needed, then only read."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from harness.model.gguf.convert import FORMAT, ORIGIN, convert, file_hash
from harness.util.errors import UserError
from harness.util.files import read_json, write_json
from harness.util.locks import locked
from harness.util.offline import cache_folder


def converted_folder(sha256: str) -> Path:
    """Where the conversion of the file with this hash is kept, whether it is there or not."""
    return cache_folder() / "gguf" / f"{sha256[:16]}-{FORMAT}"


def is_there(folder: Path) -> bool:
    """Whether a conversion is in ``folder``; they appear whole."""
    return (folder / ORIGIN).is_file()


def folder_of(path: Path) -> Path:
    """The folder that the GGUF file ``path`` is converted into, now if it was not before.

    Raises:
        UserError: no such file, or it cannot be converted.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; give the path of a GGUF file")
    sha256 = _known_hash(path)
    folder = converted_folder(sha256)
    if is_there(folder):
        return folder
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if not is_there(folder):
            print(f"{path.name}: converting it into {folder}, once", file=sys.stderr, flush=True)
            convert(path, folder, sha256=sha256)
    return folder


def _known_hash(path: Path) -> str:
    """The file's hash, worked out again only when its size or time of change is another."""
    state = path.stat()
    place = str(path.resolve())
    seen = [place, state.st_size, state.st_mtime_ns]
    key = hashlib.sha256(place.encode()).hexdigest()[:16]
    note = cache_folder() / "gguf" / "hashes" / f"{key}.json"
    if note.is_file():
        known = read_json(note)
        if known["seen"] == seen:
            return str(known["sha256"])
    sha256 = file_hash(path)
    write_json(note, {"seen": seen, "sha256": sha256})
    return sha256
