"""Declared token statistics: a number per position, computed from its logits.

All are taken from fp32 (or wider) logits divided by the loss temperature, in nats.
:func:`harness.model.logits.token_stats` computes them without ever holding the [B,T,V] logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenStat:
    """A number per position computed from its logits. Subclasses define ``compute``.

    ``on`` says which tokens it is for: the response (``[B,T]``) or the prompt (``[B,P]``, position 0 is 0).
    ``layer`` says where the head reads: None is the model's own logits, else the sum behind a decoder layer
    (the residual stream, without the final norm): the layer's number from 1, or below 1 a share of the
    model's layers. Behind the last layer the final norm stands, so that is the model's own logits again.
    """

    name: str
    on: Literal["response", "prompt"] = "response"
    layer: float | None = field(default=None, kw_only=True)

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        """``[N]`` from temperature-scaled fp32 logits and the ids of the tokens that follow."""
        raise NotImplementedError

    @property
    def is_log_prob(self) -> bool:
        """Whether it is the token's log-prob at the policy's own temperature, however it is normalised.

        A gradient that flows through it instead of :data:`LOGP` is no change of the token's update by that.
        """
        return False


@dataclass(frozen=True)
class LogProb(TokenStat):
    """log p(token), full softmax, with the logits multiplied by ``scale`` (an inverse temperature)."""

    name: str = ""
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.name:
            name = "logp" if self.scale == 1 else f"logp@{self.scale:g}"
            object.__setattr__(self, "name", name if self.layer is None else f"{name}@layer{self.layer:g}")

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        scaled = logits_NV if self.scale == 1 else logits_NV * self.scale
        return scaled.gather(1, target_N[:, None]).squeeze(1) - scaled.logsumexp(1)

    @property
    def is_log_prob(self) -> bool:
        return self.scale == 1 and self.layer is None


@dataclass(frozen=True)
class Entropy(TokenStat):
    """Entropy of the next-token distribution, full softmax, nats."""

    name: str = "entropy"

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        logp_NV = logits_NV.log_softmax(1)
        return -(logp_NV.exp() * logp_NV).sum(1)


#: Log-probability of the sampled token.
LOGP = LogProb()
#: Entropy of the distribution that the token was sampled from, in nats.
ENTROPY = Entropy()
#: Log-probability of a prompt's tokens.
PROMPT_LOGP = LogProb(name="prompt_logp", on="prompt")
