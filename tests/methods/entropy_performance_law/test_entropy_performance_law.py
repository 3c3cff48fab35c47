"""The law by hand, and cases in which the first points tell nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.statistics.law import early_points, fit_law
from tests.methods.test_adapters import changed, replayed, stored


def test_the_sheet_s_pair() -> None:
    fit = fit_law([0.0, math.log(2)], [0.50, 0.38], least=2)
    assert fit is not None and (fit.a, fit.b, fit.ceiling) == pytest.approx((0.12, 0.62, 0.50))
    assert [early_points(n) for n in (10, 30, 50, 40)] == [2, 4, 8, 6]  # halves go to the even


@pytest.mark.parametrize("fraction", [0.01, 0.02])
def test_the_whole_fit_stands_where_the_first_points_are_too_few(fraction: float) -> None:
    case = stored("entropy_performance_law", 2)
    made = replayed(changed(case, {"early_fraction": fraction}))
    assert made["out_n_early"] == round(fraction * 60) < 2 and np.isnan(made["out_pred_final"])
    assert made["out_a"] == pytest.approx(float(case["out_a"])) and np.isnan(made["out_a_early"])


def test_first_points_of_one_entropy_predict_nothing() -> None:
    case = stored("entropy_performance_law", 2)
    made = replayed(changed(case, {}, entropy=np.r_[np.ones(9), case["entropy"][9:]]))
    assert np.isnan(made["out_b_early"]) and np.isfinite(made["out_fit"]).all()
    two = replayed(
        changed(case, {"early_fraction": 1.0}, entropy=[0.0, math.log(2)], performance=[0.5, 0.38])
    )
    assert two["out_a"] == two["out_a_early"] == pytest.approx(0.12)
