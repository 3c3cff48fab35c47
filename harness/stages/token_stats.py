"""Declared token statistics: a number per position, computed from its logits.

All are taken from fp32 (or wider) logits divided by the loss temperature, in nats.
:func:`harness.model.logits.token_stats` computes them without ever holding the [B,T,V] logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

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

    def at_temperature(self, logits_NV: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        """``compute``, for a statistic that also has to know what the logits were divided by."""
        return self.compute(logits_NV, target_N)

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


@dataclass(frozen=True)
class MinPLogProb(TokenStat):
    """log q(token) of the policy without its unlikely tokens, renormalised (arXiv 2510.03222).

    Tokens stay whose probability at temperature 1, before the loss temperature is applied, is at least
    ``min_p`` times the largest one (``relative``) or ``min_p`` itself. The logits of the others become
    ``outside`` or, ``soft``, the position's smallest; what results is divided by the temperature.
    """

    name: str = ""
    min_p: float = 0.02
    relative: bool = True
    soft: bool = False
    outside: float = -1e4

    def __post_init__(self) -> None:
        if not self.name:
            form = ("x" if self.relative else "") + ("soft" if self.soft else "")
            object.__setattr__(self, "name", f"min_p_logp@{self.min_p:g}{form}")

    def filtered(self, logits_NV: Tensor, temperature: float) -> Tensor:
        """The logits of q, ``[N,V]``, from those of the policy; both are divided by the temperature."""
        raw_NV = logits_NV if temperature == 1.0 else logits_NV * temperature
        base_N1 = raw_NV.amax(1, keepdim=True) if self.relative else raw_NV.logsumexp(1, keepdim=True)
        out = raw_NV < base_N1 + (math.log(self.min_p) if self.min_p > 0 else -math.inf)
        low_N1 = raw_NV.amin(1, keepdim=True) if self.soft else raw_NV.new_tensor(self.outside)
        return torch.where(out, low_N1, raw_NV) / temperature

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return self.at_temperature(logits_NV, target_N, 1.0)

    def at_temperature(self, logits_NV: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        return LOGP.compute(self.filtered(logits_NV, temperature), target_N)


@dataclass(frozen=True)
class MinPForwardKL(MinPLogProb):
    """KL(q || policy) over the vocabulary, nats, with the q of :class:`MinPLogProb`, a constant."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "name", self.name.replace("min_p_logp", "min_p_kl"))

    def at_temperature(self, logits_NV: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        with torch.no_grad():
            logq_NV = self.filtered(logits_NV, temperature).log_softmax(1)
        return (logq_NV.exp() * (logq_NV - logits_NV.log_softmax(1))).sum(1)


#: Likeliest tokens that a nucleus is looked for in first: finding ten thousand of a large vocabulary takes
#: more time than the softmax.
FEW = 64


@dataclass(frozen=True)
class NucleusEntropy(TokenStat):
    """Entropy of the renormalised nucleus, nats (arXiv 2509.25133); 0 where nothing is in it.

    Of the ``top_k`` likeliest tokens the first ones stay whose cumulative probability is below ``top_p``: the
    token that reaches it is out, or in with ``inclusive``. ``eps`` is added inside the logarithm and to the
    normaliser.
    """

    name: str = ""
    top_p: float = 0.8
    top_k: int = 10000
    inclusive: bool = False
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if not self.name:
            form = "+" if self.inclusive else ""
            object.__setattr__(self, "name", f"nucleus_entropy@{self.top_p:g}{form}top{self.top_k}")

    def compute(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        top_NK = self._likeliest(logits_NV.softmax(1))
        with torch.no_grad():
            reached_NK = top_NK.cumsum(1)
            kept_NK = (reached_NK - top_NK if self.inclusive else reached_NK) < self.top_p
        p_NK = torch.where(kept_NK, top_NK, 0.0)
        q_NK = p_NK / (p_NK.sum(1, keepdim=True) + self.eps)
        return -(q_NK * (q_NK + self.eps).log()).sum(1)

    def _likeliest(self, p_NV: Tensor) -> Tensor:
        """``[N,K]`` largest probabilities, so many that every nucleus ends among them: mostly some dozens."""
        most, k = min(self.top_k, p_NV.shape[1]), FEW
        while k < most:
            top_NK = p_NV.topk(k, 1).values
            if bool((top_NK.detach().sum(1) > self.top_p * (1 + 1e-5)).all()):
                return top_NK
            k *= 16
        return p_NV.topk(most, 1).values


#: Log-probability of the sampled token.
LOGP = LogProb()
#: Entropy of the distribution that the token was sampled from, in nats.
ENTROPY = Entropy()
#: Log-probability of a prompt's tokens.
PROMPT_LOGP = LogProb(name="prompt_logp", on="prompt")
