"""Where the shared tests try PSR, NSR and W-REINFORCE."""

from tests.methods.support.cases import Cases

CASES = Cases(
    readings=[
        ("nsr@psr", {}, {}),
        ("nsr@nsr", {}, {}),
        ("nsr@nsr", {"entropy_coef": 0.1, "eps_high": 0.1, "dual_clip": 1.2}, {}),
        ("nsr@w", {}, {}),
    ],
    formulas=["methods.nsr:signed_returns", "methods.nsr:OnlyVerdict.keeps"],
)
