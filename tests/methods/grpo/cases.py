"""Where the shared tests try GRPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "grpo": [
            {"kl_coef": 0.04, "dual_clip": 3.0},
            {"scale": "batch"},
            {"aggregation": "seq-mean-token-sum-norm"},
        ],
    },
    readings=[
        ("grpo", {}, {}),
        ("grpo", {"dual_clip": 1.2, "eps_high": 0.28, "kl_coef": 0.04}, {}),
    ],
    refused=[
        ("grpo", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
    ],
    formulas=[
        "harness.stages.defaults:group_normalised",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.loss:log_ratio",
        "harness.stages.loss:clipped_tokens",
        "harness.stages.regularise:kl_estimate",
        "harness.stages.aggregate:token_coefficients",
    ],
)
