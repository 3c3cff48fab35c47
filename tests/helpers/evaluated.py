"""A tiny model in a folder for evaluations, and what an evaluation leaves in its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.evaluation.samples import Sample, read_samples
from tests.helpers.tiny import build_model, build_tokenizer


def save_model(folder: Path, *, rare_end: bool = False) -> Path:
    """Saved like any model; heads of 32, as the CPU attention of vLLM wants, and room for long problems."""
    tokenizer = build_tokenizer()
    model = build_model(
        tokenizer, scale=0.2, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=8192,
    )  # fmt: skip
    if rare_end:
        model.lm_head.weight.data[tokenizer.eos_token_id] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def samples_of(folder: Path) -> dict[str, list[Sample]]:
    """The samples of the one evaluation under ``folder``, by file."""
    (inner,) = [path for path in folder.iterdir() if path.name != ".sweeps"]
    return {path.name: read_samples(path) for path in sorted(inner.glob("*.parquet"))}


def record_of(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*/record.json")
    return dict(json.loads(file.read_text()))
