"""Where the shared tests try DRPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "drpo": [{"kl_type": "low_var_kl", "tau": 0.5, "lambda_": 1.0}],
    },
    readings=[
        ("drpo", {}, {}),
        ("drpo", {"kl_type": "low_var_kl", "tau": 0.5, "lambda_": 1.0, "beta": 1e6, "delta": 0.0}, {}),
    ],
    refused=[
        ("drpo", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
        ("drpo", {}, {"train.scope": "micro"}, "whole groups.*train.scope=minibatch"),
        (
            "drpo",
            {},
            {"train.minibatches": 8, "rollout.prompts_per_step": 4},
            "as many prompts.*raise rollout.prompts_per_step",
        ),
    ],
    formulas=[
        "methods.drpo:log_length_weight",
        "methods.drpo:shares",
        "methods.drpo:soft_max_parts",
        "methods.drpo:row_means",
        "methods.drpo:kl_estimate",
    ],
)
