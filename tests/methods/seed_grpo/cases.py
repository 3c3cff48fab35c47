"""Where the shared tests try SEED-GRPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "seed-grpo": [
            {"form": "linear", "alpha": 0.5, "answers": "written"},
            {"form": "exponential", "alpha": 1.0, "estimator": "share"},
            {"length_normalised": False, "alpha": 1.0},
        ],
    },
    readings=[
        ("seed-grpo", {}, {}),
        ("seed-grpo", {"alpha": 1.0, "length_normalised": False}, {}),
        ("seed-grpo", {"alpha": 0.7, "form": "linear", "estimator": "share"}, {}),
        ("seed-grpo", {"alpha": 1.0, "form": "exponential"}, {}),
    ],
    refused=[("seed-grpo", {}, {"rollout.group_size": 1}, "group_size >= 2")],
    formulas=[
        "methods.seed_grpo:log_likelihood",
        "methods.seed_grpo:semantic_entropy",
        "methods.seed_grpo:factor",
        "harness.stages.answers:clustered",
    ],
    inert={
        ("f",): "it describes two outputs, each of which has its own form",
        ("se_max",): "it describes the divisor, which is ln G in every case",
    },
)
