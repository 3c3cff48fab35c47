"""What a reading is given, and the few things all of them compute: log-prob, entropy, group advantage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Number = float | Tensor


@dataclass
class Recorded:
    """One step as it happened, before any statistic was taken.

    ``logits``, ``old_logits``, ``ref_logits`` are raw, ``[B,T,V]``: position t predicts response token t.
    ``prompt_logits`` ``[B,P,V]`` are the old policy's: position p predicts prompt token p + 1.
    ``fraction`` of the run is used with this step, ``started`` when it begins, where steps are counted.
    ``draws`` ``[B,T]`` are the random numbers that the optimiser step was given, if its loss asked for any.
    ``variant`` is what follows the @ in the method's name.
    ``rollout_logp`` ``[B,T]`` are the tokens' log-probs as the sampler gave them.
    ``pieces`` are the texts of single tokens, ``parameters`` what the current logits are a function of.
    ``answers`` are the responses' answers in the grader's canonical form (None: there is none), ``texts``
    what the grader was given. ``truncated`` rows met the token limit. ``step`` is that of the run.
    ``inner`` gives the current and the old logits that the head reads behind a layer, ``[B,T,V]`` each.
    ``tags`` ``[B]`` and ``token_tags`` ``[B,T]`` are what the rollout program left on its rows; ``segment``
    among the latter are the numbers of segments, where there are any.
    """

    logits: Tensor
    old_logits: Tensor
    ref_logits: Tensor
    prompt_logits: Tensor
    tokens: Tensor
    prompt_tokens: Tensor
    prompt_mask: Tensor
    lengths: list[int]
    groups: list[int]
    correct: list[bool]
    tempered: list[bool]
    temperature: float
    fraction: float
    started: float
    max_response_tokens: int
    state: Mapping[str, float] = field(default_factory=dict)
    draws: Tensor | None = None
    variant: str = ""
    parameters: Sequence[Tensor] = ()
    rollout_logp: Tensor | None = None
    pieces: Mapping[int, str] = field(default_factory=dict)
    answers: Sequence[str | None] = ()
    texts: Sequence[str] = ()
    truncated: Sequence[bool] = ()
    inner: Callable[[float], tuple[Tensor, Tensor]] | None = None
    tags: Mapping[str, Tensor] = field(default_factory=dict)
    token_tags: Mapping[str, Tensor] = field(default_factory=dict)
    step: int = 0
    _known: dict[str, list[Sequence[Tensor]]] = field(default_factory=dict, init=False, repr=False)

    @property
    def rows(self) -> range:
        return range(len(self.lengths))

    def logp(self, which: str, row: int, t: int) -> Tensor:
        """log-prob of response token t; ``which`` is logits, old_logits or ref_logits."""
        return self._once(which, self._logp_BT)[row][t]

    def entropy(self, which: str, row: int, t: int) -> Tensor:
        return self._once(which, self._entropy_BT)[row][t]

    def _logp_BT(self, logits: Tensor) -> Tensor:
        z = logits / self.temperature
        top = z.max(2, keepdim=True).values
        own = z.gather(2, self.tokens[..., None])
        return (own - torch.log(torch.exp(z - top).sum(2, keepdim=True)) - top).squeeze(2)

    def _entropy_BT(self, logits: Tensor) -> Tensor:
        p = torch.softmax(logits / self.temperature, 2)
        return -(p * torch.log(p.clamp(min=1e-300))).sum(2)

    def _once(self, which: str, formula: Callable[[Tensor], Tensor]) -> list[Sequence[Tensor]]:
        """``formula`` of all positions, as numbers by row: readings ask again and again, token by token."""
        key = f"{formula.__name__} {which}"
        if key not in self._known:
            with torch.enable_grad():  # who asks first may want numbers alone
                self._known[key] = [row.unbind() for row in formula(getattr(self, which)).unbind()]
        return self._known[key]

    def tokens_of(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        return [(row, t) for row in rows for t in range(self.lengths[row])]


def group_advantage(x: Recorded, reward: Sequence[float]) -> list[float]:
    """(R - mean) / (std + 1e-6) in each group, ddof 1."""
    out = []
    for row in x.rows:
        mates = [reward[i] for i in x.rows if x.groups[i] == x.groups[row]]
        mean = sum(mates) / len(mates)
        std = math.sqrt(sum((r - mean) ** 2 for r in mates) / (len(mates) - 1))
        out.append((reward[row] - mean) / (std + 1e-6))
    return out


def ratio(x: Recorded, row: int, t: int) -> Tensor:
    d = x.logp("logits", row, t) - x.logp("old_logits", row, t).detach()
    return torch.exp(d.clamp(-20, 20))


def clip_loss(r: Tensor, a: float, low: Number, high: Number, cap: float | None = None) -> Tensor:
    """The larger of -A r and -A clip(r), at most -A cap where A < 0."""
    clipped = r if low <= r <= high else torch.as_tensor(low if r < low else high, dtype=r.dtype)
    plain, bounded = -a * r, -a * clipped
    loss = plain if plain >= bounded else bounded
    if cap is not None and a < 0 and loss > -a * cap:
        loss = torch.as_tensor(-a * cap, dtype=r.dtype)
    return loss


def token_mean(x: Recorded, rows: Sequence[int], losses: Mapping[tuple[int, int], Tensor]) -> Tensor:
    return sum(losses.values(), torch.zeros(())) / len(x.tokens_of(rows))


def row_mean(x: Recorded, rows: Sequence[int], losses: Mapping[tuple[int, int], Tensor]) -> Tensor:
    means = [sum(losses[row, t] for t in range(x.lengths[row])) / x.lengths[row] for row in rows]
    return sum(means[1:], means[0]) / len(rows)


def verdict(x: Recorded, right: float, wrong: float) -> list[float]:
    return [right if c else wrong for c in x.correct]


def everything(x: Recorded, hp: Mapping[str, Any]) -> list[int]:
    return list(x.rows)
