"""Two-point divergences and the bands of ratios that they allow."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.stages.trust_region import BANDS, binary_kl, fall_within_kl, probability_change, ratio_band


def logs(*p: float) -> Tensor:
    return torch.tensor(p, dtype=torch.float64).log()


def test_divergences_of_two_tokens() -> None:
    """The numbers of DPPO's sheet: a rare token that grew, a frequent one that fell."""
    now, then = logs(1e-2, 0.80), logs(1e-4, 0.99)
    assert probability_change(now, then).tolist() == pytest.approx([0.0099, -0.19])
    assert binary_kl(now, then).tolist() == pytest.approx([0.009489, 0.181005], abs=1e-6)
    assert binary_kl(now, now).tolist() == pytest.approx([0.0, 0.0], abs=1e-15)


def test_a_log_prob_that_rounding_lifts_above_0_is_a_certain_token() -> None:
    lifted = torch.tensor([1e-7])
    assert binary_kl(lifted, torch.zeros(1)).isfinite().all() and binary_kl(torch.zeros(1), lifted).isfinite()


@pytest.mark.parametrize(
    ("kind", "p", "low", "high"),
    [
        ("tv", 0.08, 0.375, 1.625),
        ("chi2", 0.08, 0.241712, 1.758288),
        ("kl", 0.08, 0.261696, 2.410554),
        ("tv", 0.9, 0.944444, 1.055556),
        ("chi2", 0.9, 0.925464, 1.074536),
        ("kl", 0.9, 0.866579, 1.076357),
    ],
)
def test_bands_of_the_sheet(kind: str, p: float, low: float, high: float) -> None:
    band = ratio_band(kind, logs(p), 0.05)
    assert [float(bound) for bound in band] == pytest.approx([low, high], abs=1e-6)


PROBABILITIES = (2e-6, 1e-3, 0.08, 0.3, 0.5, 0.9, 0.999, 1 - 2e-6)


def divergence(kind: str, p: float, r: float) -> float:
    """D of (p, 1 - p) from (r p, 1 - r p), in plain arithmetic."""
    rest = (1 - r * p) / (1 - p)
    if kind == "kl":
        return -p * math.log(r) - (1 - p) * math.log(rest)
    if kind == "tv":
        return (p * abs(r - 1) + (1 - p) * abs(rest - 1)) / 2
    return p * (r - 1) ** 2 + (1 - p) * (rest - 1) ** 2


@pytest.mark.parametrize("kind", BANDS)
@pytest.mark.parametrize("radius", [1e-4, 0.05, 0.7])
def test_a_band_ends_where_the_divergence_is_the_radius_or_a_probability_is_0_or_1(
    kind: str, radius: float
) -> None:
    logp = logs(*PROBABILITIES)
    low, high = ratio_band(kind, logp, radius)
    for p, lo, hi in zip(PROBABILITIES, low.tolist(), high.tolist(), strict=True):
        assert 0 <= lo <= 1 <= hi <= 1 / p * (1 + 1e-12)
        for bound, end in ((lo, 0.0), (hi, 1 / p)):
            if not math.isclose(bound, end, rel_tol=1e-9, abs_tol=1e-12):
                assert divergence(kind, p, bound) == pytest.approx(radius, rel=1e-6)


def test_a_token_s_band_depends_on_no_other_token() -> None:
    logp = -torch.rand(7, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 9 - 1e-5
    whole = torch.stack(ratio_band("kl", logp, 0.03))
    rows = torch.stack([torch.stack(ratio_band("kl", row, 0.03)) for row in logp], 1)
    torch.testing.assert_close(whole, rows, rtol=1e-14, atol=0.0)


def test_the_root_is_exact_for_tiny_and_huge_radii() -> None:
    p = torch.tensor([1e-6, 0.2, 0.5, 1 - 1e-6], dtype=torch.float64)
    for radius in (1e-10, 1e-3, 40.0):
        x = fall_within_kl(p, 1 - p, radius)
        found = p * x - (1 - p) * torch.log1p(p / (1 - p) * -torch.expm1(-x))
        torch.testing.assert_close(found, torch.full_like(p, radius), rtol=1e-5, atol=1e-15)


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of kl, tv, chi2"):
        ratio_band("hellinger", logs(0.5), 0.1)
