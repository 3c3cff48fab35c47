"""Where the shared tests try BNPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "bnpo": [{"r_min": -1.0, "divisor": 1.0, "aggregation": "token-mean"}],
    },
    readings=[
        ("bnpo", {}, {}),
        ("bnpo", {"r_min": -1.0, "divisor": 1.0, "weight_cap": 0.5}, {}),
    ],
    refused=[
        ("bnpo", {"r_min": 1.0}, {}, "r_min must be below"),
        ("bnpo", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
    ],
    formulas=[
        "methods.bnpo:beta_parameters",
        "methods.bnpo:density_weight",
        "methods.bnpo:group_means",
        "harness.stages.loss:clipped_surrogate",
    ],
)
