"""Where the shared tests try SPEAR."""

from tests.methods.support.cases import Cases

#: In a step of sixty short responses most meet the limit, and the band is empty.
HERE = {"w_low": 0.2, "share": 0.1}

CASES = Cases(
    options={
        "spear": [
            {"norm_by_std": True, "keep_groups": 1.0, "w_low": 0.1},
            {"replay_coef": 0.0},
            {"stored_weight": 0.9},
        ]
    },
    readings=[
        ("spear", HERE, {}),
        (
            "spear",
            {
                **HERE,
                "norm_by_std": True,
                "keep_groups": 1.0,
                "drop_overlong": False,
                "drop_unreadable": False,
            },
            {},
        ),
    ],
    micro={"spear": {"replay_share": 0.05}},
    refused=[
        ("spear", {}, {"rollout.group_size": 1}, "group_size=1 .*use at least 2"),
        ("spear", {}, {"rollout.prompts_per_step": 1}, "keeps no group; raise it"),
        ("spear", {"w_low": 40.0}, {}, "w_low is not below"),
        (
            "spear",
            {"tolerate": 0},
            {},
            "more than 1.5 x 64 successes are stored.*keeps 84 at most.*lower method.replay_share",
        ),
    ],
    formulas=[
        "methods.spear:median",
        "methods.spear:above",
        "methods.spear:recalibrated",
        "methods.spear:worth_keeping",
        "methods.spear:replay_size",
        "methods.spear:is_full",
        "methods.spear:imitation_coefficient",
        "methods.spear:tool_coefficient",
    ],
)
