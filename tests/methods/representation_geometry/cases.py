"""Which formulas of the representation geometry its stored cases must notice."""

from tests.methods.support.cases import Cases

CASES = Cases(
    formulas=[
        "harness.statistics.spectrum:variance_shares",
        "harness.statistics.spectrum:rankme",
        "harness.statistics.spectrum:rankme_singular",
        "harness.statistics.spectrum:PowerLaw.at",
    ],
)
