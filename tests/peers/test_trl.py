"""Equality with TRL 1.16: the same frozen completions give the same loss and gradient to 1e-5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.model.policy import Policy
from harness.stages.batch import Batch
from harness.stages.defaults import group_normalised
from harness.stages.token_stats import LOGP
from harness.train.trainer import Trainer
from tests.performance import trl_peer as peer

pytestmark = [pytest.mark.peers, pytest.mark.slow]

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Frozen:
    """Rollouts drawn once, with the policies that scored them."""

    trainer: Trainer
    batch: Batch
    old: Policy
    reference: Policy


@pytest.fixture(scope="module")
def frozen() -> Iterator[Frozen]:
    """128 rollouts of the base model; old and reference log-probs come from two perturbed copies."""
    threads = torch.get_num_threads()
    trainer = peer.our_trainer(peer.Settings())
    old = peer.perturbed(trainer.policy, 0.06, seed=1)
    reference = peer.perturbed(trainer.policy, 0.06, seed=2)
    yield Frozen(trainer, peer.frozen_rollouts(trainer, old=old, reference=reference), old, reference)
    torch.set_num_threads(threads)


def trl(frozen: Frozen, settings: peer.Settings, folder: Path, **kwargs: Any) -> Any:
    """A GRPOTrainer; a missing TRL fails with the remedy, it never hides the comparison."""
    problems = list({p.id: p for p in frozen.batch.problems}.values())
    try:
        return peer.trl_trainer(
            settings, frozen.trainer.policy, frozen.trainer.benchmark, problems, folder, **kwargs
        )
    except ImportError as error:
        pytest.fail(str(error), pytrace=False)


def test_the_frozen_ratios_leave_the_clip_range_on_both_sides(frozen: Frozen) -> None:
    """Otherwise equality would say nothing about ratios and clipping."""
    batch = frozen.batch
    with torch.no_grad():
        logp_BT = frozen.trainer.policy.stats(batch, [LOGP])["logp"]
    ratio = (logp_BT - batch.old["logp"]).exp()
    advantage = batch.advantages()
    assert 0 < ((ratio < 0.8) & (advantage < 0) & batch.mask_BT).sum()
    assert 0 < ((ratio > 1.2) & (advantage > 0) & batch.mask_BT).sum()
    assert (ratio - 1).abs()[batch.mask_BT].mean() > 0.02


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize(
    ("loss_type", "micro_batches"),
    [("grpo", 1), ("grpo", 4), ("bnpo", 1), ("dapo", 1), ("dapo", 4), ("dr_grpo", 4)],
)
def test_equal_loss_and_gradient(
    frozen: Frozen, tmp_path: Path, loss_type: str, micro_batches: int, beta: float
) -> None:
    """One optimiser step over all 128 rows, whole or accumulated (bnpo divides per micro-batch in TRL)."""
    settings = peer.Settings(loss_type=loss_type, beta=beta, minibatches=1, micro_batches=micro_batches)
    rows = settings.rows
    # TRL divides by rows x length where verl, whose reduction ours is, divides by length only
    width = settings.max_tokens * (rows if loss_type == "dr_grpo" else 1)
    ours, log = peer.our_loss(
        frozen.trainer.policy, settings.run().method.stages(), frozen.batch,
        micro_rows=rows // micro_batches, width=width,
    )  # fmt: skip
    theirs = peer.trl_loss(trl(frozen, settings, tmp_path), frozen.batch, micro_batches)
    assert log.mean("clip_low") > 0 and log.mean("clip_high") > 0
    assert ours.gradient.keys() == theirs.gradient.keys()
    assert ours.loss == pytest.approx(theirs.loss, abs=TOLERANCE)
    assert ours.norm == pytest.approx(theirs.norm, rel=TOLERANCE)
    assert ours.relative_gap(theirs) < TOLERANCE


def test_trl_scores_the_frozen_rollouts_alike(frozen: Frozen, tmp_path: Path) -> None:
    """TRL's own scoring: prompts, masks, advantages, old and reference log-probs are ours."""
    batch = frozen.batch
    settings = peer.Settings(beta=0.04)
    ids = [row[mask].tolist() for row, mask in zip(batch.response_BT, batch.mask_BT, strict=True)]
    prompt_ids = [row[mask].tolist() for row, mask in zip(batch.prompt_BP, batch.prompt_mask_BP, strict=True)]

    def replay(prompts: list[str], _: Any) -> dict[str, Any]:
        assert prompts == [p.prompt for p in batch.problems]
        return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": None}

    trainer = trl(frozen, settings, tmp_path, rollout_func=replay, reference=frozen.reference)
    trainer.model.load_state_dict(frozen.old.model.state_dict())
    trainer.model.train()
    scored = trainer._generate_and_score_completions(
        [{"prompt": p.prompt, "problem": p.id} for p in batch.problems]
    )
    assert torch.equal(scored["prompt_ids"], batch.prompt_BP)
    assert torch.equal(scored["completion_ids"], batch.response_BT)
    assert torch.equal(scored["completion_mask"].bool(), batch.mask_BT)
    advantage_B = group_normalised(batch.correct_B, batch.group_B, eps=peer.TRL_STD_EPS)
    torch.testing.assert_close(scored["advantages"], advantage_B, atol=TOLERANCE, rtol=0)
    pairs = (("old_per_token_logps", batch.old["logp"]), ("ref_per_token_logps", batch.ref_logp_BT))
    for theirs, ours in pairs:
        # relative too: TRL counts positions from the padding, so fp32 rounds its rotations differently
        torch.testing.assert_close(
            scored[theirs][batch.mask_BT], ours[batch.mask_BT], atol=TOLERANCE, rtol=TOLERANCE
        )


def test_a_changed_setting_is_seen(frozen: Frozen, tmp_path: Path) -> None:
    """The comparison has teeth: another clip range or reduction is far outside the tolerance."""
    settings = peer.Settings(minibatches=1)
    theirs = peer.trl_loss(trl(frozen, settings, tmp_path), frozen.batch, 1)
    for other in (replace(settings, eps=0.1), replace(settings, loss_type="bnpo")):
        ours, _ = peer.our_loss(
            frozen.trainer.policy, other.run().method.stages(), frozen.batch,
            micro_rows=other.rows, width=other.max_tokens,
        )  # fmt: skip
        assert ours.relative_gap(theirs) > 100 * TOLERANCE
