"""A GGUF file as a Hugging Face folder: configuration, tokenizer, chat template and dequantised weights."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model.gguf.architectures import Architecture, describe
from harness.model.gguf.header import GgufFile, read_header
from harness.model.gguf.tokenizer import token_ids, tokenizer_files
from harness.model.gguf.writer import DTYPES, check_kinds, gguf_package, weights_size, write_weights
from harness.util.errors import UserError
from harness.util.files import read_json, write_json

#: Raised whenever a conversion writes something else of the same file.
FORMAT = 1
#: In a converted folder: what it was made of.
ORIGIN = "gguf.json"
#: Memory that a conversion takes, whatever the size of the weights.
_MEMORY = 1 << 30
#: Bytes of everything but the weights.
_BESIDE = 64 << 20
_UNQUANTISED = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Ready:
    """A file that has been looked at and can be converted."""

    file: GgufFile
    architecture: Architecture
    texts: Mapping[str, Mapping[str, Any]]

    @property
    def quantisation(self) -> str:
        return quantisation(self.file)

    def size(self, dtype: str) -> int:
        """Bytes of the converted folder, about."""
        return weights_size(self.architecture.weights, dtype) + _BESIDE


def look(path: Path) -> Ready:
    """Read what ``path`` says about itself and check that all of it can be converted. Reads no weights.

    Raises:
        UserError: with the remedy, for every reason why it cannot be.
    """
    file = read_header(path)
    gguf_package()
    architecture = describe(file)
    check_kinds(file)
    texts = tokenizer_files(file)
    vocab = architecture.config["vocab_size"]
    if len(texts["tokenizer.json"]["model"]["vocab"]) > vocab:
        raise UserError(f"{path.name} has more tokens than the {vocab} of its embedding; use another file")
    return Ready(file, architecture, texts)


def convert(path: Path, folder: Path, *, dtype: str = "float32", sha256: str = "") -> Ready:
    """Write the model in the GGUF file ``path`` into ``folder``, which appears whole or not at all.

    Args:
        folder: one that does not exist yet, or is empty.
        dtype: of the written weights; float32 holds every dequantised value as it is.
        sha256: of the file, where it is known already.

    Raises:
        UserError: the file cannot be converted, ``folder`` holds something, or disk or memory are too small.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype={dtype} is not known; write one of {', '.join(DTYPES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; give a new folder")
    ready = look(path)
    check_room(folder, ready.size(dtype))
    check_memory()
    origin = {
        "architecture": ready.file.architecture, "dtype": dtype, "format": FORMAT,
        "quantisation": ready.quantisation, "sha256": sha256 or file_hash(path),
    }  # fmt: skip
    ids = token_ids(ready.file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write_json(temporary / "config.json", {**ready.architecture.config, **ids, "dtype": dtype})
        write_json(temporary / "generation_config.json", ids)
        for name, value in ready.texts.items():
            write_json(temporary / name, value)
        write_json(temporary / ORIGIN, origin)
        write_weights(temporary / "model.safetensors", ready.file, ready.architecture.weights, dtype)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; give a folder elsewhere") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ready


def origin_note(folder: Path) -> str:
    """``dequantised from Q4_1`` for a converted folder; empty for any other."""
    if not (folder / ORIGIN).is_file():
        return ""
    label = str(read_json(folder / ORIGIN)["quantisation"])
    return f"{'converted' if label in _UNQUANTISED else 'dequantised'} from {label}"


def quantisation(file: GgufFile) -> str:
    """What the file calls its mixture of quantisations, e.g. Q4_K_M; else the type of most of its values."""
    gguf = gguf_package()
    said = file.metadata.get("general.file_type")
    names = {int(kind): kind.name for kind in gguf.LlamaFileType}
    if isinstance(said, int) and said in names:
        return str(names[said].removeprefix("ALL_").removeprefix("MOSTLY_"))
    counts: dict[int, int] = {}
    for place in file.tensors.values():
        counts[place.kind] = counts.get(place.kind, 0) + place.elements
    return str(gguf.GGMLQuantizationType(max(counts, key=lambda kind: counts[kind])).name)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_room(folder: Path, needed: int) -> None:
    """
    Raises:
        UserError: the disk that ``folder`` is to be on has less than ``needed`` bytes left.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{needed / 1e9:.1f} GB are needed in {place} and {free / 1e9:.1f} GB are free; make room, or "
            "choose another folder (ENTROBENCH_CACHE for the cache)"
        )


def check_memory() -> None:
    """
    Raises:
        UserError: less memory than a conversion takes.
    """
    free = _free_memory()
    if free is not None and free < _MEMORY:
        raise UserError(
            f"a conversion takes {_MEMORY >> 20} MiB of memory and {free >> 20} MiB are free; end other "
            "programs, or convert on another machine (entrobench import-gguf) and copy the folder"
        )


def _free_memory() -> int | None:
    """Bytes that a process may still take here; None where the system does not say."""
    lines = _text(Path("/proc/meminfo")).splitlines()
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        found.append(int(limit) - int(used))
    return min(found, default=None)


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
