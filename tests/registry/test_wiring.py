"""Every method's update equals an independent plain reading of it, from raw logits: which policy's entropy,
which temperature, which mask, which rows, which log-prob."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from pipeline import make_step, plan_of, rows_of, update

from methods import registry
from methods.cards import read_card

#: (method, hyper-parameters, state of its components by name)
SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("grpo", {}, {}),
    ("grpo", {"dual_clip": 1.2, "eps_high": 0.28, "kl_coef": 0.04}, {}),
    ("entropy-bonus", {"entropy_coef": 0.01}, {}),
    ("entropy-bonus", {"entropy_coef": 0.0, "kl_coef": 0.04}, {}),
    ("entropy-bonus", {"kl_in_reward_coef": 0.05}, {}),
    ("entropy-bonus", {"entropy_adaptive": True}, {"adaptive_entropy": {"coef": 0.1, "last_entropy": 0.1}}),
    ("entropy-bonus", {"entropy_adaptive": True}, {"adaptive_entropy": {"coef": 0.1, "last_entropy": 0.9}}),
    ("dapo", {}, {}),
    ("dapo", {"overlong_fraction": 0.5, "overlong_factor": 2.0, "dual_clip": 1.2}, {}),
    ("bapo@released", {}, {}),
    ("bapo@released", {"target": 4.0, "high_max": 1.6}, {}),
    ("bapo@paper", {}, {}),
    ("bapo@paper", {"target": 0.9, "high_max": 1.5}, {}),
    ("steer", {}, {}),
    ("steer", {"mode": "linear", "w_min": 0.8}, {}),
    ("etr", {}, {}),
    ("etr", {"macro": "explicit", "eps_0": 0.1}, {}),
    ("aepo", {"reinforce_share": 0.2}, {"aepo": {"h": 0.3}}),
    ("aepo", {"reinforce_share": 0.2}, {"aepo": {"h": 0.8}}),
    ("entrocraft@released", {}, {}),
    ("entrocraft@released", {"hi_start": 9.0, "hi_end": 9.0, "lo_start": 8.0, "lo_end": 8.0}, {}),
    ("entrocraft@released", {"hi_start": 1.6, "hi_end": 0.1, "schedule": "cosine"}, {}),
    ("entrocraft@paper", {}, {}),
    ("entrocraft@paper", {"hi_start": 9.0, "hi_end": 9.0, "lo_start": 8.0, "lo_end": 8.0}, {}),
    ("entrocraft@paper", {"hi_start": 9.0, "hi_end": 9.0}, {}),
    ("progrpo", {}, {}),
    ("progrpo", {"alpha": 2.0, "low_fraction": 0.5}, {}),
]


def test_every_published_method_has_a_reading() -> None:
    """A method of one's own (fidelity ``own``) has no sheet that could be read independently."""
    published = {name for name, entry in registry.entries().items() if read_card(entry).fidelity != "own"}
    assert {name for name, _, _ in SETTINGS} == published


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "values", "state"), SETTINGS)
def test_update_equals_plain_reading(name: str, values: dict, state: dict, seed: int) -> None:
    method = registry.load(name)(**values)
    hp, step = method.hyperparameters(), make_step(seed)
    slug, _, variant = name.partition("@")
    reading = importlib.import_module(f"plain.{slug.replace('-', '_')}")
    option = {"paper": True} if variant == "paper" else {}

    def stages() -> Any:
        made = method.stages()
        for key, values in state.items():
            made.components[key].load_state_dict(values)
        return made

    flat = {k: v for values in state.values() for k, v in values.items()}
    plan = plan_of(stages(), step)
    trained = reading.trained(step.recorded(**flat), hp, **(option if slug == "entrocraft" else {}))
    assert sorted(rows_of(plan)) == sorted(trained)
    assert len(plan) == 2
    for minibatch in plan:
        x = step.recorded(**flat)
        expected = reading.loss(x, hp, rows_of([minibatch]), **option)
        (grad,) = torch.autograd.grad(expected, x.logits)
        loss, ours = update(stages(), step, minibatch)
        assert math.isclose(loss, float(expected.detach()), rel_tol=1e-5, abs_tol=1e-7)
        torch.testing.assert_close(ours, grad, rtol=1e-5, atol=1e-8)
        assert float(grad.abs().max()) > 0
