"""The law: the fit over all points, and that of the first ones with what it predicts."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.statistics.law import LawFit, early_points, fit_law

NAN = float("nan")
#: Too few points, or points of one entropy: nothing is fitted, and nothing predicted.
NONE = LawFit(NAN, NAN, np.array([]), NAN, NAN)


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    entropy, score = case["entropy"], case["performance"]
    n = early_points(len(entropy), case.hp["early_fraction"])
    fit = fit_law(entropy, score, least=2) or NONE
    early = fit_law(entropy[:n], score[:n], least=2) or NONE
    out = {
        "out_a": fit.a, "out_b": fit.b, "out_fit": fit.at(entropy), "out_rmse": fit.rmse, "out_r2": fit.r2,
        "out_ceiling": fit.ceiling, "out_a_early": early.a, "out_b_early": early.b, "out_n_early": n,
        "out_pred_final": early.at(entropy[-1]),
    }  # fmt: skip
    return {k: np.asarray(v) for k, v in out.items()}
