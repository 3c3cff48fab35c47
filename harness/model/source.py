"""Where a policy's weights come from: names, folders, GGUF files, hub ids. Imports no torch: plans use it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from harness.model.gguf.cache import folder_of
from harness.model.gguf.convert import file_hash, origin_note
from harness.model.gguf.packages import PACKAGED, packaged_folder
from harness.util.errors import unknown


def resolve_model(name: str, shipped: Mapping[str, Path]) -> str:
    """The path of a model that a benchmark ships, or ``name`` itself (hub id or folder).

    A GGUF file, or the name of a packaged model, is the folder that it was converted into: a file now, if it
    was not before.

    Raises:
        UserError: ``name`` looks like none of these (the message names the models known by name), a file that
            cannot be converted, or a packaged model that has not been fetched.
    """
    if name in shipped:
        return str(shipped[name])
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if name.lower().endswith(".gguf"):
        return str(folder_of(Path(name).expanduser()))
    if name in PACKAGED:
        return str(packaged_folder(name))
    if "/" in name and not name.startswith((".", "/", "~")) and name.count("/") == 1:
        return name
    known = (*shipped, *PACKAGED)
    raise unknown("model", name, known, "(or give a hub id owner/name, a local folder, or a GGUF file)")


def model_label(name: str, path: str, shipped: Mapping[str, Path]) -> str:
    """What tables and folders call the model ``name``, which is at ``path``."""
    if name in shipped or name in PACKAGED or not Path(path).is_dir():
        return name
    return Path(name).stem if Path(name).expanduser().is_file() else Path(path).name


def model_fingerprint(path: str, revision: str | None) -> str:
    """Hash of a local model's weight and tokenizer files, or ``id@revision`` of a hub model.

    Of a model that was a GGUF file it also says so: ``… (dequantised from Q4_1)``.
    """
    folder = Path(path)
    if not folder.is_dir():
        return f"{path}@{revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"):
            digest.update(file.name.encode() + b"\0" + bytes.fromhex(file_hash(file)))
    note = origin_note(folder)
    return digest.hexdigest()[:16] + (f" ({note})" if note else "")
