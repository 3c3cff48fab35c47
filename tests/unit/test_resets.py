"""Components ask for a fresh reference or optimiser, and a sharded checkpoint knows that they did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.run import sharded_checkpoint as shards
from harness.stages.base import Component
from harness.stages.defaults import grpo_stages
from tests.helpers.tiny import tiny_trainer

RUN = ("train.steps=4", "train.lr=1e-2", "method.reset_share=0.5", "method.kl_coef=0.1")


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("asked", "remedy"), [("reference", "needs_reference"), ("model", "unknown reset")])
def test_a_reset_of_what_is_not_there_is_an_error(asked: str, remedy: str) -> None:
    class Asks(Component):
        may_reset = frozenset({asked})

    with pytest.raises(ValueError, match=remedy):
        tiny_trainer(stages=grpo_stages().with_(components={"asks": Asks()}))


def test_the_checkpoint_of_several_processes_holds_the_reference(tmp_path: Path) -> None:
    trainer = tiny_trainer(*RUN, method="prorl")
    for _ in range(3):
        trainer.step()
    assert trainer.moved_reference is not None
    shards.write(tmp_path / "step-000003", *shards.tensors_of(trainer), trainer.rest_dict())
    other = tiny_trainer(*RUN, method="prorl")
    shards.read(tmp_path / "step-000003", other)
    assert other.moved_reference is not None
    assert same(other.moved_reference.weights(), trainer.moved_reference.weights())
    assert other.step() == trainer.step()
