"""Where the shared tests try ETTRL."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={
        "ettrl": [
            {"reshape": "clip", "beta": 0.5},
            {"forks": 1, "branches": 1, "train_share": 1.0, "kl_coef": 0.0},
        ],
    },
    readings=[
        ("ettrl", {"forks": 1, "branches": 3, "train_share": 1.0}, {}),
        ("ettrl", {"forks": 1, "branches": 1, "train_share": 0.75, "kl_coef": 0.1}, {}),
        ("ettrl", {"forks": 0, "reshape": "clip", "beta": 0.6, "train_share": 1.0, "dual_clip": None}, {}),
    ],
    micro={"ettrl": {"forks": 1, "branches": 1}},
    refused=[
        ("ettrl", {"forks": 4}, {}, "has 9 leaves, more than rollout.group_size=8; raise that"),
        ("ettrl", {}, {"rollout.group_size": 3}, "trains on 1 of 3"),
    ],
    formulas=[
        "methods.ettrl:response_entropy",
        "methods.ettrl:residual",
        "harness.stages.branching:highest_positions",
    ],
    inert={
        ("std_eps",): "it made the advantages that are given",
        ("std_ddof",): "it made the advantages that are given",
        ("entropy_floor",): "no stored group has entropy 0",
    },
)
