"""R = -a exp(H) + b over the frontier points of a run (arXiv 2505.22617): fit, ceiling, and prediction.

The formula is :mod:`harness.statistics.law`; leaderboards print the same fit for every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analyses.base import Analysis, Finding
from harness.analyses.subject import run_of
from harness.config.fields import hp
from harness.registry.analyses import analysis
from harness.statistics.law import MIN_POINTS, early_points, fit_law
from harness.util.errors import UserError


@analysis("entropy-performance-law")
@dataclass(frozen=True)
class EntropyPerformanceLaw(Analysis):
    """Fits every point, and the first ones alone, which then predict the others."""

    early_fraction: float = hp(
        0.15, "share of the points, in training order, that predict the rest", gt=0, le=1
    )

    def of(self, word: str) -> Finding:
        run = run_of(word)
        points = [(step, at.get("entropy"), at.get("pass@1")) for step, at in sorted(run.beside().items())]
        known = [(step, h, r) for step, h, r in points if h is not None and r is not None]
        fit = fit_law([h for _, h, _ in known], [r for *_, r in known])
        if fit is None:
            raise UserError(
                f"{run.label} has {len(known)} frontier points with a training entropy, and the law needs "
                f"{MIN_POINTS} of unequal entropy; train longer, or lower eval.frontier_every"
            )
        entropy, score = (np.array([point[i] for point in known], dtype=np.float64) for i in (1, 2))
        n = early_points(len(known), self.early_fraction)
        early = fit_law(entropy[:n], score[:n])
        predicted = None if early is None or n == len(known) else early.at(entropy[n:])
        missed = None if predicted is None else predicted - score[n:]
        at = [None] * len(known) if early is None else early.at(entropy).tolist()
        rows = [
            (step, h, r, fitted, own)
            for (step, h, r), fitted, own in zip(known, fit.at(entropy).tolist(), at, strict=True)
        ]
        notes = [
            f"R = -a exp(H) + b over {len(known)} points: a {fit.a:.4f}, b {fit.b:.4f}, ceiling (H = 0) "
            f"{fit.ceiling:.4f}, rmse {fit.rmse:.4f}, R² {fit.r2:.3f}"
        ]
        if missed is None:
            notes.append(
                f"no prediction: the first {self.early_fraction:g} of the points are {n}, and {MIN_POINTS} "
                "are needed"
            )
        else:
            notes.append(
                f"the first {n} points predict the other {len(missed)} to {_rms(missed):.4f} (rmse), the "
                f"last to {float(missed[-1]):+.4f}"
            )
        notes.append(
            "It is a law of training in which nothing holds the entropy up; elsewhere it only describes."
        )
        return Finding(
            run.label, run.folder, ("step", "H (nats)", "pass@1", "fit", "early fit"), rows, notes,
            {
                "settings": {"early_fraction": self.early_fraction}, "points": len(known),
                "a": fit.a, "b": fit.b, "ceiling": fit.ceiling, "rmse": fit.rmse, "r2": fit.r2,
                "step": [s for s, _, _ in known], "entropy": entropy.tolist(), "score": score.tolist(),
                "residual": fit.residual_N.tolist(), "early_points": n,
                "early": None if early is None else {"a": early.a, "b": early.b},
                "predicted_rmse": None if missed is None else _rms(missed),
                "predicted_last": None if missed is None else float(missed[-1]),
            },
        )  # fmt: skip


def _rms(value_N: Any) -> float:
    return float(np.sqrt((value_N**2).mean()))
