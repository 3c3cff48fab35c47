"""Entrocraft's band over a run."""

from __future__ import annotations

from dataclasses import replace

import torch

from harness.registry import methods as registry
from tests.methods.support.pipeline import make_step


def test_entrocraft_follows_the_budget_not_the_step() -> None:
    """The band moves with ``ctx.fraction``, so a run with a token budget ends at the band's end."""
    stages = registry.load("entrocraft@paper")(lo_start=0.0, lo_end=1.0, hi_start=1.0, hi_end=2.0).stages()
    step = make_step()
    batch = step.batch.with_(
        old={"entropy": torch.full(step.batch.mask_BT.shape, 0.5)},
        advantage_BT=torch.ones(step.batch.mask_BT.shape),
    )
    gates = [
        stages.selection(batch, replace(step.ctx, fraction=f)).metrics["entrocraft/gate"]
        for f in (0.0, 0.5, 1.0)
    ]
    assert gates == [0, 0, -1]
