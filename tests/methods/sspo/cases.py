"""Where the shared tests try SSPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "sspo": [{"eps_low": 0.02, "eps_high": 0.03, "scale_lo": 0.8, "scale_hi": 1.1, "delimiters": "ae"}],
    },
    readings=[
        ("sspo", {}, {}),
        ("sspo", {"delimiters": "eao", "eps_low": 0.4, "eps_high": 0.6}, {}),
        ("sspo", {"eps_low": 0.01, "eps_high": 0.02, "aggregation": "token-mean"}, {}),
    ],
    refused=[
        ("sspo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("sspo", {"scale_lo": 3.0}, {}, "lower it"),
    ],
    formulas=[
        "harness.stages.ratios:segment_means",
        "methods.sspo:scaled",
        "harness.stages.defaults:group_normalised",
    ],
)
