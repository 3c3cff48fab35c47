"""Where the shared tests try DAPO."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "dapo": [{"dynamic_sampling": False}],
    },
    readings=[
        ("dapo", {}, {}),
        ("dapo", {"overlong_fraction": 0.5, "overlong_factor": 2.0, "dual_clip": 1.2}, {}),
    ],
    refused=[
        ("dapo", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
        ("dapo", {}, {"rollout.group_size": 1}, "group_size >= 2"),
    ],
    formulas=[
        "methods.dapo:overlong_penalty",
        "methods.dapo:mixed_groups",
        "harness.stages.defaults:group_normalised",
    ],
)
