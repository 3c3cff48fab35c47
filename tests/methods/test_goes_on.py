"""Every entry trains on the micro testbed, and goes on from a checkpoint as if it had never stopped."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch

from benchmarks.micro.testbed import BASE_DIR, Micro
from harness.model.policy import Policy, load_policy
from harness.registry import methods as registry
from harness.run.compose import compose
from harness.train.trainer import Trainer
from tests.methods.support.cases import CASES, folder_of

SETTINGS = {
    "model.path": "micro", "data.benchmark": "micro", "seed": 5, "device": "cpu", "train.steps": 3,
    "train.minibatches": 2, "train.epochs": 1, "train.lr": 1e-4, "train.warmup_steps": 0,
    "rollout.prompts_per_step": 4, "rollout.group_size": 4,
}  # fmt: skip


#: Of a response: the base model says all that it has to say in fewer.
TOKENS = {"rollout.max_response_tokens": 12}


@cache
def _base() -> Policy:
    return load_policy(BASE_DIR)


def _trainer(name: str) -> Trainer:
    """Of ``name``, at the settings its cases give where the defaults do nothing on problems like these."""
    return micro_trainer(name, CASES[folder_of(name)].micro.get(name, {}), TOKENS)


def micro_trainer(name: str, values: Mapping[str, Any], settings: Mapping[str, Any]) -> Trainer:
    """Of ``name`` on the micro testbed, with hyper-parameters and settings of the run."""
    own = {f"method.{key}": value for key, value in values.items()}
    run = compose({**SETTINGS, "method": name, **own, **settings})
    policy = Policy(copy.deepcopy(_base().model), _base().tokenizer, 1.0)
    policy.network.ways, policy.network.curve = _base().network.ways, _base().network.curve
    return Trainer(run, policy, Micro(), run.method.stages())


@pytest.mark.parametrize("name", sorted(registry.entries()))
def test_two_steps_resumed_once_are_two_steps(name: str) -> None:
    whole = _trainer(name)
    whole.step()
    buffer = io.BytesIO()
    torch.save(whole.state_dict(), buffer)
    expected = whole.step()
    buffer.seek(0)
    resumed = _trainer(name)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert resumed.step() == expected
    weights = resumed.policy.weights()
    for key, value in whole.policy.weights().items():
        assert torch.equal(weights[key], value), key
