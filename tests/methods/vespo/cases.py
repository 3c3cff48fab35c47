"""Where the shared tests try VESPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "vespo": [{"sampler_cap": 2.0, "scale": "none", "aggregation": "seq-mean-token-mean"}],
    },
    readings=[
        ("vespo", {}, {}),
        ("vespo", {"k_pos": 9.0, "lambda_pos": 1.0, "k_neg": 1.0, "lambda_neg": 9.0, "sampler_cap": 1.5}, {}),
    ],
    refused=[
        ("vespo", {}, {"train.minibatches": 1, "train.epochs": 1}, "raise train.minibatches"),
        ("vespo", {"scale": "none"}, {"rollout.group_size": 1}, "leaves nothing to compare; use at least 2"),
    ],
    formulas=[
        "methods.vespo:log_response_weight",
        "methods.vespo:bump",
    ],
)
