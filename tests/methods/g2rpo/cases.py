"""Where the shared tests try G2RPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("g2rpo", {}, {}),
        ("g2rpo", {"entropy_low": 8.0, "entropy_high": 9.0, "entropy_coef": 0.5, "eps_high": 0.1}, {}),
    ],
    refused=[
        ("g2rpo", {"entropy_low": 0.7}, {}, "upside down"),
        ("g2rpo", {"accuracy_low": 0.99}, {}, "no group lies between"),
    ],
    formulas=[
        "methods.g2rpo:normal_quantiles",
        "methods.g2rpo:to_normal",
        "methods.g2rpo:gaussian_advantage",
        "methods.g2rpo:side_of",
    ],
)
