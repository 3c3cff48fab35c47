"""Where the shared tests try AEPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "aepo": [{"reinforce_share": 0.2}],
    },
    readings=[
        ("aepo", {"reinforce_share": 0.2}, {"aepo": {"h": 0.3}}),
        ("aepo", {"reinforce_share": 0.2}, {"aepo": {"h": 0.8}}),
    ],
    micro={"aepo": {"reinforce_share": 0.25, "extra_share": 0.5}},
    refused=[
        ("aepo", {"t_low": 1.0}, {}, "t_low"),
        ("aepo", {"t_high": 1.0}, {}, "t_high"),
        ("aepo", {}, {"rollout.temperature": 0.7}, "t_low"),
        ("aepo", {}, {"rollout.prompts_per_step": 3}, "extra_share"),
        ("aepo", {}, {"rollout.prompts_per_step": 4, "rollout.group_size": 2}, "reinforce_share"),
    ],
    formulas=[
        "methods.aepo:extra_temperature",
        "methods.aepo:kept_rows",
        "methods.aepo:controller_count",
        "harness.stages.defaults:group_normalised",
    ],
)
