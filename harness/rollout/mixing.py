"""A second model beside the policy while rows grow: tokens are drawn from a mixture of both distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.model.decoding import Decoding, decoding
from harness.model.policy import Policy
from harness.util.errors import UserError


@dataclass(frozen=True)
class Mixing:
    """The second model, and its share w ``[N]`` of each draw from the policy's probabilities ``[N,V]``."""

    model: Policy
    weight: Callable[[Tensor], Tensor]

    def begin(self, prompts: Sequence[Sequence[int]], n: int) -> MixedRows:
        """The second model's side of ``n`` responses to each prompt."""
        network = self.model.network
        rows = decoding(self.model.model, network.curve, network.ways, prompts, self.model.pad_id)
        rows.repeat(n)
        return MixedRows(self, rows)


@dataclass
class MixedRows:
    """``rows`` grow with the policy's own: they are given the same tokens, and lose the same rows."""

    mixing: Mixing
    rows: Decoding

    def mixed(self, probs_NV: Tensor, temperature: float | Tensor) -> Tensor:
        """(1 - w) p + w q, ``[N,V]``.

        Args:
            probs_NV: p, the policy's at the sampling temperature.
            temperature: that temperature, or ``[N,1]``.

        Raises:
            UserError: logits of the second model that are NaN or infinite.
        """
        logits_NV = same_width(self.rows.logits(), probs_NV.shape[1])
        other_NV = (logits_NV / temperature).softmax(1)
        if not bool(other_NV.sum(1).isfinite().all()):
            raise UserError(
                f"the second model '{self.mixing.model.source}' gives logits that are NaN or infinite; "
                "name another, or use model.dtype=float32"
            )
        return mixture(probs_NV, other_NV, self.mixing.weight(probs_NV))


def mixture(own_NV: Tensor, other_NV: Tensor, share_N: Tensor) -> Tensor:
    """(1 - w) p + w q of distributions p and q over the last dimension; q itself where w is 1."""
    return torch.lerp(own_NV, other_NV, share_N[..., None].to(own_NV.dtype))


def same_width(logits_NV: Tensor, width: int) -> Tensor:
    """Logits of ``width`` tokens: heads of one tokenizer may be padded to different sizes."""
    there = logits_NV.shape[1]
    if there >= width:
        return logits_NV[:, :width]
    return torch.nn.functional.pad(logits_NV, (0, width - there), value=-torch.inf)
