"""Weights replaced in a running vLLM engine, here and in its own process; and an engine that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.model.policy import load_policy
from harness.rollout.engines.base import Completion, EngineDied, GenerationRequest, Sampling, open_engine
from harness.rollout.engines.weights import checksum, probe_tokens
from harness.util.errors import UserError

LONG = tuple(5 + i % 90 for i in range(300))  # long enough to leave whole blocks in the prefix cache
REQUESTS = [
    GenerationRequest((p, i), prompt, (p, i)) for p, prompt in enumerate((LONG, (5, 6, 7))) for i in range(3)
]
SAMPLING = Sampling(1.0, 1.0, 12)
OPTIONS = {"device": "cpu", "batch_rows": 8, "kv_cache_gib": 0.5}


def drawn(engine: Any) -> dict[Any, Completion]:
    return {c.request.tag: c for c in engine.generate(REQUESTS, SAMPLING)}


def tokens(completions: dict[Any, Completion]) -> dict[Any, tuple[int, ...]]:
    return {tag: c.token_ids for tag, c in completions.items()}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_policy(folder).weights()


@pytest.fixture(scope="module")
def fresh(models: Callable[..., Path]) -> dict[str, Any]:
    """What an engine that was started with the other weights answers."""
    with_other = open_engine("vllm", str(models(1)), **OPTIONS)
    probe = probe_tokens(96)
    told = {"drawn": drawn(with_other), "score": with_other.score(probe), "checksum": with_other.checksum()}
    with_other.close()
    with pytest.raises(EngineDied, match="was closed"):
        with_other.score(probe)
    with_other.close()
    return told


@pytest.fixture(scope="module", params=["this process", "its own process"])
def engine(
    request: pytest.FixtureRequest, models: Callable[..., Path], fresh: dict[str, Any]
) -> Iterator[Any]:
    opened = open_engine("vllm", str(models(0)), separate_process=request.param != "this process", **OPTIONS)
    yield opened
    opened.close()


def test_replaced_weights_are_the_ones_that_draw(
    engine: Any, models: Callable[..., Path], fresh: Any
) -> None:
    probe, trainer = probe_tokens(96), load_policy(models(1))
    before = drawn(engine)
    assert engine.checksum() == checksum(load_policy(models(0)).model.parameters())
    engine.load_weights(trainer.weights().items())
    assert engine.checksum() == checksum(trainer.model.parameters()) == fresh["checksum"]
    assert engine.score(probe) == pytest.approx(fresh["score"], abs=1e-5)
    logp = trainer.model(torch.tensor([probe])).logits[0, :-1].log_softmax(1)
    of_trainer = logp.gather(1, torch.tensor(probe)[1:, None])[:, 0].tolist()
    assert engine.score(probe) == pytest.approx(of_trainer, abs=1e-3)
    after = drawn(engine)
    assert tokens(after) == tokens(fresh["drawn"]) != tokens(before)
    for tag, completion in after.items():
        assert completion.logps == pytest.approx(fresh["drawn"][tag].logps, abs=1e-4)
    engine.load_weights(weights_of(models(0)).items())
    assert tokens(drawn(engine)) == tokens(before), "and back"


def test_weights_that_are_no_numbers_stop_it(
    engine: Any, models: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = engine._core.step, []
    monkeypatch.setattr(engine._core, "step", lambda: steps.append(1) or step())
    good = weights_of(models(0))
    (norm,) = [name for name in good if name.endswith("model.norm.weight")]
    engine.load_weights((good | {norm: good[norm] * float("nan")}).items())
    for temperature in (1.0, 0.0):
        with pytest.raises(UserError, match=r"NaN or infinity at token 1 of a response \([01], [0-2]\)"):
            list(engine.generate(REQUESTS, Sampling(temperature, 1.0, 200)))
    assert len(steps) < 10, "what would follow is not waited for"
    with pytest.raises(UserError, match=r"NaN or infinity at token 1 of a response \(score\)"):
        engine.score(probe_tokens(96))
    engine.load_weights(good.items())
    assert all(c.logp_sum < 0 for c in drawn(engine).values())


def test_a_small_update_shows(engine: Any, models: Callable[..., Path]) -> None:
    weights = weights_of(models(0))
    before = engine.checksum()
    weights["model.layers.0.mlp.down_proj.weight"][3, 5] += 1e-6
    engine.load_weights(weights.items())
    assert engine.checksum() == checksum(weights.values()) != before


def test_without_the_reset_old_prefixes_would_be_used(
    engine: Any, models: Callable[..., Path], fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load_weights(weights_of(models(0)).items())
    drawn(engine)
    with monkeypatch.context() as patch:
        patch.setattr(engine._core, "reset_prefix_cache", lambda: True)
        engine.load_weights(weights_of(models(1)).items())
        stale = drawn(engine)
    assert stale[0, 0].logps != pytest.approx(fresh["drawn"][0, 0].logps, abs=1e-3)
    assert stale[1, 0].token_ids == fresh["drawn"][1, 0].token_ids, "too short a prompt to be cached"


def test_weights_of_another_model_are_refused(engine: Any, models: Callable[..., Path]) -> None:
    weights = weights_of(models(0))
    with pytest.raises(UserError, match="no weight 'other'"):
        engine.load_weights([*weights.items(), ("other", torch.zeros(1))])
    with pytest.raises(UserError, match="has shape"):
        engine.load_weights([("lm_head.weight", torch.zeros(1, 2))])
    with pytest.raises(UserError, match="no values for 1 weights, such as 'lm_head.weight'"):
        engine.load_weights((n, t) for n, t in weights.items() if n != "lm_head.weight")
    if engine.in_process:
        with pytest.raises(UserError, match="are mixed; load all of them again"):
            drawn(engine)
    engine.load_weights(weights.items())
    assert engine.checksum() == checksum(weights.values())


def test_weights_do_not_change_under_a_response(engine: Any, models: Callable[..., Path]) -> None:
    stream = engine.generate([GenerationRequest((i,), LONG, i) for i in range(20)], Sampling(1.0, 1.0, 100))
    next(stream)
    with pytest.raises(RuntimeError, match="still being drawn"):
        engine.load_weights(weights_of(models(1)).items())
    stream.close()


def test_an_engine_that_dies_says_so(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last test of each engine: it is dead afterwards."""
    stream = engine.generate([GenerationRequest((i,), LONG, i) for i in range(50)], Sampling(1.0, 1.0, 100))
    kept = [next(stream)]
    if engine.in_process:

        def fail() -> None:
            raise RuntimeError("no memory left\nand more")

        monkeypatch.setattr(engine._core, "step", fail)
    else:
        for process in engine._core.engine_core.resources.engine_manager.processes:
            os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineDied, match="the vLLM engine died: .*lower batch_rows") as error:
        kept.extend(stream)
    assert "\n" not in str(error.value)
    assert ("no memory left" if engine.in_process else "exit code -9") in str(error.value)
    assert kept[0].token_ids
    with pytest.raises(EngineDied):
        drawn(engine)
    with pytest.raises(EngineDied):
        engine.load_weights([])
