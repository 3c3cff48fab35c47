"""Where the shared tests try A-GRAE."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "a-grae": [{"alpha": 0.5, "scale": "none", "aggregation": "seq-mean-token-sum-norm"}],
    },
    readings=[
        ("a-grae", {}, {}),
        ("a-grae", {"alpha": 0.5, "scale": "none", "eps_high": 0.28}, {}),
    ],
    refused=[
        ("a-grae", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
    ],
    formulas=[
        "methods.a_grae:refocused",
        "methods.a_grae:attenuated",
        "methods.a_grae:group_means",
        "methods.a_grae:group_normalised",
    ],
)
