r"""SFT: cross-entropy on demonstrations, the yardstick of the fine-tuning track.

    loss = - sum over demonstration tokens of logp / their number in the optimiser step

A token counts from the response's first one to its end token; prompts and padding do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import AGGREGATIONS, FineTuning, Stages, cross_entropy, demonstrated, hp, register


@register("sft")
@dataclass(frozen=True)
class SFT(FineTuning):
    """Every token of every demonstration made likelier, all with the same weight."""

    aggregation: str = hp("token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def stages(self) -> Stages:
        return demonstrated(cross_entropy(self.aggregation))
