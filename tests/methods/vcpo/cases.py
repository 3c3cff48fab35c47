"""Where the shared tests try VCPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "vcpo@released": [{"threshold": 1.1, "average": "median"}, {"average": "winsorized_mean"}],
        "vcpo@paper": [{"truncate_ess": True, "rule": "linear", "base_ess_ratio": 0.9}],
    },
    readings=[
        ("vcpo@released", {}, {}),
        ("vcpo@released", {"by_length": True, "use_truncated": True, "threshold": 1.05}, {}),
        ("vcpo@paper", {"norm_by_std": False}, {}),
    ],
    refused=[
        ("vcpo@paper", {}, {"train.minibatches": 9, "rollout.prompts_per_step": 8}, "lower it"),
        ("vcpo@released", {}, {"rollout.lag": 2, "rollout.ratio_to": "update"}, "ratio_to=sampling"),
        ("vcpo@released", {}, {"rollout.group_size": 1}, "group_size >= 2"),
    ],
    formulas=[
        "methods.vcpo:log_weights",
        "methods.vcpo:truncated",
        "methods.vcpo:distances",
        "methods.vcpo:effective_sample_size",
        "methods.vcpo:rate_multiplier",
        "methods.vcpo:weighted_average",
        "methods.vcpo:standardised",
    ],
    inert={
        ("use_clipped_for_ess",): "where a stored weight is truncated the share exceeds base_ess_ratio",
    },
)
