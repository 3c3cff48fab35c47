"""What several processes cannot share is refused with the remedy, and of many ends one is the cause."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.distributed.launch import _Failure, root_cause
from harness.model import out_of_memory as oom
from harness.run import sharded_checkpoint as shards
from harness.run.checkpoints import newest
from harness.train.processes import check_processes, local_size
from harness.train.trainer import Trainer
from harness.util.errors import UserError
from tests.helpers.tiny import small_run, tiny_trainer


def test_a_number_that_does_not_divide_is_refused_with_those_that_do() -> None:
    run = small_run("rollout.prompts_per_step=6")
    for size in (1, 2, 3, 6):
        check_processes(run, size)
    with pytest.raises(UserError, match=r"4 processes .*prompts_per_step=6 evenly.* use 3 or 6, or .*=8 "):
        check_processes(run, 4)
    with pytest.raises(UserError, match="use 6, or prompts_per_step=8"):
        check_processes(run, 8)


def test_a_method_that_sharded_training_cannot_serve_is_refused() -> None:
    run = small_run(method="vcpo@paper")
    check_processes(run, 1)
    with pytest.raises(UserError, match="gradient norm of each row.*train.processes=1"):
        check_processes(run, 2)


def test_how_many_are_started_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_size(small_run()) == 1
    assert local_size(small_run("train.processes=4")) == 4
    with pytest.raises(UserError, match="there is none"):
        local_size(small_run("train.processes=0"))
    monkeypatch.setenv("WORLD_SIZE", "2")  # torchrun has started them already
    assert local_size(small_run()) == local_size(small_run("train.processes=2")) == 1
    with pytest.raises(UserError, match="leave train.processes out"):
        local_size(small_run("train.processes=4"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UserError, match="has 2 GPUs"):
        local_size(small_run("train.processes=4", "device=cuda"))


def test_the_cause_is_who_ended_by_itself() -> None:
    echo = _Failure(0, 1, 1, "RuntimeError: gloo: Connection closed by peer", unix_s=5.0, echo=True)
    own = _Failure(1, 2, 1, "ValueError: x", unix_s=6.0)
    killed = _Failure(2, 3, -signal.SIGKILL)
    ended = _Failure(3, 4, -signal.SIGTERM)  # by the agent, because of another one
    assert root_cause([echo, own, ended]) is own
    assert root_cause([ended, killed, echo]) is killed
    assert root_cause([own, dataclasses.replace(own, rank=3, unix_s=5.5)]).rank == 3
    assert root_cause([echo]) is echo
    assert root_cause([_Failure(0, 1, 143), _Failure(1, 2, 75)]).exitcode == 75


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("rollout", "draw fewer than 16 responses a step"), ("probe", "lower probe.prompts=2"),
        ("evaluation", "lower eval.batch_rows=8"), ("update", "train.micro_batch_rows=32 instead of 64"),
    ],
)  # fmt: skip
def test_out_of_memory_names_what_to_turn(stage: str, said: str) -> None:
    with pytest.raises(oom.OutOfMemory, match=said) as found, oom.naming_memory(small_run(), stage):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "GiB" in str(found.value) and f"out of memory in {stage}" in str(found.value)


def test_a_stage_of_the_step_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "update", full)
    with pytest.raises(oom.OutOfMemory, match="in update .*train.micro_batch_rows=32"):
        tiny_trainer().step()


def test_a_damaged_folder_is_passed_over(tmp_path: Path) -> None:
    """Without a process group this writes what one process of several does."""
    trainer = tiny_trainer("method.kl_coef=0.1")
    trainer.step()
    moved = trainer.move_reference()
    assert moved is not None
    moved.load_weights(trainer.policy.weights())
    for step in (1, 2):
        shards.write(tmp_path / f"step-{step:06d}", *shards.tensors_of(trainer), trainer.rest_dict())
    (part,) = (tmp_path / "step-000002").glob("*.distcp")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="step-000002 is incomplete"):
        assert newest(tmp_path) == tmp_path / "step-000001"
    other = tiny_trainer("method.kl_coef=0.1")
    shards.read(tmp_path / "step-000001", other)
    assert other.moved_reference is not None
    own = other.moved_reference.weights()
    assert all(torch.equal(own[name], value) for name, value in moved.weights().items())
    for a, b in zip(trainer.policy.model.parameters(), other.policy.model.parameters(), strict=True):
        assert torch.equal(a, b)
    slots = [t.optimizer.state_dict()["state"] for t in (trainer, other)]
    assert slots[0].keys() == slots[1].keys() and other.counters == trainer.counters
    assert all(torch.equal(slots[0][i][k], slots[1][i][k]) for i in slots[0] for k in slots[0][i])
