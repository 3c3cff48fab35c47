"""A tiny model that vLLM's CPU attention can run, and one engine for the tests that only read from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.rollout.engines import vllm as starter

WHY_NOT = starter.unusable()
#: Small numbers keep the tests fast; the engine runs in this process unless a test says otherwise.
OPTIONS = {"device": "cpu", "batch_rows": 32, "kv_cache_gib": 0.5}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if WHY_NOT:
                item.add_marker(pytest.mark.skip(reason=WHY_NOT))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders with a tiny Qwen2 (two heads of 32) and its tokenizer, one a seed."""
    from tests.helpers.tiny import build_model, build_tokenizer

    made: dict[int, Path] = {}

    def folder(seed: int = 0) -> Path:
        if seed not in made:
            made[seed] = tmp_path_factory.mktemp(f"model{seed}")
            tokenizer = build_tokenizer()
            model = build_model(
                tokenizer, seed=seed, scale=0.2, hidden_size=64, num_attention_heads=2, num_key_value_heads=1,
                max_position_embeddings=512,
            )  # fmt: skip
            model.save_pretrained(made[seed])
            tokenizer.save_pretrained(made[seed])
        return made[seed]

    return folder


@pytest.fixture(scope="module")
def engine(models: Callable[..., Path]) -> Iterator[Any]:
    """The engine of seed 0, in this process."""
    from harness.rollout.engines.base import open_engine

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    opened = open_engine("vllm", str(models(0)), **OPTIONS)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def hf(models: Callable[..., Path]) -> Any:
    """The same model behind the built-in sampler."""
    from harness.rollout.engines.base import open_engine

    return open_engine("hf", str(models(0)), device="cpu")
