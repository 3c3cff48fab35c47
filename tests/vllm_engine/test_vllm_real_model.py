"""SmolLM2 trained for a step: both engines on the export, which vLLM loads as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.run.execute import execute
from tests.helpers.execution import configured
from tests.helpers.real import EVALUATION, TRAINING, fetched, texts

pytestmark = [pytest.mark.slow, pytest.mark.fetches, pytest.mark.timeout(900)]


def test_both_engines_say_the_same_of_an_export(tmp_path: Path) -> None:
    fetched()
    words = [*TRAINING, "train.steps=1", f"runs_dir={tmp_path / 'runs'}"]
    run = execute(configured(words), evaluate=False)
    model = tmp_path / "model"
    assert main(["export", str(run), str(model)]) == 0
    engines = {
        "hf": ["engine.batch_rows=4"],
        "vllm": ["engine.batch_rows=4", "engine.kv_cache_gib=0.25", "engine.max_positions=1024"],
    }
    for name, options in engines.items():
        words = [f"model={model}", *EVALUATION, f"engine={name}", *options, f"out={tmp_path / name}"]
        assert main(["eval", *words]) == 0
    assert len(texts(tmp_path / "hf")) == 4
    assert texts(tmp_path / "vllm") == texts(tmp_path / "hf")
