"""Where the shared tests try MaxRL."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("maxrl", {}, {}),
        ("maxrl", {"eps": 0.0, "eps_high": 0.1, "dual_clip": 1.2}, {}),
    ],
    formulas=["methods.maxrl:mean_normalised"],
)
