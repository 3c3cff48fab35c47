"""Where the shared tests try GMPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "gmpo": [{"eps_low": 0.05, "eps_high": 0.1}],
    },
    readings=[
        ("gmpo", {}, {}),
        ("gmpo", {"eps_low": 0.02, "eps_high": 0.03}, {}),
    ],
    refused=[
        ("gmpo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
    ],
    formulas=[
        "methods.gmpo:clipped_log_ratio",
        "methods.gmpo:mean_log_ratio",
    ],
)
