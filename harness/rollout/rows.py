"""The responses that are under way: which they are, how far each is, and when further prompts begin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.model.decoding import Decoding, decoding
from harness.model.policy import Policy
from harness.model.shared_prompts import SharedPrompts
from harness.rollout.mixing import MixedRows, Mixing

#: Compacting copies the cache, so rows that have ended stay until they are more than this share of those
#: that began together.
_ENDED = 0.2
#: Prompts begin once there is room for this share of all rows: a few at a time would be slow to read.
_ROOM = 0.25


def can_join(policy: Policy, mixing: Mixing | None) -> bool:
    """Whether rows may begin while others are under way."""
    return policy.network.ways.share and mixing is None


class Rows:
    """Rows of the decoding batch, those that began together one behind the other.

    Attributes:
        row_M: which of all responses each is, prompt-major.
        live_M: false where it has ended and is not taken out yet.
        said_M: tokens before the one that comes next.
        began: prompts whose rows have begun.
    """

    def __init__(
        self, policy: Policy, prompts: Sequence[Sequence[int]], n: int, at_once: int | None,
        mixing: Mixing | None,
    ) -> None:  # fmt: skip
        self._policy, self._prompts, self._n, self._mixing = policy, prompts, n, mixing
        self._at_once = at_once
        self.began = 0
        self._sizes: list[int] = []  # of those that began together
        self.row_M = torch.empty(0, dtype=torch.long, device=policy.device)
        self.live_M = torch.empty(0, dtype=torch.bool, device=policy.device)
        self.said_M = torch.empty(0, dtype=torch.long, device=policy.device)
        self._decoding: Decoding | None = None
        self.beside: MixedRows | None = None

    def begin(self) -> bool:
        """Begin as many prompts as there is room for; whether any row is under way."""
        count = self._room()
        if not count:
            return bool(self._sizes)
        prompts, policy = self._prompts[self.began : self.began + count], self._policy
        new = decoding(policy.model, policy.network.curve, policy.network.ways, prompts, policy.pad_id)
        new.repeat(self._n)
        if self._mixing is not None:
            self.beside = self._mixing.begin(prompts, self._n)
        if isinstance(self._decoding, SharedPrompts) and isinstance(new, SharedPrompts):
            self._decoding.join(new)
        else:
            self._decoding = new
        fresh = torch.arange(count * self._n, device=policy.device)
        self.row_M = torch.cat([self.row_M, fresh + self.began * self._n])
        self.live_M = torch.cat([self.live_M, torch.ones_like(fresh, dtype=torch.bool)])
        self.said_M = torch.cat([self.said_M, torch.zeros_like(fresh)])
        self._sizes.append(len(fresh))
        self.began += count
        return True

    def _room(self) -> int:
        """Prompts that begin now."""
        waiting, busy = len(self._prompts) - self.began, sum(self._sizes)
        if self._at_once is None:
            return waiting
        fit = (self._at_once - busy) // self._n
        if not busy:
            return min(waiting, max(1, fit))
        least = max(1, int(_ROOM * self._at_once) // self._n)
        return min(fit, waiting) if fit >= min(least, waiting) else 0

    def logits(self) -> Tensor:
        """``[M,V]``."""
        assert self._decoding is not None
        return self._decoding.logits()

    def left(self, broken_M: Tensor) -> tuple[list[int], int]:
        """Live rows of each set that began together, and how many of all are broken: one wait for a GPU."""
        counts = [part.sum() for part in self.live_M.split(self._sizes)]
        *live, broken = torch.stack([*counts, broken_M.sum()]).tolist()
        return live, broken

    def go_on(self, token_M: Tensor, live: Sequence[int]) -> None:
        """Append a token to each row, or take out rows that have ended.

        Args:
            live: of :meth:`left`.
        """
        if not any(live):
            self._decoding, self.beside, self._sizes = None, None, []
            self.row_M, self.live_M, self.said_M = self.row_M[:0], self.live_M[:0], self.said_M[:0]
            return
        assert self._decoding is not None
        thin = [count < (1 - _ENDED) * size for count, size in zip(live, self._sizes, strict=True)]
        if any(thin):
            parts = zip(self.live_M.split(self._sizes), thin, strict=True)
            stay = torch.cat([part if some else torch.ones_like(part) for part, some in parts])
            keep = stay.nonzero().flatten()
            self._decoding.keep(keep)
            if self.beside is not None:
                self.beside.rows.keep(keep)
            token_M, self.row_M = token_M[keep], self.row_M[keep]
            self.live_M, self.said_M = self.live_M[keep], self.said_M[keep]
            sizes = zip(live, self._sizes, thin, strict=True)
            self._sizes = [size for size in (new if some else old for new, old, some in sizes) if size]
        self._decoding.append(token_M)
        if self.beside is not None:
            self.beside.rows.append(token_M)
        self.said_M = self.said_M + 1
