"""Where the shared tests try IGPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "igpo@released": [{"kl_coef": 0.0, "entropy_coef": 0.0, "segments": 1}],
        "igpo@paper": [{"norm": "separate", "gain": "log_prob_diff", "cut": "paragraph", "gamma": 0.9}],
    },
    readings=[
        ("igpo@released", {}, {}),
        ("igpo@released", {"segments": 2, "kl_coef": 0.5, "entropy_coef": 0.1, "unparsed": -0.5}, {}),
        ("igpo@paper", {}, {}),
        ("igpo@paper", {"gamma": 0.8, "norm": "separate", "kl_coef": 0.0, "entropy_coef": 0.0}, {}),
        ("igpo@paper", {"gain": "log_prob_diff", "segments": 3, "aggregation": "seq-mean-token-mean"}, {}),
    ],
    refused=[
        ("igpo@released", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
        ("igpo@paper", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
    ],
    formulas=[
        "methods.igpo:answer_prob",
        "methods.igpo:position_advantages",
        "methods.igpo:discounted",
        "methods.igpo:returns_to_go",
    ],
)
