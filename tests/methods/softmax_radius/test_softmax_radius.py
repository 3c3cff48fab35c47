"""The radius on numbers worked out by hand, and on a policy against forward-mode differentiation."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp

from harness.registry.golden import cases
from harness.run.set_up import stages_of
from harness.stages.batch import Batch
from harness.train.trainer import Trainer
from methods.softmax_radius import radius, step_scale
from tests.helpers.tiny import LetterBenchmark, small_run, tiny_policy
from tests.methods.softmax_radius.adapter import outputs
from tests.methods.support.cases import FOLDER

ONE = ("train.minibatches=1", "train.epochs=1", "train.micro_batch_rows=5", "train.lr=3e-3")


def trainer(*overrides: str, method: str = "grpo", dtype: torch.dtype = torch.float64) -> Trainer:
    run = small_run(*overrides, method=method)
    return Trainer(run, tiny_policy(dtype, run.rollout.temperature), LetterBenchmark(), stages_of(run))


def test_radius_by_hand() -> None:
    assert radius(10.0) == pytest.approx(0.314159, abs=1e-6)
    assert step_scale(1.0, radius(10.0), 1.0, "cap") == pytest.approx(0.314159, abs=1e-6)
    assert step_scale(0.1, radius(10.0), 1.0, "cap") == 1.0
    assert step_scale(0.1, radius(10.0), 1.0, "set") == pytest.approx(3.14159, abs=1e-5)
    assert step_scale(1.0, radius(10.0), 2.0, "cap") == pytest.approx(0.628319, abs=1e-6)
    assert step_scale(0.0, radius(0.0), 1.0, "set") == 1.0


def test_the_network_ends_where_the_official_code_leaves_it() -> None:
    for case in cases(FOLDER / "softmax_radius"):
        ours = outputs(case)
        for name in [n for n in case.arrays if n.startswith("final_")]:
            np.testing.assert_allclose(ours[name], case[name], rtol=1e-8, atol=1e-11)


def exact_spread(model: Any, direction: dict[str, Tensor], batch: Batch, temperature: float) -> float:
    """Delta by forward-mode differentiation of transformers' own code, row by row."""
    model = copy.deepcopy(model)
    for layer in model.model.layers:
        vars(layer).pop("forward", None)
    model.config._attn_implementation = "eager"
    weights = {n: p.detach() for n, p in model.named_parameters()}
    largest = 0.0
    for row in range(len(batch)):
        prompt = batch.prompt_BP[row][batch.prompt_mask_BP[row]]
        ids = torch.cat([prompt, batch.response_BT[row][batch.mask_BT[row]]])[None]

        def logits(w: dict[str, Tensor], ids: Tensor = ids) -> Tensor:
            return functional_call(model, w, (ids,), {"use_cache": False}).logits[0]  # type: ignore[no-any-return]

        a = jvp(logits, (weights,), (direction,))[1][len(prompt) - 1 : -1] / temperature
        largest = max(largest, float((a.amax(1) - a.amin(1)).max()))
    return largest


def batches_of(trainer: Trainer) -> list[Batch]:
    """The minibatches that ``trainer`` updates on from now on."""
    seen, update = list[Batch](), trainer.update

    def keep(minibatch: Any, *rest: Any) -> Any:
        seen.append(minibatch.batch)
        return update(minibatch, *rest)

    trainer.update = keep  # type: ignore[method-assign]
    return seen


def test_a_policys_step_is_as_long_as_its_radius_says() -> None:
    """Weights are those before plus the optimiser's step times target rho / tau, measured another way."""
    plain = trainer(*ONE, "rollout.temperature=0.8", "train.weight_decay=0.1")
    ours = trainer(
        *ONE, "rollout.temperature=0.8", "train.weight_decay=0.1", "method.target=0.5",
        method="softmax-radius",
    )  # fmt: skip
    before = {n: p.detach().clone() for n, p in plain.policy.model.named_parameters()}
    model = copy.deepcopy(plain.policy.model)
    seen = batches_of(ours)
    plain.step()
    metrics = ours.step()
    p = {n: w.detach() - before[n] for n, w in plain.policy.model.named_parameters()}
    tau = math.sqrt(sum(float(d.square().sum()) for d in p.values()))
    rho = math.pi / exact_spread(model, {n: d / tau for n, d in p.items()}, seen[0], 0.8)
    assert metrics["softmax_radius/length"] == pytest.approx(tau, rel=1e-9)
    assert metrics["softmax_radius/rho"] == pytest.approx(rho, rel=1e-7)
    assert 0.5 * rho / tau < 1  # else nothing is capped here
    for n, w in ours.policy.model.named_parameters():
        torch.testing.assert_close(w.detach(), before[n] + 0.5 * rho / tau * p[n], rtol=1e-7, atol=1e-10)
    for ours_p, plain_p in zip(ours._parameters, plain._parameters, strict=True):
        for key in ("exp_avg", "exp_avg_sq"):  # the moments know nothing of it
            assert torch.equal(ours.optimizer.state[ours_p][key], plain.optimizer.state[plain_p][key])


def test_a_cap_that_no_step_reaches_is_grpo_to_the_bit_and_so_is_a_run_that_is_watched() -> None:
    plain = trainer(dtype=torch.float32)
    capped = trainer("method.target=1e9", method="softmax-radius", dtype=torch.float32)
    watched = trainer("train.diagnostics=[softmax-radius]", dtype=torch.float32)
    expected = plain.step()
    for other in (capped, watched):
        metrics = other.step()
        new = {k for k in metrics if k.startswith("softmax_radius/")}
        assert {"softmax_radius/ratio", "softmax_radius/rho", "softmax_radius/length"} <= new
        assert {k: v for k, v in metrics.items() if k not in new} == expected
        for a, b in zip(plain.policy.weights().values(), other.policy.weights().values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("lr", "own"), [(1e-6, ("model.compute_dtype=bfloat16",)), (10.0, ())])
def test_single_precision_measures_the_same_radius(lr: float, own: tuple[str, ...]) -> None:
    """Also where passes are made in bfloat16, and for steps far below and far above the radius."""
    ours = trainer(*ONE, *own, f"train.lr={lr}", method="softmax-radius", dtype=torch.float32)
    before, seen = ours.policy.weights(), batches_of(ours)
    before = {n: w.clone() for n, w in before.items()}
    metrics = ours.step()
    p = {n: w.double() - before[n].double() for n, w in ours.policy.weights().items()}
    length = math.sqrt(sum(float(d.square().sum()) for d in p.values()))
    model = tiny_policy(torch.float64).model
    model.load_state_dict(before)
    exact = exact_spread(model, {n: d / length for n, d in p.items()}, seen[0], 1.0)
    assert metrics["softmax_radius/rho"] == pytest.approx(math.pi / exact, rel=2e-3)
    assert (metrics["softmax_radius/scale"] < 1) == (lr > 1e-3)
