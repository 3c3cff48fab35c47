"""The GPU benchmark at tiny shapes on the CPU: only the device differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.run.untested import evidence
from tests.performance import bench_gpu


@pytest.mark.slow
def test_it_trains_times_the_operator_and_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench_gpu.main(["--tiny", "--out", str(tmp_path), "--steps", "1"])
    result = json.loads(path.read_text())
    assert [(r["model"], r["response_tokens"]) for r in result["training"]] == [("tiny", 8), ("tiny", 16)]
    for run in result["training"]:
        assert run["tokens_per_step"] > 0.5 * run["rollouts"] * run["response_tokens"]
        assert {"rollout", "old", "update", "whole step"} <= set(run["stations_s"])
        assert run["peak_bytes"] > 0 and run["planned_bytes"] > 0
    assert {"ours, chunks of 64 MiB", "ours, chunks of 512 MiB", "plain"} <= set(result["operator"])
    assert result["operator"]["ours, chunks of 64 MiB"]["peak_bytes"] > 0
    assert "activation-checkpointing" in result["paths"] and "bf16" in result["paths"]
    assert evidence(tmp_path) == {}  # a CPU shows nothing about a GPU
    out = capsys.readouterr().out
    assert "tokens/s" in out and "gap to fp32" in out and str(path) in out


def test_nothing_is_timed_when_the_operators_differ() -> None:
    def wrong(hidden: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logp, entropy = bench_gpu.plain(hidden, weight, target)
        return logp + 1.0, entropy * 1.1

    with pytest.raises(AssertionError, match="wrong is .* nothing is timed"):
        bench_gpu.check_operators({"wrong": wrong}, bench_gpu.SMALL, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_gpu.main([])
    assert "--tiny" in capsys.readouterr().err
