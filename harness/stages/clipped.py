"""What methods share whose loss is GRPO's clipped one."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.fields import hp
from harness.stages.aggregate import AGGREGATIONS
from harness.stages.loss import FixedBounds, PolicyLoss, TokenRatio
from harness.stages.method import Method


@dataclass(frozen=True)
class ClippedMethod(Method):
    """A method whose loss is GRPO's clipped one; a subclass repeats a setting to give it another default."""

    eps_low: float = hp(0.2, "ratio clip below 1", ge=0, lt=1)
    eps_high: float = hp(0.2, "ratio clip above 1", ge=0)
    dual_clip: float | None = hp(None, "cap on -A r for A < 0; null is off", gt=1)
    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def clipped_loss(self, ratio: TokenRatio | None = None) -> PolicyLoss:
        """The clipped loss with these settings; ``ratio`` in place of the clamped token ratio."""
        return PolicyLoss(
            ratio=ratio or TokenRatio(),
            bounds=FixedBounds(self.eps_low, self.eps_high),
            dual_clip=self.dual_clip,
            aggregation=self.aggregation,
        )
