"""Where the shared tests try Fork tokens (80/20)."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "fork-tokens": [
            {"rule": "quantile", "divisor": "all"},
            {"rho": 0.5, "aggregation": "seq-mean-token-mean"},
        ],
    },
    readings=[
        ("fork-tokens", {"rho": 0.3}, {}),  # 0.2 cuts among equal entropies in the recorded step
        ("fork-tokens", {"rho": 0.5, "dual_clip": 1.2, "overlong_fraction": 0.5}, {}),
        ("fork-tokens", {"rho": 0.4, "rule": "quantile", "divisor": "all"}, {}),
    ],
    refused=[
        ("fork-tokens", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
    ],
    formulas=[
        "methods.fork_tokens:top_count",
        "methods.fork_tokens:above_quantile",
        "harness.stages.loss:clipped_surrogate",
        "harness.stages.loss:clipped_tokens",
    ],
)
