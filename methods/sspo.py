r"""SSPO: subsentence-level policy optimisation (arXiv 2511.04256).

A response is cut behind every token that contains a delimiter; n_k and h_k are the tokens and the mean
entropy of segment k under the old policy, h the mean entropy of all response tokens:

    s_k   = exp( 1/n_k sum over the segment of (logp_t - old_logp_t) )
    eps_k = eps clip(h_k / max(h, 1e-8), scale_lo, scale_hi),        for either side with its own eps
    l_t   = max(-A s_k, -A clip(s_k, 1 - eps_low_k, 1 + eps_high_k))

averaged over the tokens of a response, then over responses, with GRPO's advantage A. The ratio, and that
bounds are wider where entropy is high, are the paper's; the delimiters, the rule for the bounds and all
numbers are a reconstruction, because the paper could not be read beyond its abstract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    ENTROPY,
    Batch,
    Bounds,
    Method,
    Out,
    PolicyLoss,
    RunConfig,
    SegmentRatio,
    Selection,
    Stages,
    Stats,
    StepContext,
    UserError,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
    segment_means,
    segment_numbers,
)

if TYPE_CHECKING:
    from torch import Tensor

DELIMITERS = ".,;:!?\n。，；：！？"


@dataclass(frozen=True)
class Segmented(Selection):
    """Every row and token trains; tokens whose text contains a delimiter close their segment."""

    delimiters: str

    def __call__(self, batch: Batch, ctx: StepContext) -> Out[Batch]:
        ids = batch.response_BT.unique()
        texts = ctx.decode([[i] for i in ids.tolist()])
        closing = ids[torch.tensor([any(d in text for d in self.delimiters) for text in texts])]
        segment = segment_numbers(torch.isin(batch.response_BT, closing), batch.mask_BT)
        tokens, count = int(batch.mask_BT.sum()), int((segment.amax(1) + 1).sum())
        return Out(batch.with_(segment_BT=segment), {"sspo/segment_tokens": tokens / max(count, 1)})


def scaled(eps: float, entropy_BT: Tensor, mean: Tensor, lo: float, hi: float) -> Tensor:
    """eps clip(h_k / mean, lo, hi), ``[B,T]``, from each token's segment entropy."""
    return eps * (entropy_BT / mean.clamp(min=1e-8)).clamp(lo, hi)


@dataclass(frozen=True)
class EntropyBounds(Bounds):
    """The bounds above, from the old policy's entropies; their mean is the minibatch's."""

    eps_low: float
    eps_high: float
    scale_lo: float
    scale_hi: float

    old_stats = (ENTROPY,)
    minibatch_scope = True

    def __call__(self, batch: Batch, current: Stats) -> Out[tuple[Tensor, Tensor]]:
        assert batch.segment_BT is not None, "SegmentRatio has refused it before"
        entropy, mask = batch.old["entropy"].to(current["logp"].dtype), batch.mask_BT
        of_segment = segment_means(entropy, batch.segment_BT, mask)
        mean = entropy[mask].mean() if bool(mask.any()) else entropy.new_zeros(())
        low, high = (
            scaled(eps, of_segment, mean, self.scale_lo, self.scale_hi)
            for eps in (self.eps_low, self.eps_high)
        )
        ends = (of_segment <= self.scale_lo * mean) | (of_segment >= self.scale_hi * mean)
        share = float((ends & mask).sum()) / max(int(mask.sum()), 1)
        return Out((1 - low, 1 + high), {"sspo/scale_at_its_ends": share})


@register("sspo")
@dataclass(frozen=True)
class SSPO(Method):
    """GRPO with one ratio per sub-sentence and bounds that follow its entropy (the latter reconstructed)."""

    eps_low: float = hp(0.1, "clip below 1 at mean entropy; unverified", ge=0, lt=1)
    eps_high: float = hp(0.15, "clip above 1 at mean entropy; unverified", ge=0)
    scale_lo: float = hp(0.5, "least factor on the clips, at low entropy; unverified", ge=0)
    scale_hi: float = hp(2.0, "largest factor on the clips, at high entropy; unverified", gt=0)
    delimiters: str = hp(DELIMITERS, "a token that contains one of these characters ends a sub-sentence")
    aggregation: str = hp("seq-mean-token-mean", "reduction of the token losses", choices=AGGREGATIONS)

    def validate(self, run: RunConfig) -> None:
        if self.scale_lo > self.scale_hi:
            raise UserError("method.scale_lo exceeds method.scale_hi; lower it")
        refuse_single_update(run, "every ratio at 1, so SSPO is GRPO")

    def stages(self) -> Stages:
        bounds = EntropyBounds(self.eps_low, self.eps_high, self.scale_lo, self.scale_hi)
        loss = PolicyLoss(ratio=SegmentRatio(), bounds=bounds, aggregation=self.aggregation)
        return grpo_stages().with_(selection=Segmented(self.delimiters), loss=loss)
