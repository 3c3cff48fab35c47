"""What runs need from outside: models and data. Fetched once, on a machine with a network; checked at submit.

A model is a folder (checked), one that a benchmark ships (always there), or a hub id (fetched into the hub's
own cache). A benchmark that reads files offers ``missing(split)``, why they cannot be read without a network,
and ``fetch(split)``, which brings them here; one that generates its problems offers neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.model.source import resolve_model
from harness.registry import benchmarks
from harness.rollout.second_model import second_model_paths
from harness.run.compose import from_dict
from harness.util.errors import UserError

#: Files of a hub model that a run reads; weights in other formats are not fetched.
_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, order=True)
class Need:
    """``kind`` is ``model`` (``detail``: the revision) or ``data`` (``detail``: the split)."""

    kind: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.detail})"


def needs(configs: Iterable[Mapping[str, Any]]) -> list[Need]:
    """What the runs with these resolved configurations read, each once."""
    found: set[Need] = set()
    for config in configs:
        model, data, evaluation = config["model"], config["data"], config["eval"]
        found.add(Need("model", str(model["path"]), str(model["revision"] or "main")))
        same = json.dumps({key: config[key] for key in ("method_name", "method", "model")}, sort_keys=True)
        found.update(Need("model", place, "main") for place in _second_models(same))
        splits = (data["train_split"], data["validation_split"], *evaluation["splits"])
        found.update(Need("data", str(data["benchmark"]), str(split)) for split in splits)
        for name in evaluation["benchmarks"]:
            benchmark, _, split = str(name).partition(":")
            found.add(Need("data", benchmark, split or "test"))
    return sorted(found)


@lru_cache(maxsize=4096)
def _second_models(config: str) -> tuple[str, ...]:
    """What a method's hyper-parameters name besides the policy (an expert): folders or hub ids."""
    return tuple(sorted(second_model_paths(from_dict(json.loads(config))).values()))


def missing(wanted: Sequence[Need]) -> Iterator[tuple[Need, str]]:
    """Those that are not on this machine, with the reason. Asks no network and loads nothing."""
    for need in wanted:
        reason = _missing_model(need) if need.kind == "model" else _missing_data(need)
        if reason:
            yield need, reason


def check_present(configs: Iterable[Mapping[str, Any]], remedy: str) -> None:
    """Refuse runs whose model or data is not here, before any of them is started.

    Raises:
        UserError: names what is missing, and ``remedy``, the command that fetches it.
    """
    found = list(missing(needs(configs)))
    if found:
        told = "; ".join(f"{need}: {reason}" for need, reason in found[:4])
        more = f"; and {len(found) - 4} more" if len(found) > 4 else ""
        raise UserError(f"not on this machine: {told}{more}. Fetch it where there is a network: {remedy}")


def fetch(need: Need) -> str:
    """Bring ``need`` here and check that it is complete; returns where it is.

    Raises:
        UserError: it cannot be fetched, or what came is incomplete.
    """
    if need.kind == "model":
        return _fetch_model(need)
    benchmark = benchmarks.load(need.name)
    if not hasattr(benchmark, "fetch"):
        return "generated, nothing to fetch"
    return str(benchmark.fetch(need.detail))


def _missing_data(need: Need) -> str:
    benchmark = benchmarks.load(need.name)
    return str(benchmark.missing(need.detail)) if hasattr(benchmark, "missing") else ""


def _missing_model(need: Need) -> str:
    folder = _model_folder(need)
    return incomplete(folder) if folder is not None else "not in the hub's cache"


def _model_folder(need: Need) -> Path | None:
    """The model's folder on this machine: its own, or the snapshot in the hub's cache."""
    path = resolve_model(need.name, benchmarks.shipped_models())
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, revision=need.detail, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None


def incomplete(folder: Path) -> str:
    """Why ``folder`` is not a whole model with its tokenizer; empty when it is.

    Sharded weights count as there when every shard of the index is; a fetch that was cut off leaves some out.
    """
    if not (folder / "config.json").is_file():
        return f"no config.json in {folder}"
    shards = _shards(folder)
    if not shards:
        return f"no weights in {folder} ({' or '.join(_WEIGHTS)})"
    lost = [name for name in shards if not (folder / name).is_file()]
    if lost:
        return f"{len(lost)} of {len(shards)} weight files are missing in {folder}, e.g. {lost[0]}"
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return f"no tokenizer in {folder}"
    return ""


def _shards(folder: Path) -> list[str]:
    """Weight files that there have to be; none when there is no index and no single file."""
    import json

    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if (folder / name).is_file():
            return [name]
    return []


def _fetch_model(need: Need) -> str:
    here = _model_folder(need)
    if here is not None and not incomplete(here):
        return str(here)
    path = resolve_model(need.name, benchmarks.shipped_models())
    if Path(path).is_dir():
        raise UserError(f"{need}: {incomplete(Path(path))}; a local folder must hold the whole model")
    from huggingface_hub import snapshot_download

    lacking = ""
    for patterns in (_PATTERNS, (*_PATTERNS, "*.bin")):  # the older format only where there is no other
        try:
            folder = Path(snapshot_download(path, revision=need.detail, allow_patterns=list(patterns)))
        except Exception as error:  # network, authentication, no such id: their types are many
            raise UserError(f"cannot fetch {need}: {_first_line(error)}") from error
        lacking = incomplete(folder)
        if not lacking:
            return str(folder)
    raise UserError(f"fetched {need}, but it is not complete: {lacking}")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
