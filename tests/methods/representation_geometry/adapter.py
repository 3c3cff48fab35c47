"""Representation geometry: the shares of variance, RankMe in three forms, and the power law."""

from __future__ import annotations

import numpy as np

from harness.registry.golden import GoldenCase
from harness.statistics.spectrum import power_law, rankme, rankme_singular, variance_shares


def outputs(case: GoldenCase) -> dict[str, np.ndarray]:
    hp, features = case.hp, case["features"]
    share = variance_shares(features, int(hp["max_eigenvals"]))
    last = int(hp["fit_last_rank"])
    law = power_law(share, int(hp["fit_first_rank"]), last)
    out = {
        "out_eigenspectrum": share[:last],
        "out_rankme": rankme(share, hp["rankme_eps"]),
        "out_alpha": law.alpha,
        "out_ypred": law.at(np.arange(1, last + 1)),
        "out_r2": law.r2,
        "out_r2_100": law.r2_100,
        "out_rankme_singular": rankme_singular(features, hp["rankme_singular_eps"]),
        "out_effective_rank": rankme(share, 0.0),
    }
    return {name: np.asarray(value) for name, value in out.items()}
