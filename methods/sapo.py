r"""SAPO: soft adaptive policy optimisation (arXiv 2511.20347, eq. 5-6).

    r_t = exp(clamp(logp_t - old_logp_t, -20, 20)),     tau = tau_pos where A > 0, tau_neg elsewhere
    f_t = 4 / tau  sigmoid(tau (r_t - 1))
    l_t = -f_t A

with GRPO's advantage A, averaged over the tokens of a response, then over responses. PPO's gate, which is 1
inside the clip range and 0 outside, becomes a bell: the gradient of a token is

    -A r_t 4 p (1 - p),    p = sigmoid(tau (r_t - 1)),    4 p (1 - p) = 1 at r_t = 1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from entrobench import (
    AGGREGATIONS,
    Batch,
    FixedBounds,
    Method,
    PolicyLoss,
    RunConfig,
    Stages,
    Stats,
    grpo_stages,
    hp,
    refuse_single_update,
    register,
)

if TYPE_CHECKING:
    from torch import Tensor

#: No bounds: ``clip_low`` and ``clip_high`` are logged as 0.
UNBOUNDED = FixedBounds(float("inf"), float("inf"))


def temperatures(advantage_BT: Tensor, tau_pos: float, tau_neg: float) -> Tensor:
    """tau, ``[B,T]``; where A is 0 it is tau_neg."""
    return torch.where(advantage_BT > 0, advantage_BT.new_tensor(tau_pos), advantage_BT.new_tensor(tau_neg))


def gate(ratio_BT: Tensor, tau_BT: Tensor) -> Tensor:
    """f, ``[B,T]``: 2 / tau at r = 1, at most 4 / tau."""
    return 4 / tau_BT * torch.sigmoid(tau_BT * (ratio_BT - 1))


def gate_slope(ratio_BT: Tensor, tau_BT: Tensor) -> Tensor:
    """f'(r) = 4 p (1 - p), ``[B,T]``: 1 at r = 1 for every tau."""
    p = torch.sigmoid(tau_BT * (ratio_BT - 1))
    return 4 * p * (1 - p)


@dataclass(frozen=True)
class SoftGateLoss(PolicyLoss):
    """-f A."""

    surrogate: str = "soft gate"
    tau_pos: float = 1.0
    tau_neg: float = 1.05

    def of_advantage(self, advantage_BT: Tensor, batch: Batch, current: Stats, prepared: Stats) -> Tensor:
        tau = temperatures(advantage_BT, self.tau_pos, self.tau_neg)
        return -advantage_BT * gate(self.ratio.ratio(batch, current), tau)


@register("sapo")
@dataclass(frozen=True)
class SAPO(Method):
    """GRPO with a soft gate in place of the clip, narrower for negative advantages."""

    tau_pos: float = hp(1.0, "sharpness of the gate where A > 0", gt=0)
    tau_neg: float = hp(1.05, "sharpness of the gate where A < 0", gt=0)
    aggregation: str = hp(
        "seq-mean-token-mean", "reduction of the token losses (AReaL: token-mean)", choices=AGGREGATIONS
    )

    def validate(self, run: RunConfig) -> None:
        refuse_single_update(run, "every ratio at 1, so SAPO has GRPO's gradient")

    def stages(self) -> Stages:
        loss = SoftGateLoss(
            bounds=UNBOUNDED, aggregation=self.aggregation, tau_pos=self.tau_pos, tau_neg=self.tau_neg
        )
        return grpo_stages().with_(loss=loss)
