"""Where the shared tests try the data filters."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "data-filters": [
            {"keep": "band", "metric": "seq_reward", "low": -0.9, "high": 0.9, "overlong": "mask"},
            {"keep": "top-std", "refill": False, "overlong": "none"},
        ],
    },
    readings=[
        ("data-filters", {}, {}),
        ("data-filters", {"metric": "seq_reward", "overlong_fraction": 0.5, "overlong_factor": 2.0}, {}),
        ("data-filters", {"keep": "band", "high": 0.7, "overlong": "mask"}, {}),
        ("data-filters", {"keep": "all", "refill": False, "overlong": "mask", "dual_clip": 1.2}, {}),
    ],
    refused=[
        ("data-filters", {"reward_wrong": 2.0}, {}, "reward_right must exceed"),
        ("data-filters", {"low": 0.99}, {}, "method.low must be below"),
        ("data-filters", {"keep": "top-std"}, {}, "method.refill=false"),
        (
            "data-filters",
            {"keep": "all", "refill": False, "metric": "seq_reward"},
            {},
            "metric is not",
        ),
        (
            "data-filters",
            {"keep": "top-std", "refill": False},
            {"rollout.prompts_per_step": 1},
            "compares",
        ),
        (
            "data-filters",
            {"keep": "top-std", "refill": False, "top_share": 0.2},
            {"rollout.prompts_per_step": 4},
            "keeps no group",
        ),
        ("data-filters", {}, {"rollout.group_size": 1}, "use at least 2"),
    ],
    formulas=[
        "methods.dapo:overlong_penalty",
        "methods.data_filters:first_groups",
        "methods.data_filters:without_overlong",
        "methods.data_filters:varied_groups",
        "methods.data_filters:groups_within",
        "methods.data_filters:widest_groups",
        "harness.stages.filters:group_spreads",
        "harness.stages.defaults:group_normalised",
    ],
)
