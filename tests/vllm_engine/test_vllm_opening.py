"""Opening vLLM: what is refused, with which remedy; the loss temperature; what ``doctor`` says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.rollout.engines import vllm as starter
from harness.rollout.engines.base import GenerationRequest, Sampling, open_engine
from harness.util.errors import UserError

OPTIONS = {"device": "cpu", "batch_rows": 8, "kv_cache_gib": 0.5}


def test_doctor_knows_this_version() -> None:
    assert starter.installed_version() in starter.TESTED
    assert starter.status().startswith(f"usable: vllm {starter.installed_version()} (tested on a CPU")


def test_head_sizes_without_a_kernel_are_refused_before_the_first_token(models: Callable[..., Path]) -> None:
    from tests.helpers.tiny import tiny_folder

    with pytest.raises(UserError, match="no head size 8 .*use engine=hf"):
        open_engine("vllm", str(tiny_folder()), **OPTIONS)


def test_options_that_make_no_sense_are_refused(models: Callable[..., Path]) -> None:
    for options, words in (
        ({"gpus": 2}, "gpus=2, but the device is the CPU"),
        ({"gpus": 0}, "gpus must be at least 1"),
        ({"gpu_memory": "much"}, "gpu_memory of engine vllm must be a number, not 'much'"),
        ({"separate_process": 1}, "separate_process of engine vllm must be true or false"),
        ({"device": "cuda"}, "torch sees no GPU"),
    ):
        with pytest.raises(UserError, match=words):
            open_engine("vllm", str(models(0)), **OPTIONS | options)


def test_a_context_longer_than_the_models_is_refused(models: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="vllm could not open.*1000"):
        open_engine("vllm", str(models(0)), max_positions=1000, **OPTIONS)


def test_too_little_memory_is_refused(models: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="vllm could not open.*smaller max_positions"):
        open_engine("vllm", str(models(0)), device="cpu", kv_cache_gib=1e-5)


def test_log_probs_at_a_loss_temperature_and_an_untested_version(
    models: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "installed_version", lambda: "0.99.0")
    with pytest.warns(UserWarning, match="vllm 0.99.0 was never tested with entrobench"):
        engine = open_engine("vllm", str(models(0)), logp_temperature=0.7, max_positions=64, **OPTIONS)
    try:
        assert engine.describe()["tested"] is False
        assert engine.max_positions == 64
        hf: Any = open_engine("hf", str(models(0)), device="cpu")
        wanted = [GenerationRequest((i,), (5, 6, 7), i) for i in range(8)]
        for completion in engine.generate(wanted, Sampling(0.7, 1.0, 12)):
            ids = torch.tensor([[5, 6, 7, *completion.token_ids]])
            logp = (hf.policy.model(ids).logits[0] / 0.7).log_softmax(1)
            want = logp[2:-1].gather(1, ids[0, 3:, None])[:, 0].tolist()
            assert completion.logps == pytest.approx(want, abs=1e-3)
        with pytest.raises(UserError, match="log-probs at temperature 0.7 only for samples drawn at it"):
            list(engine.generate(wanted, Sampling(1.0, 1.0, 12)))
        assert engine.score([5, 6, 7]) == pytest.approx(hf.score([5, 6, 7]), abs=1e-3), "at temperature 1"
    finally:
        engine.close()
