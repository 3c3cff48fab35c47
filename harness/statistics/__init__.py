"""Estimators and intervals of the leaderboard, as plain functions on arrays.

``estimators`` turns samples into scores (pass@k, maj@k, distinct answers), ``intervals``
says how certain a score is, ``compare`` how certain a difference between methods is. Nothing here
knows records, methods or benchmarks. Shapes: ``P`` problems, ``S`` seeds, ``M`` methods, ``K`` ks.
"""

from __future__ import annotations

from harness.statistics.compare import (
    PairedDifferences,
    SeedNoise,
    detectable_difference,
    difference_intervals,
    difference_to_fixed,
    differences_to_fixed,
    equal_spread_p,
    holm,
    paired_differences,
    seed_noise,
    shared_ranks,
    smallest_detectable_difference,
)
from harness.statistics.estimators import (
    MajorityEstimate,
    distinct_answers,
    each_mean_pass_at_ks,
    maj_at_k,
    mean_pass_at_ks,
    pass_at_k,
    printable_ks,
)
from harness.statistics.intervals import (
    Interval,
    bootstrap_interval,
    combine_variances,
    interval_of,
    problem_variance,
    problem_variances,
    score_interval,
)

__all__ = [
    "Interval",
    "MajorityEstimate",
    "PairedDifferences",
    "SeedNoise",
    "bootstrap_interval",
    "combine_variances",
    "detectable_difference",
    "difference_intervals",
    "difference_to_fixed",
    "differences_to_fixed",
    "distinct_answers",
    "each_mean_pass_at_ks",
    "equal_spread_p",
    "holm",
    "interval_of",
    "maj_at_k",
    "mean_pass_at_ks",
    "paired_differences",
    "pass_at_k",
    "printable_ks",
    "problem_variance",
    "problem_variances",
    "score_interval",
    "seed_noise",
    "shared_ranks",
    "smallest_detectable_difference",
]
