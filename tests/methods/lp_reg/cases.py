"""Where the shared tests try Lp-Reg."""

from tests.methods.support.cases import Cases

CURRENT = {"proxy": "current", "kl": "full_forward"}

CASES = Cases(
    options={
        "lp-reg": [
            {"rho": 0.3, "rho_pos": 0.2, "eps_high": 0.2, "min_p": 0.1},
            CURRENT | {"rho": 0.5, "min_p": 0.2, "quantile_scope": "batch"},
        ],
    },
    active={
        "lp-reg": {"rho": 0.5},
    },
    readings=[
        ("lp-reg", {"rho": 0.4, "min_p": 0.1}, {}),
        (
            "lp-reg",
            {"rho": 0.5, "rho_pos": 0.3, "filter": "fixed", "soft": True, "eps_high": 0.02, "kl": "k1"},
            {},
        ),
        ("lp-reg", CURRENT | {"rho": 0.6, "min_p": 0.3, "quantile_scope": "batch", "beta": 2.0}, {}),
    ],
    refused=[
        ("lp-reg", {"kl": "full_forward"}, {}, "set method.proxy=current"),
    ],
    formulas=[
        "methods.lp_reg:least_likely",
        "methods.lp_reg:held_up",
        "harness.stages.token_stats:MinPLogProb.filtered",
        "methods.lp_reg:kl_estimate",
        "harness.stages.loss:clipped_surrogate",
    ],
)
