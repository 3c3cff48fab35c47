"""Where the shared tests try TTRL."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "ttrl": [
            {"answers": "written", "train_share": 1.0, "kl_coef": 0.0},
            {"drop_empty_votes": True, "train_share": 0.75},
        ],
    },
    readings=[
        ("ttrl", {}, {}),
        ("ttrl", {"train_share": 0.75, "kl_coef": 0.1, "aggregation": "seq-mean-token-mean"}, {}),
        ("ttrl", {"train_share": 1.0, "drop_empty_votes": True, "dual_clip": None}, {}),
    ],
    refused=[
        ("ttrl", {}, {"rollout.group_size": 3}, "trains on 1 of 3"),
        ("ttrl", {"train_share": 1.0}, {"rollout.group_size": 1}, "rollout.group_size or method.train_share"),
    ],
    formulas=[
        "harness.stages.groups:rows_by_group",
        "harness.stages.downsample:first_of_group",
        "harness.stages.downsample:group_normalised",
        "methods.ttrl:agreement",
    ],
    inert={("n_votes",): "all rollouts of a prompt vote, and the groups tell how many there are"},
)
