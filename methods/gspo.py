r"""GSPO: group sequence policy optimisation (arXiv 2507.18071, eq. 5-7; token form eq. 13-14).

    s_i = exp( 1/len_i sum_t (logp_t - old_logp_t) )           the geometric mean of the token ratios
    log s_it = logp_t - sg[logp_t] + sg[log s_i], at most 10   value s_i, gradient s_i per token
    l_t = max(-A s_it, -A clip(s_it, 1 - eps_low, 1 + eps_high))

with GRPO's advantage A, averaged over the tokens of a response, then over responses: a response is kept or
clipped as a whole, and one that is kept has the gradient -A_i s_i / len_i sum_t grad logp_t. No dual clip.
"""

from __future__ import annotations

from dataclasses import dataclass

from entrobench import (
    FixedBounds,
    Method,
    PolicyLoss,
    RunConfig,
    SequenceRatio,
    Stages,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)


@register("gspo")
@dataclass(frozen=True)
class GSPO(Method):
    """GRPO with one ratio per response; the reduction is fixed, since another would weigh by length."""

    eps_low: float = hp(3e-4, "clip of the response's ratio below 1", ge=0, lt=1)
    eps_high: float = hp(4e-4, "clip of the response's ratio above 1", ge=0)

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every ratio at 1, so GSPO is GRPO")

    def stages(self) -> Stages:
        loss = PolicyLoss(
            ratio=SequenceRatio(),
            bounds=FixedBounds(self.eps_low, self.eps_high),
            aggregation="seq-mean-token-mean",
        )
        return grpo_stages().with_(loss=loss)
