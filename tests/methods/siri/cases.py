"""Where the shared tests try SIRI."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"siri": [{"schedule": "stair-cosine", "min_share": 0.25}]},
    readings=[
        ("siri", {}, {}),
        ("siri", {"schedule": "stair", "cycles": 1.0, "aggregation": "token-mean", "dual_clip": 1.2}, {}),
    ],
    refused=[
        ("siri", {"min_share": 0.9}, {"rollout.max_response_tokens": 4}, "min_share=0.9 of 4 tokens is all"),
    ],
    formulas=["methods.siri:limit_at"],
)
