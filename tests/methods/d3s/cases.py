"""Where the shared tests try D3S (reconstruction)."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "d3s": [{"scope": "group", "tokens_start": 0.6, "aggregation": "seq-mean-token-mean"}],
    },
    readings=[
        ("d3s", {}, {}),
        ("d3s", {"scope": "group", "rows_end": 0.75, "tokens_start": 0.6}, {}),
    ],
    refused=[
        ("d3s", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
    ],
    formulas=[
        "methods.d3s:widest",
        "methods.d3s:widest_in_groups",
        "methods.d3s:token_scores",
        "methods.d3s:best_tokens",
        "methods.d3s:scheduled",
        "harness.stages.defaults:group_normalised",
    ],
    inert={("scope",): "a description; both scopes are stored"},
)
