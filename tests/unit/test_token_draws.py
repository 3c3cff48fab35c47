"""A loss's selection of tokens, and the random numbers of an optimiser step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.stages.aggregate import AGGREGATIONS, token_coefficients
from harness.stages.base import Out, Stats
from harness.stages.batch import Batch
from harness.stages.loss import PolicyLoss, TokenSelection
from harness.train.update import token_draws
from tests.helpers.tiny import tiny_trainer
from tests.methods.support.losses import rows


class Half(TokenSelection):
    """Keeps the first two tokens of every row."""

    def __call__(self, batch: Batch, current: Stats) -> Out[Tensor]:
        return Out(torch.arange(batch.mask_BT.shape[1]).expand(batch.mask_BT.shape) < 2)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_selection_divides_by_what_it_keeps(aggregation: str) -> None:
    lengths = torch.tensor([4, 1, 3])
    mask = torch.arange(4) < lengths[:, None]
    batch = rows(torch.ones(3, 4), torch.zeros(3, 4), mask_BT=mask)
    stage = PolicyLoss(selection=Half(), aggregation=aggregation)
    share = stage.prepare(batch, {"logp": torch.zeros(3, 4)}).value["counted"]
    kept = mask & (torch.arange(4) < 2)
    torch.testing.assert_close(
        token_coefficients(aggregation, mask) * share, token_coefficients(aggregation, kept)
    )


def test_draws_depend_on_step_and_rollout_alone() -> None:
    batch = rows(torch.zeros(5, 6), torch.zeros(5, 6), tags={"row": torch.tensor([7, 3, 0, 9, 4])})
    draws = token_draws(batch, (1, 2, 3))
    assert draws.shape == (5, 6) and bool(((draws >= 0) & (draws < 1)).all())
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(token_draws(batch.rows(order), (1, 2, 3)), draws[order])
    narrow = batch.with_(mask_BT=batch.mask_BT[:, :4])
    assert torch.equal(token_draws(narrow, (1, 2, 3)), draws[:, :4])
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert not torch.equal(token_draws(batch, other), draws)


def test_every_update_of_a_run_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.train import update as update_module

    seen: list[tuple[object, ...]] = []
    original = update_module.token_draws

    def keep(batch: Batch, key: tuple[object, ...]) -> Tensor:
        seen.append(key)
        return original(batch, key)

    monkeypatch.setattr(update_module, "token_draws", keep)
    trainer = tiny_trainer(method="clip-cov")
    trainer.step()
    trainer.step()
    assert seen == [(1, step, number) for step in (1, 2) for number in range(4)]
    monkeypatch.setattr(update_module, "token_draws", None)  # nobody else asks for any
    tiny_trainer(method="grpo").step()
