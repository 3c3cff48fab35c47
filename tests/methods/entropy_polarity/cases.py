"""Where the shared tests try Entropy polarity."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("entropy-polarity@inferred", {}, {"polarity": {"reference": 1.0, "average": 0.8}}),
        ("entropy-polarity@inferred", {"limit": 0.3}, {"polarity": {"reference": 1.0, "average": 3.0}}),
    ],
    formulas=[
        "methods.entropy_polarity:polarity_terms",
        "methods.entropy_polarity:polarity",
        "methods.entropy_polarity:PolarityFactor.compute",
    ],
)
