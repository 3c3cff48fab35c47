"""How far the policy that sampled is from the one whose log-probs a step divides by, and its correction.

    d = old logp - rollout logp         of every response token, in nats
    weight = min(exp(d), cap)           truncated importance weight, a constant of the step
    KL = mean(exp(d) - 1 - d)           k3 estimate of KL(sampling || old), never negative

Token weights of this kind are called TIS (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You
Off-Policy RL Training"); with ``rollout.ratio_to=update`` weight and clipped ratio together are the decoupled
objective (Hilton et al., arXiv 2110.00641).
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from harness.config.schema import RunConfig
from harness.distributed.world import world
from harness.rollout.settings import corrects, scores_when_sampled
from harness.stages.batch import Batch
from harness.train.metrics import quantiles

#: Above this many nats a token (KL) a run says that its rollouts are not the policy's. Our choice:
#: 10,000 times what the tests allow vLLM in float32; in half precision nothing was measured.
ALARM_KL_NATS = 0.01
_CLAMP = 20.0


def log_weights(batch: Batch) -> Tensor:
    """d, ``[B,T]``, clamped to +-20; 0 on padding."""
    d = (batch.old["logp"].float() - batch.rollout_logp_BT.float()).clamp(-_CLAMP, _CLAMP)
    return torch.where(batch.mask_BT, d, 0.0)


def truncated_weights(batch: Batch, cap: float) -> Tensor:
    """``min(exp(d), cap)``, ``[B,T]``; 1 on padding."""
    return log_weights(batch).exp().clamp(max=cap)


def mismatch_metrics(batch: Batch, cap: float | None) -> dict[str, float]:
    """Quantiles of exp(d), the KL estimate, the alarm, and the share of tokens whose weight the cap cuts.

    Args:
        cap: of the correction; None where there is none.
    """
    d = log_weights(batch)[batch.mask_BT]
    ratio = d.exp()
    low, median, high = quantiles(ratio, (0.01, 0.5, 0.99))
    kl = float((d.double().expm1() - d.double()).mean())
    metrics = {
        "mismatch_p01": low,
        "mismatch_p50": median,
        "mismatch_p99": high,
        "mismatch_kl": kl,
        "mismatch_alarm": float(kl > ALARM_KL_NATS),
    }
    if cap is not None:
        metrics["correction_capped"] = float((ratio > cap).float().mean())
    return metrics


class PolicyComparison:
    """Compares a run's rollouts with the policy that its ratios divide by; warns once if they are far off."""

    def __init__(self, run: RunConfig) -> None:
        self._run, self._alarmed = run, False

    def __call__(self, batch: Batch, step: int) -> tuple[Batch, dict[str, float]]:
        """The batch of ``step`` with its correction, where the run has one; and the metrics."""
        rollout = self._run.rollout
        cap = rollout.correction_cap if corrects(self._run) else None
        metrics = mismatch_metrics(batch, cap)
        if metrics["mismatch_alarm"] and not self._alarmed and world().is_main:
            self._alarmed = True
            kl, waits = metrics["mismatch_kl"], 0 if scores_when_sampled(self._run) else rollout.lag
            warnings.warn(alarm_text(kl, step, rollout.engine, waits), stacklevel=2)
        if cap is not None:
            batch = batch.with_(correction_BT=truncated_weights(batch, cap))
        return batch, metrics


def alarm_text(kl: float, step: int, engine: str, lag: int) -> str:
    """The one line that a run warns with."""
    cause = (
        f"with rollout.lag={lag} and rollout.ratio_to=update that is how far the policy moved meanwhile; "
        "lower the lag or train.lr"
        if lag
        else "check its dtype and version, and compare with rollout.engine=builtin"
    )
    return (
        f"step {step}: the rollouts of engine {engine} are {kl:.2g} nats a token (KL) from the policy that "
        f"ratios divide by, over {ALARM_KL_NATS:g}; {cause}"
    )
