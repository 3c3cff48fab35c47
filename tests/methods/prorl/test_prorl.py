"""ProRL starts the reference and the optimiser afresh, and a resumed run knows that it did."""

from __future__ import annotations

import copy

import torch

from methods.prorl import due
from tests.helpers.tiny import tiny_trainer

RUN = ("train.steps=4", "train.lr=1e-2", "method.reset_share=0.5", "method.kl_coef=0.1")


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_resets_are_due_after_equal_shares_and_not_at_the_end() -> None:
    assert [due(f, 0.25) for f in (0.1, 0.25, 0.49, 0.5, 0.8, 1.0)] == [0, 1, 1, 2, 3, 3]
    assert due(1.0, 1.0) == 0 and [due(s / 10, 0.3) for s in (2, 3, 5, 6, 9, 10)] == [0, 1, 1, 2, 3, 3]


def test_prorl_resets_the_reference_and_the_optimiser_and_resumes() -> None:
    trainer = tiny_trainer(*RUN, method="prorl")
    base = copy.deepcopy(trainer.policy.weights())
    first = trainer.step()
    assert trainer.reference is not None and same(trainer.reference.weights(), base)
    assert first["prorl/resets"] == 0 and trainer.optimizer.state and "reference" not in trainer.state_dict()
    second = trainer.step()
    assert second["prorl/resets"] == 1 and second["ref_kl"] != 0
    assert not trainer.optimizer.state and not same(trainer.policy.weights(), base)
    assert same(trainer.reference.weights(), trainer.policy.weights())
    saved = copy.deepcopy(trainer.state_dict())
    third = trainer.step()
    assert abs(third["ref_kl"]) < 1e-6 and trainer.optimizer.state
    assert same(trainer.reference.weights(), saved["weights"]), "the reference stays"
    resumed = tiny_trainer(*RUN, method="prorl")
    resumed.load_state_dict(saved)
    assert resumed.step() == third and resumed.step() == trainer.step()
    assert same(resumed.policy.weights(), trainer.policy.weights())


def test_the_optimiser_may_keep_its_state() -> None:
    trainer = tiny_trainer(*RUN, "method.reset_optimizer=false", method="prorl")
    trainer.step()
    assert trainer.step()["prorl/resets"] == 1 and trainer.optimizer.state
