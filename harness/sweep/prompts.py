"""Prompts of a sweep's runs that do not fit their models, found before anything is submitted.

Reads tokenizers and ``config.json``, no weights. A model that has to be fetched first is not read here; its
run looks before its first step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from harness.config.schema import RunConfig
from harness.model.memory.shape import read_config
from harness.model.source import resolve_model
from harness.model.text import load_tokenizer
from harness.registry import benchmarks
from harness.rollout.settings import context_of
from harness.run.compose import from_dict
from harness.run.prompts import Fitting, Reader, fitting, templated


def left_out(configs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What the runs with these resolved configurations leave out, a line per training set and split.

    Raises:
        UserError: prompts that their model cannot be given, with the setting to change.
    """
    for config in _different(configs):
        run = from_dict(config)
        path = resolve_model(run.model.path, benchmarks.shipped_models())
        load = cache(partial(load_tokenizer, path, run.model.revision))
        read = Reader(load, context_of(run, _positions(run, path)))
        found = fitting(run, templated(run, load), read)
        if isinstance(found, Fitting):
            yield from found.told


def _different(configs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One of those that read the same prompts with the same model."""
    found: dict[str, Mapping[str, Any]] = {}
    for config in configs:
        rollout, evaluation = config["rollout"], config["eval"]
        parts = [
            config["model"]["path"], config["model"]["revision"], config["data"],
            rollout["max_response_tokens"], rollout.get("engine"), rollout.get("engine_settings"),
            [evaluation.get(k) for k in ("splits", "benchmarks", "profile", "profile_settings")],
        ]  # fmt: skip
        found.setdefault(json.dumps(parts, sort_keys=True), config)
    return list(found.values())


def _positions(run: RunConfig, path: str) -> int | None:
    """The model's context, as its ``config.json`` names it."""
    config = read_config(path, run.model.revision) or {}
    text = config.get("text_config") or config
    return text.get("max_position_embeddings") or text.get("n_positions")
