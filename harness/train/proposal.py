"""A proposed optimiser step: how long it is, and how fast it spreads the logits.

The optimiser makes its step, so that p, the difference of the weights, is whatever it does: moments, weight
decay, clipped gradient. The derivative of the logits along v = p / |p| is a central difference of two passes,
at the weights before the step -+ h v. Forward-mode differentiation would need it of every attention and every
fused layer. Rounding asks for a large h and curvature for a small one; what counts for both is how far logits
move (:data:`MOVED`). The first h is a sixth of |p| in fp32, which is right for usual steps; where it is not,
two more passes are made. The derivative is then good to about 1e-3 in fp32 and 1e-8 in fp64. Of the head's
product the difference is taken by parts, hidden states and weights, so that no two logits are subtracted.

A copy of the weights before and one after are held meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.distributed.world import micro_batches, world
from harness.model.head import HeadCurve
from harness.model.logits import chunk_rows
from harness.model.packing import row_lengths
from harness.model.policy import Policy
from harness.model.sharding import Network, whole
from harness.stages.batch import Batch
from harness.util.errors import UserError

E = TypeVar("E")

#: How far logits should move on either side, in units of the third root of the type's precision (fp32: 0.2);
#: and how far they may: from a tenth of it to two and a half times as much.
MOVED, LEAST, MOST = 40.0, 0.1, 2.5
#: First h as a share of the step, in the same units; it serves steps of 0.04 to 1 radii in fp32.
FIRST = 34.0
#: Differences at most; a step of a million radii is out of reach at first.
TRIES = 6


class Proposal(Generic[E]):
    """A step that the optimiser has made and that can be taken back; see :mod:`harness.stages.proposal`."""

    @torch.no_grad()
    def __init__(
        self, parameters: Sequence[Tensor], step: Callable[[], Any], end: Callable[[], E],
        spread: Callable[[E, E, float], float],
    ) -> None:  # fmt: skip
        """Make the step.

        Args:
            parameters: what it changes, in place.
            end: what is differenced, at the weights that are there.
            spread: the largest spread of its derivative, from its values behind, ahead, and their distance.
        """
        self._parameters, self._end, self._spread = parameters, end, spread
        self._before = [p.detach().clone() for p in parameters]
        step()
        self._after = [p.detach().clone() for p in parameters]
        self.length = _length(a - b for a, b in zip(self._after, self._before, strict=True))
        self._known: float | None = None

    def spread(self) -> float:
        """See :class:`harness.stages.proposal.ProposedStep`; the weights are between steps afterwards."""
        if self._known is None:
            self._known = self._measured() if self.length > 0 else 0.0
        return self._known

    @torch.no_grad()
    def _measured(self) -> float:
        unit = torch.finfo(self._before[0].dtype).eps ** (1 / 3)
        wanted, h, found = MOVED * unit, FIRST * unit * self.length, 0.0
        for _ in range(TRIES):
            ends = []
            for way in (-h, h):
                self._move(way / self.length)
                ends.append(self._end())
            found = self._spread(ends[0], ends[1], 2 * h)
            if LEAST * wanted <= h * found <= MOST * wanted or found == 0.0:
                break
            h = wanted / found if math.isfinite(found) else h / 100
        return found

    @torch.no_grad()
    def _move(self, share: float) -> None:
        for p, before, after in zip(self._parameters, self._before, self._after, strict=True):
            p.copy_(torch.lerp(before, after, share))

    @torch.no_grad()
    def take(self, scale: float) -> None:
        """Go that share of the step; 1 gives the optimiser's own weights, to the bit."""
        if scale != 1.0:
            self._move(scale)
            return
        for p, after in zip(self._parameters, self._after, strict=True):
            p.copy_(after)


def _length(values: Any) -> float:
    norms = [float(whole(torch.linalg.vector_norm(v, dtype=torch.float64))) for v in values]
    return math.hypot(*norms)


def largest_spread(derivative_XK: Tensor) -> float:
    """The largest difference of two of a row's numbers; 0 without rows."""
    if not len(derivative_XK):
        return 0.0
    least, most = derivative_XK.aminmax(dim=-1)
    return float((most - least).max())


# --- of a policy ------------------------------------------------------------------------------------------

#: A head's weight and bias.
Head = tuple[Tensor, Tensor | None]
#: Hidden states at response tokens, of each part of a minibatch, and the head.
Ends = tuple[list[Tensor], Tensor, Tensor | None]


def propose(
    policy: Policy, parameters: Sequence[Tensor], step: Callable[[], Any], batch: Batch, micro_rows: int,
    micro_tokens: int | None = None,
) -> Proposal[Ends]:  # fmt: skip
    """The optimiser's ``step`` on a minibatch; every process takes part.

    Args:
        micro_rows, micro_tokens: of a forward pass.
    """
    network, here = policy.network, world()
    lengths, shared = row_lengths(batch)
    parts = micro_batches(lengths, micro_rows, here.size, tokens=micro_tokens, shared=shared)[here.rank]

    def end() -> Ends:
        passed = policy.passed_tokens  # what is measured is no part of the update
        with precise(network):
            # an empty part is a pass too: the processes gather weights together
            hidden = [policy.hidden(batch.rows(part or [0])) for part in parts]
            network.freed()
            head, bias = network.head.weight, getattr(network.head, "bias", None)
            kept = whole(head.detach()).clone(), None if bias is None else whole(bias.detach()).clone()
        policy.passed_tokens = passed
        return [h for h, part in zip(hidden, parts, strict=True) if part], *kept

    def spread(behind: Ends, ahead: Ends, distance: float) -> float:
        head = HeadEnds.between(behind[1:], ahead[1:], distance, network.curve, network.chunk_mib)
        own = [head.spread(*pair) for pair in zip(behind[0], ahead[0], strict=True)]
        return max(here.all_gather(max(own, default=0.0))) / policy.temperature

    return Proposal(parameters, step, end, spread)


@dataclass(frozen=True)
class HeadEnds:
    """A head between two ends: ``both_V2D`` is its weight's mean and derivative, side by side."""

    both_V2D: Tensor
    mean_b: Tensor | None
    slope_b: Tensor | None
    distance: float
    curve: HeadCurve
    rows: int

    @classmethod
    def between(
        cls, behind: Head, ahead: Head, distance: float, curve: HeadCurve, chunk_mib: int
    ) -> HeadEnds:
        """From ``[V,D]`` weights and ``[V]`` biases; ``chunk_mib`` is for the logits of some positions."""
        (weight, b), (weight_ahead, b_ahead) = behind, ahead
        both = torch.cat(_mean_and_slope(weight, weight_ahead, distance), 1)
        mean_b, slope_b = (
            (None, None) if b is None or b_ahead is None else _mean_and_slope(b, b_ahead, distance)
        )
        return cls(both, mean_b, slope_b, distance, curve, chunk_rows(len(weight), chunk_mib << 20))

    def spread(self, hidden: Tensor, hidden_ahead: Tensor) -> float:
        """:func:`largest_spread` of the logits' derivative, from ``[N,D]`` hidden states behind and ahead."""
        largest = 0.0
        for behind, ahead in zip(hidden.split(self.rows), hidden_ahead.split(self.rows), strict=True):
            mean_h, slope_h = _mean_and_slope(behind, ahead, self.distance)
            a_NV = linear(torch.cat([slope_h, mean_h], 1), self.both_V2D, self.slope_b)
            if not self.curve.plain:
                logits_NV = self.curve(linear(mean_h, self.both_V2D[:, : mean_h.shape[1]], self.mean_b))
                a_NV *= self.curve.slope(logits_NV)
            largest = max(largest, largest_spread(a_NV))
        return largest


def _mean_and_slope(behind: Tensor, ahead: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    return (behind + ahead) / 2, (ahead - behind) / distance


@contextmanager
def precise(network: Network) -> Iterator[None]:
    """While open, passes compute with the weights that are trained, where they else cast them."""
    if network.masters is None:
        yield
        return
    with network.masters.in_place():
        yield


def check_precise(network: Network, processes: int) -> None:
    """Refuse passes too coarse to be subtracted.

    Raises:
        UserError: names the remedy.
    """
    held = next(network.parameters()).dtype
    what = "a proposed step is measured by differences of logits"
    if held not in (torch.float32, torch.float64):
        raise UserError(f"{what}, which {held} is too coarse for; use model.dtype=float32")
    if network.compute not in (None, torch.float32, torch.float64) and processes > 1:
        raise UserError(
            f"{what}, which {processes} processes would take in {network.compute}; use "
            "model.compute_dtype=same, or one process"
        )
