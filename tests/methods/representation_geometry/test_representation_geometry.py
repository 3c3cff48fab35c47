"""The spectrum on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analyses.representation_geometry import fit_ranks
from harness.statistics.spectrum import power_law, rankme, rankme_singular, variance_shares
from harness.util.errors import UserError


def test_the_sheet_s_shares() -> None:
    assert rankme([0.6, 0.3, 0.1], eps=0.0) == pytest.approx(2.454556, abs=1e-6)
    assert rankme([5.0] * 7, eps=0.0) == pytest.approx(7.0)


def test_an_exact_power_law_is_found_in_any_range() -> None:
    share = np.arange(1, 121.0) ** -1.5
    for ranks in ((12, 100), (2, 9), (1, 120)):
        law = power_law(share / share.sum(), *ranks)
        assert (law.alpha, law.r2, law.r2_100) == pytest.approx((1.5, 1.0, 1.0))
    flat = power_law(np.full(40, 1 / 40), 3, 30)
    assert flat.alpha == pytest.approx(0.0) and math.isnan(flat.r2)


def test_shares_are_of_all_the_variance_and_centred() -> None:
    """Four points of a rectangle: the axes have variances 4 and 1, and where it lies does not count."""
    corners = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]]) + np.array([50.0, 7.0])
    assert variance_shares(corners).tolist() == pytest.approx([0.8, 0.2])
    assert variance_shares(corners, 1).tolist() == pytest.approx([0.8])
    # the matrix as it is has one long direction
    assert rankme_singular(corners, eps=0.0) < 1.3 < rankme(variance_shares(corners), eps=0.0)


def test_as_many_texts_as_features_leave_a_rank_of_rounding() -> None:
    features = np.random.default_rng(0).standard_normal((6, 6))
    assert variance_shares(features)[-1] < 1e-30
    with pytest.raises(ValueError, match="equal"):
        variance_shares(np.ones((5, 3)))
    with pytest.raises(ValueError, match="two texts"):
        variance_shares(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="variance"):
        power_law([0.7, 0.3, 0.0], 1, 3)


def test_a_rank_of_rounding_is_left_out_of_both_r2() -> None:
    share = variance_shares(np.random.default_rng(0).standard_normal((40, 90)))
    with_it, without = power_law(share, 3, 30), power_law(share[:-1], 3, 30)
    assert share[-1] < 1e-28 and with_it.r2_100 == without.r2_100 > 0.5
    twice = power_law(
        variance_shares(np.repeat(np.random.default_rng(0).standard_normal((20, 40)), 3, 0)), 3, 15
    )
    assert twice.r2 == twice.r2_100 > 0.5  # 19 ranks of 40, so both end there


def test_the_range_of_ranks_follows_the_directions() -> None:
    assert fit_ranks("auto", 128) == (12, 100) == fit_ranks("auto", 110)
    assert fit_ranks("auto", 55) == (6, 50) and fit_ranks("3:7", 9) == (3, 7)
    for fit, directions in (("auto", 4), ("5:5", 20), ("5:21", 20), ("5-9", 20)):
        with pytest.raises(UserError, match=r"texts|fit=auto"):
            fit_ranks(fit, directions)
