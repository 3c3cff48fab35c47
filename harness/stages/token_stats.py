"""Declared token statistics: a number per position, computed from its logits.

All are taken from fp32 (or wider) logits divided by the loss temperature, in nats.
:func:`harness.model.logits.token_stats` computes them without ever holding the [B,T,V] logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from harness.stages.nucleus import kept, nucleus

if TYPE_CHECKING:
    from torch import Tensor

    from harness.stages.distribution import Distribution


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

    def value(self, at: Distribution) -> Tensor:
        """``[N]``, without gradient; one that shares steps with others overrides it."""
        with torch.no_grad():
            return self.at_temperature(at.logits_NV, at.target_N, at.temperature)

    def add_gradient(self, at: Distribution, grad_N: Tensor, into_NV: Tensor) -> None:
        """Add ``grad_N`` times the derivative by the logits to ``into_NV``; by autograd where not overridden.

        Positions of gradient 0 may be left out.
        """
        rows = grad_N.nonzero().squeeze(1)
        with torch.enable_grad():
            logits = at.logits_NV[rows].requires_grad_()
            value = self.at_temperature(logits, at.target_N[rows], at.temperature)
        if value.requires_grad:
            into_NV.index_add_(0, rows, torch.autograd.grad(value, logits, grad_N[rows])[0])

    def turn(self, at: Distribution, grad_N: Tensor) -> bool:
        """Turn the logits into ``grad_N`` times the derivative by them, where that takes no other memory.

        Returns:
            whether it has; nothing else can be asked of ``at`` then.
        """
        return False

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

    def value(self, at: Distribution) -> Tensor:
        return self.scale * at.chosen_N - at.power_sum_N(self.scale).log()

    def add_gradient(self, at: Distribution, grad_N: Tensor, into_NV: Tensor) -> None:
        """scale (onehot - p^scale / sum p^scale)."""
        grad_N1 = (self.scale * grad_N)[:, None]
        if self.scale == 1:
            into_NV.addcmul_(at.p_NV, -grad_N1)
        else:
            into_NV.addcmul_(at.power_NV(self.scale), -grad_N1 / at.power_sum_N(self.scale)[:, None])
        into_NV.scatter_add_(1, at.target_N[:, None], grad_N1)

    def turn(self, at: Distribution, grad_N: Tensor) -> bool:
        grad_N1 = (self.scale * grad_N)[:, None]
        power_NV, sum_N = at.turned(self.scale)
        power_NV.mul_(-grad_N1 / sum_N[:, None])
        power_NV.scatter_add_(1, at.target_N[:, None], grad_N1)
        return True

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

    def value(self, at: Distribution) -> Tensor:
        return at.entropy_N

    def add_gradient(self, at: Distribution, grad_N: Tensor, into_NV: Tensor) -> None:
        """-p (ln p + H)."""
        surprise_NV = at.scratch.take("surprise", at.logits_NV)
        torch.sub(at.below_NV, (at.total_N.log() - at.entropy_N)[:, None], out=surprise_NV)
        into_NV.addcmul_(surprise_NV.mul_(at.e_NV), (-grad_N / at.total_N)[:, None])


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
        return self._entropy(self._likeliest(logits_NV.softmax(1)))[0]

    def _entropy(self, top_NK: Tensor) -> tuple[Tensor, Tensor]:
        """``[N]``, and ``[N,K]`` the nucleus, from probabilities in falling order."""
        with torch.no_grad():
            reached_NK = top_NK.cumsum(1)
            kept_NK = (reached_NK - top_NK if self.inclusive else reached_NK) < self.top_p
        p_NK = torch.where(kept_NK, top_NK, 0.0)
        q_NK = p_NK / (p_NK.sum(1, keepdim=True) + self.eps)
        return -(q_NK * (q_NK + self.eps).log()).sum(1), q_NK

    def value(self, at: Distribution) -> Tensor:
        top_NK, _, whole_N = self._few(at)
        value_N = self._entropy(top_NK)[0]
        for row in (~whole_N).nonzero().squeeze(1).tolist():
            value_N[row] = self._flat(at, row)[0]
        return value_N

    def add_gradient(self, at: Distribution, grad_N: Tensor, into_NV: Tensor) -> None:
        """-q (ln q + H) on the nucleus. What ``eps`` adds to it is of its own size and left out."""
        top_NK, id_NK, whole_N = self._few(at)
        entropy_N, q_NK = self._entropy(top_NK)
        few_N1 = torch.where(whole_N, -grad_N, 0.0)[:, None]
        into_NV.scatter_add_(1, id_NK, few_N1 * q_NK * ((q_NK + self.eps).log() + entropy_N[:, None]))
        for row in (~whole_N & (grad_N != 0)).nonzero().squeeze(1).tolist():
            entropy, norm, inside_K = self._flat(at, row)
            slope_V = (at.below_NV[row] + (entropy - math.log(norm))).mul_(kept(at.e_NV[row], inside_K))
            into_NV[row].add_(slope_V, alpha=-float(grad_N[row]) / norm)

    def _few(self, at: Distribution) -> tuple[Tensor, Tensor, Tensor]:
        """``[N,K]`` largest probabilities and their tokens, and ``[N]`` whether the nucleus ends there."""
        most = min(self.top_k, at.logits_NV.shape[1])
        best_NK, id_NK = at.best(min(most, FEW) if at.logits_NV.device.type == "cpu" else most)
        top_NK = (best_NK - at.top_N[:, None]).exp() / at.total_N[:, None]
        found = id_NK.shape[1] == most
        return top_NK, id_NK, (top_NK.sum(1) > self.top_p * (1 + 1e-5)) | found

    def _flat(self, at: Distribution, row: int) -> tuple[float, float, Tensor]:
        """Of a row: its entropy, what q is the share of, and ``[K]`` the ``e_NV`` of the nucleus."""
        total = float(at.total_N[row])
        inside_K = nucleus(at.e_NV[row], self.top_p * total, self.top_k, self.inclusive)
        mass, moment = float(inside_K.sum()), float(torch.xlogy(inside_K, inside_K).sum())
        norm = mass + self.eps * total
        return (math.log(norm) * mass - moment) / norm - len(inside_K) * self.eps, norm, inside_K

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
