"""Which formulas of the entropy-performance law its stored cases must notice."""

from tests.methods.support.cases import Cases

CASES = Cases(
    formulas=[
        "harness.statistics.law:early_points",
        "harness.statistics.law:LawFit.at",
    ],
)
