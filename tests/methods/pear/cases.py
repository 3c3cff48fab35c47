"""Where the shared tests try PEAR. Its mark is a letter that no special token has in its name."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "pear": [{"mark": "c", "alpha": 0.5, "kl_coef": 0.1}],
    },
    readings=[
        ("pear", {"mark": "c"}, {}),
        ("pear", {"mark": "c", "alpha": -0.5, "score": 1.5, "wrong": 0.1, "kl_coef": 0.3}, {}),
    ],
    micro={"pear": {"mark": ","}},
    refused=[
        ("pear", {"mark": ""}, {}, "method.mark is empty"),
        ("pear", {}, {"rollout.group_size": 1}, "group_size >= 2"),
    ],
    formulas=[
        "methods.pear:phase_means",
        "methods.pear:penalty",
        "methods.pear:phase_reward",
        "harness.stages.defaults:group_normalised",
    ],
)
