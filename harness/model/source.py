"""Where a policy's weights come from: names, folders and hub ids. Imports no torch: plans use it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from harness.util.errors import unknown


def resolve_model(name: str, shipped: Mapping[str, Path]) -> str:
    """The path of a model that a benchmark ships, or ``name`` itself (hub id or folder).

    Raises:
        UserError: ``name`` looks like neither; the message names the shipped models.
    """
    if name in shipped:
        return str(shipped[name])
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if "/" in name and not name.startswith((".", "/", "~")) and name.count("/") == 1:
        return name
    raise unknown("model", name, shipped, "(or give a hub id owner/name, or a local folder)")


def model_fingerprint(path: str, revision: str | None) -> str:
    """Hash of a local model's weight and tokenizer files, or ``id@revision`` of a hub model."""
    folder = Path(path)
    if not folder.is_dir():
        return f"{path}@{revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"):
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
