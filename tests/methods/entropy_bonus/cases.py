"""Where the shared tests try Entropy bonus and KL penalties."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "entropy-bonus": [
            {"entropy_adaptive": True},
            {"kl_in_reward_coef": 0.05, "kl_adaptive": True},
            {"kl_coef": 0.04, "kl_estimator": "k3+", "aggregation": "seq-mean-token-mean"},
        ],
    },
    readings=[
        ("entropy-bonus", {"entropy_coef": 0.01}, {}),
        ("entropy-bonus", {"entropy_coef": 0.0, "kl_coef": 0.04}, {}),
        ("entropy-bonus", {"kl_in_reward_coef": 0.05}, {}),
        (
            "entropy-bonus",
            {"entropy_adaptive": True},
            {"adaptive_entropy": {"coef": 0.1, "last_entropy": 0.1}},
        ),
        (
            "entropy-bonus",
            {"entropy_adaptive": True},
            {"adaptive_entropy": {"coef": 0.1, "last_entropy": 0.9}},
        ),
    ],
    refused=[
        ("entropy-bonus", {"entropy_min": 0.5, "entropy_max": 0.1}, {}, "entropy_min"),
        ("entropy-bonus", {"kl_adaptive": True}, {}, "kl_in_reward_coef"),
    ],
    formulas=[
        "harness.stages.regularise:kl_estimate",
        "harness.stages.credit:less_kl",
        "harness.stages.credit:mean_kl",
        "methods.entropy_bonus:adapted_beta",
        "methods.entropy_bonus:AdaptiveEntropy.applied",
        "harness.stages.regularise:EntropyBonus.coefficient",
    ],
)
