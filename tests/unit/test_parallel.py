"""Several processes give the numbers of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.distributed.world import micro_batches
from tests.helpers import together
from tests.helpers.processes import run_together

#: A base loss; over the minibatch: a statistic, bounds that are searched for, a choice of tokens with random
#: draws and one by quantile; a selection of rows, advantages from prompts and whole groups with refills, two
#: controllers, a reference policy, one that is replaced, a loss that reaches some layers only, steps
#: that are measured and cut short. Five minibatches of four groups cut across groups: in a group, first
#: tokens have equal covariances, and rounding decides which of them clip-cov takes.
METHODS = (
    "grpo", "steer", "bapo@paper", "clip-cov+train.minibatches=5", "fork-tokens",
    "aepo+method.reinforce_share=0.2", "progrpo", "dapo", "entropy-bonus+method.entropy_adaptive=true",
    "grpo+method.kl_coef=0.05", "prorl", "bupo+method.internal_steps=1",
    "softmax-radius+method.target=0.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return {method: together.numbers(method) for method in METHODS}


@pytest.fixture(scope="module", params=[2, 4])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Number of processes, and the folder with what each of them found."""
    out = tmp_path_factory.mktemp("together")
    run_together(request.param, together.main, str(out), *METHODS, timeout_s=850)
    return request.param, out


@pytest.mark.slow
@pytest.mark.timeout(900)  # its first one trains all of them, a minute on two idle cores
@pytest.mark.parametrize("method", METHODS)
def test_processes_train_like_one(shared: tuple[int, Path], alone: dict[str, Any], method: str) -> None:
    size, folder = shared
    want = alone[method]
    for rank in range(size):
        got = torch.load(folder / f"{method}-{rank}.pt", weights_only=True)
        for step, (a, b) in enumerate(zip(got["metrics"], want["metrics"], strict=True)):
            assert a.keys() == b.keys()
            for key in a.keys() - {"copied_tokens"}:  # each process has its own copies of prompts
                slack = 1e-5 if key == "rollout_mismatch" else 1e-6  # that is a rounding error itself
                # AdamW makes steps of a KL's first gradients, which are rounding errors (see below)
                rel = 3e-3 if step and "kl_coef" in method else 1e-5
                if key.startswith("softmax_radius/"):  # from differences of rounded logits
                    rel = 1e-3
                assert a[key] == pytest.approx(b[key], rel=rel, abs=slack), f"{key} of step {step + 1}"
        for part in ("gradient", "weights"):
            assert got[part].keys() == want[part].keys()
            for name, value in want[part].items():
                if part == "weights":
                    # AdamW divides a gradient by its size, and so makes steps of those that are rounding
                    # errors: few weights, and never by more than its steps. A KL term begins with such.
                    share = 0.04 if "kl_coef" in method or method == "prorl" else 0.002
                    away = (got[part][name] - value).abs()
                    assert float((away > 3e-6).float().mean()) < share and float(away.max()) < 1e-4, name
                    continue
                # and what its gradients are taken at is as far apart afterwards
                far = 2e-5 if "kl_coef" in method else 1e-6
                torch.testing.assert_close(got[part][name], value, rtol=0, atol=far)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_every_row_has_one_place_and_no_process_waits_for_another(n: int, rows: int, size: int) -> None:
    lengths = [(7 * i) % 11 + 1 for i in range(n)]
    shares = micro_batches(lengths, rows, size)
    assert len(shares) == size and len({len(share) for share in shares}) == 1
    parts = [part for share in shares for part in share]
    assert sorted(row for part in parts for row in part) == list(range(n))
    assert all(len(part) <= rows for part in parts)


def test_shares_are_of_equal_length() -> None:
    lengths = [1000, 10, 10, 10, 1000, 10, 10, 10]
    load = [sum(lengths[row] for part in share for row in part) for share in micro_batches(lengths, 4, 2)]
    assert load == [1030, 1030]
