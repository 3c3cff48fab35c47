"""Where the shared tests try RiskPO."""

from tests.methods.support.cases import Cases

TRACKED = {"riskpo": {"quantiles": [0.25 * j for j in range(19)]}}

CASES = Cases(
    options={
        "riskpo": [
            {
                "bundle_size": 2,
                "carry_tracker": True,
                "thresholds": "mix",
                "mean_baseline": True,
                "credit": "std",
            },
        ],
    },
    readings=[
        ("riskpo", {}, {}),
        (
            "riskpo",
            {
                "bundle_size": 3,
                "carry_tracker": True,
                "thresholds": "mix",
                "mean_baseline": True,
                "credit": "std",
                "natural_baseline": True,
                "quantile_up": 0.9,
            },
            TRACKED,
        ),
        (
            "riskpo",
            {
                "bundle_size": 2,
                "carry_tracker": True,
                "credit": "score",
                "measure": "upper",
                "norm_by_std": False,
            },
            TRACKED,
        ),
    ],
    refused=[
        ("riskpo", {"quantile_down": 0.8}, {}, "quantile_down must be below"),
        ("riskpo", {"mean_baseline": True}, {}, "set method.carry_tracker=true"),
        ("riskpo", {"carry_tracker": True, "thresholds": "batch"}, {}, "use track or mix"),
        ("riskpo", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
    ],
    formulas=[
        "methods.riskpo:own_thresholds",
        "methods.riskpo:thresholds",
        "methods.riskpo:middle_range",
        "methods.riskpo:Risk.advantages",
        "methods.riskpo:credited",
        "methods.riskpo:paper_scores",
        "methods.riskpo:moved_quantiles",
        "methods.riskpo:first_quantiles",
        "harness.stages.bundles:bundle_numbers",
    ],
)
