"""Where the shared tests try EVOL-RL."""

from tests.methods.support.cases import Cases

CASES = Cases(
    options={"evol-rl": [{"valid": "answered", "drop_empty_votes": True, "answers": "written"}]},
    readings=[
        ("evol-rl", {}, {}),
        ("evol-rl", {"valid": "answered"}, {}),
        (
            "evol-rl",
            {"valid": "answered", "mix": 0.2, "train_share": 1.0, "kl_coef": 0.0, "entropy_coef": 0.1,
             "positive_high": 2.0, "negative_low": -3.0, "invalid": -4.0},
            {},
        ),
    ],
    refused=[
        ("evol-rl", {}, {"rollout.group_size": 3}, "trains on 1 of 3"),
        ("evol-rl", {"positive_low": -0.5}, {}, "bands must not cross"),
        ("evol-rl", {"invalid": 0.0}, {}, "bands must not cross"),
        ("evol-rl", {"embedder": "no/such-model"}, {}, "'hf download no/such-model'"),
    ],
    formulas=[
        "methods.evol_rl:banded",
        "methods.evol_rl:rewards_of",
    ],
)  # fmt: skip
