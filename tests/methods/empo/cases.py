"""Where the shared tests try EMPO."""

from tests.methods.support.cases import Cases

WIDE = {"eps_low": 0.1, "eps_high": 0.1}

CASES = Cases(
    options={
        "empo": [
            {"reward": "voting", "answers": "written", **WIDE},
            {"reward": "trl", "least_share": 0.5, **WIDE},
            {"filter_below": 0.3, **WIDE},
        ],
    },
    readings=[
        ("empo", {"least_share": 0.5, **WIDE}, {}),
        ("empo", {"reward": "voting", "dual_clip": 1.01, **WIDE}, {}),
        ("empo", {"reward": "trl", "filter_below": 0.3, **WIDE}, {}),
    ],
    refused=[("empo", {}, {"rollout.group_size": 1}, "group_size >= 2")],
    formulas=[
        "harness.stages.answers:clustered",
        "harness.stages.answers:answer_entropy",
        "methods.empo:consensus",
        "methods.empo:largest_of_group",
        "methods.empo:all_differ",
    ],
)
